"""What the tests of the preparation share."""

from __future__ import annotations

import numpy as np
import pytest

import stains


@pytest.fixture(scope="package")
def small() -> tuple[np.ndarray, np.ndarray]:
    """An image of nuclei, and the nuclei; not to be written to."""
    return stains.dapi(0)
