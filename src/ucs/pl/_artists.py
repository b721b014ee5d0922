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

_OTHER_GENES = "#b9b9b9"
_DOT_UM = 0.8  # diameter of the dot of a transcript: most transcripts within a cell stay apart
_DOT_POINTS = (0.6, 4.0)  # smallest and largest diameter on paper
_MAX_LEGEND = 20  # genes; the legend of more covers the picture


def set_limits(ax: Axes, bounds: Bounds, um_per_unit: float) -> None:
    """Set the axes to the bounds, with y pointing down and equal scales."""
    x_min, y_min, x_max, y_max = bounds
    ax.set(xlim=(x_min, x_max), ylim=(y_max, y_min), aspect="equal")
    unit = " (um)" if um_per_unit == 1 else ""
    ax.set(xlabel=f"x{unit}", ylabel=f"y{unit}")


def draw_image(ax: Axes, pixels: NDArray, to_points: NDArray[np.float64]) -> None:
    """Draw one channel ``(h, w)`` below all other layers; ``to_points`` is ``(3, 3)`` from its pixels to the axes."""
    from matplotlib.transforms import Affine2D

    if pixels.size == 0:
        return
    low, high = np.percentile(pixels, (1, 99.8))
    height, width = pixels.shape
    # Dark on white, and nowhere darker than half, so that dots and outlines stand out.
    ax.imshow(
        pixels,
        cmap="gray_r",
        vmin=low,
        vmax=low + 2 * max(high - low, 1e-9),
        extent=(0, width, height, 0),
        transform=Affine2D(to_points) + ax.transData,
        zorder=0,
    )


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
    others = style | {"s": style["s"] / 2, "color": _OTHER_GENES, "zorder": 1}
    ax.scatter(frame["x"][~named], frame["y"][~named], **others)
    colors = np.array([to_rgba(of_gene.get(gene, _OTHER_GENES)) for gene in genes])
    ax.scatter(frame["x"][named], frame["y"][named], c=colors[code[named]], zorder=2, **style)
    if color != "gene" and len(of_gene) <= _MAX_LEGEND:
        for gene, own in of_gene.items():
            ax.scatter([], [], color=own, s=25, label=gene)
        ax.legend(loc="upper right", fontsize="small", framealpha=0.8)


def _palette(genes: NDArray, color: str | Sequence[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the colour of each gene that has one."""
    from matplotlib import colormaps

    if isinstance(color, str):
        return {gene: _gene_color(gene) for gene in genes}
    if isinstance(color, Mapping):
        return color
    cycle = colormaps["tab10" if len(color) <= 10 else "tab20"]
    return {gene: cycle(k % cycle.N) for k, gene in enumerate(color)}


def _gene_color(gene: str) -> tuple[float, float, float]:
    """Return the colour of a gene. It depends on the name only, so that it is the same in every picture."""
    number = crc32(gene.encode())
    return colorsys.hsv_to_rgb(number % 997 / 997, 0.65 + 0.35 * (number // 997 % 2), 0.9 - 0.3 * (number // 1994 % 2))


def draw_outlines(ax: Axes, geometry: NDArray, style: Mapping[str, Any]) -> None:
    """Draw polygons as lines; ``style`` holds keywords of :class:`matplotlib.collections.LineCollection`."""
    import shapely
    from matplotlib.collections import LineCollection

    rings = shapely.get_rings(shapely.get_parts(geometry))
    ax.add_collection(LineCollection([shapely.get_coordinates(ring) for ring in rings], **style), autolim=False)


def draw_scale_bar(ax: Axes, um_per_unit: float) -> None:
    """Draw a bar of a round length of at most a fifth of the picture's width."""
    from matplotlib_scalebar.scalebar import ScaleBar

    ax.add_artist(ScaleBar(um_per_unit, "um", length_fraction=0.2, location="lower left", box_alpha=0.85)).set_zorder(5)
