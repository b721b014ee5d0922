"""Maps of what a segmentation is sure of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._read.sample import find_source
from ucs._utils.checks import listed
from ucs.pl._artists import color_bar, draw_image
from ucs.pl._cells import cells
from ucs.pl._crop import crop_raster

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

_CONFIDENCE = (0.4, 1.0)  # the same colours in every picture; few cells lie below


def confidence(sdata: SpatialData, *, shapes_key: str = "ucs_boundaries", **options: Any) -> Axes:
    """Draw cells filled by their confidence: the mean probability that what lies in a cell comes from it.

    Parameters
    ----------
    sdata
        Object with cells of :func:`ucs.tl.segment`.
    shapes_key
        Key of the cells.
    **options
        Further arguments of :func:`cells`.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If cells, their table or its column ``confidence`` are missing; and as :func:`cells`.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=80, height_um=80, n_genes=30, seed=0)
    >>> ucs.tl.segment(sdata, progress=False)
    >>> ax = ucs.pl.confidence(sdata)
    """
    defaults = {"show": ("scale_bar",), "fill_range": _CONFIDENCE}
    return cells(sdata, shapes_key=shapes_key, fill="confidence", **(defaults | options))


def foreground(
    sdata: SpatialData, *, foreground_key: str = "ucs_foreground", shapes_key: str = "ucs_boundaries", **options: Any
) -> Axes:
    """Draw the probability of lying in a cell as a map, with the outlines of the cells on it.

    Parameters
    ----------
    sdata
        Object with cells of :func:`ucs.tl.segment`, called with ``key_added={"foreground": "ucs_foreground"}``.
    foreground_key
        Key of the image of the probability.
    shapes_key
        Key of the cells.
    **options
        Further arguments of :func:`cells`.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If the image or the cells are missing; and as :func:`cells`.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=80, height_um=80, n_genes=30, seed=0)
    >>> ucs.tl.segment(sdata, key_added={"foreground": "ucs_foreground"}, progress=False)
    >>> ax = ucs.pl.foreground(sdata)
    """
    if foreground_key not in sdata.images:
        msg = (
            f"foreground_key={foreground_key!r} is not an image of this SpatialData; there are: "
            f"{listed(sdata.images)}. ucs.tl.segment(sdata, key_added={{'foreground': {foreground_key!r}}}) adds it."
        )
        raise KeyError(msg)
    defaults = {"show": ("scale_bar",), "outline": {"linewidths": 0.8}}
    ax = cells(sdata, shapes_key=shapes_key, **(defaults | options))
    (x_min, x_max), (y_max, y_min) = ax.get_xlim(), ax.get_ylim()
    named = ("platform", "coordinate_system", "gene_key", "um_per_unit")
    source = find_source(
        sdata, options.get("points_key"), **{"platform": "auto"} | {k: v for k, v in options.items() if k in named}
    )
    to_frame = source.to_frame(sdata, foreground_key, coordinate_system=options.get("coordinate_system"))
    pixels, to_points = crop_raster(sdata[foreground_key], to_frame, (x_min, y_min, x_max, y_max), channels=[0])
    shown = draw_image(ax, pixels[0], to_points, cmap="PuBu", vmin=0, vmax=1)
    ax.set(xlim=(x_min, x_max), ylim=(y_max, y_min))  # an image changes them
    color_bar(ax, shown, "probability of lying in a cell")
    return ax
