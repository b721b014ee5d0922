"""Files of models that are malformed or made to do harm: one kind of error, and nothing is read from elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from ucs.methods.clusters.expression import ExpressionProfiles
from ucs.methods.density.model import DensityModel
from ucs.methods.density.net import DensityNet
from ucs.methods.density.params import DensityParams
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.paper.model import PaperModel
from ucs.methods.paper.params import PaperParams
from ucs.methods.region_models import RegionModels, load_model

REFUSED = "holds a model that cannot be read: .*Fetch it or save it again|this version reads format"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Models of each kind."""
    folder = tmp_path_factory.mktemp("models")
    common = {"genes": ("a", "b", "c"), "um_per_px": 1.0}
    density = DensityModel(net=DensityNet(4), clusters=ExpressionProfiles(2, 3), params=DensityParams(), **common)
    paper = PaperModel(foreground=ForegroundNet(3).eval(), cell=CellNet().eval(), params=PaperParams(), **common)
    density.save(folder / "density")
    paper.save(folder / "paper")
    RegionModels({"tumour": density, "stroma": density}, density).save(folder / "regions")
    for name in ("density", "paper", "regions"):
        load_model(folder / name)
    return folder


@pytest.fixture
def model(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved / "density", tmp_path / "model"))


def change(file: Path, **values: object) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: one for key, one in (content | values).items() if one is not ...}))


def refused(path: Path) -> None:
    with pytest.raises(ValueError, match=REFUSED) as error:
        load_model(path)
    assert error.type is ValueError
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"method": ...}, {"method": 3}, {"method": "../density"}, {"genes": ...}, {"genes": "abc"}, {"genes": []},
        {"genes": ["a", "b", 3]}, {"genes": ["a", "b", "b"]}, {"genes": ["a", "b", "c\0d"]}, {"genes": ["a", "b", ""]},
        {"genes": ["a", "b", "c" * 256]}, {"genes": ["a", "b"]}, {"genes": [str(k) for k in range(100_000)]},
        {"params": ...}, {"params": []}, {"params": {"no such": 1}}, {"params": {"width": -1}},
        {"params": {"reach": "x"}},
        {"um_per_px": ...}, {"um_per_px": 0}, {"um_per_px": -1.0}, {"um_per_px": "1"}, {"um_per_px": 10**400},
        {"um_per_px": True}, {"um_per_px": None}, {"history": ...}, {"history": 1}, {"weights": ...}, {"weights": 1},
        {"weights": "../../../etc/passwd"}, {"weights": "/etc/passwd"}, {"weights": "0" * 63 + "\n"},
        {"format": 2}, {"format": None}, {"format": [3]},
    ],
    ids=str,
)  # fmt: skip
def test_descriptions(model, values):
    change(model / "model.json", **values)
    refused(model)


@pytest.mark.parametrize("markers", [..., 1, "CD3E", {"T": 5}, {"T": "CD3E"}, {"T": [1]}, [["T", "CD3E"]]], ids=str)
def test_markers(saved, tmp_path, markers):
    model = Path(shutil.copytree(saved / "paper", tmp_path / "model"))
    change(model / "model.json", markers=markers)
    refused(model)


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"3", b"\xff", b"{", b'{"format": NaN}', b'{"format": 3, "um_per_px": Infinity}',
     b"[" * 200_000, pickle.dumps({"format": 3}), b'{"format": ' + b"1" * 5000 + b"}"],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
@pytest.mark.parametrize("kind", ["density", "regions"])
def test_what_is_no_description(saved, tmp_path, content, kind):
    model = Path(shutil.copytree(saved / kind, tmp_path / "model"))
    (file,) = model.glob("*.json")
    file.write_bytes(content)
    refused(model)


def test_a_description_that_is_too_long(model):
    with (model / "model.json").open("r+b") as file:
        file.truncate(1 << 40)  # which takes no room, but would take memory
    refused(model)


def renamed(model: Path, content: bytes) -> None:
    """Put other weights there, under a name that says what they are."""
    next(model.glob("weights-*")).unlink()
    digest = hashlib.sha256(content).hexdigest()
    (model / f"weights-{digest[:16]}.safetensors").write_bytes(content)
    change(model / "model.json", weights=digest)


def changed(name: str, tensor: torch.Tensor | None):
    def change_tensors(content: bytes) -> bytes:
        tensors = load(content) | {name: tensor}
        return save({key: one for key, one in tensors.items() if one is not None})

    return change_tensors


HEADER = b'{"net.head.weight": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4000000000000]}}'
WEIGHTS = {
    "empty": lambda _content: b"",
    "cut": lambda content: content[:-7],
    "longer": lambda content: content + b"0",
    "a pickle": lambda _content: pickle.dumps({"a": 1}),
    "a header that is too long": lambda content: (1 << 62).to_bytes(8, "little") + content[8:],
    "more declared than there is": lambda _content: len(HEADER).to_bytes(8, "little") + HEADER,
    "no tensors": lambda _content: save({}),
    "one missing": changed("clusters.log_share", None),
    "one too many": changed("another", torch.zeros(3)),
    "shape": changed("clusters.log_ratio", torch.zeros(2, 4)),
    "dimensions": changed("clusters.log_share", torch.zeros((), dtype=torch.float64)),
    "type": changed("clusters.log_share", torch.zeros(2, dtype=torch.int64)),
    "precision": changed("clusters.log_share", torch.zeros(2, dtype=torch.float16)),
    "NaN": changed("clusters.log_ratio", torch.full((2, 3), torch.nan)),
    "infinite": changed("clusters.log_ratio", torch.full((2, 3), torch.inf)),
    "width": changed("net.convolutions.0.weight", torch.zeros(0, 1, 3, 3)),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights(model, what):
    (file,) = model.glob("weights-*")
    renamed(model, WEIGHTS[what](file.read_bytes()))
    refused(model)


def test_weights_that_are_not_those_that_were_saved(model):
    (file,) = model.glob("weights-*")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    refused(model)


@pytest.mark.parametrize("name", ["model.json", "weights-*"])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_plain_file(model, tmp_path, name, kind):
    """A link may lead to a file of the user's; a pipe would be waited for."""
    (file,) = model.glob(name)
    moved = file.rename(tmp_path / "elsewhere")
    {"link": lambda: file.symlink_to(moved), "folder": file.mkdir, "pipe": lambda: os.mkfifo(file)}[kind]()
    refused(model)


@pytest.mark.parametrize(
    "values",
    [
        {"models": ...}, {"models": []}, {"models": {}}, {"models": [3]}, {"models": [{}]}, {"regions": ...},
        {"regions": []}, {"regions": {"a": 1}}, {"regions": {"a": -1}}, {"regions": {"a": True}},
        {"regions": {"a": "0"}},
        {"shared": ...}, {"shared": 7}, {"shared": "0"},
    ],
    ids=str,
)  # fmt: skip
def test_regions(saved, tmp_path, values):
    model = Path(shutil.copytree(saved / "regions", tmp_path / "model"))
    change(model / "regions.json", **values)
    refused(model)


def test_saving_follows_no_link(saved, tmp_path):
    """What is replaced is the link; the file that it leads to stays."""
    users = tmp_path / "users"
    users.write_text("the user's")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").symlink_to(users)
    load_model(saved / "density").save(model, overwrite=True)
    assert users.read_text() == "the user's"
    assert not (model / "model.json").is_symlink()
    assert load_model(model).genes == ("a", "b", "c")
