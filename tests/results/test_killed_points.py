"""A process that is killed while it writes the column of the points: the old or the new result, never a mixture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import spatialdata as sd
from killed_points import in_child
from scenes import make_sdata, model, scene, segmented


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store with cells, a saved model, and the changes that an undisturbed second run makes to its files."""
    place = tmp_path_factory.mktemp("killed")
    model().save(place / "model")
    make_sdata(scene().nuclei, scene().points, labels_to_um=scene().to_um, npartitions=3).write(place / "old.zarr")
    segmented(sd.read_zarr(place / "old.zarr"), inplace=True, write="points")
    shutil.copytree(place / "old.zarr", place / "new.zarr")
    assert in_child(place / "new.zarr", place / "model", place / "changes.json", None) == 0
    return place, json.loads((place / "changes.json").read_text())


def result(store):
    """Ids of the table and of the points, after the store was mended by a call that is refused."""
    with pytest.raises(ValueError, match="pass overwrite=True"):
        segmented(sd.read_zarr(store), inplace=True, write="points")
    read = sd.read_zarr(store)
    frame, table = read["transcripts"].compute(), read["ucs_table"]
    original = frame.drop(columns="ucs_cell_id")
    assert original.equals(scene().points[original.columns].set_axis(original.index, axis=0))
    cells = np.bincount(frame["ucs_cell_id"], minlength=table.obs["cell_id"].max() + 1)
    assert (cells[table.obs["cell_id"]] == table.obs["n_transcripts"] + table.obs["n_controls"]).all()
    assert cells[1:].sum() == cells[table.obs["cell_id"]].sum()
    assert read["ucs_boundaries"].index.tolist() == table.obs["cell_id"].tolist()
    return table.obs["cell_id"].tolist()


def killed_at(original, tmp_path, share):
    place, changes = original
    old, new = (sd.read_zarr(place / f"{name}.zarr")["ucs_table"].obs["cell_id"].tolist() for name in ("old", "new"))
    assert old != new
    store = Path(shutil.copytree(place / "old.zarr", tmp_path / "tissue.zarr"))
    at = round(share * (len(changes) - 1))
    assert in_child(store, place / "model", tmp_path / "changes.json", at) == 9
    assert result(store) in (old, new)


def test_old_or_new(original, tmp_path):
    killed_at(original, tmp_path, 0.75)


@pytest.mark.slow
@pytest.mark.parametrize("share", np.linspace(0, 1, 60).tolist())
def test_old_or_new_at_each_step(original, tmp_path, share):
    killed_at(original, tmp_path, share)
