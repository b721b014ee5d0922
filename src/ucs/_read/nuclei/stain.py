"""Image and channel of the nuclear stain, and the size of its pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._nuclei.find import StainImage
from ucs._read.platforms import Platform, resolve_platform
from ucs._read.source import find_source
from ucs._read.unit import NOTHING, find_unit
from ucs._utils.checks import check_positive, listed, reading_option
from ucs._utils.elements import levels_of
from ucs._utils.transformations import near, transformation_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._read.source import Source

    Channel = str | int | Sequence[str | int] | None

_STAINS = (r"dapi", r"hoechst", r"(ss|ds)?dna", r"draq5", r"nucle(us|i|ar)")  # names of channels, preferred ones first
_SINGLE_CHANNEL = (*_STAINS, r"morphology", r"mip")  # names of images with the stain as their only channel
_PREFERRED = ("morphology_focus", "morphology_mip")  # Xenium v1 has the same stain twice: focused, and as a projection
_COARSEST_UM = 0.3  # of the levels of a multiscale image: a nucleus is then about twenty pixels wide
_PIXEL_UM = (0.02, 2.0)  # pixel sizes at which nuclei can be seen


@dataclass(frozen=True)
class Stain:
    """Levels of an image ``(c, y, x)``, finest first, and the names and positions of the chosen channels."""

    key: str
    levels: list[DataArray]
    channels: list[Any]
    positions: list[int]


def find_stain(sdata: SpatialData, key: str | None, channel: Channel, source: Source | None = None) -> Stain:
    """Return the image and the channels with the nuclei, or check the given ones.

    With the source of the transcripts, only images that share a coordinate system with these are candidates, if any do.

    Raises
    ------
    KeyError
        If the image or the channel does not exist, or none shows a nuclear stain.
    ValueError
        If several fit, or the image is not two-dimensional.
    """
    if key is not None and key not in sdata.images:
        msg = f"image_key={key!r} is not in this SpatialData; its images are: {listed(sdata.images)}."
        raise KeyError(msg)
    platform = resolve_platform(sdata, "auto", None) if source is None else source.platform
    if key is None:
        candidates = list(sdata.images) if source is None else near(sdata, list(sdata.images), source.keys)
        key = _find_image(sdata, channel, platform, candidates)
    levels = levels_of(sdata.images[key])
    if "z" in levels[0].dims:
        msg = (
            f"images[{key!r}] has the dimensions {levels[0].dims}, but nuclei are found in images (c, y, x): add a "
            "plane or a projection, e.g. Image2DModel.parse(image.max('z')), and name it with image_key=."
        )
        raise ValueError(msg)
    names = _channels(levels)
    positions = _find_channels(names, channel, key, platform.stain_channel)
    return Stain(key, levels, [names[k] for k in positions], positions)


def _find_image(sdata: SpatialData, channel: Channel, platform: Platform, candidates: Sequence[str]) -> str:
    channels = {key: _channels(levels_of(sdata.images[key])) for key in candidates}
    keys = [key for key, names in channels.items() if _may_be_meant(key, names, channel, platform)]
    if not keys:
        images = "; ".join(f"{key!r} with channels {listed(names)}" for key, names in channels.items())
        wanted = "shows a nuclear stain (DAPI, Hoechst, DNA, ...)" if channel is None else f"has channel={channel!r}"
        msg = f"No image {wanted}; there are: {images or 'none'}. Name it with image_key= and channel=."
        raise KeyError(msg)
    preferred = [key for key in _PREFERRED if key in keys]
    if len(keys) > 1 and not preferred:
        msg = f"Several images show the nuclear stain: {listed(keys)}. Name the right one with image_key=."
        raise ValueError(msg)
    return (preferred or keys)[0]


def _channels(levels: list[DataArray]) -> list[Any]:
    return levels[0].coords["c"].to_numpy().tolist()


def _may_be_meant(key: str, names: list[Any], channel: Channel, platform: Platform) -> bool:
    if channel is not None:
        return all(len(_match(names, each)) == 1 for each in _as_list(channel))
    if any(_stain(name) for name in names):
        return True
    if len(names) == 1:
        return bool(_stain(key, _SINGLE_CHANNEL)) or any(re.fullmatch(p, key) for p in platform.stain_images)
    return platform.stain_channel is not None and _have_no_names(names, platform.stain_channel)


def _have_no_names(names: list[Any], position: int) -> bool:
    """Return whether channels are only numbered from 0, or named as colours, and one exists at a position."""
    called = [str(name) for name in names]
    return position < len(names) and called in ([str(k) for k in range(len(names))], list("rgb"), list("rgba"))


def _stain(name: object, patterns: Sequence[str] = _STAINS) -> int:
    """Return the rank of a name among stains, 0 for other names: a pattern must match where a word begins."""
    for k, pattern in enumerate(patterns):
        if re.search(rf"(?<![a-z]){pattern}", str(name).lower()):
            return len(patterns) - k
    return 0


def _as_list(channel: Channel) -> list[Any]:
    return list(channel) if isinstance(channel, list | tuple) else [channel]


def _match(names: list[Any], channel: str | int) -> list[int]:
    """Return the positions of a channel: by its exact name, its number, or its name in any case."""
    exact = [k for k, name in enumerate(names) if str(name) == str(channel)]
    if exact:
        return exact
    if isinstance(channel, int | np.integer) and not isinstance(channel, bool):
        return [int(channel)] if 0 <= channel < len(names) else []
    return [k for k, name in enumerate(names) if str(name).lower() == str(channel).lower()]


def _find_channels(names: list[Any], channel: Channel, key: str, default: int | None) -> list[int]:
    if channel is not None:
        found = [(each, _match(names, each)) for each in _as_list(channel)]
        for each, matches in found:
            if len(matches) != 1:
                problem = "is the name of several channels" if matches else "is not a channel"
                msg = f"channel={each!r} {problem} of images[{key!r}]; its channels are: {listed(names)}."
                raise KeyError(msg)
        if not found:
            msg = f"channel={channel!r} names no channel; those of images[{key!r}] are: {listed(names)}."
            raise ValueError(msg)
        return [matches[0] for _, matches in found]
    if len(names) == 1:
        return [0]
    if default is not None and _have_no_names(names, default):
        return [default]
    ranks = [_stain(name) for name in names]
    best = [k for k, rank in enumerate(ranks) if rank and rank == max(ranks)]
    if not best:
        msg = (
            f"images[{key!r}] has no channel named after a nuclear stain; its channels are: {listed(names)}. Name the "
            "right one with channel=."
        )
        raise KeyError(msg)
    if len(best) > 1:
        stains = listed(names[k] for k in best)
        msg = f"images[{key!r}] has several channels with a nuclear stain: {stains}. Name the right one with channel=."
        raise ValueError(msg)
    return best


def pixel_size(sdata: SpatialData, key: str, given: float | None, source: Source | None = None) -> float:
    """Return the side of a pixel of an image (its finest level) in um: given, or from the transcripts.

    With their source, these are the transcripts of the sample, whose unit is decided.

    Raises
    ------
    ValueError
        If it is unknown, implausible, or not a positive number.
    """
    if given is not None:
        check_positive(given, "um_per_px")
        return float(given)
    if source is not None:
        to_frame = source.to_frame(sdata, key)
        size = float(np.sqrt(abs(np.linalg.det(to_frame[:2, :2])))) * source.um_per_unit
        platform_name = source.platform.name if source.unit_because == NOTHING else ""
        problem = _doubts(sdata, platform_name, {source.points_key: size})
        if problem:
            example = reading_option("um_per_unit", 0.2125)
            msg = f"The size of a pixel of images[{key!r}] is not known: {problem}. Give the unit, as in {example}."
            raise ValueError(msg)
        return size
    platform = resolve_platform(sdata, "auto", None)
    unit = find_unit(sdata, platform, None)
    sizes: dict[str, float] = {}
    for points_key in sdata.points:
        if not any(re.fullmatch(pattern, points_key) for pattern in platform.points_keys):
            continue
        try:
            matrix = transformation_matrix(sdata, key, points_key)
        except ValueError:  # not connected
            continue
        sizes[points_key] = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))) * unit.um
    if not sizes and platform.table_keys:
        source = find_source(sdata)  # bins
        to_frame = source.to_frame(sdata, key)
        sizes[source.points_key] = float(np.sqrt(abs(np.linalg.det(to_frame[:2, :2])))) * source.um_per_unit
    problem = _doubts(sdata, platform.name, sizes)
    if problem:
        msg = f"The size of a pixel of images[{key!r}] is not known: {problem}. Give it with um_per_px=."
        raise ValueError(msg)
    return next(iter(sizes.values()))


def _doubts(sdata: SpatialData, platform: str, sizes: dict[str, float]) -> str | None:
    """Return what is wrong with the sizes from points elements, or None."""
    if not sizes:
        return f"no transcripts share a coordinate system with it (points: {listed(sdata.points)})"
    smallest, largest = min(sizes.values()), max(sizes.values())
    if largest > 1.01 * smallest:
        return f"the transcripts disagree ({', '.join(f'{k!r}: {v:.4g} um' for k, v in sizes.items())})"
    if not _PIXEL_UM[0] <= smallest <= _PIXEL_UM[1]:
        return f"the transformations make it {smallest:.4g} um, which cannot be right"
    if platform == "generic" and abs(smallest - 1) < 1e-6:
        return "image and transcripts have the same unit, which may be anything"
    return None


def working_level(stain: Stain, um_per_px: float) -> tuple[DataArray, tuple[float, float]]:
    """Return the chosen channels ``(c, y, x)`` of one level, and its downsampling factors along y and x.

    The level is the coarsest with pixels of at most 0.3 um, or the finest.
    """
    full = stain.levels[0].shape[-2:]
    chosen, scale = stain.levels[0], (1.0, 1.0)
    for level in stain.levels[1:]:
        factor = full[0] / level.shape[-2], full[1] / level.shape[-1]
        if um_per_px * max(factor) <= _COARSEST_UM:
            chosen, scale = level, factor
    return chosen.transpose("c", "y", "x")[stain.positions], scale


def stain_image(stain: Stain, um_per_px: float) -> StainImage:
    """Return the level of a stain to find nuclei in; ``um_per_px`` is the side of a pixel of its finest level."""
    level, (along_y, along_x) = working_level(stain, um_per_px)
    level_um = um_per_px * float(np.sqrt(along_y * along_x))
    return StainImage(stain.key, level, np.diag([along_x, along_y, 1.0]), level_um)
