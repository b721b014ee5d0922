from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from gef_files import COUNTS, GENES, MOLECULES, X, Y, write_gef
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal

import ucs
from ucs.io import read_gef, read_gem


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("chunk_rows", [1, 4, 1000])
def test_both_layouts_of_genes(tmp_path: Path, modern: bool, chunk_rows: int):
    path = write_gef(tmp_path / "a.tissue.gef", modern=modern)
    sdata = read_gef(path, chunk_rows=chunk_rows, progress=False)
    points = sdata["bin1_genes"]
    assert points.npartitions == -(-6 // chunk_rows)
    assert points["gene"].cat.known
    frame = points.compute()
    assert frame["gene"].tolist() == ["Xist", "Xist", "Actb", "Actb", "Actb", "Gapdh"]
    assert frame["gene"].cat.categories.tolist() == ["Actb", "Gapdh", "Xist"]
    assert_array_equal(frame[["x", "y", "count"]], np.transpose([X, Y, MOLECULES]))
    assert frame["exon_count"].tolist() == [1, 1, 0, 1, 3, 150]
    assert (frame.dtypes[["x", "y", "count", "exon_count"]] == np.int32).all()
    noted = sdata.attrs["stereoseq"]
    assert (noted["bin_size"], noted["um_per_unit"], noted["offset"]) == (1, 0.5, [9600, 12600])
    assert noted["header"] == {"version": "4" if modern else "2", "omics": "Transcriptomics"}


def test_same_as_the_gem_of_the_same_data(tmp_path: Path):
    gef = write_gef(tmp_path / "a.gef", exon=False)
    table = pd.DataFrame({"geneID": np.repeat(GENES, COUNTS), "x": X, "y": Y, "MIDCount": MOLECULES})
    gem = tmp_path / "a.gem.gz"
    gem.write_bytes(gzip.compress(("#OffsetX=9600\n#OffsetY=12600\n" + table.to_csv(sep="\t", index=False)).encode()))
    from_gef, from_gem = read_gef(gef, progress=False), read_gem(gem, progress=False)
    assert_frame_equal(from_gef["bin1_genes"].compute(), from_gem["bin1_genes"].compute())
    assert from_gef.attrs["stereoseq"]["offset"] == from_gem.attrs["stereoseq"]["offset"]


def test_ids_instead_of_names_and_names_that_repeat(tmp_path: Path):
    path = write_gef(tmp_path / "a.gef", genes=["Xist", "Actb", "Xist"])
    by_id = read_gef(path, gene_field="geneID", progress=False)["bin1_genes"].compute()
    assert by_id["gene"].tolist() == ["ENS2", "ENS2", "ENS1", "ENS1", "ENS1", "ENS3"]
    by_name = read_gef(path, progress=False)["bin1_genes"].compute()
    assert by_name["gene"].tolist() == ["Xist", "Xist", "Actb", "Actb", "Actb", "Xist"]


def test_gene_without_rows(tmp_path: Path):
    path = write_gef(tmp_path / "a.gef", counts=[2, 0, 4])
    assert read_gef(path, progress=False)["bin1_genes"].compute()["gene"].tolist() == ["Xist"] * 2 + ["Gapdh"] * 4


def test_other_bins_and_pitch(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = write_gef(tmp_path / "a.gef", bins=(1, 50), resolution=715)
    sdata = read_gef(path, 50, progress=False)
    assert sdata["bin50_genes"].compute()["x"].tolist() == [0, 0, 0, 0, 0, 300]
    assert sdata.attrs["stereoseq"]["um_per_unit"] == 0.715
    assert "bins of 50 DNBs" in caplog.text
    assert read_gef(path, um_per_unit=0.5, progress=False).attrs["stereoseq"]["um_per_unit"] == 0.5
    unknown = write_gef(tmp_path / "b.gef", resolution=0)
    assert read_gef(unknown, progress=False).attrs["stereoseq"]["um_per_unit"] == 0.5


def test_cache(tmp_path: Path):
    path = write_gef(tmp_path / "a.gef")
    points = read_gef(path, cache=tmp_path / "cache", chunk_rows=4, progress=False)["bin1_genes"]
    path.unlink()  # no longer needed
    assert points.compute()["count"].tolist() == MOLECULES


def test_rasterize_counts_molecules(tmp_path: Path):
    sdata = read_gef(write_gef(tmp_path / "a.gef"), progress=False)
    image = ucs.pp.rasterize(sdata, platform="generic", read={"um_per_unit": 0.5}, resolution=0.5)
    assert image.sel(c="Gapdh")[2, 300].compute() == 200
    assert image.sum().compute() == sum(MOLECULES)


def rows(**values: list) -> np.ndarray:
    """Expression records of six rows."""
    columns = {"x": X, "y": Y, "count": MOLECULES} | values
    types = [(name, np.asarray(column).dtype) for name, column in columns.items()]
    records = np.zeros(len(X), dtype=types)
    for name, column in columns.items():
        records[name] = column
    return records


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"counts": [2, 3, 2]}, "do not cover the 6 rows"),
        ({"genes": ["Xist", "", "Actb"]}, "1 genes of /geneExp/bin1/gene have no 'geneName'"),
        ({"expression": rows(x=[4, 0, -3, 3, 8, 300])}, "'x' lies between -3 and 300"),
        ({"expression": rows(count=[2**40] * 6)}, r"'count' lies between .*2\^31"),
        ({"expression": rows(y=[0.5] * 6)}, "'y' is of type float64"),
        (
            {"expression": np.zeros(6, dtype=[("x", "i4"), ("MIDcount", "i4")])},
            "expression has 'x', 'MIDcount'; needed",
        ),
        ({"expression": rows()[:0], "counts": [0, 0, 0], "exon": False}, "has no rows"),
        ({"expression": rows()[:5], "counts": [2, 3, 0]}, "exon has 6 rows, expression 5"),
    ],
)
def test_bad_content(tmp_path: Path, changed: dict, message: str):
    path = write_gef(tmp_path / "a.gef", **changed)
    with pytest.raises(ValueError, match=message):
        read_gef(path, cache=tmp_path / "cache", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.gef"]


def test_bad_files(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_gef(tmp_path / "absent.gef")
    text = tmp_path / "a.gem"
    text.write_text("geneID\tx\ty\tMIDCount\n")
    with pytest.raises(ValueError, match=r"not a GEF \(HDF5\) file.*ucs\.io\.read_gem"):
        read_gef(text)
    path = write_gef(tmp_path / "a.gef")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match="cut short.*truncated"):
        read_gef(path)
    with h5py.File(tmp_path / "cell.gef", "w") as file:
        file.create_group("cellBin")
    with pytest.raises(ValueError, match=r"cell-binned GEF: read the square-bin one.*It has 'cellBin'"):
        read_gef(tmp_path / "cell.gef")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_group("matrix")
    with pytest.raises(ValueError, match="is no GEF. It has 'matrix'"):
        read_gef(tmp_path / "other.h5")


def test_bad_options(tmp_path: Path):
    path = write_gef(tmp_path / "a.gef", modern=False)
    with pytest.raises(ValueError, match="does not hold 'bin20'; it has 'bin1'"):
        read_gef(path, 20)
    with pytest.raises(ValueError, match="has no 'geneID'; it has 'gene'. Name it with gene_field="):
        read_gef(path, gene_field="geneID", progress=False)
    with pytest.raises(ValueError, match="um_per_unit=0 must be"):
        read_gef(path, um_per_unit=0)
