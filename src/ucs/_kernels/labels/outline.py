"""Labels to polygons: exact outlines of labels along pixel edges.

The trace runs along the edges between pixels with the label on its left, seen with x to the right and y upwards. Where
two pixels of a label touch at a corner only, the trace may pass through that corner or turn round it, and either choice
alone makes rings that touch themselves. It therefore passes through if both pixels are in one 4-connected component:
that component then parts the two background pixels, so the two passages are on different rings. It turns round if the
pixels are in two components, which have rings of their own. No ring thus meets a corner twice, which makes all polygons
valid: rings touch each other in single points at most, and the inside of each component is connected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.labels.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["outlines_to_polygons", "trace_window", "windows_of_boxes"]

# What a pixel in the box of a label is.
_OUTSIDE, _LABEL, _CURRENT, _DONE = 0, 1, 2, 3  # not the label; not yet looked at; of the component at hand; of another


def windows_of_boxes(boxes: NDArray[np.int64], side: tuple[int, int]) -> Iterator[tuple[NDArray[np.int64], Window]]:
    """Group labels by where their boxes begin, so that each group is traced in a window that holds it whole.

    Parameters
    ----------
    boxes
        ``(n + 1, 4)`` bounding boxes by label; labels with an empty box are in no group.
    side
        Height and width of the blocks, anchored at (0, 0), in one of which all boxes of a group begin.

    Yields
    ------
    The labels of a group, ascending, and the smallest window that holds their boxes.
    """
    present = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    present = present[present > 0]
    block = boxes[present, 0] // side[0] * (boxes[:, 1].max(initial=0) // side[1] + 1) + boxes[present, 1] // side[1]
    order = np.argsort(block, kind="stable")
    for ids in np.split(present[order], np.flatnonzero(np.diff(block[order])) + 1):
        if len(ids):
            corner, end = boxes[ids, :2].min(axis=0), boxes[ids, 2:].max(axis=0)
            yield ids, Window(int(corner[0]), int(corner[1]), int(end[0]), int(end[1]))


def trace_window(
    labels: NDArray, ids: NDArray[np.int64], boxes: NDArray[np.int64], window: Window, *, every: bool = False
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return the outlines of some labels along pixel edges, from a window that holds them whole.

    Each 4-connected component of a label gives one exterior ring, followed by the rings of its holes. Exteriors run
    counter-clockwise with x to the right and y upwards (positive shoelace area, clockwise on an image shown with row 0
    on top), holes the other way. Rings are closed (first vertex = last) and have vertices where they turn only.

    Parameters
    ----------
    labels
        ``(h, w)`` integer, 0 = background: the pixels of the window.
    ids
        Labels to trace.
    boxes
        ``(n + 1, 4)`` bounding boxes of all labels on the whole raster, as from
        :func:`ucs._kernels.lattice.bounding_boxes`. Pixels beyond its box do not count for a label; labels with an
        empty box are passed over.
    window
        Its place on the raster, which the outlines are given on.
    every
        Whether the ends of all pixel edges are vertices, also where a ring goes straight on.

    Returns
    -------
    coordinates
        ``(n_vertices, 2)`` float64: (x, y) of pixel corners in pixel units, pixel (i, j) covers
        [j, j + 1) x [i, i + 1).
    ring_offsets
        ``(n_rings + 1,)`` int64: ring r has the vertices ``ring_offsets[r]:ring_offsets[r + 1]``.
    cell_ring_offsets
        ``(n_cells + 1,)`` int64: cell k has the rings ``cell_ring_offsets[k]:cell_ring_offsets[k + 1]``.
    ids
        ``(n_cells,)`` int32: the labels that occur, in the order asked for.
    """
    corner = np.array([window.row0, window.column0], dtype=np.int64)
    boxes = boxes[ids] - np.tile(corner, 2)
    coordinates, rings, cells, found = _trace(labels, ids.astype(np.int32), boxes, np.bool_(every))
    # Copies, without the room that was left; whole numbers: exact.
    return coordinates + corner[::-1], rings.copy(), cells, found


def outlines_to_polygons(coordinates: NDArray, ring_offsets: NDArray, cell_ring_offsets: NDArray) -> NDArray:
    """Return one shapely geometry per cell from the output of :func:`trace_window`.

    A cell of several components becomes a MultiPolygon. The coordinates may have been moved through any affine before
    (pixels to um, flips included): the first ring of a cell is an exterior, and so are all that run the same way.

    Parameters
    ----------
    coordinates, ring_offsets, cell_ring_offsets
        As from :func:`trace_window`.

    Returns
    -------
    Shape (n_cells,), object: Polygon or MultiPolygon.
    """
    import shapely  # here, since the engine itself needs no geometry library

    n_cells = len(cell_ring_offsets) - 1
    cell_of_ring = np.repeat(np.arange(n_cells), np.diff(cell_ring_offsets))
    area = _ring_areas(np.ascontiguousarray(coordinates, dtype=np.float64), ring_offsets)
    is_exterior = area * area[cell_ring_offsets[cell_of_ring]] > 0
    part_offsets = np.append(np.flatnonzero(is_exterior), len(area))
    parts = shapely.from_ragged_array(shapely.GeometryType.POLYGON, coordinates, (ring_offsets, part_offsets))
    cell_of_part = cell_of_ring[is_exterior]
    n_parts = np.bincount(cell_of_part, minlength=n_cells)
    polygons = np.empty(n_cells, dtype=object)
    single = n_parts[cell_of_part] == 1
    polygons[cell_of_part[single]] = parts[single]
    if not single.all():
        cells, rank = np.unique(cell_of_part[~single], return_inverse=True)
        polygons[cells] = shapely.multipolygons(parts[~single], indices=rank)
    return polygons


@njit(cache=True, nogil=True)
def _ring_areas(coordinates: NDArray, ring_offsets: NDArray) -> NDArray:
    """Return the signed areas, computed relative to the first vertices to keep precision far from the origin."""
    areas = np.empty(len(ring_offsets) - 1)
    for ring in range(len(areas)):
        start, stop = ring_offsets[ring], ring_offsets[ring + 1]
        x0, y0 = coordinates[start, 0], coordinates[start, 1]
        twice = 0.0
        for k in range(start, stop - 1):
            twice += (coordinates[k, 0] - x0) * (coordinates[k + 1, 1] - y0)
            twice -= (coordinates[k + 1, 0] - x0) * (coordinates[k, 1] - y0)
        areas[ring] = twice / 2
    return areas


@njit(cache=True, nogil=True)
def _flood(state: NDArray, stride: int, seed: int, queue: NDArray) -> tuple[int, int]:
    """Turn the component of `seed` from _LABEL to _CURRENT, list its pixels in `queue`; count them and their edges."""
    state[seed] = _CURRENT
    queue[0] = seed
    n_pixels, n_edges, done = 1, 0, 0
    while done < n_pixels:
        pixel = queue[done]
        done += 1
        for neighbour in (pixel - stride, pixel - 1, pixel + 1, pixel + stride):
            if state[neighbour] == _LABEL:
                state[neighbour] = _CURRENT
                queue[n_pixels] = neighbour
                n_pixels += 1
            elif state[neighbour] == _OUTSIDE:
                n_edges += 1
    return n_pixels, n_edges


@njit(cache=True, nogil=True)
def _trace_ring(
    state: NDArray, top_done: NDArray, stride: int, start: int, ring: NDArray, first: int, every: np.bool_
) -> int:
    """Write the vertices of the ring that holds the top edge of the pixel `start` into `ring`, from `first` on.

    Returns where the next ring begins. Vertices are relative to the corner of the box, around which is a frame.

    A step is an edge of a pixel of the current component, which lies left of it. Directions 0..3 run along the top
    edge (+x), the right edge (+y), the bottom edge (-x) and the left edge (-y). Each visited top edge is marked.
    """
    ahead = (1, stride, -1, -stride)
    end_x, end_y = (1, 1, 0, 0), (0, 1, 1, 0)  # of the edge, seen from the pixel's top left corner
    pixel, direction, n = start, 0, first
    while True:
        if direction == 0:
            top_done[pixel] = True
        y, x = divmod(pixel, stride)
        x += end_x[direction]
        y += end_y[direction]
        right = (direction + 3) % 4
        beyond = pixel + ahead[direction]
        if state[beyond + ahead[right]] == _CURRENT:  # met at a corner only, too: it is of the same component
            pixel, turn = beyond + ahead[right], 3
        elif state[beyond] == _CURRENT:
            pixel, turn = beyond, 0
        else:
            turn = 1
        if every or turn != 0:
            ring[n, 0], ring[n, 1] = x - 1, y - 1
            n += 1
            direction = (direction + turn) % 4
        if pixel == start and direction == 0:
            ring[n, 0], ring[n, 1] = ring[first, 0], ring[first, 1]
            return n + 1


@njit(cache=True, nogil=True)
def _more_vertices(coordinates: NDArray, n: int) -> NDArray:
    """Return the array with room for n rows: itself, or a copy of twice the need."""
    if n <= len(coordinates):
        return coordinates
    larger = np.empty((2 * n, 2))
    for k in range(len(coordinates)):
        larger[k, 0], larger[k, 1] = coordinates[k, 0], coordinates[k, 1]
    return larger


@njit(cache=True, nogil=True)
def _more_rings(offsets: NDArray, n: int) -> NDArray:
    """Return the array with room for n values: itself, or a copy of twice the need."""
    if n <= len(offsets):
        return offsets
    larger = np.empty(2 * n, dtype=np.int64)
    for k in range(len(offsets)):
        larger[k] = offsets[k]
    return larger


@njit(cache=True, nogil=True)
def _trace_component(
    state: NDArray,
    top_done: NDArray,
    stride: int,
    pixels: NDArray,
    n_pixels: int,
    coordinates: NDArray,
    offsets: NDArray,
    n_rings: int,
    every: np.bool_,
) -> int:
    """Append the rings of the current component, the exterior first; return the new number of rings."""
    for k in range(n_pixels):  # the topmost comes first: above it is no hole, so its ring is the exterior
        pixel = pixels[k]
        if state[pixel - stride] == _OUTSIDE and not top_done[pixel]:
            stop = _trace_ring(state, top_done, stride, pixel, coordinates, offsets[n_rings], every)
            n_rings += 1
            offsets[n_rings] = stop
    return n_rings


@njit(cache=True, nogil=True)
def _paint(labels: NDArray, label: int, row0: int, column0: int, row1: int, column1: int, state: NDArray) -> None:
    """Set `state` to _LABEL for the label's pixels in the box and to _OUTSIDE elsewhere, and in a frame of one pixel.

    The frame spares the trace every check of bounds.
    """
    stride = column1 - column0 + 2
    for p in range(stride * (row1 - row0 + 2)):
        state[p] = _OUTSIDE
    for i in range(row0, row1):
        for j in range(column0, column1):
            if labels[i, j] == label:
                state[(i - row0 + 1) * stride + j - column0 + 1] = _LABEL


@njit(cache=True, nogil=True)
def _trace(
    labels: NDArray, asked: NDArray, boxes: NDArray, every: np.bool_
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Trace label after label, each within its box, component after component.

    Arrays are written value by value: what NumPy does in one statement costs seconds of compilation here.
    """
    coordinates, offsets = np.empty((1024, 2)), np.zeros(256, dtype=np.int64)
    cell_offsets, ids = np.zeros(len(asked) + 1, dtype=np.int64), np.empty(len(asked), dtype=np.int32)
    largest = 0
    for k in range(len(asked)):
        largest = max(largest, (boxes[k, 2] - boxes[k, 0] + 2) * (boxes[k, 3] - boxes[k, 1] + 2))
    state, top_done = np.empty(largest, dtype=np.uint8), np.empty(largest, dtype=np.bool_)
    queue = np.empty(largest, dtype=np.int64)
    n_rings, n_cells = int(offsets[0]), 0
    for k in range(len(asked)):
        label = asked[k]
        row0, column0, row1, column1 = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        if row1 <= row0 or column1 <= column0:
            continue
        stride = column1 - column0 + 2
        size = stride * (row1 - row0 + 2)
        _paint(labels, label, row0, column0, row1, column1, state)
        for p in range(size):
            top_done[p] = False
        first_ring = n_rings
        for seed in range(stride + 1, size - stride - 1):
            if state[seed] != _LABEL:
                continue
            n_pixels, n_edges = _flood(state, stride, seed, queue)
            # A ring has at least four edges, one vertex for each at most, and one to close it.
            coordinates = _more_vertices(coordinates, offsets[n_rings] + n_edges + n_edges // 4)
            offsets = _more_rings(offsets, n_rings + 1 + n_edges // 4)
            n_rings = _trace_component(state, top_done, stride, queue, n_pixels, coordinates, offsets, n_rings, every)
            for p in range(n_pixels):
                state[queue[p]] = _DONE
        if n_rings > first_ring:
            for v in range(offsets[first_ring], offsets[n_rings]):
                coordinates[v, 0] += column0
                coordinates[v, 1] += row0
            ids[n_cells] = label
            n_cells += 1
            cell_offsets[n_cells] = n_rings
    return coordinates[: offsets[n_rings]], offsets[: n_rings + 1], cell_offsets[: n_cells + 1], ids[:n_cells]
