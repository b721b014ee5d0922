"""Values of cells, and cells filled by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ucs._utils.checks import listed
from ucs._utils.elements import tables_of
from ucs.pl._artists import add_legend, color_bar, distinct_colors, fill_polygons

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from spatialdata import SpatialData

_NO_VALUE = "#dddddd"


def table_of(sdata: SpatialData, key: str, table_key: str | None = None) -> AnnData:
    """Return the table given, or the one that annotates an element or that was made with it.

    Raises
    ------
    KeyError
        If there is none.
    ValueError
        If there are several.
    """
    if table_key is not None:
        if table_key not in sdata.tables:
            msg = f"table_key={table_key!r} is not in this SpatialData; there are: {listed(sdata.tables)}."
            raise KeyError(msg)
        return sdata.tables[table_key]
    fitting = tables_of(sdata, key)
    if len(fitting) == 1:
        return sdata.tables[fitting[0]]
    if fitting:
        msg = f"Several tables annotate {key!r}: {listed(fitting)}. Name one with table_key=."
        raise ValueError(msg)
    msg = f"No table annotates {key!r}; there are: {listed(sdata.tables)}. Name one with table_key=."
    raise KeyError(msg)


def fill_of(sdata: SpatialData, key: str, column: str, table_key: str | None) -> pd.Series:
    """Return a column of ``obs``, or the counts of a gene, by the id of the cell; ``attrs["colors"]`` of categories.

    Raises
    ------
    KeyError
        If there is neither such a column nor such a gene, or as :func:`table_of`.
    ValueError
        If the table annotates no element, or as :func:`table_of`.
    """
    table = table_of(sdata, key, table_key)
    if "spatialdata_attrs" not in table.uns:
        msg = f"The table with {column!r} annotates no element: spatialdata.models.TableModel.parse links it to cells."
        raise ValueError(msg)
    instance_key = table.uns["spatialdata_attrs"]["instance_key"]
    if column not in table.obs and column not in table.var_names:
        msg = f"fill={column!r} is neither a column of obs ({listed(table.obs)}) nor a gene of the table."
        raise KeyError(msg)
    found = table.obs_vector(column) if column not in table.obs else table.obs[column]
    values = pd.Series(found).set_axis(table.obs[instance_key].to_numpy()).rename(column)
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        values = values.astype(str).where(values.notna()).astype("category") if values.dtype != "category" else values
        stored = table.uns.get(f"{column}_colors")
        names = values.cat.categories
        fits = stored is not None and len(stored) == len(names)
        values.attrs["colors"] = dict(zip(names, stored, strict=True)) if fits else distinct_colors(list(names))
    return values


def draw_fill(ax: Axes, geometry: NDArray, values: pd.Series, *, clim: tuple[float, float] | None) -> None:
    """Fill cells by their values, one for each geometry; those without a value are grey.

    Parameters
    ----------
    ax
        Axes with limits set.
    geometry
        ``(n,)`` outlines.
    values
        ``(n,)``, as of :func:`fill_of`.
    clim
        Numbers at the ends of the colour bar; the lowest and highest ones if None.
    """
    colors = values.attrs.get("colors")
    if colors is not None:
        fill_polygons(ax, geometry, facecolors=[colors.get(value, _NO_VALUE) for value in values], alpha=0.65)
        add_legend(ax, {str(name): color for name, color in colors.items()})
        return
    known = values.notna().to_numpy()
    if not known.all():
        fill_polygons(ax, geometry[~known], facecolors=_NO_VALUE)
    numbers = values[known].to_numpy(float)
    color_bar(ax, fill_polygons(ax, geometry[known], array=numbers, clim=clim), str(values.name).replace("_", " "))
