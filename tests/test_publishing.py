"""What is published says the same as pyproject.toml."""

from __future__ import annotations

import re
import runpy
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def read(path: str) -> dict:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_conda_asks_for_what_pip_asks_for():
    wanted = {re.sub(r"\[.*\]", "", one).replace(">=", " >=") for one in PROJECT["project"]["dependencies"]}
    wanted = {" ".join([CONDA.get(name, name), bound]) for name, bound in (one.split() for one in wanted)}
    assert set(read("packaging/conda/recipe.yaml")["requirements"]["run"]) == wanted | {"python >=3.11"}


@pytest.mark.parametrize("path", [".github/workflows/test.yml", ".github/workflows/release.yml", ".readthedocs.yaml"])
def test_extras_exist(path):
    extras = set(PROJECT["project"]["optional-dependencies"])
    named = set(re.findall(r'"\.\[([^]]+)\]', (ROOT / path).read_text(encoding="utf-8")))
    assert {extra for names in named for extra in names.split(",")} <= extras
    assert read(path)


def test_all_supported_pythons_are_tested():
    matrix = read(".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    named = {one.rsplit(" ", 1)[1] for one in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", one)}
    assert named <= set(matrix["python"])
    assert "oldest" in {one["dependencies"] for one in matrix["include"]}


def test_links_of_the_package_page(monkeypatch):
    interface = "hatchling.metadata.plugin.interface"  # not installed where the package is
    monkeypatch.setitem(sys.modules, interface, SimpleNamespace(MetadataHookInterface=object))
    scope = runpy.run_path(str(ROOT / "hatch_build.py"))
    text = "[a](docs/a.md), [b](https://b.org), [c](#limits)"
    assert scope["absolute"](text, "") == text
    assert scope["absolute"](text, "https://x.org/p") == text.replace(
        "docs/a.md", "https://x.org/p/blob/main/docs/a.md"
    )
    hook = scope["CustomMetadataHook"]()
    hook.root, hook.config, metadata = str(ROOT), {"url": "https://x.org/p/"}, {}
    hook.update(metadata)
    assert metadata["urls"]["Issues"] == "https://x.org/p/issues"
    assert metadata["readme"]["text"].startswith("# ")
