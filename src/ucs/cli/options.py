"""Options of the commands, made of the fields of the library's option dataclasses."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ucs._utils.options import option_fields
from ucs.options import ComputeOptions, OutputKeys, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field

GROUPS = {"read": ReadOptions, "compute": ComputeOptions, "key_added": OutputKeys}
"""Argument of the library -> its fields, each of which is an option."""

_PANELS = {"read": "Reading", "compute": "Computing", "key_added": "Results"}

_SEVERAL = ("z_planes", "stain_keys")  # fields that may be given repeatedly

PREFIX = "prefix"  # of the keys of results: not a field, but what OutputKeys are made of


def flag_of(one: Field[Any]) -> str:
    """Return the name of the option of a field, without dashes; that of a true default is its denial."""
    name = (one.metadata["flag"] or one.name).replace("_", "-")
    return f"no-{name}" if one.default is True else name


def flags() -> dict[str, str]:
    """Return ``argument['field']`` -> option, as messages of the library and of the commands name them."""
    named = {
        f"{argument}['{one.name}']": f"--{flag_of(one)}" for argument, of in GROUPS.items() for one in option_fields(of)
    }
    return {**named, f"key_added['{PREFIX}']": "--key-added"}


def with_groups(*arguments: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of groups to a command, which receives each group as a mapping of what was given.

    Parameters
    ----------
    *arguments
        Of :data:`GROUPS`; the command takes them as ``**groups``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[name])
            for name, parameter in inspect.signature(command).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        made = [(argument, one) for argument in arguments for one in option_fields(GROUPS[argument])]

        @functools.wraps(command)
        def call(**given: Any) -> None:
            groups: dict[str, dict[str, Any]] = {argument: {} for argument in arguments}
            for argument, one in made:
                value = given.pop(_variable(one))
                if value:
                    groups[argument][one.name] = not one.default if value is True else _parsed(value, str(one.type))
            prefix = given.pop(PREFIX, None)
            if prefix is not None:
                groups["key_added"][PREFIX] = prefix
            command(**given, **groups)

        parameters = [*own, *(_parameter(one, _PANELS[argument]) for argument, one in made)]
        if "key_added" in arguments:
            parameters.append(_option(PREFIX, str, "--key-added", "Prefix of all keys.", "ucs", _PANELS["key_added"]))
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del call.__wrapped__
        return call

    return decorate


def _variable(one: Field[Any]) -> str:
    return flag_of(one).replace("-", "_")


def _parameter(one: Field[Any], panel: str) -> inspect.Parameter:
    text = one.metadata["text"]
    if isinstance(one.default, bool):
        kind: Any = bool
    else:
        kind = list[str] if one.name in _SEVERAL else str
    if one.default is True:
        text = f"Do not: {text[0].lower()}{text[1:]}"
    return _option(_variable(one), kind, f"--{flag_of(one)}", text, one.default, panel)


def _option(name: str, kind: Any, flag: str, text: str, default: Any, panel: str) -> inspect.Parameter:
    shown = None if default is None or isinstance(default, bool) else str(default)
    unset = False if kind is bool else None
    described = typer.Option(flag, help=text, show_default=shown or False, rich_help_panel=panel)
    annotation: Any = Annotated[kind if kind is bool else kind | None, described]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=unset, annotation=annotation)


def _parsed(value: Any, kinds: str) -> Any:
    """Return what text says; names and paths stay as they are, also if they look like numbers or hold commas."""
    if isinstance(value, list):
        return [number_or_word(one) for one in value]
    return number_or_word(value) if "int" in kinds or "float" in kinds else value


def number_or_word(text: str) -> Any:
    """Return what a text says: a number, none, true, false, several of these with commas between them, or itself."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if "," in text:
        return [number_or_word(one.strip()) for one in text.split(",")]
    return text


def parameters(given: list[str] | None) -> dict[str, Any] | None:
    """Return ``NAME=VALUE`` pairs as a mapping; None without any.

    Raises
    ------
    ValueError
        If one has no ``=``.
    """
    if not given:
        return None
    out = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            msg = f"--param {pair} must be NAME=VALUE, such as --param max_steps=500."
            raise ValueError(msg)
        out[name.strip().replace("-", "_")] = number_or_word(value.strip())
    return out
