"""What the package assumes about each platform's data, and how a platform is recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ucs._checks import choose_one, listed

if TYPE_CHECKING:
    from dask.dataframe import DataFrame as DaskDataFrame
    from spatialdata import SpatialData


@dataclass(frozen=True)
class Platform:
    """Conventions of one platform's SpatialData layout.

    Attributes
    ----------
    name
        As given to ``platform=``.
    um_per_unit
        Length of the points' intrinsic unit in um.
    resolution
        Side of a pixel in um, if none is asked for.
    points_keys, nuclei_keys
        Patterns (regular expressions, whole names) of the elements, the preferred one first.
    gene_columns
        Names of the column with the gene of a transcript, the preferred one first.
    count_columns
        Names of a column with the number of molecules that a row stands for.
    quality_column, minimum_quality
        Rows below this value of this column (if it is there) are left out.
    controls
        Pattern of the features that are no genes: counted, but never seen by the nets.
    """

    name: str
    um_per_unit: float
    resolution: float
    points_keys: tuple[str, ...]
    nuclei_keys: tuple[str, ...]
    gene_columns: tuple[str, ...]
    count_columns: tuple[str, ...] = ()
    quality_column: str | None = None
    minimum_quality: float = 0.0
    controls: str = r"(?!)"

    def is_control(self, feature: str) -> bool:
        """Tell whether a feature is a control."""
        return re.match(self.controls, feature) is not None


_CONTROLS = (
    r"NegControl|NegPrb|Negative|SystemControl|FalseCode|antisense_|BLANK|Blank-|UnassignedCodeword|DeprecatedCodeword|"
    r"Intergenic"
)

XENIUM = Platform(
    name="xenium",
    um_per_unit=1.0,
    resolution=1.0,
    points_keys=("transcripts",),
    nuclei_keys=("nucleus_labels", "nucleus_boundaries"),
    gene_columns=("feature_name",),
    quality_column="qv",
    minimum_quality=20.0,
    controls=_CONTROLS,
)

GENERIC = Platform(
    name="generic",
    um_per_unit=1.0,
    resolution=1.0,
    points_keys=("transcripts", ".*transcripts.*", ".*"),
    nuclei_keys=(r"nucle(us|i)_labels", r"nucle(us|i)(_boundaries|_polygons)?", r"(?i:.*nucle.*)"),
    gene_columns=("feature_name", "gene", "gene_name", "target", "feature", "genes"),
    count_columns=("count", "counts", "MIDCounts", "MIDCount", "UMICount", "UMICounts"),
    controls=_CONTROLS,
)

PLATFORMS = {platform.name: platform for platform in (XENIUM, GENERIC)}


def resolve_platform(sdata: SpatialData, platform: str | Platform, points_key: str | None) -> Platform:
    """Return the named platform, or recognise it.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(platform, Platform):
        return platform
    if platform == "auto":
        return XENIUM if _looks_like_xenium(sdata, points_key or "transcripts") else GENERIC
    if platform not in PLATFORMS:
        msg = f"platform={platform!r} is unknown; known are 'auto', {listed(PLATFORMS)}."
        raise ValueError(msg)
    return PLATFORMS[platform]


def _looks_like_xenium(sdata: SpatialData, points_key: str) -> bool:
    if sdata.attrs.get("spatialdata_io_reader") == "xenium":
        return True
    return points_key in sdata.points and {"feature_name", "qv"} <= set(sdata.points[points_key].columns)


def resolve_points_key(sdata: SpatialData, platform: Platform, points_key: str | None) -> str:
    """Return the key of the transcripts.

    Raises
    ------
    KeyError
        If the key is not there, or none fits.
    ValueError
        If several fit equally well.
    """
    available = list(sdata.points)
    return choose_one(points_key, available, platform.points_keys, argument="points_key", what="points element")


def resolve_nuclei_key(sdata: SpatialData, platform: Platform, nuclei_key: str | None) -> str:
    """Return the key of the nuclei, a labels or a shapes element.

    Raises
    ------
    KeyError
        If the key is not there, or none fits.
    ValueError
        If several fit equally well.
    """
    available = [*sdata.labels, *sdata.shapes]
    return choose_one(
        nuclei_key, available, platform.nuclei_keys, argument="nuclei_key", what="labels or shapes element with nuclei"
    )


def resolve_gene_key(points: DaskDataFrame, platform: Platform, gene_key: str | None, points_key: str) -> str:
    """Return the column with the gene of each transcript.

    The column given, else the one that the points element itself names as its feature key, else the platform's.

    Raises
    ------
    KeyError
        If there is no such column.
    """
    columns = list(points.columns)
    named = points.attrs.get("spatialdata_attrs", {}).get("feature_key")
    candidates = [gene_key] if gene_key is not None else [named, *platform.gene_columns]
    for candidate in candidates:
        if candidate in columns:
            return candidate
    msg = (
        f"No gene column in points[{points_key!r}]: looked for {listed(c for c in candidates if c)}, found "
        f"{listed(columns)}. Name it with gene_key=."
    )
    raise KeyError(msg)
