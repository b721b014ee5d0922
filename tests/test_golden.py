"""Results of many set-ups, bit by bit, against the digests in ``golden.json`` and against each other.

The digests hold for one version of torch, NumPy and Numba and one kind of CPU. Elsewhere they are not compared; set-ups
that must give the same cells still are, with each other. A change that is meant to change results rewrites the digests
and says in its message which set-ups changed, and why::

    UCS_UPDATE_GOLDEN=1 pytest tests/test_golden.py -m ""
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import digests
import numpy as np
import pytest
import spatialdata as sd
import torch
from helpers import XENIUM_PIXEL_SIZE, prostate_sdata, require_data
from spatialdata import SpatialData

import ucs

pytestmark = [
    pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
]
GOLDEN = Path(__file__).with_name("golden.json")
UPDATE = os.environ.get("UCS_UPDATE_GOLDEN") == "1"


@dataclass(frozen=True)
class Setup:
    """What is segmented, and how; ``same_as`` names the set-up that must give the same cells, bit by bit."""

    sample: str = "tissue"
    method: str = "density"
    tile_size: int = 1024
    regions: int | None = None  # side in pixels
    markers: bool = False
    find_missing: bool = False
    stains: bool = False
    by_distance: bool = False  # pixels go to the nearest nucleus, whatever transcripts say
    plain: bool = False  # distances do not follow the shape of nuclei
    min_transcripts: int = 0
    memory_limit: int | None = None  # all that can be is on disk
    resume: bool = False
    cluster: bool = False
    same_as: str | None = None


DEEP = 930_000  # bytes: more than a tile of the deep sample takes, less than its rasters, or twice its transcripts

SETUPS = {
    "density": Setup(),
    "density, small tiles": Setup(tile_size=96, same_as="density"),
    "density, rasters on disk": Setup(tile_size=96, resume=True, same_as="density"),
    "density, Dask cluster": Setup(tile_size=96, cluster=True, same_as="density"),
    "density, deep": Setup("deep"),
    "density, deep, on disk": Setup("deep", tile_size=96, memory_limit=DEEP, same_as="density, deep"),
    "density, regions": Setup(regions=72),
    "density, regions, small tiles": Setup(regions=72, tile_size=96, same_as="density, regions"),
    "density, missing cells": Setup(find_missing=True),
    "density, by distance": Setup(by_distance=True),
    "density, plain, rich cells": Setup(plain=True, min_transcripts=60),
    "density, markers": Setup(markers=True),
    "density, breast": Setup("breast"),
    "density, prostate": Setup("prostate"),
    "pretrained": Setup(method="pretrained"),
    "pretrained, small tiles": Setup(method="pretrained", tile_size=96, same_as="pretrained"),
    "pretrained, Dask cluster": Setup(method="pretrained", tile_size=96, cluster=True, same_as="pretrained"),
    "pretrained, rasters on disk": Setup(method="pretrained", tile_size=96, resume=True, same_as="pretrained"),
    "pretrained, stains": Setup(method="pretrained", stains=True),
    "pretrained, missing cells": Setup(method="pretrained", find_missing=True),
    "pretrained, markers": Setup(method="pretrained", markers=True),
    "pretrained, rich cells": Setup(method="pretrained", plain=True, min_transcripts=60),
    "pretrained, breast": Setup("breast", method="pretrained"),
    "pretrained, prostate": Setup("prostate", method="pretrained"),
    "paper": Setup("small", method="paper"),
    "paper, small tiles": Setup("small", method="paper", tile_size=48, same_as="paper"),
    "paper, regions": Setup("small", method="paper", regions=48),
    "paper, missing cells": Setup("small", method="paper", find_missing=True),
    "paper, markers": Setup("small", method="paper", markers=True),
    "paper, breast": Setup("breast", method="paper"),
}
TISSUES = {
    "tissue": {"width_um": 144, "height_um": 72, "missing_nuclei": 0.1, "membrane_contrast": 5, "seed": 4},
    "small": {"width_um": 96, "height_um": 44, "missing_nuclei": 0.2, "seed": 1},
    "deep": {"width_um": 144, "height_um": 72, "transcripts_per_cell": 1000, "seed": 5},
}


# The only functions that know names of options, of results and of what measures memory


def segment(sdata: SpatialData, setup: Setup, scratch: str) -> SpatialData:
    """A new object with cells. The nets are hardly trained: enough for every option to have an effect."""
    params: dict[str, Any] = {"max_steps": 10} if setup.method == "density" else {}
    if setup.method == "paper":
        params = {"max_steps": 8, "patch_size": 16, "cell_patches": 2, "cell_steps": 100, "background": 4.0}
        params |= {"learning_rate": 1e-3, "cell_learning_rate": 0.02}
    if setup.regions is not None:
        params["min_nuclei"] = 1
    if setup.by_distance:
        params["ownership"] = "distance"
    if setup.plain:
        params["shape_exponent"] = 0.0
    return ucs.tl.segment(
        sdata,
        method=setup.method,
        params=params,
        regions=setup.regions,
        markers=markers_of(sdata) if setup.markers else None,
        find_missing=setup.find_missing,
        read={"stain_keys": ["morphology_focus"] if setup.stains else None},
        key_added={
            "confidence_column": "confidence",
            "min_transcripts": setup.min_transcripts,
            "outlines": "pixels",
        },
        compute={
            "tile_size": setup.tile_size,
            "memory_limit": setup.memory_limit,
            "resume": setup.resume,
            "scratch": scratch,
            "device": "cpu",
        },
        seed=1,
        inplace=False,
        progress=False,
    )


def parts_of(sdata: SpatialData, cells: SpatialData) -> dict[str, str]:
    """Name of each part of the input and the result -> its digest."""
    nuclei = "nucleus_labels" if "nucleus_labels" in sdata else "nucleus_boundaries"
    labels = [key for key in ("ucs_cells", "ucs_missing_nuclei") if key in cells]
    keys = {"shapes": "ucs_boundaries", "table": "ucs_table", "points": "transcripts"}
    return {
        "labelled percent": str(round(100 * float((np.asarray(cells["ucs_cells"]) > 0).mean()))),
        "input": digests.of_input(sdata, "transcripts", "feature_name", nuclei),
        **digests.of_cells(cells, labels, columns=("ucs_cell_id", "confidence"), **keys),
    }


@contextmanager
def little_memory(scratch: str) -> Iterator[None]:
    """A process that seems to hold nothing yet, so that a small limit is one of what is to come; all goes to disk."""
    folders, messages, original = [], [], tempfile.TemporaryFile
    measuring = [one for name, one in sys.modules.items() if name.startswith("ucs.") and "resident_memory" in vars(one)]
    assert measuring, "no module of ucs has resident_memory(): adapt this function"
    with pytest.MonkeyPatch.context() as patch:
        for module in measuring:
            patch.setattr(module, "resident_memory", lambda: 0)
        patch.setattr(tempfile, "TemporaryFile", lambda *a, **k: folders.append(str(k["dir"])) or original(*a, **k))
        patch.setattr(logging.getLogger("ucs"), "info", lambda text, *values: messages.append(text % values))
        yield
    assert scratch in folders, "transcripts were not on disk"
    assert any(scratch in message for message in messages), "rasters were not on disk"


# Runs


@functools.cache
def sample(name: str) -> SpatialData:
    if name == "breast":
        return part(sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr")), 1560, 2790, 1640, 2850)
    if name == "prostate":
        return part(prostate_sdata(require_data("xenium5k_prostate_west")), 2020, 2020, 2090, 2080)
    return ucs.datasets.simulate(**TISSUES[name])


def part(sdata: SpatialData, *um: float) -> SpatialData:
    """From (x0, y0) to (x1, y1)."""
    corners = [value / XENIUM_PIXEL_SIZE for value in um]
    return sdata.query.bounding_box(
        ("x", "y"), corners[:2], corners[2:], target_coordinate_system="global", filter_table=False
    )


def markers_of(sdata: SpatialData) -> dict[str, list[str]]:
    var = sdata["true_table"].var
    return {name: group.index.tolist() for name, group in var.groupby("marker_of", observed=True)}


@functools.cache
def parts(name: str) -> dict[str, str]:
    """Digests of a set-up, which runs once."""
    setup, sdata = SETUPS[name], sample(SETUPS[name].sample)
    with tempfile.TemporaryDirectory() as scratch, surroundings(setup, scratch):
        return parts_of(sdata, segment(sdata, setup, scratch))


def surroundings(setup: Setup, scratch: str) -> AbstractContextManager[None]:
    if setup.cluster:
        return worker()
    return little_memory(scratch) if setup.memory_limit else nullcontext()


@contextmanager
def worker() -> Iterator[None]:
    """A process that works on all tiles."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield
        executed = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert sum(executed.values()) > 0, "no task reached the worker"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Tests


def stored() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


def update(name: str) -> None:
    """Store the digests of a set-up; those of another environment, and of set-ups that are no more, go."""
    here, found = digests.environment(), parts(name)
    before = stored() if GOLDEN.exists() else {"environment": None}
    known = {**(before["digests"] if before["environment"] == here else {}), name: found}
    content = {"environment": here, "digests": {key: known[key] for key in SETUPS if key in known}}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")


def named(*names: str) -> list[Any]:
    """Parameters of tests; the one that ``tests/tl/test_cluster.py`` compares at length is run on demand."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name == "density, Dask cluster" else []) for name in names]


@pytest.mark.parametrize("name", named(*SETUPS))
def test_results_are_unchanged(name: str) -> None:
    if UPDATE:
        update(name)
    golden, here = stored(), digests.environment()
    other = [f"{key} {value}, here {here[key]}" for key, value in golden["environment"].items() if value != here[key]]
    if other:
        pytest.skip(f"the digests were made with {'; '.join(other)}")
    before, now = golden["digests"][name], parts(name)
    changed = {key: (before.get(key), now.get(key)) for key in before | now if before.get(key) != now.get(key)}
    assert not changed, f"changed parts of '{name}' (stored, now): {changed}"


@pytest.mark.parametrize("name", named(*(name for name, setup in SETUPS.items() if setup.same_as)))
def test_same_cells(name: str) -> None:
    assert parts(name) == parts(SETUPS[name].same_as)


def test_every_set_up_is_stored_and_every_option_has_an_effect() -> None:
    golden = stored()["digests"]
    assert list(golden) == list(SETUPS)
    for name, setup in SETUPS.items():
        equal = {
            other for other, found in golden.items() if found["labels/ucs_cells"] == golden[name]["labels/ucs_cells"]
        }
        first = setup.same_as or name
        assert equal == {first} | {other for other, of_other in SETUPS.items() if of_other.same_as == first}


def test_every_set_up_has_cells_and_room_between_them() -> None:
    """Otherwise labels would not change with what decides where cells end."""
    for name, found in stored()["digests"].items():
        assert 3 <= int(found["labelled percent"]) <= 97, name
