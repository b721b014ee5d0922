"""Purity on held-out genes: cells are found with one half of the genes and measured with the other half."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._evaluation.counts import counts_of
from ucs._evaluation.tissue import Tissue
from ucs._utils.checks import check_at_least
from ucs._utils.elements import shallow_copy
from ucs.metrics._capture import capture_of
from ucs.metrics._spurious import CountsByHalf, avoiding_pairs, halves_of, spurious_of
from ucs.metrics._stability import cells_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dask.dataframe import DataFrame as DaskDataFrame
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

_DRAWS = 30  # of the cells, for the error


def heldout_purity(
    sdata: SpatialData | Tissue,
    segmentation: Callable[[SpatialData], Any] | None = None,
    *,
    nuclei_key: str,
    n_splits: int = 3,
    n_pairs: int = 500,
    labels_key: str = "ucs_cells",
    seed: int = 0,
) -> pd.DataFrame:
    """Segment with one half of the genes, and measure spurious co-expression of the other half in the cells.

    A method that decides by the very genes it is measured with can look pure by putting transcripts where they fit.
    Genes it has not seen do not flatter it. Each split is used both ways. Compare at equal capture only: pass several
    settings (sizes) of a method at once, and nuclear expansion likewise.

    Parameters
    ----------
    sdata
        Object with transcripts and nuclei, or a :class:`Tissue` of it.
    segmentation
        As in :func:`subsample_stability`: called with a copy of the object in which the points have one half of the
        genes (controls stay). It may return a mapping of names to elements, one for each setting. If None,
        :func:`ucs.tl.segment` with its defaults.
    nuclei_key
        Labels or shapes in which genes that avoid each other are found.
    n_splits
        Number of random divisions of the genes, of equal abundance on both sides (see :func:`gene_halves`).
    n_pairs
        As in :func:`spurious_coexpression`.
    labels_key
        Key of the cells in the objects of ``segmentation``.
    seed
        Seed of the splits and of the error by cells.

    Returns
    -------
    One row per setting (the index; ``"cells"`` if there is one), means over splits and ways:

    - ``capture``: share of the held-out transcripts that are in cells,
    - ``spurious_coexpression`` and ``spurious_excess`` of the held-out genes, see :func:`spurious_coexpression`,
    - ``error_by_splits``: standard error of the mean over the splits; NaN with one split,
    - ``error_by_cells``: standard deviation of the mean if cells are drawn with replacement, pairs of genes unchanged.

    Rates are NaN if in a split no genes avoid each other.

    Raises
    ------
    ValueError
        If there are fewer than four genes, the transcripts are bins, or a half of the tissue has fewer than 20 nuclei.
    TypeError
        If the segmentation returns neither an element nor an object nor a mapping of elements.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=160, height_um=160, n_genes=80, seed=0)
    >>> def grow(part):  # a segmentation that looks at nuclei only
    ...     return {str(um): ucs.metrics.expand_nuclei("nucleus_labels", um, sdata=part) for um in (2, 10)}
    >>> table = ucs.metrics.heldout_purity(sdata, grow, nuclei_key="nucleus_labels", n_splits=1)
    >>> bool(table.loc["2", "spurious_coexpression"] < table.loc["10", "spurious_coexpression"])
    True
    """
    check_at_least(n_splits, 1, "n_splits")
    tissue = Tissue.of(sdata)
    run = segmentation or _segment
    transcripts, n_genes = tissue.transcripts.map, len(tissue.genes)
    weight = np.bincount(transcripts.feature, weights=transcripts.count, minlength=n_genes)[:n_genes]
    rows: list[dict[str, Any]] = []
    draws: dict[str, list[NDArray[np.float64]]] = {}
    for split in range(n_splits):
        halves = gene_halves(tissue.genes, weight, seed=seed + split)
        for way, (shown, held) in enumerate((halves, halves[::-1])):
            part = without_genes(tissue, held)
            found = run(part)
            found = part if found is None else found
            named = found if isinstance(found, Mapping) else {"cells": found}
            measured = _on_genes(tissue, shown, nuclei_key, n_pairs)
            for name, one in named.items():
                row, again = measured(cells_in(one, labels_key), np.random.default_rng((seed, split, way)))
                rows.append({"name": str(name), "split": split, **row})
                draws.setdefault(str(name), []).append(again)
    table = pd.DataFrame(rows)
    splits = table.groupby(["name", "split"], sort=False).mean(numeric_only=True).groupby("name", sort=False)
    out = splits.mean()
    out["error_by_splits"] = splits["spurious_coexpression"].std() / np.sqrt(n_splits)
    out["error_by_cells"] = [np.mean(draws[name], axis=0).std() for name in out.index]
    return out


def gene_halves(
    genes: Collection[str], weight: ArrayLike | None = None, *, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Divide genes at random into two halves of equal abundance: of two genes next in rank, one goes to each.

    Parameters
    ----------
    genes
        Names.
    weight
        Number of transcripts of each; equal if None.
    seed
        Seed.

    Raises
    ------
    ValueError
        If there are fewer than four genes.

    Examples
    --------
    >>> one, other = gene_halves(["A", "B", "C", "D"], [100, 90, 2, 1])
    >>> {"A", "B"} <= set(one), {"A", "B"} <= set(other)
    (False, False)
    """
    names = np.asarray(list(genes))
    if names.size < 4:
        msg = f"{names.size} genes given: four are needed at least, two to segment with and two to measure."
        raise ValueError(msg)
    number = np.zeros(names.size) if weight is None else np.asarray(weight, dtype=float)
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(names.size), -number))
    first = np.arange(names.size) % 2 == np.repeat(rng.integers(0, 2, -(-names.size // 2)), 2)[: names.size]
    of_first = np.zeros(names.size, dtype=bool)
    of_first[order] = first
    return names[of_first].tolist(), names[~of_first].tolist()


def without_genes(tissue: Tissue, genes: Collection[str]) -> SpatialData:
    """Return an object of the same elements whose transcripts are those of all other features; lazy.

    Raises
    ------
    ValueError
        If the transcripts are bins.
    """
    sdata, dropped = shallow_copy(tissue.sdata), frozenset(genes)
    for part in tissue.source.elements:
        if part.table_key is not None:
            msg = f"{part.key!r} holds bins: genes can only be removed from points."
            raise ValueError(msg)
        sdata.points[part.key] = _without(sdata.points[part.key], part.columns.gene, dropped)
    return sdata


def _without(points: DaskDataFrame, gene: str, dropped: frozenset[str]) -> DaskDataFrame:
    import dask.dataframe as dd
    from dask.delayed import delayed

    def drop(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[~frame[gene].astype(str).isin(dropped)]

    left = dd.from_delayed(
        [delayed(drop)(piece) for piece in points.to_delayed()], meta=points._meta, verify_meta=False
    )
    left.attrs.update(deepcopy(dict(points.attrs)))
    return left


def _on_genes(tissue: Tissue, shown: list[str], nuclei_key: str, n_pairs: int) -> Callable[..., Any]:
    """Return a function that measures an element by all genes but those the segmentation was shown."""
    held = pd.Index(tissue.genes).difference(shown, sort=False)
    mine = np.isin(tissue.genes, held)

    def counted(table: Any) -> CountsByHalf:
        return CountsByHalf(counts_of(table, None).only(held).matrix, halves_of(table, "cells"))

    avoiding = avoiding_pairs(counted(tissue.table(nuclei_key)), n_pairs=n_pairs)

    def measure(element: Any, rng: np.random.Generator) -> tuple[dict[str, float], NDArray[np.float64]]:
        cells = tissue.holding({"heldout_cells": element}).cells("heldout_cells")
        by_half = counted(tissue.table_of(cells))
        captured = capture_of(tissue, cells).per_gene
        assert captured is not None
        of_held = captured[mine]
        found = spurious_of(by_half, avoiding)
        row = {
            "capture": float(of_held["n_assigned"].sum() / max(of_held["n_transcripts"].sum(), 1)),
            "spurious_coexpression": found.cells,
            "spurious_excess": found.excess,
        }
        n = by_half.matrix.shape[0]
        drawn = [rng.integers(0, n, n) for _ in range(_DRAWS)]
        again = [spurious_of(CountsByHalf(by_half.matrix[k], by_half.half[k]), avoiding).cells for k in drawn]
        return row, np.asarray(again)

    return measure


def _segment(sdata: SpatialData) -> Any:
    import ucs  # here and by its public name: ucs.tl imports ucs.metrics, not the other way round

    return ucs.tl.segment(sdata, inplace=False, progress=False)
