"""How dense transcripts are in nuclei, cytoplasm and background, and how far cells reach, read from the data.

The mean density falls with the (stretched) distance d to the nearest nucleus from that of cytoplasm to a plateau:

- ``rho(d) = background + c(d) (cytoplasm - background)``
- ``c(d) = plateau + (1 - plateau) sigmoid((reach - d) / softness)``

The sigmoid is the share of pixels at d that belong to a cell whose nucleus is there to be seen; the plateau the share
of those in cells that lie in the section without their nucleus. Background is the median, not the mean, of what lies
farthest from nuclei, for the same reason.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Strip = Callable[[int, int], tuple[NDArray, NDArray, NDArray | None]]

_FARTHEST_UM = 24
_PROFILE_UM = 15
_TAIL_SHARE = 0.1  # of the area outside nuclei, the farthest part
_BLOCK_UM = 6.0  # side of the squares whose median is taken: a pixel alone is 0 or 1
_CONTRAST = 1.5
_DEFAULT = (0.0, 4.0, 1.2)  # plateau, reach and softness in um where the profile does not tell
_ROWS_AT_ONCE, _PIXELS_AT_ONCE = 1024, 1 << 20


@dataclass(frozen=True)
class Levels:
    """Densities per um2 and lengths in um; see the module.

    Attributes
    ----------
    nucleus, cytoplasm, background
        Transcripts per um2.
    plateau, reach_um, softness_um
        Of c(d).
    calibrated
        False if cytoplasm cannot be told from background by density; then reach and softness are defaults.
    """

    nucleus: float
    cytoplasm: float
    background: float
    plateau: float
    reach_um: float
    softness_um: float
    calibrated: bool

    def as_dict(self) -> dict[str, float | bool]:
        """Return the fields as plain values."""
        return asdict(self)

    def belonging(self, distance_um: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the share of cell pixels at a distance that belong to a cell whose nucleus is seen.

        It is a careful one, by which cells are decided: cells whose nucleus is not seen may lie anywhere, even where
        seen ones reach.
        """
        own = (1 - self.plateau) * self.reached(distance_um)
        return (own / (self.plateau + own + 1e-12)).astype(np.float32)

    def seen(self, distance_um: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same share if cells whose nucleus is not seen have the room that seen ones leave.

        It is the better calibrated one, where a pixel has been taken for a cell's.
        """
        reached = self.reached(distance_um)
        return (reached / (reached + (1 - reached) * self.plateau + 1e-12)).astype(np.float32)

    def reached(self, distance_um: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the share of seen cells that reach a distance."""
        # Clipped: float32 holds no exp(89).
        return 1 / (1 + np.exp(np.minimum((distance_um - self.reach_um) / self.softness_um, 50)))


def measure_levels(
    totals: NDArray[np.int32],
    nuclei: NDArray[np.int32],
    distance: NDArray[np.float32],
    *,
    um_per_px: float,
    inside: NDArray[np.bool_] | None = None,
) -> Levels:
    """Measure the levels of a sample.

    Parameters
    ----------
    totals
        ``(h, w)`` transcripts per pixel.
    nuclei
        ``(h, w)`` ids, 0 elsewhere.
    distance
        ``(h, w)`` distance to the nearest nucleus in pixels, ``inf`` beyond reach.
    um_per_px
        Side of a pixel in um.
    inside
        ``(h, w)``, the pixels to measure on; all if None.
    """

    def strip(row0: int, row1: int) -> tuple[NDArray, NDArray, NDArray | None]:
        rows = slice(row0, row1)
        bins = distance_bins(distance[rows], nuclei[rows] > 0, um_per_px)
        return totals[rows], bins, None if inside is None else inside[rows]

    return levels_of_strips(strip, nuclei.shape, um_per_px=um_per_px)


def levels_of_strips(strip: Strip, shape: tuple[int, ...], *, um_per_px: float) -> Levels:
    """Measure the levels of a raster of which one strip is looked at after the other, twice.

    Parameters
    ----------
    strip
        Called with the first row and that behind the last: returns ``(totals, bins, inside)`` of these rows,
        transcripts per pixel, :func:`distance_bins`, and the pixels to measure on (None for all).
    shape
        ``(height, width)`` of the raster.
    um_per_px
        Side of a pixel in um.
    """
    side = max(1, round(_BLOCK_UM / um_per_px))
    rows = max(side, min(_ROWS_AT_ONCE, _PIXELS_AT_ONCE // shape[1]) // side * side)
    strips = [(row0, min(row0 + rows, shape[0])) for row0 in range(0, shape[0], rows)]
    pixels, counts = _profile(strip, strips)
    area = um_per_px**2
    density = counts / np.maximum(pixels * area, 1e-12)
    outside = int(pixels[1:].sum())
    if outside == 0 or counts[1:].sum() == 0:
        return Levels(float(density[0]), float(density[0]), 0.0, *_DEFAULT, calibrated=False)
    first = int(np.flatnonzero(pixels[1:])[0]) + 1
    cytoplasm = float(density[first])
    beyond = np.cumsum(pixels[::-1])[::-1]
    tail = max(int(np.flatnonzero(beyond >= _TAIL_SHARE * outside)[-1]), first + 1)
    background = _median_density(strip, strips, tail, side, um_per_px)
    if background is None or cytoplasm <= _CONTRAST * background:
        return Levels(float(density[0]), cytoplasm, cytoplasm / 5, *_DEFAULT, calibrated=False)
    share = np.clip((density - background) / (cytoplasm - background), 0, 1)
    share[first] = 1
    used = slice(first, min(_PROFILE_UM, len(share) - 1))
    plateau, reach, softness = _fit(np.arange(len(share))[used] - 0.5, share[used], pixels[used])
    return Levels(float(density[0]), cytoplasm, background, plateau, reach, softness, calibrated=True)


def distance_bins(distance: NDArray[np.float32], inside: NDArray[np.bool_], um_per_px: float) -> NDArray[np.uint8]:
    """Return the distance from nuclei in whole um: 0 in nuclei, k in ``(k - 1, k]`` um, 24 for all beyond.

    Parameters
    ----------
    distance
        ``(h, w)`` in pixels, ``inf`` beyond reach.
    inside
        ``(h, w)``, true in nuclei.
    um_per_px
        Side of a pixel in um.
    """
    # A hair less, so that 2 pixels of 0.5 um lie in the first um whatever way they are rounded.
    bins = np.ceil(np.minimum(distance * um_per_px, _FARTHEST_UM) - 1e-4).astype(np.uint8)
    bins[inside] = 0
    return bins


def _profile(strip: Strip, strips: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return pixels and transcripts by distance bin."""
    pixels, counts = np.zeros(_FARTHEST_UM + 1, dtype=np.int64), np.zeros(_FARTHEST_UM + 1)
    for row0, row1 in strips:
        totals, bins, inside = strip(row0, row1)
        wanted = slice(None) if inside is None else inside.ravel()
        index, weights = bins.ravel()[wanted], totals.ravel()[wanted]
        pixels += np.bincount(index, minlength=_FARTHEST_UM + 1)
        counts += np.bincount(index, weights=weights, minlength=_FARTHEST_UM + 1)
    return pixels, counts


def _median_density(
    strip: Strip, strips: list[tuple[int, int]], tail: int, side: int, um_per_px: float
) -> float | None:
    """Return the median density over squares of the tail, None if there is not one square."""
    found = []
    for row0, row1 in strips:
        totals, bins, inside = strip(row0, row1)
        wanted = bins >= tail
        if inside is not None:
            wanted &= inside
        rows, columns = np.arange(0, row1 - row0, side), np.arange(0, wanted.shape[1], side)

        def squares(values: NDArray, rows: NDArray = rows, columns: NDArray = columns) -> NDArray:
            return np.add.reduceat(np.add.reduceat(values, rows, axis=0, dtype=np.int64), columns, axis=1)

        pixels, counts = squares(wanted), squares(np.where(wanted, totals, 0))
        enough = pixels >= side * side / 2
        found.append(counts[enough] / (pixels[enough] * um_per_px**2))
    densities = np.concatenate(found)
    if len(densities) == 0:
        return None
    # Squares hold whole counts: between median and mean where the median is but a step of one count.
    return max(float(np.median(densities)), 0.5 * float(densities.mean()))


def _fit(distance: NDArray, share: NDArray, pixels: NDArray) -> tuple[float, float, float]:
    """Fit plateau, reach and softness by least squares weighted with the pixels."""
    from scipy.optimize import OptimizeWarning, curve_fit

    known = pixels > 0
    if known.sum() < 4:
        return _DEFAULT

    def curve(d: NDArray, plateau: float, reach: float, softness: float) -> NDArray:
        return plateau + (1 - plateau) / (1 + np.exp((d - reach) / softness))

    try:
        found, _ = curve_fit(
            curve,
            distance[known],
            share[known],
            p0=(0.05, 3.0, 1.0),
            sigma=1 / np.sqrt(pixels[known]),
            bounds=([0, 0.5, 0.2], [0.9, 12, 4]),
        )
    except (RuntimeError, OptimizeWarning):
        return _DEFAULT
    return float(found[0]), float(found[1]), float(found[2])
