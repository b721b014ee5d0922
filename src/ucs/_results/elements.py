"""From a prediction to the elements that are written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from ucs._kernels.bands import chunk_shape
from ucs._kernels.count import count_in_labels, row_sums, split_columns
from ucs._kernels.labels.measure import centroids, eccentricities, measure
from ucs._read.grid import planar
from ucs._results.lookup import LabelLookup, PointColumns, with_label_column
from ucs._results.outlines import polygon_frame
from ucs._results.table import at_home, build_table
from ucs._results.write import Elements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._kernels.bands import Raster
    from ucs._kernels.labels.measure import Measures
    from ucs._read.sample import Sample
    from ucs._utils.progress import Stages
    from ucs.options import OutputKeys


@dataclass(frozen=True)
class Prediction:
    """Cells on the sample's grid.

    Attributes
    ----------
    labels
        ``(h, w)`` int32, the id of the nucleus that owns the pixel.
    confidence
        ``(h, w)`` uint8, 255 times the probability that a transcript there comes from the pixel's cell.
    foreground
        ``(h, w)`` uint8, 255 times the probability that the pixel lies in any cell; None if it is not wanted.
    obs
        What more is known of each nucleus, ``(n,)`` each: further columns of the table.
    """

    labels: Raster
    confidence: Raster
    foreground: Raster | None = None
    obs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Transcripts in cells and in nuclei by gene, in cells by control, and how many there are of genes anywhere."""

    in_cells: csr_matrix
    in_nuclei: csr_matrix
    controls: csr_matrix
    n_of_genes: int


def count_transcripts(sample: Sample, prediction: Prediction) -> Counts:
    """Count the transcripts of a sample: after that nobody needs them any more."""
    transcripts, n = sample.transcripts.map, len(sample.nuclei.ids)
    n_genes = len(sample.transcripts.genes)
    in_cells, controls = split_columns(count_in_labels(transcripts, prediction.labels, n), n_genes)
    return Counts(
        in_cells,
        split_columns(count_in_labels(transcripts, sample.nuclei.labels, n), n_genes)[0],
        controls,
        sum(int(band.count[band.feature < n_genes].sum(dtype=np.int64)) for _, _, band in transcripts.bands()),
    )


def build_elements(
    sdata: SpatialData,
    sample: Sample,
    prediction: Prediction,
    counts: Counts,
    *,
    keys: OutputKeys,
    missing: NDArray[np.bool_] | None,
    tile_size: int,
    uns: dict[str, Any],
    stages: Stages,
) -> Elements:
    """Make the new elements and columns of a prediction; nothing in ``sdata`` is changed.

    Parameters
    ----------
    sdata, sample
        The object, and what was read of it.
    prediction, counts
        Cells, and the transcripts in them.
    keys
        What the results are called.
    missing
        ``(n,)`` which nuclei were found by the search for missing cells; None without a search.
    tile_size
        Side of a chunk of plain arrays in pixels.
    uns
        Record of the run, for the table.
    stages
        Times the stages.
    """
    import shapely
    from spatialdata.models import ShapesModel

    source, grid = sample.source, sample.transcripts.grid
    to_home, transformations = source.output_frame(sdata)
    n = len(sample.nuclei.ids)
    kept = _kept(row_sums(counts.in_cells), keys.min_transcripts)
    with stages.stage("table"):
        measures = measure(prediction.labels, n, prediction.confidence)
        table = _table(sample, prediction.obs, counts, measures, kept, keys, uns)
        table.obsm["spatial"] = at_home(table.obsm["spatial"], to_home, source.um_per_unit)
    with stages.stage("outline"):
        boxes = np.where(np.concatenate([[False], kept])[:, None], measures.boxes, 0)
        to_intrinsic = to_home @ grid.px_to_intrinsic
        outlines = polygon_frame(prediction.labels, to_intrinsic, boxes=boxes, smooth=keys.outlines == "smooth")
    table.obs["n_parts"] = shapely.get_num_geometries(outlines.geometry.to_numpy()).astype(np.int64)
    renumber = None if kept.all() else renumbering(kept)
    lookup = LabelLookup(prediction.labels, grid, renumber)
    share = None
    if keys.confidence_column is not None:
        share = (keys.confidence_column, LabelLookup(prediction.confidence, grid))
    in_systems = grid.transformations(transformations, to_home)
    new: dict[str, Any] = {
        keys.labels: labels_element(prediction.labels, in_systems, kept=kept, tile_size=tile_size),
        keys.shapes: ShapesModel.parse(outlines, transformations=planar(transformations)),
        keys.table: table,
    }
    if missing is not None:
        new[keys.missing_nuclei] = labels_element(sample.nuclei.labels, in_systems, kept=missing, tile_size=tile_size)
    if prediction.foreground is not None and keys.foreground is not None:
        new[keys.foreground] = _foreground_element(prediction.foreground, in_systems, tile_size=tile_size)
    columns = {
        part.key: PointColumns(
            part, None if sample.fields is None else sample.fields.owner(k), lookup, keys.points_column, share
        )
        for k, part in enumerate(source.elements)
    }
    points = {key: with_label_column(sdata, of_part) for key, of_part in columns.items()}
    return Elements(new, points, columns)


def _kept(n_transcripts: NDArray[np.int64], min_transcripts: int) -> NDArray[np.bool_]:
    """Return which cells have enough transcripts."""
    kept = n_transcripts >= min_transcripts
    if not kept.any():
        msg = (
            f"No cell has min_transcripts={min_transcripts} or more transcripts: the richest of {len(kept)} has "
            f"{n_transcripts.max()}."
        )
        raise ValueError(msg)
    return kept


def renumbering(kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return ``(n + 1,)`` by label: itself if it is kept, else 0."""
    return np.where(np.concatenate([[False], kept]), np.arange(len(kept) + 1), 0).astype(np.int32)


def _foreground_element(foreground: Raster, transformations: Mapping[str, Any], *, tile_size: int) -> DataArray:
    """Make an image of the probability of lying in a cell, float32 from 0 to 1."""
    from spatialdata.models import Image2DModel

    lazy = _lazy(foreground, tile_size)[None].astype(np.float32) / np.float32(255)
    return Image2DModel.parse(
        lazy, dims=("c", "y", "x"), c_coords=["foreground"], transformations=dict(transformations)
    )


def labels_element(
    labels: Raster, transformations: Mapping[str, Any], *, kept: NDArray[np.bool_], tile_size: int
) -> DataArray:
    """Make a labels element of some labels.

    Parameters
    ----------
    labels
        ``(h, w)`` int32. A Zarr array is read when the element is, chunk by chunk; the element keeps the object, so
        that what goes with it stays until nobody has the element any more.
    transformations
        Coordinate system -> transformation.
    kept
        ``(n,)`` which of the labels 1..n stay; the others become background, when the element is computed.
    tile_size
        Side of a chunk of a plain array.
    """
    from spatialdata.models import Labels2DModel

    lazy = _lazy(labels, tile_size)
    if not kept.all():
        lazy = lazy.map_blocks(_renumbered, renumbering(kept), dtype=np.int32)
    return Labels2DModel.parse(lazy, dims=("y", "x"), transformations=dict(transformations))


def _lazy(raster: Raster, tile_size: int) -> Any:
    import dask.array as da

    chunks = (tile_size, tile_size) if isinstance(raster, np.ndarray) else chunk_shape(raster)
    return da.from_array(raster, chunks=chunks, name=f"ucs-{uuid4().hex}")  # otherwise all pixels are hashed for a name


def _renumbered(block: NDArray[np.int32], renumber: NDArray[np.int32]) -> NDArray[np.int32]:
    return renumber[block]


def _table(
    sample: Sample,
    obs: Mapping[str, Any],
    counts: Counts,
    measures: Measures,
    kept: NDArray[np.bool_],
    keys: OutputKeys,
    uns: dict[str, Any],
) -> AnnData:
    grid, nuclei = sample.transcripts.grid, sample.nuclei
    n = len(nuclei.ids)
    cells, nucleus_pixels = measures.moments[kept], measure(nuclei.labels, n).moments[kept, 0]
    px_area = grid.um_per_px**2
    centroid = centroids(cells) * grid.um_per_px + np.array(grid.origin) * grid.um_per_unit
    return build_table(
        _rows(counts.in_cells, kept),
        _rows(counts.controls, kept),
        genes=sample.transcripts.genes,
        controls=sample.transcripts.controls,
        panel=sample.transcripts.panel,
        ids=np.flatnonzero(kept).astype(np.int32) + 1,
        region=keys.shapes,
        area_um2=cells[:, 0] * px_area,
        centroid_um=centroid,
        obs={
            "nucleus_id": _nucleus_ids(nuclei.ids, obs.get("is_missing_cell"))[kept],
            "nucleus_area_um2": nucleus_pixels * px_area,
            "eccentricity": eccentricities(cells),
            "confidence": measures.mean()[kept],
            "is_missing_cell": np.zeros(int(kept.sum()), dtype=bool),
            **_fields_of(sample, kept),
            **{name: values[kept] for name, values in obs.items()},
        },
        layers={"nucleus": _rows(counts.in_nuclei, kept)},
        uns=uns,
    )


def _nucleus_ids(ids: NDArray, missing: NDArray[np.bool_] | None) -> Any:
    """Return the ids of nuclei, ``(n,)``: nullable integers, or text, for cells whose nucleus was missing."""
    import pandas as pd

    if missing is None or not missing.any() or ids.dtype.kind not in "iu":
        return ids
    return pd.arrays.IntegerArray(ids.astype(np.int64), np.asarray(missing))


def _rows(matrix: csr_matrix, kept: NDArray[np.bool_]) -> csr_matrix:
    """Return some rows; the matrix itself, and not a copy, if they are all."""
    return matrix if kept.all() else matrix[kept]


def _fields_of(sample: Sample, kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the column with the field of view of each cell, that of most of its nucleus, if the sample has any."""
    import pandas as pd

    if len(sample.fov_names) == 1 and not sample.source.by_field:
        return {}
    code = sample.fov_of_nuclei()[kept] - 1
    return {"fov": pd.Categorical.from_codes(code, categories=list(sample.fov_names))}
