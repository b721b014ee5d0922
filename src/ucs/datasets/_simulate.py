"""Simulated tissue with known cells, in the layout of ``spatialdata_io.xenium``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import anndata as ad
import dask.array as da
import dask.dataframe as dd
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy import ndimage, sparse
from skimage.measure import find_contours
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale

from ucs.datasets._arrange import arrange_tissue
from ucs.datasets._layouts import LAYOUTS
from ucs.datasets._molecules import CONTROLS, Profiles, draw_profiles, draw_transcripts
from ucs.datasets._params import SimulationParams
from ucs.datasets._stains import draw_stains
from ucs.datasets._tissue import Tissue, grow_tissue
from ucs.metrics import expand_nuclei

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from xarray import DataArray, DataTree

    from ucs.datasets._layout import Layout

UM_PER_PX = 0.2125  # side of a Xenium pixel
_VENDOR_EXPANSION_UM = 5.0  # the vendor's cells: nuclei grown by this much (Xenium without a membrane stain)
_ROWS_PER_PARTITION = 100_000
_CHUNK_PX = 4096  # the reader's
_SCALE_FACTORS = [2, 2, 2, 2]  # the reader's
_OF_SHAPES = frozenset(
    ("cells_per_mm2", "cell_area_spread", "nucleus_area_um2", "nucleus_area_spread", "nucleus_offset", "packing")
    + ("spindle_share", "spindle_aspect", "aspect", "irregularity", "empty_share", "empty_scale_um")
)
_FIRST_TRANSCRIPT_ID = 281_474_976_710_656  # 2^48: ids of real runs need 64 bits


def simulate(
    *,
    width_um: float = 200.0,
    height_um: float = 200.0,
    n_genes: int = 300,
    n_cell_types: int = 8,
    seed: int = 0,
    layout: str | None = None,
    **parameters: float,
) -> SpatialData:
    """Return a simulated Xenium run with known cells.

    Cells of several types lie in a tissue with holes. Their shapes are evaluated at the pixel size of Xenium
    (0.2125 um), which is the resolution of the truth. The tissue depends on ``seed`` and on the parameters of the
    tissue only: another number of genes or transcripts changes neither cells nor nuclei.

    Parameters
    ----------
    width_um, height_um
        Size of the field in um, 20 to 5000. Memory: some 45 bytes per pixel, 4 GB for 2000 x 2000 um.
    n_genes
        Number of genes.
    n_cell_types
        Number of cell types.
    seed
        Everything is drawn from it: the same seed and parameters give the same object.
    layout
        Name of a tissue of several classes of cells, one of :data:`LAYOUTS`, instead of the tissue that the parameters
        describe: two depths, RNA without nuclei, small among large cells, processes, fibres, several tissues. Cells
        have no formula there: they grow over uneven ground until they meet. Parameters of molecules and types still
        apply, those of shapes and places do not.
    **parameters
        Any other field of :class:`SimulationParams`, where each is described; see also :data:`REGIMES`.

    Returns
    -------
    In coordinate system ``global`` (pixels of 0.2125 um), as the reader has it:

    - points ``transcripts`` (um): ``x``, ``y``, ``z``, ``feature_name``, ``cell_id`` (the vendor's cells, which are
      nuclei grown by 5 um; ``"UNASSIGNED"`` = none), ``transcript_id``, ``overlaps_nucleus``, ``qv``,
    - labels ``nucleus_labels`` and ``cell_labels`` (uint32, multiscale), shapes ``nucleus_boundaries`` (um),
    - image ``morphology_focus`` (uint16, multiscale, channel ``DAPI``, and ``membrane`` or ``interior`` if
      their contrast is given),

    and the truth:

    - labels ``true_cells`` (uint32), in which a cell has the id of its nucleus in ``nucleus_labels``,
    - column ``true_cell_id`` of the points (int32): the cell that a transcript came from, wherever it is seen;
      0 = none (background and controls),
    - table ``true_table``: counts of each cell's transcripts (of any quality), its type, class, shape and areas; in
      ``var`` which type a gene is a marker of and how nuclear it is.

    ``attrs["ucs_simulation"]`` holds the parameters and the seed.

    Raises
    ------
    TypeError
        A parameter is unknown or not a number.
    ValueError
        A parameter is out of range, or the field is too small or too empty to hold a cell.

    Examples
    --------
    >>> sdata = simulate(width_um=60, height_um=60, spindle_share=0.5, seed=1)
    >>> sorted(sdata.labels)
    ['cell_labels', 'nucleus_labels', 'true_cells']
    """
    plan = _layout(layout, parameters)
    params = SimulationParams.checked(
        width_um=width_um,
        height_um=height_um,
        n_genes=n_genes,
        n_cell_types=n_cell_types,
        **({} if plan is None else plan.molecules) | parameters,
    )
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed={seed!r} given: it must be a whole number, 0 or more.")
    # One stream each, so that what is drawn for one does not depend on how much is drawn for another.
    for_tissue, for_profiles, for_transcripts, for_image, for_stains = np.random.default_rng(seed).spawn(5)
    if plan is None:
        tissue = grow_tissue(params, UM_PER_PX, for_tissue)
    else:
        tissue = arrange_tissue(params, plan, UM_PER_PX, for_tissue)
    if not tissue.has_visible_nucleus.any():
        raise ValueError(
            f"No cell with a nucleus lies in {params.width_um:g} x {params.height_um:g} um (cells_per_mm2="
            f"{params.cells_per_mm2:g}, empty_share={params.empty_share:g}, missing_nuclei={params.missing_nuclei:g}): "
            "enlarge the field, raise the density or take another seed."
        )
    profiles = draw_profiles(params, for_profiles)
    transcripts = draw_transcripts(params, tissue, profiles, for_transcripts)
    nuclei = tissue.visible_nuclei()
    vendor_cells = expand_nuclei(nuclei, _VENDOR_EXPANSION_UM, um_per_px=UM_PER_PX)
    stains = draw_stains(tissue.cells, params, UM_PER_PX, for_stains)
    return SpatialData(
        images={"morphology_focus": _image({"DAPI": _dapi(nuclei, for_image), **stains})},
        labels={
            "nucleus_labels": _labels(nuclei),
            "cell_labels": _labels(vendor_cells),
            "true_cells": _labels(tissue.cells, multiscale=False),
        },
        points={"transcripts": _points(transcripts, nuclei, vendor_cells, [*profiles.names, *CONTROLS])},
        shapes={"nucleus_boundaries": _polygons(nuclei)},
        tables={"true_table": _table(tissue, profiles, transcripts)},
        attrs={"ucs_simulation": {**asdict(params), "seed": int(seed)} | ({"layout": layout} if layout else {})},
    )


def _layout(name: str | None, parameters: dict[str, float]) -> Layout | None:
    """Look a layout up; refuse parameters that it would ignore."""
    if name is None:
        return None
    if name not in LAYOUTS:
        raise ValueError(f"layout={name!r} is unknown. There are: {', '.join(LAYOUTS)}.")
    ignored = [key for key in parameters if key in _OF_SHAPES]
    if ignored:
        raise TypeError(
            f"{', '.join(ignored)}: a layout decides shapes and places itself. Leave this out, or leave out "
            f"layout={name!r}."
        )
    return LAYOUTS[name]


def _um_to_global() -> Scale:
    return Scale([1 / UM_PER_PX, 1 / UM_PER_PX], axes=("x", "y"))


def _labels(labels: NDArray[np.integer], *, multiscale: bool = True) -> DataArray | DataTree:
    lazy = da.from_array(labels.astype(np.uint32), chunks=_CHUNK_PX)
    return Labels2DModel.parse(
        lazy,
        dims=("y", "x"),
        transformations={"global": Identity()},
        scale_factors=_SCALE_FACTORS if multiscale else None,
        chunks=(_CHUNK_PX, _CHUNK_PX),
    )


def _vendor_names(ids: NDArray[np.integer]) -> NDArray[np.str_]:
    """Return cell ids as the vendor writes them: eight letters, a to p for the digits of a hexadecimal number."""
    digits = (ids.astype(np.int64)[:, None] >> np.arange(28, -1, -4)) & 15
    letters = (digits + ord("a")).astype(np.uint8)
    return np.char.add(np.ascontiguousarray(letters).view("S8").ravel().astype("U8"), "-1")


def _points(
    transcripts: pd.DataFrame, nuclei: NDArray[np.int32], vendor_cells: NDArray[np.integer], features: list[str]
) -> dd.DataFrame:
    row = np.minimum((transcripts["y"].to_numpy(np.float64) / UM_PER_PX).astype(np.int64), nuclei.shape[0] - 1)
    column = np.minimum((transcripts["x"].to_numpy(np.float64) / UM_PER_PX).astype(np.int64), nuclei.shape[1] - 1)
    names = ["UNASSIGNED", *_vendor_names(np.arange(1, vendor_cells.max() + 1))]
    frame = transcripts[["x", "y", "z"]].assign(
        feature_name=pd.Categorical.from_codes(transcripts["gene"], categories=features),
        cell_id=pd.Categorical.from_codes(vendor_cells[row, column], categories=names).astype("string[pyarrow]"),
        transcript_id=np.arange(len(transcripts), dtype=np.uint64) + np.uint64(_FIRST_TRANSCRIPT_ID),
        overlaps_nucleus=(nuclei[row, column] > 0).astype(np.uint8),
        qv=transcripts["qv"],
        true_cell_id=transcripts["true_cell_id"],
    )
    n_partitions = max(1, -(-len(frame) // _ROWS_PER_PARTITION))
    return PointsModel.parse(
        dd.from_pandas(frame, npartitions=n_partitions, sort=True),
        coordinates={"x": "x", "y": "y", "z": "z"},
        feature_key="feature_name",
        instance_key="cell_id",
        transformations={"global": _um_to_global()},
        sort=True,
    )


def _polygons(nuclei: NDArray[np.int32]) -> gpd.GeoDataFrame:
    """Trace nuclei between pixel centres and simplify the outlines, as the vendor does."""
    ids, outlines = [], []
    for k, window in enumerate(ndimage.find_objects(nuclei), start=1):
        if window is None:
            continue
        contours = find_contours(np.pad(nuclei[window] == k, 1).astype(np.float32), 0.5)
        longest = max(contours, key=len)[:, ::-1]  # (row, column) to (x, y)
        # Pixel centres lie at +0.5, and the window was padded by one.
        outlines.append((longest + [window[1].start - 0.5, window[0].start - 0.5]) * UM_PER_PX)
        ids.append(k)
    geometry = shapely.simplify([shapely.Polygon(outline) for outline in outlines], 0.5 * UM_PER_PX)
    frame = gpd.GeoDataFrame({"geometry": geometry, "cell_id": _vendor_names(np.asarray(ids))}, index=ids)
    return ShapesModel.parse(frame, transformations={"global": _um_to_global()})


def _dapi(nuclei: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return a microscope image of nuclei: of uneven brightness, grainy, blurred and noisy."""
    brightness = np.concatenate([[0], 2500 * rng.lognormal(0.0, 0.3, nuclei.max())]).astype(np.float32)
    grain = ndimage.gaussian_filter(rng.standard_normal(nuclei.shape, dtype=np.float32), 0.5 / UM_PER_PX)
    signal = brightness[nuclei]
    signal *= 1 + 0.15 / max(float(grain[:256, :256].std()), 1e-6) * grain
    signal = ndimage.gaussian_filter(signal, 0.45 / UM_PER_PX, output=grain)
    signal += 150
    signal += 2 * np.sqrt(np.maximum(signal, 0)) * rng.standard_normal(nuclei.shape, dtype=np.float32)
    return np.clip(signal, 0, 65535).astype(np.uint16)


def _image(channels: dict[str, NDArray[np.uint16]]) -> DataTree:
    return Image2DModel.parse(
        da.from_array(np.stack(list(channels.values())), chunks=(1, _CHUNK_PX, _CHUNK_PX)),
        dims=("c", "y", "x"),
        c_coords=list(channels),
        transformations={"global": Identity()},
        scale_factors=_SCALE_FACTORS,
        chunks=(1, _CHUNK_PX, _CHUNK_PX),
    )


def _table(tissue: Tissue, profiles: Profiles, transcripts: pd.DataFrame) -> ad.AnnData:
    n_cells, n_genes = tissue.cell_type.size, len(profiles.names)
    gene, cell = transcripts["gene"].to_numpy(), transcripts["true_cell_id"].to_numpy()
    from_cell = cell > 0
    counts = sparse.coo_matrix(
        (np.ones(from_cell.sum(), np.int32), (cell[from_cell] - 1, gene[from_cell])), shape=(n_cells, n_genes)
    ).tocsr()
    types = [f"type_{k + 1}" for k in range(profiles.by_type.shape[0])]
    px_area = UM_PER_PX**2
    obs = pd.DataFrame(
        {
            "cell_id": np.arange(1, n_cells + 1),
            "region": pd.Categorical(["true_cells"] * n_cells),
            "cell_type": pd.Categorical.from_codes(tissue.cell_type, categories=types),
            "cell_class": pd.Categorical(tissue.cell_class),
            "is_spindle": tissue.is_spindle,
            "has_nucleus_label": tissue.has_visible_nucleus,
            "area_um2": np.bincount(tissue.cells.ravel(), minlength=n_cells + 1)[1:] * px_area,
            "nucleus_area_um2": np.bincount(tissue.nuclei.ravel(), minlength=n_cells + 1)[1:] * px_area,
        },
        index=[str(k) for k in range(1, n_cells + 1)],
    )
    var = pd.DataFrame(
        {
            "marker_of": pd.Categorical.from_codes(profiles.marker_of, categories=types),
            "nuclear_ratio": profiles.nuclear_ratio,
        },
        index=profiles.names,
    )
    table = ad.AnnData(counts, obs=obs, var=var, varm={"profiles": profiles.by_type.T.copy()})
    return TableModel.parse(table, region="true_cells", region_key="region", instance_key="cell_id")
