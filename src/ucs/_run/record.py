"""What a run says of itself: in the table, and in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._run.predict import regions_of_models
from ucs._utils.log import logger
from ucs._utils.version import VERSION
from ucs.methods.base import resolve_method

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ucs._read.regions import Regions
    from ucs._read.sample import Sample
    from ucs._run.predict import Model
    from ucs.options import OutputKeys

_FEW_IN_CELLS = 0.6  # share of the transcripts below which one may wonder


def record_of(
    sample: Sample, model: Model, regions: Regions | None, keys: OutputKeys, *, threshold: float | None
) -> dict[str, Any]:
    """Collect what ``uns["ucs"]`` says of a run."""
    source, transcripts = sample.source, sample.transcripts
    return {
        "version": VERSION,
        "parameters": {
            "platform": source.platform.name,
            "points_key": source.points_key,
            "fields_of_view": [] if sample.fov is None else list(sample.fov_names),
            "nuclei_key": sample.nuclei_key,
            "gene_key": source.columns.gene,
            "resolution": source.resolution,
            "um_per_unit": source.um_per_unit,
            "z_planes": list(source.columns.planes),
            **({} if source.outlier_um is None else {"outlier_um": source.outlier_um}),
            "method": model.method,
            "threshold": resolve_method(model.method).threshold if threshold is None else threshold,
            "params": model.params.as_dict(),
            "key_added": keys.as_dict(),
        },
        "model": model.history,
        **({} if regions is None else {"regions": regions_of_models(regions, model)}),
        "qc": {
            "alignment": sample.alignment,
            "n_rows": transcripts.n_rows,
            "n_low_quality": transcripts.n_low_quality,
            "n_other_planes": transcripts.n_other_planes,
            "n_zero_count": transcripts.n_zero_count,
            "n_seen_twice": transcripts.n_seen_twice,
            "n_outlying": transcripts.n_outlying,
            "n_kept": transcripts.map.n_transcripts,
            "n_nuclei": len(sample.nuclei.ids),
            "n_nuclei_outside": sample.nuclei.n_outside,
            "grid_shape": list(transcripts.grid.shape),
            "grid_origin": list(transcripts.grid.origin),
        },
    }


def log_result(
    sdata: SpatialData, of: int, keys: OutputKeys, seconds: float, *, column_left_out: bool, find_missing: bool
) -> None:
    """Say what a run has added.

    Parameters
    ----------
    sdata
        With the results.
    of
        How many transcripts of genes there are.
    keys
        Of the results.
    seconds
        That the run took.
    column_left_out
        Whether results are in the store, but for the column of the points.
    find_missing
        Whether missing cells were looked for.
    """
    table = sdata.tables[keys.table]
    in_cells = int(table.X.sum())
    logger.info(
        "Added labels %r, shapes %r, table %r, points column %r%s: %d cells, median area %.0f um2, %.0f %% of %s "
        "transcripts in cells, %.1f s.",
        keys.labels,
        keys.shapes,
        keys.table,
        keys.points_column,
        " (not in the store)" if column_left_out else "",
        table.n_obs,
        table.obs["area_um2"].median() if table.n_obs else 0,
        100 * in_cells / of,
        f"{of:,}",
        seconds,
    )
    if in_cells < _FEW_IN_CELLS * of and not find_missing:
        logger.warning(
            "Many transcripts lie in no cell. Cells are no larger than their transcripts tell; if nuclei are missing, "
            "try find_missing=True, and look at the alignment of nuclei and transcripts."
        )
