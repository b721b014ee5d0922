"""Several nuclei of one cell: told apart where they share an id, or fused to one nucleus."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._utils.checks import listed
from ucs._utils.log import logger

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData

    from ucs._read.nuclei.onto_grid import Nuclei
    from ucs._read.platforms import Platform

CELL_COLUMN = "cell_id"
"""Column of a shapes element of nuclei that names the cell of each."""


def number_repeated(element: GeoDataFrame) -> GeoDataFrame:
    """Give each polygon an id of its own where several have the id of their cell.

    The polygons of cell ``"a"`` become ``"a:1"``, ``"a:2"``, in the order of where they lie, not of the rows; an id
    that is not repeated stays, as text if any other is repeated. Which cell a polygon is of stays in ``cell_id``.
    """
    if element.index.is_unique:
        return element
    x, y = element.bounds[["minx", "miny"]].to_numpy().T
    names = element.index.astype(str)
    order = np.lexsort((y, x, names))
    element, names = element.iloc[order].copy(), names[order]
    if CELL_COLUMN not in element:
        element[CELL_COLUMN] = element.index.to_numpy()
    repeated = names.duplicated(keep=False)
    number = pd.Series(names).groupby(names).cumcount() + 1
    element.index = pd.Index(np.where(repeated, names + ":" + number.astype(str), names))
    return element


def with_nuclei_numbered(sdata: SpatialData, nuclei_key: str, platform: Platform) -> SpatialData:
    """Return the object itself, or one in which the nuclei have an id each where the platform lets them share one."""
    from spatialdata import SpatialData

    if not platform.shared_nucleus_ids or nuclei_key not in sdata.shapes or sdata.shapes[nuclei_key].index.is_unique:
        return sdata
    elements = {name: element for _, name, element in sdata.gen_elements()}
    elements[nuclei_key] = number_repeated(sdata.shapes[nuclei_key])
    return SpatialData.init_from_elements(elements, attrs=sdata.attrs)


def cells_of_nuclei(sdata: SpatialData, nuclei_key: str, platform: Platform) -> pd.Series:
    """Return the vendor's cell of each nucleus, by the id of the nucleus.

    From the shapes element itself, or, for labels, from the platform's shapes element of the same nuclei.

    Raises
    ------
    ValueError
        If no element says which cell a nucleus is of.
    """
    keys = [nuclei_key] if nuclei_key in sdata.shapes else _shapes_of_nuclei(sdata, platform)
    for key in keys:
        element = number_repeated(sdata.shapes[key]) if platform.shared_nucleus_ids else sdata.shapes[key]
        if CELL_COLUMN in element:
            return element[CELL_COLUMN]
        if element.index.name == CELL_COLUMN:  # one nucleus per cell, under its id
            return pd.Series(element.index.to_numpy(), index=element.index)
    msg = (
        f"fuse_nuclei=True needs the cell of each nucleus: a column {CELL_COLUMN!r} of the shapes element of the "
        f"nuclei, whose index has their ids. Looked at: {listed(keys)}."
    )
    raise ValueError(msg)


def _shapes_of_nuclei(sdata: SpatialData, platform: Platform) -> list[str]:
    return [k for pattern in platform.nuclei_keys for k in sdata.shapes if re.fullmatch(pattern, k)]


def fuse_nuclei(nuclei: Nuclei, cell_of: pd.Series) -> Nuclei:
    """Make one nucleus, maybe in parts, of all nuclei of a cell.

    Parameters
    ----------
    nuclei
        Nuclei on a grid.
    cell_of
        The cell of a nucleus, by the id of the nucleus. Those of a cell that is missing stay apart.

    Returns
    -------
    Nuclei with the ids of their cells. Where the ids of the nuclei are not those that the cells are known by, as in
    runs in which a nucleus has the number of its cell, nothing is fused and the ids stay.
    """
    known = pd.Index(nuclei.ids).isin(cell_of.index)
    if not known.any():
        logger.info("No nucleus has an id that the cells are known by: each is taken as that of a cell of its own.")
        return nuclei
    cells = cell_of.reindex(nuclei.ids)
    names = np.where(cells.notna(), cells.astype(str), pd.Index(nuclei.ids).astype(str))
    ids, cell = np.unique(names.astype(str), return_inverse=True)
    new_id = np.concatenate([[0], cell + 1]).astype(np.int32)
    logger.info("Fused %d nuclei to the %d of their cells.", len(nuclei.ids), len(ids))
    return replace(nuclei, labels=new_id[nuclei.labels], ids=ids)
