"""Which genes the nets see."""

from __future__ import annotations

import numpy as np
import pytest

from ucs._kernels.transcripts import TranscriptMap
from ucs._read.grid import Grid
from ucs._read.transcripts import Transcripts
from ucs._run.genes import binned_counts, choose_genes, highly_variable

GENES = tuple(f"G{k:02}" for k in range(60))


@pytest.fixture
def transcripts() -> Transcripts:
    """60 genes and a control on 60 x 45 pixels of 1 um; G00 and G01 live in one corner each, the others everywhere."""
    random = np.random.default_rng(0)
    n = 59 * 800
    row, column = random.integers(0, 60, n), random.integers(0, 45, n)
    feature = random.integers(2, 61, n)
    corner = random.integers(0, 15, (2, 800))
    row = np.concatenate([row, corner[0], 59 - corner[0]])
    column = np.concatenate([column, corner[1], 44 - corner[1]])
    feature = np.concatenate([feature, np.zeros(800, int), np.ones(800, int)])
    grid = Grid(0, 0, (60, 45), 1.0)
    counts = TranscriptMap.from_positions(row, column, feature, None, shape=grid.shape, n_features=61)
    return Transcripts(grid, counts, GENES, ("NegControlProbe_1",), (GENES, ("NegControlProbe_1",)), len(row), 0)


def test_all_genes_without_controls(transcripts: Transcripts) -> None:
    assert choose_genes("all", [transcripts]) == GENES


def test_bins_count_every_transcript_of_genes_where_it_lies(transcripts: Transcripts) -> None:
    dense = transcripts.map.dense()[: len(GENES)]
    expected = np.zeros((6, 5, 60), dtype=int)
    for i in range(60):
        for j in range(45):
            expected[i // 10, j // 10] += dense[:, i, j]
    expected = expected.reshape(-1, 60)
    binned = binned_counts(transcripts, GENES)
    assert np.array_equal(binned.toarray(), expected[expected.sum(axis=1) > 0])
    assert binned.sum() == transcripts.map.count[transcripts.map.feature < 60].sum()


def test_highly_variable_genes_are_those_that_vary_between_bins(transcripts: Transcripts) -> None:
    pytest.importorskip("scanpy")
    assert choose_genes(2, [transcripts]) == ("G00", "G01")
    assert choose_genes("hvg", [transcripts]) == GENES  # there are fewer than 1000
    assert highly_variable([transcripts], GENES, 60) == GENES


def test_list_and_pattern(transcripts: Transcripts) -> None:
    assert choose_genes(["G03", "G01", "G03"], [transcripts]) == ("G01", "G03")
    assert choose_genes("G0[0-2]", [transcripts]) == ("G00", "G01", "G02")


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        (["G01", "nope"], "1 names that the data does not have: 'nope'"),
        (["NegControlProbe_1"], "does not have"),
        ([], "empty list"),
        (0, "positive number"),
        ("most", "fits no gene"),
        ("G[", "no regular expression"),
    ],
)
def test_what_is_no_choice_of_genes(transcripts: Transcripts, genes: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_genes(genes, [transcripts])  # type: ignore[arg-type]
