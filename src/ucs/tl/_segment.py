"""The main job: from a reader's SpatialData to cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._files.store import check_store
from ucs._read.regions import find_regions
from ucs._read.sample import find_nuclei_key, find_source
from ucs._results.keys import OutputKeys
from ucs._run.cell_types import read_markers
from ucs._run.cluster import device_of_training
from ucs._run.place import place_of
from ucs._run.predict import as_model, check_regions_of_model
from ucs._run.resume import drop_half_written
from ucs._run.run import Run
from ucs._run.training import Learning, resolve_params
from ucs._utils.checks import check_at_least, check_one_object, check_option
from ucs._utils.elements import shallow_copy
from ucs._utils.memory import parse_limit
from ucs.methods.paper.find_background import check_background

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs._read.markers import Markers
    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionsOption
    from ucs.methods.model import UCSModel
    from ucs.methods.params import TrainParams


def segment(
    sdata: SpatialData,
    points_key: str | Sequence[str] | None = None,
    nuclei_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
    gene_key: str | None = None,
    genes: str | int | Sequence[str] = "all",
    z_planes: Sequence[float] | float | None = None,
    fuse_nuclei: bool = False,
    regions: RegionsOption = None,
    genes_per_region: bool = False,
    warm_start: bool = False,
    model: UCSModel | str | Path | Mapping[str, UCSModel | str | Path] | None = None,
    train: TrainParams | Mapping[str, Any] | None = None,
    background: str | float = "auto",
    ownership: str = "expression",
    softmask: str = "scaled",
    markers: Markers | None = None,
    cell_type_key: str | None = None,
    find_missing: bool = False,
    min_transcripts: int = 0,
    check_alignment: bool = True,
    labels_key_added: str = "ucs_cells",
    shapes_key_added: str = "ucs_boundaries",
    table_key_added: str = "ucs_table",
    points_column_added: str = "ucs_cell_id",
    points_confidence_added: str | None = None,
    missing_nuclei_key_added: str = "ucs_missing_nuclei",
    tile_size: int = 1024,
    device: str = "auto",
    seed: int = 0,
    memory_limit: str | float | None = "auto",
    scratch: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    inplace: bool = True,
    write: bool = False,
    progress: bool = True,
) -> SpatialData | None:
    """Segment cells: train on this very sample, predict, refine, and write the cells back.

    Every nucleus becomes one cell on one raster; every pixel has at most one owner. The result does not depend on
    ``tile_size`` nor on how the points are partitioned or ordered, nor on whether it is computed in memory, on disk or
    by the workers of a Dask client. If one is active (``distributed.Client``), its workers share the tiles; they must
    reach ``scratch`` by the same path.

    Parameters
    ----------
    sdata
        Object as a reader of spatialdata-io returns it, with transcripts and nuclei. Nothing of the user's is changed
        but for one more column of the points.
    points_key
        Key of the transcripts; found by itself if None. Several are taken together: those named in a list, those that
        ``"{fov}_points"`` stands for, or, by itself, one for each field of view of CosMx. A table that counts genes in
        bins is named by its own key or that of its bins.
    nuclei_key
        Key of the nuclei, labels or shapes; found by itself if None. If there are none, but an image of a nuclear
        stain, they are found in it by :func:`ucs.pp.nuclei` and added as ``labels["ucs_nuclei"]``. ``{fov}`` in the key
        stands for the names of the fields of view, where there is an element for each.
    platform
        ``"auto"``, a name of those that :func:`ucs.platforms` lists, or a platform. Sets units, columns, quality cut,
        controls, resolution.
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
    z_planes
        Planes in z whose transcripts are used, as numbered in the data (MERSCOPE: ``z``, which the vendor calls
        ``global_z``; CosMx: ``z_raw``); all if None. The other transcripts belong to no cell.
    fuse_nuclei
        Whether nuclei that the vendor gives to one cell (column ``cell_id`` of the nuclei's shapes, as in Xenium runs
        from version 2 on) make one nucleus, in parts, with the cell's id; otherwise each makes a cell of its own.
    regions
        One model for all if None, or one for each region of the tissue. A number: square blocks of this side in pixels.
        ``"fov"``: the fields of view. A name: a column of the points, or the key of shapes, which are a region each. A
        pair ``(key, column)``: a column of points or of shapes, whose polygons with one value are one region. A nucleus
        belongs to the region that most of its pixels lie in, and competes with its neighbours by the q of that
        region's model (paper, equations 4 to 6), so cells have no seams where regions meet. Nuclei in no region, and
        regions with fewer than ``TrainParams.min_nuclei`` nuclei or no background, have a model of the whole tissue.
    genes_per_region
        Whether ``genes`` are chosen in each region by itself: highly variable ones differ between regions (paper).
    warm_start
        Whether the models of regions begin as a model of the whole tissue and take a third of the steps.
    model
        A trained model, or the path of a saved one; None trains one. With ``regions``, a mapping of their names to
        either, as :func:`train` returns it.
    train
        Parameters of the training; ignored if a model is given.
    background
        How the nets learn where cells are. ``"auto"``: from the density of transcripts (a net predicts transcripts that
        it has not seen; nothing needs to be set). Otherwise as published, from pixels of nuclei against background: a
        distance in um from nuclei beyond which pixels with few transcripts count as background (paper, equations 7 and
        8), or ``"paper"`` for the paper's dilation (10 x 10 kernel, 4 times). Such a distance decides the size of the
        cells, and the paper's is far too large for dense tissue.
    ownership
        Which nucleus a pixel goes to: ``"expression"``, the near one whose kind of cell its transcripts fit (kinds are
        learned from the nuclei of the sample; where transcripts do not tell, distance does), or ``"distance"``. With a
        ``background`` other than ``"auto"`` it is the published net's gate, a function of the distance.
    softmask
        ``"scaled"``: distances follow the shape of elongated nuclei (paper, equation 11); ``"plain"``: they do not.
    markers
        Marker genes of cell types, in a form that :func:`annotate_nuclei` takes. Nuclei get a type by them from the
        transcripts in them. Types are then the kinds by which ``ownership="expression"`` goes; with a ``background``
        other than ``"auto"``, the published net sees where markers of a nucleus' type are (paper, marker genes).
    cell_type_key
        Column with the cell type of each nucleus, of the shapes of the nuclei or of a table that annotates them (as
        that of :func:`annotate_nuclei`), to be used instead of types by markers.
    find_missing
        Whether to look for cells whose nucleus is not among the nuclei (out of the section, or not seen): see
        :func:`find_missing`.
    min_transcripts
        Cells with fewer transcripts (of genes) are left out.
    check_alignment
        Whether to check that the nuclei lie where the transcripts are, and that the median nucleus has 5 to 500 um^2;
        if not, a wrong size is only warned of.
    labels_key_added, shapes_key_added, table_key_added
        Keys of the results.
    points_column_added
        Column of the points with the cell of each transcript, 0 = none.
    points_confidence_added
        Name of a further column of the points, float32: the probability that a transcript comes from the cell it is
        counted in, 0 outside cells; none if None. It is calibrated on simulated tissue (``docs/concepts.md``).
    missing_nuclei_key_added
        Key of the nuclei that are found; used with ``find_missing`` only.
    tile_size
        Side in pixels of what is worked on at a time, of the chunks of the labels (for more than 8 Mpx, and on disk,
        rounded up to a multiple of 96) and, on a GPU, of what goes through the nets at once.
    device
        ``"auto"`` (CUDA, MPS or CPU), or a torch device.
    seed
        Of weights and patches.
    memory_limit
        What the process may hold: ``"auto"`` (most of what is free now), bytes, or a size such as ``"6 GiB"``; None for
        no limit. What does not fit is held in ``scratch``; tiles are made smaller if that is needed.
    scratch
        Folder for temporary files: what does not fit into memory, tiles that workers share, and what ``resume`` needs.
        With ``resume`` the folder of the object's store if None, otherwise the system's. All is removed at the end.
    resume
        Whether a run that is killed may be continued by calling again with the same arguments: the trained model and
        finished tiles are then kept in ``scratch`` until the run is complete. If data, parameters or versions differ
        from those of the killed run it begins afresh, and says so.
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
    - ``shapes[shapes_key_added]``: one valid polygon per cell in the points' intrinsic coordinates (those of the common
      coordinate system of several points elements), index = id;
    - ``tables[table_key_added]``: CSR int counts cell x gene, ``layers["nucleus"]`` those in the nucleus, areas in
      um2, ``obsm["spatial"]`` centroids in um, ``obsm["controls"]``, ``uns["ucs"]`` parameters, versions and figures;
    - ``labels[missing_nuclei_key_added]``, with ``find_missing``: the nuclei that were found, with the ids of their
      cells, which follow those of the others; in the table they have ``is_missing_cell`` and no ``nucleus_id`` (0, or
      empty if ids are text);
    - ``points[points_key][points_column_added]`` (where transcripts are counted in squares: ``shapes``): int32, and
      ``[points_confidence_added]`` if it is named: float32.

    Raises
    ------
    KeyError
        If an element or a column is not there.
    ValueError
        If input is invalid: keys taken, elements not connected or not overlapping, nuclei misplaced, positions NaN or
        infinite, features null, counts negative, ids repeated or negative, an unknown option, a device not there.
    MemoryError
        If the resolution is finer than memory allows, or not even a small tile fits.
    OSError
        If ``scratch`` or the store cannot be written to, or the disk is full; the store is then as it was.
    RuntimeError
        If another process works on the same run with ``resume``.

    References
    ----------
    Chen et al., "UCS: A Unified Approach to Cell Segmentation for Subcellular Spatial Transcriptomics", Small Methods
    2025, doi 10.1002/smt.202400975.
    """
    check_one_object(sdata)
    keys = OutputKeys(
        labels_key_added, shapes_key_added, table_key_added, points_column_added, points_confidence_added,
        missing_nuclei_key_added if find_missing else None,
    )  # fmt: skip
    check_at_least(tile_size, 1, "tile_size")
    check_at_least(min_transcripts, 0, "min_transcripts")
    check_at_least(seed, 0, "seed")
    check_background(background)
    check_option(ownership, "ownership", ("expression", "distance"))
    check_option(softmask, "softmask", ("scaled", "plain"))
    of_type = read_markers(markers, cell_type_key, background)
    if write and not inplace:
        msg = "write=True writes to the object's own store and needs inplace=True."
        raise ValueError(msg)
    train_on = device_of_training(device)
    source = find_source(
        sdata,
        points_key,
        platform=platform,
        coordinate_system=coordinate_system,
        gene_key=gene_key,
        resolution=resolution,
        um_per_unit=um_per_unit,
        z_planes=z_planes,
    )
    nuclei_key = find_nuclei_key(sdata, source, nuclei_key)
    if write:
        drop_half_written(sdata)
    keys.check(sdata, source, nuclei_key, overwrite=overwrite)
    if write:
        check_store(sdata, keys.kinds(), overwrite=overwrite)
    if model is not None:
        model = as_model(model)
        check_regions_of_model(model, regions)
    place = place_of(scratch, sdata, resume=resume)
    run = Run(
        source=source,
        nuclei_key=nuclei_key,
        keys=keys,
        rule=find_regions(sdata, source, regions, genes_per_region=genes_per_region),
        model=model,
        learning=Learning(
            params=resolve_params(train, source.platform, softmask),
            genes=genes,
            background=background,
            device=train_on,
            seed=seed,
            warm_start=warm_start,
            genes_per_region=genes_per_region,
            progress=progress,
            ownership=ownership,
            markers=of_type,
        ),
        cell_type_key=cell_type_key,
        coordinate_system=coordinate_system,
        check_alignment=check_alignment,
        fuse_nuclei=fuse_nuclei,
        find_missing=find_missing,
        min_transcripts=min_transcripts,
        tile_size=int(tile_size),
        device=device,
        write=write,
        place=place,
        limit=parse_limit(memory_limit),
        resume_name=f"{sdata.path} {source.points_key} {keys}" if resume else None,
    )
    target = sdata if inplace else shallow_copy(sdata)
    run.add_cells(sdata, target)
    return None if inplace else target
