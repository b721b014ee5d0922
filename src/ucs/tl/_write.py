"""Results into a SpatialData object and its store: all or nothing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ucs._logging import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spatialdata import SpatialData


@dataclass(frozen=True)
class Elements:
    """New elements by key, and points elements that replace their namesake."""

    new: dict[str, Any]
    points: dict[str, Any]


def add_elements(sdata: SpatialData, elements: Elements) -> None:
    """Add elements; if one cannot be added, those before it are taken out again."""
    before = {key: sdata[key] for key in (*elements.new, *elements.points) if key in sdata}
    try:
        for key, element in elements.new.items():
            _put(sdata, key, element)
        for key, element in elements.points.items():
            _put(sdata, key, element)
    except BaseException:
        for key in (*elements.new, *elements.points):
            if key in before:
                _put(sdata, key, before[key])
            elif key in sdata:
                del sdata[key]
        raise


def _put(sdata: SpatialData, key: str, element: Any) -> None:
    """Set an element; one that is there goes first, as spatialdata warns of a key that is set twice."""
    if key in sdata:
        del sdata[key]
    sdata[key] = element


def shallow_copy(sdata: SpatialData) -> SpatialData:
    """Return an object with the same elements, without a store."""
    from spatialdata import SpatialData

    elements = {name: element for _, name, element in sdata.gen_elements()}
    return SpatialData.init_from_elements(elements, attrs=dict(sdata.attrs))


def check_writable(sdata: SpatialData, *, write: bool, inplace: bool) -> None:
    """Raise ``ValueError`` if ``write`` is asked for where nothing can be written."""
    if not write:
        return
    if not inplace:
        msg = "write=True writes to the object's own store and needs inplace=True."
        raise ValueError(msg)
    if not sdata.is_backed():
        msg = "write=True needs an object with a Zarr store: call sdata.write(path) first, or pass write=False."
        raise ValueError(msg)


def write_elements(sdata: SpatialData, keys: list[str]) -> None:
    """Write elements to the object's store.

    An element of that name in the store is replaced only after the new one is safely stored under another name, so that
    the store holds one of the two whatever happens.
    """
    stored = {path.split("/")[-1] for path in sdata.elements_paths_on_disk()}
    for key in keys:
        if key not in stored:
            with _removed_on_failure(sdata, key):
                sdata.write_element(key)
            continue
        spare = f"{key}__new"
        sdata[spare] = sdata[key]
        try:
            with _removed_on_failure(sdata, spare):
                sdata.write_element(spare)
            sdata.delete_element_from_disk(key)
            sdata.write_element(key)
            sdata.delete_element_from_disk(spare)
        finally:
            del sdata[spare]
    logger.info("Written to %s: %s.", sdata.path, ", ".join(keys))


@contextlib.contextmanager
def _removed_on_failure(sdata: SpatialData, key: str) -> Iterator[None]:
    """Take a half-written element out of the store again, also after Ctrl-C."""
    try:
        yield
    except BaseException:
        if any(path.endswith(f"/{key}") for path in sdata.elements_paths_on_disk()):
            sdata.delete_element_from_disk(key)
        raise
