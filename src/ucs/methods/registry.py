"""The methods that are known by name; below their interface, so that a saved model finds its method."""

from __future__ import annotations

from typing import Any

from ucs._utils.checks import listed

METHODS: dict[str, Any] = {}
"""Name -> :class:`ucs.methods.Method`; :func:`ucs.methods.register` adds to it."""


def method_named(name: str) -> Any:
    """Return the method of a name.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in METHODS:
        msg = f"method={name!r} is unknown; known are {listed(METHODS)}."
        raise ValueError(msg)
    return METHODS[name]
