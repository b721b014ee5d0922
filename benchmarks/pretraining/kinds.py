"""Kinds of cells of randomised tissue: sizes, shapes, nuclei and depths, drawn anew for each field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def between(random: np.random.Generator, low: float, high: float, size: int | None = None) -> NDArray | float:
    """Draw numbers whose logarithms are uniform."""
    return np.exp(random.uniform(np.log(low), np.log(high), size))


@dataclass(frozen=True)
class Kinds:
    """Kinds of cells of a field: radius in um, share of the nucleus, elongation, weight in competition, depth."""

    radius: NDArray
    nucleus: NDArray
    elongation: NDArray
    weight: NDArray
    depth: NDArray
    share: NDArray
    extent: NDArray

    @classmethod
    def mixed(cls, random: np.random.Generator) -> Kinds:
        """Draw kinds of which the small ones are mostly nucleus, and the large ones mostly not."""
        n = int(random.integers(2, 7))
        radius = between(random, 2.6, 18, n)
        radius[0], radius[1] = between(random, 2.6, 5), between(random, 7, 18)
        small = np.clip((9 - radius) / 6, 0, 1)
        area = random.uniform(0.08, 0.6, n) * (1 - small) + random.uniform(0.45, 0.97, n) * small
        elongation = np.where(random.random(n) < 0.6, random.uniform(0.7, 1, n), random.uniform(0.15, 0.8, n))
        extent = np.where(small > 0.5, random.uniform(0.9, 1.15, n), random.choice([1.0, 1.5, 3.0]))
        weight = np.exp(random.normal(0, 0.2, n)) * np.where(small > 0.5, random.uniform(0.5, 1), 1)
        depth = np.exp(random.normal(0, random.uniform(0, 0.9), n))
        share = random.dirichlet(np.full(n, 1.5)) + 0.03
        return cls(radius, np.sqrt(area), elongation, weight, depth, share / share.sum(), extent)

    @classmethod
    def draw(cls, random: np.random.Generator) -> Kinds:
        """Draw kinds of one sort of tissue."""
        n = int(random.integers(1, 9))
        style = random.random()
        if style < 0.62:  # cells of ordinary sizes
            radius = between(random, 3.8, 9.5, n)
        elif style < 0.8:  # small and large ones
            radius = between(random, 3.0, 16, n)
        elif style < 0.9:
            radius = between(random, 8, 25, n)
        else:
            radius = between(random, 2.8, 5, n)
        spread = random.choice([0.05, 0.15, 0.3])
        area = np.clip(random.beta(3, 3) * 0.8 + 0.12 + random.normal(0, spread, n), 0.15, 0.95)
        if random.random() < 0.12:
            area = np.clip(random.uniform(0.05, 0.25, n), 0.04, 0.95)
        long = random.random()
        if long < 0.45:
            elongation = random.uniform(0.7, 1, n)
        elif long < 0.85:
            elongation = random.uniform(0.35, 1, n)
        else:
            elongation = random.uniform(0.12, 0.5, n)
        share = random.dirichlet(np.full(n, 0.8)) + 0.03
        tight = random.random()
        if tight < 0.6:
            extent = random.uniform(0.8, 1.25, n)
        elif tight < 0.8:
            extent = random.uniform(1.2, 1.8, n)
        else:  # cells fill what there is between them
            extent = np.full(n, 3.0)
        if random.random() < 0.12:  # large cells with small nuclei that touch each other
            radius, area = between(random, 7, 22, n), random.uniform(0.04, 0.25, n)
            elongation, extent = random.uniform(0.6, 1, n), np.full(n, 3.0)
        return cls(
            radius, np.sqrt(area), elongation, np.exp(random.normal(0, 0.2, n)),
            np.exp(random.normal(0, random.uniform(0, 0.9), n)), share / share.sum(), extent,
        )  # fmt: skip
