"""Genes by where their transcripts lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._utils.checks import listed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COLORS = {"none": "#b9b9b9", "cytoplasmic": "#e08214", "nuclear": "#1f6fd6"}
_NEEDED = ("log2_ratio", "q_value", "localization")
_LOWEST_Q = 1e-30  # lower ones are drawn here


def localization(table: pd.DataFrame, *, n_names: int = 8, ax: Axes | None = None) -> Axes:
    """Draw how strongly genes prefer the nucleus or the cytoplasm against how sure that is.

    Parameters
    ----------
    table
        As :func:`ucs.tl.localization` returns it; genes that were not tested are left out.
    n_names
        Number of genes to name on each side, those with the lowest q values among the called ones.
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
        If no gene was tested.

    Examples
    --------
    >>> import pandas as pd
    >>> import ucs
    >>> table = pd.DataFrame({"log2_ratio": [1.2, -0.1], "q_value": [1e-6, 0.8], "localization": ["nuclear", "none"]})
    >>> ax = ucs.pl.localization(table.set_axis(["MALAT1", "ACTB"]))
    """
    missing = [name for name in _NEEDED if name not in table]
    if missing:
        msg = f"The table has no column {listed(missing)}: pass that of ucs.tl.localization."
        raise KeyError(msg)
    shown = table[table["q_value"].notna()]
    if shown.empty:
        msg = "No gene was tested: there is nothing to draw."
        raise ValueError(msg)
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
    height = -np.log10(shown["q_value"].clip(lower=_LOWEST_Q))
    kind = shown["localization"].astype(str)
    for name, color in _COLORS.items():
        of = kind == name
        label = f"{name} ({of.sum()})"
        ax.scatter(shown.loc[of, "log2_ratio"], height[of], s=14, color=color, linewidths=0, label=label)
    for side in ("cytoplasmic", "nuclear"):
        for gene in shown.index[kind == side][np.argsort(shown.loc[kind == side, "q_value"])][:n_names]:
            text = gene if isinstance(gene, str) else " ".join(map(str, gene))
            at = (shown.loc[gene, "log2_ratio"], height[gene])
            ax.annotate(text, at, (3, 2), textcoords="offset points", fontsize=7)
    ax.axvline(0, color="#888888", linewidth=0.6, zorder=0)
    ax.set(xlabel="log2 (density in nuclei / in cytoplasm), relative", ylabel="-log10 q")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize="small", frameon=False)
    return ax
