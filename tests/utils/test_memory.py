from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ucs._utils import memory as _memory
from ucs._utils.memory import available_memory, check_fits_memory, parse_limit, resident_memory


@pytest.mark.parametrize(
    ("limit", "n_bytes"),
    [
        ("6 GiB", 6 * 2**30),
        ("6GiB", 6 * 2**30),
        (" 1.5 gib ", 3 * 2**29),
        ("800 MB", 800_000_000),
        ("2 kB", 2000),
        ("3 TiB", 3 * 2**40),
        ("1e9", 10**9),
        ("4096", 4096),
        ("7 B", 7),
        (6e9, 6_000_000_000),
        (12345, 12345),
        (np.int64(5), 5),
        (np.float32(16), 16),
        (None, None),
    ],
)
def test_sizes(limit, n_bytes):
    assert parse_limit(limit) == n_bytes


@pytest.mark.parametrize("limit", ["", "much", "6 GB RAM", "GiB", "6 parsec", "1.2.3 GB", "6G", "auto 6", "1e"])
def test_texts_that_are_no_size(limit):
    with pytest.raises(ValueError, match=r"memory_limit='.*' is not understood: 'auto', .* such as '6 GiB'"):
        parse_limit(limit)


@pytest.mark.parametrize("limit", [0, -1, -2.5, "-6 GiB", "0 GB", np.inf, np.nan, "1e999", 0.2])
def test_sizes_that_are_none(limit):
    with pytest.raises(ValueError, match=r"memory_limit=.* must be positive and finite"):
        parse_limit(limit)


@pytest.mark.parametrize("limit", [True, False, [6], (1, 2), {"GiB": 6}, b"6 GiB", 1j, np.True_])
def test_things_that_are_no_size(limit):
    with pytest.raises(TypeError, match=r"memory_limit=.* must be 'auto', a size such as '6 GiB'"):
        parse_limit(limit)


class TestAuto:
    def test_it_is_less_than_all(self):
        limit = parse_limit("auto")
        assert resident_memory() < limit < resident_memory() + available_memory()
        assert parse_limit(" AUTO ") is not None

    def test_the_tighter_one(self, monkeypatch):
        monkeypatch.setattr(_memory, "resident_memory", lambda: 100)
        monkeypatch.setattr(_memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=5000))
        monkeypatch.setattr(_memory, "_available_in_group", lambda: 3000)
        assert parse_limit("auto") == 100 + 2700
        monkeypatch.setattr(_memory, "_available_in_group", lambda: None)
        assert parse_limit("auto") == 100 + 4500

    def test_control_groups(self, tmp_path):
        def group(path, most, current, cached):
            folder = tmp_path / "fs" / path
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "memory.max").write_text(f"{most}\n")
            (folder / "memory.current").write_text(f"{current}\n")
            (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 9\n")

        groups = tmp_path / "cgroup"
        groups.write_text("0::/job/step\n")
        group("job/step", "max", 10, 0)
        assert _memory._available_in_group(tmp_path / "fs", groups) is None
        group("job", 1000, 700, 50)
        assert _memory._available_in_group(tmp_path / "fs", groups) == 350
        group("job/step", 400, 390, 30)
        assert _memory._available_in_group(tmp_path / "fs", groups) == 40
        group("job/step", 400, 900, 30)
        assert _memory._available_in_group(tmp_path / "fs", groups) == 0
        groups.write_text("11:memory:/old\n")
        assert _memory._available_in_group(tmp_path / "fs", groups) is None
        assert _memory._available_in_group(tmp_path / "fs", tmp_path / "none") is None


def test_a_side_that_is_too_long(monkeypatch):
    monkeypatch.setattr(_memory, "machine_memory", lambda: 10**15)
    with pytest.raises(MemoryError, match=r"3000000001 pixels; a side may have 2147483646 .* fits is 0\.14 um"):
        check_fits_memory(np.array([3e9, 0]), 0.1, 5)


def test_fewer_bytes_per_pixel_allow_more(monkeypatch):
    monkeypatch.setattr(_memory, "machine_memory", lambda: 10**6)
    check_fits_memory(np.array([399.0, 399.0]), 1.0, 0, bytes_per_pixel=6)
    with pytest.raises(MemoryError):
        check_fits_memory(np.array([399.0, 399.0]), 1.0, 0)
