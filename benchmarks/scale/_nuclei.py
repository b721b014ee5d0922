"""The nuclei of the real slide: mask, types, expected transcripts, and crops that are like the whole."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(os.environ.get("UCS_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
FOLDER = "xenium_breast_rep1_slide"
SIDES = {1: 1000, 4: 2000, 16: 4000}
"""Side in um of the square crop of so many Mpx; 41 is the whole slide."""

_FEW = ("B", "CD4Tconv/Treg", "CD8T/CD8Tex", "NK", "Neutrophils", "Mast")
"""Types of small cells, with fewer transcripts."""


@dataclass(frozen=True)
class SlideNuclei:
    """Nuclei of the slide or of a crop.

    Attributes
    ----------
    mask
        ``(h, w)`` int32 labels 1..n at 1 um.
    centre
        ``(n, 2)`` row and column of their centres.
    profile
        ``(n,)`` row of ``weights``.
    weight
        ``(n,)`` expected transcripts, in mean 1 over the whole slide.
    spread
        ``(n,)`` factor on how far transcripts lie from the nucleus.
    weights
        ``(profiles, genes)`` of the scRNA-seq references.
    genes
        Their names.
    """

    mask: NDArray[np.int32]
    centre: NDArray[np.float64]
    profile: NDArray[np.int32]
    weight: NDArray[np.float64]
    spread: NDArray[np.float32]
    weights: NDArray[np.float64]
    genes: tuple[str, ...]


def read_nuclei(seed: int) -> SlideNuclei:
    """Read the mask, the types of its nuclei and the profiles; draw what the data do not tell.

    Raises
    ------
    FileNotFoundError
        If the folder with the data is not there.
    """
    import h5py
    import tifffile

    folder = DATA / FOLDER
    if not folder.is_dir():
        msg = f"{folder} is not there: set UCS_TEST_DATA to the folder that holds {FOLDER}."
        raise FileNotFoundError(msg)
    mask = tifffile.imread(folder / "nuclei.tif").astype(np.int32)
    with h5py.File(folder / "nuclei_cell_type.h5") as file:
        types = np.asarray(file["data"], dtype=np.int64)
    table = pd.read_csv(folder / "sc_references" / "sc_breast.csv", index_col=0)
    genes = tuple(table.columns.drop(["ct_idx", "cell_type", "atlas"]))
    rng = np.random.default_rng([seed, 0])
    profile = _draw_profiles(rng, types, table["ct_idx"].to_numpy(dtype=np.int64))
    area, centre = _measure(mask, len(types))
    few = table["cell_type"].isin(_FEW).to_numpy()[profile]
    weight = np.sqrt(area) * np.where(few, 0.6, 1.0) * rng.lognormal(0.0, 0.45, len(types))
    spread = rng.lognormal(0.0, 0.2, len(types)).astype(np.float32) * np.where(few, 0.7, 1.0).astype(np.float32)
    weights = np.expm1(table[list(genes)].to_numpy(dtype=np.float64))  # the references are logarithms
    return SlideNuclei(mask, centre, profile, weight / weight.mean(), spread, weights, genes)


def _draw_profiles(
    rng: np.random.Generator, types: NDArray[np.int64], type_of_profile: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Give each nucleus one of the profiles of its type; a nucleus without a type gets that of another one."""
    types = types.copy()
    unknown = types < 0
    types[unknown] = rng.choice(types[~unknown], unknown.sum())
    profile = np.empty(len(types), dtype=np.int32)
    for k in np.unique(types):
        profile[types == k] = rng.choice(np.flatnonzero(type_of_profile == k), int((types == k).sum()))
    return profile


@njit(cache=True, nogil=True)
def _measure(mask: NDArray[np.int32], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    area, centre = np.zeros(n), np.zeros((n, 2))
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            k = mask[i, j] - 1
            if k >= 0:
                area[k] += 1
                centre[k, 0] += i + 0.5
                centre[k, 1] += j + 0.5
    for k in range(n):
        centre[k] /= max(area[k], 1)
    return area, centre


def crop(nuclei: SlideNuclei, mpx: int) -> SlideNuclei:
    """Return a square crop: the one nearest to the slide's centre with its density of nuclei and transcripts.

    Within 2 % of both; the middle itself holds a quarter less. Without that a ratio of times would say how the tissue
    differs.
    """
    if mpx not in SIDES:
        return nuclei
    row0, column0 = _find_window(nuclei, SIDES[mpx])
    mask = nuclei.mask[row0 : row0 + SIDES[mpx], column0 : column0 + SIDES[mpx]]
    n = len(nuclei.weight)
    kept = np.flatnonzero(np.bincount(mask.ravel(), minlength=n + 1)[1:])
    new_label = np.zeros(n + 1, dtype=np.int32)
    new_label[kept + 1] = np.arange(1, len(kept) + 1)
    # Of nuclei that the edge cuts the part inside counts: their centre, and as many transcripts as they have area.
    area, centre = _measure(new_label[mask], len(kept))
    whole = np.bincount(nuclei.mask.ravel(), minlength=n + 1)[kept + 1]
    return SlideNuclei(
        new_label[mask],
        centre,
        nuclei.profile[kept],
        nuclei.weight[kept] * area / whole,
        nuclei.spread[kept],
        nuclei.weights,
        nuclei.genes,
    )


def _find_window(nuclei: SlideNuclei, side: int, step: int = 25) -> tuple[int, int]:
    shape = np.array(nuclei.mask.shape)
    bins = [np.arange(0, length + step, step) for length in shape]
    ratios = []
    for weights in (None, nuclei.weight):
        density, _, _ = np.histogram2d(nuclei.centre[:, 0], nuclei.centre[:, 1], bins=bins, weights=weights)
        total = np.pad(density.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        k = side // step
        sums = total[k:, k:] - total[:-k, k:] - total[k:, :-k] + total[:-k, :-k]
        ratios.append(sums / side**2 / (density.sum() / np.prod(shape)))
    row, column = np.indices(ratios[0].shape) * step
    inside = (row + side <= shape[0]) & (column + side <= shape[1])
    off = np.maximum(*(np.abs(np.log(np.maximum(ratio, 1e-9))) for ratio in ratios))
    far = np.hypot(row + side / 2 - shape[0] / 2, column + side / 2 - shape[1] / 2)
    fits = inside & (off < max(0.02, off[inside].min()) + 1e-12)
    best = np.where(fits, far, np.inf).argmin()
    return int(row.flat[best]), int(column.flat[best])
