"""New elements into an object's own Zarr store: all of them or none, whatever happens on the way."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ucs._files.disk import check_space, check_writable, explained_if_full
from ucs._files.listing import KINDS, begin, finish, is_element, is_metadata, metadata_files, relist, unlisted
from ucs._files.swap import Area, Swap, clean, swapping

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from spatialdata import SpatialData

_PREFIX = ".ucs-write-"

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
    store = Path(sdata.path)
    mend_store(store)
    for kind in kinds.values():
        if (store / kind).exists():
            check_writable(store / kind)
    _check_keys(store, kinds, replaced=kinds if overwrite else ())


def _check_keys(store: Path, kinds: Mapping[str, str], *, replaced: Container[str]) -> None:
    for key, wanted in kinds.items():
        for kind in KINDS:
            if not (store / kind / key).exists():
                continue
            if kind != wanted:
                msg = f"{key!r} is the name of an element in {kind} of the store {store}; choose another."
                raise ValueError(msg)
            if key not in replaced:
                msg = f"The store {store} holds {kind}[{key!r}]; pass overwrite=True to replace it or another key."
                raise ValueError(msg)


def write_elements(
    store: Path,
    elements: Mapping[str, Any],
    *,
    points: Mapping[str, Callable[[Path], None]] | None = None,
    replaced: Container[str] | None = None,
    committed: Callable[[], None] = lambda: None,
) -> None:
    """Write elements to a store, in the place of those of the same name.

    They are first written to a store of their own, in a folder within the target so that putting them in their place is
    but a renaming. If anything fails, or the user interrupts, the store is put back as it was. If the process is
    killed, the store can be read; what was begun is undone by the next call, or by :func:`check_store`. If another
    process writes to the store, its end is waited for.

    Parameters
    ----------
    store
        Path of a SpatialData Zarr store.
    elements
        Key -> element.
    points
        Key of points in the store -> function that makes the folder of the element that replaces them.
    replaced
        Keys of elements that may be there already, to be replaced; all if None.
    committed
        Called once the elements are in the store for good, also if what follows fails or is interrupted.

    Raises
    ------
    ValueError
        If the store holds an element of that name that may not be replaced.
    PermissionError
        If the store is read-only, or a folder for elements in it is a symbolic link.
    OSError
        If its disk is full.
    """
    from spatialdata import SpatialData

    store = Path(store)
    mend_store(store)  # what it deletes makes room
    check_space(store, sum(map(_bytes_of, elements.values())), f"To write {', '.join(elements)}")
    added = SpatialData.init_from_elements(dict(elements))
    kinds = {key: kind for kind, key, _ in added.gen_elements()}
    with (
        explained_if_full(store, f"{', '.join(elements)} could not be written"),
        swapping(_area(store), committed) as swap,
    ):
        kinds |= dict.fromkeys(points or {}, "points")
        _check_keys(store, kinds, replaced=kinds if replaced is None else replaced)
        added.write(swap.new, consolidate_metadata=False, update_sdata_path=False, sdata_formats=_formats_of(store))
        for key, make in (points or {}).items():
            make(swap.new / "points" / key)
        _put_in_place(swap, [f"{kind}/{key}" for key, kind in kinds.items()])


def mend_store(store: Path) -> None:
    """Undo what a process that was killed had begun in a store, and delete what it left.

    Raises
    ------
    PermissionError
        If the store is read-only.
    """
    clean(_area(store))


def _area(store: Path) -> Area:
    return Area(store, _PREFIX, is_element, is_metadata, partial(unlisted, store), partial(relist, store))


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


def _put_in_place(swap: Swap, places: list[str]) -> None:
    kinds = sorted({place.partition("/")[0] for place in places})
    consolidated = []
    swap.replace(
        places,
        files=metadata_files(kinds),
        before=lambda change: consolidated.append(begin(change, kinds)),
        after=lambda change: finish(change, places, consolidate=consolidated[0]),
    )
