"""Sphinx configuration: `sphinx-build -W docs docs/_build`. It needs no network.

The tutorials and the gallery are run, and their outputs shown; what has not changed since is taken from a cache
(`docs/_execution`). `-D nb_execution_mode=off` shows them without outputs, in a minute.
"""

from __future__ import annotations

import os
import sys
import tomllib
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

import jupytext
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.ext.napoleon import NumpyDocstring

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
from options_page import options_page  # noqa: E402

project = "spatialdata-ucs"
author = "The spatialdata-ucs developers"
copyright = f"2026, {author}"
release = distribution_version("spatialdata-ucs")
version = release.split("+")[0]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
html_math_renderer = "mathml"  # see setup
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS / "_execution")
nb_execution_in_temp = True  # what tutorials write stays out of the sources
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True  # the log of a cell in one piece
# Kernels inherit these: figures are shown whatever the backend of the shell, and what other packages say of the machine
# that builds the pages (no widgets for bars) and of their own next release is no part of a tutorial.
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
_OF_OTHERS = (
    "IProgress not found", "zarr v3 autosharding", "The dtype argument is deprecated", "Transforming to str index",
    "'n_jobs' is not a valid key!", "'show_progress_bar' is not a valid key!",
)  # fmt: skip
os.environ["PYTHONWARNINGS"] = ",".join(f"ignore:{message}" for message in _OF_OTHERS)

# Links into other projects' pages need their inventories, which are on the network: only where the pages are published.
if os.environ.get("READTHEDOCS") or os.environ.get("UCS_DOCS_LINKS"):
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "anndata": ("https://anndata.readthedocs.io/en/stable", None),
    "dask": ("https://docs.dask.org/en/stable", None),
    "geopandas": ("https://geopandas.org/en/stable", None),
    "matplotlib": ("https://matplotlib.org/stable", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "python": ("https://docs.python.org/3", None),
    "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
    "spatialdata": ("https://spatialdata.scverse.org/en/stable", None),
    "squidpy": ("https://squidpy.readthedocs.io/en/stable", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
    "xarray": ("https://docs.xarray.dev/en/stable", None),
}

# Every public name is listed from its module's __all__, so that the reference cannot fall behind the code.
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_attr_annotations = False  # such as NDArray[np.bool_], where a trailing underscore would be a reference

templates_path = ["_templates"]
exclude_patterns = ["_build", "_execution", "_templates", "jupyter_execute", "**.ipynb_checkpoints"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"spatialdata-ucs {version}"
_project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
_url = _project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["url"]
html_theme_options = {"source_repository": _url, "source_branch": "main", "source_directory": "docs/"} if _url else {}

# The tutorials live beside the documentation as scripts that the tests run; here they become notebooks. The gallery is
# a script of the documentation.
(DOCS / "tutorials").mkdir(exist_ok=True)
for script in [*sorted((DOCS.parent / "tutorials").glob("*.py")), DOCS / "gallery.py"]:
    folder = DOCS if script.parent == DOCS else DOCS / "tutorials"
    jupytext.write(jupytext.read(script), folder / f"{script.stem}.ipynb")
(DOCS / "options.md").write_text(options_page(), encoding="utf-8")


def _returns_as_prose(docstring: NumpyDocstring, _section: str) -> list[str]:
    """Keep "Returns" as it was written: types stand in the signatures, so its lines are not `type` or `name : type`."""
    return docstring._format_block(":returns: ", docstring._dedent(docstring._consume_to_next_section()))


NumpyDocstring._parse_returns_section = _returns_as_prose


def _visit_math(self: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw by themselves: no script, no network, no further package."""
    is_block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=is_block)
    self.body.append(f'<div class="math">{formula}</div>' if is_block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math, None))
