"""From a prediction to the elements that are written back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._core.measure import centroids, eccentricities, mean_probabilities, moments
from ucs._grid import planar
from ucs.tl._lookup import LabelLookup, count_in_labels, with_label_column
from ucs.tl._outlines import polygon_frame
from ucs.tl._table import at_home, build_table
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
    """Make labels, shapes, table and the column of the points of a prediction; nothing in ``sdata`` is changed."""
    import dask.array as da
    from spatialdata.models import Labels2DModel, ShapesModel

    source, grid = sample.source, sample.transcripts.grid
    to_home, transformations = source.home(sdata)
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
    table = _table(sample, replace(prediction, labels=labels), counts, kept, keys, uns)
    confidence = None
    if keys.points_confidence is not None:
        in_cells = np.where(labels > 0, prediction.probability, np.uint8(0))
        confidence = (keys.points_confidence, LabelLookup(in_cells, grid))
    table.obsm["spatial"] = at_home(table.obsm["spatial"], to_home, source.um_per_unit)
    return Elements(
        new={
            keys.labels: Labels2DModel.parse(
                da.from_array(labels, chunks=(tile_size, tile_size)),
                dims=("y", "x"),
                transformations=grid.transformations(transformations, to_home),
            ),
            keys.shapes: ShapesModel.parse(
                polygon_frame(labels, to_home @ grid.px_to_intrinsic), transformations=planar(transformations)
            ),
            keys.table: table,
        },
        points={
            part.key: with_label_column(
                sdata,
                part,
                LabelLookup(labels, grid),
                keys.points_column,
                None if sample.fields is None else sample.fields.owner(k),
                share=confidence,
            )
            for k, part in enumerate(source.parts)
        },
    )


def _table(
    sample: Sample,
    prediction: Prediction,
    counts: csr_matrix,
    kept: NDArray[np.bool_],
    keys: OutputKeys,
    uns: dict[str, Any],
) -> AnnData:
    grid, nuclei, labels = sample.transcripts.grid, sample.nuclei, prediction.labels
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
            "confidence": mean_probabilities(labels, prediction.probability, n)[kept],
            "is_missing_cell": np.zeros(int(kept.sum()), dtype=bool),
            **_fields_of(sample, kept),
            **{name: values[kept] for name, values in prediction.obs.items()},
        },
        layers={"nucleus": count_in_labels(sample.transcripts.map, nuclei.labels, n)[kept]},
        uns=uns,
    )


def _fields_of(sample: Sample, kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the column with the field of view of each cell, that of most of its nucleus, if the sample has any."""
    import pandas as pd

    if len(sample.fov_names) == 1 and not sample.source.by_field:
        return {}
    code = sample.fov_of_nuclei()[kept] - 1
    return {"fov": pd.Categorical.from_codes(code, categories=list(sample.fov_names))}
