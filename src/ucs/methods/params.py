"""Parameters that every method has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from ucs._utils.options import Options, documented, option


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class MethodParams(Options, ABC):
    """What every method has: how distances follow the shape of nuclei."""

    argument: ClassVar[str] = "params"

    shape_exponent: float = option(
        0.3,
        "How far distances follow the shape of nuclei (the paper's scaled softmask): exponent of the ratio of the axes "
        "of the nucleus' ellipse. 0: plain distances.",
        least=0,
        most=1,
    )

    @abstractmethod
    def reach_px(self, um_per_px: float) -> int:
        """Return the distance in pixels up to which a nucleus is a candidate owner of a pixel."""

    def planned(self, n_pixels: int) -> Self:
        """Return parameters with numbers for what depends on the tissue, a raster of so many pixels."""
        return self


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingParams(MethodParams):
    """What methods have whose nets learn from the sample: patches, and when a region has a model of its own."""

    reach: int = option(
        24, "Distance in pixels up to which a nucleus is a candidate owner of a pixel: half the paper's patch.", least=1
    )
    patch_size: int = option(48, "Side of a training patch in pixels (paper: 48).", least=8)
    min_nuclei: int = option(50, "Nuclei that a region must have for a model of its own.", least=1)
    warm_start: bool = option(
        default=False,
        text="Whether models of regions begin as a model of the whole tissue and take a third of the steps.",
    )

    def reach_px(self, um_per_px: float) -> int:
        """Return :attr:`reach`."""
        return self.reach
