"""Sizes and shapes of cells and nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._utils.checks import listed
from ucs.pl._artists import NUCLEUS_COLOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from spatialdata import SpatialData

_CELL_COLOR = "#e08214"
_PANELS = {
    "area ($\\mathrm{\\mu m^2}$)": ("area_um2", "nucleus_area_um2"),
    "eccentricity": ("eccentricity", "nucleus_eccentricity"),
    "solidity": ("solidity", "nucleus_solidity"),
    "nucleus / cell area": ("nucleus_area_ratio",),
}


def morphology(
    sdata: SpatialData, *, table_key: str = "ucs_table", by: str | None = None, ax: NDArray | None = None
) -> NDArray:
    """Draw the distributions of area, eccentricity, solidity and the share of the nucleus.

    Parameters
    ----------
    sdata
        Object with a table of cells.
    table_key
        Key of the table, with the columns that :func:`ucs.tl.morphology` adds; what is missing is left out.
    by
        Categories in ``obs``, such as cell types: a box for each, of cells, instead of a histogram of all.
    ax
        Axes to draw into, one for each measure; those of a new figure if None.

    Returns
    -------
    The axes, one for each measure that the table has.

    Raises
    ------
    KeyError
        If the table, ``by`` or all measures are missing.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=80, height_um=80, n_genes=30, seed=0)
    >>> ucs.tl.segment(sdata, progress=False)
    >>> ucs.tl.morphology(sdata)
    >>> len(ucs.pl.morphology(sdata))
    4
    """
    from matplotlib import pyplot as plt

    if table_key not in sdata.tables:
        msg = f"table_key={table_key!r} is not in this SpatialData; there are: {listed(sdata.tables)}."
        raise KeyError(msg)
    obs = sdata.tables[table_key].obs
    if by is not None and by not in obs:
        msg = f"by={by!r} is no column of obs; there are: {listed(obs)}."
        raise KeyError(msg)
    panels = {title: columns for title, columns in _PANELS.items() if columns[0] in obs}
    if not panels:
        msg = f"tables[{table_key!r}] has no measures of shape. ucs.tl.morphology(sdata) adds them."
        raise KeyError(msg)
    if ax is None:
        side = 3.1 if by is None else max(3.1, 1 + 0.25 * obs[by].nunique())
        _, ax = plt.subplots(1, len(panels), figsize=(side * len(panels), 2.9), layout="constrained", squeeze=False)
    axes = np.ravel(np.asarray(ax, dtype=object))[: len(panels)]
    for one, (title, columns) in zip(axes, panels.items(), strict=True):
        if by is None:
            one.set_xlabel(title)
            _histograms(one, obs, columns)
        else:
            one.set_ylabel(title)
            one.set_xlabel(by.replace("_", " "))
            _boxes(one, obs[columns[0]].astype(float), obs[by])
        one.spines[["top", "right"]].set_visible(False)
    if by is None:
        axes[0].legend(fontsize="small", frameon=False)
        axes[0].set_ylabel("cells")
    return axes


def _histograms(ax: Axes, obs: pd.DataFrame, columns: tuple[str, ...]) -> None:
    there: dict[str, Any] = {name: obs[name].dropna().to_numpy(float) for name in columns if name in obs}
    every = np.concatenate(list(there.values()))
    high = 1.0 if every.size == 0 or every.max() <= 1 else np.percentile(every, 99.5)
    low = min(float(np.percentile(every, 0.5)), 0.9 * high) if every.size and every.max() <= 1 else 0.0
    bins = np.linspace(low, high, 31).tolist()
    colors = (_CELL_COLOR, NUCLEUS_COLOR)
    for (name, values), color in zip(there.items(), colors, strict=False):
        label = "nuclei" if name.startswith("nucleus") else "cells"
        ax.hist(np.clip(values, low, high), bins, histtype="stepfilled", color=color, alpha=0.55, label=label)


def _boxes(ax: Axes, values: pd.Series, by: pd.Series) -> None:
    groups = {str(name): group.dropna() for name, group in values.groupby(by, observed=True)}
    ax.boxplot(list(groups.values()), showfliers=False, widths=0.6, medianprops={"color": _CELL_COLOR})
    ax.set_xticks(range(1, len(groups) + 1), list(groups), rotation=90)
