"""Whether a report can be written where it is asked for; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path


def check_target(path: str | Path, *, overwrite: bool) -> Path:
    """Return the path.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    FileNotFoundError
        If its folder does not exist.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        msg = f"{path} exists; pass overwrite=True to replace it, or another path."
        raise FileExistsError(msg)
    if not path.parent.is_dir():
        msg = f"The folder of {path} does not exist. Make it first."
        raise FileNotFoundError(msg)
    return path
