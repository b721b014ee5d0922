"""Counts of cells x genes, from tables and elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from ucs._evaluation.tissue import Tissue
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData


class Counts(NamedTuple):
    """Transcripts per cell and gene.

    Attributes
    ----------
    matrix
        ``(n_cells, n_genes)`` CSR, float64, 0 or above.
    genes, cells
        Names of columns and rows.
    obs
        Further columns of the cells.
    """

    matrix: sparse.csr_array
    genes: pd.Index
    cells: pd.Index
    obs: pd.DataFrame

    def of_genes(self, genes: pd.Index) -> sparse.csr_array:
        """Return the columns of some genes, all of which must be there."""
        return self.matrix[:, self.genes.get_indexer(genes)]

    def only(self, genes: pd.Index) -> Counts:
        """Return the counts of some genes, all of which must be there."""
        return self._replace(matrix=self.of_genes(genes), genes=genes)


def counts_of(table: AnnData | pd.DataFrame | str, sdata: SpatialData | Tissue | None, name: str = "table") -> Counts:
    """Return the counts of a table or an element, checked.

    Parameters
    ----------
    table
        AnnData or a DataFrame, cells x genes, raw counts; or the key of a table of ``sdata``, or of labels or shapes,
        in which the transcripts are then counted.
    sdata
        Object, or :class:`Tissue`, that has the key.
    name
        Name of the argument, for messages.

    Raises
    ------
    TypeError
        If ``table`` is none of these, or a key without ``sdata``.
    ValueError
        If there are no cells or genes, names of genes repeat, or a value is negative or not finite.
    """
    table = resolved_table(table, sdata, name)
    if isinstance(table, pd.DataFrame):
        matrix, genes, cells, obs = table.to_numpy(dtype=np.float64), table.columns, table.index, table[[]]
    elif hasattr(table, "obs") and hasattr(table, "X"):
        matrix, genes, cells, obs = table.X, table.var_names, table.obs_names, table.obs
    else:
        msg = f"{name} is a {type(table).__name__}: pass an AnnData, a DataFrame (cells x genes), or a key and sdata=."
        raise TypeError(msg)
    if matrix is None or 0 in matrix.shape:
        shape = None if matrix is None else matrix.shape
        msg = f"{name} has no counts (shape {shape}, cells x genes): there is nothing to measure."
        raise ValueError(msg)
    counts = sparse.csr_array(matrix, dtype=np.float64, copy=True)
    counts.eliminate_zeros()
    _check_values(counts.data, name)
    genes = pd.Index(genes)
    if not genes.is_unique:
        msg = f"{name} names genes more than once: {listed(genes[genes.duplicated()].unique())}. Make them unique."
        raise ValueError(msg)
    return Counts(counts, genes, pd.Index(cells), obs)


def resolved_table(table: Any, sdata: SpatialData | Tissue | None, name: str) -> Any:
    """Return the table of a key, and a table as it is."""
    if not isinstance(table, str):
        return table
    if sdata is None:
        msg = f"{name}={table!r} is the key of an element: pass the object that has it as sdata=, or a table."
        raise TypeError(msg)
    tissue = Tissue.of(sdata)
    return tissue.sdata.tables[table] if table in tissue.sdata.tables else tissue.table(table)


def group_means(
    matrix: sparse.csr_array, group: NDArray[np.integer], n_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of each column over the rows of a group, and the share of these rows that have it.

    Parameters
    ----------
    matrix
        ``(n_rows, n_columns)``.
    group
        ``(n_rows,)`` group of each row from 0 on, -1 for none; no group is empty.
    n_groups
        Number of groups.

    Returns
    -------
    Two arrays ``(n_groups, n_columns)``.
    """
    grouped = np.flatnonzero(group >= 0)
    n = np.bincount(group[grouped], minlength=n_groups)[:, None]
    members = sparse.csr_array((np.ones(len(grouped)), (group[grouped], grouped)), shape=(n_groups, matrix.shape[0]))
    return (members @ matrix).toarray() / n, (members @ (matrix > 0).astype(np.float64)).toarray() / n


def _check_values(values: NDArray[np.float64], name: str) -> None:
    if not np.isfinite(values).all():
        msg = f"{name} has {int((~np.isfinite(values)).sum())} NaN or infinite values."
        raise ValueError(msg)
    if (values < 0).any():
        msg = (
            f"{name} has {int((values < 0).sum())} negative values (lowest {values.min():g}): it has been scaled or "
            "centred. Pass raw counts."
        )
        raise ValueError(msg)
