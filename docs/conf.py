"""Sphinx configuration: `sphinx-build -W docs docs/_build`.

The tutorials are shown without their outputs; `-D nb_execution_mode=force` runs them and shows the pictures.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import version as distribution_version
from pathlib import Path

import jupytext
from sphinx.ext.napoleon import NumpyDocstring

DOCS = Path(__file__).parent

project = "spatialdata-ucs"
author = "The spatialdata-ucs developers"
copyright = f"2026, {author}"
release = distribution_version("spatialdata-ucs")
version = release.split("+")[0]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_execution_timeout = 600

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
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"spatialdata-ucs {version}"
_project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
_url = _project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["url"]
html_theme_options = {"source_repository": _url, "source_branch": "main", "source_directory": "docs/"} if _url else {}

# The tutorials live beside the documentation as scripts that the tests run; here they become notebooks.
(DOCS / "tutorials").mkdir(exist_ok=True)
for script in sorted((DOCS.parent / "tutorials").glob("*.py")):
    jupytext.write(jupytext.read(script), DOCS / "tutorials" / f"{script.stem}.ipynb")


def _returns_as_prose(docstring: NumpyDocstring, _section: str) -> list[str]:
    """Keep "Returns" as it was written: types stand in the signatures, so its lines are not `type` or `name : type`."""
    return docstring._format_block(":returns: ", docstring._dedent(docstring._consume_to_next_section()))


NumpyDocstring._parse_returns_section = _returns_as_prose
