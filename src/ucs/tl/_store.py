"""New elements into an object's own Zarr store: all of them or none, whatever happens on the way."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spatialdata import SpatialData
    from zarr import Group

_GROUP_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")


def check_store(sdata: SpatialData, kinds: Mapping[str, str], *, overwrite: bool) -> None:
    """Check that elements can be written to the store of an object.

    Parameters
    ----------
    sdata
        The object.
    kinds
        Key -> kind (``"labels"``, ``"shapes"``, ``"tables"``) of the elements to be written.
    overwrite
        Whether elements of the same kind in the store may be replaced.

    Raises
    ------
    ValueError
        If there is no store, or it holds an element of that name that may not be replaced.
    """
    if not sdata.is_backed():
        msg = "write=True needs an object with a Zarr store: call sdata.write(path) first, or pass write=False."
        raise ValueError(msg)
    for path in sdata.elements_paths_on_disk():
        kind, _, key = path.rpartition("/")
        if key not in kinds:
            continue
        if kind != kinds[key]:
            msg = f"{key!r} is the name of an element in {kind} of the store {sdata.path}; choose another."
            raise ValueError(msg)
        if not overwrite:
            msg = f"The store {sdata.path} holds {kind}[{key!r}]; pass overwrite=True to replace it or another key."
            raise ValueError(msg)


def write_elements(store: Path, elements: Mapping[str, Any]) -> None:
    """Write elements to a store, in the place of those of the same name.

    They are first written to a store of their own, in a folder within the target so that putting them in their place is
    but a renaming. If anything fails, or the user interrupts, the store is put back as it was.

    Parameters
    ----------
    store
        Path of a SpatialData Zarr store.
    elements
        Key -> element.
    """
    from spatialdata import SpatialData

    added = SpatialData.init_from_elements(dict(elements))
    names = [(kind, key) for kind, key, _ in added.gen_elements()]
    with tempfile.TemporaryDirectory(prefix=".ucs-", dir=store) as folder:
        new, replaced = Path(folder, "new.zarr"), Path(folder, "replaced")
        added.write(new, consolidate_metadata=False, update_sdata_path=False, sdata_formats=_formats_of(store))
        _put_in_place(store, new, replaced, names)


def _formats_of(store: Path) -> Any:
    """Return the formats to write in, None for the current ones: a store is of one version of Zarr throughout."""
    import zarr

    if zarr.open_group(store, mode="r").metadata.zarr_format != 2:
        return None
    from spatialdata._io.format import SpatialDataContainerFormatV01

    return SpatialDataContainerFormatV01()


def _put_in_place(store: Path, new: Path, replaced: Path, names: list[tuple[str, str]]) -> None:
    folders = [store, *{store / kind: None for kind, _ in names}]
    absent = [folder for folder in folders if not folder.exists()]
    metadata = {file: file.read_bytes() for folder in folders for file in _metadata_files(folder)}
    moves: list[tuple[Path, Path]] = []
    try:
        for kind, key in names:
            _require_group(store, kind, key)
            place = store / kind / key
            if place.exists():
                (replaced / kind).mkdir(parents=True, exist_ok=True)
                _move(place, replaced / kind / key, moves)
            _move(new / kind / key, place, moves)
        _consolidate(store)
    except BaseException:  # Ctrl-C too
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                target.rename(source)
        for file in {file for folder in folders for file in _metadata_files(folder)} - set(metadata):
            file.unlink()
        for file, content in metadata.items():
            file.write_bytes(content)
        for folder in absent:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _move(source: Path, target: Path, moves: list[tuple[Path, Path]]) -> None:
    moves.append((source, target))  # first, so that an interrupt in between is undone too
    source.rename(target)


def _metadata_files(folder: Path) -> Iterable[Path]:
    return [folder / name for name in _GROUP_METADATA if (folder / name).is_file()]


def _require_group(store: Path, kind: str, key: str) -> None:
    """Make the group of a kind of elements, and list a key where the labels of a group are listed (OME-Zarr)."""
    import zarr

    group: Group = zarr.open_group(store, mode="r+", use_consolidated=False).require_group(kind)
    if kind != "labels":
        return
    attributes = group.attrs.asdict()
    listing: Any = attributes.setdefault("ome", {}) if group.metadata.zarr_format == 3 else attributes
    if key not in listing.get("labels", []):
        listing["labels"] = [*listing.get("labels", []), key]
        group.attrs.update(attributes)


def _consolidate(store: Path) -> None:
    """Bring consolidated metadata up to date, if the store has them."""
    from spatialdata import SpatialData

    opened = SpatialData()
    opened.path = store
    if opened.has_consolidated_metadata():
        opened.write_consolidated_metadata()
