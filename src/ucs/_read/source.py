"""Which elements of a SpatialData object are read, and how they lie together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._read.keys import FOV
from ucs._utils.transformations import matrix_to_system, transformation_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.columns import TranscriptColumns
    from ucs._read.elements import Part
    from ucs._read.platforms import Platform


@dataclass(frozen=True)
class Source:
    """Which elements and columns of a SpatialData are used, and how they are read.

    Attributes
    ----------
    parts
        The elements with transcripts: one, or one for each field of view.
    platform
        Conventions.
    um_per_unit
        Length of one unit of the frame in um. The frame is the coordinates that the grid is defined in: the intrinsic
        ones of a single part (for bins: turned onto them), the common coordinate system of several.
    resolution
        Side of a pixel in um.
    system
        The coordinate system that is the frame of several parts; None for a single one.
    """

    parts: tuple[Part, ...]
    platform: Platform
    um_per_unit: float
    resolution: float
    system: str | None = None

    @property
    def points_key(self) -> str:
        """Key of the transcripts; of several, a list of them for messages."""
        keys = [part.key for part in self.parts]
        return keys[0] if len(keys) == 1 else ", ".join(keys[:4]) + (f", ... ({len(keys)} in all)" if keys[4:] else "")

    @property
    def by_field(self) -> bool:
        """Whether the platform has one element of each kind for each field of view."""
        return FOV in (self.platform.image_key or "")

    @property
    def columns(self) -> TranscriptColumns:
        """What is read of the rows of the first part."""
        return self.parts[0].columns

    def to_frame(
        self, sdata: SpatialData, key: str, *, coordinate_system: str | None = None
    ) -> NDArray[np.float64]:
        """Return the ``(3, 3)`` matrix from the intrinsic ``(x, y, 1)`` of any element to the frame.

        Raises
        ------
        ValueError
            If the element is not connected to it.
        """
        if self.system is not None:
            return matrix_to_system(sdata, key, self.system)
        part = self.parts[0]
        matrix = transformation_matrix(sdata, key, part.key, coordinate_system=coordinate_system)
        return matrix if part.is_at_home else part.to_frame @ matrix

    def home(self, sdata: SpatialData) -> tuple[NDArray[np.floating], dict[str, Any]]:
        """Return the coordinates that results are given in: the matrix from the frame, and their transformations.

        These are the intrinsic coordinates of a single part, with all its transformations, and the common coordinate
        system of several.
        """
        from spatialdata.transformations import Identity, get_transformation

        if self.system is not None:
            return np.eye(3), {self.system: Identity()}
        part = self.parts[0]
        transformations = get_transformation(sdata[part.key], get_all=True)
        return np.eye(3) if part.is_at_home else np.linalg.inv(part.to_frame), transformations
