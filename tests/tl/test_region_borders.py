"""Borders of regions do not show in the cells, however much the models beside them differ."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from calls import predict, train
from scenes import labels_of, model

import ucs
from ucs.methods import RegionModels


def shifted(of, shift):
    """The model with larger cells (shift above 0) or smaller ones."""
    cell = deepcopy(of.cell)
    with torch.no_grad():
        cell.head.bias[1] += shift
    return replace(of, cell=cell)


def share_of_border(labels, line):
    """The share of cell borders among neighbours across one row and one column."""
    pairs = [np.stack([matrix[line - 1], matrix[line]]) for matrix in (labels, labels.T)]
    above, below = np.concatenate(pairs, axis=1)
    return ((above != below) & ((above > 0) | (below > 0))).mean()


@pytest.fixture(scope="module")
def far_and_near():
    return shifted(model("paper"), 4.0), shifted(model("paper"), -4.0)


@pytest.fixture(scope="module")
def blocks(far_and_near):
    far, near = far_and_near
    return RegionModels({"r0c0": far, "r0c1": near, "r1c0": near, "r1c1": far})


@pytest.fixture(scope="module")
def result(simulated, blocks):
    return predict(simulated, blocks, regions=100)


def shifted_density(of, factor):
    """The model that expects more transcripts everywhere, and so more of the tissue in cells, or fewer."""
    net = deepcopy(of.net)
    with torch.no_grad():
        net.head[-1].bias += np.log(factor)
    return replace(of, net=net)


def assert_no_edges(tissue, far, near, *, sides):
    """Of two models in 2 x 2 blocks: the lines between the blocks are no more borders of cells than those beside."""
    blocks = RegionModels({"r0c0": far, "r0c1": near, "r1c0": near, "r1c1": far})
    alone = [labels_of(predict(tissue, each)) for each in (far, near)]
    on, beside, of_a_cut = [], [], []
    for side in sides:
        labels = labels_of(predict(tissue, blocks, regions=side))
        on.append(share_of_border(labels, side))
        beside += [share_of_border(labels, side + k) for k in range(-8, 9) if k != 0]
        beyond = np.arange(max(labels.shape)) >= side
        cut = np.where((beyond[:, None] == beyond)[: labels.shape[0], : labels.shape[1]], *alone)
        of_a_cut.append(share_of_border(cut, side))
    assert np.mean(on) <= 1.15 * np.mean(beside)  # of some thousand pairs along a few lines: the noise of the share
    # What is looked for can be found: labels that change at the line have an edge there.
    assert np.mean(of_a_cut) > 2 * np.mean(beside)


class TestBordersOfRegions:
    """Models that could hardly differ more: cells of one end at their nuclei, those of the other go far."""

    @pytest.mark.slow
    def test_leave_no_straight_edges(self, far_and_near):
        tissue = ucs.datasets.simulate(width_um=200, height_um=200, n_genes=40, seed=0)
        assert_no_edges(tissue, *far_and_near, sides=(92, 100, 108))

    def test_nor_with_the_density_method(self):
        tissue = ucs.datasets.simulate(width_um=200, height_um=200, n_genes=40, seed=0)
        of = train(tissue, params={"max_steps": 20})
        assert_no_edges(tissue, shifted_density(of, 2.0), shifted_density(of, 1 / 2), sides=range(84, 117, 4))

    def test_nuclei_keep_their_models_across_them(self, simulated, far_and_near, blocks, result):
        """Far from the border all is as with one model; cells themselves reach across it."""
        labels, table = labels_of(result), result["ucs_table"]
        region = dict(zip(table.obs["cell_id"], table.obs["model_region"], strict=True))
        alone = {id(one): labels_of(predict(simulated, one)) for one in far_and_near}
        rows, columns = np.indices(labels.shape)
        checked, across = 0, 0
        for c, name in region.items():
            own = labels == c
            row, column = rows[own], columns[own]
            if min(np.abs(row - 100).min(), np.abs(column - 100).min()) > 2 * model("paper").params.reach + 8:
                np.testing.assert_array_equal(own, alone[id(blocks[name])] == c)
                checked += 1
            across += (row < 100).any() and (row >= 100).any()
        assert checked > 10
        assert across > 3

    def test_a_nucleus_belongs_to_the_region_of_most_of_its_pixels(self, result):
        table, (x, y) = result["ucs_table"], result["ucs_table"].obsm["spatial"].T
        origin = table.uns["ucs"]["qc"]["grid_origin"]
        row, column = (y - origin[1]) // 100, (x - origin[0]) // 100
        expected = np.array([f"r{int(min(r, 1))}c{int(min(c, 1))}" for r, c in zip(row, column, strict=True)])
        far = (np.abs(x - origin[0] - 100) > 20) & (np.abs(y - origin[1] - 100) > 20)
        np.testing.assert_array_equal(table.obs["model_region"].to_numpy().astype(str)[far], expected[far])
