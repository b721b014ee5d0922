from __future__ import annotations

import numpy as np
from scipy.special import expit

from ucs.methods.paper.softmask import sigmoid, softmask


def test_softmask_is_the_logistic_function():
    x = np.concatenate([np.linspace(-50, 50, 41), [-1e4, -700.0, 700.0, 1e4]])
    np.testing.assert_allclose([sigmoid(v) for v in x], expit(x), rtol=1e-12)
    np.testing.assert_allclose([softmask(v, 5.0) for v in x], expit(x / 5), rtol=1e-12)
    assert softmask(0.0, 5.0) == 0.5
    assert softmask(-np.inf, 5.0) == 0
