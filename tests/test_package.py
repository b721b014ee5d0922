from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import ucs

SUBMODULES = ["datasets", "io", "methods", "metrics", "options", "pl", "pp", "tl"]


def test_import_is_light():
    heavy = ["anndata", "dask", "numba", "scipy", "spatialdata", "torch"]
    code = f"import sys, ucs; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert loaded == "[]"


def test_segment_comes_without_what_measures_and_draws():
    from_others = {"scipy.stats", "matplotlib.pyplot", "skimage.measure"}
    code = f"""
import sys, spatialdata
before = set(sys.modules)
import ucs
ucs.tl.segment
loaded = set(sys.modules) - before
print(sorted(loaded & {from_others} | {{name for name in loaded if name.split(".")[:2] in
    [["ucs", "metrics"], ["ucs", "pl"], ["ucs", "io"], ["ucs", "datasets"], ["ucs", "_report"], ["ucs", "cli"]]}}))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert loaded == "[]"


def test_version_is_that_of_the_distribution():
    assert ucs.__version__ == version("spatialdata-ucs")


def test_submodules_are_public():
    assert sorted(set(ucs.__all__) - {"__version__", "Platform", "platforms", "report"}) == SUBMODULES
    assert ucs.Platform is type(ucs._read.platforms.XENIUM)
    assert dir(ucs) == sorted(ucs.__all__)


def test_unknown_attribute_names_the_module():
    with pytest.raises(AttributeError, match=r"module 'ucs' has no attribute 'segment'"):
        ucs.segment  # noqa: B018


@pytest.mark.parametrize("name", SUBMODULES)
def test_public_names_resolve_and_are_documented(name: str):
    module = getattr(ucs, name)
    assert module is importlib.import_module(f"ucs.{name}")
    assert module.__doc__
    assert module.__all__, f"ucs.{name} must list its public names in __all__"
    for public in module.__all__:
        member = getattr(module, public)
        if inspect.isclass(member) or inspect.isroutine(member):
            assert inspect.getdoc(member), f"ucs.{name}.{public} has no docstring"


def test_log_level_set_before_the_import_is_kept():
    code = (
        "import logging; logging.getLogger('ucs').setLevel('ERROR')\n"
        "from ucs._utils.log import logger\n"
        "logger.warning('not shown'); logger.error('shown')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "ERROR    shown\n"
    assert result.stdout == ""


def test_info_is_shown_by_default():
    code = "from ucs._utils.log import logger; logger.debug('hidden'); logger.info('%d cells', 3)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "INFO     3 cells\n"


def test_where_logging_is_configured_it_is_left_alone():
    code = (
        "import logging, sys; logging.basicConfig(format='app: %(message)s', stream=sys.stdout)\n"
        "from ucs._utils.log import logger, to_terminal; logger.warning('once')\n"
        "with to_terminal(): logger.warning('of the command line')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "app: once\n"
    assert result.stderr == "WARNING  of the command line\n"
