"""The full-size workload: a whole Xenium slide, from real nuclei and scRNA-seq profiles, as the reader would give it.

The nuclei are the mask of a human breast slide (5475 x 7524 um, 108,868 nuclei) with the types that they were given;
each draws its transcripts from one of the references' profiles of its type, in the nucleus and in a falling shell
around it that hardly crosses to where another nucleus is nearer; 8 % are background all over the slide and 0.4 %
controls. In all 42.6 million transcripts of 313 genes, a fifth of them below the quality cut, in 48 partitions as
fields of view are. Their order within a partition is random.

The store has what ``spatialdata_io.xenium`` would write of it: points ``transcripts`` in um, with ``Scale(1 / 0.2125)``
to ``global``, and labels ``nucleus_labels`` of 0.2125 um per pixel in five scales. ``cell_id`` is the nucleus that a
transcript was drawn from, -1 for background. Every block is a function of the seed and its number, so that the store is
written as a stream: ``python -m benchmarks.scale generate --mpx 41``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.scale._alias import alias_tables
from benchmarks.scale._nuclei import SlideNuclei, crop, read_nuclei
from benchmarks.scale._slide_kernels import group_pixels, scatter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N_TRANSCRIPTS = 42_600_000
BACKGROUND, CONTROLS = 0.08, 0.004
UM_PER_PX = 0.2125
BLOCK_UM = 912
HALO = 48
"""Pixels around a block that its nuclei's transcripts may reach."""

CONTROL_NAMES = (
    *(f"BLANK_{k:04d}" for k in range(1, 160)),
    *(f"NegControlCodeword_{k:04d}" for k in range(500, 541)),
    *(f"NegControlProbe_{k:05d}" for k in range(1, 29)),
)


@dataclass(frozen=True)
class Slide:
    """A slide of which any block of transcripts, and any part of its labels, can be made."""

    nuclei: SlideNuclei
    seed: int
    per_nucleus: float
    per_um2: float
    tables: tuple[NDArray[np.float32], NDArray[np.int32]]

    def __dask_tokenize__(self) -> tuple[str, int, tuple[int, ...], float]:
        return "ucs-slide", self.seed, self.nuclei.mask.shape, self.per_nucleus

    @property
    def blocks(self) -> list[tuple[int, int, int, int]]:
        """Rows and columns ``(top, left, bottom, right)`` of each block."""
        edges = [np.linspace(0, n, max(1, round(n / BLOCK_UM)) + 1).astype(int) for n in self.nuclei.mask.shape]
        rows, columns = ([(int(a), int(b)) for a, b in zip(e[:-1], e[1:], strict=True)] for e in edges)
        return [(top, left, bottom, right) for top, bottom in rows for left, right in columns]

    @property
    def features(self) -> pd.CategoricalDtype:
        """Genes, then controls, as the reader has them."""
        return pd.CategoricalDtype([*self.nuclei.genes, *CONTROL_NAMES])

    def frame(self, number: int) -> pd.DataFrame:
        """Return the transcripts of a block."""
        rng = np.random.default_rng([self.seed, 1, number])
        columns = self._draw(rng, self.blocks[number])
        return self._dress(rng, columns, number)

    def empty(self) -> pd.DataFrame:
        """Return a frame without rows."""
        none = np.zeros(0, dtype=np.float32)
        code, cell_id = none.astype(np.int16), none.astype(np.int32)
        columns: dict[str, NDArray] = {"x": none, "y": none, "code": code, "cell_id": cell_id}
        return self._dress(np.random.default_rng(0), columns, 0)

    def _draw(self, rng: np.random.Generator, block: tuple[int, int, int, int]) -> dict[str, NDArray]:
        """Draw positions, features and sources, in random order."""
        top, left, bottom, right = block
        n_background, n_controls = rng.poisson(
            self.per_um2 * (bottom - top) * (right - left) * np.array([1.0, CONTROLS / BACKGROUND])
        )
        own, count = self._own_nuclei(rng, block)
        n_drawn = int(count.sum())
        n = n_drawn + n_background + n_controls
        x, y = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
        code, source = np.empty(n, dtype=np.int16), np.full(n, -1, dtype=np.int32)
        self._scatter(rng, block, own, count, (x[:n_drawn], y[:n_drawn], code[:n_drawn], source[:n_drawn]))
        x[n_drawn:] = rng.uniform(left, right, n - n_drawn)
        y[n_drawn:] = rng.uniform(top, bottom, n - n_drawn)
        mean = self.nuclei.weights.mean(axis=0)
        n_genes = len(mean)
        code[n_drawn : n_drawn + n_background] = rng.choice(n_genes, n_background, p=mean / mean.sum())
        code[n_drawn + n_background :] = n_genes + rng.integers(len(CONTROL_NAMES), size=n_controls)
        order = rng.permutation(n)
        return {"x": x[order], "y": y[order], "code": code[order], "cell_id": source[order]}

    def _own_nuclei(
        self, rng: np.random.Generator, block: tuple[int, int, int, int]
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return the nuclei whose centres lie in a block, and how many transcripts each has."""
        top, left, bottom, right = block
        row, column = self.nuclei.centre.T
        own = np.flatnonzero((row >= top) & (row < bottom) & (column >= left) & (column < right))
        return own, rng.poisson(self.nuclei.weight[own] * self.per_nucleus)

    def _scatter(
        self,
        rng: np.random.Generator,
        block: tuple[int, int, int, int],
        own: NDArray[np.intp],
        count: NDArray[np.int64],
        out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int16], NDArray[np.int32]],
    ) -> None:
        from scipy.ndimage import distance_transform_edt

        nuclei, (top, left, bottom, right) = self.nuclei, block
        row0, column0 = max(top - HALO, 0), max(left - HALO, 0)
        window = np.ascontiguousarray(nuclei.mask[row0 : bottom + HALO, column0 : right + HALO])
        if len(own) == 0:
            return
        rows, columns = distance_transform_edt(window == 0, return_distances=False, return_indices=True)
        local = np.full(len(nuclei.weight) + 1, -1, dtype=np.int32)
        local[own + 1] = np.arange(len(own))
        x, y, gene, source = out
        scatter(
            rng,
            window[rows, columns],
            *group_pixels(window, local, len(own)),
            (own + 1).astype(np.int32),
            count,
            nuclei.profile[own],
            nuclei.spread[own],
            *self.tables,
            x,
            y,
            gene,
            source,
        )
        x += np.float32(column0)
        y += np.float32(row0)

    def _dress(self, rng: np.random.Generator, columns: dict[str, NDArray], number: int) -> pd.DataFrame:
        """Add the reader's other columns, distributed as in a part of the real slide."""
        x, y, code = columns["x"], columns["y"], columns["code"]
        n, (h, w) = len(x), self.nuclei.mask.shape
        np.clip(x, 0, np.nextafter(np.float32(w), np.float32(0)), out=x)  # rounding to float32
        np.clip(y, 0, np.nextafter(np.float32(h), np.float32(0)), out=y)
        u = rng.random(n, dtype=np.float32)
        qv = np.where(u < 0.205, 7.4 + 12.6 * u / 0.205, np.minimum(40.0, 20.0 + 20.0 * (u - 0.205) / 0.245))
        is_control = code >= len(self.nuclei.genes)
        qv[is_control & (rng.random(n, dtype=np.float32) < 0.5)] = 10.0
        z = np.clip(18.1 + 1.84 * rng.standard_normal(n, dtype=np.float32), 13.6, 25.5)
        return pd.DataFrame(
            {
                "x": x,
                "y": y,
                "z": z,
                "feature_name": pd.Categorical.from_codes(code, dtype=self.features),
                "cell_id": columns["cell_id"],
                "qv": qv.astype(np.float32),
                "overlaps_nucleus": (self.nuclei.mask[y.astype(np.int32), x.astype(np.int32)] > 0).astype(np.uint8),
                # As the vendor counts: field of view and number in it.
                "transcript_id": (np.uint64(2**16 + number) << np.uint64(32)) + np.arange(n, dtype=np.uint64),
            }
        )

    def labels(self, block_info: dict | None = None) -> NDArray[np.uint32]:
        """Return a part of the labels at the vendor's pixels, as Dask asks for it."""
        location = [] if block_info is None else block_info[None]["array-location"]
        mask = self.nuclei.mask
        inside = [
            np.minimum(((np.arange(a, b) + 0.5) * UM_PER_PX).astype(np.int64), n - 1)
            for (a, b), n in zip(location, mask.shape, strict=True)
        ]
        return mask[np.ix_(*inside)].astype(np.uint32)


def make_slide(mpx: int, seed: int = 0) -> Slide:
    """Return the slide, or a crop of it with the same densities."""
    whole = read_nuclei(seed)
    h, w = whole.mask.shape
    per_nucleus = N_TRANSCRIPTS * (1 - BACKGROUND - CONTROLS) / len(whole.weight)
    return Slide(crop(whole, mpx), seed, per_nucleus, N_TRANSCRIPTS * BACKGROUND / (h * w), alias_tables(whole.weights))


def write_slide(path: Path, mpx: int, *, seed: int = 0, threads: int = 1) -> None:
    """Make the slide, or a crop, and write it to a store; say how long it took."""
    import dask
    import dask.array as da
    import dask.dataframe as dd
    from spatialdata import SpatialData
    from spatialdata.models import Labels2DModel, PointsModel
    from spatialdata.transformations import Identity, Scale

    start = time.perf_counter()
    slide = make_slide(mpx, seed)
    shape = tuple(int(np.ceil(n / UM_PER_PX)) for n in slide.nuclei.mask.shape)
    chunks = tuple((*[4096] * (n // 4096), *([n % 4096] if n % 4096 else [])) for n in shape)
    labels = Labels2DModel.parse(
        da.map_blocks(slide.labels, chunks=chunks, dtype=np.uint32, meta=np.zeros((0, 0), dtype=np.uint32)),
        dims=("y", "x"),
        scale_factors=[2, 2, 2, 2],
        chunks=(4096, 4096),
        transformations={"global": Identity()},
    )
    with dask.config.set({"dataframe.convert-string": False}):
        points = PointsModel.parse(
            dd.from_map(slide.frame, range(len(slide.blocks)), meta=slide.empty()),
            coordinates={"x": "x", "y": "y", "z": "z"},
            feature_key="feature_name",
            instance_key="cell_id",
            transformations={"global": Scale([1 / UM_PER_PX, 1 / UM_PER_PX], axes=("x", "y"))},
            sort=True,
        )
        sdata = SpatialData(
            points={"transcripts": points},
            labels={"nucleus_labels": labels},
            attrs={"spatialdata_io_software_version": version("spatialdata-io"), "spatialdata_io_reader": "xenium"},
        )
        with dask.config.set(scheduler="threads", num_workers=threads):
            sdata.write(path, overwrite=True)
    print(f"{path}: {slide.nuclei.mask.shape[0]} x {slide.nuclei.mask.shape[1]} um, {len(slide.nuclei.weight)} nuclei, "
          f"{len(slide.blocks)} partitions, {time.perf_counter() - start:.0f} s")  # fmt: skip
