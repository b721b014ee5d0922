"""What ties the finished parts of a run that was killed to the run that continues it: data, parameters, versions."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.store import mend_store
from ucs._run.training import Trained
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs._utils.version import versions
from ucs.methods.base import Method
from ucs.methods.device import precision, resolve_device
from ucs.methods.region_models import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from spatialdata import SpatialData

    from ucs._files.workspace import Workspace
    from ucs._read.regions import Regions
    from ucs._read.sample import Sample
    from ucs._run.predict import Model

_MANIFEST, _TILES = "manifest", "tiles"
_AT_ONCE = 1 << 24


def begin_or_continue(
    workspace: Workspace,
    sample: Sample,
    regions: Regions | None,
    model: Model | None,
    *,
    device: str,
    tile_size: int,
    options: Mapping[str, Any],
) -> int:
    """Return the side of the tiles: that of the run in the folder, if it is the same run; otherwise ``tile_size``.

    What the folder holds of another run is removed.

    Parameters
    ----------
    workspace
        Of a run that may be continued.
    sample, regions
        What was read.
    model
        One that is given.
    device
        As in :func:`ucs.tl.segment`.
    tile_size
        Side of the tiles of a new run.
    options
        Further options that decide the result.
    """
    description = describe(sample, regions, model, device=device, options=options)
    before = workspace.read(_MANIFEST)
    tiles = workspace.read(_TILES)
    if before == description and tiles is not None:
        if not isinstance(tiles, int) or tiles < 1:
            raise workspace.damaged(f"tiles of {tiles!r} px")
        logger.info("Continuing the run in %s.", workspace.folder)
        return int(tiles)
    if before is not None:
        if not isinstance(before, dict):
            raise workspace.damaged("its manifest describes no run")
        differs = sorted(key for key in {*before, *description} if before.get(key) != description.get(key))
        logger.warning(
            "The run in %s is not continued but begun afresh, as these differ: %s.", workspace.folder, listed(differs)
        )
    workspace.clear()
    workspace.write(_TILES, tile_size)
    workspace.write(_MANIFEST, description)
    return tile_size


def describe(
    sample: Sample, regions: Regions | None, model: Model | None, *, device: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what decides the result of a run, as plain values: digests of the data, options, versions.

    Parameters
    ----------
    sample, regions
        What was read.
    model
        One that is given.
    device
        As in :func:`ucs.tl.segment`.
    options
        Further options that decide the result.
    """
    transcripts, nuclei = sample.transcripts, sample.nuclei
    of = transcripts.map
    where = resolve_device(device)
    return {
        "transcripts": _digest(of.row_start, of.column, of.feature, of.count),
        "features": _digest_text([*transcripts.genes, "", *transcripts.controls]),
        "grid": repr(transcripts.grid),
        "nuclei": _digest(nuclei.labels),
        "nucleus ids": _digest_text([str(i) for i in nuclei.ids.tolist()]),
        "cell types": None if sample.cell_types is None else _digest_text([str(t) for t in sample.cell_types]),
        "stains": None if sample.stains is None else _digest(sample.stains.measures),
        "regions": None if regions is None else _digest(regions.of_nucleus),
        "model": None if model is None else _digest_model(model),
        "device": f"{where.type}, {precision(where)}",
        **{key: _in_full(value) for key, value in options.items()},
        **versions(),
    }


def trained_once(workspace: Workspace, train: Callable[[], Trained]) -> Trained:
    """Return the model that the run in the folder has trained, or train it and leave it there."""
    folder = workspace.folder / "model"
    if folder.exists():
        logger.info("The model is there already.")
        try:
            return Trained(load_model(folder))
        except (FileNotFoundError, ValueError) as error:
            raise workspace.damaged(str(error)) from error
    trained = train()
    partial = workspace.folder / "model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    trained.model.save(partial)
    partial.rename(folder)
    return trained


def _in_full(value: Any) -> str:
    """Return what tells a value from others; arrays and tables are not cut short as when they are shown."""
    if isinstance(value, Method):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_in_full(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return "[" + ", ".join(_in_full(one) for one in value) + "]"
    return str(value)


def drop_half_written(sdata: SpatialData) -> None:
    """Undo in an object's store what a killed process was writing to it, also in the object if it was read since.

    Raises
    ------
    PermissionError
        If the store is read-only.
    """
    if not sdata.is_backed():
        return
    before = set(sdata.elements_paths_on_disk())
    mend_store(Path(sdata.path))
    for path in before.difference(sdata.elements_paths_on_disk()):
        name = path.rpartition("/")[2]
        if name in sdata:
            del sdata[name]


def _digest(*arrays: np.ndarray) -> str:
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        total.update(f"{array.dtype.str} {array.shape}".encode())
        flat = np.ascontiguousarray(array).reshape(-1)
        for first in range(0, len(flat), _AT_ONCE):
            total.update(flat[first : first + _AT_ONCE].data)
    return total.hexdigest()


def _digest_text(lines: list[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _digest_model(model: Model) -> str:
    parts = []
    for one in model.distinct():
        parts += [_digest(value.detach().cpu().numpy()) for value in one.tensors().values()]
        parts += [one.method, *one.genes, repr(one.params), repr(one.description())]
    return _digest_text(parts)
