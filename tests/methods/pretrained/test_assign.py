"""Transcripts are given to cells by place and gene; against the same in plain Python."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.pretrained.assign import GENE_WEIGHT, calibrated, move_transcripts

FACTOR, GRID, N_GENES, N_CLUSTERS, N = 2, (9, 11), 6, 3, 5
SHAPE = (GRID[0] * FACTOR, GRID[1] * FACTOR)


def scene(seed: int) -> dict:
    random = np.random.default_rng(seed)
    m = 900
    row, column, gene = (random.integers(0, k, m) for k in (*SHAPE, N_GENES))
    owner = random.integers(0, N + 1, (2, *GRID)).astype(np.int32)
    owner[1][owner[1] == owner[0]] = 0
    probability = random.dirichlet([1, 1, 1], (2, *GRID)).transpose(0, 3, 1, 2).astype(np.float32)
    membership = np.vstack([np.zeros(N_CLUSTERS), random.dirichlet([1] * N_CLUSTERS, N)]).astype(np.float32)
    nuclei = np.where(random.random(SHAPE) < 0.1, random.integers(1, N + 1, SHAPE), 0).astype(np.int32)
    return {
        "transcripts": TranscriptMap.from_positions(row, column, gene, None, shape=SHAPE, n_features=N_GENES),
        "corner": (0, 0),
        "labels": np.where(nuclei > 0, nuclei, random.integers(0, N + 1, SHAPE)).astype(np.int32),
        "nuclei": nuclei,
        "owner": owner,
        "probability": probability,
        "first": (0, 0),
        "grid": GRID,
        "factor": FACTOR,
        "threshold": random.uniform(0.3, 0.7, N + 1),
        "membership": membership,
        "log_ratio": random.normal(0, 1, (N_CLUSTERS + 1, N_GENES)).astype(np.float32),
    }


def owner_of(scene: dict, row: int, column: int, gene: int) -> int:
    """Return the cell of a transcript outside nuclei, one candidate after the other."""
    share = np.exp(scene["log_ratio"])
    y, x = ((at - (FACTOR - 1) / 2) / FACTOR for at in (row, column))
    odds = {0: 0.0}
    for a, b in itertools.product((0, 1), (0, 1)):
        weight = abs(1 - a - (y - math.floor(y))) * abs(1 - b - (x - math.floor(x)))
        i, j = (min(max(math.floor(v) + d, 0), n - 1) for v, d, n in zip((y, x), (a, b), GRID, strict=True))
        odds[0] += weight * scene["probability"][1, 2, i, j]
        for number in (0, 1):
            c = int(scene["owner"][number, i, j])
            if c:
                odds[c] = odds.get(c, 0.0) + weight * scene["probability"][1, number, i, j]
    for c in odds:
        likelihood = share[-1, gene] if c == 0 else scene["membership"][c] @ share[:-1, gene]
        odds[c] *= likelihood**GENE_WEIGHT
    cells = {c: v for c, v in odds.items() if c}
    if not cells:
        return -1
    best = max(cells, key=lambda c: (cells[c], -c))
    return best if calibrated(sum(cells.values()) / sum(odds.values())) > scene["threshold"][best] else 0


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_as_in_plain_python(threshold: float) -> None:
    given = scene(int(threshold * 10))
    given["threshold"] *= threshold * 2
    moves = move_transcripts(**given)
    found = {tuple(one[:3]): one[4] for one in moves.tolist()}
    transcripts = given["transcripts"]
    entries = zip(transcripts.rows(), transcripts.column, transcripts.feature, strict=True)
    n_different = 0
    for row, column, gene in ((int(r), int(c), int(g)) for r, c, g in entries):
        label = int(given["labels"][row, column])
        expected = -1 if given["nuclei"][row, column] else owner_of(given, row, column, gene)
        if expected in (-1, label):
            assert (row, column, gene) not in found
        else:
            assert found[row, column, gene] == expected
            n_different += 1
    assert n_different == len(moves) > 50
    assert ((moves[:, 5] >= 0) & (moves[:, 5] <= 255)).all()


def test_a_part_gives_the_same_as_the_whole() -> None:
    given = scene(3)
    whole = move_transcripts(**given)
    rows = np.s_[4:12]
    crop = given["transcripts"].crop(Window(4, 0, 12, SHAPE[1]))
    part = move_transcripts(
        **given | {
            "transcripts": crop, "corner": (4, 0), "labels": given["labels"][rows], "nuclei": given["nuclei"][rows],
            "owner": given["owner"][:, 1:8], "probability": given["probability"][:, :, 1:8], "first": (1, 0),
        }
    )  # fmt: skip
    part[:, 0] += 4
    np.testing.assert_array_equal(part, whole[(whole[:, 0] >= 4) & (whole[:, 0] < 12)])


def test_calibration_keeps_the_order_and_the_ends():
    at = [calibrated(p) for p in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert at[0] == 0
    assert at[-1] == 1
    assert at == sorted(at)
    assert at[2] == pytest.approx(0.625)
