"""The page of all options, made from the dataclasses that declare them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ucs._utils.options import option_fields
from ucs.cli.options import GROUPS, flag_of
from ucs.methods import DensityParams, PaperParams, PretrainedParams
from ucs.options import ComputeOptions, OutputKeys, ReadOptions

if TYPE_CHECKING:
    from dataclasses import Field

    from ucs._utils.options import Options

SECTIONS: dict[str, type[Options]] = {
    "`read`: how the sample is read": ReadOptions,
    "`compute`: where, and with how much memory": ComputeOptions,
    "`key_added`: what results are called": OutputKeys,
    '`params` of `method="pretrained"`': PretrainedParams,
    '`params` of `method="density"`': DensityParams,
    '`params` of `method="paper"`': PaperParams,
}

_INTRODUCTION = """# Options

This page is made from the classes that the code checks options with, so it lists what the installed version takes. Each
group is one argument of {func}`ucs.tl.segment`: an instance of its class, or a mapping of some of the fields:

```python
ucs.tl.segment(sdata, read={"genes": "hvg"}, compute={"device": "cpu"}, params={"shape_exponent": 0.0})
```

On the command line each field of the first three groups is an option, and those of `params` are `--param NAME=VALUE`.
A value out of bounds, an unknown field, or a field without effect is an error. The arguments that belong to no group
are described in {func}`ucs.tl.segment`.
"""

_WORDS = {"least": "at least", "most": "at most", "above": "above", "below": "below"}


def options_page() -> str:
    """Return the page as MyST Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(title, of) for title, of in SECTIONS.items())])


def _section(title: str, of: type[Options]) -> str:
    is_group = of in GROUPS.values()
    module = "ucs.options" if is_group else "ucs.methods"
    summary = (of.__doc__ or "").strip().splitlines()[0]
    head = [f"## {title}", "", f"{{class}}`{module}.{of.__name__}`: {summary}", ""]
    return "\n".join([*head, *(_entry(one, is_group=is_group) for one in option_fields(of))])


def _entry(one: Field[Any], *, is_group: bool) -> str:
    """Return a field as an item of a definition list."""
    facts = [f"`{one.type}`", f"default `{one.default!r}`", *_valid(one.metadata)]
    flag = [f"on the command line `--{flag_of(one)}`"] if is_group else []
    return f"`{one.name}`\n: {', '.join([*facts, *flag])}\n\n  {_text(one)}\n"


def _valid(metadata: Any) -> list[str]:
    if metadata["choices"]:
        return ["one of " + ", ".join(f"`{choice!r}`" for choice in metadata["choices"])]
    return [f"{word} {metadata[bound]:g}" for bound, word in _WORDS.items() if metadata[bound] is not None]


def _text(one: Field[Any]) -> str:
    """Return the text with what stands in quotes as code."""
    return re.sub(r"(?<![\w'])'([^' ]+)'(?![\w'])", r"`'\1'`", one.metadata["text"])
