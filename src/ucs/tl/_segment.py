"""The main call: from a reader's SpatialData to cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._run.arguments import check_arguments
from ucs._run.run import run_segmentation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionsOption
    from ucs.methods import Method, MethodParams, UCSModel
    from ucs.methods.markers import Markers
    from ucs.options import ComputeOptions, OutputKeys, ReadOptions


def segment(
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
    inplace: bool = True,
    write: bool | str = False,
    progress: bool = True,
) -> SpatialData | None:
    """Segment cells: predict, refine, and write the cells back; methods that learn from the sample train on it first.

    Every nucleus becomes one cell on one raster; every pixel has at most one owner. The result does not depend on the
    tile size nor on how the points are partitioned or ordered, nor on whether it is computed in memory, on disk or by
    the workers of a Dask client. If one is active (``distributed.Client``), its workers share the tiles; they must
    reach the scratch folder by the same path.

    Parameters
    ----------
    sdata
        Object as a reader of spatialdata-io returns it, with transcripts and nuclei. Nothing of the user's is changed
        but for one more column of the points.
    points_key
        Key of the transcripts; detected automatically if None. Several are taken together: those named in a list, those
        that ``"{fov}_points"`` stands for, or, if None, one for each field of view of CosMx. A table that counts genes
        in bins is named by its own key or that of its bins.
    nuclei_key
        Key of the nuclei, labels or shapes; detected automatically if None. If there are none, but an image of a
        nuclear stain, they are found in it by :func:`ucs.pp.nuclei` and added as ``labels["ucs_nuclei"]``. ``{fov}`` in
        the key stands for the names of the fields of view, where there is an element for each.
    method
        ``"pretrained"`` (the default), ``"density"``, which learns from the sample alone, or ``"paper"``, the
        networks of the UCS paper; or any method that was registered with :func:`ucs.methods.register`. With ``model``
        it is that of the model.
    platform
        ``"auto"``, a name of those that :func:`ucs.platforms` lists, or a :class:`ucs.Platform`. Sets units, columns,
        quality cut, controls, resolution.
    resolution
        Side of a pixel in um; if None that of the platform, at most 0.5 um with the pretrained method.
    regions
        One model for all if None, or one for each region of the tissue. A number: square blocks of this side in pixels.
        ``"fov"``: the fields of view. A name: a column of the points, or the key of shapes, which are a region each. A
        pair ``(key, column)``: a column of points or of shapes, whose polygons with one value are one region. A nucleus
        belongs to the region that most of its pixels lie in, and competes with its neighbours, so cells have no seams
        where regions meet. Nuclei in no region, and regions with fewer than ``params["min_nuclei"]`` nuclei or nothing
        to learn from, have a model of the whole tissue.
    model
        A trained model, or the path of a saved one; None trains one. With ``regions``, a mapping of their names to
        either, as :func:`train` returns it.
    markers
        Marker genes of cell types, in a form that :func:`annotate_nuclei` takes. Nuclei get a type by them from the
        transcripts in them. With the density method, types are the expression clusters by which owners are chosen; the
        paper's net sees where markers of a nucleus' type are (paper, marker genes).
    cell_type_key
        Column with the cell type of each nucleus, of the shapes of the nuclei or of a table that annotates them (as
        that of :func:`annotate_nuclei`), to be used instead of types by markers.
    find_missing
        Whether to look for cells whose nucleus is not among the nuclei (out of the section, or not seen): True by
        :func:`find_missing`, ``"paper"`` by the paper's rule.
    threshold
        Probability of lying in a cell above which a pixel does, between 0 and 1; the platform's or the method's if None
        (density 0.35, the others 0.5). Lower values give larger cells and capture more transcripts, higher ones give
        purer cells; towards 1 they shrink to their nuclei. A parameter of prediction: it needs no training.
    params
        Parameters of the method, :class:`ucs.methods.PretrainedParams`, :class:`ucs.methods.DensityParams` or
        :class:`ucs.methods.PaperParams`, or a mapping of some of their fields.
    read, compute
        :class:`ucs.options.ReadOptions` and :class:`ucs.options.ComputeOptions`, or mappings of some of their fields.
    key_added
        Prefix of the keys of the results, or :class:`ucs.options.OutputKeys`, or a mapping of some of its fields.
    seed
        Of weights and random draws of the training; 0 if None.
    overwrite
        Whether results of an earlier run may be replaced.
    inplace
        Whether to add the results to ``sdata``, or to return a new object that shares its elements.
    write
        Whether to write the new elements to the object's Zarr store, all of them or none. With True the points stay as
        they are in the store (which must not have the column of an earlier run: it would contradict the new cells);
        with ``"points"`` their files are written again with the new column, the other columns as they are.
    progress
        Whether to show progress bars.

    Returns
    -------
    None, or the new object with ``inplace=False``. It has, under the default keys,

    - ``labels["ucs_cells"]``: ``(y, x)`` int32, 0 = background, Dask-backed;
    - ``shapes["ucs_boundaries"]``: one valid geometry per cell in the points' intrinsic coordinates (those of the
      common coordinate system of several points elements), index = id, named ``cell_id``: a Polygon, or a MultiPolygon
      where ``obs`` has ``n_parts`` above 1, as with ``fuse_nuclei``;
    - ``tables["ucs_table"]``: CSR int counts cell x gene (of the whole panel, also genes without counts),
      ``layers["nucleus"]`` those in the nucleus, areas in um2,
      ``obsm["spatial"]`` centroids in um, ``obsm["controls"]`` (sparse, names in ``uns["ucs"]["controls"]``),
      ``uns["ucs"]`` parameters, versions and figures;
    - ``labels["ucs_missing_nuclei"]``, with ``find_missing``: the nuclei that were found, with the ids of their cells,
      which follow those of the others; in the table they have ``is_missing_cell``, a ``missing_probability`` and no
      ``nucleus_id`` (missing, or empty if ids are text);
    - ``images[key_added["foreground"]]``, if it is named: ``(1, y, x)`` float32, the probability of lying in a cell;
    - ``points[points_key]["ucs_cell_id"]`` (where transcripts are counted in squares: ``shapes``): int32, 0 = none, and
      the column ``key_added["confidence_column"]``, if it is named: float32.

    Raises
    ------
    KeyError
        If an element or a column is not there.
    TypeError
        If ``sdata`` is no SpatialData (read a store with :func:`spatialdata.read_zarr`), or an option has a wrong type.
    ValueError
        If input is invalid: keys taken, elements not connected or not overlapping, nuclei misplaced, positions NaN or
        infinite, features null, counts negative, ids repeated or negative, an unknown option, a device not there, or an
        argument that would have no effect.
    MemoryError
        If the resolution is finer than memory allows, or not even a small tile fits.
    OSError
        If the scratch folder or the store cannot be written to, or the disk is full; the store is then as it was.
    RuntimeError
        If another process works on the same run with ``compute={"resume": True}``.

    References
    ----------
    Chen et al., "UCS: A Unified Approach to Cell Segmentation for Subcellular Spatial Transcriptomics", Small Methods
    2025, doi 10.1002/smt.202400975.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=80, height_um=80, seed=0)
    >>> ucs.tl.segment(sdata, progress=False)
    >>> sdata.tables["ucs_table"].n_obs == sdata.shapes["ucs_boundaries"].shape[0]
    True
    """
    return run_segmentation(
        sdata,
        check_arguments(
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
        ),
        inplace=inplace,
        write=write,
        progress=progress,
    )
