"""Results of an earlier run that a later one under the same keys neither replaces nor agrees with."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from ucs._utils.frames import drop_columns
from ucs._utils.log import logger

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ucs._results.write import Elements
    from ucs.options import OutputKeys


def without_leftovers(sdata: SpatialData, keys: OutputKeys, elements: Elements) -> list[str]:
    """Return what to remove of the run that made the table which is about to be replaced, once the new is added.

    That are labels of missing nuclei and an image of the foreground that the new run does not make. Columns of points
    that it does not make, of confidence or of elements of another sample, are taken away in ``elements``. What is in a
    store stays there, and a WARNING says so.
    """
    if keys.table not in sdata.tables:
        return []
    earlier = sdata.tables[keys.table].uns.get("ucs", {}).get("parameters", {}).get("key_added", {})
    named = [earlier.get(name) for name in ("missing_nuclei", "foreground")]
    gone = [key for key in named if key and key in sdata and key not in elements.new]
    columns = [earlier[name] for name in ("points_column", "confidence_column") if earlier.get(name)]
    dropped = []
    for key in sdata.points:
        made = elements.columns[key].names if key in elements.columns else []
        stale = [name for name in columns if name in sdata.points[key].columns and name not in made]
        if stale:
            points = elements.points.get(key, sdata.points[key])
            elements.points[key] = drop_columns(points, stale)
            elements.points[key].attrs.update(deepcopy(dict(points.attrs)))
            dropped += [f"points[{key!r}][{name!r}]" for name in stale]
    if gone or dropped:
        stays = f" What is in the store {sdata.path} stays there." if sdata.is_backed() else ""
        logger.warning("Removed what was left of the earlier run: %s.%s", ", ".join([*gone, *dropped]), stays)
    return gone
