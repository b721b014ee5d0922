"""Prediction as a step of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs.tl._engine import as_model
from ucs.tl._segment import segment

if TYPE_CHECKING:
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs.nn.model import UCSModel


def predict(
    sdata: SpatialData,
    model: UCSModel | str | Path,
    points_key: str | None = None,
    nuclei_key: str | None = None,
    **options: Any,
) -> SpatialData | None:
    """Apply a trained model to a sample and write the cells back.

    Parameters
    ----------
    sdata
        Object with transcripts and nuclei, of the model's panel of genes (matched by name).
    model
        A model from :func:`train`, or the path of a saved one.
    points_key, nuclei_key
        As in :func:`segment`.
    **options
        The other parameters of :func:`segment`, but for those of the training.

    Returns
    -------
    As :func:`segment`.

    Raises
    ------
    TypeError
        If an option belongs to the training, or ``model`` is neither a model nor a path.
    ValueError
        If the data has too few of the model's genes, and as :func:`segment`.
    """
    of_training = sorted({"genes", "train", "background", "seed", "model"} & set(options))
    if of_training:
        msg = f"predict takes no {', '.join(of_training)}: the model is trained already."
        raise TypeError(msg)
    return segment(sdata, points_key, nuclei_key, model=as_model(model), **options)
