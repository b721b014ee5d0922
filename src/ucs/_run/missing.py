"""Adds the cells whose nucleus is missing to a prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ucs._read.fields import most_frequent
from ucs._run.region_samples import raster_of
from ucs._utils.log import logger
from ucs.methods.missing.paper_rule import find_by_foreground
from ucs.methods.missing.search import find_missing_nuclei

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs._files.workspace import Workspace
    from ucs._read.regions import Regions
    from ucs._read.sample import Sample
    from ucs._results.elements import Prediction
    from ucs._run.predict import Model
    from ucs._utils.progress import Stages

MISSING = "is_missing_cell"
"""Column of the table."""

PROBABILITY = "missing_probability"
"""Column of the table: how likely a cell's nucleus is one that is missing; 0 of cells with a nucleus."""


def add_missing_cells(
    sample: Sample,
    regions: Regions | None,
    prediction: Prediction,
    model: Model,
    predict: Callable[[Sample, Regions | None], Prediction],
    *,
    rule: bool | str,
    workspace: Workspace,
    stages: Stages,
) -> tuple[Sample, Prediction]:
    """Return the sample with the nuclei that are missing, and the cells that all nuclei have then.

    Parameters
    ----------
    sample, regions
        As they were.
    prediction
        Cells of the nuclei that are there.
    model
        The first one's genes and expression clusters are used.
    predict
        The cell step: from a sample and its regions to cells.
    rule
        As ``find_missing`` of :func:`ucs.tl.segment`.
    workspace
        Where the rasters of the prediction are held; they are let go.
    stages
        Times the search.
    """
    n = len(sample.nuclei.ids)
    with stages.stage("find missing", unit="window") as update:
        if rule == "paper":
            if prediction.foreground is None:
                msg = "The paper's rule needs the foreground of the prediction."
                raise ValueError(msg)
            probability = None
            added = find_by_foreground(prediction.foreground, prediction.labels, sample.nuclei.labels)
        else:
            raster = raster_of(sample, None)
            added, probability = find_missing_nuclei(raster, model.distinct()[0], prediction.labels, update)
    m = int(added.max(initial=0))
    logger.info("Found %d cells whose nucleus is not among the %d nuclei.", m, n)
    if m > 0:
        workspace.forget_rasters()
        sample = with_nuclei(sample, added)
        prediction = predict(sample, with_nuclei_in_regions(regions, added))
    obs = {**prediction.obs, MISSING: np.arange(n + m) >= n}
    if probability is not None:
        obs[PROBABILITY] = np.concatenate([np.zeros(n, dtype=np.float32), probability])
    return sample, replace(prediction, obs=obs)


def with_nuclei(sample: Sample, added: NDArray[np.int32]) -> Sample:
    """Return the sample with more nuclei: their ids follow those of the others, their original id is 0 or empty.

    Parameters
    ----------
    sample
        The sample; it stays as it is.
    added
        ``(h, w)`` ids 1..m, on no pixel of another nucleus.
    """
    nuclei = sample.nuclei
    m = int(added.max(initial=0))
    if m == 0:
        return sample
    none = np.zeros(m, dtype=nuclei.ids.dtype) if nuclei.ids.dtype.kind in "iu" else np.full(m, "", dtype=object)
    labels = np.where(added > 0, added + len(nuclei.ids), nuclei.labels).astype(np.int32)
    types = sample.cell_types
    if types is not None:
        types = np.concatenate([types, np.full(m, "", dtype=object)])
    ids = np.concatenate([nuclei.ids, none])
    return replace(sample, nuclei=replace(nuclei, labels=labels, ids=ids), cell_types=types)


def with_nuclei_in_regions(regions: Regions | None, added: NDArray[np.int32]) -> Regions | None:
    """Return the regions with more nuclei, each in that which most of its pixels lie in."""
    m = int(added.max(initial=0))
    if regions is None or m == 0:
        return regions
    probability = most_frequent(added, regions.labels, m)
    return replace(regions, of_nucleus=np.concatenate([regions.of_nucleus, probability.astype(np.int64)]))
