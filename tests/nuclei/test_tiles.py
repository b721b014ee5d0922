from __future__ import annotations

import numpy as np

from ucs._nuclei.tiles import renumbering


def test_renumbering():
    first = np.array([0, 50, 7, 30, 9])
    assert renumbering(first, np.array([True, True, True, False, True])).tolist() == [0, 3, 1, 0, 2]
