from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal
from spatialdata.models import PointsModel
from spatialdata.transformations import Identity, Scale, get_transformation

import ucs
from ucs.io import read_gem
from ucs.io._partitions import GeneCodes, PartitionWriter

ROWS = "geneID\tx\ty\tMIDCount\nActb\t3\t5\t2\nXist\t4\t5\t1\nActb\t0\t7\t1\n"
MODERN = (
    "#FileFormat=GEMv0.2\n#SortedBy=None\n#BinType=Bin\n#BinSize=1\n#Omics=Transcriptomics\n#Stereo-seqChip=SS1\n"
    "#OffsetX=9600\n#OffsetY=12600\ngeneID\tgeneName\tx\ty\tMIDCount\tExonCount\tCellID\n"
    "ENS1\tActb\t3\t5\t2\t1\t7\nENS2\tXist\t4\t5\t1\t0\t0\nENS3\tActb\t0\t7\t1\t1\t4294967296\n"
)
SAMPLE = "stereoseq_gem/SS200000135TL_D1_bin1_small.gem.gz"


@pytest.fixture
def gem(tmp_path: Path):
    """Call it with text, or bytes, for the path of a file."""

    def write(content: str | bytes, name: str = "sample.gem") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def read(path: Path, **options) -> pd.DataFrame:
    return read_gem(path, progress=False, **options)["bin1_genes"].compute()


def whole_transcriptome(n: int = 60_000, n_genes: int = 26_000, side: int = 40) -> pd.DataFrame:
    """As a chip of the vendor's own kind: every gene at least once, sorted by gene, mostly single molecules."""
    rng = np.random.default_rng(0)
    gene = np.sort(np.concatenate([np.arange(n_genes), rng.integers(0, n_genes, n - n_genes)]))
    return pd.DataFrame(
        {
            "geneID": np.char.add("Gene", gene.astype(str)),
            "x": rng.integers(0, side, n),
            "y": rng.integers(0, side, n),
            "MIDCount": rng.geometric(0.8, n),
        }
    )


# What is read


def test_rows_in_the_order_of_the_file(gem):
    points = read(gem(ROWS))
    assert list(points.columns) == ["gene", "x", "y", "count"]
    assert points["gene"].tolist() == ["Actb", "Xist", "Actb"]
    assert_array_equal(points[["x", "y", "count"]], [[3, 5, 2], [4, 5, 1], [0, 7, 1]])
    assert (points.dtypes[["x", "y", "count"]] == np.int32).all()
    assert_array_equal(points.index, [0, 1, 2])


def test_real_sample_agrees_with_pandas(data_dir: Path):
    path = data_dir / SAMPLE
    expected = pd.read_csv(path, sep="\t")
    sdata = read_gem(path, progress=False, chunk_rows=20_000)
    points = sdata["bin1_genes"]
    assert points.npartitions == 4
    found = points.compute()
    assert_array_equal(found["gene"].astype(str), expected["geneID"])
    assert_array_equal(found[["x", "y", "count"]], expected[["x", "y", "MIDCounts"]])
    PointsModel.validate(points)
    assert points.attrs["spatialdata_attrs"]["feature_key"] == "gene"
    assert get_transformation(points, get_all=True) == {"global": Identity()}


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 1000])
def test_partitions_know_the_same_genes(gem, chunk_rows: int):
    points = read_gem(gem(ROWS), progress=False, chunk_rows=chunk_rows)["bin1_genes"]
    assert points["gene"].cat.known
    assert points.npartitions == -(-3 // chunk_rows)
    assert points.divisions[-1] == 2
    for k in range(points.npartitions):
        partition = points.get_partition(k).compute()
        assert partition["gene"].cat.categories.tolist() == ["Actb", "Xist"]
        assert partition.index[0] == points.divisions[k]
    assert_frame_equal(points.compute(), read(gem(ROWS)))


def test_modern_file_with_names_exons_and_cells(gem):
    path = gem(MODERN)
    sdata = read_gem(path, progress=False)
    points = sdata["bin1_genes"].compute()
    assert points["gene"].tolist() == ["Actb", "Xist", "Actb"]
    assert points["exon_count"].tolist() == [1, 0, 1]
    assert points["cell_id"].tolist() == [7, 0, 2**32]
    assert_array_equal(points[["x", "y"]], [[3, 5], [4, 5], [0, 7]])  # not moved by the offset
    assert sdata["bin1_genes"].attrs["spatialdata_attrs"]["instance_key"] == "cell_id"
    noted = sdata.attrs["stereoseq"]
    assert (noted["bin_size"], noted["um_per_unit"], noted["offset"]) == (1, 0.5, [9600, 12600])
    assert noted["header"]["Stereo-seqChip"] == "SS1"


@pytest.mark.parametrize("none", ["NA", "", "nan", "0", "0.0"])
@pytest.mark.parametrize(
    ("ids", "numbers", "names"),
    [
        (("7", "4294967296"), (7, 2**32), None),
        (("7.0", "12.0"), (7, 12), None),
        (("c_9", "a-1"), (1, 2), ["c_9", "a-1"]),
        (("1_34", "2_5"), (1, 2), ["1_34", "2_5"]),
    ],
)
@pytest.mark.parametrize("chunk_rows", [1, 100])
def test_ids_of_cells_in_other_dialects(gem, none, ids, numbers, names, chunk_rows):
    content = MODERN.replace("\t7\n", f"\t{ids[0]}\n").replace("\t0\n", f"\t{none}\n")
    path = gem(content.replace("4294967296", ids[1]) + f"ENS1\tActb\t3\t5\t2\t1\t{ids[0]}\n")
    sdata = read_gem(path, progress=False, chunk_rows=chunk_rows)
    column = sdata["bin1_genes"].compute()["cell_id"]
    assert column.dtype == np.int64
    assert column.tolist() == [numbers[0], 0, numbers[1], numbers[0]]
    assert sdata.attrs["stereoseq"].get("cell_names") == names


def test_columns_can_be_chosen(gem):
    points = read(gem(MODERN), columns={"gene": "geneID", "exon_count": None, "cell_id": None})
    assert list(points.columns) == ["gene", "x", "y", "count"]
    assert points["gene"].tolist() == ["ENS1", "ENS2", "ENS3"]
    assert read(gem(MODERN), columns={"count": "exoncount"})["count"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("count", ["MIDCount", "MIDCounts", "UMICount", "UMICounts"])
def test_names_of_the_count_column(gem, count: str):
    assert read(gem(ROWS.replace("MIDCount", count)))["count"].tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    "content",
    [
        ROWS.replace("\n", "\r\n"),
        ROWS.replace("\t", ","),
        "\ufeff" + ROWS,
        ROWS.rstrip("\n"),
        ROWS.replace("Actb", '"Actb"').replace("Xist", '"Xist"').replace("geneID", '"geneID"'),
        ROWS.replace("\t3\t5\t2", "\t3.0\t5.0\t2.0"),
        ROWS.replace("3", "3.0").replace("4", "4.0").replace("0\t7", "0.0\t7.000"),
        gzip.compress(ROWS.encode()),
        gzip.compress(ROWS[:30].encode()) + gzip.compress(ROWS[30:].encode()),
    ],
    ids=["windows", "comma", "bom", "no last newline", "quotes", "1.0", "some 1.0", "gzip", "gzip in members"],
)
def test_dialects(gem, content: str | bytes):
    assert_frame_equal(read(gem(content, "dialect")), read(gem(ROWS)))


def test_gene_names_are_taken_as_they_are(gem):
    odd = ["NA", "nan", "null", "mt-Nd1", 'a"b', "1-Mar", "Ünï"]
    rows = "".join(f"{name}\t1\t2\t3\n" for name in odd)
    assert read(gem("geneID\tx\ty\tMIDCount\n" + rows))["gene"].tolist() == odd


def test_key_units_and_transformations(gem):
    path = gem(ROWS)
    um = Scale([0.715, 0.715], axes=("x", "y"))
    sdata = read_gem(path, points_key="dnb", um_per_unit=0.715, transformations={"um": um}, progress=False)
    assert list(sdata.points) == ["dnb"]
    assert get_transformation(sdata["dnb"], get_all=True) == {"um": um}
    assert sdata.attrs["stereoseq"]["um_per_unit"] == 0.715
    assert sdata.attrs["stereoseq"]["offset"] is None


def test_coarse_bins_are_named_and_warned_of(gem, caplog: pytest.LogCaptureFixture):
    sdata = read_gem(gem("#BinSize=50\n" + ROWS), progress=False)
    assert list(sdata.points) == ["bin50_genes"]
    assert "bins of 50 DNBs" in caplog.text


# Where it is kept


def test_cache_holds_the_same_rows(gem, tmp_path: Path):
    path, cache = gem(MODERN), tmp_path / "new" / "cache"
    points = read_gem(path, cache=cache, chunk_rows=2, progress=False)["bin1_genes"]
    assert sorted(p.name for p in cache.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    assert_frame_equal(points.compute(), read(path))
    assert points[["gene", "count"]].compute()["count"].tolist() == [2, 1, 1]
    assert pd.read_parquet(cache)["gene"].tolist() == ["Actb", "Xist", "Actb"]  # anybody's tool can read it


@pytest.mark.parametrize("cached", [False, True])
def test_round_trip_through_zarr(gem, tmp_path: Path, cached: bool):
    cache = tmp_path / "cache" if cached else None
    sdata = read_gem(gem(MODERN), cache=cache, chunk_rows=2, progress=False)
    sdata.write(tmp_path / "sample.zarr")
    again = sd.read_zarr(tmp_path / "sample.zarr")
    assert again.attrs["stereoseq"] == sdata.attrs["stereoseq"]
    assert again["bin1_genes"].npartitions == 2
    found, expected = again["bin1_genes"].compute(), sdata["bin1_genes"].compute()
    assert found["gene"].tolist() == expected["gene"].tolist()
    assert_array_equal(found[["x", "y", "count", "cell_id"]], expected[["x", "y", "count", "cell_id"]])


def test_cache_survives_a_change_of_folder(gem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = gem(ROWS)
    monkeypatch.chdir(tmp_path)
    points = read_gem(path, cache="cache", progress=False)["bin1_genes"]
    monkeypatch.chdir("/")
    assert len(points.compute()) == 3


def test_computed_rows_are_not_the_stored_ones(gem):
    points = read_gem(gem(ROWS), progress=False)["bin1_genes"]
    frame = points.get_partition(0).compute()
    frame["x"] = 99
    assert points.compute()["x"].tolist() == [3, 4, 0]


@given(
    st.lists(st.lists(st.sampled_from("abcde"), max_size=7), min_size=1, max_size=8).filter(lambda p: any(p)),
    st.integers(1, 9),
)
def test_partitions_do_not_depend_on_the_pieces(pieces: list[list[str]], rows: int):
    genes = GeneCodes()
    writer = PartitionWriter(genes, rows)
    n = 0
    for piece in pieces:
        writer.add({"gene": genes.of(piece), "x": np.arange(n, n + len(piece), dtype=np.int32)})
        n += len(piece)
    writer.close()
    points = writer.finish()
    found = points.compute()
    assert found["gene"].tolist() == [name for piece in pieces for name in piece]
    assert_array_equal(found["x"], np.arange(n))
    assert points.map_partitions(len).compute().tolist()[:-1] == [rows] * (points.npartitions - 1)
    assert found["gene"].cat.categories.tolist() == sorted({name for piece in pieces for name in piece})


# Into the pipeline


def test_rasterize_counts_molecules(data_dir: Path):
    sdata = read_gem(data_dir / SAMPLE, progress=False)
    image = ucs.pp.rasterize(sdata, platform="generic", read={"um_per_unit": 0.5}, resolution=0.5, tile_size=64)
    table = pd.read_csv(data_dir / SAMPLE, sep="\t")
    gene = table.loc[table["MIDCounts"].idxmax(), "geneID"]
    expected = np.zeros(image.shape[1:], dtype=int)
    one = table[table["geneID"] == gene]
    np.add.at(expected, (one["y"] - table["y"].min(), one["x"] - table["x"].min()), one["MIDCounts"])
    assert expected.max() > 1
    assert_array_equal(image.sel(c=gene)[:64, :64].compute(), expected[:64, :64])
    assert image.sizes["x"] == table["x"].max() - table["x"].min() + 1


def test_whole_transcriptome(tmp_path: Path):
    table = whole_transcriptome()
    table.to_csv(tmp_path / "whole.gem.gz", sep="\t", index=False, compression={"method": "gzip", "compresslevel": 1})
    sdata = read_gem(tmp_path / "whole.gem.gz", chunk_rows=25_000, progress=False)
    points = sdata["bin1_genes"]
    assert len(points["gene"].cat.categories) == 26_000
    assert points.get_partition(0).compute()["gene"].cat.codes.dtype == np.int16
    image = ucs.pp.rasterize(sdata, platform="generic", read={"um_per_unit": 0.5}, resolution=0.5, tile_size=20)
    per_gene = table.groupby("geneID")["MIDCount"].sum()
    assert_array_equal(image.coords["c"], per_gene.index)
    corner = table[(table["x"] < 20) & (table["y"] < 20)].groupby("geneID")["MIDCount"].sum()
    found = image[:, :20, :20].sum(("y", "x")).compute()
    assert_array_equal(found, corner.reindex(per_gene.index, fill_value=0))


# Bad input


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9, -9, -4])
def test_truncated_gzip_says_after_how_many_rows(data_dir: Path, gem, tmp_path: Path, keep: float):
    whole = (data_dir / SAMPLE).read_bytes()
    cut = whole[: int(len(whole) * keep) if keep > 0 else int(keep)]
    complete = zlib.decompressobj(wbits=31).decompress(cut).count(b"\n") - 1
    path = gem(cut, "cut.gem.gz")
    message = rf"cut\.gem\.gz is truncated \(gzip ends early\) after {complete} rows"
    with pytest.raises(ValueError, match=message):
        read_gem(path, cache=tmp_path / "cache", chunk_rows=1000, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["cut.gem.gz"]  # neither the cache nor a part of it


def test_truncated_within_the_header(gem):
    with pytest.raises(ValueError, match="truncated .* after 0 rows"):
        read_gem(gem(gzip.compress(MODERN.encode())[:40]), progress=False)


def test_damaged_gzip(data_dir: Path, gem):
    whole = bytearray((data_dir / SAMPLE).read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    with pytest.raises(ValueError, match=r"is damaged \(gzip check failed\) after \d+ rows"):
        read_gem(gem(bytes(whole)), progress=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        ("#FileFormat=GEMv0.2\n", "is not a GEM file: after 1 lines starting with '#'"),
        ("geneID\tx\ty\tMIDCount\n", "has a header, but no rows"),
        ("some text\n", r"not a GEM file.*there is 'some text'"),
        (bytes(range(200, 256)) * 9, "is not a GEM file"),
        (b"\x89HDF\r\n\x1a\n", r"HDF5 file: read it with ucs\.io\.read_gef"),
        (b"PK\x03\x04abc", "zip archive"),
        ("Actb\t3\t5\t2\n", r"no column for gene .*; x \(x\); y \(y\); count .*The file has 'Actb', '3', '5', '2'"),
        (ROWS.replace("MIDCount", "reads"), r"no column for count \(MIDCount or .*The file has 'geneID', 'x', 'y', 'r"),
        (ROWS.replace("\ty\t", "\tx\t"), r"no column for y"),
        ("geneID\tx\ty\tMIDCount\tx\nA\t1\t2\t3\t4\n", "more than one column is named 'x'"),
        (ROWS + "Actb\t1\t2\n", r"damaged or not a GEM file.*Row #5: Expected 4 columns, got 3"),
        (ROWS + "Actb\t1\t2\tmany\n", r"Row #5: .*invalid value 'many'\. 'x', 'y', 'MIDCount' must hold whole"),
        (ROWS + "Actb\t1.5\t2\t1\n", r"'x' must hold whole numbers from 0 to 2147483647, not .*1\.5"),
        (ROWS + "Actb\t1\t2\tinf\n", r"'MIDCount' must hold whole numbers from 0 to 2147483647, not .*inf"),
        (ROWS + "Actb\t1\t2\t99999999999\n", r"'MIDCount' must hold whole numbers.*99999999999"),
        (MODERN + "ENS1\tActb\t3\t5\t2\t1\tcell_7\n", r"'CellID' holds ids that are numbers and ids that are text"),
        (ROWS + "Actb\t1\t2\t-1\n", r"'MIDCount' holds negative values, e\.g\. -1"),
        (ROWS + "Actb\t-3\t2\t1\n", "'x' holds negative values"),
        (ROWS + "Actb\t1\tNaN\t1\n", "1 values of 'y' are missing or NaN"),
        (ROWS + "Actb\t1\t2\t\n", "1 values of 'MIDCount' are missing or NaN"),
        (ROWS + "\t1\t2\t1\n", "a row has no gene name in 'geneID'"),
        ((ROWS + "A\xff\t1\t2\t1\n").encode("latin-1"), "invalid UTF8"),
    ],
)
def test_bad_files(gem, tmp_path: Path, content: str | bytes, message: str):
    path = gem(content)
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(ValueError, match=message) as error:
            read_gem(path, cache=cache, chunk_rows=1, progress=False)
        assert str(path) in str(error.value)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_no_such_file(gem, tmp_path: Path):
    gem(ROWS, "other.gem.gz")
    with pytest.raises(FileNotFoundError, match=r"absent\.gem does not exist\. GEM files in its folder: 'other\.gem"):
        read_gem(tmp_path / "absent.gem")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_gem(tmp_path)


def test_cache_must_be_new(gem, tmp_path: Path):
    path = gem(ROWS)
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        read_gem(path, cache=tmp_path, progress=False)
    (tmp_path / "empty").mkdir()
    read_gem(path, cache=tmp_path / "empty", progress=False)
    with pytest.raises(FileExistsError, match="name a new one"):
        read_gem(path, cache=tmp_path / "empty", progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_rows": 0}, "chunk_rows=0 must be a positive number"),
        ({"um_per_unit": -1}, "um_per_unit=-1 must be"),
        ({"columns": {"genes": "geneID"}}, r"'genes' is not one of 'gene', 'x', 'y', 'count'"),
        ({"columns": {"cell_id": "cluster"}}, r"no column for cell_id \(cluster\)"),
        ({"columns": {"count": "reads"}}, r"no column for count \(reads\)"),
    ],
)
def test_bad_options(gem, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        read_gem(gem(ROWS), progress=False, **options)
