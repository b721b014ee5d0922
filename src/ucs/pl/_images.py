"""Which image a picture shows, and its pixels as colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ucs._read.nuclei.of_sample import keys_of_nuclei
from ucs._read.nuclei.stain import find_stain
from ucs._utils.checks import choose_one, listed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.source import Source

_IMAGE_KEYS = ("morphology_focus", "morphology_mip", r"(?i:.*dapi.*)", r"(?i:.*morphology.*)", r"(?i:.*nucle.*)")
_STAINS = np.array([[0.25, 0.45, 1], [0.1, 0.9, 0.3], [1, 0.2, 0.8], [1, 0.8, 0.1], [0.1, 0.9, 0.9], [1, 0.35, 0.2]])
"""Colours of several stains on black: blue, as of DAPI, first."""


class Channels(NamedTuple):
    """Channels of an image to show, and whether they are red, green and blue."""

    numbers: list[int]
    is_rgb: bool

    @property
    def in_color(self) -> bool:
        """Whether the picture of them has colours."""
        return self.is_rgb or len(self.numbers) > 1

    @property
    def is_dark(self) -> bool:
        """Whether the picture of them is dark."""
        return len(self.numbers) > 1 and not self.is_rgb


def find_images(sdata: SpatialData, source: Source, image_key: str | None) -> list[str]:
    """Return the image given, or those (one per field of view) whose name or channels tell that they show nuclei."""
    if image_key is None and source.by_field:
        return [key for key in keys_of_nuclei(source, source.platform.image_key or "") if key in sdata.images]
    try:
        what = "image of the nuclei"
        return [choose_one(image_key, list(sdata.images), _IMAGE_KEYS, argument="image_key", what=what)]
    except (KeyError, ValueError):
        if image_key is not None:
            raise
    try:
        return [find_stain(sdata, None, None).key]
    except (KeyError, ValueError):
        return []


def find_channels(sdata: SpatialData, image_key: str, channel: str | Sequence[str] | None) -> Channels:
    """Return the channels to show: those given, all of a picture in red, green and blue, or else a nuclear stain."""
    from spatialdata.models import get_channel_names

    names = [str(name) for name in get_channel_names(sdata.images[image_key])]
    if channel is None:
        if _is_rgb(sdata, image_key, names):
            return Channels([0, 1, 2], is_rgb=True)
        return Channels([names.index("DAPI") if "DAPI" in names else _stain_number(sdata, image_key)], is_rgb=False)
    asked = [channel] if isinstance(channel, str) else list(channel)
    if not asked or not set(asked) <= set(names):
        msg = f"channel={channel!r} is not in images[{image_key!r}]; there are: {listed(names)}."
        raise KeyError(msg)
    return Channels([names.index(name) for name in asked], is_rgb=False)


def _is_rgb(sdata: SpatialData, image_key: str, names: list[str]) -> bool:
    """Tell whether an image is a picture as of a camera: channels r, g, b, or three of 8 bits without names."""
    if [name.lower() for name in names] in (["r", "g", "b"], ["r", "g", "b", "a"], ["red", "green", "blue"]):
        return True
    from ucs._utils.elements import finest_level

    return names == ["0", "1", "2"] and finest_level(sdata.images[image_key]).dtype == np.uint8


def _stain_number(sdata: SpatialData, image_key: str) -> int:
    try:
        return find_stain(sdata, image_key, None).positions[0]
    except (KeyError, ValueError):
        return 0


def as_picture(pixels: NDArray, channels: Channels) -> tuple[NDArray, dict[str, Any]]:
    """Return channels ``(c, h, w)`` as ``(h, w)`` or ``(h, w, 3)``, and keywords to show it with.

    Red, green and blue stay as they are. Several stains have colours on black. One is dark on white, and nowhere darker
    than half, so that dots and outlines stand out.
    """
    if channels.is_rgb:
        if pixels.dtype == np.uint8:
            return np.moveaxis(pixels, 0, -1), {}
        return np.moveaxis(pixels / max(float(pixels.max()), 1e-9), 0, -1), {}
    low, high = np.percentile(pixels, (1, 99.8), axis=(1, 2))
    if not channels.in_color:
        return pixels[0], {"cmap": "gray_r", "vmin": low[0], "vmax": low[0] + 2 * max(high[0] - low[0], 1e-9)}
    scaled = np.clip((pixels - low[:, None, None]) / np.maximum(high - low, 1e-9)[:, None, None], 0, 1)
    colors = _STAINS[np.arange(len(scaled)) % len(_STAINS)]
    return np.clip(np.einsum("chw,ck->hwk", scaled, colors), 0, 1), {}
