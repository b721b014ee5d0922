"""One raster and one set of transcripts for all segmentations of a SpatialData object."""

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

RESOLUTION_UM = 0.5  # cells of 10 um across have 300 pixels, a slide of 1 cm2 has 400 million


class Tissue:
    """The transcripts of a SpatialData object and the raster on which its segmentations are compared.

    Where a function of :mod:`ucs.metrics` takes the key of an element, ``sdata=`` may be the object or a ``Tissue``
    made of it. A ``Tissue`` has options, and reads the transcripts once for many calls.

    The raster covers the transcripts, in their intrinsic coordinates. Labels are sampled at its pixel centres and
    polygons filled, both through their transformations. A transcript belongs to the cell of its pixel.

    Parameters
    ----------
    sdata
        Object with transcripts and cells.
    points_key, platform, gene_key, um_per_unit
        As in :func:`ucs.tl.segment`. Transcripts of low quality and control features are left out as there.
    coordinate_system
        Coordinate system that points and cells share; ``"global"`` or another one if None.
    resolution
        Side of a pixel in um.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> tissue = ucs.metrics.Tissue(sdata, resolution=1.0)
    >>> tissue.table("true_cells").n_vars
    30
    >>> ucs.metrics.match("true_cells", "true_cells", sdata=tissue)["f1"].tolist()
    [1.0, 1.0]
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
        """Return a tissue made of an object, and a tissue as it is."""
        return sdata if isinstance(sdata, cls) else cls(sdata)

    @cached_property
    def transcripts(self) -> Transcripts:
        """All transcripts that pass the quality cut, read when they are first needed."""
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
        """Bring the cells of a labels or shapes element, or those that a table lists, onto the raster.

        Raises
        ------
        KeyError
            If there is no such element.
        ValueError
            If the element shares no coordinate system with the transcripts or has no cell where they are, or if a table
            annotates no single element or lists none of its cells.
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
        """Return those cells of the element that a table annotates which the table lists."""
        attrs = self.sdata.tables[table_key].uns.get("spatialdata_attrs")
        if attrs is None:
            msg = f"tables[{table_key!r}] annotates no element, so its cells have no place: pass an element."
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
        """Return labels on the raster as a labels element with the transformations of the transcripts."""
        from spatialdata.models import Labels2DModel

        to_home, transformations = self.source.output_frame(self.sdata)
        return Labels2DModel.parse(
            labels, dims=("y", "x"), transformations=self.grid.transformations(transformations, to_home)
        )

    def holding(self, elements: Mapping[str, Any]) -> Tissue:
        """Return a tissue with the same transcripts and raster, and the given elements instead of the object's."""
        from spatialdata import SpatialData

        held = copy(self)
        parts = {part.key: self.sdata[part.key] for part in self.source.elements}
        held.sdata = SpatialData.init_from_elements({**parts, **elements})
        return held

    def count(self, cells: CellRaster) -> csr_matrix:
        """Return the transcripts per cell and gene, ``(n_cells, n_genes)`` CSR."""
        from scipy.sparse import coo_matrix

        transcripts, n_genes = self.transcripts.map, len(self.transcripts.genes)
        cell = cells.labels[transcripts.rows(), transcripts.column]
        counted = (cell > 0) & (transcripts.feature < n_genes)
        entries = (transcripts.count[counted], (cell[counted] - 1, transcripts.feature[counted]))
        return coo_matrix(entries, shape=(len(cells.ids), n_genes), dtype=np.int32).tocsr()

    def table(self, key: str) -> AnnData:
        """Return the counts of an element, cells x genes.

        ``obs`` has ``cell_id`` and ``area_um2``; ``obsm["spatial"]`` the centroids in um along the axes of the
        transcripts' intrinsic coordinates.
        """
        return self.table_of(self.cells(key))

    def table_of(self, cells: CellRaster) -> AnnData:
        """Return the counts of cells on the raster, cells x genes; see :meth:`table`."""
        import pandas as pd
        from anndata import AnnData

        from ucs._kernels.labels.measure import centroids, moments

        sums = moments(cells.labels, len(cells.ids))
        side = cells.um_per_px
        obs = pd.DataFrame(
            {"cell_id": cells.ids, "area_um2": sums[:, 0] * side**2}, index=[str(name) for name in cells.ids]
        )
        table = AnnData(self.count(cells), obs=obs, var=pd.DataFrame(index=self.genes))
        table.obsm["spatial"] = centroids(sums) * side + np.array(self.grid.origin) * self.grid.um_per_unit
        return table
