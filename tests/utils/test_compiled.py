"""The package works where nothing can be written but temporary files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ucs
from ucs._utils import compiled

USE = """
import numpy as np, os, ucs
from ucs._kernels.labels.measure import moments
print(os.environ["NUMBA_CACHE_DIR"], moments(np.ones((2, 3), dtype=np.int32), 1)[0, 0])
"""


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_an_installation_that_cannot_be_written_to_and_no_home(tmp_path):
    temporary, package = tmp_path / "temporary", tmp_path / "site" / "ucs"
    temporary.mkdir()
    shutil.copytree(Path(ucs.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    folders = [package, *(path for path in package.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    command = [sys.executable, "-c", USE]
    if os.geteuid() == 0:  # whom permissions do not bind
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv to bind the superuser to permissions")
        command = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", *command]
    environment = {"PATH": os.environ["PATH"], "HOME": "/proc/none", "TMPDIR": str(temporary)}
    environment["PYTHONPATH"] = str(package.parent)
    try:
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    folder, area = done.stdout.split()
    assert Path(folder).parent == temporary
    assert float(area) == 6
    assert list(temporary.iterdir()) == []  # deleted at the end


@pytest.mark.parametrize(("package", "home", "named", "made"), [
    (True, False, None, False), (False, True, None, False), (False, False, "/named", False), (False, False, None, True),
])  # fmt: skip
def test_a_folder_is_made_only_if_there_is_none(monkeypatch, package, home, named, made):
    monkeypatch.setattr(compiled.os, "access", lambda *_: package)
    monkeypatch.setattr(compiled, "_home_is_writable", lambda: home)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", named or "")
    compiled.provide_cache()
    assert ("ucs-numba-" in os.environ["NUMBA_CACHE_DIR"]) == made
