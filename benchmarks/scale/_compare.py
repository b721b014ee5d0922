"""What two stores differ in, and what a run has left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spatialdata import SpatialData


def differences(reference: Path, store: Path) -> Iterator[str]:
    """Yield in what the cells of two stores differ."""
    a, b = read(reference), read(store)
    if missing := element_names(a) - element_names(b):
        yield f"{', '.join(sorted(missing))} not there"
        return
    one, other = a.labels["ucs_cells"].data, b.labels["ucs_cells"].data
    if one.shape != other.shape:
        yield f"labels {other.shape} instead of {one.shape}"
    elif n := int((one != other).sum().compute()):
        yield f"{n} pixels differ"
    counts = a.tables["ucs_table"].X, b.tables["ucs_table"].X
    if counts[0].shape != counts[1].shape or (counts[0] != counts[1]).nnz:
        yield "counts differ"
    shapes = a.shapes["ucs_boundaries"].geometry, b.shapes["ucs_boundaries"].geometry
    if len(shapes[0]) != len(shapes[1]) or not shapes[0].geom_equals_exact(shapes[1], 0).all():
        yield "outlines differ"


def leftovers(store: Path, scratch: Path, before: dict[str, str]) -> list[str]:
    """Return what is in the folder for scratch files, beside the store, or hidden in it, that was not there before."""
    known = {Path(name).parts[0] for name in before}
    own = {store.name, scratch.name, f"{store.stem}.json", f"{store.stem}.begun"}
    found = [path for path in store.iterdir() if path.name.startswith(".") and path.name not in known]
    found += [path for path in store.parent.iterdir() if path.name not in own]
    found += scratch.rglob("*") if scratch.exists() else []
    return sorted(str(path.relative_to(store.parent)) for path in found)


def read(store: Path) -> SpatialData:
    """Read a store."""
    import spatialdata as sd

    return sd.read_zarr(store)


def element_names(sdata: SpatialData) -> set[str]:
    """Return kind and key of each element."""
    return {f"{kind}/{key}" for kind, key, _ in sdata.gen_elements()}
