"""Where the segmentations of a SpatialData object meet: one raster and one set of transcripts for all of them."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._utils.checks import check_positive, listed
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._evaluation.rasters import CellRaster
    from ucs._read.grid import Grid
    from ucs._read.platforms import Platform
    from ucs._read.source import Source
    from ucs._read.transcripts import Transcripts

RESOLUTION_UM = 0.5


class Tissue:
    """The transcripts of a SpatialData object and the raster on which its segmentations are compared.

    Wherever a function of :mod:`ucs.metrics` takes the key of an element, ``sdata=`` may be the object itself or a
    ``Tissue`` made of it: that one has options, and reads the transcripts once for many calls.

    The raster covers the transcripts, in their intrinsic coordinates. Labels are sampled at its pixel centres, polygons
    filled, both through their transformations; a transcript belongs to the cell that its pixel belongs to.

    Parameters
    ----------
    sdata
        Object with transcripts and cells.
    points_key, platform, gene_key, um_per_unit
        As in :func:`ucs.tl.segment`. Transcripts of low quality and control features are left out as there.
    coordinate_system
        Coordinate system in which points and cells meet; ``"global"`` or another that both share if None.
    resolution
        Side of a pixel in um.

    Examples
    --------
    >>> tissue = ucs.metrics.Tissue(sdata, resolution=0.25)  # doctest: +SKIP
    >>> ucs.metrics.match("cell_labels", "ucs_cells", sdata=tissue)  # doctest: +SKIP
    """

    def __init__(
        self,
        sdata: SpatialData,
        *,
        points_key: str | None = None,
        platform: str | Platform = "auto",
        gene_key: str | None = None,
        um_per_unit: float | None = None,
        coordinate_system: str | None = None,
        resolution: float = RESOLUTION_UM,
    ) -> None:
        from ucs._read.sample import find_source

        check_positive(resolution, "resolution")
        self.sdata = sdata
        self.coordinate_system = coordinate_system
        self.source: Source = find_source(
            sdata,
            points_key,
            platform=platform,
            coordinate_system=coordinate_system,
            gene_key=gene_key,
            resolution=resolution,
            um_per_unit=um_per_unit,
        )

    @classmethod
    def of(cls, sdata: SpatialData | Tissue) -> Tissue:
        """Return a tissue as it is, and make one of an object."""
        return sdata if isinstance(sdata, cls) else cls(sdata)

    @cached_property
    def transcripts(self) -> Transcripts:
        """All transcripts that pass the quality cut, read in one pass when first needed."""
        from ucs._read.fields import find_fields
        from ucs._read.transcripts import read_transcripts

        source = self.source
        return read_transcripts(
            self.sdata,
            source.elements,
            source.platform,
            resolution=source.resolution,
            um_per_unit=source.um_per_unit,
            fields=find_fields(self.sdata, source),
        )

    @property
    def grid(self) -> Grid:
        """The raster."""
        return self.transcripts.grid

    @property
    def genes(self) -> list[str]:
        """Names of the genes, in the order of the columns of tables."""
        return list(self.transcripts.genes)

    def cells(self, key: str) -> CellRaster:
        """Bring the cells of a labels or shapes element, or those of one that a table lists, onto the raster.

        Raises
        ------
        KeyError
            If there is no such element.
        ValueError
            If it shares no coordinate system with the transcripts, has no cell where they are, or a table lists ids
            that its element does not have.
        """
        from ucs._evaluation.rasters import read_cells

        if key in self.sdata.tables:
            return self._listed_cells(key)
        if key not in self.sdata.labels and key not in self.sdata.shapes:
            there = [*self.sdata.labels, *self.sdata.shapes, *self.sdata.tables]
            msg = f"{key!r} is no labels, shapes or table element of this SpatialData; there are: {listed(there)}."
            raise KeyError(msg)
        to_frame = self.source.to_frame(self.sdata, key, coordinate_system=self.coordinate_system)
        to_element = np.linalg.inv(to_frame) @ self.grid.px_to_intrinsic
        return read_cells(self.sdata, key, to_element, self.grid.shape, self.grid.um_per_px)

    def _listed_cells(self, table_key: str) -> CellRaster:
        """Return the cells that a table lists, of the element that it annotates."""
        attrs = self.sdata.tables[table_key].uns.get("spatialdata_attrs")
        if attrs is None:
            msg = f"tables[{table_key!r}] annotates no element and does not say where its cells are: pass an element."
            raise ValueError(msg)
        regions = attrs["region"] if isinstance(attrs["region"], list) else [attrs["region"]]
        if len(regions) != 1 or (regions[0] not in self.sdata.labels and regions[0] not in self.sdata.shapes):
            msg = f"tables[{table_key!r}] annotates {listed(regions)}: one labels or shapes element is needed."
            raise ValueError(msg)
        cells = self.cells(regions[0])
        listed_ids = self.sdata.tables[table_key].obs[attrs["instance_key"]].to_numpy()
        kept = cells.only(listed_ids)
        if len(kept.ids) == 0:
            msg = (
                f"tables[{table_key!r}] lists {len(listed_ids)} ids in {attrs['instance_key']!r} "
                f"({listed(listed_ids[:5].tolist())}), none of which is among the {len(cells.ids)} cells of "
                f"{regions[0]!r} ({listed(cells.ids[:5].tolist())})."
            )
            raise ValueError(msg)
        if len(kept.ids) < len(listed_ids):
            logger.warning(
                "tables[%r]: %d of %d cells that it lists are not in %r where the transcripts are, and are left out.",
                table_key,
                len(listed_ids) - len(kept.ids),
                len(listed_ids),
                regions[0],
            )
        return kept

    def element(self, labels: NDArray[np.integer]) -> DataArray:
        """Return labels on the raster as an element of the object, with the transformations of the transcripts."""
        from spatialdata.models import Labels2DModel

        to_home, transformations = self.source.output_frame(self.sdata)
        return Labels2DModel.parse(
            labels, dims=("y", "x"), transformations=self.grid.transformations(transformations, to_home)
        )

    def holding(self, elements: Mapping[str, Any]) -> Tissue:
        """Return the same tissue with the transcripts and other elements than those of the object."""
        from spatialdata import SpatialData

        held = copy(self)
        parts = {part.key: self.sdata[part.key] for part in self.source.elements}
        held.sdata = SpatialData.init_from_elements({**parts, **elements})
        return held

    def count(self, cells: CellRaster) -> csr_matrix:
        """Count the genes' transcripts per cell, ``(n_cells, n_genes)``, sparse."""
        from scipy.sparse import coo_matrix

        transcripts, n_genes = self.transcripts.map, len(self.transcripts.genes)
        cell = cells.labels[transcripts.rows(), transcripts.column]
        counted = (cell > 0) & (transcripts.feature < n_genes)
        entries = (transcripts.count[counted], (cell[counted] - 1, transcripts.feature[counted]))
        return coo_matrix(entries, shape=(len(cells.ids), n_genes), dtype=np.int32).tocsr()

    def table(self, key: str) -> AnnData:
        """Return counts per cell and gene of an element: ``obs`` has ``cell_id`` and ``area_um2``.

        ``obsm["spatial"]`` holds the centroids in um, in the transcripts' intrinsic frame.
        """
        return self.table_of(self.cells(key))

    def table_of(self, cells: CellRaster) -> AnnData:
        """Return counts per cell and gene of a raster; see :meth:`table`."""
        import pandas as pd
        from anndata import AnnData

        from ucs._kernels.measure import centroids, moments

        sums = moments(cells.labels, len(cells.ids))
        side = cells.um_per_px
        obs = pd.DataFrame(
            {"cell_id": cells.ids, "area_um2": sums[:, 0] * side**2}, index=[str(name) for name in cells.ids]
        )
        table = AnnData(self.count(cells), obs=obs, var=pd.DataFrame(index=self.genes))
        table.obsm["spatial"] = centroids(sums) * side + np.array(self.grid.origin) * self.grid.um_per_unit
        return table
