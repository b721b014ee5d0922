from __future__ import annotations

import errno
import gc
import re

import numpy as np
import pytest

from ucs._files.scratch import EntriesOnDisk, Scratch, release_pages
from ucs._kernels.entries import EntriesInMemory


def test_what_is_written_is_read(tmp_path):
    file = Scratch(tmp_path).file()
    one, other = np.arange(1000, dtype=np.int32), np.arange(7, dtype=np.uint16)
    assert (file.append(one), file.append(other)) == (0, 4000)
    np.testing.assert_array_equal(file.read(400, 50, np.int32), one[100:150])
    np.testing.assert_array_equal(file.read(4000, 7, np.uint16), other)
    assert file.read(0, 0, np.int32).shape == (0,)
    with pytest.raises(OSError, match="is shorter than it was written"):
        file.read(4000, 8, np.uint16)
    file.close()


def test_nothing_can_be_left_behind(tmp_path):
    """Files have no name, so they are gone however a process ends."""
    file = Scratch(tmp_path).file()
    file.append(np.arange(100_000))
    assert list(tmp_path.iterdir()) == []
    file.close()


def test_arrays_on_disk_are_arrays(tmp_path):
    entries = EntriesOnDisk(Scratch(tmp_path))
    in_memory = EntriesInMemory(100_000)
    random = np.random.default_rng(0)
    for n in (0, 10, 50_000, 3):
        arrays = tuple(random.integers(0, 99, n).astype(np.int32) for _ in range(3))
        entries.append(arrays)
        in_memory.append(arrays)
    made, expected = entries.finish(), in_memory.finish()
    gc.collect()
    for one, other in zip(made, expected, strict=True):
        assert (one.dtype, len(one)) == (np.int32, 50_013)
        np.testing.assert_array_equal(one, other)
        release_pages(one)
        release_pages(one[1000:40_001][::2])
        release_pages(other)
        np.testing.assert_array_equal(one, other)
    assert [len(array) for array in EntriesOnDisk(Scratch(tmp_path)).finish()] == [0, 0, 0]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path, monkeypatch, error):
    def full(*_args):
        raise OSError(error, "No space left on device")

    entries = EntriesOnDisk(Scratch(tmp_path))
    entries.append((np.zeros(2**18, dtype=np.int32),) * 3)
    monkeypatch.setattr("ucs._files.scratch.ScratchFile._write", full)
    folder = re.escape(str(tmp_path))
    message = rf"The disk is full: 2 MiB more were needed in '{folder}' .* 1 MiB written .* MiB were free"
    with pytest.raises(OSError, match=message) as raised:
        entries.append((np.zeros(2**19, dtype=np.int32),) * 3)
    assert raised.value.errno == error
    assert all(file._file.closed for file in entries._files)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_what_they_are(tmp_path, monkeypatch):
    def broken(*_args):
        raise OSError(errno.EIO, "Input/output error")

    file = Scratch(tmp_path).file()
    monkeypatch.setattr("ucs._files.scratch.ScratchFile._write", broken)
    with pytest.raises(OSError, match="Input/output error"):
        file.append(np.zeros(3))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r"Cannot make a temporary file in '.*nowhere': .*Name another folder"):
        Scratch(tmp_path / "nowhere").file()


def test_the_systems_own_folder():
    file = Scratch().file()
    file.append(np.zeros(3))
    file.close()
