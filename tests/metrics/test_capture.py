from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucs.metrics import capture


def slow_capture(cell_id, gene, count):
    """Look at one transcript after the other."""
    n, assigned = {}, {}
    for cell, name, number in zip(cell_id, gene, count, strict=True):
        n[name] = n.get(name, 0) + number
        assigned[name] = assigned.get(name, 0) + (number if cell > 0 else 0)
    return n, assigned


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ABC"), st.integers(0, 4)), max_size=30))
def test_capture_equals_looking_at_each_transcript(transcripts):
    cell_id = np.array([t[0] for t in transcripts], dtype=int)
    gene = np.array([t[1] for t in transcripts], dtype=object)
    count = np.array([t[2] for t in transcripts], dtype=int)
    n, assigned = slow_capture(cell_id, gene, count)
    found = capture(cell_id, gene=gene, count=count)
    assert found.n_transcripts == sum(n.values())
    assert found.n_assigned == sum(assigned.values())
    assert found.per_gene["n_transcripts"].to_dict() == n
    assert found.per_gene["n_assigned"].to_dict() == assigned
    if found.n_transcripts:
        assert found.share == pytest.approx(found.n_assigned / found.n_transcripts)
    else:
        assert np.isnan(found.share)


def test_by_hand():
    found = capture([1, 0, 2, 2, 0], gene=pd.Categorical(["A", "A", "B", "B", "B"]))
    assert found.share == pytest.approx(0.6)
    assert found.per_gene["share"].to_dict() == {"A": 0.5, "B": pytest.approx(2 / 3)}
    assert capture([1, 0, 2, 2, 0]).per_gene is None
    assert capture([1, 0], count=[1, 3]).share == 0.25


def test_bad_input():
    with pytest.raises(ValueError, match="one id per transcript"):
        capture(np.ones((2, 2), int))
    with pytest.raises(ValueError, match="gene \\(3,\\): give one per transcript"):
        capture([1, 2], gene=["A", "B", "C"])
    with pytest.raises(ValueError, match="2 transcripts have no gene|1 of 2 transcripts have no gene"):
        capture([1, 2], gene=["A", None])
    with pytest.raises(ValueError, match="count holds -1"):
        capture([1, 2], count=[1, -1])
    with pytest.raises(ValueError, match="cell_id holds float64"):
        capture([1.0, 2.0])
    with pytest.raises(TypeError, match="'ucs_cells' is the key of an element: pass the object"):
        capture("ucs_cells")
