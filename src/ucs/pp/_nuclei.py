"""Nuclei from a nuclear stain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._nuclei.methods import WATERSHED
from ucs._read.nuclei.from_image import nuclei_from_image
from ucs._utils.elements import put, shallow_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData


def nuclei(
    sdata: SpatialData,
    image_key: str | None = None,
    *,
    channel: str | int | Sequence[str | int] | None = None,
    method: str | Callable[[NDArray], NDArray] = WATERSHED,
    labels_key_added: str = "ucs_nuclei",
    um_per_px: float | None = None,
    tile_size: int = 1024,
    overwrite: bool = False,
    inplace: bool = True,
    progress: bool = True,
    **options: Any,
) -> SpatialData | None:
    """Find nuclei in an image of a nuclear stain.

    The image is read tile by tile and the labels are kept compressed, so neither is ever in memory as a whole. With the
    built-in method the result does not depend on ``tile_size``. Images that come from a file in one piece are read anew
    for every tile: write such an object to Zarr first.

    Parameters
    ----------
    sdata
        Object with the image, as a reader of spatialdata-io returns it. Nothing of the user's is changed.
    image_key
        Key of the image; if None, the one with a nuclear stain (DAPI, Hoechst, DNA, ... among its channels, or a single
        channel under such a name or ``morphology_focus``). Of CosMx the images of all fields of view; ``{fov}`` in the
        key stands for their names.
    channel
        Name (or position) of the channel; the one named after a nuclear stain if None. Several are passed on, in the
        order given, to methods that take them; the built-in method takes one.
    method
        ``"watershed"``: built in, needs no weights (see Notes). ``"cellpose"``, ``"stardist"``, ``"instanseg"``: by
        their own packages. Or a function from ``(c, y, x)``, in the type of the image, to integer labels ``(y, x)``,
        which is called for windows of up to ``tile_size`` pixels and a margin of 40 um, and should not depend on more.
    labels_key_added
        Key of the result; of fields of view it follows their names, as ``2_ucs_nuclei``.
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
        Of the method. ``"watershed"``: ``blob=1.6`` (um, about half the radius of the smallest nuclei: 1.2 where they
        are small and crowded, 2.0 where they are large), ``contrast=0.2`` (of the brightness of nuclei around: lower
        finds dimmer ones), ``min_area=8`` and ``max_area=400`` (um^2), and the other fields of
        ``ucs._nuclei.watershed.WatershedParams``. The networks: ``model`` (name or path of the weights), ``gpu`` or
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
    and cuts its blob contrast (negative Laplacian of Gaussian of the root) into basins by steepest ascent. Each basin
    is cut halfway between its own brightness and what is darkest in it. Those of one nucleus are put together again:
    where the valley between their peaks is shallow, or where their union is an ellipse.
    """
    found = nuclei_from_image(
        sdata,
        image_key,
        channel=channel,
        method=method,
        options=options,
        labels_key_added=labels_key_added,
        um_per_px=um_per_px,
        tile_size=tile_size,
        overwrite=overwrite,
        progress=progress,
    )
    if not inplace:
        return shallow_copy(sdata, found)
    for key, element in found.items():
        put(sdata, key, element)
    return None
