"""Where results go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ucs._read.nuclei.of_sample import keys_of_nuclei
from ucs._results.lookup import check_free_column
from ucs._utils.checks import check_free_keys

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ucs._read.sample import Source


@dataclass(frozen=True)
class OutputKeys:
    """Keys of the elements and of the columns of the points that a segmentation adds."""

    labels: str
    shapes: str
    table: str
    points_column: str
    points_confidence: str | None = None
    missing_nuclei: str | None = None

    def kinds(self) -> dict[str, str]:
        """Key -> kind of the new elements."""
        kinds = {self.labels: "labels", self.shapes: "shapes", self.table: "tables"}
        return kinds if self.missing_nuclei is None else {**kinds, self.missing_nuclei: "labels"}

    def check(self, sdata: SpatialData, source: Source, nuclei_key: str, *, overwrite: bool) -> None:
        """Raise ``ValueError`` if a key is no valid name or taken, and may not be overwritten or can never be."""
        named = {
            "labels_key_added": ("labels", self.labels),
            "shapes_key_added": ("shapes", self.shapes),
            "table_key_added": ("tables", self.table),
        }
        if self.missing_nuclei is not None:
            named["missing_nuclei_key_added"] = ("labels", self.missing_nuclei)
        for argument, (_, key) in named.items():
            if key in keys_of_nuclei(source, nuclei_key):
                msg = f"{argument}={key!r} is the key of the nuclei themselves; choose another."
                raise ValueError(msg)
        check_free_keys(sdata, named, overwrite=overwrite)
        if self.points_confidence == self.points_column:
            msg = f"points_column_added and points_confidence_added are both {self.points_column!r}; they must differ."
            raise ValueError(msg)
        for part in source.elements:
            check_free_column(sdata, part, self.points_column, overwrite=overwrite)
            if self.points_confidence is not None:
                argument = "points_confidence_added"
                check_free_column(sdata, part, self.points_confidence, overwrite=overwrite, argument=argument)
