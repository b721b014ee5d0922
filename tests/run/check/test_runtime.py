from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scenes import PAPER_TINY, TINY, make_sdata, model, scene

import ucs
from ucs._kernels.transcripts import Window
from ucs._read.sample import find_source, prepare
from ucs._run.check.estimate import stand_ins
from ucs._run.check.runtime import cut, n_blocks, rehearse, typical_part
from ucs._run.training import TrainingOptions
from ucs.methods.base import resolve_method


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample_of(sdata):
    return prepare(sdata, find_source(sdata), check_alignment=False)


def training(method="density", **params):
    method = resolve_method(method)
    few = {"density": TINY, "paper": PAPER_TINY}[method.name]
    return TrainingOptions(method, method.params.resolve({**few, **params}), device="cpu")


@pytest.fixture(scope="module")
def wide():
    """Poor tissue on the left, rich tissue on the right, and a lot of both in between."""
    rng = np.random.default_rng(0)
    nuclei = np.zeros((300, 900), dtype=np.int32)
    for k, (row, column) in enumerate(np.ndindex(18, 56), start=1):
        nuclei[row * 16 : row * 16 + 6, column * 16 : column * 16 + 6] = k
    x = np.concatenate([rng.uniform(0, 288, 500), rng.uniform(288, 576, 5000), rng.uniform(576, 900, 20_000), [899.5]])
    y = np.concatenate([rng.uniform(0, 300, len(x) - 1), [299.5]])
    genes = pd.Categorical([f"g{k}" for k in rng.integers(0, 30, len(x))])
    return sample_of(make_sdata(nuclei, pd.DataFrame({"x": x, "y": y, "feature_name": genes})))


def test_a_typical_part(wide):
    part = typical_part(wide)
    assert part.nuclei.labels.shape == (288, 288)
    assert part.transcripts.grid.origin == (288.0, 0.0)  # of 500, 5000 and 20,000 the nearest to their mean


def test_a_small_sample_is_its_own_part():
    sample = sample_of(scene().sdata())
    assert typical_part(sample) is sample


def test_a_part_is_what_lies_there(wide):
    window = Window(40, 300, 140, 420)
    part = cut(wide, window)
    np.testing.assert_array_equal(part.transcripts.map.dense(), wide.transcripts.map.dense(window))
    ids = np.concatenate([[0], part.nuclei.ids])
    np.testing.assert_array_equal(ids[part.nuclei.labels], wide.nuclei.labels[window.slices])
    assert part.transcripts.grid.origin == (300.0, 40.0)


def test_blocks_that_nuclei_reach():
    nuclei = np.zeros((300, 300), dtype=np.int32)
    assert n_blocks(nuclei, 24) == 0
    nuclei[40:50, 40:50] = 1
    assert n_blocks(nuclei, 24) == 1
    nuclei[80:90, 200:210] = 2  # within reach of the blocks beside and below
    assert n_blocks(nuclei, 24) == 1 + 4


def test_stand_ins_reach_every_block():
    nuclei = stand_ins((200, 310))
    assert n_blocks(nuclei.labels, 24) == 3 * 4
    assert nuclei.labels.max() == len(nuclei.ids) == 13 * 20


@pytest.mark.slow  # compares times, which other work on the machine distorts
@pytest.mark.parametrize("method", ["density", "paper"])
def test_time_grows_with_steps_and_area(wide, method):
    few = rehearse(wide, training(method), None, tile_size=1024)
    assert min(few.train, few.predict, few.decide) > 0
    more = {"max_steps": 4000} | ({"cell_steps": 4000} if method == "paper" else {})
    many = rehearse(typical_part(wide), training(method, **more), None, tile_size=1024)
    assert many.train > 10 * few.train
    assert many.predict < few.predict


def test_a_model_is_not_trained():
    sample = sample_of(scene().sdata())
    pace = rehearse(sample, training("paper"), model(), tile_size=1024)
    assert pace.train == 0
    assert pace.predict > 0


def points(x, y):
    return pd.DataFrame({"x": np.float64(x), "y": np.float64(y), "feature_name": pd.Categorical(["A"] * len(x))})


@pytest.mark.parametrize("case", ["one transcript", "empty nuclei", "far islands"])
@pytest.mark.parametrize(("method", "params"), [
    ("density", TINY),
    ("paper", {**PAPER_TINY, "background": "auto"}),
    ("paper", {**PAPER_TINY, "background": "paper"}),
])  # fmt: skip
def test_the_least_of_data(case, method, params):
    nuclei, rng = np.zeros((30, 400), dtype=np.int32), np.random.default_rng(0)
    nuclei[10:15, 10:16], nuclei[10:15, 380:386] = 1, 2
    match case:
        case "one transcript":
            sdata = make_sdata(np.ones((1, 1), dtype=np.int32), points([0.5], [0.5]))
        case "empty nuclei":
            sdata = make_sdata(nuclei[:, :40], points([0.5, 39.5], [0.5, 29.5]))
        case "far islands":
            x = [*rng.uniform(0, 30, 200), *rng.uniform(370, 400, 200), 200.0]
            sdata = make_sdata(nuclei, points(x, rng.uniform(0, 30, 401)))
    found = ucs.pp.check(
        sdata, method=method, params=params, read={"check_alignment": False}, compute={"device": "cpu"}
    )
    assert found.ok
    assert np.isfinite(found["estimate"]["seconds"])
