"""Partitions read ahead by several threads or by a chosen scheduler, and transcripts that do not fit into memory."""

from __future__ import annotations

import errno

import numpy as np
import pandas as pd
import pytest
from scenes import make_points
from transcript_tables import assert_same, frame, many_points, read

from ucs._files.scratch import ScratchFile
from ucs._read import chunks as _chunks
from ucs._utils import parallel

WITH_COUNTS = pytest.mark.parametrize("counts", [False, True])


class TestReadingAhead:
    @pytest.fixture(params=[1, 2, 9])
    def threads(self, request, monkeypatch):
        monkeypatch.setattr(parallel, "n_threads", lambda: request.param)

    def test_the_first_bad_partition_is_named(self, threads):
        points = many_points()
        points.loc[2000, "x"], points.loc[3900, "y"] = np.nan, np.inf
        with pytest.raises(ValueError, match="partition 2: 1 of .* NaN or infinite x"):
            read(points, npartitions=4)

    def test_threads_have_no_say(self, threads):
        points = many_points()
        assert_same(read(points, npartitions=11), read(points))


def test_a_scheduler_that_was_chosen_is_respected():
    import dask

    points, used = make_points(many_points(), npartitions=3), []

    def get(graph, keys, **options):
        used.append(keys)
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=get):
        made = read(points)
    assert len(used) == 3
    assert_same(made, read(points))


class TestSpilling:
    @WITH_COUNTS
    @pytest.mark.parametrize("npartitions", [1, 7])
    @pytest.mark.parametrize("limit", [1, 20_000, 10**6, 10**12])
    def test_it_has_no_say(self, tmp_path, counts, npartitions, limit):
        points = many_points(counts=counts)
        stored = read(points, npartitions=npartitions, scratch=tmp_path, memory_limit=limit)
        assert_same(stored, read(points))
        assert (stored.map.storage is not None) == (limit < 10**6)
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
        assert stored.map.storage is not None
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
        monkeypatch.setattr(_chunks, "BAND", band)
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
