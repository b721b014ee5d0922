"""What a segmentation would use, and whether it would get as far as training, before anything heavy runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionsOption
    from ucs._run.check.report import Check
    from ucs.methods import Method, MethodParams, UCSModel
    from ucs.methods.markers import Markers
    from ucs.options import ComputeOptions, OutputKeys, ReadOptions


def check(
    sdata: SpatialData,
    points_key: str | Sequence[str] | None = None,
    nuclei_key: str | None = None,
    *,
    method: str | Method | None = None,
    platform: str | Platform = "auto",
    resolution: float | None = None,
    regions: RegionsOption = None,
    model: UCSModel | str | Path | Mapping[str, UCSModel | str | Path] | None = None,
    markers: Markers | None = None,
    cell_type_key: str | None = None,
    find_missing: bool | str = False,
    threshold: float | None = None,
    params: MethodParams | Mapping[str, Any] | None = None,
    read: ReadOptions | Mapping[str, Any] | None = None,
    compute: ComputeOptions | Mapping[str, Any] | None = None,
    key_added: str | OutputKeys | Mapping[str, Any] = "ucs",
    seed: int | None = None,
    overwrite: bool = False,
    estimate: bool = True,
) -> Check:
    """Tell what :func:`ucs.tl.segment` would use and why, and whether it would get as far as training.

    Transcripts and nuclei are read and compared as ``segment`` does it; nothing is trained, no nuclei are looked for in
    images, and ``sdata`` is not changed. It takes about as long as the first stage of ``segment``, and some seconds.

    Parameters
    ----------
    sdata, points_key, nuclei_key, method, platform, resolution, regions, model, markers, cell_type_key, \
find_missing, threshold, params, read, compute, key_added, seed
        As in :func:`ucs.tl.segment`. Highly variable genes are counted, not chosen; the time that is told does not hold
        the search for missing cells.
    overwrite
        As in :func:`ucs.tl.segment`: without it, it is a problem if keys are taken.
    estimate
        Whether to time the nets for a few steps, so that the time can be told.

    Returns
    -------
    A dictionary of plain values, shown as a table by ``print``, by rich and in notebooks; ``.ok`` tells whether it has
    no problems. Its keys, as far as they could be found out:

    - ``problems``: what ``segment`` would raise, as ``{"error": type, "message": text}``, the first first;
    - ``warnings``, ``notes``: what it would log;
    - ``platform``, ``source``, ``grid``: the conventions; elements, columns and unit, with ``because``; the raster;
    - ``transcripts``: how many rows there are, how many were left out for which reason, genes and controls;
    - ``nuclei``: how many there are and how large, or in which image they would be found;
    - ``alignment``, ``regions``: what came of them;
    - ``estimate``: the peak of memory in GiB and the time in seconds, both approximate.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong in itself, whatever the data.
    FileNotFoundError
        If there is no model at the path given.
    """
    from ucs._run.arguments import check_arguments
    from ucs._run.check.checker import InputChecker

    asked = check_arguments(
        sdata,
        points_key,
        nuclei_key,
        method=method,
        platform=platform,
        resolution=resolution,
        regions=regions,
        model=model,
        markers=markers,
        cell_type_key=cell_type_key,
        find_missing=find_missing,
        threshold=threshold,
        params=params,
        read=read,
        compute=compute,
        key_added=key_added,
        seed=seed,
        overwrite=overwrite,
    )
    return InputChecker(sdata, asked, estimate=estimate).run()
