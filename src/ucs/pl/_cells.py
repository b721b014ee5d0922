"""Picture of cells, transcripts, nuclei and their image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._read.nuclei.of_sample import keys_of_nuclei
from ucs._read.sample import find_nuclei_key, find_source
from ucs._utils.checks import choose_one, listed
from ucs._utils.log import logger
from ucs.pl._artists import (
    NUCLEUS_COLOR,
    draw_density,
    draw_image,
    draw_outlines,
    draw_scale_bar,
    draw_transcripts,
    set_limits,
)
from ucs.pl._crop import crop_points, crop_polygons, crop_raster
from ucs.pl._fill import draw_fill, fill_of
from ucs.pl._images import as_picture, find_channels, find_images

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.source import Source
    from ucs.pl._crop import Bounds, CroppedPoints

LAYERS = ("image", "transcripts", "nuclei", "scale_bar")


def cells(
    sdata: SpatialData,
    *,
    shapes_key: str = "ucs_boundaries",
    nuclei_key: str | None = None,
    points_key: str | Sequence[str] | None = None,
    image_key: str | None = None,
    channel: str | Sequence[str] | None = None,
    gene_key: str | None = None,
    color: str | Sequence[str] | Mapping[str, Any] | None = None,
    fill: str | None = None,
    fill_range: tuple[float, float] | None = None,
    table_key: str | None = None,
    smooth: bool = True,
    coordinate_system: str | None = None,
    bounds: Bounds | None = None,
    show: Collection[str] = LAYERS,
    platform: str | Platform = "auto",
    um_per_unit: float | None = None,
    max_transcripts: int = 200_000,
    outline: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the outlines of cells over the density of transcripts, with nuclei and their image if there are any.

    Chosen genes (``color=["KRT7", "ACTA2"]``) or values of the cells (``fill="cell_type"``) are drawn instead if they
    are asked for. The axes have the intrinsic coordinates of the points, or, for several fields of view, those of their
    common coordinate system. Only what lies within ``bounds`` is read: the image at the scale that the figure can show,
    the points partition by partition.

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
        Key of the image; that of a nuclear stain if None, and not drawn if there is none. Pictures in red, green and
        blue (H&E) keep their colours.
    channel
        Channel of the image; several are drawn in colours on black. If None, ``"DAPI"``, another nuclear stain, or else
        the first one.
    gene_key
        Column with the gene of each transcript; detected if None.
    color
        How transcripts are drawn. ``"density"``: as a map of their density. A list of genes, or a mapping from gene to
        colour: as dots, those of all other genes small and grey. ``"gene"``: each gene has its own colour. A colour of
        Matplotlib: all have this one. If None, ``"density"``, or not at all where cells are filled or the image has
        colours.
    fill
        Column of ``obs``, or a gene, that cells are filled by: categories with a legend (colours of
        ``uns[f"{fill}_colors"]`` if they are there), numbers with a colour bar.
    fill_range
        Numbers at the ends of the colour bar; those of the cells if None.
    table_key
        Table with ``fill``; the one that annotates the cells if None.
    smooth
        Whether outlines of labels are smooth. Outlines that :func:`ucs.tl.segment` has drawn along the edges of pixels
        are drawn from its labels.
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
        If an element, a column, a channel or a gene is missing.
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
    values = None if fill is None else fill_of(sdata, shapes_key, fill, table_key)
    source = find_source(
        sdata,
        points_key,
        platform=platform,
        coordinate_system=coordinate_system,
        gene_key=gene_key,
        um_per_unit=um_per_unit,
    )
    image_keys = find_images(sdata, source, image_key) if "image" in show else []
    nuclei_keys = _find_nuclei(sdata, source, nuclei_key) if "nuclei" in show else []
    channels = [find_channels(sdata, key, channel) for key in image_keys]
    if color is None and fill is None and not any(each.in_color for each in channels):
        color = "density"
    limit = max_transcripts if "transcripts" in show and color is not None else 0
    asked = _checked_bounds(bounds)
    points = crop_points(sdata, source, asked, limit=limit)
    _check_genes(color, points.genes)
    shown = asked or points.extent

    def crop(key: str, **options: Any) -> Any:
        to_frame = source.to_frame(sdata, key, coordinate_system=coordinate_system)
        read = crop_raster if key in sdata.images else crop_polygons
        return read(sdata[key], to_frame, shown, **options)

    # Everything is read before anything is drawn, so that an error leaves no empty figure behind.
    outlines, ids = crop(_drawn_from(sdata, shapes_key) if smooth else shapes_key, smooth=smooth)
    _check_not_empty(points, outlines, shown)
    nuclei = [crop(key, smooth=smooth)[0] for key in nuclei_keys]
    images = [crop(key, channels=of.numbers) for key, of in zip(image_keys, channels, strict=True)]

    ax = _axes(shown) if ax is None else ax
    for (pixels, to_points), of in zip(images, channels, strict=True):
        if pixels.size:
            picture, style = as_picture(pixels, of)
            draw_image(ax, picture, to_points, **style)
    set_limits(ax, shown, source.um_per_unit)
    if color is not None and color != "density" and points.n_within > limit > 0:
        logger.info("Drawing %d of %d transcripts, at random.", limit, points.n_within)
    if color == "density" and limit:
        draw_density(ax, points.frame, len(points.frame) / max(points.n_within, 1), shown, source.um_per_unit)
    elif color is not None:
        draw_transcripts(ax, points.frame, color, shown, source.um_per_unit)
    if values is not None:
        draw_fill(ax, outlines, values.reindex(ids.astype(values.index.dtype)), clim=fill_range)
    for of_element in nuclei:
        draw_outlines(ax, of_element, {"colors": NUCLEUS_COLOR, "linewidths": 0.6, "zorder": 3})
    line_color = "white" if any(each.is_dark for each in channels) else "black"
    draw_outlines(ax, outlines, {"colors": line_color, "linewidths": 1.0, "zorder": 4} | dict(outline or {}))
    if "scale_bar" in show:
        draw_scale_bar(ax, source.um_per_unit)
    return ax


def _drawn_from(sdata: SpatialData, shapes_key: str) -> str:
    """Return the labels that outlines along pixel edges were traced from, and other elements as they are."""
    for table in sdata.tables.values():
        keys = table.uns.get("ucs", {}).get("parameters", {}).get("key_added", {})
        traced = keys.get("shapes") == shapes_key and keys.get("outlines") == "pixels"
        if traced and keys.get("labels") in sdata.labels:
            return str(keys["labels"])
    return shapes_key


def _check_options(show: Collection[str], color: str | Sequence[str] | Mapping[str, Any] | None) -> None:
    from matplotlib.colors import is_color_like

    unknown = sorted(set(show) - set(LAYERS))
    if unknown or isinstance(show, str):
        msg = f"show={show!r} must be a collection of layers; known are {listed(LAYERS)}."
        raise ValueError(msg)
    if isinstance(color, str) and color not in ("density", "gene") and not is_color_like(color):
        msg = (
            f"color={color!r} is neither 'density' nor 'gene', nor a colour of Matplotlib. "
            f"For a gene pass a list: color=[{color!r}]."
        )
        raise ValueError(msg)


def _check_genes(color: str | Sequence[str] | Mapping[str, Any] | None, genes: frozenset[str]) -> None:
    from difflib import get_close_matches

    unknown = [] if color is None or isinstance(color, str) else [gene for gene in color if gene not in genes]
    if unknown:
        by_upper = {gene.upper(): gene for gene in sorted(genes)}
        close = (get_close_matches(str(gene).upper(), by_upper, cutoff=0.5) for gene in unknown)
        near = [by_upper[name] for names in close for name in names]
        msg = f"color names genes that no transcript has: {listed(unknown)}. Near: {listed(dict.fromkeys(near))}."
        raise KeyError(msg)


def _check_not_empty(points: CroppedPoints, outlines: NDArray, bounds: Bounds) -> None:
    if points.n_within == 0 and len(outlines) == 0:
        extent = tuple(round(value, 1) for value in points.extent)
        msg = f"bounds={bounds} holds neither transcripts nor cells; the transcripts lie in {extent}."
        raise ValueError(msg)


def _checked_bounds(bounds: Sequence[float] | None) -> Bounds | None:
    if bounds is None:
        return None
    values = np.asarray(bounds, dtype=np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or not (values[:2] < values[2:]).all():
        msg = f"bounds={bounds!r} must be (x_min, y_min, x_max, y_max) with x_min < x_max and y_min < y_max."
        raise ValueError(msg)
    x_min, y_min, x_max, y_max = values.tolist()
    return x_min, y_min, x_max, y_max


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
    # Wider than the tissue, for what stands beside it.
    _, ax = plt.subplots(figsize=(8 / max(aspect, 1) + 1.8, 8 * min(aspect, 1)), layout="constrained")
    return ax
