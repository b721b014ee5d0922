"""Where results go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ucs._checks import check_free_keys

if TYPE_CHECKING:
    from spatialdata import SpatialData


@dataclass(frozen=True)
class OutputKeys:
    """Keys of the elements and of the points column that a segmentation adds."""

    labels: str
    shapes: str
    table: str
    points_column: str

    def elements(self) -> list[str]:
        """Keys of the new elements."""
        return [self.labels, self.shapes, self.table]

    def check(self, sdata: SpatialData, points_key: str, *, overwrite: bool) -> None:
        """Raise ``ValueError`` if a key is taken and may not be overwritten, or can never be."""
        named = {
            "labels_key_added": ("labels", self.labels),
            "shapes_key_added": ("shapes", self.shapes),
            "table_key_added": ("tables", self.table),
        }
        check_free_keys(sdata, named, overwrite=overwrite)
        points = sdata.points[points_key]
        if self.points_column not in points.columns:
            return
        attributes = points.attrs.get("spatialdata_attrs", {})
        if self.points_column in {"x", "y", "z", attributes.get("instance_key"), attributes.get("feature_key")}:
            msg = f"points_column_added={self.points_column!r} is a column of the data itself; choose another."
            raise ValueError(msg)
        if not overwrite:
            msg = (
                f"points[{points_key!r}] has a column {self.points_column!r}; pass overwrite=True to replace it or "
                "another points_column_added=."
            )
            raise ValueError(msg)
