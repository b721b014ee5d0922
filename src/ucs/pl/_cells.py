"""Picture of cells, transcripts, nuclei and their image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._read.nuclei.of_sample import keys_of_nuclei
from ucs._read.nuclei.stain import find_stain
from ucs._read.sample import find_nuclei_key, find_source
from ucs._utils.checks import choose_one, listed
from ucs._utils.log import logger
from ucs.pl._artists import draw_image, draw_outlines, draw_scale_bar, draw_transcripts, set_limits
from ucs.pl._crop import crop_points, crop_polygons, crop_raster

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.source import Source
    from ucs.pl._crop import Bounds, CroppedPoints

LAYERS = ("image", "transcripts", "nuclei", "scale_bar")
_IMAGE_KEYS = ("morphology_focus", "morphology_mip", r"(?i:.*dapi.*)", r"(?i:.*morphology.*)", r"(?i:.*nucle.*)")


def cells(
    sdata: SpatialData,
    *,
    shapes_key: str = "ucs_boundaries",
    nuclei_key: str | None = None,
    points_key: str | Sequence[str] | None = None,
    image_key: str | None = None,
    channel: str | None = None,
    gene_key: str | None = None,
    color: str | Sequence[str] | Mapping[str, Any] = "gene",
    coordinate_system: str | None = None,
    bounds: Bounds | None = None,
    show: Collection[str] = LAYERS,
    platform: str | Platform = "auto",
    um_per_unit: float | None = None,
    max_transcripts: int = 200_000,
    outline: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the outlines of cells over their transcripts, with nuclei and their image if there are any.

    The axes have the intrinsic coordinates of the points, or, for several fields of view, those of their common
    coordinate system. Only what lies within ``bounds`` is read: the image at the scale that the figure can show, the
    points partition by partition.

    Parameters
    ----------
    sdata
        Object with cells and transcripts.
    shapes_key
        Key of the cells, shapes or labels.
    nuclei_key
        Key of the nuclei, shapes or labels; detected if None, and not drawn if there are none.
    points_key
        Key of the transcripts; detected if None.
    image_key
        Key of the image; that of a nuclear stain if None, and not drawn if there is none.
    channel
        Channel of the image. If None, ``"DAPI"``, another nuclear stain, or else the first one.
    gene_key
        Column with the gene of each transcript; detected if None.
    color
        Colour of the transcripts. ``"gene"``: each gene has its own. A list of genes, or a mapping from gene to colour:
        all other genes are grey. A colour of Matplotlib: all have this one.
    coordinate_system
        Coordinate system that the elements share; ``"global"`` or another one if None.
    bounds
        Part to show, ``(x_min, y_min, x_max, y_max)`` in the coordinates of the axes (um for Xenium); all if None.
    show
        Layers to draw beside the cells, any of ``"image"``, ``"transcripts"``, ``"nuclei"`` and ``"scale_bar"``.
    platform
        Platform, which determines the keys and units to expect, see :func:`ucs.tl.segment`.
    um_per_unit
        Length of the points' intrinsic unit in um; the platform's if None.
    max_transcripts
        Largest number of transcripts to draw; a random part if more lie within the bounds.
    outline
        Keywords for the outlines of the cells, a :class:`matplotlib.collections.LineCollection`.
    ax
        Axes to draw into; those of a new figure if None.

    Returns
    -------
    The axes, with y pointing down as in images.

    Raises
    ------
    KeyError
        If an element, a column or a channel is missing.
    ValueError
        If elements share no coordinate system, ``bounds`` is no rectangle or holds nothing, or an option is unknown.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> ax = ucs.pl.cells(sdata, shapes_key="true_cells", bounds=(0, 0, 40, 40), color=["GENE0001", "GENE0002"])
    """
    _check_options(show, color)
    shapes_key = choose_one(
        shapes_key, [*sdata.shapes, *sdata.labels], (), argument="shapes_key", what="shapes or labels element"
    )
    source = find_source(
        sdata,
        points_key,
        platform=platform,
        coordinate_system=coordinate_system,
        gene_key=gene_key,
        um_per_unit=um_per_unit,
    )
    image_keys = _find_images(sdata, source, image_key) if "image" in show else []
    nuclei_keys = _find_nuclei(sdata, source, nuclei_key) if "nuclei" in show else []
    limit = max_transcripts if "transcripts" in show else 0
    asked = _checked_bounds(bounds)
    points = crop_points(sdata, source, asked, limit=limit)
    shown = asked or points.extent

    def crop(key: str, **options: Any) -> Any:
        to_frame = source.to_frame(sdata, key, coordinate_system=coordinate_system)
        read = crop_raster if key in sdata.images else crop_polygons
        return read(sdata[key], to_frame, shown, **options)

    # Everything is read before anything is drawn, so that an error leaves no empty figure behind.
    outlines = crop(shapes_key)
    _check_not_empty(points, outlines, shown)
    nuclei = [crop(key) for key in nuclei_keys]
    images = [crop(key, channel=_channel_number(sdata, key, channel)) for key in image_keys]

    ax = _axes(shown) if ax is None else ax
    for image in images:
        draw_image(ax, *image)
    set_limits(ax, shown, source.um_per_unit)
    if points.n_within > limit > 0:
        logger.info("Drawing %d of %d transcripts, at random.", limit, points.n_within)
    draw_transcripts(ax, points.frame, color, shown, source.um_per_unit)
    for of_element in nuclei:
        draw_outlines(ax, of_element, {"colors": "#1f6fd6", "linewidths": 0.6, "zorder": 3})
    draw_outlines(ax, outlines, {"colors": "black", "linewidths": 1.0, "zorder": 4} | dict(outline or {}))
    if "scale_bar" in show:
        draw_scale_bar(ax, source.um_per_unit)
    return ax


def _check_options(show: Collection[str], color: str | Sequence[str] | Mapping[str, Any]) -> None:
    from matplotlib.colors import is_color_like

    unknown = sorted(set(show) - set(LAYERS))
    if unknown or isinstance(show, str):
        msg = f"show={show!r} must be a collection of layers; known are {listed(LAYERS)}."
        raise ValueError(msg)
    if isinstance(color, str) and color != "gene" and not is_color_like(color):
        msg = f"color={color!r} is neither 'gene', nor a list of genes, nor a colour of Matplotlib."
        raise ValueError(msg)


def _check_not_empty(points: CroppedPoints, outlines: NDArray, bounds: Bounds) -> None:
    if points.n_within == 0 and len(outlines) == 0:
        extent = tuple(round(value, 1) for value in points.extent)
        msg = f"bounds={bounds} holds neither transcripts nor cells; the transcripts lie in {extent}."
        raise ValueError(msg)


def _channel_number(sdata: SpatialData, image_key: str, channel: str | None) -> int:
    from spatialdata.models import get_channel_names

    names = [str(name) for name in get_channel_names(sdata.images[image_key])]
    if channel is None:
        return names.index("DAPI") if "DAPI" in names else _stain_number(sdata, image_key)
    if channel not in names:
        msg = f"channel={channel!r} is not in images[{image_key!r}]; there are: {listed(names)}."
        raise KeyError(msg)
    return names.index(channel)


def _stain_number(sdata: SpatialData, image_key: str) -> int:
    try:
        return find_stain(sdata, image_key, None).positions[0]
    except (KeyError, ValueError):
        return 0


def _checked_bounds(bounds: Sequence[float] | None) -> Bounds | None:
    if bounds is None:
        return None
    values = np.asarray(bounds, dtype=np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or not (values[:2] < values[2:]).all():
        msg = f"bounds={bounds!r} must be (x_min, y_min, x_max, y_max) with x_min < x_max and y_min < y_max."
        raise ValueError(msg)
    x_min, y_min, x_max, y_max = values.tolist()
    return x_min, y_min, x_max, y_max


def _find_images(sdata: SpatialData, source: Source, image_key: str | None) -> list[str]:
    """Return the image given, or those (one per field of view) whose name or channels tell that they show nuclei."""
    if image_key is None and source.by_field:
        return [key for key in keys_of_nuclei(source, source.platform.image_key or "") if key in sdata.images]
    try:
        what = "image of the nuclei"
        return [choose_one(image_key, list(sdata.images), _IMAGE_KEYS, argument="image_key", what=what)]
    except (KeyError, ValueError):
        if image_key is not None:
            raise
    try:
        return [find_stain(sdata, None, None).key]
    except (KeyError, ValueError):
        return []


def _find_nuclei(sdata: SpatialData, source: Source, nuclei_key: str | None) -> list[str]:
    """Return the nuclei given, or those of the platform (one element per field of view), if there are any."""
    try:
        found = find_nuclei_key(sdata, source, nuclei_key)
    except (KeyError, ValueError):
        if nuclei_key is not None:
            raise
        return []
    return [key for key in keys_of_nuclei(source, found) if key in sdata]


def _axes(bounds: Bounds) -> Axes:
    from matplotlib import pyplot as plt

    aspect = np.clip((bounds[3] - bounds[1]) / (bounds[2] - bounds[0]), 0.25, 4)
    _, ax = plt.subplots(figsize=(8 / max(aspect, 1), 8 * min(aspect, 1)), layout="constrained")
    return ax
