"""Adding results to a SpatialData object and to its store: all or nothing."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucs._files.store import write_elements
from ucs._results.stored_points import WITH_POINTS, write_columns
from ucs._utils.elements import put, shallow_copy
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spatialdata import SpatialData

    from ucs._results.lookup import PointColumns


@dataclass(frozen=True)
class Elements:
    """New elements by key, elements of points that replace those of the same key, and the columns that these have.

    ``stale`` are columns that points have no more, by key.
    """

    new: dict[str, Any]
    points: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, PointColumns] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)


def add_elements(sdata: SpatialData, elements: Elements, *, write: bool | str = False, overwrite: bool = False) -> None:
    """Add elements; if one cannot be added or written, the object is restored.

    An interruption when all is in the store already leaves it in the object too.

    Parameters
    ----------
    sdata
        Object to add to.
    elements
        Elements to add.
    write
        Whether to write the new elements to the object's Zarr store too; the columns of points only with ``"points"``.
    overwrite
        Whether elements of the same name in the store may be replaced, also such as came there meanwhile.
    """
    added = {**elements.new, **elements.points}
    before = {key: sdata[key] for key in added if key in sdata}
    committed: list[str] = []
    try:
        for key, element in added.items():
            put(sdata, key, element)
        if write:
            written, copies = dict(elements.new), {}
            for key, columns in elements.columns.items() if write == WITH_POINTS else ():
                if key in sdata.shapes:
                    written[key] = elements.points[key]
                else:
                    folder, stale = Path(sdata.path) / "points" / key, elements.stale.get(key, [])
                    copies[key] = partial(write_columns, folder, columns=columns, without=stale)
            with said_when_done(sdata.path) as committed:
                write_elements(
                    sdata.path,
                    written,
                    points=copies,
                    replaced=[*copies, *elements.points, *(elements.new if overwrite else ())],
                    committed=partial(committed.extend, [*written, *copies]),
                )
            logger.info("Written to %s: %s.", sdata.path, ", ".join([*written, *copies]))
    except BaseException:  # Ctrl-C too
        if committed:
            logger.warning("%s are in %s all the same.", ", ".join(elements.new), sdata.path)
            raise
        for key in added:
            if key in before:
                if sdata.get(key) is not before[key]:
                    put(sdata, key, before[key])
            elif key in sdata:
                del sdata[key]
        raise


@contextmanager
def said_when_done(path: Path | None) -> Iterator[list[str]]:
    """Have an interruption say which results are in a store already: those whose names are put into the list."""
    written: list[str] = []
    try:
        yield written
    except KeyboardInterrupt as interrupt:
        if not written or interrupt.args:
            raise
        msg = f"interrupted when all was done: {', '.join(written)} are in {path}."
        raise KeyboardInterrupt(msg) from interrupt


def with_elements(sdata: SpatialData, elements: Elements, *, inplace: bool) -> SpatialData | None:
    """Add elements to an object, or to a new one that shares its elements; return the new one, or None."""
    target = sdata if inplace else shallow_copy(sdata)
    add_elements(target, elements)
    return None if inplace else target
