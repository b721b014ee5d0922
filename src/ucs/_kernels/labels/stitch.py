"""Objects of several fields of view on one raster: halves joined, duplicates removed.

Every pixel has the label of its own field. Labels of two fields are one object

- where the fields overlap: if they mostly coincide there (intersection over union at least one half);
- where the fields only touch: if they face each other along mostly the same part of the border, and at least one of
  them is evidently cut, that is, the square of that length is at least half its area. Whole objects that happen to
  touch at a border do so along a short part of it. A fragment too small to be an object joins the label beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.components import lowest_connected

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ALIKE = 0.5  # intersection over union from which two labels are one object
_CUT = 0.5  # squared length over area of an object cut in halves: 2.5 if round, 0.5 if five times as long as wide


@dataclass(frozen=True)
class Sightings:
    """Pairs of labels of two fields at the same place.

    Attributes
    ----------
    first, second
        ``(n,)`` ids, 0 = background. An id belongs to one field only.
    first_field, second_field
        ``(n,)`` fields, the first the lower.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    first_field: NDArray[np.int64]
    second_field: NDArray[np.int64]

    @classmethod
    def of(cls, first: NDArray, second: NDArray, first_field: NDArray, second_field: NDArray) -> Sightings:
        """Return pairs with their two sides sorted by field."""
        ids, fields = np.stack([first, second]), np.stack([first_field, second_field])
        swap = fields[0] > fields[1]
        ids[:, swap], fields[:, swap] = ids[::-1, swap], fields[::-1, swap]
        return cls(*ids.astype(np.int64), *fields.astype(np.int64))


@dataclass(frozen=True)
class _Pairs:
    """Ids that occur together, the number of times, and the number of times each occurs against the other's field."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    together: NDArray[np.int64]
    of_first: NDArray[np.int64]
    of_second: NDArray[np.int64]

    def alike(self) -> NDArray[np.bool_]:
        """Return which pairs mostly coincide, ``(n,)``."""
        return self.together >= _ALIKE * (self.of_first + self.of_second - self.together)


def contacts(labels: NDArray, field: NDArray) -> Sightings:
    """Return the labels on the two sides of the borders between fields.

    Parameters
    ----------
    labels
        ``(h, w)`` ids.
    field
        ``(h, w)`` field of each pixel, 0 = none.
    """
    sides = []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        at = np.nonzero((field[a] != field[b]) & (field[a] > 0) & (field[b] > 0))
        sides.append(tuple(raster[side][at] for raster in (labels, field) for side in (a, b)))
    return Sightings.of(*(np.concatenate(parts) for parts in zip(*sides, strict=True)))


def stitch(
    field_of: NDArray[np.integer],
    *,
    contact: Sightings,
    seen_twice: Sightings,
    area: NDArray[np.integer],
    full_area: NDArray[np.integer],
    chip: float,
) -> NDArray[np.int64]:
    """Return the object of each id.

    Parameters
    ----------
    field_of
        ``(n + 1,)`` field of each id; ids are ``1..n``.
    contact
        Pairs along the borders between fields.
    seen_twice
        Pairs in overlaps: the label of the owner of a pixel and that of another field.
    area
        ``(n + 1,)`` pixels of each id that its own field owns.
    full_area
        ``(n + 1,)`` pixels of each id in the whole area of its field.
    chip
        Area in pixels below which a label is a fragment.

    Returns
    -------
    ``(n + 1,)`` for each id the id of its object (that of the part with the largest area, the lowest of several), 0 for
    ids that lie mostly in another field that does not see them.
    """
    overlapping, touching = _pairs(seen_twice, field_of), _pairs(contact, field_of)
    # Where the fields overlap, the overlap decides, not the border between their shares of it.
    undecided = ~_overlap(seen_twice, touching, field_of)
    length = np.maximum(touching.of_first**2 / area[touching.first], touching.of_second**2 / area[touching.second])
    alike, halves = overlapping.alike(), undecided & touching.alike() & (length >= _CUT)
    links = [
        (overlapping.first[alike], overlapping.second[alike]),
        (touching.first[halves], touching.second[halves]),
        *_chips(touching, undecided, area, chip),
    ]
    a, b = (np.concatenate(side) for side in zip(*links, strict=True))
    object_of = lowest_connected(a, b, len(area))
    alone = np.bincount(object_of, minlength=len(area))[object_of] == 1
    main = _largest(object_of, area)[object_of]
    main[(alone & (2 * area < full_area)) | (area == 0)] = 0
    return main


def _pairs(sightings: Sightings, field_of: NDArray[np.integer]) -> _Pairs:
    s = sightings
    both = (s.first > 0) & (s.second > 0)
    (first, second), together = np.unique(np.stack([s.first[both], s.second[both]]), axis=1, return_counts=True)
    of_first = _count(s.first, s.second_field, first, field_of[second])
    return _Pairs(first, second, together, of_first, _count(s.second, s.first_field, second, field_of[first]))


def _count(ids: NDArray, before: NDArray, wanted: NDArray, wanted_before: NDArray) -> NDArray[np.int64]:
    """Count how often each wanted id occurs against the wanted field."""
    n = int(max(before.max(initial=0), wanted_before.max(initial=0))) + 1
    known, counts = np.unique(ids * n + before, return_counts=True)
    if len(known) == 0:
        return np.zeros(len(wanted), dtype=np.int64)
    key = wanted * n + wanted_before
    at = np.minimum(np.searchsorted(known, key), len(known) - 1)
    return np.where(known[at] == key, counts[at], 0)


def _overlap(seen_twice: Sightings, pairs: _Pairs, field_of: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the pairs of which each lies within the area of the other's field."""
    s = seen_twice
    of_first = _count(s.first, s.second_field, pairs.first, field_of[pairs.second])
    return (of_first > 0) & (_count(s.second, s.first_field, pairs.second, field_of[pairs.first]) > 0)


def _chips(pairs: _Pairs, undecided: NDArray[np.bool_], area: NDArray, chip: float) -> list[tuple[NDArray, NDArray]]:
    """Link each fragment with the label along at least half of its border."""
    links = []
    sides = (pairs.first, pairs.second, pairs.of_first), (pairs.second, pairs.first, pairs.of_second)
    for own, other, of_own in sides:
        small = undecided & (area[own] < chip) & (2 * pairs.together >= of_own)
        order = np.lexsort((other[small], -pairs.together[small], own[small]))
        chips, at = np.unique(own[small][order], return_index=True)
        links.append((chips, other[small][order][at]))
    return links


def _largest(group: NDArray, area: NDArray) -> NDArray[np.int64]:
    """Return the member of each group with the largest area, the lowest of several."""
    order = np.lexsort((-np.arange(len(area)), area))
    out = np.zeros(len(area), dtype=np.int64)
    out[group[order]] = order  # the last one written stays
    return out
