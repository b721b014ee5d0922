"""Operating points of a segmentation: its cells at several thresholds, expanded nuclei, and other cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ucs._utils.log import collected, logger
from ucs.tl import compare, segment

if TYPE_CHECKING:
    import pandas as pd
    from spatialdata import SpatialData

_SWEPT = "ucs, thresholds"  # name of the curve
_PIXELS = 10_000_000  # of the raster that is segmented again at each threshold, at most: some seconds each


def operating_points(
    sdata: SpatialData,
    table_key: str,
    vendor_key: str | None,
    *,
    thresholds: list[float],
    expansions_um: list[float],
) -> tuple[pd.DataFrame, str]:
    """Return the table of :func:`ucs.tl.compare` with a row for each operating point, and what was left out and why.

    Parameters
    ----------
    sdata, table_key
        Object, and the table of its cells (row ``ucs``).
    vendor_key
        Other cells; None for none.
    thresholds
        Decision thresholds to predict at.
    expansions_um
        Radii of expanded nuclei.
    """
    uns = sdata.tables[table_key].uns["ucs"]
    used = uns["parameters"]
    remark, swept = _why_not_swept(uns, thresholds), {}
    if not remark:
        for threshold in thresholds:
            name = f"threshold {threshold:g}"
            prefix = f"report_{round(1000 * threshold):04d}"
            with collected():  # what it logs of these cells is no news, and they are not kept
                sdata = segment(
                    sdata,
                    nuclei_key=used["nuclei_key"],
                    platform=used["platform"],
                    method=used["method"],
                    resolution=float(used["resolution"]),
                    threshold=threshold,
                    params=dict(used["params"]),
                    read={"check_alignment": False, "um_per_unit": float(used["um_per_unit"])},
                    key_added=prefix,
                    overwrite=True,
                    inplace=False,
                    progress=False,
                )
            swept[name] = f"{prefix}_cells"
    names = {"ucs": table_key, **swept, **({} if vendor_key is None else {vendor_key: vendor_key})}
    nuclei_key = used["nuclei_key"] if used["nuclei_key"] in sdata else None
    table = compare(sdata, names, nuclei_key=nuclei_key, platform=used["platform"], expansions_um=expansions_um)
    for threshold, name in zip(thresholds, swept, strict=False):
        table.loc[name, "curve"] = _SWEPT
        table.loc[name, "threshold"] = threshold
    return table, remark


def _why_not_swept(uns: dict, thresholds: list[float]) -> str:
    height, width = uns["qc"]["grid_shape"]
    if not thresholds:
        return "No thresholds were asked for."
    if uns["parameters"]["method"] != "pretrained" or "regions" in uns:
        return "Other thresholds are left out: the method would have to be trained again for them."
    if height * width > _PIXELS:
        logger.warning("The report leaves other thresholds out: the sample is too large to segment it again for each.")
        return (
            f"Other thresholds are left out: the raster has {height * width / 1e6:.0f} Mpx, and each would be another "
            "run. Report on a part of the sample (spatialdata.bounding_box_query) for the curve."
        )
    return ""
