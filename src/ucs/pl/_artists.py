"""Layers of a picture, each drawn into axes in the points' intrinsic coordinates."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

    from ucs.pl._crop import Bounds

NUCLEUS_COLOR = "#1f6fd6"
_OTHER_GENES = "#b9b9b9"
_DOT_UM = 0.8  # diameter of the dot of a transcript: most transcripts within a cell stay apart
_DOT_POINTS = (0.6, 4.0)  # smallest and largest diameter on paper
_MAX_LEGEND = 20  # names; the legend of more is longer than the picture
_DENSITY_SMOOTH_UM = 1.5  # between the distance of neighbouring transcripts and the size of a cell
_DENSITY_SIDE = 400  # pixels along the longer side of a map of density, at most


def set_limits(ax: Axes, bounds: Bounds, um_per_unit: float) -> None:
    """Set the axes to the bounds, with y pointing down and equal scales."""
    x_min, y_min, x_max, y_max = bounds
    ax.set(xlim=(x_min, x_max), ylim=(y_max, y_min), aspect="equal")
    unit = " (um)" if um_per_unit == 1 else ""
    ax.set(xlabel=f"x{unit}", ylabel=f"y{unit}")
    ax.locator_params(nbins=5)


def draw_image(ax: Axes, pixels: NDArray, to_points: NDArray[np.float64], **style: Any) -> Any:
    """Draw pixels ``(h, w)`` or ``(h, w, 3)``; ``to_points`` is ``(3, 3)`` from them to the axes."""
    from matplotlib.transforms import Affine2D

    height, width = pixels.shape[:2]
    placed: dict[str, Any] = {"extent": (0, width, height, 0), "transform": Affine2D(to_points) + ax.transData}
    return ax.imshow(pixels, **placed, **({"zorder": 0} | style))


def draw_density(ax: Axes, frame: DataFrame, share: float, bounds: Bounds, um_per_unit: float) -> None:
    """Draw the density of transcripts, smoothed, as a transparent map with its colour bar.

    Parameters
    ----------
    ax
        Axes with limits set.
    frame
        Columns ``x`` and ``y`` of some of the transcripts.
    share
        Which share of all transcripts they are.
    bounds, um_per_unit
        Of the axes.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from scipy.ndimage import gaussian_filter

    x_min, y_min, x_max, y_max = bounds
    side = max(1 / um_per_unit, max(x_max - x_min, y_max - y_min) / _DENSITY_SIDE)
    shape = max(1, round((y_max - y_min) / side)), max(1, round((x_max - x_min) / side))
    counts, *_ = np.histogram2d(frame["y"], frame["x"], shape, ((y_min, y_max), (x_min, x_max)))
    px_area = (x_max - x_min) * (y_max - y_min) / counts.size * um_per_unit**2
    density = gaussian_filter(counts, _DENSITY_SMOOTH_UM / (side * um_per_unit)) / (px_area * max(share, 1e-9))
    colours = [(1.0, 0.78, 0.3, 0.0), (0.99, 0.6, 0.2, 0.55), (0.85, 0.25, 0.1, 0.8), (0.5, 0.02, 0.1, 0.9)]
    shown = draw_image(
        ax,
        density,
        np.array([[(x_max - x_min) / shape[1], 0, x_min], [0, (y_max - y_min) / shape[0], y_min], [0, 0, 1]]),
        cmap=LinearSegmentedColormap.from_list("transcripts", colours),
        vmin=0,
        vmax=max(float(np.percentile(density, 99.5)), 1e-9),
        interpolation="bilinear",
        zorder=1,
    )
    color_bar(ax, shown, r"transcripts per $\mathrm{\mu m^2}$")


def draw_transcripts(
    ax: Axes,
    frame: DataFrame,
    color: str | Sequence[str] | Mapping[str, Any],
    bounds: Bounds,
    um_per_unit: float,
) -> None:
    """Draw transcripts as dots of 0.8 um, within limits; see :func:`ucs.pl.cells` for ``color``."""
    from matplotlib.colors import to_rgba

    if frame.empty:
        return
    box = ax.get_window_extent()
    pixels_per_unit = min(box.width / (bounds[2] - bounds[0]), box.height / (bounds[3] - bounds[1]))
    diameter = np.clip(_DOT_UM / um_per_unit * pixels_per_unit * 72 / ax.figure.dpi, *_DOT_POINTS)
    style = {"s": diameter**2, "linewidths": 0, "rasterized": True}
    if isinstance(color, str) and color != "gene":
        ax.scatter(frame["x"], frame["y"], color=color, zorder=1, **style)
        return
    genes, code = np.unique(frame["gene"].to_numpy(dtype=str), return_inverse=True)
    of_gene = _palette(genes, color)
    named = np.array([gene in of_gene for gene in genes])[code]
    others = style | {"s": style["s"] / 3, "color": _OTHER_GENES, "zorder": 1}
    ax.scatter(frame["x"][~named], frame["y"][~named], **others)
    colors = np.array([to_rgba(of_gene.get(gene, _OTHER_GENES)) for gene in genes])
    ax.scatter(frame["x"][named], frame["y"][named], c=colors[code[named]], zorder=2.5, **style)
    if color != "gene":
        add_legend(ax, of_gene)


def _palette(genes: NDArray, color: str | Sequence[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the colour of each gene that has one."""
    if isinstance(color, str):
        return {gene: _gene_color(gene) for gene in genes}
    return color if isinstance(color, Mapping) else distinct_colors(color)


def distinct_colors(names: Sequence[str]) -> dict[str, Any]:
    """Return a colour for each name: of a palette for up to 20, else evenly spaced hues."""
    from matplotlib import colormaps

    if len(names) <= 20:
        cycle = colormaps["tab10" if len(names) <= 10 else "tab20"]
        return {name: cycle(k) for k, name in enumerate(names)}
    return {name: colormaps["turbo"](k / (len(names) - 1)) for k, name in enumerate(names)}


def _gene_color(gene: str) -> tuple[float, float, float]:
    """Return the colour of a gene. It depends on the name only, so that it is the same in every picture."""
    number = crc32(gene.encode())
    return colorsys.hsv_to_rgb(number % 997 / 997, 0.65 + 0.35 * (number // 997 % 2), 0.9 - 0.3 * (number // 1994 % 2))


def add_legend(ax: Axes, colors: Mapping[str, Any]) -> None:
    """Add a legend beside the axes; none for more than 20 names."""
    if 0 < len(colors) <= _MAX_LEGEND:
        for name, color in colors.items():
            ax.scatter([], [], color=color, s=25, label=name)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize="small", frameon=False)


def color_bar(ax: Axes, shown: Any, label: str) -> None:
    """Add a short colour bar beside the axes, at their lower end."""
    ax.figure.colorbar(shown, cax=ax.inset_axes((1.02, 0, 0.03, 0.5)), label=label)


def draw_outlines(ax: Axes, geometry: NDArray, style: Mapping[str, Any]) -> None:
    """Draw polygons as lines; ``style`` holds keywords of :class:`matplotlib.collections.LineCollection`."""
    import shapely
    from matplotlib.collections import LineCollection

    rings = shapely.get_rings(shapely.get_parts(geometry))
    ax.add_collection(LineCollection([shapely.get_coordinates(ring) for ring in rings], **style), autolim=False)


def fill_polygons(ax: Axes, geometry: NDArray, **style: Any) -> Any:
    """Fill polygons; ``style`` holds keywords of a collection, of which ``array`` or ``facecolors`` go by polygon."""
    import shapely
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    paths = []
    for polygon in geometry:
        rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(shapely.get_parts(polygon))]
        paths.append(Path.make_compound_path(*(Path(ring, closed=True) for ring in rings)))
    return ax.add_collection(PathCollection(paths, **({"linewidths": 0, "zorder": 2} | style)), autolim=False)


def draw_scale_bar(ax: Axes, um_per_unit: float) -> None:
    """Draw a bar of a round length of at most a fifth of the picture's width."""
    from matplotlib_scalebar.scalebar import ScaleBar

    ax.add_artist(ScaleBar(um_per_unit, "um", length_fraction=0.2, location="lower left", box_alpha=0.85)).set_zorder(5)
