"""Nuclei from a nuclear stain."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._checks import check_at_least, check_free_keys, check_name, check_positive, listed
from ucs._logging import logger
from ucs._platforms import resolve_platform
from ucs._progress import stage
from ucs.pp._nuclei import affine_matrix, transformation_matrix
from ucs.pp._nuclei_methods import WATERSHED, check_method, load_network, name_of
from ucs.pp._nuclei_tiles import Raster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

    from ucs.pp._nuclei_tiles import FoundNuclei

_STAINS = (r"dapi", r"hoechst", r"(ss|ds)?dna", r"draq5", r"nucle(us|i|ar)")  # the preferred one first
_IMAGES = (r"morphology_focus", r"morphology_mip", *_STAINS, r"morphology", r"mip")  # that show it in a single channel
_COARSEST_UM = 0.3  # of the levels of a multiscale image: a nucleus has twenty pixels across
_WORKING_UM = 0.5  # blocks up to this size lose nothing that the watershed needs
_PIXEL_UM = (0.02, 2.0)  # sizes of pixels that nuclei can be seen at
_AREA_UM2 = (5.0, 500.0)  # median areas that nuclei can have


def nuclei(
    sdata: SpatialData,
    image_key: str | None = None,
    *,
    channel: str | int | Sequence[str | int] | None = None,
    method: str | Callable[[NDArray], NDArray] = WATERSHED,
    labels_key_added: str = "ucs_nuclei",
    um_per_px: float | None = None,
    tile_size: int = 2048,
    overwrite: bool = False,
    inplace: bool = True,
    progress: bool = True,
    **options: Any,
) -> SpatialData | None:
    """Find nuclei in an image of a nuclear stain.

    The image is read tile by tile and the labels are kept compressed, so neither is ever in memory as a whole. With the
    built-in method the result does not depend on ``tile_size``.

    Parameters
    ----------
    sdata
        Object with the image, as a reader of spatialdata-io returns it. Nothing of the user's is changed.
    image_key
        Key of the image; if None, the one with a nuclear stain (DAPI, Hoechst, DNA, ... among its channels, or a single
        channel under such a name or ``morphology_focus``).
    channel
        Name (or position) of the channel; the one named after a nuclear stain if None. Several are passed on, in the
        order given, to methods that take them; the built-in method takes one.
    method
        ``"watershed"``: built in, needs no weights (see Notes). ``"cellpose"``, ``"stardist"``, ``"instanseg"``: through
        their own packages. Or a function from ``(c, y, x)``, in the type of the image, to integer labels ``(y, x)``,
        which is called for windows of up to ``tile_size`` pixels and a margin of 40 um, and should not depend on more.
    labels_key_added
        Key of the result.
    um_per_px
        Side of a pixel of the image (its finest level) in um; if None, from its transformation to the transcripts.
    tile_size
        Side in pixels of what is worked on at once, and of the chunks of the labels.
    overwrite
        Whether labels of an earlier run may be replaced.
    inplace
        Whether to add the result to ``sdata``, or to return a new object that shares its elements.
    progress
        Whether to show a progress bar.
    **options
        Of the method. ``"watershed"``: the fields of ``WatershedParams``, e.g. ``blob`` (um), ``contrast``,
        ``min_area`` and ``max_area`` (um^2). The networks: ``model`` (name or path of the weights), ``gpu`` or
        ``device``, and whatever their function for one image takes.

    Returns
    -------
    None, or the new object. It has ``labels[labels_key_added]``: ``(y, x)`` uint32 on Dask, 0 = background, ids 1..n in
    the order of their first pixels, in all coordinate systems of the image. A multiscale image is labelled at the
    coarsest level with pixels of at most 0.3 um, or the finest.

    Raises
    ------
    KeyError
        If the image or the channel is not there, or none shows a nuclear stain.
    ValueError
        If several could be meant, the image is not two-dimensional, constant, or has NaN pixels, the size of a pixel is
        not known or cannot be right, a name is taken, the method is unknown, or no nucleus is found.
    TypeError
        If the method has no such option.
    ImportError
        If the package of a method is not installed.
    RuntimeError
        If the weights of a method cannot be had.

    Notes
    -----
    The built-in method smooths the image, takes off the local background, scales it by the local brightness of nuclei,
    and cuts its blob contrast (negative Laplacian of Gaussian) into basins by steepest ascent. Each is cut at half its
    own brightness; those of one nucleus are put together again where the valley is shallow or the union is an ellipse.
    """
    check_name(labels_key_added, "labels_key_added")
    check_at_least(tile_size, 32, "tile_size")
    check_free_keys(sdata, {"labels_key_added": ("labels", labels_key_added)}, overwrite=overwrite)
    check_method(method, options)
    source = _find_stain(sdata, image_key, channel)
    um_per_px = _pixel_size(sdata, source.key, um_per_px)
    image, level_scale = _choose_level(source, um_per_px)
    level_um = um_per_px * float(np.sqrt(level_scale[0] * level_scale[1]))
    with stage("nuclei", (timings := {}), progress=progress, unit="tile") as update:
        found = _run(method, options, image, source.key, level_um, int(tile_size), update)
    _check_found(found, level_um, um_per_px, method)
    result = sdata if inplace else _shallow_copy(sdata)
    _add(result, labels_key_added, found, sdata.images[source.key], level_scale)
    logger.info(
        "Added labels %r: %d nuclei, median area %.0f um2, from images[%r] channel %s at %.3g um per px (%s), %.1f s.",
        labels_key_added,
        len(found.areas),
        np.median(found.areas) * level_um**2,
        source.key,
        listed(source.channels),
        level_um,
        name_of(method),
        timings["nuclei"],
    )
    return None if inplace else result


@dataclass(frozen=True)
class _Stain:
    """Levels of an image ``(c, y, x)``, finest first, and the chosen channels by name and position."""

    key: str
    levels: list[DataArray]
    channels: list[Any]
    positions: list[int]


def _find_stain(sdata: SpatialData, key: str | None, channel: str | int | Sequence[str | int] | None) -> _Stain:
    """Find the image and the channel, or check those given."""
    if key is not None and key not in sdata.images:
        msg = f"image_key={key!r} is not in this SpatialData; its images are: {listed(sdata.images)}."
        raise KeyError(msg)
    keys = list(sdata.images) if key is None else [key]
    if key is None:
        keys = _best(keys, lambda name: _rank(sdata.images[name], name, channel))
        if not keys:
            images = "; ".join(f"{name!r} with channels {listed(_channels(sdata.images[name]))}" for name in sdata.images)
            wanted = "a nuclear stain (DAPI, Hoechst, DNA, ...)" if channel is None else f"channel={channel!r}"
            msg = f"No image shows {wanted}; there are: {images or 'none'}. Name it with image_key= and channel=."
            raise KeyError(msg)
        if len(keys) > 1:
            msg = f"Several images show the nuclear stain: {listed(keys)}. Name the right one with image_key=."
            raise ValueError(msg)
    element = sdata.images[keys[0]]
    levels = _levels(element)
    if "z" in levels[0].dims:
        msg = (
            f"images[{keys[0]!r}] has dimensions {levels[0].dims}, but nuclei are found in images (c, y, x): add a plane or "
            "a projection, e.g. Image2DModel.parse(image.max('z')), and name it with image_key=."
        )
        raise ValueError(msg)
    names = _channels(element)
    positions = _positions(names, channel, keys[0])
    return _Stain(keys[0], levels, [names[k] for k in positions], positions)


def _levels(element: DataArray | DataTree) -> list[DataArray]:
    from xarray import DataTree

    return [next(iter(element[name].values())) for name in element] if isinstance(element, DataTree) else [element]


def _channels(element: DataArray | DataTree) -> list[Any]:
    return _levels(element)[0].coords["c"].to_numpy().tolist()


def _best(names: Sequence[Any], rank: Callable[[Any], int | None]) -> list[Any]:
    """Return those of the best rank; None is no rank at all."""
    ranks = {k: value for k, name in enumerate(names) if (value := rank(name)) is not None}
    return [names[k] for k, value in ranks.items() if value == min(ranks.values())]


def _stain_rank(name: object, patterns: Sequence[str] = _STAINS) -> int | None:
    """Return which pattern a name holds as a word of its own, or at the start of one."""
    for rank, pattern in enumerate(patterns):
        if re.search(rf"(?<![a-z]){pattern}", str(name).lower()):
            return rank
    return None


def _rank(element: DataArray | DataTree, key: str, channel: object) -> int | None:
    """Return how likely an image shows the nuclei: the lower the likelier, None if it does not."""
    names = _channels(element)
    if channel is not None:
        wanted = channel if isinstance(channel, list | tuple) else [channel]
        if not all(_match(names, each) for each in wanted):
            return None
    ranks = [rank for name in names if (rank := _stain_rank(name)) is not None]
    by_name = _stain_rank(key, _IMAGES)
    # Xenium v1 has the same stain twice: sharpest plane and projection. The names of the images decide.
    if ranks or (len(names) == 1 and by_name is not None) or channel is not None:
        return len(_IMAGES) if by_name is None else min(by_name, 2)
    return None


def _match(names: Sequence[Any], channel: str | int) -> list[int]:
    """Return the positions of a channel: by name, regardless of case if need be, or by position."""
    exact = [k for k, name in enumerate(names) if name == channel or str(name) == str(channel)]
    if exact:
        return exact
    if isinstance(channel, int) and not isinstance(channel, bool):
        return [channel] if 0 <= channel < len(names) else []
    return [k for k, name in enumerate(names) if str(name).lower() == str(channel).lower()]


def _positions(names: Sequence[Any], channel: str | int | Sequence[str | int] | None, key: str) -> list[int]:
    if channel is None:
        found = _best(range(len(names)), lambda k: _stain_rank(names[k])) or ([0] if len(names) == 1 else [])
        if len(found) == 1:
            return found
        problem = "no channel named after a nuclear stain" if not found else "several channels with a nuclear stain"
        shown = listed(names[k] for k in found) if found else listed(names)
        msg = f"images[{key!r}] has {problem}: {shown}. Name the right one with channel=."
        raise (ValueError if found else KeyError)(msg)
    positions = []
    for each in channel if isinstance(channel, list | tuple) else [channel]:
        found = _match(names, each)
        if len(found) != 1:
            problem = "is not a channel" if not found else "is the name of several channels"
            msg = f"channel={each!r} {problem} of images[{key!r}]; its channels are: {listed(names)}."
            raise KeyError(msg)
        positions += found
    if not positions:
        msg = f"channel={channel!r} names no channel; those of images[{key!r}] are: {listed(names)}."
        raise ValueError(msg)
    return positions


def _pixel_size(sdata: SpatialData, key: str, given: float | None) -> float:
    """Return the side of a pixel of an image in um, from the transcripts if it is not given."""
    if given is not None:
        check_positive(given, "um_per_px")
        return float(given)
    platform = resolve_platform(sdata, "auto", None)
    sizes: dict[str, float] = {}
    for points_key in sdata.points:
        if not any(re.fullmatch(pattern, points_key) for pattern in platform.points_keys):
            continue
        try:
            matrix = transformation_matrix(sdata, key, points_key)
        except ValueError:  # not connected
            continue
        sizes[points_key] = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))) * platform.um_per_unit
    size = next(iter(sizes.values()), None)
    problem = None
    if size is None:
        problem = f"no transcripts share a coordinate system with it (points: {listed(sdata.points)})"
    elif max(sizes.values()) > 1.01 * min(sizes.values()):
        problem = f"the transcripts disagree ({', '.join(f'{k!r}: {v:.4g} um' for k, v in sizes.items())})"
    elif not _PIXEL_UM[0] <= size <= _PIXEL_UM[1]:
        problem = f"the transformations make it {size:.4g} um, which cannot be right"
    elif platform.name == "generic" and abs(size - 1) < 1e-6:  # noqa: PLR2004
        problem = "image and transcripts have the same unit, which may be anything"
    if problem:
        msg = f"The size of a pixel of images[{key!r}] is not known: {problem}. Give it with um_per_px=."
        raise ValueError(msg)
    return float(size)  # type: ignore[arg-type]


def _choose_level(source: _Stain, um_per_px: float) -> tuple[DataArray, tuple[float, float]]:
    """Return the level to work on, its channels chosen, and the size of its pixels (y, x) in those of the finest."""
    full = source.levels[0].shape[-2:]
    chosen, scale = source.levels[0], (1.0, 1.0)
    for level in source.levels[1:]:
        factor = full[0] / level.shape[-2], full[1] / level.shape[-1]
        if um_per_px * max(factor) <= _COARSEST_UM:
            chosen, scale = level, factor
    return chosen.transpose("c", "y", "x")[source.positions], scale


def _run(
    method: str | Callable[[NDArray], NDArray],
    options: dict[str, Any],
    image: DataArray,
    name: str,
    um_per_px: float,
    tile_size: int,
    update: Callable[[int, int], None],
) -> FoundNuclei:
    import dask.array as da

    lazy = da.asarray(image.data)
    if method == WATERSHED:
        from ucs.pp._nuclei_watershed import WatershedParams, watershed

        params = WatershedParams.of(options)
        if len(lazy) > 1:
            msg = f"method='watershed' takes one channel, {len(lazy)} given."
            raise ValueError(msg)
        factor = max(1, int(_WORKING_UM / um_per_px + 1e-6))
        raster = Raster(lazy, factor, name)
        return watershed(raster, factor * um_per_px, params, tile_size=max(1, tile_size // factor), update=update)
    from ucs.pp._nuclei_objects import label_objects

    is_network = isinstance(method, str)
    function = load_network(method, um_per_px, options) if isinstance(method, str) else method
    return label_objects(
        Raster(lazy, 1, name), function, um_per_px, name=name_of(method), tile_size=tile_size, scaled=is_network,
        update=update,
    )  # fmt: skip


def _check_found(found: FoundNuclei, level_um: float, um_per_px: float, method: str | Callable) -> None:
    if len(found.areas) == 0:
        msg = f"{name_of(method)} found no nuclei (pixels of {um_per_px:g} um). Look at the image, channel= and um_per_px=."
        raise ValueError(msg)
    median = float(np.median(found.areas)) * level_um**2
    if not _AREA_UM2[0] <= median <= _AREA_UM2[1]:
        msg = (
            f"The median nucleus has {median:.3g} um2, which is not between {_AREA_UM2[0]:g} and {_AREA_UM2[1]:g}: "
            f"um_per_px={um_per_px:g} cannot be right, or {name_of(method)} did not find nuclei."
        )
        raise ValueError(msg)


def _add(
    sdata: SpatialData, key: str, found: FoundNuclei, image: DataArray | DataTree, scale: tuple[float, float]
) -> None:
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Affine, Identity, get_transformation

    to_finest = np.diag([scale[1], scale[0], 1.0])
    transformations = {}
    for system, transformation in get_transformation(image, get_all=True).items():
        matrix = affine_matrix(transformation) @ to_finest
        is_identity = np.array_equal(matrix, np.eye(3))
        transformations[system] = Identity() if is_identity else Affine(matrix, ("x", "y"), ("x", "y"))
    element = Labels2DModel.parse(found.labels, dims=("y", "x"), transformations=transformations)
    if key in sdata:  # it may be replaced; spatialdata warns of a key that is set twice
        del sdata[key]
    sdata[key] = element


def _shallow_copy(sdata: SpatialData) -> SpatialData:
    """Return an object with the same elements, without a store."""
    from spatialdata import SpatialData

    elements = {name: element for _, name, element in sdata.gen_elements()}
    return SpatialData.init_from_elements(elements, attrs=dict(sdata.attrs))
