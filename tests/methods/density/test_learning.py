"""Kinds of cells are learned from parts of samples that are too large to be looked at as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from ucs.methods.params import TrainParams

import ucs
from ucs._read.sample import find_source, prepare
from ucs._run.training import Learning
from ucs.methods.density import learning as module


@pytest.fixture(scope="module")
def sample():
    sdata = ucs.datasets.simulate(width_um=260, height_um=220, n_genes=30, seed=4)
    return prepare(sdata, find_source(sdata, None), progress=False)


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(module, "_ENOUGH_NUCLEI", 60)
    monkeypatch.setattr(module, "_PART", 96)


def parts_of(sample, seed=0, *, whole=False):
    return module._labelled(sample, sample.transcripts.genes, seed, whole=whole)


def test_a_small_sample_is_taken_whole(sample):
    (part,) = parts_of(sample)
    np.testing.assert_array_equal(part.nuclei, sample.nuclei.labels)
    n_genes = len(sample.transcripts.genes)
    counts = sample.transcripts.map.count[sample.transcripts.map.feature < n_genes]
    assert part.transcripts.n_transcripts == counts.sum()


@pytest.mark.usefixtures("in_parts")
def test_of_a_large_one_there_are_parts_with_enough_nuclei(sample):
    nuclei, of = sample.nuclei.labels, sample.transcripts.map
    n_genes = len(sample.transcripts.genes)
    dense, parts = of.dense()[:n_genes], parts_of(sample)
    n_nuclei = [int(part.nuclei.max()) for part in parts]
    assert sum(n_nuclei) >= 60 > sum(n_nuclei[:-1])
    places = [(row, column) for row in range(0, nuclei.shape[0], 96) for column in range(0, nuclei.shape[1], 96)]
    for part, n in zip(parts, n_nuclei, strict=True):
        assert len(part.boxes) == n + 1
        assert set(np.unique(part.nuclei)) - {0} == set(range(1, n + 1))
        height, width = part.nuclei.shape
        found = [
            (row, column)
            for row, column in places
            if np.array_equal(dense[:, row : row + 96, column : column + 96], part.transcripts.dense())
            and np.array_equal(nuclei[row : row + 96, column : column + 96] > 0, part.nuclei > 0)
        ]
        assert len(found) == 1, (height, width)
        places.remove(found[0])  # no part is taken twice


@pytest.mark.usefixtures("in_parts")
def test_the_seed_decides_which(sample):
    def shapes(seed):
        return [(part.nuclei.shape, part.transcripts.n_transcripts) for part in parts_of(sample, seed)]

    assert shapes(0) == shapes(0)
    assert len({tuple(shapes(seed)) for seed in range(6)}) > 1


@pytest.mark.usefixtures("in_parts")
def test_types_by_markers_are_told_of_all_nuclei(sample):
    """Memberships are given for nuclei by id: the sample stays whole."""
    (part,) = parts_of(sample, whole=True)
    np.testing.assert_array_equal(part.nuclei, sample.nuclei.labels)


@pytest.mark.usefixtures("in_parts")
def test_kinds_are_learned_from_parts(sample):
    net = module.learn_kind_net([sample], sample.transcripts.genes, Learning(TrainParams()))
    assert net.log_ratio.shape[1] == len(sample.transcripts.genes)
    again = module.learn_kind_net([sample], sample.transcripts.genes, Learning(TrainParams()))
    np.testing.assert_array_equal(net.log_ratio.numpy(), again.log_ratio.numpy())
