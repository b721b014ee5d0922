"""Small frozen dataclasses of options: each field documented and bounded once, where it is declared."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from ucs._utils.checks import is_number, listed, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_SHORT = reprlib.Repr()
_SHORT.maxtuple, _SHORT.maxstring, _SHORT.maxother = 4, 80, 80


def option(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
    flag: str | None = None,
    check: Callable[[Any, str], object] | None = None,
) -> Any:
    """Declare a field of :class:`Options`.

    Parameters
    ----------
    default
        Its default.
    text
        What it says; the class docstring and the command line show it.
    least, most, above, below
        Bounds of a number, or of each number of a tuple; the first two may be reached.
    choices
        The strings that are valid.
    flag
        Name of the option on the command line; that of the field if None.
    check
        Called with the value and the name of the field; raises ``TypeError`` or ``ValueError`` if it is invalid.
    """
    bounds = {"least": least, "most": most, "above": above, "below": below}
    metadata = {"text": text, "choices": tuple(choices), "flag": flag, "check": check, **bounds}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True, repr=False)
class Options:
    """Base of the options: checked when they are made, shown without what is left at its default."""

    argument: ClassVar[str] = "options"
    """Name of the argument that takes these options, for error messages."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = _plain(getattr(self, one.name))
            object.__setattr__(self, one.name, value)
            _check_field(one, value, f"{self.argument}[{one.name!r}]")

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={_SHORT.repr(getattr(self, name))}" for name in self.changed())
        return f"{type(self).__name__}({changed})"

    def changed(self) -> list[str]:
        """Return the names of the fields that differ from their defaults."""
        return [one.name for one in fields(self) if not _same(getattr(self, one.name), one.default)]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def resolve(cls, value: Self | Mapping[str, Any] | None, **defaults: Any) -> Self:
        """Return options from an instance, a mapping of some of the fields, or None.

        Parameters
        ----------
        value
            What was given.
        **defaults
            What holds for the fields that a mapping, or None, leaves open.

        Raises
        ------
        TypeError
            If ``value`` is none of these.
        ValueError
            If a field is unknown or a value out of bounds.
        """
        if isinstance(value, cls):
            return value
        if value is None:
            return cls(**defaults)
        if not isinstance(value, Mapping):
            msg = f"{cls.argument}={value!r} must be {cls.__name__}, a mapping of its fields, or None."
            raise TypeError(msg)
        known = [one.name for one in fields(cls)]
        unknown = [name for name in value if name not in known]
        if unknown:
            msg = f"{cls.argument} has unknown fields: {listed(unknown)}; {cls.__name__} has: {listed(known)}."
            raise ValueError(msg)
        return replace(cls(**defaults), **value)

    @classmethod
    def given(cls, value: Self | Mapping[str, Any] | None) -> Collection[str]:
        """Return the names of the fields that were given: of an instance, those that differ from their defaults."""
        return value.changed() if isinstance(value, cls) else cast("Mapping[str, Any]", value or {})

    @classmethod
    def resolve_part(cls, value: Self | Mapping[str, Any] | None, unused: Sequence[str], where: str) -> Self:
        """Return options as :meth:`resolve` does, for a function in which some fields have no effect.

        Raises
        ------
        TypeError, ValueError
            As :meth:`resolve`, and if one of the unused fields is given.
        """
        resolved = cls.resolve(value)
        refuse({f"{cls.argument}[{name!r}]": name in cls.given(value) for name in unused}, where)
        return resolved


def documented(cls: type) -> type:
    """Add the fields with their texts to the docstring of options; a decorator above ``dataclass``."""
    lines = [(cls.__doc__ or "").rstrip(), "", "Parameters", "----------"]
    for one in fields(cls):
        lines += [f"{one.name} : default {one.default!r}", f"    {one.metadata['text']}"]
    cls.__doc__ = "\n".join(lines) + "\n"
    return cls


def option_fields(cls: type[Options]) -> list[Field[Any]]:
    """Return the fields in their order; their ``metadata["text"]`` is the documentation."""
    return [one for one in fields(cls) if one.default is not MISSING]


def _plain(value: Any) -> Any:
    """Return a tuple for lists, arrays and sets, and Python's numbers for NumPy's, for the sake of JSON and Zarr."""
    if _is_several(value):
        return tuple(_plain(one) for one in value)
    return value.item() if hasattr(value, "dtype") else value


def _is_several(value: Any) -> bool:
    """Tell lists, arrays, indices and sets of values from strings, paths and numbers."""
    if isinstance(value, str | bytes | Mapping) or getattr(value, "ndim", 1) == 0:
        return False
    return isinstance(value, Iterable)


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _check_field(one: Field[Any], value: Any, name: str) -> None:
    meta, default = one.metadata, one.default
    if meta["check"] is not None:
        meta["check"](value, name)
        return
    if value is None and default is None:
        return
    if meta["choices"]:
        if value not in meta["choices"]:
            msg = f"{name}={value!r} is unknown; valid are {listed(meta['choices'])}."
            raise ValueError(msg)
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            msg = f"{name}={value!r} must be True or False."
            raise TypeError(msg)
    elif isinstance(default, tuple) and _has_bounds(meta):
        if not (isinstance(value, tuple) and len(value) == len(default)):
            msg = f"{name}={value!r} must be {len(default)} numbers."
            raise ValueError(msg)
        for k, number in enumerate(value):
            _check_number(number, f"{name}[{k}]", meta, whole=isinstance(default[0], int))
    elif _has_bounds(meta):
        _check_number(value, name, meta, whole=isinstance(default, int))
    elif isinstance(default, str) and not isinstance(value, str | Path):
        msg = f"{name}={value!r} must be a string."
        raise TypeError(msg)


def _has_bounds(meta: Mapping[str, Any]) -> bool:
    return any(meta[bound] is not None for bound in ("least", "most", "above", "below"))


def _check_number(value: Any, name: str, meta: Mapping[str, Any], *, whole: bool) -> None:
    number = is_number(value) and math.isfinite(value)
    words = {"least": "at least", "most": "at most", "above": "above", "below": "below"}
    says = " and ".join(f"{word} {meta[bound]:g}" for bound, word in words.items() if meta[bound] is not None)
    kind = "a whole number" if whole else "a number"
    if not number or (whole and not isinstance(value, int)):
        msg = f"{name}={value!r} must be {kind}, {says}."
        raise (ValueError if is_number(value) else TypeError)(msg)
    low, high, over, under = (meta[bound] for bound in ("least", "most", "above", "below"))
    fits = (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (over is None or value > over)
        and (under is None or value < under)
    )
    if not fits:
        msg = f"{name}={value!r} must be {says}."
        raise ValueError(msg)
