"""A store that can be written to while the original keeps its bytes: data linked, metadata copied."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata", "zmetadata")


def clone(store: Path, target: Path) -> Path:
    """Copy a store, with hard links for the files that no writer changes in place (chunks and Parquet files)."""
    if target.exists():
        shutil.rmtree(target)

    def copy(source: str, destination: str) -> None:
        if Path(source).name not in _METADATA:
            try:
                os.link(source, destination)
            except OSError:  # another file system
                pass
            else:
                return
        shutil.copy2(source, destination)

    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(store, target, copy_function=copy)
    return target


def digests(store: Path) -> dict[str, str]:
    """Return a digest of each file of a store, by its relative path."""
    found = {}
    for path in sorted(store.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(store))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def is_metadata(name: str) -> bool:
    """Tell whether a file of a store, by its path, is metadata, which may change when elements are added."""
    return Path(name).name in _METADATA
