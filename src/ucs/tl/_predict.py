"""Prediction as a step of its own, with or without a search for missing cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._run.predict import as_model
from ucs.tl._segment import segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionsOption
    from ucs.methods import UCSModel
    from ucs.options import ComputeOptions, OutputKeys, ReadOptions


def predict(
    sdata: SpatialData,
    model: UCSModel | str | Path | Mapping[str, UCSModel | str | Path],
    points_key: str | Sequence[str] | None = None,
    nuclei_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    resolution: float | None = None,
    regions: RegionsOption = None,
    cell_type_key: str | None = None,
    find_missing: bool | str = False,
    threshold: float | None = None,
    read: ReadOptions | Mapping[str, Any] | None = None,
    compute: ComputeOptions | Mapping[str, Any] | None = None,
    key_added: str | OutputKeys | Mapping[str, Any] = "ucs",
    overwrite: bool = False,
    inplace: bool = True,
    write: bool | str = False,
    progress: bool = True,
) -> SpatialData | None:
    """Apply a trained model to a sample and write the cells back.

    Parameters
    ----------
    sdata
        Object with transcripts and nuclei, of the model's panel of genes (matched by name).
    model
        A model from :func:`train`, or the path of a saved one; with ``regions``, a mapping of their names to either.
    points_key, nuclei_key, platform, resolution, find_missing, threshold, compute, key_added, overwrite, inplace, \
write, progress
        As in :func:`segment`.
    regions
        As in :func:`segment`; their names are those of the model.
    cell_type_key
        As in :func:`segment`, for models that look at marker genes.
    read
        As in :func:`segment`, but for the genes, which are those of the model.

    Returns
    -------
    As :func:`segment`.

    Raises
    ------
    TypeError
        If ``model`` is neither a model nor a path.
    ValueError
        If the data has too few of the model's genes, a region has no model, and as :func:`segment`.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=80, height_um=80, seed=0)
    >>> model = ucs.tl.train(sdata, progress=False)
    >>> ucs.tl.predict(sdata, model, threshold=0.6, progress=False)
    """
    return segment(
        sdata,
        points_key,
        nuclei_key,
        platform=platform,
        resolution=resolution,
        regions=regions,
        model=as_model(model),
        cell_type_key=cell_type_key,
        find_missing=find_missing,
        threshold=threshold,
        read=read,
        compute=compute,
        key_added=key_added,
        overwrite=overwrite,
        inplace=inplace,
        write=write,
        progress=progress,
    )


def find_missing(
    sdata: SpatialData,
    model: UCSModel | str | Path | Mapping[str, UCSModel | str | Path],
    points_key: str | Sequence[str] | None = None,
    nuclei_key: str | None = None,
    *,
    rule: str = "evidence",
    **options: Any,
) -> SpatialData | None:
    """Apply a trained model to a sample, look for cells without a nucleus, and write all cells back.

    A nucleus may be missing: it lies above or below the section, its stain is weak, or its segmentation failed. Its
    cell's transcripts are still there: as dense as in cytoplasm, but farther from all nuclei than their cells reach,
    often of another kind of cell than the nearest, with more of the nuclear transcripts in its middle. All of this is
    measured on the sample's own nuclei; a candidate is taken if it is more likely than not to lie in a missing cell, by
    a rule fitted once on simulated tissue (see ``docs/concepts.md``, with figures).

    Cells are then made of all nuclei at once, old and new. In the table those found have ``is_missing_cell``,
    ``missing_probability``, ids that follow those of the others, and no ``nucleus_id`` (missing, or empty if ids are
    text). Their nuclei are discs as large as the median nucleus, in which ``layers["nucleus"]`` counts: they say where
    a cell is, not how its nucleus looks.

    Parameters
    ----------
    sdata, model, points_key, nuclei_key
        As in :func:`predict`.
    rule
        ``"evidence"``, as above, or ``"paper"``, the paper's: foreground probability above 0.95 outside the cells,
        opened and closed, as large as a nucleus.
    **options
        Further arguments of :func:`predict`.

    Returns
    -------
    As :func:`segment` with ``find_missing=True``, labels of the nuclei that were found among it (all 0 if none were).

    Raises
    ------
    TypeError, ValueError
        As :func:`predict`.
    """
    if rule not in ("evidence", "paper"):
        msg = f"rule={rule!r} is unknown; valid are 'evidence', 'paper'."
        raise ValueError(msg)
    wanted = "paper" if rule == "paper" else True
    return predict(sdata, model, points_key, nuclei_key, find_missing=wanted, **options)
