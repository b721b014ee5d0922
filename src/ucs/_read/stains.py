"""Images of stains, such as of membranes or of the inside of cells, measured on the grid of a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from ucs._kernels.labels.windows import Window, tiles
from ucs._kernels.stains import HALO_UM, Stains, bin_side, measure_stain
from ucs._read.nuclei.stain import find_stain
from ucs._read.platforms import FOV
from ucs._utils.checks import listed
from ucs._utils.elements import coarsest_level

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._read.grid import Grid
    from ucs._read.nuclei.stain import Stain
    from ucs._read.sample import Sample
    from ucs._read.source import Source
    from ucs.options import ReadOptions

_CHUNK = 1024  # pixels of the grid; not the size of the tiles, on which nothing depends


def find_stains(sdata: SpatialData, source: Source, keys: Sequence[str]) -> dict[str, list[Stain]]:
    """Return the images of each channel by the channel's name: one, or one of each field of view.

    Parameters
    ----------
    sdata, source
        Object and transcripts.
    keys
        Keys of images, ``{fov}`` in place of the name of a field of view; ``"image/channel"`` for one of the channels.

    Raises
    ------
    KeyError
        If there is no such image or channel.
    ValueError
        If a channel is named twice, or fields of view have other channels.
    """
    from spatialdata.models import get_channel_names

    found: dict[str, list[Stain]] = {}
    for entry in keys:
        template, _, channel = entry.partition("/")
        images = [template.replace(FOV, one.name) for one in source.elements] if FOV in template else [template]
        missing = [key for key in images if key not in sdata.images]
        if missing:
            msg = f"stain_keys: there is no image {listed(missing)}; there are: {listed(sdata.images) or 'none'}."
            raise KeyError(msg)
        for key in images:
            for name in [channel] if channel else get_channel_names(sdata.images[key]):
                of = found.setdefault(f"{template}/{name}", [])
                of.append(find_stain(sdata, key, name, source))
                if len({one.key for one in of}) < len(of):
                    msg = f"stain_keys names the channel {template}/{name} twice."
                    raise ValueError(msg)
    uneven = [name for name, of in found.items() if FOV in name and len(of) != len(source.elements)]
    if uneven:
        msg = f"stain_keys: not all fields of view have the channels {listed(uneven)}."
        raise ValueError(msg)
    return found


def read_stains(
    sdata: SpatialData,
    source: Source,
    keys: Sequence[str],
    grid: Grid,
    *,
    coordinate_system: str | None = None,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> Stains:
    """Measure channels on a grid, some of it at a time; see :func:`find_stains` for parameters and errors."""
    found = find_stains(sdata, source, keys)
    measures = np.zeros((2 * len(found), *grid.shape), dtype=np.uint8)
    side = bin_side(grid.um_per_px)
    chunks, done = tiles(grid.shape, -(-_CHUNK // side) * side), 0
    halo = -(-int(np.ceil(HALO_UM / grid.um_per_px)) // side) * side
    total = len(chunks) * sum(len(of) for of in found.values())
    for number, of in enumerate(found.values()):
        for stain in of:
            to_frame = source.to_frame(sdata, stain.key, coordinate_system=coordinate_system)
            to_image = np.linalg.inv(to_frame) @ grid.px_to_intrinsic
            level, matrix = coarsest_level(stain.levels, to_image, least=1)
            plane = level.transpose("c", "y", "x")[stain.positions[0]]
            for chunk in chunks:
                image, inside = _sampled(plane, matrix, chunk.grown(halo), chunk)
                if inside.any():
                    inner = np.s_[halo : halo + chunk.shape[0], halo : halo + chunk.shape[1]]
                    for k, measure in enumerate(measure_stain(image, um_per_px=grid.um_per_px)):
                        np.copyto(measures[2 * number + k][chunk.slices], measure[inner], where=inside)
                done += 1
                update(done, total)
    return Stains(tuple(found), measures)


def with_stains(
    sdata: SpatialData, sample: Sample, options: ReadOptions, *, update: Callable[[int, int], None]
) -> Sample:
    """Return a sample with the stains that are asked for."""
    if options.stain_keys is None:
        return sample
    stains = read_stains(
        sdata,
        sample.source,
        options.stain_keys,
        sample.transcripts.grid,
        coordinate_system=options.coordinate_system,
        update=update,
    )
    return replace(sample, stains=stains)


def _sampled(
    plane: DataArray, matrix: NDArray[np.float64], window: Window, chunk: Window
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return an image on a window of the grid, and which pixels of a chunk of it lie in the image."""
    per_px = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    blur = 0.4 * per_px if per_px >= 1.5 else 0.0  # fine pixels are averaged, not picked
    rows, columns = np.arange(chunk.row0, chunk.row1) + 0.5, np.arange(chunk.column0, chunk.column1) + 0.5
    x = matrix[0, 0] * columns + matrix[0, 1] * rows[:, None] + matrix[0, 2]
    y = matrix[1, 0] * columns + matrix[1, 1] * rows[:, None] + matrix[1, 2]
    size = plane.shape
    inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
    if not inside.any():
        return np.zeros(window.shape, dtype=np.float32), inside
    edges = np.array([[window.column0, window.row0], [window.column1, window.row0],
                      [window.column0, window.row1], [window.column1, window.row1]])  # fmt: skip
    corners = edges @ matrix[:2, :2].T + matrix[:2, 2]
    pad = 2 + int(np.ceil(3 * blur))
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - pad, 0, [size[1] - 1, size[0] - 1])
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + pad, [1, 1], [size[1], size[0]])
    image = np.asarray(plane[top:bottom, left:right]).astype(np.float32)
    np.nan_to_num(image, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    if blur:
        image = gaussian_filter(image, blur, mode="nearest", truncate=3.0)
    # From the middle of pixel (i, j) of the window to places between the middles of the image's pixels.
    swapped = matrix[:2, :2][::-1, ::-1]
    first = swapped @ [window.row0 + 0.5, window.column0 + 0.5] + matrix[[1, 0], 2] - 0.5 - [top, left]
    return affine_transform(image, swapped, first, output_shape=window.shape, order=1, mode="nearest"), inside
