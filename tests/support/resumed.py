"""A small tissue whose runs are cut short and called again, and the comparison of what they give."""

from __future__ import annotations

import functools
from copy import deepcopy

import numpy as np
import pytest
import spatialdata as sd
from calls import segment, train
from helpers import cheap_copy
from interrupted import interrupt
from spatialdata import SpatialData
from spatialdata.transformations import get_transformation

import ucs
from ucs.methods import UCSModel

PARAMS = {"max_steps": 5}
N_TILES = 4  # of 96 px


@functools.cache
def tissue() -> SpatialData:
    """Not to be written to."""
    return ucs.datasets.simulate(width_um=150, height_um=120, n_genes=30, seed=1)


@functools.cache
def model() -> UCSModel:
    """A model trained on the tissue."""
    return train(tissue(), params=PARAMS)


def without_some_nuclei(tissue):
    other = cheap_copy(tissue)
    labels = np.asarray(other["nucleus_labels"]["scale0"]["image"]).copy()
    labels[labels % 4 == 1] = 0
    other["nucleus_labels"] = sd.models.Labels2DModel.parse(
        labels, dims=("y", "x"), transformations=get_transformation(other["nucleus_labels"], get_all=True)
    )
    return other


def other_transcripts(tissue):
    other = cheap_copy(tissue)
    points = other["transcripts"]
    attrs = deepcopy(dict(points.attrs))
    other["transcripts"] = points[points["x"] < 140].assign(**{})
    other["transcripts"].attrs.update(attrs)
    return other


def run(sdata, **options):
    """A run whose training is short, unless a model or parameters are given."""
    if "model" not in options:
        options = {"params": PARAMS, **options}
    return segment(sdata, **{"tile_size": 96, **options})


def assert_same(one, other):
    np.testing.assert_array_equal(np.asarray(one["ucs_cells"]), np.asarray(other["ucs_cells"]))
    tables = one["ucs_table"], other["ucs_table"]
    assert (tables[0].X != tables[1].X).nnz == 0
    np.testing.assert_array_equal(tables[0].obs["confidence"], tables[1].obs["confidence"])
    assert one["ucs_boundaries"].geometry.geom_equals(other["ucs_boundaries"].geometry).all()
    columns = [of["transcripts"]["ucs_cell_id"].compute().to_numpy() for of in (one, other)]
    np.testing.assert_array_equal(*columns)


def cut_short(sdata, monkeypatch, stage="tile", call=3, **options):
    """A run that is interrupted, by default after two tiles."""
    with monkeypatch.context() as patch:
        interrupt(patch, stage, call)
        with pytest.raises(KeyboardInterrupt):
            run(sdata, **options)


def counted(sdata, monkeypatch, **options):
    """The result of a run, and how many tiles and steps of training it made."""
    with monkeypatch.context() as patch:
        tiles, steps = interrupt(patch, "tile", -1), interrupt(patch, "training", -1)
        return run(sdata, **options), tiles(), steps()
