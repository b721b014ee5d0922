"""Checks of arguments. Every error states what was given, what is valid, and how to correct it."""

from __future__ import annotations

import math
import re
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData

NAME = r"(?!__|\.{1,2}$)[\w.-]+"
"""Names that SpatialData takes for elements and columns, as a regular expression."""
LONGEST_NAME = 255
"""Bytes of the name of a file or folder, which elements and columns become in a store."""
_PLANES = ("zindex", "z_index", "zlevel", "z_level", "z", "global_z", "plane", "z_plane")
_MANY = 12  # names in a message: more do not fit on two lines


def listed(names: Iterable[Any]) -> str:
    """Return names as a quoted list, shortened if it is long; 'none' if there are none."""
    names = list(names)
    text = ", ".join(repr(name) for name in names[:_MANY])
    more = f", ... ({len(names)} in all)" if len(names) > _MANY else ""
    return text + more if names else "none"


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a key by which ``"2"`` sorts before ``"10"``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def choose_one(
    given: str | None, available: Sequence[str], patterns: Sequence[str], *, argument: str, what: str
) -> str:
    """Return the given key, or the only one that matches the first pattern that any key matches.

    Raises
    ------
    KeyError
        If the given key does not exist, or none matches.
    ValueError
        If several match the same pattern.
    """
    if given is not None:
        if given not in available:
            msg = f"{argument}={given!r} is not in this SpatialData; there are: {listed(available)}."
            raise KeyError(msg)
        return given
    for pattern in patterns:
        fitting = [name for name in available if re.fullmatch(pattern, name)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            msg = f"Several elements could be the {what}: {listed(fitting)}. Name the right one with {argument}=."
            raise ValueError(msg)
    msg = f"Found no {what}: looked for {listed(patterns)}, there are: {listed(available)}. Name it with {argument}=."
    raise KeyError(msg)


def check_one_object(sdata: object) -> None:
    """Raise ``TypeError`` unless it is a SpatialData object."""
    from spatialdata import SpatialData

    if not isinstance(sdata, SpatialData):
        msg = f"{not_spatialdata(sdata)}."
        if isinstance(sdata, list | tuple):
            msg += " One model for several is trained by ucs.tl.train([...]) and applied to each of them with model=."
        raise TypeError(msg)


def not_spatialdata(given: object, wanted: str = "one SpatialData") -> str:
    """Return what is wrong with an object that is none."""
    if isinstance(given, str | Path):
        return f"sdata must be {wanted}, not a path: pass spatialdata.read_zarr({str(given)!r})"
    return f"sdata must be {wanted}, not {type(given).__name__}"


def reading_option(name: str, example: object) -> str:
    """Return how an option of reading is given, for messages: most functions take it as it is, some in ``read=``."""
    return f"{name}={example!r} (in ucs.tl.segment: read={{{name!r}: {example!r}}})"


def check_positive(value: float, name: str) -> None:
    """Raise ``ValueError`` unless a value is a finite and positive number."""
    if not (is_number(value) and math.isfinite(value) and value > 0):
        msg = f"{name}={value!r} must be a positive number."
        raise ValueError(msg)


def check_at_least(value: int, low: int, name: str) -> None:
    """Raise ``ValueError`` unless a value is a whole number that is not below ``low``."""
    if not (is_number(value) and value >= low and value == int(value)):
        msg = f"{name}={value!r} must be a whole number, {low} or above."
        raise ValueError(msg)


def is_number(value: object) -> bool:
    """Tell whether a value is a number, of Python or NumPy."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_free_keys(sdata: SpatialData, keys: dict[str, tuple[str, str]], *, overwrite: bool) -> None:
    """Check that outputs do not collide with existing elements.

    Parameters
    ----------
    sdata
        Object to which they will be added.
    keys
        Kind of element and key, by argument name.
    overwrite
        Whether an element of the same kind may be replaced; one of another kind never is.

    Raises
    ------
    ValueError
        If a key is taken or not a valid name, or two outputs have the same key.
    """
    kinds = {name: kind for kind, name, _ in sdata.gen_elements()}
    seen: dict[str, str] = {}
    for argument, (kind, key) in keys.items():
        check_name(key, argument)
        if key in seen:
            msg = f"{argument}={key!r} and {seen[key]}={key!r} must differ: names are unique within a SpatialData."
            raise ValueError(msg)
        seen[key] = argument
        variants = [name for name in kinds if name.lower() == key.lower() and name != key]
        if variants:
            msg = f"{argument}={key!r} differs from {listed(variants)} in case only, which SpatialData does not allow."
            raise ValueError(msg)
        taken = kinds.get(key)
        if taken is not None and taken != kind:
            msg = f"{argument}={key!r} is the name of an element in {taken}; choose another."
            raise ValueError(msg)
        if taken is not None and not overwrite:
            msg = f"{kind}[{key!r}] exists; pass overwrite=True to replace it, or another {argument}."
            raise ValueError(msg)


def check_name(name: str, argument: str) -> None:
    """Raise ``ValueError`` unless SpatialData accepts a name for elements and columns."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        msg = (
            f"{argument}={name!r} is no valid name: it must consist of letters, digits, '_', '.' and '-', and must not "
            "begin with '__'."
        )
        raise ValueError(msg)
    if len(name.encode()) > LONGEST_NAME:
        msg = (
            f"{argument}={name[:20]!r}... has {len(name.encode())} bytes: in a store it is the name of a folder, which "
            f"has at most {LONGEST_NAME}. Choose a shorter one."
        )
        raise ValueError(msg)


def check_features(names: Iterable[Any], where: str) -> None:
    """Raise ``ValueError`` if names of genes or controls hold a NUL or are too long: no store could hold the result."""
    odd = [name for name in names if isinstance(name, str) and ("\0" in name or len(name.encode()) > LONGEST_NAME)]
    if odd:
        msg = (
            f"{where}: {len(odd)} names of genes or controls hold a NUL character or more than {LONGEST_NAME} bytes, "
            f"e.g. {odd[0][:40]!r}. Rename or drop them."
        )
        raise ValueError(msg)


def check_any_label(ids: NDArray, key: str) -> None:
    """Raise ``ValueError`` if there are no ids."""
    if len(ids) == 0:
        msg = f"labels[{key!r}] holds background only: there is nothing to outline or to count in."
        raise ValueError(msg)


def check_ids(ids: NDArray, element: str, columns: Iterable[str] = ()) -> None:
    """Raise ``ValueError`` if ids repeat, are negative, are missing, or are of several types.

    ``columns`` of the element tell whether it has a row for each plane in z.
    """
    import numpy as np
    import pandas as pd

    missing = int(pd.isna(ids).sum())
    if missing:
        msg = f"{element} has {missing} rows without an id (NaN in its index). Give them ids, or drop them."
        raise ValueError(msg)
    kinds = sorted({"number" if is_number(one) else type(one).__name__ for one in ids.tolist()})
    if len(kinds) > 1:
        msg = (
            f"{element} has ids of several types ({', '.join(kinds)}). Make them text: "
            "gdf.index = gdf.index.astype(str)."
        )
        raise ValueError(msg)
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        repeated = values[counts > 1]
        msg = (
            f"{element} has {len(repeated)} ids that occur more than once ({listed(repeated[:5].tolist())}). "
            f"{_one_row_each(columns)}"
        )
        raise ValueError(msg)
    if np.issubdtype(values.dtype, np.number) and len(values) and values.min() < 0:
        negative = listed(values[values < 0][:5].tolist())
        msg = f"{element} has negative ids ({negative}); ids must be 0 (background) or above."
        raise ValueError(msg)


def _one_row_each(columns: Iterable[str]) -> str:
    """Return how to have one row for each nucleus; new ids for rows of the same one would multiply the cells."""
    join = "gdf.dissolve(by=gdf.index)"
    plane = next((name for name in columns if name.lower() in _PLANES), None)
    if plane is None:
        return f"Join the rows of a nucleus, {join}; if they are different nuclei, give each its own id."
    return (
        f"The column {plane!r} says that the same nucleus is there in several planes: join these, {join}, or take one "
        f"plane, gdf[gdf[{plane!r}] == ...]."
    )


def check_option(value: object, name: str, allowed: Sequence[str]) -> None:
    """Raise ``ValueError`` unless a value is one of those allowed."""
    if value not in allowed:
        msg = f"{name}={value!r} is unknown; pass {' or '.join(repr(one) for one in allowed)}."
        raise ValueError(msg)


def checked_planes(z_planes: Sequence[float] | float | None) -> tuple[float, ...]:
    """Return the planes asked for, ascending; raise ``ValueError`` if they are no numbers."""
    if z_planes is None:
        return ()
    import numpy as np

    try:
        planes = np.atleast_1d(np.asarray(z_planes, dtype=np.float64))
    except (TypeError, ValueError):
        planes = np.zeros(0)
    if planes.ndim != 1 or len(planes) == 0 or not np.isfinite(planes).all():
        msg = f"z_planes={z_planes!r} must be a number or a list of numbers, as in the data; None takes all planes."
        raise ValueError(msg)
    return tuple(sorted({float(plane) for plane in planes}))


def refuse(given: Mapping[str, bool], where: str) -> None:
    """Raise ``ValueError`` that names the arguments that were given but would have no effect."""
    named = [name for name, is_given in given.items() if is_given]
    if named:
        has, it = ("has", "it") if len(named) == 1 else ("have", "them")
        msg = f"{', '.join(named)} {has} no effect {where}. Leave {it} out."
        raise ValueError(msg)
