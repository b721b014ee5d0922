"""From a prediction to the elements that are written back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._core.measure import centroids, eccentricities, mean_probabilities, moments
from ucs._grid import planar
from ucs.tl._lookup import LabelLookup, count_in_labels, with_label_column
from ucs.tl._outlines import polygon_frame
from ucs.tl._table import build_table
from ucs.tl._write import Elements

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from ucs.pp._sample import Sample
    from ucs.tl._engine import Prediction
    from ucs.tl._keys import OutputKeys


def build_elements(
    sdata: SpatialData,
    sample: Sample,
    prediction: Prediction,
    *,
    keys: OutputKeys,
    min_transcripts: int,
    tile_size: int,
    uns: dict[str, Any],
) -> Elements:
    """Make labels, shapes, table and points column of a prediction; nothing in ``sdata`` is changed."""
    import dask.array as da
    from spatialdata.models import Labels2DModel, ShapesModel
    from spatialdata.transformations import get_transformation

    points = sdata.points[sample.source.points_key]
    transformations = get_transformation(points, get_all=True)
    grid = sample.transcripts.grid
    counts = count_in_labels(sample.transcripts.map, prediction.labels, len(sample.nuclei.ids))
    n_transcripts = np.asarray(counts[:, : len(sample.transcripts.genes)].sum(axis=1)).ravel()
    kept = n_transcripts >= min_transcripts
    if not kept.any():
        msg = (
            f"No cell has min_transcripts={min_transcripts} or more transcripts: the richest of {len(kept)} has "
            f"{n_transcripts.max()}."
        )
        raise ValueError(msg)
    labels = np.where(np.concatenate([[False], kept])[prediction.labels], prediction.labels, 0).astype(np.int32)
    table = _table(sample, labels, prediction.probability, counts, kept, keys, uns)
    return Elements(
        new={
            keys.labels: Labels2DModel.parse(
                da.from_array(labels, chunks=(tile_size, tile_size)),
                dims=("y", "x"),
                transformations=grid.transformations(transformations),
            ),
            keys.shapes: ShapesModel.parse(
                polygon_frame(labels, grid.px_to_intrinsic), transformations=planar(transformations)
            ),
            keys.table: table,
        },
        points={
            sample.source.points_key: with_label_column(
                points, LabelLookup(labels, grid), sample.source.columns, keys.points_column
            )
        },
    )


def _table(
    sample: Sample,
    labels: NDArray[np.int32],
    probability: NDArray[np.uint8],
    counts: csr_matrix,
    kept: NDArray[np.bool_],
    keys: OutputKeys,
    uns: dict[str, Any],
) -> AnnData:
    grid, nuclei = sample.transcripts.grid, sample.nuclei
    n = len(nuclei.ids)
    cells, nucleus_pixels = moments(labels, n)[kept], moments(nuclei.labels, n)[kept, 0]
    px_area = grid.um_per_px**2
    centroid = centroids(cells) * grid.um_per_px + np.array(grid.origin) * grid.um_per_unit
    return build_table(
        counts[kept],
        genes=sample.transcripts.genes,
        controls=sample.transcripts.controls,
        ids=np.flatnonzero(kept).astype(np.int32) + 1,
        region=keys.shapes,
        area_um2=cells[:, 0] * px_area,
        centroid_um=centroid,
        obs={
            "nucleus_id": nuclei.ids[kept],
            "nucleus_area_um2": nucleus_pixels * px_area,
            "eccentricity": eccentricities(cells),
            "confidence": mean_probabilities(labels, probability, n)[kept],
            "is_missing_cell": np.zeros(int(kept.sum()), dtype=bool),
        },
        layers={"nucleus": count_in_labels(sample.transcripts.map, nuclei.labels, n)[kept]},
        uns=uns,
    )
