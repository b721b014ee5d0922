"""Parts of an HTML page in which everything is contained."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from ucs._report.findings import Advice

_STYLE = """
:root { color-scheme: light; --line: #d9dee5; --ink: #1d2733; --soft: #5b6877; --accent: #1f6fd6; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .7rem; }
nav { display: flex; flex-wrap: wrap; gap: .1rem 1rem; }
nav a { color: var(--accent); text-decoration: none; white-space: nowrap; }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .7rem; margin: 0; }
dl.tiles div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
dl.tiles dt, dl.small dt { color: var(--soft); font-size: .85rem; } dl.tiles dd { margin: 0; font-size: 1.2rem; }
dl.small { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .85rem; }
dl.small dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: .8rem 0; } img { max-width: 100%; height: auto; display: block; }
figcaption, .soft { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
ul.advice { list-style: none; padding: 0; } ul.advice li { border-left: 4px solid #e0a100; background: #fff9e8;
  padding: .5rem .9rem; margin: .5rem 0; } ul.advice li.serious { border-color: #c62828; background: #fdeeee; }
ul.advice li.fine { border-color: #2a7f3f; background: #eef8f0; } ul.advice p { margin: .1rem 0; }
@media print { nav { display: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


class Section(NamedTuple):
    """A section: its id, title, and content as HTML."""

    id: str
    title: str
    content: str


def page(title: str, sections: Sequence[Section]) -> str:
    """Return a whole page with links to its sections."""
    links = "".join(f'<a href="#{one.id}">{html.escape(one.title)}</a>' for one in sections)
    body = "\n".join(
        f'<section id="{one.id}"><h2>{html.escape(one.title)}</h2>\n{one.content}\n</section>' for one in sections
    )
    name = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>{name}</h1>\n<nav>{links}</nav>\n{body}\n</body></html>\n"
    )


def paragraph(text: str) -> str:
    """Return a text as a paragraph."""
    return f'<p class="soft">{html.escape(text)}</p>'


def definition_list(values: Mapping[str, str], *, small: bool = False) -> str:
    """Return names and values as tiles, or as a small list."""
    rows = (f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in values.items())
    if small:
        pairs = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in values.items())
        return f'<dl class="small">{"".join(pairs)}</dl>'
    return f'<dl class="tiles">{"".join(rows)}</dl>'


def table(frame: pd.DataFrame, *, header: bool = True) -> str:
    """Return a frame as a table; numbers have three digits."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(value))}</td>" for value in row) + "</tr>"
        for row in frame.itertuples(index=False)
    )
    return f'<div class="wide"><table>{f"<tr>{head}</tr>" if header else ""}{rows}</table></div>'


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def warning_list(advice: Sequence[Advice]) -> str:
    """Return advice as a list, each with its next step."""
    if not advice:
        return '<ul class="advice"><li class="fine"><p>Nothing was found.</p></li></ul>'
    items = (
        f'<li class="{"serious" if one.serious else "warning"}"><p>{html.escape(one.text)}</p>'
        f"<p><b>Next:</b> {html.escape(one.next_step)}</p></li>"
        for one in advice
    )
    return f'<ul class="advice">{"".join(items)}</ul>'


def picture(name: str, png: bytes, caption: str = "") -> str:
    """Return a PNG image as a figure that holds its data."""
    data = base64.b64encode(png).decode("ascii")
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    alt = html.escape(caption or name.replace("-", " "))
    return f'<figure id="{name}"><img alt="{alt}" src="data:image/png;base64,{data}">{text}</figure>'
