"""What a Zarr store says of the elements that it holds: groups, the labels of a group, and consolidated metadata."""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING, Any

from ucs._utils.checks import NAME
from ucs._utils.files import read_plain, write_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ucs._files.journal import Journal
    from ucs._files.swap import Change

KINDS = ("images", "labels", "points", "shapes", "tables")
_GROUP = ("zarr.json", ".zgroup", ".zattrs")
_ROOT = ("zarr.json", ".zmetadata")  # files that list all that is in a store
_LONGEST = 1 << 30


def is_element(place: str) -> bool:
    """Tell whether a path in a store may be that of an element."""
    kind, _, key = place.partition("/")
    return kind in KINDS and re.fullmatch(NAME, key) is not None


def is_metadata(file: str) -> bool:
    """Tell whether a path in a store is that of metadata of the store or of a kind of elements."""
    kind, _, name = file.rpartition("/")
    return name in _GROUP if kind in KINDS else file in _ROOT


def metadata_files(kinds: Sequence[str]) -> list[str]:
    """Return the paths of the metadata that change when elements of these kinds come or go."""
    return [*_ROOT, *(f"{kind}/{name}" for kind in kinds for name in _GROUP)]


def elements_on_disk(store: Path) -> set[str]:
    """Return kind and key, with a slash between, of the elements in a store, whatever its lists say."""
    return {
        f"{kind}/{path.name}"
        for kind in KINDS
        if (store / kind).is_dir()
        for path in (store / kind).iterdir()
        if any((path / name).is_file() for name in ("zarr.json", ".zgroup"))
    }


def listed_elements(store: Path) -> set[str] | None:
    """Return those that the consolidated metadata of a store name; None if there are no such metadata."""
    names: Any = None
    if (store / ".zmetadata").is_file():
        names = [name.rpartition("/")[0] for name in _read_json(store / ".zmetadata").get("metadata", {})]
    elif (store / "zarr.json").is_file():
        listing = _read_json(store / "zarr.json").get("consolidated_metadata")
        names = None if not listing else listing.get("metadata", {})
    return None if names is None else {name for name in names if name.count("/") == 1 and is_element(name)}


def begin(change: Change, kinds: Sequence[str]) -> bool:
    """Prepare a store for new elements, and return whether it has consolidated metadata, which go.

    Readers look for themselves what is in a store while it changes: a list would name what is not there. Groups of the
    kinds are made where there are none.
    """
    store = change.area.parent
    consolidated = unlisted(store)
    for file, content in consolidated.items():
        change.write(file, content)
    for kind in kinds:
        if any((store / kind / name).is_file() for name in _GROUP):
            continue
        for name in _GROUP:
            made = change.folder / "new" / kind / name
            if made.is_file():
                change.write(f"{kind}/{name}", _relabelled(made.read_bytes(), add=(), drop=None) or made.read_bytes())
    return bool(consolidated)


def unlisted(store: Path) -> dict[str, bytes | None]:
    """Return the files of a store that hold consolidated metadata, and their content without (None: no file)."""
    if listed_elements(store) is None:
        return {}
    if (store / ".zmetadata").is_file():
        return {".zmetadata": None}
    metadata = _read_json(store / "zarr.json")
    del metadata["consolidated_metadata"]
    return {"zarr.json": _as_json(metadata)}


def finish(change: Change, places: Sequence[str], *, consolidate: bool) -> None:
    """List new elements where labels are listed (OME-Zarr) and, if wanted, in consolidated metadata."""
    store = change.area.parent
    labels = [place.partition("/")[2] for place in places if place.startswith("labels/")]
    for name in _GROUP if labels else ():
        if (store / "labels" / name).is_file() and name != ".zgroup":
            content = _relabelled((store / "labels" / name).read_bytes(), add=labels, drop=())
            if content is not None:
                change.write(f"labels/{name}", content)
    while consolidate:
        for file, content in _consolidated(store).items():
            change.write(file, content)
        consolidate = listed_elements(store) != elements_on_disk(store)  # another program has written meanwhile


def relist(store: Path, journal: Journal, changed: Sequence[str], folder: Path) -> None:
    """Make lists right after elements were put back, where others have changed them or the store."""
    gone = [place.partition("/")[2] for place in journal.places if not (store / place).exists()]
    for file in changed:
        if file in ("labels/zarr.json", "labels/.zattrs") and (store / file).is_file():
            content = _relabelled((store / file).read_bytes(), add=(), drop=gone)
            if content is not None:
                write_file(store / file, content, by_way_of=folder)
    for kind in {place.partition("/")[0] for place in journal.places}:
        if (store / kind).is_dir() and not any((store / kind).iterdir()):
            (store / kind).rmdir()
    if listed_elements(store) not in (None, elements_on_disk(store)):
        for file, content in _consolidated(store).items():
            write_file(store / file, content, by_way_of=folder)


def _relabelled(content: bytes, *, add: Sequence[str], drop: Sequence[str] | None) -> bytes | None:
    """Return metadata of a group with other labels listed (``drop`` None: none but those added); None if as before."""
    metadata = json.loads(content)
    attributes = metadata.get("attributes", {}) if "zarr_format" in metadata else metadata
    listing = attributes.get("ome", {}) if "zarr_format" in metadata else attributes
    if "labels" not in listing and not add:
        return None
    if "zarr_format" in metadata:
        listing = metadata.setdefault("attributes", {}).setdefault("ome", {})
    before = listing.get("labels", [])
    kept = [] if drop is None else [key for key in before if key not in drop]
    listing["labels"] = [*kept, *(key for key in add if key not in kept)]
    return None if listing["labels"] == before else _as_json(metadata)


def _consolidated(store: Path) -> dict[str, bytes]:
    """Return the files, by path, that list all that is in a store; nothing is written."""
    import zarr
    from zarr.storage import LocalStore, WrapperStore

    written: dict[str, bytes] = {}

    class Captured(WrapperStore[LocalStore]):
        """Keeps what is to be written, and shows no hidden folders."""

        async def set(self, key: str, value: Any) -> None:
            written[key] = value.to_bytes()

        async def list_dir(self, prefix: str) -> Any:
            async for name in super().list_dir(prefix):
                if not name.startswith(".ucs-"):
                    yield name

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=zarr.errors.ZarrUserWarning)  # of the Parquet files of shapes
        zarr.consolidate_metadata(Captured(LocalStore(store)))
    # zarr also writes anew what it has only read.
    return {file: content for file, content in written.items() if file == ".zmetadata" or file == "zarr.json"}


def _read_json(path: Path) -> Any:
    return json.loads(read_plain(path, at_most=_LONGEST))


def _as_json(metadata: Any) -> bytes:
    return json.dumps(metadata, indent=2).encode()
