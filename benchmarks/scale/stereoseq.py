"""A Stereo-seq chip: 21,000 x 20,000 pixels of 0.5 um, 26,807 genes, 205 million counts, simulated.

``python -m benchmarks.scale generate-chip`` writes the whole chip, ``--size 6000`` its central 6000 x 6000 pixels,
``--size 10500 10000`` a quarter of it. Nuclei (some 330,000) are ellipses near the points of a lattice, labels
``nucleus_labels`` in the chip's pixels; those of a part are those of the whole, and so are the densities. Every cell
has one of 12 types, which differ by some hundred genes each; most genes are rare (a power law), a third of the counts
lie anywhere, as RNA diffuses on these chips.

The points are what :func:`ucs.io.read_gem` gives: ``bin1_genes`` with gene (all names known, in alphabetical order),
x, y and count, in partitions of two million rows in the order of the vendor's files, one gene after the other: every
partition covers the whole chip. Each is a function of the seed and its number, so that the store is written as a
stream.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.scale._alias import alias_tables
from benchmarks.scale._chip_kernels import paint, scatter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WHOLE = (21_000, 20_000)
N_GENES, N_TYPES, MARKERS_PER_TYPE = 26_807, 12, 150
COUNT_SHARES = (0.80, 0.13, 0.05, 0.02)
"""Of rows that stand for 1, 2, 3, 4 molecules."""

COUNTS_PER_PIXEL = 0.488
BACKGROUND = 0.33
PITCH, EMPTY = 34.0, 0.08
"""Distance of the lattice's sites in pixels, and the share of them without a nucleus."""

ROWS = 2_000_000


@dataclass(frozen=True)
class Chip:
    """The chip, or a central part of it.

    Attributes
    ----------
    size
        Height and width in pixels.
    seed
        Of everything.
    """

    size: tuple[int, int]
    seed: int = 0

    def __dask_tokenize__(self) -> tuple[str, int, int, int]:
        return "ucs-chip", *self.size, self.seed

    @property
    def part(self) -> tuple[int, int, int, int]:
        """``(top, left, bottom, right)`` on the whole chip."""
        top, left = ((whole - part) // 2 for whole, part in zip(WHOLE, self.size, strict=True))
        return top, left, top + self.size[0], left + self.size[1]

    @cached_property
    def lattice(self) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int8]]:
        """Nuclei ``(n, 6)`` that have their centre in the part, the one of each site of the whole chip, their types."""
        rng = np.random.default_rng([self.seed, 0])
        shape = (int(np.ceil(WHOLE[0] / PITCH)), int(np.ceil(WHOLE[1] / PITCH)))
        row, column = np.indices(shape).reshape(2, -1)
        n = len(row)
        x, y = ((i + rng.uniform(0.18, 0.82, n)) * PITCH for i in (column, row))
        short, angle = rng.uniform(6.5, 10.5, n), rng.uniform(0, np.pi, n)
        nuclei = np.stack([x, y, short * rng.uniform(1, 1.5, n), short, np.cos(angle), np.sin(angle)], axis=1)
        types = _smooth_types(rng, shape).ravel()
        top, left, bottom, right = self.part
        there = (rng.random(n) >= EMPTY) & (x >= left) & (x < right) & (y >= top) & (y < bottom)
        site = np.full(n, -1, dtype=np.int32)
        site[there] = np.arange(there.sum())
        return nuclei[there], site.reshape(shape), types[there]

    @cached_property
    def expression(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Share of each gene in all rows, ``(genes,)``, and in cells of each type, ``(genes, types)``."""
        rng = np.random.default_rng([self.seed, 1])
        common = (np.arange(N_GENES) + 30.0) ** -1.1
        profile = rng.permutation(common)[:, None] * rng.lognormal(0.0, 0.3, (N_GENES, N_TYPES))
        for k in range(N_TYPES):
            profile[rng.choice(N_GENES // 2, MARKERS_PER_TYPE, replace=False), k] *= 25.0
        profile /= profile.sum(axis=0)
        share_of_types = np.bincount(self.lattice[2], minlength=N_TYPES) / len(self.lattice[2])
        return profile @ share_of_types, profile

    @cached_property
    def rows_per_gene(self) -> NDArray[np.int64]:
        """Rows of each gene."""
        per_row = float(np.dot(COUNT_SHARES, np.arange(1, len(COUNT_SHARES) + 1)))
        n_rows = round(self.size[0] * self.size[1] * COUNTS_PER_PIXEL / per_row)
        share = self.expression[0]
        return np.random.default_rng([self.seed, 2]).multinomial(n_rows, share / share.sum())

    @property
    def n_partitions(self) -> int:
        """Of the points."""
        return int(-(-self.rows_per_gene.sum() // ROWS))

    @cached_property
    def _tables(self) -> dict[str, Any]:
        """What the kernel draws from."""
        nuclei, _, types = self.lattice
        order = np.argsort(types, kind="stable").astype(np.int32)
        start = np.searchsorted(types[order], np.arange(N_TYPES + 1))
        depth = nuclei[:, 2] * nuclei[:, 3] * np.random.default_rng([self.seed, 3]).lognormal(0.0, 0.4, len(nuclei))
        share, other = np.empty(len(order), dtype=np.float32), np.empty(len(order), dtype=np.int32)
        for a, b in zip(start[:-1], start[1:], strict=True):
            if b > a:
                (share[a:b],), (other[a:b],) = alias_tables(depth[order[a:b]][None])
        of_types = np.maximum(self.expression[1] * np.bincount(types, minlength=N_TYPES), 1e-300)
        return {"types": alias_tables(of_types), "of_type": (order, start), "of_nucleus": (share, other)}

    @property
    def genes(self) -> pd.CategoricalDtype:
        """Names of the genes, in alphabetical order."""
        return pd.CategoricalDtype([f"Gene{k:05d}" for k in range(N_GENES)])

    def frame(self, number: int) -> pd.DataFrame:
        """Return a partition of the points."""
        first = number * ROWS
        ends = np.cumsum(self.rows_per_gene)
        n = int(min(ROWS, ends[-1] - first))
        inside = np.clip(ends, first, first + n)
        gene = np.repeat(np.arange(N_GENES, dtype=np.int32), np.diff(inside, prepend=first))
        return self._dress(np.random.default_rng([self.seed, 4, number]), gene, first)

    def empty(self) -> pd.DataFrame:
        """Return a frame without rows."""
        return self._dress(np.random.default_rng(0), np.zeros(0, dtype=np.int32), 0)

    def _dress(self, rng: np.random.Generator, gene: NDArray[np.int32], first: int) -> pd.DataFrame:
        nuclei, site, _ = self.lattice
        x, y = np.empty(len(gene), dtype=np.int32), np.empty(len(gene), dtype=np.int32)
        tables = self._tables
        scatter(
            rng, gene, BACKGROUND, tables["types"], tables["of_type"], tables["of_nucleus"], nuclei, site, PITCH,
            self.part, x, y,
        )  # fmt: skip
        count = 1 + np.searchsorted(np.cumsum(COUNT_SHARES)[:-1], rng.random(len(gene)), side="right")
        return pd.DataFrame(
            {
                "gene": pd.Categorical.from_codes(gene, dtype=self.genes),
                "x": x,
                "y": y,
                "count": count.astype(np.int32),
            },
            index=pd.RangeIndex(first, first + len(gene)),
        )

    def labels(self, block_info: dict | None = None) -> NDArray[np.int32]:
        """Return a part of the labels, as Dask asks for it."""
        rows, columns = [(0, 0)] * 2 if block_info is None else block_info[None]["array-location"]
        nuclei, site, _ = self.lattice
        shape = (rows[1] - rows[0], columns[1] - columns[0])
        return paint(nuclei, site, PITCH, self.part[0] + rows[0], self.part[1] + columns[0], shape)


def _smooth_types(rng: np.random.Generator, shape: tuple[int, int], patch: int = 12) -> NDArray[np.int8]:
    """Draw a type for each site: patches of some 200 um in which some types are more frequent."""
    from scipy.ndimage import zoom

    coarse = rng.normal(0.0, 1.5, (N_TYPES, shape[0] // patch + 2, shape[1] // patch + 2))
    field = np.stack([zoom(plane, patch, order=1)[: shape[0], : shape[1]] for plane in coarse])
    return (field + rng.gumbel(size=field.shape)).argmax(axis=0).astype(np.int8)


def write_chip(path: Path, size: tuple[int, int] = WHOLE, *, seed: int = 0, threads: int = 1) -> None:
    """Make the chip, or a central part, and write it to a store; say how long it took."""
    import dask
    import dask.array as da
    import dask.dataframe as dd
    from spatialdata import SpatialData
    from spatialdata.models import Labels2DModel, PointsModel
    from spatialdata.transformations import Identity

    start = time.perf_counter()
    chip = Chip(size, seed)
    chunks = tuple((*[4096] * (n // 4096), *([n % 4096] if n % 4096 else [])) for n in size)
    labels = Labels2DModel.parse(
        da.map_blocks(chip.labels, chunks=chunks, dtype=np.int32, meta=np.zeros((0, 0), dtype=np.int32)),
        dims=("y", "x"),
        transformations={"global": Identity()},
    )
    n_rows = int(chip.rows_per_gene.sum())
    divisions = (*range(0, n_rows, ROWS), n_rows - 1)
    with dask.config.set({"dataframe.convert-string": False}):
        points = PointsModel.parse(
            dd.from_map(chip.frame, range(chip.n_partitions), meta=chip.empty(), divisions=divisions),
            feature_key="gene",
            transformations={"global": Identity()},
            sort=True,
        )
        sdata = SpatialData(
            points={"bin1_genes": points},
            labels={"nucleus_labels": labels},
            attrs={"stereoseq": {"bin_size": 1, "um_per_unit": 0.5, "offset": [0, 0], "header": {}}},
        )
        with dask.config.set(scheduler="threads", num_workers=threads):
            sdata.write(path, overwrite=True)
    print(f"{path}: {size[0]} x {size[1]} pixels, {len(chip.lattice[0])} nuclei, {n_rows} rows, {chip.n_partitions} "
          f"partitions, {time.perf_counter() - start:.0f} s")  # fmt: skip
