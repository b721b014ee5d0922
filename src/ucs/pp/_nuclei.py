"""Nuclei from an image of a nuclear stain."""

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

    The image is read tile by tile and the labels are kept compressed, so neither is held in memory as a whole. The
    result of the built-in method does not depend on ``tile_size``. An image whose file has no chunks is read again for
    every tile: write such an object to Zarr first.

    Parameters
    ----------
    sdata
        Object with the image, as returned by a reader of spatialdata-io. Existing elements are not changed.
    image_key
        Key of the image. If None, the image with a nuclear stain is detected automatically: DAPI, Hoechst, DNA, ...
        among its channels, or a single channel and such a name or ``morphology_focus``. For CosMx, the images of all
        fields of view; ``{fov}`` in the key represents their names.
    channel
        Name or position of the channel; the one named after a nuclear stain if None. Several channels are passed, in
        the given order, to methods that take them; the built-in method takes one.
    method
        ``"watershed"``: built in, needs no weights (see Notes). ``"cellpose"``, ``"stardist"``, ``"instanseg"``: the
        networks of these packages. Or a function from ``(c, y, x)``, in the type of the image, to integer labels
        ``(y, x)``; it is called for windows of up to ``tile_size`` pixels with a margin of 40 um.
    labels_key_added
        Key of the result. For fields of view it is appended to their names, as in ``2_ucs_nuclei``.
    um_per_px
        Side of a pixel of the image (its finest level) in um. If None, it is computed from the transformation to the
        transcripts.
    tile_size
        Side in pixels of the tiles, and of the chunks of the labels.
    overwrite
        Whether existing labels may be replaced.
    inplace
        Whether to add the result to ``sdata`` or to return a new object that shares its elements.
    progress
        Whether to show a progress bar.
    **options
        Options of the method. ``"watershed"``: ``blob=1.6`` (um, about half the radius of the smallest nuclei: 1.2 for
        small and crowded ones, 2.0 for large ones), ``contrast=0.2`` (relative to the brightness of nuclei around; a
        lower value finds dimmer nuclei), ``min_area=8`` and ``max_area=400`` (um^2), and the other fields of
        ``ucs._nuclei.watershed.WatershedParams``. Networks: ``model`` (name or path of the weights), ``gpu`` or
        ``device``, and the arguments of their function for one image.

    Returns
    -------
    None, or the new object, with ``labels[labels_key_added]``: ``(y, x)`` uint32 on Dask, 0 = background, ids 1..n in
    the order of their first pixels, in all coordinate systems of the image. Nuclei in a multiscale image are found at
    the coarsest level with pixels of at most 0.3 um, or at the finest level.

    Raises
    ------
    KeyError
        If the image or the channel does not exist, or none shows a nuclear stain.
    ValueError
        If several images or channels fit, the image is not two-dimensional, is constant or has NaN pixels, the size of
        a pixel is unknown or implausible, a name is taken, the method is unknown, or no nucleus is found.
    TypeError
        If the method has no such option.
    ImportError
        If the package of the method is not installed.
    RuntimeError
        If the weights of the method cannot be loaded.

    Notes
    -----
    The built-in method smooths the image, subtracts the local background, divides by the local brightness of nuclei,
    and splits the blob contrast (negative Laplacian of Gaussian of the square root) into basins by steepest ascent.
    Each basin is thresholded halfway between its own brightness and its darkest pixels. Basins of one nucleus are then
    merged: those with a shallow valley between their peaks, or whose union is an ellipse.
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
