"""The softmask of a nucleus (paper, equation 2)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def sigmoid(x: float) -> float:
    """Logistic function without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + np.exp(-x))
    e = np.exp(x)
    return e / (1.0 + e)


@njit(cache=True, nogil=True)
def softmask(distance: float, tau: float) -> float:
    """Softmask of a signed distance (paper, equation 2): ``sigmoid(d / tau)``."""
    return sigmoid(distance / tau)
