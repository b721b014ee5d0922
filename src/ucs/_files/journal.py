"""The journal of a swap: what was about to be replaced, and what each thing was before and after."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ucs._utils.files import read_plain, write_file

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL, NEW, KEPT, REPLACED = "journal.json", "new", "files", "replaced"
"""In a hidden folder: the journal, what is new, small files as they were, and what was replaced, by number."""
_LONGEST = 1 << 24  # bytes


@dataclass(frozen=True)
class Journal:
    """What a swap is about to do.

    Attributes
    ----------
    places
        Paths of what is replaced.
    digests
        Of what is new, one for each place.
    files
        Small files that are changed -> digests of their contents: before, and after each change; None for no file.
    """

    places: list[str]
    digests: list[str]
    files: dict[str, list[str | None]]

    def write(self, folder: Path) -> None:
        """Write it into a hidden folder, all or nothing."""
        write_file(folder / JOURNAL, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """Read that of a hidden folder.

        Raises
        ------
        PermissionError
            If it is a link, or of another user.
        ValueError
            If it is none.
        """
        path = folder / JOURNAL
        try:
            content = json.loads(read_plain(path, at_most=_LONGEST, own=True))
            journal = cls(**content)
        except (ValueError, TypeError, RecursionError) as error:
            msg = f"{path} is no journal of this version: {error}"
            raise ValueError(msg) from error
        states = journal.files.values() if isinstance(journal.files, dict) else [None]
        if not (
            _all_text(journal.places)
            and _all_text(journal.digests)
            and len(journal.places) == len(journal.digests) == len(set(journal.places))
            and all(isinstance(one, list) and one and _all_text([s for s in one if s is not None]) for one in states)
        ):
            msg = f"{path} is no journal of this version"
            raise ValueError(msg)
        return journal


def _all_text(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
