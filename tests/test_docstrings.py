"""The examples in the docstrings of public functions and classes run as they stand, each on its own."""

from __future__ import annotations

import doctest
import importlib
import inspect

import matplotlib.pyplot as plt
import pytest

PACKAGES = ["datasets", "io", "metrics", "pl", "pp", "tl"]


def examples():
    for package in PACKAGES:
        module = importlib.import_module(f"ucs.{package}")
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isroutine(member):
                found = doctest.DocTestFinder().find(member, f"ucs.{package}.{name}", globs={name: member})
                yield from (pytest.param(test, id=test.name) for test in found if test.examples)


@pytest.mark.parametrize("test", list(examples()))
def test_examples(test):
    said = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    plt.close("all")
    assert not said, "".join(said)


@pytest.mark.parametrize("package", ["metrics", "pl"])
def test_every_function_has_an_example(package):
    module = importlib.import_module(f"ucs.{package}")
    functions = {name for name in module.__all__ if inspect.isroutine(getattr(module, name))}
    assert {name for name in functions if ">>>" not in (inspect.getdoc(getattr(module, name)) or "")} == set()
