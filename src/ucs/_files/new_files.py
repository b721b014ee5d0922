"""New files in a folder: all of them or none."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ucs._files.disk import explained_if_full
from ucs._files.swap import Area, swapping
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextmanager
def new_files(folder: Path, names: Sequence[str], *, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder in which files are made; those with the given names are moved into ``folder`` at the end.

    Raises
    ------
    FileExistsError
        If one of them exists and ``overwrite`` is False.
    NotADirectoryError
        If ``folder`` is a file.
    """
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is a file; name a folder."
        raise NotADirectoryError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    taken = [name for name in names if os.path.lexists(folder / name)]
    if taken and not overwrite:
        msg = f"{folder} has {listed(taken)}; pass overwrite=True to replace it, or another path."
        raise FileExistsError(msg)
    area = Area(folder, ".ucs-export-", lambda place: place in names)
    with explained_if_full(folder, "the export could not be written"), swapping(area) as swap:
        swap.new.mkdir()
        yield swap.new
        swap.replace([name for name in names if (swap.new / name).exists()])
