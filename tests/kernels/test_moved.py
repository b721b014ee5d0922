"""Transcripts of another cell than their pixel, against a slow count."""

from __future__ import annotations

import numpy as np
import pytest

from ucs._kernels.count import count_in_labels
from ucs._kernels.moved import MovedTranscripts, no_moves
from ucs._kernels.transcripts import TranscriptMap

SHAPE, N_FEATURES, N = (40, 50), 7, 5


def scene(seed: int) -> tuple[TranscriptMap, np.ndarray, np.ndarray]:
    """Return transcripts, labels, and moves of every third entry to a random cell or to none."""
    random = np.random.default_rng(seed)
    m = 3000
    row, column, feature = (random.integers(0, k, m) for k in (*SHAPE, N_FEATURES))
    transcripts = TranscriptMap.from_positions(row, column, feature, None, shape=SHAPE, n_features=N_FEATURES)
    labels = random.integers(0, N + 1, SHAPE).astype(np.int32)
    some = random.permutation(len(transcripts.column))[::3]
    entries = transcripts.rows()[some], transcripts.column[some], transcripts.feature[some], transcripts.count[some]
    owner = random.integers(0, N + 1, len(some))
    return transcripts, labels, np.stack([*entries, owner, np.full(len(some), 9)], axis=1).astype(np.int32)


@pytest.mark.parametrize("seed", range(4))
def test_counts_follow_the_transcripts(seed: int) -> None:
    transcripts, labels, moves = scene(seed)
    moved = MovedTranscripts.of_tiles(SHAPE, N_FEATURES, [moves[100:], moves[:100]])
    expected = np.zeros((N + 1, N_FEATURES), dtype=int)
    owner = {tuple(one[:3]): one[4] for one in moves.tolist()}
    entries = zip(transcripts.rows(), transcripts.column, transcripts.feature, transcripts.count, strict=True)
    for row, column, feature, count in entries:
        expected[owner.get((row, column, feature), labels[row, column]), feature] += count
    found = moved.correct(count_in_labels(transcripts, labels, N), labels)
    np.testing.assert_array_equal(found.toarray(), expected[1:])
    assert found.has_sorted_indices
    assert (found.data > 0).all()
    assert moved.n_transcripts == moves[:, 3].sum()


def test_each_is_found_and_no_other() -> None:
    transcripts, _, moves = scene(9)
    moved = MovedTranscripts.of_tiles(SHAPE, N_FEATURES, [moves])
    at = moved.find(transcripts.rows(), transcripts.column, transcripts.feature)
    keys = [tuple(key) for key in moves[:, :3].tolist()]
    entries = zip(transcripts.rows(), transcripts.column, transcripts.feature, strict=True)
    assert [k >= 0 for k in at] == [key in set(keys) for key in entries]
    np.testing.assert_array_equal(moved.moves[at[at >= 0], 4].sum(), moves[:, 4].sum())
    assert (moved.find(moves[:, 0], moves[:, 1], np.full(len(moves), -1)) == -1).all()


def test_nothing_moved_changes_nothing() -> None:
    transcripts, labels, _ = scene(1)
    counts = count_in_labels(transcripts, labels, N)
    moved = MovedTranscripts.of_tiles(SHAPE, N_FEATURES, [no_moves()])
    assert moved.correct(counts, labels) is counts
    assert (moved.find(*np.zeros((3, 2), dtype=np.int64)) == -1).all()
