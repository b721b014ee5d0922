"""What must hold of each result, on objects drawn at random. ``UCS_GENERATED=10000 pytest -m slow`` draws more."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
import shapely
from calls import segment
from generated import finest, generate, level_read, snapshot
from invariants import assert_invariants, matrix_between

IN_GATE, AT_A_TIME = 16, 2
_ON_A_BORDER = 1e-6  # a centre on the border of two pixels counts for the later one, whatever rounding makes of it
MORE = int(os.environ.get("UCS_GENERATED", "1000"))


@pytest.mark.parametrize("first", range(0, IN_GATE, AT_A_TIME))
def test_of_the_gate(first):
    for seed in range(first, first + AT_A_TIME):
        assert_all_holds(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(IN_GATE, IN_GATE + MORE, 100))
def test_on_demand(first):
    for seed in range(first, min(first + 100, IN_GATE + MORE)):
        assert_all_holds(seed)


def assert_all_holds(seed: int) -> None:
    """Ids, counts by looking up each transcript, areas, nuclei in their cells, and nothing of the input changed."""
    made = generate(seed)
    before = snapshot(made.sdata)
    try:
        out = segment(made.sdata, "transcripts", made.nuclei_key, method="pretrained", **made.options)
        nuclei = nuclei_on_grid(out, made.nuclei_key)
        assert_invariants(out, um_per_unit=made.um_per_unit, count_key=made.count_key, nuclei=nuclei)
        if made.options["min_transcripts"] == 0:
            assert (nuclei > 0).sum() == (nuclei_of(out, made.nuclei_key) > 0).sum()
        assert_untouched(before, snapshot(made.sdata))
        added = {name for _, name, _ in out.gen_elements()} - {name for _, name, _ in made.sdata.gen_elements()}
        assert added == {"ucs_cells", "ucs_boundaries", "ucs_table"}
        columns = ["ucs_cell_id", *(["confidence"] if "confidence_column" in made.options else [])]
        frame = out["transcripts"].compute()
        pd.testing.assert_frame_equal(frame.drop(columns=columns), before["transcripts"])
    except Exception as error:
        error.add_note(f"generate({seed}), {made.options}")
        raise


def nuclei_of(out, key):
    """Row number + 1 of the nucleus at the centre of each pixel of the cells, 0 for none, by looking it up."""
    to_nuclei = matrix_between(out, "ucs_cells", key)
    row, column = np.indices(out["ucs_cells"].shape)
    x, y, _ = to_nuclei @ np.stack([column.ravel() + 0.5, row.ravel() + 0.5, np.ones(row.size)])
    if key in out.shapes:
        found = np.zeros(row.size, dtype=int)
        for number, polygon in enumerate(out[key].geometry, start=1):
            found[shapely.contains_xy(polygon, x, y)] = number
        return found.reshape(row.shape)
    labels, factor = level_read(out[key], np.sqrt(abs(np.linalg.det(to_nuclei[:2, :2]))))
    i, j = (np.floor(one / factor + _ON_A_BORDER).astype(int) for one in (y, x))
    inside = (i >= 0) & (j >= 0) & (i < labels.shape[0]) & (j < labels.shape[1])
    found = np.zeros(row.size, dtype=np.int64)
    found[inside] = np.searchsorted(np.unique(finest(out[key])), labels[i[inside], j[inside]])
    return found.reshape(row.shape)


def nuclei_on_grid(out, key):
    """The nuclei with the ids of their cells, those of cells that were left out with ids that no cell has."""
    ids = out[key].index if key in out.shapes else np.unique(finest(out[key]))[1:]
    obs = out["ucs_table"].obs
    cell = dict(zip(obs["nucleus_id"], obs["cell_id"], strict=True))
    none = int(obs["cell_id"].max()) + 1 if len(obs) else 1
    number = np.array([0, *(cell.get(one, none + k) for k, one in enumerate(ids))])
    return number[nuclei_of(out, key)]


def assert_untouched(before, after):
    assert before.keys() == after.keys()
    for name, held in before.items():
        if isinstance(held, pd.DataFrame):
            pd.testing.assert_frame_equal(held, after[name])
        else:
            np.testing.assert_equal(after[name], held)
