"""Files of Stereo-seq made to do harm: other files are not read, and memory is not taken for what is not there."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
from gef_files import write_gef

from ucs.io import _gem, _gem_header, _partitions, read_gef, read_gem

HEADER = "geneID\tx\ty\tMIDCount\n"


@pytest.fixture
def gef(tmp_path) -> Path:
    return write_gef(tmp_path / "theirs.gef")


@pytest.fixture
def users(tmp_path) -> Path:
    """A GEF of the user's, which is not to be read through another one."""
    return write_gef(tmp_path / "users.gef", genes=["Secret", "B", "C"])


@pytest.mark.parametrize("kind", ["external", "soft"])
@pytest.mark.parametrize(
    "name", ["geneExp", "geneExp/bin1", *(f"geneExp/bin1/{one}" for one in ("gene", "expression", "exon"))]
)
def test_links(gef, users, name, kind):
    with h5py.File(gef, "r+") as file:
        file.move(name, "moved")
        file[name] = h5py.ExternalLink(str(users), name) if kind == "external" else h5py.SoftLink("/moved")
    with pytest.raises(ValueError, match=rf"/{name} is a link to .*; links are not followed"):
        read_gef(gef, progress=False)


def test_a_link_in_the_place_of_what_is_only_looked_for(tmp_path, users):
    with h5py.File(tmp_path / "theirs.gef", "w") as file:
        file["cellBin"] = h5py.ExternalLink("/nowhere/at/all", "/")
    with pytest.raises(ValueError, match="is a cell-binned GEF"):
        read_gef(tmp_path / "theirs.gef", progress=False)


def replaced(path: Path, name: str, make) -> None:
    with h5py.File(path, "r+") as file:
        values = file[f"geneExp/bin1/{name}"][:]
        del file[f"geneExp/bin1/{name}"]
        make(file["geneExp/bin1"], values)


@pytest.mark.parametrize("name", ["gene", "expression", "exon"])
def test_values_in_other_files(gef, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_bytes(b"the user's" * 1000)

    def external(group, values):
        group.create_dataset(name, values.shape, values.dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    replaced(gef, name, external)
    with pytest.raises(ValueError, match=rf"the values of /geneExp/bin1/{name} are in other files"):
        read_gef(gef, progress=False)


@pytest.mark.parametrize("name", ["gene", "expression", "exon"])
def test_virtual_datasets(gef, users, name):
    def virtual(group, values):
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[:] = h5py.VirtualSource(str(users), f"geneExp/bin1/{name}", values.shape)
        group.create_virtual_dataset(name, layout)

    replaced(gef, name, virtual)
    with pytest.raises(ValueError, match=rf"the values of /geneExp/bin1/{name} are in other files"):
        read_gef(gef, progress=False)


@pytest.mark.parametrize("name", ["gene", "expression", "exon"])
@pytest.mark.parametrize("chunks", [1000, None])
def test_more_declared_than_the_file_can_hold(gef, name, chunks):
    """Chunks that were never written take no room, and are read as zeros."""

    def sparse(group, values):
        group.create_dataset(name, (10**10,), values.dtype, chunks=chunks and (chunks,))

    replaced(gef, name, sparse)
    with pytest.raises(ValueError, match=r"declares \d+ bytes, more than a file of \d+ bytes can hold"):
        read_gef(gef, progress=False)


def test_rows_and_chunks_that_are_too_large(gef):
    long = np.dtype([("x", "<i4"), ("y", "<i4"), ("count", "u1"), ("more", "S5000")])
    replaced(gef, "expression", lambda group, _values: group.create_dataset("expression", data=np.zeros(6, long)))
    with pytest.raises(ValueError, match="rows of /geneExp/bin1/expression have no fixed or too many bytes"):
        read_gef(gef, progress=False)
    text = np.dtype([("gene", h5py.string_dtype()), ("offset", "<u4"), ("count", "<u4")])
    replaced(gef, "gene", lambda group, _values: group.create_dataset("gene", (3,), text))
    replaced(gef, "expression", lambda group, _values: group.create_dataset("expression", (6,), write_type()))
    with pytest.raises(ValueError, match="rows of /geneExp/bin1/gene have no fixed or too many bytes"):
        read_gef(gef, progress=False)
    chunk = 1 << 26
    replaced(
        gef,
        "expression",
        lambda group, _values: group.create_dataset(
            "expression", (10,), write_type(), chunks=(chunk,), maxshape=(None,)
        ),
    )
    with pytest.raises(ValueError, match="have no fixed or too many bytes"):
        read_gef(gef, progress=False)


def write_type() -> np.dtype:
    return np.dtype([("x", "<i4"), ("y", "<i4"), ("count", "u1")])


@pytest.mark.parametrize("name", ["geneExp", "geneExp/bin1", "geneExp/bin1/expression", "geneExp/bin1/gene"])
@pytest.mark.parametrize("other", ["group", "number", "list", "table"])
def test_another_kind_of_thing(gef, name, other):
    with h5py.File(gef, "r+") as file:
        del file[name]
        if other == "group":
            file.create_group(name)
        else:
            file[name] = {"number": 3, "list": [1, 2], "table": np.zeros((2, 2))}[other]
    with pytest.raises(ValueError, match="needed are geneExp|does not hold 'bin1'"):
        read_gef(gef, progress=False)


@pytest.mark.parametrize("value", ["text", np.nan, [], h5py.Empty("i4")], ids=str)
def test_attributes_that_are_no_numbers(gef, value):
    with h5py.File(gef, "r+") as file:
        attributes = file["geneExp/bin1/expression"].attrs
        del attributes["resolution"]
        attributes["resolution"] = value
    with pytest.raises(ValueError, match="'resolution' of /geneExp/bin1/expression is not a whole number"):
        read_gef(gef, progress=False)


def test_damaged_bytes_are_one_error(gef):
    """Whichever byte is another: the file is read, or a ValueError says what is wrong with it."""
    content = gef.read_bytes()
    refused = 0
    for at in np.linspace(0, len(content) - 1, 60).astype(int):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        gef.write_bytes(damaged)
        try:
            read_gef(gef, progress=False)
        except ValueError:
            refused += 1
    assert refused > 0


# GEM


@pytest.fixture
def gem(tmp_path):
    def write(text: str, *, packed: bool) -> Path:
        path = tmp_path / ("theirs.gem.gz" if packed else "theirs.gem")
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        return path

    return write


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_that_does_not_end(gem, packed, monkeypatch):
    monkeypatch.setattr(_gem, "_BLOCK_BYTES", 1 << 16)
    path = gem(HEADER + "A\t1\t1\t1\n" + "B" * (1 << 18) + "\t1\t1\t1\n", packed=packed)
    with pytest.raises(ValueError, match="is damaged or not a GEM file.* no line has more than"):
        read_gem(path, progress=False)


@pytest.mark.parametrize("packed", [False, True])
def test_comments_without_end(gem, packed, monkeypatch):
    monkeypatch.setattr(_gem_header, "_MOST_LINES", 20)
    path = gem("#A=1\n" * 1000 + HEADER + "A\t1\t1\t1\n", packed=packed)
    with pytest.raises(ValueError, match="begins with more than 20 lines that start with '#'"):
        read_gem(path, progress=False)
    path = gem("#" + "A" * (1 << 18) + "\n" + HEADER + "A\t1\t1\t1\n", packed=packed)
    with pytest.raises(ValueError, match="is not a GEM file"):
        read_gem(path, progress=False)


@pytest.mark.parametrize("packed", [False, True])
def test_more_genes_than_there_are(gem, packed, monkeypatch, tmp_path):
    monkeypatch.setattr(_partitions, "MOST_GENES", 3)
    rows = "".join(f"{name}\t1\t1\t1\n" for name in "ABAC")
    assert read_gem(gem(HEADER + rows, packed=packed), progress=False)["bin1_genes"].compute().shape[0] == 4
    with pytest.raises(ValueError, match="has more than 3 genes"):
        read_gem(gem(HEADER + rows + "D\t1\t1\t1\n", packed=packed), cache=tmp_path / "cache", progress=False)
    assert not [path for path in tmp_path.iterdir() if "cache" in path.name]


@pytest.mark.parametrize("name", ["A" * 256, "µ" * 128, "A\0B"], ids=["long", "long in bytes", "NUL"])
def test_names_of_genes(gem, name, tmp_path):
    with pytest.raises(
        ValueError, match=r"theirs.gem: 1 names of genes or controls hold a NUL character or more than 255"
    ):
        read_gem(gem(HEADER + f"A\t1\t1\t1\n{name}\t1\t1\t1\n", packed=False), progress=False)
    assert len(read_gem(gem(HEADER + f"{'A' * 255}\t1\t1\t1\n", packed=False), progress=False)["bin1_genes"]) == 1
