"""Maps, shapes of cells, and segmentations side by side."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import cheap_copy
from matplotlib.collections import LineCollection, PathCollection
from spatialdata import SpatialData

import ucs


@pytest.fixture(scope="module")
def segmented() -> SpatialData:
    sdata = ucs.datasets.simulate(width_um=80, height_um=80, n_genes=60, seed=1)
    ucs.tl.segment(sdata, key_added={"foreground": "ucs_foreground"}, progress=False)
    return sdata


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_outlines_of_labels_are_drawn_smoothly(segmented: SpatialData):
    def corners(ax: plt.Axes) -> np.ndarray:
        rings = [c for c in ax.collections if isinstance(c, LineCollection)][-1].get_segments()
        steps = np.concatenate([np.diff(ring, axis=0) for ring in rings])
        return (np.abs(steps) > 1e-9).all(axis=1)

    along_pixels = ucs.pl.cells(segmented, shapes_key="ucs_cells", show=(), smooth=False)
    assert not corners(along_pixels).any()  # along rows and columns only
    assert corners(ucs.pl.cells(segmented, show=())).mean() > 0.3


def test_confidence_and_foreground_are_what_the_results_hold(segmented: SpatialData):
    ax = ucs.pl.confidence(segmented)
    values = next(c.get_array() for c in ax.collections if isinstance(c, PathCollection))
    np.testing.assert_allclose(values, segmented.tables["ucs_table"].obs["confidence"])
    ax = ucs.pl.foreground(segmented, bounds=(10, 10, 50, 40))
    assert (ax.get_xlim(), ax.get_ylim()) == ((10, 50), (40, 10))
    assert float(ax.images[0].get_array().max()) <= 1
    with pytest.raises(KeyError, match=r"foreground_key='fg'.*'ucs_foreground'.*key_added=\{'foreground': 'fg'\}"):
        ucs.pl.foreground(segmented, foreground_key="fg")


def test_segmentations_side_by_side(segmented: SpatialData):
    axes = ucs.pl.compare(segmented, {"ours": "ucs_boundaries", "vendor": "cell_labels"}, bounds=(0, 0, 30, 30))
    assert [ax.get_title() for ax in axes] == ["ours", "vendor"]
    assert [ax.get_xlim() for ax in axes] == [(0, 30), (0, 30)]
    with pytest.raises(ValueError, match="nothing to draw"):
        ucs.pl.compare(segmented, {})
    with pytest.raises(ValueError, match="ax has 1 axes for 2"):
        ucs.pl.compare(segmented, {"a": "ucs_cells", "b": "cell_labels"}, ax=plt.subplots()[1])


def test_morphology_is_drawn_for_all_or_by_type(segmented: SpatialData):
    sdata = cheap_copy(segmented)
    ucs.tl.morphology(sdata)
    axes = ucs.pl.morphology(sdata)
    n = sdata.tables["ucs_table"].n_obs
    assert [ax.get_xlabel() for ax in axes][1:] == ["eccentricity", "solidity", "nucleus / cell area"]
    counted = sum(np.diff(patch.get_path().vertices[:, 0]).size > 0 for patch in axes[3].patches)
    assert counted == 1
    sdata.tables["ucs_table"].obs["kind"] = np.where(np.arange(n) % 2, "odd", "even")
    by_kind = ucs.pl.morphology(sdata, by="kind")
    assert [label.get_text() for label in by_kind[0].get_xticklabels()] == ["even", "odd"]
    with pytest.raises(KeyError, match="by='nokind'"):
        ucs.pl.morphology(sdata, by="nokind")
    with pytest.raises(KeyError, match="table_key='t'"):
        ucs.pl.morphology(sdata, table_key="t")
