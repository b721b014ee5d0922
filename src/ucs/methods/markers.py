"""Marker genes of cell types from mappings and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ucs._utils.checks import listed
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

Markers: TypeAlias = "Mapping[str, Iterable[str]] | pd.DataFrame"
_TYPE_COLUMNS = ("type", "cell_type", "celltype", "cluster", "group")
_GENE_COLUMNS = ("gene", "genes", "marker", "names", "feature")


def marker_matrix(markers: Markers, genes: pd.Index, *, fewest_types: int = 2) -> pd.DataFrame:
    """Return which genes of a table are markers of which types; unknown genes and types are logged and dropped.

    Parameters
    ----------
    markers
        A mapping from type to genes; a long DataFrame with a column of types (``type``, ``cell_type``, ...) and one of
        genes (``gene``, ``marker``, ...); or a wide DataFrame of 0 and 1 (or booleans), types x genes, with the types
        as its index or in such a column.
    genes
        Genes of the table.
    fewest_types
        Number of types that must have a marker in the table.

    Returns
    -------
    Booleans, types x genes: types with a marker, in the given order, and genes that are one, in the order of the table.

    Raises
    ------
    TypeError
        If ``markers`` has another type.
    ValueError
        If too few types have a marker in the table.
    """
    of_type = markers_by_type(markers)
    named = {gene for chosen in of_type.values() for gene in chosen}
    unknown = sorted(named - set(genes))
    without = [name for name, chosen in of_type.items() if not set(chosen) & set(genes)]
    if len(of_type) - len(without) < fewest_types:
        msg = (
            f"{len(of_type) - len(without)} of {len(of_type)} types have a marker among the {len(genes)} genes of the "
            f"table, {fewest_types} are needed. Unknown are {len(unknown)} of {len(named)} markers: {listed(unknown)}."
        )
        raise ValueError(msg)
    if unknown:
        logger.warning("%d of %d markers are not in the table: %s.", len(unknown), len(named), listed(unknown))
    if without:
        logger.warning("%d of %d types have no marker in the table: %s.", len(without), len(of_type), listed(without))
    import pandas as pd  # here, since the engine needs it for markers alone

    kept = genes[genes.isin(list(named))]
    rows = {name: kept.isin(list(chosen)) for name, chosen in of_type.items() if name not in without}
    return pd.DataFrame.from_dict(rows, orient="index", columns=kept).astype(bool)


def marker_table(markers: Markers, genes: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the types that have a marker among the genes, and ``(types, genes)``; see :func:`marker_matrix`."""
    import pandas as pd

    index = pd.Index(genes)
    of_type = marker_matrix(markers, index)
    is_marker = np.zeros((len(of_type), len(index)), dtype=bool)
    is_marker[:, index.get_indexer(of_type.columns)] = of_type.to_numpy()
    return of_type.index.tolist(), is_marker


def markers_by_type(markers: Markers) -> dict[str, list[str]]:
    """Return the genes of each type; see :func:`marker_matrix` for the formats.

    Raises
    ------
    TypeError, ValueError
        If ``markers`` has another type or format.
    """
    if isinstance(markers, Mapping):
        for name, genes in markers.items():
            if isinstance(genes, str):
                msg = f"markers[{name!r}] is the text {genes!r}: pass a list of genes."
                raise TypeError(msg)
        return {str(name): [str(gene) for gene in genes] for name, genes in markers.items()}
    import pandas as pd

    if not isinstance(markers, pd.DataFrame):
        msg = f"markers is a {type(markers).__name__}: pass a mapping from type to genes, or a DataFrame."
        raise TypeError(msg)
    lower = {str(column).lower(): column for column in markers.columns}
    type_column = next((lower[name] for name in _TYPE_COLUMNS if name in lower), None)
    gene_column = next((lower[name] for name in _GENE_COLUMNS if name in lower), None)
    if type_column is not None and gene_column is not None:
        long = markers[[type_column, gene_column]].dropna().astype(str)
        groups = long.groupby(type_column, sort=False)
        return {str(name): group[gene_column].unique().tolist() for name, group in groups}
    return _of_wide(markers)


def _of_wide(markers: pd.DataFrame) -> dict[str, list[str]]:
    names = [column for column in markers.columns if str(column).lower() in (*_TYPE_COLUMNS, "unnamed: 0")]
    if len(names) == 1:  # read from a file without index_col=0
        markers = markers.set_index(names[0])
    numbers = markers.select_dtypes(["number", "bool"])
    values = np.unique(numbers.to_numpy(dtype=np.float64)) if not numbers.empty else np.array([np.nan])
    if numbers.shape != markers.shape or not np.isin(values, (0, 1)).all():
        msg = (
            f"markers has the columns {listed(markers.columns)}: a long table needs one of {listed(_TYPE_COLUMNS)} and "
            f"one of {listed(_GENE_COLUMNS)}, a wide one, types x genes, holds nothing but 0 and 1."
        )
        raise ValueError(msg)
    if not markers.index.is_unique:
        msg = f"markers has rows of the same type: {listed(markers.index[markers.index.duplicated()])}."
        raise ValueError(msg)
    columns = numbers.columns.astype(str)
    return {str(name): columns[row].tolist() for name, row in zip(numbers.index, numbers.to_numpy(bool), strict=True)}
