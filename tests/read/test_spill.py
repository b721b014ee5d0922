"""Transcripts that do not fit into memory: the same from a temporary file, and disks that are full."""

from __future__ import annotations

import errno

import numpy as np
import pandas as pd
import pytest
from transcript_tables import assert_same, frame, many_points, read

from ucs._files.scratch import ScratchFile
from ucs._read import spill as _spill

WITH_COUNTS = pytest.mark.parametrize("counts", [False, True])


class TestSpilling:
    @WITH_COUNTS
    @pytest.mark.parametrize("npartitions", [1, 7])
    @pytest.mark.parametrize("limit", [1, 20_000, 10**6, 10**12])
    def test_it_has_no_say(self, tmp_path, counts, npartitions, limit):
        points = many_points(counts=counts)
        stored = read(points, npartitions=npartitions, scratch=tmp_path, memory_limit=limit)
        assert_same(stored, read(points))
        assert (stored.map.scratch is not None) == (limit < 10**6)
        assert list(tmp_path.iterdir()) == []

    def test_from_the_middle_on(self, tmp_path):
        """Some partitions are read before there are too many; names and counts differ between them."""
        import dask.dataframe as dd
        from spatialdata.models import PointsModel

        parts = [many_points(n, seed=n, n_genes=n) for n in (10, 400, 30, 900, 5)]
        parts[1]["feature_name"] = parts[1]["feature_name"].cat.rename_categories(lambda name: f"other {name}")
        points = pd.concat([part.astype({"feature_name": str}) for part in parts])
        element = PointsModel.parse(dd.concat([dd.from_pandas(part, npartitions=1) for part in parts]))
        stored = read(element, scratch=tmp_path, memory_limit=10_000)
        assert stored.map.scratch is not None
        assert_same(stored, read(points))

    def test_more_features_than_16_bits_hold(self, tmp_path):
        names = [f"G{k:06d}" for k in range(70_000)]
        points = frame(np.arange(70_000) % 50, np.arange(70_000) % 310, pd.Categorical(names, categories=names))
        stored = read(points, npartitions=3, scratch=tmp_path, memory_limit=1000)
        assert_same(stored, read(points))
        assert stored.map.feature.max() == 69_999

    @pytest.mark.parametrize("band", [1, 7, 10**6])
    def test_bands_of_any_height(self, tmp_path, monkeypatch, band):
        points = many_points()
        monkeypatch.setattr(_spill, "BAND", band)
        assert_same(read(points, npartitions=3, scratch=tmp_path, memory_limit=5000), read(points))

    def test_the_systems_own_folder(self):
        points = many_points()
        assert_same(read(points, memory_limit=1000), read(points))

    @pytest.mark.parametrize("n_writes", [0, 3, 9, 20])
    def test_a_full_disk(self, tmp_path, monkeypatch, n_writes):
        left, original = [n_writes], ScratchFile._write

        def until_full(file, array):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            original(file, array)

        monkeypatch.setattr(ScratchFile, "_write", until_full)
        with pytest.raises(OSError, match=rf"The disk is full: .* needed in '{tmp_path}' .* free") as error:
            read(many_points(), npartitions=6, scratch=tmp_path, memory_limit=5000)
        assert error.value.errno == errno.ENOSPC
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(OSError, match="Cannot make a temporary file in .*nowhere"):
            read(many_points(), scratch=tmp_path / "nowhere", memory_limit=1000)

    def test_a_far_too_fine_grid(self, tmp_path):
        with pytest.raises(MemoryError, match="resolution=1e-09 um gives a grid of"):
            read(many_points(), resolution=1e-9, scratch=tmp_path, memory_limit=1000)
