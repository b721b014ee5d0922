"""What functions of the metrics accept: label images and keys of elements, ids, thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._evaluation.tissue import Tissue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData


def checked_ids(ids: ArrayLike, name: str) -> Any:
    """Return ids as an array; a Dask array stays one, and is checked for negative ids when it is computed.

    Raises
    ------
    ValueError
        If ids are no integers, or a NumPy array has negative ones.
    """
    array: Any = ids if _is_lazy(ids) else np.asarray(ids)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype} values: ids must be integers, 0 = background.")
    if not _is_lazy(array):
        check_not_negative(array, name)
    return array


def _is_lazy(array: object) -> bool:
    return hasattr(array, "dask") and hasattr(array, "compute")


def check_not_negative(array: NDArray, name: str) -> None:
    """Raise ``ValueError`` if an id is negative."""
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise ValueError(f"{name} holds the negative id {array.min()}: ids must be positive, 0 = background.")


def checked_image(labels: ArrayLike, name: str) -> NDArray[np.integer]:
    """Return a label image ``(height, width)`` in memory; raise as :func:`checked_ids`, or if it is not 2D."""
    image = np.asarray(checked_ids(labels, name))
    if image.ndim != 2:
        raise ValueError(f"{name} has shape {image.shape}: a label image (height, width) is needed.")
    return image


def checked_side(um_per_px: float | None, sdata: object | None) -> float:
    """Return the side of a pixel of arrays in um, 1 if None; raise ``ValueError`` if given with an object."""
    if not (um_per_px is None or 0 < um_per_px < np.inf):
        raise ValueError(f"um_per_px={um_per_px} given: the side of a pixel in um must be positive and finite.")
    if um_per_px is not None and sdata is not None:
        raise ValueError("um_per_px= is known where sdata= is given: leave it out.")
    return um_per_px or 1.0


def checked_thresholds(thresholds: Iterable[float]) -> list[float]:
    """Return thresholds as a list, or raise ``ValueError`` unless each lies in (0, 1]."""
    levels = [float(level) for level in thresholds]
    bad = [level for level in levels if not 0 < level <= 1]
    if bad or not levels:
        raise ValueError(f"thresholds {bad or levels} given: each must lie in (0, 1], and one is needed at least.")
    return levels


def tissue_for(labels: ArrayLike | str, sdata: SpatialData | Tissue | None) -> Tissue | None:
    """Return the tissue that has a key; None for an array.

    Raises
    ------
    TypeError
        If a key is given without an object, or an array with one.
    """
    if isinstance(labels, str):
        if sdata is None:
            msg = f"{labels!r} is the key of an element: pass the object that has it as sdata=, or a label image."
            raise TypeError(msg)
        return Tissue.of(sdata)
    if sdata is not None:
        msg = "sdata= is given, so name the element by its key instead of passing an array."
        raise TypeError(msg)
    return None


def rasters_of(labels: Sequence[Any], sdata: SpatialData | Tissue | None) -> list[tuple[Any, Any, float | None]]:
    """Return the labels, the original ids and the side of a pixel in um of each label image or key.

    Ids and side are None for arrays. Elements are brought onto one raster. Raises as :func:`tissue_for`.
    """
    tissue = None if sdata is None else Tissue.of(sdata)
    found = [tissue_for(one, tissue) for one in labels]
    rasters: list[tuple[Any, Any, float | None]] = []
    for one, where in zip(labels, found, strict=True):
        rasters.append((one, None, None) if where is None else where.cells(one))
    return rasters
