"""What a check found, as a dictionary that shows itself as a table."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ucs._read.summary import dropped, kept, named

if TYPE_CHECKING:
    from rich.table import Table


class Check(dict[str, Any]):
    """What :func:`ucs.pp.check` found: a plain nested dictionary, shown as a table.

    Its values are strings, numbers, booleans, None, lists and dictionaries, so that ``json.dumps`` takes it.
    """

    @property
    def ok(self) -> bool:
        """Whether :func:`ucs.tl.segment` would begin to train."""
        return not self["problems"]

    def rows(self) -> list[tuple[str, str]]:
        """Return what the table shows: name and text of each row."""
        rows = {
            "platform": _platform(self.get("platform")),
            "transcripts": _elements(self.get("source")),
            "read as": _reading(self.get("source")),
            "kept": kept(self.get("transcripts")),
            "left out": dropped(self.get("transcripts")),
            "genes": _genes(self.get("transcripts")),
            "controls": _controls(self.get("transcripts")),
            "grid": _grid(self.get("grid")),
            "nuclei": _nuclei(self.get("nuclei")),
            "alignment": _alignment(self.get("alignment")),
            "regions": _regions(self.get("regions")),
            "memory": _memory(self.get("estimate")),
            "time": _time(self.get("estimate")),
        }
        shown = [(name, text) for name, text in rows.items() if text]
        shown += [("note", text) for text in self["notes"]]
        shown += [("warning", text) for text in self["warnings"]]
        shown += [("problem", f"{problem['error']}: {problem['message']}") for problem in self["problems"]]
        return [*shown, ("verdict", "ready" if self.ok else "segment would stop at the first problem")]

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    __repr__ = __str__

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title="What segment would use", show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        colour = {"warning": "yellow", "problem": "red", "verdict": "green" if self.ok else "red"}
        for name, text in self.rows():
            # As it is: messages hold square brackets, which rich would take for markup.
            table.add_row(Text(name), Text(text), style=colour.get(name, ""))
        return table

    def _repr_html_(self) -> str:
        cells = (f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in self.rows())
        return f'<table style="text-align: left">{"".join(cells)}</table>'


def _platform(platform: dict[str, Any] | None) -> str:
    return f"{platform['name']} ({platform['because']})" if platform else ""


def _elements(source: dict[str, Any] | None) -> str:
    return f"{source['kind']} {named(source['elements'])} ({source['because']})" if source else ""


def _reading(source: dict[str, Any] | None) -> str:
    if not source:
        return ""
    columns = ", ".join(f"{what} {name!r}" for what, name in source["columns"].items() if name is not None)
    return f"{columns}; unit {source['um_per_unit']:.6g} um ({source['um_per_unit_because']})"


def _genes(transcripts: dict[str, Any] | None) -> str:
    if not transcripts:
        return ""
    genes, seen = transcripts["genes"], transcripts.get("genes_seen", transcripts["genes"])
    return f"{genes:,}" if seen == genes else f"{genes:,}, of which the nets see {seen:,}"


def _controls(transcripts: dict[str, Any] | None) -> str:
    if not transcripts or not transcripts["controls"]:
        return ""
    return f"{transcripts['controls']:,} with {transcripts['control_transcripts']:,} of the transcripts, set apart"


def _grid(grid: dict[str, Any] | None) -> str:
    if not grid:
        return ""
    height, width = grid["shape"]
    side = grid["resolution_um"]
    return f"{height:,} x {width:,} px of {side:g} um ({height * side / 1000:.3g} x {width * side / 1000:.3g} mm)"


def _nuclei(nuclei: dict[str, Any] | None) -> str:
    if not nuclei:
        return ""
    if "count" not in nuclei:
        return f"{nuclei['source']} ({nuclei['because']})"
    outside = f", {nuclei['outside']:,} more outside the grid" if nuclei.get("outside") else ""
    return (
        f"{nuclei['count']:,} of {nuclei['source']}, median area {nuclei['median_area_um2']:.0f} um2{outside} "
        f"({nuclei['because']})"
    )


def _alignment(alignment: dict[str, Any] | None) -> str:
    return str(alignment["verdict"]) if alignment else ""


def _regions(regions: dict[str, Any] | None) -> str:
    if not regions:
        return ""
    if "count" not in regions:
        return str(regions["rule"])
    nuclei = f"{regions['fewest_nuclei']:,} to {regions['most_nuclei']:,} nuclei each"
    outside = f", {regions['nuclei_outside']:,} in none" if regions["nuclei_outside"] else ""
    return f"{regions['count']:,} ({regions['rule']}), {nuclei}{outside}"


def _memory(estimate: dict[str, Any] | None) -> str:
    if not estimate:
        return ""
    there = f" of {estimate['memory_there_gib']:.1f} GiB" if estimate["memory_there_gib"] else ""
    disk = f", or less with {estimate['disk_gib']:.1f} GiB of temporary files" if estimate["disk_gib"] else ""
    return f"about {estimate['memory_gib']:.1f} GiB at the peak{there}{disk}"


def _time(estimate: dict[str, Any] | None) -> str:
    if not estimate or estimate["seconds"] is None:
        return ""
    parts = ", ".join(f"{name} {_duration(seconds)}" for name, seconds in estimate["stages"].items())
    return f"about {_duration(estimate['seconds'])} on {estimate['device']} ({parts}; {estimate['because']})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
