"""The least of data works: one nucleus, one gene, one transcript, empty tiles, nuclei on the border."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scenes
import shapely
from calls import segment
from invariants import assert_invariants
from scenes import PAPER_TINY, TINY, labels_of, make_sdata, scene, segmented


class TestLeast:
    """The least of data works, training included."""

    def run(self, nuclei, points, **options):
        result = segment(make_sdata(nuclei, points), **{"params": TINY, **options})
        assert_invariants(result)
        return result

    def points(self, x, y, genes="A"):
        genes = [genes] * len(x) if isinstance(genes, str) else genes
        return pd.DataFrame({"x": np.float64(x), "y": np.float64(y), "feature_name": pd.Categorical(genes)})

    @pytest.mark.parametrize("options", [{}, {"method": "paper", "params": PAPER_TINY}], ids=["density", "paper"])
    def test_one_transcript(self, options):
        sdata = self.run(np.ones((1, 1), dtype=np.int32), self.points([0.5], [0.5]), **options)
        assert labels_of(sdata).tolist() == [[1]]
        assert sdata["ucs_table"].X.toarray().tolist() == [[1]]

    def test_one_nucleus_and_one_gene(self):
        rng = np.random.default_rng(0)
        nuclei = np.zeros((40, 50), dtype=np.int32)
        nuclei[15:22, 20:28] = 9
        sdata = self.run(nuclei, self.points(rng.uniform(0, 50, 300), rng.uniform(0, 40, 300)))
        assert sdata["ucs_table"].obs["nucleus_id"].tolist() == [9]
        assert sdata["ucs_table"].shape == (1, 1)

    def test_one_nucleus_of_one_pixel_among_many_genes(self):
        rng = np.random.default_rng(0)
        nuclei = np.zeros((30, 30), dtype=np.int32)
        nuclei[7, 7] = 1
        genes = [f"g{k}" for k in rng.integers(0, 200, 300)]
        sdata = self.run(nuclei, self.points(rng.uniform(0, 30, 300), rng.uniform(0, 30, 300), genes))
        assert labels_of(sdata)[7, 7] == 1

    def test_nuclei_without_a_transcript_in_them(self):
        nuclei = np.zeros((40, 40), dtype=np.int32)
        nuclei[10:14, 10:14], nuclei[30:33, 30:33] = 1, 2
        sdata = self.run(nuclei, self.points([0.5, 39.5], [0.5, 39.5]))
        assert sdata["ucs_table"].n_obs == 2
        assert sdata["ucs_table"].layers["nucleus"].nnz == 0

    def test_nuclei_on_the_border(self):
        """Some are cut by the edge of the grid: what is on it counts."""
        rng = np.random.default_rng(0)
        nuclei = np.zeros((60, 60), dtype=np.int32)
        nuclei[0:10, 0:10], nuclei[50:60, 25:35], nuclei[28:33, 55:60] = 1, 2, 3
        points = self.points([5.5, 54.5, *rng.uniform(5, 55, 500)], [5.5, 54.5, *rng.uniform(5, 55, 500)])
        sdata = self.run(nuclei, points)
        assert labels_of(sdata).shape == (50, 50)
        # The third one lies beyond the last transcript.
        assert sdata["ucs_table"].obs["nucleus_id"].tolist() == [1, 2]
        assert sdata["ucs_table"].obs["nucleus_area_um2"].tolist() == [25.0, 50.0]

    def test_empty_space_between_two_far_islands(self):
        """Tiles without transcripts, tiles without nuclei; the grid is much wider than what is in it."""
        rng = np.random.default_rng(0)
        x = np.concatenate([rng.uniform(0, 30, 200), rng.uniform(970, 1000, 200), [500.0]])
        y = rng.uniform(0, 30, 401)
        nuclei = np.zeros((30, 1000), dtype=np.int32)
        nuclei[10:15, 10:16], nuclei[10:15, 980:986] = 1, 2
        sdata = self.run(nuclei, self.points(x, y), tile_size=64)
        labels = labels_of(sdata)
        assert (labels[:, 100:900] == 0).all()
        assert set(np.unique(labels)) == {0, 1, 2}

    def test_a_tissue_full_of_nuclei_leaves_no_background(self, caplog):
        nuclei = np.kron(np.arange(1, 26, dtype=np.int32).reshape(5, 5), np.ones((6, 6), dtype=np.int32))
        rng = np.random.default_rng(0)
        points = self.points(rng.uniform(0, 30, 500), rng.uniform(0, 30, 500), ["A", "B"] * 250)
        sdata = self.run(nuclei, points)
        np.testing.assert_array_equal(labels_of(sdata), nuclei)
        assert "the density around the nuclei does not fall" in caplog.text

    def test_touching_nuclei_and_nuclei_in_parts(self):
        nuclei = np.zeros((40, 40), dtype=np.int32)
        nuclei[10:15, 10:15], nuclei[10:15, 15:20] = 1, 2
        nuclei[30:33, 5:8] = nuclei[30:33, 30:33] = 3
        rng = np.random.default_rng(0)
        points = self.points(rng.uniform(0, 40, 500), rng.uniform(0, 40, 500), ["A", "B"] * 250)
        sdata = segment(make_sdata(nuclei, points), params=TINY)
        grid_nuclei = nuclei[: labels_of(sdata).shape[0], : labels_of(sdata).shape[1]]
        assert_invariants(sdata, nuclei=grid_nuclei)
        assert shapely.get_type_id(sdata["ucs_boundaries"].geometry.loc[3]) in (3, 6)

    def test_far_from_the_origin(self):
        """Whole slides are centimetres wide; stage coordinates are larger still."""
        world = scene()
        far = world.points.assign(x=world.points["x"] + 2.0**24, y=world.points["y"] - 2.0**24)
        to_um = scenes.translation(2.0**24, -(2.0**24)) @ world.to_um
        result = segmented(make_sdata(world.nuclei, far, labels_to_um=to_um))
        np.testing.assert_array_equal(labels_of(result), labels_of(scenes.cells()))
