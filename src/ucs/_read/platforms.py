"""Conventions of each platform's data, and how a platform is recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ucs._utils.checks import choose_one, listed, natural_order, reading_option
from ucs._utils.transformations import near

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from dask.dataframe import DataFrame as DaskDataFrame
    from spatialdata import SpatialData


FOV = "{fov}"
"""Placeholder for the name of a field of view in the keys of elements."""


@dataclass(frozen=True)
class Platform:
    """Conventions of one platform's SpatialData layout.

    Attributes
    ----------
    name
        Name, as passed to ``platform=``.
    um_per_unit
        Length of the points' intrinsic unit in um.
    resolution
        Default side of a pixel in um.
    points_keys, nuclei_keys
        Regular expressions for the whole keys of the elements, the preferred one first. If there is one points element
        per field of view, the group ``fov`` of the pattern is the name of the field, and ``{fov}`` is its placeholder
        in the keys of nuclei, ``image_key`` and ``cell_labels_key``.
    image_um, known_images
        Side of the pixels of its images in um, None if it is not always the same, and patterns of their keys.
    table_keys
        Patterns of the tables with binned counts.
    bin_um
        Side of these bins in um.
    gene_columns
        Columns with the gene of a transcript, the preferred one first.
    count_columns
        Columns with the number of molecules of a row.
    quality_column, minimum_quality
        Rows with a lower value in this column, if it exists, are dropped.
    plane_columns
        Columns with the z plane of a transcript, the preferred one first; empty if there are no planes.
    controls
        Pattern of control features: counted, but not used for segmentation.
    is_gene_column, category_column, gene_category
        Columns, if they exist, that mark a row's feature as a gene: a boolean, or a category that matches the pattern.
        Other features are controls.
    image_key, stain_images, stain_channel
        Key of the image of a field of view; patterns of images that show a nuclear stain only; position of the nuclear
        stain in images without channel names.
    cell_labels_key, nuclear_rows
        Key of the vendor's cells in a field of view; column of the points, and its value for transcripts in nuclei.
    shared_nucleus_ids
        Whether several polygons of nuclei may share the id of their cell.
    readers
        Names that readers of this platform leave in ``sdata.attrs["spatialdata_io_reader"]``.
    signature
        Columns by which the points of this platform are recognised without a reader's name.
    params
        Parameters that differ from the defaults, by method.
    thresholds
        Default of ``threshold``, by method, where it differs from that of the method.
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
    plane_columns: tuple[str, ...] = ()
    controls: str = r"(?!)"
    is_gene_column: str | None = None
    category_column: str | None = None
    gene_category: str = r".*"
    image_um: float | None = None
    known_images: tuple[str, ...] = ()
    table_keys: tuple[str, ...] = ()
    bin_um: float | None = None
    image_key: str | None = None
    stain_images: tuple[str, ...] = ()
    stain_channel: int | None = None
    cell_labels_key: str | None = None
    nuclear_rows: tuple[str, str] | None = None
    shared_nucleus_ids: bool = False
    readers: tuple[str, ...] = ()
    signature: frozenset[str] = frozenset()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def is_control(self, feature: str) -> bool:
        """Return whether a feature is a control."""
        return re.match(self.controls, feature) is not None


_CONTROLS = (
    r"NegControl|NegPrb|Negative|SystemControl|FalseCode|antisense_|BLANK|Blank-|UnassignedCodeword|DeprecatedCodeword|"
    r"Intergenic|(?i:genomic[ _-]?control|neg(ative)?[ _-]?(control|ctrl|prb|probe)|negative|system[ _-]?control|"
    r"false[ _-]?code|antisense[_-]|blank(?=[ _-]|\d|$)|unassigned[ _-]?codeword|deprecated[ _-]?codeword|"
    r"intergenic)"
)

_NUCLEI = (r"nucle(us|i)_labels", r"nucle(us|i)(_boundaries|_polygons)?", r"(?i:.*nucle.*)")

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
    is_gene_column="is_gene",
    category_column="codeword_category",
    gene_category=r"(predesigned|custom)_gene",
    image_um=0.2125,
    known_images=(r"morphology.*",),
    shared_nucleus_ids=True,
    readers=("xenium",),
    signature=frozenset({"feature_name", "qv"}),
)

MERSCOPE = Platform(
    name="merscope",
    um_per_unit=1.0,
    resolution=1.0,
    points_keys=(r".+_transcripts",),
    nuclei_keys=_NUCLEI,
    gene_columns=("gene",),
    plane_columns=("z", "global_z"),  # the reader makes `z` of the vendor's `global_z`
    controls=_CONTROLS,
    readers=("merscope",),
    signature=frozenset({"gene"}),
)

COSMX = Platform(
    name="cosmx",
    um_per_unit=0.12028,  # unless the object states or implies another: see ucs._read.unit
    resolution=0.5,
    points_keys=(r"(?P<fov>.+)_points",),
    nuclei_keys=("{fov}_nucleus_labels", "{fov}_nuclei", "{fov}_ucs_nuclei", *_NUCLEI[:2]),
    gene_columns=("target",),
    plane_columns=("z", "z_raw"),  # the reader makes `z_raw` of the vendor's `z`
    controls=_CONTROLS,
    image_key="{fov}_image",
    stain_channel=2,  # the composite is an RGB picture with DAPI in blue
    cell_labels_key="{fov}_labels",
    nuclear_rows=("CellComp", "Nuclear"),
    readers=("cosmx",),
    signature=frozenset({"target", "fov"}),
)

STEREOSEQ = Platform(
    name="stereoseq",
    um_per_unit=0.5,  # distance of two DNA nanoballs
    resolution=0.5,
    points_keys=("bin1_genes",),
    nuclei_keys=_NUCLEI,
    gene_columns=("gene",),
    count_columns=("count",),
    controls=_CONTROLS,
    table_keys=("bin1_table",),
    stain_images=(r".*_regist",),
    readers=("stereoseq",),
    signature=frozenset({"gene", "count"}),
    params={"paper": {"foreground_weights": (5.0, 1.0), "cell_weights": (5.0, 1.0)}},  # paper: w1 = w3 = 5
)

VISIUM_HD = Platform(
    name="visium_hd",
    um_per_unit=1.0,
    resolution=2.0,
    points_keys=(),
    nuclei_keys=(r".+_nucleus_segmentations", *_NUCLEI),
    gene_columns=(),
    controls=_CONTROLS,
    table_keys=(r"(.+_)?square_002um",),
    bin_um=2.0,
    readers=("visium_hd",),
)

GENERIC = Platform(
    name="generic",
    um_per_unit=1.0,
    resolution=1.0,
    points_keys=("transcripts", ".*transcripts.*", ".*"),
    nuclei_keys=_NUCLEI,
    gene_columns=("feature_name", "gene", "gene_name", "target", "feature", "genes"),
    count_columns=("count", "counts", "MIDCounts", "MIDCount", "UMICount", "UMICounts"),
    plane_columns=("z", "global_z", "z_raw"),
    controls=_CONTROLS,
)

PLATFORMS = {platform.name: platform for platform in (XENIUM, MERSCOPE, COSMX, STEREOSEQ, VISIUM_HD, GENERIC)}


def resolve_platform(sdata: SpatialData, platform: str | Platform, points_key: str | Sequence[str] | None) -> Platform:
    """Return the named platform, or the one that is recognised for ``"auto"``.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(platform, Platform):
        return platform
    if platform == "auto":
        return recognise(sdata, points_key)[0]
    if platform not in PLATFORMS:
        msg = f"platform={platform!r} is unknown; known are 'auto', {listed(PLATFORMS)}."
        raise ValueError(msg)
    return PLATFORMS[platform]


def recognise(sdata: SpatialData, points_key: str | Sequence[str] | None = None) -> tuple[Platform, str]:
    """Recognise the platform by the reader's name, then by keys and columns of the points; also return the reason."""
    reader = sdata.attrs.get("spatialdata_io_reader")
    for platform in PLATFORMS.values():
        if reader in platform.readers:
            return platform, f"its reader has signed: attrs['spatialdata_io_reader'] is {reader!r}"
    given = [points_key] if isinstance(points_key, str) else points_key
    keys = [key for key in sdata.points if given is None or key in given]
    for platform in PLATFORMS.values():
        for key in keys:
            # If the user names the key, the key says nothing: then only a column as specific as a quality counts.
            named = given is not None and platform.quality_column is not None
            named |= any(re.fullmatch(pattern, key) for pattern in platform.points_keys)
            if platform.signature and named and platform.signature <= set(sdata.points[key].columns):
                return platform, f"points {key!r} have the columns {listed(sorted(platform.signature))}"
    tables = [key for key in sdata.tables if given is None or key in given]
    for platform in PLATFORMS.values():
        for key in tables:
            if any(re.fullmatch(pattern, key) for pattern in platform.table_keys):
                return platform, f"there is a table {key!r}"
    return GENERIC, "no reader has signed, and names and columns are those of no platform"


def platforms() -> pd.DataFrame:
    """Return the platforms as a table; see :func:`ucs.platforms`."""
    import pandas as pd

    return pd.DataFrame([_described(platform) for platform in PLATFORMS.values()]).set_index("name")


def _described(platform: Platform) -> dict[str, Any]:
    """Return what people need to know of a platform."""
    quality = f"{platform.quality_column} >= {platform.minimum_quality:g}" if platform.quality_column else ""
    return {
        "name": platform.name,
        "transcripts": ", ".join(_readable(key) for key in platform.points_keys or platform.table_keys),
        "nuclei": ", ".join(_readable(key) for key in platform.nuclei_keys),
        "gene column": " or ".join(platform.gene_columns),
        "count column": " or ".join(platform.count_columns),
        "quality": quality,
        "z planes": " or ".join(platform.plane_columns),
        "um per unit": platform.um_per_unit,
        "resolution in um": platform.bin_um or platform.resolution,
        "readers": ", ".join(platform.readers),
        "parameters": platform.params,
    }


def _readable(pattern: str) -> str:
    """Return the pattern of a key as people write it: ``*`` for any text."""
    pattern = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", pattern)
    pattern = re.sub(r"\(\?i:(.*)\)", r"\1", pattern)
    pattern = re.sub(r"\((\w+)\|(\w+)\)\??", r"\1", pattern)  # either spelling
    pattern = re.sub(r"\([^()]*\)\?", "*", pattern)
    return re.sub(r"\.[+*]", "*", pattern)


def pattern_of(template: str) -> str:
    """Return the pattern of the keys that a key with ``{fov}`` represents."""
    return re.escape(template).replace(re.escape(FOV), "(?P<fov>.+)")


def fields_of_view(pattern: str, available: Iterable[str]) -> dict[str, str]:
    """Return the keys that match a pattern with a group ``fov``, by the names of their fields, 2 before 10."""
    if "(?P<fov>" not in pattern:
        return {}
    found = {match["fov"]: match[0] for match in (re.fullmatch(pattern, key) for key in available) if match}
    return {name: found[name] for name in sorted(found, key=natural_order)}


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


def resolve_nuclei_key(
    sdata: SpatialData,
    platform: Platform,
    nuclei_key: str | None,
    points_keys: Sequence[str] = (),
    *,
    without: Sequence[str] = (),
) -> str:
    """Return the key of the nuclei, a labels or a shapes element.

    Only elements that share a coordinate system with the points are candidates, if any do, and those of ``without``
    are none.

    Raises
    ------
    KeyError
        If the key is not there, or none fits.
    ValueError
        If several fit equally well.
    """
    available = [*sdata.labels, *sdata.shapes]
    if nuclei_key is None:
        available = [key for key in near(sdata, available, points_keys) if key not in without]
    return choose_one(
        nuclei_key, available, platform.nuclei_keys, argument="nuclei_key", what="labels or shapes element with nuclei"
    )


def resolve_gene_key(points: DaskDataFrame, platform: Platform, gene_key: str | None, points_key: str) -> str:
    """Return the column with the gene of each transcript.

    This is the given column, else the feature key of the points element, else the platform's.

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
            return str.__str__(candidate)  # readers may leave an enum of strings, which no store takes
    msg = (
        f"No gene column in points[{points_key!r}]: looked for {listed(c for c in candidates if c)}, found "
        f"{listed(columns)}. Name it: {reading_option('gene_key', _example(points))}."
    )
    raise KeyError(msg)


def _example(points: DaskDataFrame) -> str:
    """Return the first column that could hold genes, as an example for a message."""
    text = [str(column) for column, dtype in points.dtypes.items() if dtype.kind not in "biuf"]
    return text[0] if text else "..."
