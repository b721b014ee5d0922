"""Where results go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ucs._checks import check_free_column, check_free_keys

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ucs.pp._sample import Source


@dataclass(frozen=True)
class OutputKeys:
    """Keys of the elements and of the points column that a segmentation adds."""

    labels: str
    shapes: str
    table: str
    points_column: str

    def kinds(self) -> dict[str, str]:
        """Key -> kind of the new elements."""
        return {self.labels: "labels", self.shapes: "shapes", self.table: "tables"}

    def check(self, sdata: SpatialData, source: Source, nuclei_key: str, *, overwrite: bool) -> None:
        """Raise ``ValueError`` if a key is no valid name or taken, and may not be overwritten or can never be."""
        named = {
            "labels_key_added": ("labels", self.labels),
            "shapes_key_added": ("shapes", self.shapes),
            "table_key_added": ("tables", self.table),
        }
        for argument, (_, key) in named.items():
            if key == nuclei_key:
                msg = f"{argument}={key!r} is the key of the nuclei themselves; choose another."
                raise ValueError(msg)
        check_free_keys(sdata, named, overwrite=overwrite)
        check_free_column(
            sdata.points[source.points_key],
            self.points_column,
            points_key=source.points_key,
            used=source.columns.names(),
            overwrite=overwrite,
        )
