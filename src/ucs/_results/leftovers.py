"""Results of an earlier run that a later one under the same keys neither replaces nor agrees with."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from ucs._results.keys import new_elements
from ucs._results.stored_points import WITH_POINTS, stored_columns
from ucs._utils.checks import listed
from ucs._utils.frames import drop_columns
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Collection

    from spatialdata import SpatialData

    from ucs._results.write import Elements
    from ucs.options import OutputKeys

_KINDS = ("labels", "images")  # of the elements that not every run makes


def check_stored_leftovers(
    sdata: SpatialData, keys: OutputKeys, written: Collection[str], *, find_missing: bool, write: bool | str
) -> None:
    """Check that nothing of an earlier run stays in the store beside the results that are written to it.

    Parameters
    ----------
    sdata
        Object with a store.
    keys
        Keys of the results.
    written
        Keys of the points whose files are written again with ``write="points"``: their columns are replaced.
    find_missing, write
        As in :func:`ucs.tl.segment`.

    Raises
    ------
    ValueError
        If there are labels of missing nuclei or an image of the foreground that the run does not make, or columns of
        points that it neither replaces nor removes.
    """
    elements, columns = _of_earlier_run(sdata, keys)
    new = {key for _, key in new_elements(keys, find_missing=find_missing).values()}
    in_store = [key for key in elements if any((Path(sdata.path) / kind / key).exists() for kind in _KINDS)]
    stay = [key for key in in_store if key not in new]
    if stay:
        calls = "; ".join(f"sdata.delete_element_from_disk({key!r})" for key in stay)
        msg = (
            f"The store {sdata.path} holds {listed(stay)} of the earlier run, which this run does not make and which "
            f"would contradict its cells. Delete from the store what is not wanted any more, {calls}, or choose other "
            "keys with key_added."
        )
        raise ValueError(msg)
    for key in sdata.points:
        if write == WITH_POINTS and key in written:
            continue
        stale = [name for name in columns if name in stored_columns(Path(sdata.path) / "points" / key)]
        if stale:
            msg = (
                f"The store {sdata.path} has the column {listed(stale)} of the earlier run in points[{key!r}], which "
                "would contradict the new cells and is not written again"
                + (f" without write={WITH_POINTS!r}" if key in written else "")
                + ". Choose other keys with key_added."
            )
            raise ValueError(msg)


def without_leftovers(sdata: SpatialData, keys: OutputKeys, elements: Elements) -> list[str]:
    """Return what to remove of the run that made the table which is about to be replaced, once the new is added.

    That are labels of missing nuclei and an image of the foreground that the new run does not make. Columns of points
    that it does not make, of confidence or of elements of another sample, are taken away in ``elements``, of which
    ``stale`` then names them. For what is in a store see :func:`check_stored_leftovers`.
    """
    named, columns = _of_earlier_run(sdata, keys)
    gone = [key for key in named if key not in elements.new]
    for key in sdata.points:
        made = elements.columns[key].names if key in elements.columns else []
        stale = [name for name in columns if name in sdata.points[key].columns and name not in made]
        if stale:
            points = elements.points.get(key, sdata.points[key])
            elements.points[key] = drop_columns(points, stale)
            elements.points[key].attrs.update(deepcopy(dict(points.attrs)))
            elements.stale[key] = stale
    dropped = [f"points[{key!r}][{name!r}]" for key, names in elements.stale.items() for name in names]
    if gone or dropped:
        logger.warning("Removed what was left of the earlier run: %s.", ", ".join([*gone, *dropped]))
    return gone


def _of_earlier_run(sdata: SpatialData, keys: OutputKeys) -> tuple[list[str], list[str]]:
    """Return the elements there are, and the columns of points, that the table about to be replaced came with."""
    if keys.table not in sdata.tables:
        return [], []
    earlier = sdata.tables[keys.table].uns.get("ucs", {}).get("parameters", {}).get("key_added", {})
    elements = [earlier.get(name) for name in ("missing_nuclei", "foreground")]
    columns = [earlier.get(name) for name in ("points_column", "confidence_column")]
    return [key for key in elements if key and key in sdata], [name for name in columns if name]
