"""Results in the object's own store: ours only, all or none, and the same when they are read back."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
import spatialdata as sd
import zarr
from calls import segment
from helpers import require_data
from invariants import assert_invariants, assert_same_tables
from scenes import TINY, labels_of, scene, segmented
from spatialdata import SpatialData
from spatialdata.transformations import get_transformation

from ucs._files import store as _store
from ucs._files import swap as _swap

SLOW = pytest.mark.slow
OURS = ("labels/ucs_cells", "shapes/ucs_boundaries", "tables/ucs_table")
GROUP_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A store with the scene in it, to be copied."""
    path = tmp_path_factory.mktemp("original") / "tissue.zarr"
    scene().sdata().write(path)
    return path


@pytest.fixture
def store(tmp_path, original) -> Path:
    """A store with the scene in it."""
    return Path(shutil.copytree(original, tmp_path / "tissue.zarr"))


@pytest.fixture(scope="module")
def original_with_cells(tmp_path_factory, original) -> Path:
    """A store with the scene and the cells of an earlier run, to be copied."""
    path = Path(shutil.copytree(original, tmp_path_factory.mktemp("original") / "tissue.zarr"))
    segmented(sd.read_zarr(path), inplace=True, write=True)
    return path


@pytest.fixture
def with_cells(tmp_path, original_with_cells) -> Path:
    """A store with the scene and the cells of an earlier run."""
    return Path(shutil.copytree(original_with_cells, tmp_path / "tissue.zarr"))


def files_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def folders_of(store: Path) -> set[Path]:
    return {path for path in store.rglob("*") if path.is_dir()}


def is_of_users(name: str) -> bool:
    """Whether a file belongs to an element of the user's, not to ours nor to the metadata of a group of elements."""
    return not name.startswith(OURS) and str(Path(name).parent) not in {".", "labels", "shapes", "tables"}


class TestWrite:
    def test_only_ours_is_written(self, store):
        before = files_of(store)
        segmented(sd.read_zarr(store), inplace=True, write=True)
        after = files_of(store)
        assert all(after[name] == content for name, content in before.items() if is_of_users(name))
        new = set(after) - set(before)
        assert new
        assert all(name.startswith(OURS) or Path(name).name in GROUP_METADATA for name in new)
        assert sorted(path.name for path in store.iterdir()) == ["labels", "points", "shapes", "tables", "zarr.json"]

    def test_what_is_read_back_is_what_was_made(self, with_cells, cells):
        read = sd.read_zarr(with_cells)
        np.testing.assert_array_equal(labels_of(read), labels_of(cells))
        assert_same_tables(read["ucs_table"], cells["ucs_table"])
        a, b = (sdata["ucs_boundaries"].geometry.to_numpy() for sdata in (read, cells))
        assert shapely.equals_identical(a, b).all()
        for key in ("ucs_cells", "ucs_boundaries"):
            of_read, of_cells = (get_transformation(sdata[key], get_all=True) for sdata in (read, cells))
            assert set(of_read) == set(of_cells)
            for system, transformation in of_cells.items():
                np.testing.assert_allclose(
                    of_read[system].to_affine_matrix(("x", "y"), ("x", "y")),
                    transformation.to_affine_matrix(("x", "y"), ("x", "y")),
                )
        # The points in the store are the user's: the column is in memory only.
        assert "ucs_cell_id" not in read["transcripts"].columns

    def test_the_log_says_what_is_not_in_the_store(self, store, caplog):
        caplog.set_level("INFO", "ucs")
        segmented(SpatialData.read(store), inplace=True, write=True)
        assert "points column 'ucs_cell_id' (not in the store): " in caplog.text
        caplog.clear()
        segmented(scene().sdata())
        assert "points column 'ucs_cell_id': " in caplog.text

    def test_the_object_in_memory_has_all(self, store):
        sdata = sd.read_zarr(store)
        segmented(sdata, inplace=True, write=True)
        assert_invariants(sdata, nuclei=scene().nuclei)
        assert sdata.path == store
        assert set(sdata.elements_paths_on_disk()) == {"labels/nucleus_labels", "points/transcripts", *OURS}

    def test_metadata_of_the_store_know_the_new_elements(self, with_cells):
        consolidated = zarr.open_group(with_cells, mode="r")
        assert consolidated.metadata.consolidated_metadata is not None
        assert {"ucs_cells", "nucleus_labels"} == set(consolidated["labels"].group_keys())
        listed = zarr.open_group(with_cells / "labels", mode="r", use_consolidated=False).attrs["ome"]["labels"]
        assert sorted(listed) == ["nucleus_labels", "ucs_cells"]

    def test_without_write_the_store_stays_as_it_is(self, store):
        before = files_of(store)
        segmented(sd.read_zarr(store), inplace=True)
        segmented(sd.read_zarr(store))
        assert files_of(store) == before

    def test_a_store_of_the_older_version_of_zarr(self, tmp_path, cells):
        """As spatialdata wrote them until 2025: a store is of one version throughout."""
        from spatialdata._io.format import SpatialDataContainerFormatV01

        store = tmp_path / "old.zarr"
        scene().sdata().write(store, sdata_formats=SpatialDataContainerFormatV01())
        before = files_of(store)
        with pytest.warns(UserWarning, match="not stored in the most current format"):
            sdata = sd.read_zarr(store)
        segmented(sdata, inplace=True, write=True)
        after = files_of(store)
        assert not [name for name in after if name.endswith("zarr.json")]
        assert all(after[name] == content for name, content in before.items() if is_of_users(name))
        with pytest.warns(UserWarning, match="not stored in the most current format"):
            read = sd.read_zarr(store)
        np.testing.assert_array_equal(labels_of(read), labels_of(cells))
        assert_same_tables(read["ucs_table"], cells["ucs_table"])
        listed = zarr.open_group(store / "labels", mode="r").attrs["labels"]
        assert sorted(listed) == ["nucleus_labels", "ucs_cells"]


class TestOverwrite:
    def test_replaces_what_an_earlier_run_left(self, with_cells):
        before = files_of(with_cells)
        sdata = sd.read_zarr(with_cells)
        segmented(sdata, inplace=True, write=True, overwrite=True, min_transcripts=100)
        read = sd.read_zarr(with_cells)
        assert 0 < read["ucs_table"].n_obs < 31
        np.testing.assert_array_equal(labels_of(read), labels_of(sdata))
        assert_same_tables(read["ucs_table"], sdata["ucs_table"])
        after = files_of(with_cells)
        assert all(after[name] == content for name, content in before.items() if is_of_users(name))
        assert {name for name in after if is_of_users(name)} == {name for name in before if is_of_users(name)}

    def test_is_needed_also_for_what_is_in_the_store_only(self, with_cells):
        sdata = sd.read_zarr(with_cells)
        for key in ("ucs_cells", "ucs_boundaries", "ucs_table"):
            del sdata[key]
        before = files_of(with_cells)
        with pytest.raises(ValueError, match=r"The store .* holds labels\['ucs_cells'\]; pass overwrite=True"):
            segmented(sdata, inplace=True, write=True)
        assert files_of(with_cells) == before
        segmented(sdata, inplace=True, write=True, overwrite=True)
        assert set(OURS) <= set(sdata.elements_paths_on_disk())

    def test_replaces_no_element_of_another_kind(self, with_cells):
        sdata = sd.read_zarr(with_cells)
        del sdata["ucs_cells"]
        with pytest.raises(ValueError, match=r"'ucs_cells' is the name of an element in labels of the store"):
            segmented(
                sdata,
                inplace=True,
                write=True,
                overwrite=True,
                labels="a",
                shapes="ucs_cells",
            )


class Failure(Exception):
    """What goes wrong."""


class TestFailure:
    """Whatever fails, and wherever: store and object are as they were, and what is in the store can be read."""

    def check(self, store: Path, *, error: type[BaseException], overwrite: bool):
        sdata = sd.read_zarr(store)
        files, folders = files_of(store), folders_of(store)
        elements = {name: element for _, name, element in sdata.gen_elements()}
        with pytest.raises(error):
            segmented(sdata, inplace=True, write=True, overwrite=overwrite, min_transcripts=100)
        assert files_of(store) == files
        assert folders_of(store) == folders
        after = {name: element for _, name, element in sdata.gen_elements()}
        assert set(after) == set(elements)
        assert all(after[name] is elements[name] for name in elements)
        read = sd.read_zarr(store)
        if overwrite:
            assert read["ucs_table"].n_obs == 31
            assert len(np.unique(labels_of(read))) == 32
        else:
            assert "ucs_cells" not in read

    @pytest.mark.parametrize(
        ("kind", "error", "overwrite"),
        [("labels", KeyboardInterrupt, True), ("shapes", Failure, False), ("table", KeyboardInterrupt, True)],
    )
    def test_while_an_element_is_written(self, request, kind, error, overwrite, monkeypatch):
        store = request.getfixturevalue("with_cells" if overwrite else "store")

        def fail(*_args, **_options):
            raise error

        monkeypatch.setattr(f"spatialdata._io.write_{kind}", fail)
        self.check(store, error=error, overwrite=overwrite)

    @pytest.mark.parametrize("after", [pytest.param(k, marks=[] if k in (0, 3, 6) else SLOW) for k in range(7)])
    def test_while_elements_are_put_in_place(self, with_cells, after, monkeypatch):
        """At each of the six moves, and at the consolidation behind them; half of the time just behind the move."""
        done, error = [], (Failure, KeyboardInterrupt)[after % 3 == 0]

        def fail_at(step, original):
            def wrapped(*arguments, **options):
                if len(done) == after:
                    if after % 2 and step != "consolidate":
                        original(*arguments, **options)
                    raise error
                done.append(step)
                return original(*arguments, **options)

            return wrapped

        monkeypatch.setattr(_swap, "_move", fail_at("move", _swap._move))
        monkeypatch.setattr(_store, "finish", fail_at("consolidate", _store.finish))
        self.check(with_cells, error=error, overwrite=True)

    def test_in_a_store_that_had_neither_shapes_nor_tables(self, store, monkeypatch):
        monkeypatch.setattr(_store, "finish", lambda *_, **__: (_ for _ in ()).throw(Failure))
        self.check(store, error=Failure, overwrite=False)
        assert not (store / "tables").exists()
        assert not (store / "shapes").exists()

    def test_a_store_that_cannot_be_written_to(self, store, monkeypatch):
        def denied(*_args, **_options):
            raise PermissionError("read-only")

        monkeypatch.setattr("tempfile.mkdtemp", denied)
        self.check(store, error=PermissionError, overwrite=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An object with cells, and what is read after it was written."""
    sdata = segment(scene().sdata(), params=TINY, confidence_column="sure", foreground="p_fg")
    path = tmp_path_factory.mktemp("round") / "trip.zarr"
    sdata.write(path)
    return sdata, sd.read_zarr(path)


class TestRoundTrip:
    """The whole object through a store, all that the results hold included."""

    def test_points(self, pair):
        written, read = (sdata["transcripts"].compute() for sdata in pair)
        pd.testing.assert_frame_equal(
            read.reset_index(drop=True), written.reset_index(drop=True), check_categorical=False, check_dtype=False
        )
        assert read["ucs_cell_id"].dtype == np.int32

    def test_labels(self, pair):
        np.testing.assert_array_equal(*(labels_of(sdata) for sdata in pair))
        assert pair[1]["ucs_cells"].dtype == np.int32

    def test_probability_of_lying_in_a_cell(self, pair):
        written, read = (sdata["p_fg"] for sdata in pair)
        np.testing.assert_array_equal(written, read)
        assert (read.dims, read.dtype, read.shape[0]) == (("c", "y", "x"), np.float32, 1)
        assert 0 <= float(read.min()) < float(read.max()) <= 1
        elements = read, pair[1]["ucs_cells"]
        to_global = [get_transformation(element).to_affine_matrix(("x", "y"), ("x", "y")) for element in elements]
        np.testing.assert_array_equal(*to_global)

    def test_shapes(self, pair):
        written, read = (sdata["ucs_boundaries"] for sdata in pair)
        assert shapely.equals_identical(written.geometry.to_numpy(), read.geometry.to_numpy()).all()
        np.testing.assert_array_equal(written.index, read.index)

    def test_table(self, pair):
        written, read = (sdata["ucs_table"] for sdata in pair)
        assert_same_tables(written, read)
        assert read.obsm["controls"].dtype.kind in "iu"
        assert read.uns["spatialdata_attrs"] == written.uns["spatialdata_attrs"]

    def test_record(self, pair):
        written, read = (sdata["ucs_table"].uns["ucs"] for sdata in pair)

        def compare(a, b, where):
            if isinstance(a, dict):
                assert set(a) == set(b), where
                for key in a:
                    compare(a[key], b[key], f"{where}/{key}")
            elif isinstance(a, str):
                assert a == b, where
            else:
                np.testing.assert_array_equal(a, b, err_msg=where)

        compare(written, read, "ucs")
        assert {"version", "parameters", "model", "qc", "timings"} <= set(read)

    def test_invariants(self, pair):
        assert_invariants(pair[1], nuclei=scene().nuclei)

    def test_a_table_alone(self, pair, tmp_path):
        import anndata as ad

        pair[0]["ucs_table"].write_h5ad(tmp_path / "table.h5ad")
        assert_same_tables(ad.read_h5ad(tmp_path / "table.h5ad"), pair[0]["ucs_table"])


@pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format")
def test_a_real_store(tmp_path):
    """The Xenium crop, of the older version of Zarr, with images, tables and circles of the vendor's."""
    store = tmp_path / "breast.zarr"
    shutil.copytree(require_data("xenium_breast_rep1_crop.zarr"), store)
    for path in (store, *store.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = files_of(store)
    sdata = sd.read_zarr(store)
    points = sdata["transcripts"]
    segment(sdata, inplace=True, write=True, params=TINY)
    after = files_of(store)
    assert all(after[name] == content for name, content in before.items() if is_of_users(name))
    assert {name for name in after if is_of_users(name)} == {name for name in before if is_of_users(name)}
    read = sd.read_zarr(store)
    assert set(read.elements_paths_on_disk()) > set(OURS)
    assert_same_tables(read["ucs_table"], sdata["ucs_table"])
    assert isinstance(read, SpatialData)
    assert len(read["transcripts"]) == len(points)
