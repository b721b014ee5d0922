"""Genes whose transcripts prefer the nucleus or the cytoplasm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._evaluation.localization import adjusted, localization_of
from ucs._utils.checks import check_positive, is_number, listed

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

_NUCLEUS = "nucleus"  # layer


def localization(
    sdata: SpatialData | AnnData,
    *,
    table_key: str = "ucs_table",
    by: str | None = None,
    alpha: float = 0.05,
    min_transcripts: float = 10,
) -> pd.DataFrame:
    """Return which genes' transcripts prefer the nucleus or the cytoplasm, relative to the other genes of their cells.

    Each gene is tested by the statistic of Mantel and Haenszel, with a stratum for each cell: is it found in the
    nucleus more often than genes without a preference in the same cells are? So the sizes of nuclei and cells, and how
    well they are outlined, do not matter as long as they are the same for all genes. Which genes have no preference is
    found from the data, and most are assumed to have none. Cells are the units of replication: transcripts in clumps do
    not count as independent.

    Parameters
    ----------
    sdata
        Object with cells of :func:`ucs.tl.segment`, or their table.
    table_key
        Key of the table; it has counts in ``X`` and, in nuclei, in ``layers["nucleus"]``.
    by
        Categories in ``obs``, such as cell types: genes are tested in each of them. Transcripts that a cell takes from
        neighbours of another type lie at its border; genes that a type hardly expresses look cytoplasmic in it.
    alpha
        Largest share of false discoveries among those called (Benjamini and Hochberg, over all genes and types).
    min_transcripts
        Genes of which fewer transcripts are expected in nuclei, or outside of them, are not tested.

    Returns
    -------
    One row per gene (with ``by``: per type and gene), in the order of the table:

    - ``n_transcripts``, and ``nuclear_share``: the share of them in nuclei,
    - ``log2_ratio``: density in nuclei over that in cytoplasm, relative to genes without a preference,
    - ``z``, ``p_value``, ``q_value``: NaN for genes that were not tested,
    - ``localization``: ``"nuclear"``, ``"cytoplasmic"``, or ``"none"`` if the q value is above ``alpha`` or NaN.

    Raises
    ------
    KeyError
        If the table, its nuclear counts or ``by`` are missing.
    ValueError
        If ``alpha`` does not lie between 0 and 1, or no cell has transcripts in nucleus and cytoplasm.

    References
    ----------
    Mantel and Haenszel, J. Natl. Cancer Inst. 22 (1959) 719; Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995) 289.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=100, height_um=100, n_genes=40, nuclear_spread=1.0, seed=0)
    >>> ucs.tl.segment(sdata, progress=False)
    >>> found = ucs.tl.localization(sdata)
    >>> bool((found.loc[found["localization"] == "nuclear", "log2_ratio"] > 0).all())
    True
    """
    table = _table(sdata, table_key)
    if not (is_number(alpha) and 0 < alpha < 1):
        msg = f"alpha={alpha!r} must be a number between 0 and 1."
        raise ValueError(msg)
    check_positive(min_transcripts, "min_transcripts")
    if by is not None and by not in table.obs:
        msg = f"by={by!r} is no column of obs; there are: {listed(table.obs)}."
        raise KeyError(msg)
    groups = {None: slice(None)} if by is None else table.obs.groupby(by, observed=True).indices
    frames = {name: _of_cells(table[rows], alpha=alpha, fewest=min_transcripts) for name, rows in groups.items()}
    if all(frame["n_transcripts"].sum() == 0 for frame in frames.values()):
        msg = "No cell has transcripts both in its nucleus and outside of it: there is nothing to test."
        raise ValueError(msg)
    found = frames[None] if by is None else pd.concat(frames, names=[by, "gene"])
    found["q_value"] = adjusted(found["p_value"].to_numpy())
    called = found["q_value"] <= alpha
    side = np.where(found["log2_ratio"] > 0, "nuclear", "cytoplasmic")
    names = ["nuclear", "cytoplasmic", "none"]
    found["localization"] = pd.Categorical(np.where(called, side, "none"), categories=names)
    return found


def _table(sdata: SpatialData | AnnData, table_key: str) -> AnnData:
    from anndata import AnnData

    if isinstance(sdata, AnnData):
        table = sdata
    elif table_key in sdata.tables:
        table = sdata.tables[table_key]
    else:
        msg = f"table_key={table_key!r} is not in this SpatialData; there are: {listed(sdata.tables)}."
        raise KeyError(msg)
    if _NUCLEUS not in table.layers:
        msg = f"The table has no layers[{_NUCLEUS!r}] with the counts in nuclei; there are: {listed(table.layers)}."
        raise KeyError(msg)
    return table


def _of_cells(table: AnnData, *, alpha: float, fewest: float) -> pd.DataFrame:
    from scipy.sparse import csr_array

    nuclear, total = csr_array(table.layers[_NUCLEUS]), csr_array(table.X)
    found = localization_of(nuclear, total, fewest=fewest, alpha=alpha)
    return pd.DataFrame(
        {
            "n_transcripts": found.n.astype(np.int64),
            "nuclear_share": found.n_nuclear / np.where(found.n > 0, found.n, np.nan),
            "log2_ratio": found.log2_ratio,
            "z": found.z,
            "p_value": found.p,
        },
        index=table.var_names.rename("gene"),
    )
