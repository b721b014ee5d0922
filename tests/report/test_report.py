"""The report: its sections, pictures and words, read as HTML and, where there is a browser, as it looks."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from spatialdata import SpatialData

import ucs
from ucs._report.findings import advice, figures_of, vendor_key_of
from ucs._report.page import table

SECTIONS = [
    "summary", "warnings", "decisions", "overview", "crops", "distributions", "maps", "purity", "vendor", "run",
]  # fmt: skip
PICTURES = {"overview-picture", "distributions-picture", "maps-picture", "purity-picture", "vendor-picture"}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Page(HTMLParser):
    """What of a page the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.figures: set[str] = set()
        self.images: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        if tag == "section":
            self.sections.append(str(found["id"]))
        elif tag == "figure":
            self.figures.add(str(found["id"]))
        elif tag == "img":
            assert found["alt"]
            self.images.append(str(found["src"]))
        elif tag == "a":
            self.links.append(str(found["href"]))


@pytest.fixture(scope="module")
def segmented() -> SpatialData:
    sdata = ucs.datasets.simulate(width_um=100, height_um=100, n_genes=60, seed=1)
    ucs.tl.segment(sdata, progress=False)
    return sdata


@pytest.fixture(scope="module")
def written(segmented: SpatialData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "sample.html"
    before = {key: id(element) for _, key, element in segmented.gen_elements()}
    assert ucs.report(segmented, path, thresholds=[0.7], expansions_um=[0, 3]) == path
    assert {key: id(element) for _, key, element in segmented.gen_elements()} == before
    return path


def test_nothing_is_missing(written: Path):
    text = written.read_text(encoding="utf-8")
    page = Page(text)
    assert page.sections == SECTIONS
    assert page.links == [f"#{name}" for name in SECTIONS]
    assert page.figures >= PICTURES
    assert {name.split("-")[1] for name in page.figures if name.startswith("crop-")} == {"confident", "doubtful"}
    for image in page.images:
        head, data = image.split(",")
        assert head == "data:image/png;base64"
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))
        assert pixels.shape[1] > 500
        assert pixels[..., :3].std() > 0.02  # not blank


def test_it_needs_nothing_else(written: Path):
    text = written.read_text(encoding="utf-8")
    assert not Page(text).tags & {"script", "link", "iframe", "object"}
    assert "http://" not in text
    assert "https://" not in text


def test_it_says_what_the_run_did(written: Path, segmented: SpatialData):
    text, cells = written.read_text(encoding="utf-8"), segmented.tables["ucs_table"]
    for words in ("threshold 0.7", "nuclei + 3 um", "cell_labels", "pretrained", "aligned", ucs.__version__[:5]):
        assert words in text
    for value in figures_of(cells).values():
        assert f"<dd>{value}</dd>" in text


def test_advice_has_next_steps(segmented: SpatialData):
    cells = segmented.tables["ucs_table"].copy()
    fine = {"problems": [], "warnings": [], "alignment": {"verdict": "aligned"}}
    nothing = pd.DataFrame()
    assert advice(cells, fine, nothing) == []
    cells.obs["n_transcripts"], cells.obs["confidence"], cells.obs["area_um2"] = 5, 0.3, 4.0
    cells.uns["ucs"]["qc"]["n_kept"] = int(cells.X.sum() * 4)
    found = advice(cells, fine | {"problems": [{"error": "ValueError", "message": "moved by 9 um"}]}, nothing)
    assert [one.serious for one in found] == [True, False, False, False, False]
    assert found[0].text == "moved by 9 um"
    assert "Only 25 % of the transcripts" in found[1].text
    assert "find_missing=True" in found[1].next_step
    assert all(one.next_step for one in found)
    compared = pd.DataFrame(
        {"capture": [0.7, 0.5, 0.9], "spurious_coexpression": [0.8, 0.5, 0.7]}, index=["ucs", "a", "b"]
    ).assign(spurious_excess=0.1, curve=[None, "nuclear expansion", "nuclear expansion"])
    assert "as pure as these cells or purer" in advice(cells, fine, compared)[-1].text


def test_text_is_escaped():
    assert "&lt;script&gt;" in table(pd.DataFrame({"<b>": ["<script>"], "x": [np.nan]}))


def test_bad_input(segmented: SpatialData, tmp_path: Path):
    there = tmp_path / "there.html"
    there.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ucs.report(segmented, there)
    assert there.read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="Make it first"):
        ucs.report(segmented, tmp_path / "no" / "there.html")
    with pytest.raises(KeyError, match="table_key='t'.*'ucs_table'"):
        ucs.report(segmented, tmp_path / "a.html", table_key="t")
    with pytest.raises(ValueError, match="nothing to report"):
        ucs.report(segmented, tmp_path / "a.html", table_key="true_table")
    with pytest.raises(KeyError, match="vendor_key='v'"):
        vendor_key_of(segmented, "v", of={})


@pytest.mark.slow
def test_a_browser_shows_all_of_it(written: Path, tmp_path: Path):
    browser = next((path for path in map(shutil.which, _BROWSERS) if path), None)
    if browser is None:
        pytest.skip(f"needs a browser: none of {', '.join(_BROWSERS)} is there")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", profile]
    shot = tmp_path / "shot.png"
    subprocess.run(
        [browser, *options, "--window-size=1200,5200", f"--screenshot={shot}", written.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    pixels = matplotlib.image.imread(shot)[..., :3]
    rows = np.flatnonzero((pixels < 0.97).any(axis=(1, 2)))
    assert rows[-1] > 3000  # pictures have a height: a broken one has none
    dom = subprocess.run(
        [browser, *options, "--dump-dom", written.as_uri()], check=True, capture_output=True, timeout=120
    ).stdout.decode()
    assert Page(dom).sections == SECTIONS
