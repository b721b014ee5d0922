"""The shape of the source: which modules import which, and how large files, folders and signatures may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ucs

SOURCE = Path(ucs.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 400
MOST_MODULES = 16  # per folder
MOST_PARAMETERS = 22  # of a public function

# What does not hold yet. Entries are only removed: each test fails if one of them is no longer needed.
LARGE_FOLDERS: set[str] = set()
LONG_SIGNATURES: set[str] = set()


def imports():
    """Return what each module imports: modules, and the packages that they lie in, whose code runs before theirs.

    Imports for type checking and those in functions count as well.
    """
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("ucs", cache_dir=None)
    found = {}
    for name in graph.modules - {"ucs"}:  # which loads its submodules by name, when they are first used
        reached = {name for other in graph.find_modules_directly_imported_by(name) for name in with_packages(other)}
        found[name] = reached - with_packages(name)
    return found


def with_packages(module):
    """Return the names of a module and of the packages that it lies in, but the outermost."""
    names = module.split(".")
    return {".".join(names[:n]) for n in range(2, len(names) + 1)}


def test_import_contracts():
    """Those of pyproject.toml, in a process of its own: import-linter configures logging."""
    pytest.importorskip("importlinter")
    code = "from importlinter import cli; cli.lint_imports_command(['--no-cache'])"
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_no_modules_import_each_other():
    graph = imports()
    assert len(graph) == len(FILES) - 1
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_file_is_too_long():
    n_lines = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in n_lines.items() if n > MOST_LINES} == {}


def test_no_folder_has_too_many_modules():
    n_modules = Counter(path.parent.relative_to(SOURCE).as_posix() for path in FILES if path.name != "__init__.py")
    assert {folder for folder, n in n_modules.items() if n > MOST_MODULES} == LARGE_FOLDERS


def test_no_public_function_has_too_many_parameters():
    found = set()
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                given = node.args
                if len([*given.posonlyargs, *given.args, *given.kwonlyargs]) > MOST_PARAMETERS:
                    found.add(f"{path.relative_to(SOURCE).as_posix()}:{node.name}")
    assert found == LONG_SIGNATURES
