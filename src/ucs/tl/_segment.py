"""The main job: from a reader's SpatialData to cells."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ucs._checks import check_at_least
from ucs._logging import logger
from ucs._progress import stage
from ucs.nn.device import resolve_device
from ucs.nn.model import UCSModel
from ucs.nn.params import TrainParams
from ucs.pp._sample import Sample, find_nuclei_key, find_source, prepare
from ucs.tl._engine import as_model, check_background, predict_cells, train_model
from ucs.tl._keys import OutputKeys
from ucs.tl._result import build_elements
from ucs.tl._store import check_store
from ucs.tl._write import add_elements, shallow_copy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs._platforms import Platform


def segment(
    sdata: SpatialData,
    points_key: str | None = None,
    nuclei_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
    gene_key: str | None = None,
    genes: str | int | Sequence[str] = "all",
    model: UCSModel | str | Path | None = None,
    train: TrainParams | Mapping[str, Any] | None = None,
    background: str | float = "auto",
    min_transcripts: int = 0,
    check_alignment: bool = True,
    labels_key_added: str = "ucs_cells",
    shapes_key_added: str = "ucs_boundaries",
    table_key_added: str = "ucs_table",
    points_column_added: str = "ucs_cell_id",
    tile_size: int = 1024,
    device: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
    inplace: bool = True,
    write: bool = False,
    progress: bool = True,
) -> SpatialData | None:
    """Segment cells: train on this very sample, predict, refine, and write the cells back.

    Every nucleus becomes one cell on one raster; every pixel has at most one owner. The result does not depend on
    ``tile_size`` nor on how the points are partitioned or ordered.

    Parameters
    ----------
    sdata
        Object as a reader of spatialdata-io returns it, with transcripts and nuclei. Nothing of the user's is changed
        but for one more column of the points.
    points_key
        Key of the transcripts; found by itself if None.
    nuclei_key
        Key of the nuclei, labels or shapes; found by itself if None. If there are none, but an image of a nuclear
        stain, they are found in it by :func:`ucs.pp.nuclei` and added as ``labels["ucs_nuclei"]``.
    platform
        ``"auto"``, ``"xenium"``, ``"generic"``, or a platform. Sets units, columns, quality cut, controls, resolution.
    coordinate_system
        Coordinate system in which points and nuclei meet; ``"global"`` or another that both share if None.
    resolution
        Side of a pixel in um; the platform's if None (1 um).
    um_per_unit
        Length of the points' intrinsic unit in um; the platform's if None.
    gene_key
        Column with the gene of each transcript; found by itself if None.
    genes
        Genes that the nets see: ``"all"``; ``"hvg"`` for the 1000 most highly variable ones, or their number (by scanpy
        on counts in bins of 10 um); a list of names; or a regular expression. The table has all genes in any case.
    model
        A trained model, or the path of a saved one; None trains one.
    train
        Parameters of the training; ignored if a model is given.
    background
        Distance in um from nuclei beyond which pixels with few transcripts count as background while training (paper,
        equations 7 and 8). ``"auto"`` calibrates it from the data, ``"paper"`` is the paper's dilation (10 x 10 kernel,
        4 times). It decides the size of the cells.
    min_transcripts
        Cells with fewer transcripts (of genes) are left out.
    check_alignment
        Whether to check that the nuclei lie where the transcripts are.
    labels_key_added, shapes_key_added, table_key_added
        Keys of the results.
    points_column_added
        Column of the points with the cell of each transcript, 0 = none.
    tile_size
        Side in pixels of the chunks of the labels and, on a GPU, of what goes through the nets at once.
    device
        ``"auto"`` (CUDA, MPS or CPU), or a torch device.
    seed
        Of weights and patches.
    overwrite
        Whether results of an earlier run may be replaced.
    inplace
        Whether to add the results to ``sdata``, or to return a new object that shares its elements.
    write
        Whether to write the new elements to the object's Zarr store. The points stay as they are in the store: the
        column can be made again with :func:`ucs.tl.aggregate` or stored with ``sdata.write(other_path)``.
    progress
        Whether to show progress bars.

    Returns
    -------
    None, or the new object. It has

    - ``labels[labels_key_added]``: ``(y, x)`` int32, 0 = background, Dask-backed;
    - ``shapes[shapes_key_added]``: one valid polygon per cell in the points' intrinsic coordinates, index = id;
    - ``tables[table_key_added]``: CSR int counts cell x gene, ``layers["nucleus"]`` those in the nucleus, areas in
      um2, ``obsm["spatial"]`` centroids in um, ``obsm["controls"]``, ``uns["ucs"]`` parameters, versions and figures;
    - ``points[points_key][points_column_added]``: int32.

    Raises
    ------
    KeyError
        If an element or a column is not there.
    ValueError
        If input is invalid: keys taken, elements not connected or not overlapping, nuclei misplaced, positions NaN or
        infinite, features null, counts negative, ids repeated or negative, an unknown option, a device not there.
    MemoryError
        If the resolution is finer than memory allows.

    References
    ----------
    Chen et al., "UCS: A Unified Approach to Cell Segmentation for Subcellular Spatial Transcriptomics", Small Methods
    2025, doi 10.1002/smt.202400975.
    """
    keys = OutputKeys(labels_key_added, shapes_key_added, table_key_added, points_column_added)
    check_at_least(tile_size, 1, "tile_size")
    check_at_least(min_transcripts, 0, "min_transcripts")
    check_at_least(seed, 0, "seed")
    check_background(background)
    if write and not inplace:
        msg = "write=True writes to the object's own store and needs inplace=True."
        raise ValueError(msg)
    resolve_device(device)
    source = find_source(
        sdata, points_key, platform=platform, gene_key=gene_key, resolution=resolution, um_per_unit=um_per_unit
    )
    nuclei_key = find_nuclei_key(sdata, source.platform, nuclei_key)
    keys.check(sdata, source, nuclei_key, overwrite=overwrite)
    if write:
        check_store(sdata, keys.kinds(), overwrite=overwrite)
    if model is not None:
        model = as_model(model)
    params = TrainParams.resolve(train, **source.platform.train)

    timings: dict[str, float] = {}
    start = time.perf_counter()
    with stage("read", timings, progress=False):
        sample = prepare(
            sdata,
            source,
            nuclei_key,
            coordinate_system=coordinate_system,
            check_alignment=check_alignment,
            progress=progress,
        )
    if model is None:
        model = train_model(
            sample,
            genes=genes,
            train=params,
            background=background,
            device=device,
            seed=seed,
            progress=progress,
            timings=timings,
        )
    prediction = predict_cells(
        sample, model, tile_size=int(tile_size), device=device, progress=progress, timings=timings
    )
    with stage("measure", timings, progress=False):
        elements = build_elements(
            sdata,
            sample,
            prediction,
            keys=keys,
            min_transcripts=min_transcripts,
            tile_size=int(tile_size),
            uns=_record(sample, model, keys, min_transcripts=min_transcripts),
        )
    elements.new.update(sample.found)
    timings["total"] = time.perf_counter() - start
    elements.new[keys.table].uns["ucs"]["timings"] = timings
    target = sdata if inplace else shallow_copy(sdata)
    add_elements(target, elements, write=write)
    _log_result(target, sample, keys, timings)
    return None if inplace else target


def _record(sample: Sample, model: UCSModel, keys: OutputKeys, *, min_transcripts: int) -> dict[str, Any]:
    """Collect what ``uns["ucs"]`` says of a run."""
    source, transcripts = sample.source, sample.transcripts
    return {
        "version": version("spatialdata-ucs"),
        "parameters": {
            "platform": source.platform.name,
            "points_key": source.points_key,
            "nuclei_key": sample.nuclei_key,
            "gene_key": source.columns.gene,
            "resolution": source.resolution,
            "um_per_unit": source.um_per_unit,
            "min_transcripts": min_transcripts,
            "labels_key": keys.labels,
            "shapes_key": keys.shapes,
            "points_column": keys.points_column,
            "train": model.params.as_dict(),
        },
        "model": model.history,
        "qc": {
            "alignment": sample.alignment,
            "n_rows": transcripts.n_rows,
            "n_low_quality": transcripts.n_low_quality,
            "n_kept": transcripts.map.n_transcripts,
            "n_nuclei": len(sample.nuclei.ids),
            "n_nuclei_outside": sample.nuclei.n_outside,
            "grid_shape": list(transcripts.grid.shape),
            "grid_origin": list(transcripts.grid.origin),
        },
    }


def _log_result(sdata: SpatialData, sample: Sample, keys: OutputKeys, timings: dict[str, float]) -> None:
    table = sdata.tables[keys.table]
    n_genes = len(sample.transcripts.genes)
    in_cells = int(table.X.sum())
    of = int(sample.transcripts.map.count[sample.transcripts.map.feature < n_genes].sum())
    logger.info(
        "Added labels %r, shapes %r, table %r, points column %r: %d cells, median area %.0f um2, %.0f %% of %d "
        "transcripts in cells, %.1f s.",
        keys.labels,
        keys.shapes,
        keys.table,
        keys.points_column,
        table.n_obs,
        table.obs["area_um2"].median() if table.n_obs else 0,
        100 * in_cells / of,
        of,
        timings["total"],
    )
