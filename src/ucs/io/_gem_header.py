"""Header of Stereo-seq GEM files: annotations and column names, and errors for other files."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ucs._utils.checks import listed
from ucs.io._partitions import CELL, COUNT, GENE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAMES = {
    GENE: ("geneName", "geneID", "gene", "gene_name", "gene_id"),
    "x": ("x",),
    "y": ("y",),
    COUNT: ("MIDCount", "MIDCounts", "UMICount", "UMICounts", "count", "counts"),
    "exon_count": ("ExonCount", "exon", "exon_count"),
    CELL: ("CellID", "cell_id", "label", "cell"),
}
_NEEDED = (GENE, "x", "y", COUNT)
_SIGNATURES = {
    b"\x89HDF": "an HDF5 file: read it with ucs.io.read_gef",
    b"PK\x03\x04": "a zip archive: unpack it first",
}
_LONGEST_LINE = 1 << 16
_MOST_LINES = 1000  # of annotations; SAW writes about ten


@dataclass(frozen=True)
class GemHeader:
    """Header of a GEM file.

    Attributes
    ----------
    annotations
        The ``#key=value`` lines.
    columns
        Names of the columns, without quotes.
    delimiter
        Between columns.
    quoted
        Whether text is in double quotes (tables written by R).
    n_lines
        Annotation lines above the column names.
    compressed
        Whether the file is gzip-compressed.
    """

    annotations: dict[str, str]
    columns: tuple[str, ...]
    delimiter: str
    quoted: bool
    n_lines: int
    compressed: bool

    @property
    def bin_size(self) -> int:
        """Side of a bin in DNBs; 1 if it is not stated, or the file is cell-binned."""
        value = self.annotations.get("BinSize", "")
        return int(value) if value.isdigit() and int(value) > 0 else 1

    @property
    def offset(self) -> list[int] | None:
        """Position of (0, 0) on the chip in DNBs; None if it is not stated."""
        try:
            return [int(self.annotations["OffsetX"]), int(self.annotations["OffsetY"])]
        except (KeyError, ValueError):
            return None


def read_header(path: Path) -> GemHeader:
    """Read the header of a GEM file.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ValueError
        If the file is empty, of another kind, or cut short.
    """
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*.gem*")) if path.parent.is_dir() else []
        msg = f"{path} does not exist. GEM files in its folder: {listed(near)}."
        raise FileNotFoundError(msg)
    if path.is_dir():
        msg = f"{path} is a folder; name the GEM file in it: {listed(sorted(p.name for p in path.glob('*.gem*')))}."
        raise IsADirectoryError(msg)
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        msg = f"{path} is empty."
        raise ValueError(msg)
    if start in _SIGNATURES:
        msg = f"{path} is not a GEM file but {_SIGNATURES[start]}."
        raise ValueError(msg)
    compressed = start[:2] == b"\x1f\x8b"
    try:
        with gzip.open(path) if compressed else path.open("rb") as lines:
            return _parse_header(lines, path, compressed=compressed)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, str(error), n_header=0) from error


def _parse_header(lines: Any, path: Path, *, compressed: bool) -> GemHeader:
    annotations: dict[str, str] = {}
    n_lines = 0
    while True:
        try:
            line = lines.readline(_LONGEST_LINE).decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            line = ""
        if not line.startswith("#"):
            break
        n_lines += 1
        if n_lines > _MOST_LINES:
            msg = f"{path} is not a GEM file: it begins with more than {_MOST_LINES} lines that start with '#'."
            raise ValueError(msg)
        key, _, value = line[1:].partition("=")
        annotations[key.strip()] = value.strip()
    delimiter = max("\t,;", key=line.count)
    if delimiter not in line:
        msg = (
            f"{path} is not a GEM file: after {n_lines} lines starting with '#' there should be the names of the "
            f"columns, separated by tabs, but there is {line[:80]!r}."
        )
        raise ValueError(msg)
    columns = tuple(name.strip().strip('"') for name in line.split(delimiter))
    return GemHeader(annotations, columns, delimiter, '"' in line, n_lines, compressed)


def find_columns(path: Path, header: GemHeader, given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the column of the file for each column of the result.

    Raises
    ------
    ValueError
        If one that is needed is not there, or a name is not clear.
    """
    unknown = [name for name in given if name not in _NAMES]
    if unknown:
        msg = f"columns={dict(given)!r}: {listed(unknown)} is not one of {listed(_NAMES)}."
        raise ValueError(msg)
    there = {name.lower(): name for name in reversed(header.columns)}
    found: dict[str, str] = {}
    missing: list[str] = []
    for name, usual in _NAMES.items():
        if given.get(name, "") is None and name not in _NEEDED:
            continue
        looked_for = (given[name],) if given.get(name) else usual
        match = next((there[str(n).lower()] for n in looked_for if str(n).lower() in there), None)
        if match is not None:
            found[name] = match
        elif name in _NEEDED or given.get(name):
            missing.append(f"{name} ({' or '.join(str(n) for n in looked_for)})")
    if missing:
        msg = (
            f"{path}: no column for {'; '.join(missing)}. The file has {listed(header.columns)}; needed are "
            f"{listed(_NEEDED)}. Name what has another name, e.g. columns={{'count': 'MIDCount'}}."
        )
        raise ValueError(msg)
    twice = sorted({name for name in found.values() if header.columns.count(name) > 1})
    if twice:
        msg = f"{path}: more than one column is named {listed(twice)}."
        raise ValueError(msg)
    return found


def damaged(path: Path, reason: str, *, n_header: int) -> ValueError:
    """Return the error for a truncated or damaged compressed file, with the number of intact rows."""
    n_lines = 0
    try:
        with gzip.open(path) as file:
            # Small reads: what is read together with the damage is lost.
            while block := file.read1(1 << 13):
                n_lines += block.count(b"\n")
        how = "is damaged"
    except EOFError:
        how = "is truncated (gzip ends early)"
    except (zlib.error, gzip.BadGzipFile):
        how = "is damaged (gzip check failed)"
    n_rows = max(n_lines - n_header, 0)
    return ValueError(f"{path} {how} after {n_rows} rows: {reason}. Fetch it again; nothing was read.")
