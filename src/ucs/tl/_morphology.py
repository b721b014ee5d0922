"""Shapes of cells and of their nuclei as columns of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ucs._evaluation.tissue import Tissue
from ucs._utils.checks import listed
from ucs.metrics import morphology as measure

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform


def morphology(
    sdata: SpatialData,
    *,
    table_key: str = "ucs_table",
    nuclei_key: str | None = None,
    platform: str | Platform | None = None,
    resolution: float | None = None,
) -> None:
    """Add the shapes of cells and of their nuclei to the table of the cells.

    ``obs`` receives ``solidity``, ``nucleus_eccentricity``, ``nucleus_solidity``, ``nucleus_area_ratio`` (area of the
    nucleus over that of the cell) and ``eccentricity``, if it is not there: see :func:`ucs.metrics.morphology`.
    Columns of these names are replaced. They are NaN for cells without a nucleus.

    Parameters
    ----------
    sdata
        Object with cells of :func:`ucs.tl.segment` or :func:`ucs.tl.aggregate`.
    table_key
        Key of the table, which annotates one labels or shapes element.
    nuclei_key
        Key of the nuclei; those of the segmentation if None.
    platform
        As in :func:`ucs.tl.segment`; that of the segmentation if None.
    resolution
        Side in um of the pixels on which shapes are measured; those of the segmentation, or 0.5, if None.

    Raises
    ------
    KeyError
        If the table or the nuclei are missing.
    ValueError
        If the table annotates no single element, or as :func:`ucs.tl.compare`.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=80, height_um=80, n_genes=30, seed=0)
    >>> ucs.tl.segment(sdata, progress=False)
    >>> ucs.tl.morphology(sdata)
    >>> bool(sdata.tables["ucs_table"].obs["nucleus_area_ratio"].between(0, 1).all())
    True
    """
    if table_key not in sdata.tables:
        msg = f"table_key={table_key!r} is not in this SpatialData; there are: {listed(sdata.tables)}."
        raise KeyError(msg)
    table = sdata.tables[table_key]
    recorded = table.uns.get("ucs", {}).get("parameters", {})
    nuclei_key = nuclei_key or recorded.get("nuclei_key")
    if nuclei_key is None:
        msg = f"tables[{table_key!r}] does not tell its nuclei. Name them with nuclei_key=."
        raise KeyError(msg)
    tissue = Tissue(
        sdata,
        platform=platform or recorded.get("platform", "auto"),
        resolution=resolution or float(recorded.get("resolution", 0.5)),
    )
    cells, nuclei = tissue.cells(table_key), tissue.cells(nuclei_key)
    found = measure(cells.labels, nuclei.labels, um_per_px=cells.um_per_px)
    found.index = cells.ids[found.index.to_numpy() - 1]
    found = found.reindex(table.obs[table.uns["spatialdata_attrs"]["instance_key"]].to_numpy())
    found["nucleus_area_ratio"] = found["nucleus_area_um2"] / found["area_um2"]
    kept = ["solidity", "nucleus_eccentricity", "nucleus_solidity", "nucleus_area_ratio"]
    for name in kept if "eccentricity" in table.obs else ["eccentricity", *kept]:
        table.obs[name] = found[name].to_numpy()
