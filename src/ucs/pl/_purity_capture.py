"""Picture of purity against capture, neither of which means anything alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ucs._utils.checks import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _Purity(NamedTuple):
    label: str
    lower_is_purer: bool


PURITIES = {
    "mecr": _Purity("MECR", lower_is_purer=True),
    "negative_marker_purity": _Purity("negative marker purity", lower_is_purer=False),
    "spurious_coexpression": _Purity("spurious co-expression", lower_is_purer=True),
    "reference_correlation": _Purity("correlation with the reference", lower_is_purer=False),
    "mecr_at_depth": _Purity("MECR at one depth", lower_is_purer=True),
}


_POINTS = {"radius_um": "+{:g} um", "threshold": "{:g}"}  # what points of curves are labelled with


def purity_capture(
    table: pd.DataFrame,
    *,
    purity: str | None = None,
    capture: str = "capture",
    curve: str = "curve",
    ax: Axes | None = None,
) -> Axes:
    """Draw the purity of segmentations against the share of the transcripts that they capture. Up and right is better.

    Any segmentation becomes purer if its cells are made smaller. It is better than another only if it lies above the
    other at the same capture.

    Parameters
    ----------
    table
        One row per segmentation (its name is the index), as :func:`ucs.tl.compare` returns it.
    purity
        Column to draw; if None, the first of ``mecr``, ``negative_marker_purity``, ``spurious_coexpression``,
        ``reference_correlation`` and ``mecr_at_depth`` that the table has. The axis of co-expression rates is inverted.
    capture
        Column with the captured share of the transcripts.
    curve
        Column with the name of the curve that a row belongs to, missing for none. Rows of one curve are joined by a
        line, and labelled with their ``radius_um`` or ``threshold`` if the table has these columns.
    ax
        Axes to draw into; those of a new figure if None.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If no row has both values.

    Examples
    --------
    >>> import pandas as pd
    >>> import ucs
    >>> table = pd.DataFrame({"capture": [0.7, 0.8], "mecr": [0.1, 0.2], "curve": ["nuclear expansion", None]})
    >>> ax = ucs.pl.purity_capture(table.set_axis(["nuclei + 2 um", "ucs"]))
    """
    purity = purity or next((name for name in PURITIES if name in table), None)
    missing = [name for name in (purity, capture) if name not in table]
    if purity is None or missing:
        msg = f"The table has no column {listed(missing if purity else PURITIES)}; there are: {listed(table.columns)}."
        raise KeyError(msg)
    shown = table[np.isfinite(table[capture].astype(float)) & np.isfinite(table[purity].astype(float))]
    if shown.empty:
        msg = f"No row has both {capture!r} and {purity!r}: there is nothing to draw."
        raise ValueError(msg)
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
    names = shown[curve] if curve in shown else pd.Series(None, index=shown.index, dtype=object)
    for name in names.dropna().unique():
        rows = shown[names == name].sort_values(capture)
        ax.plot(rows[capture], rows[purity], marker="o", markersize=4, linewidth=1.2, label=str(name))
        for column, text in _POINTS.items():
            for _, row in rows[rows[column].notna()].iterrows() if column in rows else ():
                at = (row[capture], row[purity])
                ax.annotate(text.format(row[column]), at, (3, 3), textcoords="offset points", fontsize=7)
    for name, row in shown[names.isna()].iterrows():
        # With plot, as scatter has a colour cycle of its own, which repeats the colours of the curves.
        at = (row[capture], row[purity])
        (point,) = ax.plot(*([value] for value in at), "D", markersize=7, zorder=3)
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": "small", "fontweight": "bold"}
        style["color"] = point.get_color()
        ax.annotate(str(name), at, (6, -10), zorder=4, **style)
    known = PURITIES.get(purity, _Purity(purity, lower_is_purer=False))
    if known.lower_is_purer and not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.margins(0.12)
    inverted = "; axis inverted" if known.lower_is_purer else ""
    purer = "lower" if known.lower_is_purer else "higher"
    ax.set(xlabel="share of the transcripts captured", ylabel=f"{known.label} ({purer} is purer{inverted})")
    _draw_arrow(ax)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 0.8), borderaxespad=0, fontsize="small", frameon=False)
    return ax


def _draw_arrow(ax: Axes) -> None:
    """Draw an arrow towards more captured and purer, outside the axes' upper right corner, once."""
    if any(text.get_text() == "better" for text in ax.texts):
        return
    arrow = {"arrowstyle": "-|>", "color": "#2a7f3f", "linewidth": 1.6}
    where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "axes fraction", "annotation_clip": False}
    ax.annotate("better", (1.12, 1.0), (1.02, 0.86), color="#2a7f3f", arrowprops=arrow, ha="center", **where)
