"""The cores of cells: nuclei and what lies so near to them that it is almost always of the nearest nucleus' cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.count import count_in_labels
from ucs._kernels.distances import nearest_nuclei
from ucs._kernels.labels.ids import renumber
from ucs._kernels.lattice import bounding_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ucs._kernels.transcripts import TranscriptMap

CORE_UM = 2.0
"""Distance from its nucleus within which a cell's core lies."""

_ROWS = 256
_MOST_RANGES = 2  # to make cores once more takes longer than to count in them


@dataclass(frozen=True, eq=False)
class Cores:
    """A raster of cores that is made row by row when it is read: ``cores[row0:row1]`` is ``(row1 - row0, w)`` int32.

    Attributes
    ----------
    nuclei
        ``(h, w)`` int32 ids 1..n.
    n
        The highest id.
    um_per_px
        Side of a pixel in um.
    """

    nuclei: NDArray[np.int32]
    n: int
    um_per_px: float

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.nuclei.shape[0], self.nuclei.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """Of the ids."""
        return np.dtype(np.int32)

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def chunks(self) -> tuple[int, int]:
        """Pieces that it is best read in."""
        return _ROWS, self.shape[1]

    def __getitem__(self, rows: slice) -> NDArray[np.int32]:
        """Return the cores on some rows: the id of the nucleus within 2 um, of the nearest, then the lower id."""
        row0, row1, _ = rows.indices(self.shape[0])
        reach = int(np.ceil(CORE_UM / self.um_per_px))
        above, below = max(row0 - reach, 0), min(row1 + reach, self.shape[0])
        ids, local = renumber(self.nuclei[above:below], self.n)
        plain = np.tile([1.0, 0.0, 1.0], (len(ids), 1))
        nearest = nearest_nuclei(local, bounding_boxes(local, len(ids) - 1), plain, reach=reach)
        inner = slice(row0 - above, row1 - above)
        near = nearest.distance[inner] * self.um_per_px <= CORE_UM + 1e-4
        return np.where(near, ids[nearest.owner[inner]], 0).astype(np.int32)


def count_in_cores(transcripts: TranscriptMap, nuclei: NDArray[np.int32], n: int, *, um_per_px: float) -> csr_matrix:
    """Return ``(n, n_features)`` transcripts in each nucleus and within 2 um of it, nearer than to any other.

    Parameters
    ----------
    transcripts
        Of the features to count.
    nuclei, n
        ``(h, w)`` ids, and the highest of them.
    um_per_px
        Side of a pixel in um.
    """
    cores = Cores(nuclei, n, um_per_px)
    return count_in_labels(transcripts, cores, n, most_ranges=_MOST_RANGES)
