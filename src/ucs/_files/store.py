"""New elements into an object's own Zarr store: all of them or none, whatever happens on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ucs._files.swap import check_space, check_writable, clean, explained_if_full, hidden_folder, replace, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spatialdata import SpatialData
    from zarr import Group


_PREFIX, _NEW = ".ucs-write-", "new.zarr"
_GROUP_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")

_BYTES_PER_PIXEL, _BYTES_PER_CELL, _BYTES_PER_ENTRY = 0.08, 200, 1
"""What results take at least, compressed."""


def check_store(sdata: SpatialData, kinds: Mapping[str, str], *, overwrite: bool) -> None:
    """Check that elements can be written to the store of an object.

    What a process that was killed has left in it is mended.

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
    PermissionError
        If it is read-only.
    """
    if not sdata.is_backed():
        msg = "write=True needs an object with a Zarr store: call sdata.write(path) first, or pass write=False."
        raise ValueError(msg)
    mend_store(Path(sdata.path))
    for kind in kinds.values():
        if (Path(sdata.path) / kind).exists():
            check_writable(Path(sdata.path) / kind)
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


def write_elements(
    store: Path, elements: Mapping[str, Any], *, points: Mapping[str, Callable[[Path], None]] | None = None
) -> None:
    """Write elements to a store, in the place of those of the same name.

    They are first written to a store of their own, in a folder within the target so that putting them in their place is
    but a renaming. If anything fails, or the user interrupts, the store is put back as it was. If the process is
    killed, the store can be read; what was begun is undone by the next call, or by :func:`check_store`.

    Parameters
    ----------
    store
        Path of a SpatialData Zarr store.
    elements
        Key -> element.
    points
        Key of points in the store -> function that makes the folder of the element that replaces them.

    Raises
    ------
    PermissionError
        If the store is read-only.
    OSError
        If its disk is full.
    """
    from spatialdata import SpatialData

    store = Path(store)
    mend_store(store)
    check_space(store, sum(map(_bytes_of, elements.values())), f"To write {', '.join(elements)}")
    added = SpatialData.init_from_elements(dict(elements))
    names = [(kind, key) for kind, key, _ in added.gen_elements()]
    with (
        explained_if_full(store, f"{', '.join(elements)} could not be written"),
        hidden_folder(store, _PREFIX) as folder,
    ):
        added.write(
            folder / _NEW, consolidate_metadata=False, update_sdata_path=False, sdata_formats=_formats_of(store)
        )
        for key, make in (points or {}).items():
            make(folder / _NEW / "points" / key)
            names.append(("points", key))
        _put_in_place(store, folder, names)


def mend_store(store: Path) -> None:
    """Undo what a process that was killed had begun in a store, and delete what it left.

    Raises
    ------
    PermissionError
        If the store is read-only.
    """
    check_writable(store)
    clean(store, _PREFIX, before=_drop_consolidated)


def bytes_to_write(*, n_pixels: int, n_cells: int, n_entries: int) -> int:
    """Return about how much the elements of a result take in a store, rather less than more.

    Parameters
    ----------
    n_pixels
        Of the raster.
    n_cells
        Cells, each with a row of the table and a polygon.
    n_entries
        Numbers other than 0 in the table and its layers.
    """
    return round(_BYTES_PER_PIXEL * n_pixels + _BYTES_PER_CELL * n_cells + _BYTES_PER_ENTRY * n_entries)


def _bytes_of(element: Any) -> int:
    """Return about how much one element takes."""
    from anndata import AnnData
    from geopandas import GeoDataFrame

    if isinstance(element, AnnData):
        numbers = [element.X, *element.layers.values()]
        n_entries = sum(matrix.nnz if hasattr(matrix, "nnz") else 0 for matrix in numbers)
        return bytes_to_write(n_pixels=0, n_cells=element.n_obs // 2, n_entries=n_entries)
    if isinstance(element, GeoDataFrame):
        return bytes_to_write(n_pixels=0, n_cells=len(element) // 2, n_entries=0)
    return bytes_to_write(n_pixels=getattr(element, "size", 0), n_cells=0, n_entries=0)


def _formats_of(store: Path) -> Any:
    """Return the formats to write in, None for the current ones: a store is of one version of Zarr throughout."""
    import zarr

    if zarr.open_group(store, mode="r").metadata.zarr_format != 2:
        return None
    from spatialdata import SpatialDataFormatType

    return next(
        made
        for made in (each() for each in get_args(SpatialDataFormatType))
        if made.zarr_format == 2 and type(made).__name__.startswith("SpatialDataContainerFormat")
    )


def _put_in_place(store: Path, folder: Path, names: Sequence[tuple[str, str]]) -> None:
    """Put elements in their place; a kind of elements that the store has none of comes as a whole, with its group."""
    kinds = list(dict.fromkeys(kind for kind, _ in names))
    whole = [kind for kind in kinds if not (store / kind).exists()]
    parts = [(kind, key) for kind, key in names if kind not in whole]
    places = [*whole, *(f"{kind}/{key}" for kind, key in parts)]
    has_consolidated = _has_consolidated(store)

    def finish() -> None:
        for kind, key in parts:
            _require_group(store, kind, key)
        if has_consolidated:
            _consolidate(store)

    replace(
        folder,
        store,
        [(f"{_NEW}/{place}", place) for place in places],
        files=[str(Path(group, name)) for group in (".", *kinds) if group not in whole for name in _GROUP_METADATA],
        before=_drop_consolidated,
        after=finish,
    )


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


def _has_consolidated(store: Path) -> bool:
    """Return whether a store lists in one place all that is in it."""
    if (store / ".zmetadata").is_file():
        return True
    root = store / "zarr.json"
    return root.is_file() and bool(json.loads(root.read_bytes()).get("consolidated_metadata"))


def _drop_consolidated(store: Path) -> None:
    """Let readers look for themselves what is in a store while it changes: a list would name what is not there."""
    (store / ".zmetadata").unlink(missing_ok=True)
    if _has_consolidated(store):
        metadata = json.loads((store / "zarr.json").read_bytes())
        del metadata["consolidated_metadata"]
        write_file(store / "zarr.json", json.dumps(metadata, indent=2).encode())


def _consolidate(store: Path) -> None:
    """List again all that is in a store."""
    from spatialdata import SpatialData

    opened = SpatialData()
    opened.path = store
    opened.write_consolidated_metadata()
