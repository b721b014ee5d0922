"""What the documentation says of platforms, arguments and files is what the code does."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from functools import reduce
from pathlib import Path

import pytest

import ucs
from ucs._read.platforms import PLATFORMS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "platforms.md"
PARAMS = {
    "pretrained": ucs.methods.PretrainedParams,
    "density": ucs.methods.DensityParams,
    "paper": ucs.methods.PaperParams,
}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rows() -> dict[str, dict[str, str]]:
    """The first table of the page, by the names of the platforms."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    header, _, *body = (cells(line) for line in lines)
    table = [dict(zip(header, row, strict=True)) for row in body if len(row) == len(header)]
    return {row["platform"].strip("`"): row for row in table}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def quoted(cell: str) -> list[str]:
    """What stands in backticks, with names in the place of {...}."""
    return [re.sub(r"\{\w+\}", "a1", name) for name in re.findall(r"`([^`]+)`", cell)]


def test_the_platforms_are_those_of_the_code():
    assert list(rows()) == list(ucs.platforms().index)


@pytest.mark.parametrize("name", PLATFORMS)
def test_each_row_of_the_platforms_is_that_of_the_code(name):
    row, platform = rows()[name], PLATFORMS[name]
    assert row["unit"] == f"{platform.um_per_unit:g} um"
    assert row["pixel"] == f"{platform.resolution:g} um"
    assert quoted(row["gene column"]) == list(platform.gene_columns[:2])[: len(quoted(row["gene column"]))]
    assert bool(quoted(row["gene column"])) == bool(platform.gene_columns)
    kinds = re.findall(r"(points|table) `([^`]+)`", row["transcripts"])
    for kind, key in kinds:
        patterns = platform.points_keys if kind == "points" else platform.table_keys
        assert any(re.fullmatch(pattern, re.sub(r"\{\w+\}", "a1", key)) for pattern in patterns), key
    for key in re.findall(r"(?:labels|shapes) `([^`]+)`", row["nuclei"]):
        assert any(re.fullmatch(pattern, re.sub(r"\{\w+\}", "a1", key)) for pattern in platform.nuclei_keys), key
    assert kinds or name == "generic"


@pytest.mark.parametrize("name", PLATFORMS)
def test_each_row_of_the_platforms_has_a_test(name):
    file, test = rows()[name]["test"].strip("`").split("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_controls_that_are_named_are_controls():
    text = PAGE.read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("| all |")]
    named = quoted(cells(line)[1])
    assert len(named) > 10
    assert all(PLATFORMS["generic"].is_control(f"{name}1") for name in named)


def test_the_columns_that_tell_controls_are_those_of_the_code():
    (line,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `xenium` | |")]
    flag, column, *categories = quoted(cells(line)[2])[:4]
    xenium = PLATFORMS["xenium"]
    assert (flag, column) == (xenium.is_gene_column, xenium.category_column)
    assert all(re.fullmatch(xenium.gene_category, category) for category in categories)
    cut = f"`{xenium.quality_column}` below {xenium.minimum_quality:g} are left out"
    assert cut in PAGE.read_text(encoding="utf-8")


def calls():
    """Page, name and node of each call of a public function in the examples."""
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                if name.startswith("ucs."):
                    yield page.name, name, node


def test_arguments_in_examples_exist():
    groups = {
        "read": {field.name for field in dataclasses.fields(ucs.options.ReadOptions)},
        "compute": {field.name for field in dataclasses.fields(ucs.options.ComputeOptions)},
        "key_added": {"prefix"} | {field.name for field in dataclasses.fields(ucs.options.OutputKeys)},
    }
    n_keywords = 0
    for page, name, node in calls():
        function = reduce(getattr, name.split(".")[1:], ucs)
        known = inspect.signature(function).parameters
        open_ended = any(one.kind is one.VAR_KEYWORD for one in known.values())
        method = next((one.value.value for one in node.keywords if one.arg == "method"), "pretrained")
        of_method = PARAMS.get(method)
        given = {one.arg for one in node.keywords}
        assert method != "pretrained" or "regions" not in given, f"{page}: {name}(regions=)"
        for keyword in node.keywords:
            n_keywords += 1
            assert open_ended or keyword.arg in known, f"{page}: {name}({keyword.arg}=)"
            if isinstance(keyword.value, ast.Dict) and keyword.arg in {*groups, "params"}:
                fields = groups.get(keyword.arg) or {field.name for field in dataclasses.fields(of_method)}
                given = {ast.literal_eval(key) for key in keyword.value.keys}
                assert given <= fields, f"{page}: {name}({keyword.arg}={given - fields})"
    assert n_keywords > 20


def test_the_reading_path_is_short_and_its_files_are_as_long_as_said():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    path = {name: int(n) for name, n in re.findall(r"^\| `(src/\S+\.py)` \| (\d+) \|", text, re.MULTILINE)}
    assert 5 <= len(path) <= 8
    for name, n_lines in path.items():
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) == pytest.approx(n_lines, rel=0.1)


def test_the_rooms_are_those_of_the_source():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = set(re.findall(r"^\| \d+ \| `(\w+)` \|", text, re.MULTILINE))
    source = ROOT / "src" / "ucs"
    assert rooms == {one.parent.name for one in source.glob("*/__init__.py")} | {"options"}


def test_the_page_of_options_has_each_field_with_its_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("options_page").options_page()
    sections = {re.search(r"\{class\}`ucs\.\w+\.(\w+)`", part)[1]: part for part in page.split("\n## ")[1:]}
    groups = [ucs.options.ReadOptions, ucs.options.ComputeOptions, ucs.options.OutputKeys, *PARAMS.values()]
    assert list(sections) == [one.__name__ for one in groups]
    for group in groups:
        entries = re.findall(r"^`(\w+)`\n: `.+?`, default `(.+?)`.*\n\n  (.+)$", sections[group.__name__], re.MULTILINE)
        assert [(name, default, text.replace("`", "")) for name, default, text in entries] == [
            (field.name, repr(field.default), field.metadata["text"].replace("`", ""))
            for field in dataclasses.fields(group)
        ]


def test_the_api_page_lists_each_public_function_by_task():
    by_task = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("## By module")[0]
    listed = set(re.findall(r"^ +(ucs\.\S+)$", by_task, re.MULTILINE))
    modules = [ucs.tl, ucs.pp, ucs.pl, ucs.io, ucs.datasets, ucs.metrics]
    functions = {
        f"{module.__name__}.{name}"
        for module in modules
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
    }
    assert functions <= listed
    assert all(reduce(getattr, name.split(".")[1:], ucs) for name in listed)


def test_links_between_pages_lead_somewhere():
    tutorials = sorted((ROOT / "tutorials").glob("*.py"))
    made = {ROOT / "docs" / "options.md", ROOT / "docs" / "gallery.ipynb"}
    made |= {ROOT / "docs" / "tutorials" / f"{path.stem}.ipynb" for path in tutorials}
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    n_links = 0
    for page in [*PAGES, *tutorials, ROOT / "docs" / "gallery.py"]:
        folder = ROOT / "docs" / "tutorials" if page in tutorials else page.parent
        for target in re.findall(r"\]\((?!http|#)([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            path = (folder / target).resolve()
            n_links += 1
            assert path in made or path.exists(), f"{page.name}: {target}"
    assert n_links > 40
    assert all(f"\ntutorials/{path.stem}\n" in index for path in tutorials)
