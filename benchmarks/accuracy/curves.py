"""Purity against capture: ours over its decision threshold, nuclear expansion over its radius."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._files.workspace import Workspace, in_memory
from ucs._run.predict import predict_cells
from ucs._run.region_samples import raster_of
from ucs._utils.progress import Stages
from ucs.methods.base import resolve_method
from ucs.pl._purity_capture import PURITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._read.sample import Sample
    from ucs.methods.model import UCSModel

THRESHOLDS = (0.0001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.9999)
"""Probability of lying in a cell above which a pixel does: the higher, the smaller the cells."""


def default_threshold(model: UCSModel) -> float:
    """Return the threshold that :func:`ucs.tl.segment` uses, unless the platform sets another."""
    return resolve_method(model.method).threshold


def segment_at(sample: Sample, model: UCSModel, threshold: float, *, survey: Any = None) -> NDArray[np.int32]:
    """Return the cells of a model on a sample at one decision threshold, ``(h, w)`` ids of the nuclei.

    Parameters
    ----------
    sample
        Prepared transcripts and nuclei.
    model
        A trained model.
    threshold
        As in :func:`ucs.tl.segment`.
    survey
        Of :func:`survey_of`, for several thresholds; measured if None.
    """
    prediction = predict_cells(
        raster_of(sample, None),
        model,
        survey=survey,
        threshold=threshold,
        tile_size=1024,
        device="cpu",
        workspace=Workspace(),
        stages=Stages(),
    )
    return in_memory(prediction.labels)


def survey_of(sample: Sample, model: UCSModel) -> Any:
    """Return what the model's method measures of the whole sample before any decision."""
    return resolve_method(model.method).survey(raster_of(sample, None), model.genes, model.params)


def advantage(table: pd.DataFrame, ours: str, baseline: str, purity: str) -> pd.Series:
    """Return by how much each row of a curve is purer than the baseline's curve at the same capture.

    Between its points the baseline is linear; rows that capture less or more than all of it are left out.

    Parameters
    ----------
    table
        Rows of both curves, told apart by the column ``curve``.
    ours, baseline
        Names of the curves.
    purity
        Column; of rates of co-expression less counts as purer.
    """
    lower_is_purer = purity in PURITIES and PURITIES[purity].lower_is_purer
    known = table[table["curve"] == baseline].dropna(subset=[purity]).sort_values("capture")
    rows = table[table["curve"] == ours].dropna(subset=[purity])
    if known.empty or rows.empty:
        return pd.Series(dtype=float)
    rows = rows[rows["capture"].between(known["capture"].min(), known["capture"].max())]
    difference = rows[purity] - np.interp(rows["capture"], known["capture"], known[purity])
    return -difference if lower_is_purer else difference
