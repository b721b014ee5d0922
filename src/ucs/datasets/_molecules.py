"""Transcripts of simulated tissue: gene, cell of origin, and position after diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numba import njit

from ucs.datasets._arrange import ArrangedTissue
from ucs.datasets._tissue import spread_over_types

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs.datasets._params import SimulationParams
    from ucs.datasets._tissue import Tissue

CONTROLS = tuple([f"NegControlProbe_{k:05d}" for k in range(1, 21)] + [f"BLANK_{k:04d}" for k in range(1, 51)])
_LOW_QUALITY_OF_CONTROLS = 0.5
_CLUMPED, _CLUMP_UM = 0.12, 0.5  # in layouts: share of the transcripts that lie beside another one of their gene
_SECTION_UM = (18.0, 2.0)  # mean and spread of z


@dataclass(frozen=True)
class Profiles:
    """Expression profiles of the cell types.

    Attributes
    ----------
    names
        Names of the genes.
    by_type
        Share of each gene among a type's transcripts, shape ``(n_types, n_genes)``, rows sum to 1.
    marker_of
        Type that a gene is a marker of, -1 = none, shape ``(n_genes,)``.
    nuclear_ratio
        Density of a gene in the nucleus relative to the cytoplasm, shape ``(n_genes,)``.
    """

    names: list[str]
    by_type: NDArray[np.float64]
    marker_of: NDArray[np.intp]
    nuclear_ratio: NDArray[np.float64]


def draw_profiles(params: SimulationParams, rng: np.random.Generator) -> Profiles:
    """Draw expression profiles: genes of very different levels, some of them markers of one type."""
    n_genes, n_types = params.n_genes, params.n_cell_types
    level = rng.lognormal(0.0, 1.0, n_genes)
    by_type = level * np.exp(params.expression_spread * rng.standard_normal((n_types, n_genes)))
    # At most half of the panel are markers: the rest is what types have in common.
    per_type = min(params.marker_genes, n_genes // (2 * n_types))
    marker_of = np.full(n_genes, -1)
    marker_of[rng.permutation(n_genes)[: per_type * n_types]] = np.repeat(np.arange(n_types), per_type)
    is_marker = marker_of >= 0
    own = marker_of == np.arange(n_types)[:, None]
    fold = np.sqrt(params.marker_fold)
    by_type = np.where(own, by_type * fold, np.where(is_marker, by_type / fold, by_type))
    ratio = params.nuclear_enrichment * np.exp(params.nuclear_spread * rng.standard_normal(n_genes))
    width = max(4, len(str(n_genes)))
    names = [f"GENE{k:0{width}d}" for k in range(1, n_genes + 1)]
    return Profiles(names, by_type / by_type.sum(axis=1, keepdims=True), marker_of, ratio)


def draw_transcripts(
    params: SimulationParams, tissue: Tissue, profiles: Profiles, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw all transcripts of a field, in random order.

    Returns
    -------
    ``x, y, z`` in um (float32), ``gene`` (code into the genes followed by :data:`CONTROLS`), ``true_cell_id`` (int32,
    0 = background) and ``qv`` (float32).
    """
    height, width = (side * tissue.um_per_px for side in tissue.cells.shape)
    if isinstance(tissue, ArrangedTissue):
        cell, gene, x, y = _of_layout(params, tissue, profiles, rng)
        free_gene, free_x, free_y = _of_no_cell(tissue, profiles, gene, rng)
        n_controls = rng.poisson(params.control_share * (free_x.size + cell.size))
    else:
        cell, gene, x, y = _from_cells(params, tissue, profiles, rng)
        n_background = rng.poisson(params.background_per_um2 * height * width)
        n_controls = rng.poisson(params.control_share * (n_background + cell.size))
        free_gene = _draw_genes(_ambient(gene, profiles), n_background, rng)
        free_x = free_y = np.empty(0)  # they lie anywhere, as controls do
    control = params.n_genes + rng.integers(0, len(CONTROLS), n_controls)
    n_free = free_gene.size + n_controls
    anywhere = n_free - free_x.size
    x = np.concatenate([x, free_x, rng.uniform(0, width, anywhere)])
    y = np.concatenate([y, free_y, rng.uniform(0, height, anywhere)])
    frame = pd.DataFrame(
        {
            "x": x.astype(np.float32),
            "y": y.astype(np.float32),
            "z": (_SECTION_UM[0] + _SECTION_UM[1] * rng.standard_normal(x.size)).astype(np.float32),
            "gene": np.concatenate([gene, free_gene, control]).astype(np.int32),
            "true_cell_id": np.concatenate([cell + 1, np.zeros(n_free)]).astype(np.int32),
        }
    )
    frame["qv"] = _quality(params, frame["gene"].to_numpy() >= params.n_genes, rng)
    inside = (frame["x"] >= 0) & (frame["x"] < width) & (frame["y"] >= 0) & (frame["y"] < height)
    return frame.iloc[rng.permutation(np.flatnonzero(inside))].reset_index(drop=True)


def _from_cells(
    params: SimulationParams, tissue: Tissue, profiles: Profiles, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return cell (index), gene, x and y of the transcripts that come from cells."""
    n_cells = tissue.cell_type.size
    offset, pixel = _pixels_by_compartment(tissue.cells, tissue.nuclei, n_cells)
    size = np.diff(offset).reshape(n_cells, 2)  # px of cytoplasm, of nucleus
    of_type = np.exp(params.transcripts_spread_types * spread_over_types(params.n_cell_types, rng))
    expected = of_type[tissue.cell_type] * size.sum(axis=1) * rng.lognormal(0.0, params.transcripts_spread, n_cells)
    count = rng.poisson(expected / expected.mean() * params.transcripts_per_cell)
    cell = np.repeat(np.arange(n_cells), count)
    gene = np.empty(cell.size, np.int64)
    for k in range(params.n_cell_types):
        of_k = tissue.cell_type[cell] == k
        gene[of_k] = _draw_genes(profiles.by_type[k], int(of_k.sum()), rng)

    nuclear = profiles.nuclear_ratio[gene] * size[cell, 1]
    in_nucleus = rng.random(cell.size) * (nuclear + size[cell, 0]) < nuclear
    pick = rng.random(cell.size) * size[cell, in_nucleus.astype(int)]
    chosen = pixel[offset[2 * cell + in_nucleus] + pick.astype(np.int64)]
    width = tissue.cells.shape[1]
    x = (chosen % width + rng.random(cell.size)) * tissue.um_per_px
    y = (chosen // width + rng.random(cell.size)) * tissue.um_per_px
    moved = params.diffusion_um * (rng.random(cell.size) < params.diffusion_share)
    return cell, gene, x + moved * rng.standard_normal(cell.size), y + moved * rng.standard_normal(cell.size)


def _of_layout(
    params: SimulationParams, tissue: ArrangedTissue, profiles: Profiles, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return cell, gene, x and y: from pixels with levels of their own, in part clumped, moved with heavy tails."""
    nuclear = tissue.nuclei > 0
    x, y, pixel = _scattered(np.where(nuclear, params.nuclear_enrichment, 1) * tissue.from_cells, tissue.um_per_px, rng)
    cell, in_nucleus = tissue.cells.ravel()[pixel].astype(np.intp) - 1, nuclear.ravel()[pixel]
    gene = np.empty(cell.size, np.int64)
    of = 2 * tissue.cell_type[cell] + in_nucleus
    for k in np.unique(of):
        share = profiles.by_type[k // 2] * (profiles.nuclear_ratio if k % 2 else 1)
        here = of == k
        gene[here] = _draw_genes(share / share.sum(), int(here.sum()), rng)
    copy, source = _partners(cell, _CLUMPED, rng)
    gene[copy] = gene[source]
    x[copy] = x[source] + _CLUMP_UM * rng.standard_normal(copy.size)
    y[copy] = y[source] + _CLUMP_UM * rng.standard_normal(copy.size)
    moved = params.diffusion_um * (rng.random(cell.size) < params.diffusion_share) / np.sqrt(2)  # of variance 2
    return cell, gene, x + moved * rng.standard_t(4, cell.size), y + moved * rng.standard_t(4, cell.size)


def _of_no_cell(
    tissue: ArrangedTissue, profiles: Profiles, gene: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return gene, x and y of ambient RNA, and of RNA of a few types whose cells are not there."""
    x, y, _ = _scattered(tissue.background, tissue.um_per_px, rng)
    spilt_x, spilt_y, _ = _scattered(tissue.spill, tissue.um_per_px, rng)
    spilt = rng.dirichlet(np.full(len(profiles.by_type), 0.4)) @ profiles.by_type
    genes = [_draw_genes(_ambient(gene, profiles), x.size, rng), _draw_genes(spilt, spilt_x.size, rng)]
    return np.concatenate(genes), np.concatenate([x, spilt_x]), np.concatenate([y, spilt_y])


def _scattered(
    expected: NDArray, um_per_px: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Draw points with expected numbers per pixel; return x, y and the flat index of the pixel."""
    pixel = np.repeat(np.arange(expected.size), rng.poisson(expected).ravel())
    row, column = np.divmod(pixel, expected.shape[1])
    return (column + rng.random(pixel.size)) * um_per_px, (row + rng.random(pixel.size)) * um_per_px, pixel


def _partners(
    cell: NDArray[np.integer], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose a share of the transcripts, and for each of them another one of the same cell."""
    order = np.lexsort((rng.random(cell.size), cell))
    chosen = np.flatnonzero(rng.random(max(cell.size - 1, 0)) < share) + 1
    chosen = chosen[cell[order[chosen]] == cell[order[chosen - 1]]]
    return order[chosen], order[chosen - 1]


def _ambient(gene: NDArray[np.int64], profiles: Profiles) -> NDArray[np.float64]:
    total = np.bincount(gene, minlength=len(profiles.names)) if gene.size else profiles.by_type.sum(axis=0)
    return total / total.sum()


def _draw_genes(share: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    cumulative = np.cumsum(share)
    return np.searchsorted(cumulative[:-1], rng.random(n) * cumulative[-1], side="right")


def _quality(params: SimulationParams, is_control: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw Phred-scaled quality values; half of the good ones reach the vendor's maximum of 40."""
    good = np.minimum(20 + 40 * rng.random(is_control.size), 40)
    poor = rng.uniform(3, 20, is_control.size).astype(np.float32)
    share = np.where(is_control, max(_LOW_QUALITY_OF_CONTROLS, params.low_quality_share), params.low_quality_share)
    low = rng.random(is_control.size) < share
    return np.where(low, np.minimum(poor, np.float32(19.99)), good).astype(np.float32)


@njit(cache=True, nogil=True)
def _pixels_by_compartment(
    cells: NDArray[np.int32], nuclei: NDArray[np.int32], n_cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort pixels by (cell, cytoplasm or nucleus); return the offsets (2 n_cells + 1,) and the flat pixel indices."""
    cells, nuclei = cells.ravel(), nuclei.ravel()
    offset = np.zeros(2 * n_cells + 1, np.int64)
    for p in range(cells.size):
        if cells[p]:
            offset[2 * (cells[p] - 1) + (nuclei[p] > 0) + 1] += 1
    offset = np.cumsum(offset)
    pixel = np.empty(offset[-1], np.int64)
    free = offset[:-1].copy()
    for p in range(cells.size):
        if cells[p]:
            compartment = 2 * (cells[p] - 1) + (nuclei[p] > 0)
            pixel[free[compartment]] = p
            free[compartment] += 1
    return offset, pixel
