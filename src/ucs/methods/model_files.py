"""Files of saved models: one of JSON, which makes the model, and the weights that it names by their digest.

The file of JSON is replaced last and as a whole, so that there is the old model or the new one at any time; a lock
keeps two writers apart. Files come from anywhere: nothing is unpickled, and nothing is believed before it is checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from ucs._utils.checks import check_positive
from ucs._utils.files import PARTIAL, read_plain, write_file
from ucs._utils.lock import wait_for_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

Model = TypeVar("Model")
FORMAT = 3
"""Of the files of a saved model."""
MODEL_FILE, REGIONS_FILE = "model.json", "regions.json"
"""Of one model, and of those of several regions; a folder holds one of them."""
_LOCK = ".lock"
_WEIGHTS = re.compile(r"weights-[0-9a-f]{16}\.safetensors")
_LONGEST_TEXT, _LONGEST_WEIGHTS = 1 << 28, 1 << 32  # bytes
_LONGEST_GENE = 255  # bytes


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise ``FileExistsError`` if a directory holds a model that may not be replaced."""
    if not overwrite and any((path / name).exists() for name in (MODEL_FILE, REGIONS_FILE)):
        msg = f"{path} holds a model already; pass overwrite=True to replace it."
        raise FileExistsError(msg)


def write_model(path: Path, file: str, content: Mapping[str, Any], weights: Sequence[Mapping[str, Tensor]]) -> None:
    """Write a model, or several, into a directory, in the place of what is there.

    Parameters
    ----------
    path
        The directory; made if it does not exist.
    file
        :data:`MODEL_FILE` or :data:`REGIONS_FILE`.
    content
        What it is to hold, beside the format.
    weights
        Tensors of each model; ``content`` names them by :func:`digest_of`.
    """
    text = json.dumps({"format": FORMAT, **content}, indent=1).encode()  # first: it fails on what JSON does not know
    files = {_name(hashlib.sha256(one).hexdigest()): one for one in map(_as_bytes, weights)}
    path.mkdir(parents=True, exist_ok=True)
    lock = wait_for_lock(path / _LOCK, f"the model in {path}")
    try:
        for name, one in files.items():
            write_file(path / name, one)
        write_file(path / file, text)
        (path / (MODEL_FILE if file == REGIONS_FILE else REGIONS_FILE)).unlink(missing_ok=True)
        for old in path.iterdir():
            if (_WEIGHTS.fullmatch(old.name) and old.name not in files) or old.name.endswith(PARTIAL):
                old.unlink()
    finally:
        lock.release()


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return what names the weights of a model."""
    return hashlib.sha256(_as_bytes(tensors)).hexdigest()


def read_model(path: Path, file: str, make: Callable[[dict[str, Any]], Model]) -> Model:
    """Return what ``make`` makes of a description, read again if another process replaced the model meanwhile.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read_description` and :func:`read_weights`.
    """
    description = read_description(path, file)
    while True:
        try:
            return make(description)
        except FileNotFoundError:
            before, description = description, read_description(path, file)
            if description == before:
                raise


def read_description(path: Path, file: str) -> dict[str, Any]:
    """Read a file of JSON of a directory.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it is none, or of another format than this version's.
    """
    if not (path / file).exists():
        msg = f"{path} holds no model{'s of regions' * (file == REGIONS_FILE)}: {file} is missing."
        raise FileNotFoundError(msg)
    with readable(path):
        description = json.loads(read_plain(path / file, at_most=_LONGEST_TEXT), parse_constant=_refuse)
        if not isinstance(description, dict):
            msg = f"{file} holds no object"
            raise TypeError(msg)
    if description.get("format") != FORMAT:
        msg = f"{path} has model format {description.get('format')!r}; this version reads format {FORMAT}."
        raise ValueError(msg)
    return description


def check_description(description: Any) -> None:
    """Raise ``ValueError`` or ``TypeError`` unless a description has what each model has."""
    if not isinstance(description, dict):
        msg = "a model is described by no object"
        raise TypeError(msg)
    for name, kind in (("method", str), ("genes", list), ("params", dict), ("history", dict), ("weights", str)):
        if not isinstance(description.get(name), kind):
            msg = f"{name!r} is missing or of the wrong type"
            raise TypeError(msg)
    genes = description["genes"]
    if not all(isinstance(one, str) and 0 < len(one.encode()) <= _LONGEST_GENE and "\0" not in one for one in genes):
        msg = f"'genes' must be names of at most {_LONGEST_GENE} bytes"
        raise ValueError(msg)
    if len(set(genes)) != len(genes) or not genes:
        msg = "'genes' is empty, or names repeat"
        raise ValueError(msg)
    check_positive(description.get("um_per_px"), "um_per_px")  # type: ignore[arg-type]


def read_weights(
    path: Path, digest: str, skeleton: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Read weights that a description names.

    Parameters
    ----------
    path
        The directory.
    digest
        From :func:`digest_of`.
    skeleton
        Returns what a model has of tensors that have the shapes of those in the file, but no memory.

    Raises
    ------
    FileNotFoundError
        If they are not there.
    ValueError
        If they are others than were saved, do not fit the model, or hold values that are not finite.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        msg = f"'weights' is {digest[:80]!r}; it must be a digest of 64 digits"
        raise ValueError(msg)
    file = path / _name(digest)
    if not file.exists():
        msg = f"{path} holds no model: {file.name} is missing."
        raise FileNotFoundError(msg)
    content = read_plain(file, at_most=_LONGEST_WEIGHTS)
    if hashlib.sha256(content).hexdigest() != digest:
        msg = f"{file.name} is not what was saved"
        raise ValueError(msg)
    tensors = tensors_of(content)
    with torch.device("meta"):
        expected = skeleton({name: tensor.to("meta") for name, tensor in tensors.items()})
    if set(expected) != set(tensors):
        msg = f"{file.name} has {sorted(tensors)[:12]}; the model has {sorted(expected)[:12]}"
        raise ValueError(msg)
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (expected[name].shape, expected[name].dtype):
            msg = f"{name!r} has shape {tuple(tensor.shape)} and type {tensor.dtype}; the model does not fit"
            raise ValueError(msg)
        if not bool(torch.isfinite(tensor).all()):
            msg = f"{name!r} holds values that are not finite"
            raise ValueError(msg)
    return tensors


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise ``ValueError`` with the directory for whatever is wrong with its files, but that they are missing."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (
        AttributeError, KeyError, IndexError, OSError, OverflowError, RecursionError, RuntimeError, SafetensorError,
        TypeError, ValueError,
    ) as error:  # fmt: skip
        why = " ".join(str(error).split())  # torch writes lines
        msg = f"{path} holds a model that cannot be read: {why}. Fetch it or save it again."
        raise ValueError(msg) from error


def _as_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return bytes_of({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _name(digest: str) -> str:
    return f"weights-{digest[:16]}.safetensors"


def _refuse(constant: str) -> None:
    msg = f"{constant} is no number of JSON"
    raise ValueError(msg)
