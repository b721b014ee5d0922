"""Every platform from its reader to cells with no option but the path, by default and by a method that trains.

The samples are real but for Stereo-seq (simulated: no public sample has an image). ISS is in pixels of unknown size, so
their size has to be given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spatialdata as sd
from calls import segment
from helpers import require_data
from invariants import assert_invariants
from real_samples import (
    ISS_PART,
    ISS_UM_PER_PX,
    iss_sdata,
    read_lung,
    read_merscope,
    read_prostate,
    read_stereoseq,
    stereoseq_real,
)
from scipy.ndimage import gaussian_filter
from spatialdata import SpatialData
from spatialdata.models import Image2DModel

import ucs
from ucs._read.sample import find_source, prepare
from ucs.metrics import match

pytestmark = [
    pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
]
QUICK = {"max_steps": 3}


@dataclass(frozen=True)
class Run:
    """A sample, and what must be found in it."""

    read: Callable[[Path], SpatialData]
    platform: str
    points_key: str
    nuclei_key: str
    gene_key: str
    n_cells: tuple[int, int]
    options: dict[str, Any] = field(default_factory=dict)
    invariants: dict[str, Any] = field(default_factory=dict)


RUNS = {
    "xenium-breast": Run(
        lambda _: sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr")),
        "xenium", "transcripts", "nucleus_labels", "feature_name", (130, 132),
    ),
    "xenium-v1-lung": Run(read_lung, "xenium", "transcripts", "nucleus_labels", "feature_name", (470, 488)),
    "xenium-prime-5k-prostate": Run(
        read_prostate, "xenium", "transcripts", "nucleus_labels", "feature_name", (415, 423)
    ),
    "merscope": Run(
        read_merscope, "merscope", "mouse_brain_region_0_transcripts", "ucs_nuclei", "gene", (400, 700)
    ),
    "iss": Run(
        lambda _: iss_sdata(ISS_PART), "generic", "spots", "nuclei", "Gene", (450, 520),
        {"um_per_unit": ISS_UM_PER_PX}, {"um_per_unit": ISS_UM_PER_PX},
    ),
    "iss-whole": Run(
        lambda _: iss_sdata(), "generic", "spots", "nuclei", "Gene", (3481, 3481),
        {"um_per_unit": ISS_UM_PER_PX}, {"um_per_unit": ISS_UM_PER_PX},
    ),
    "stereoseq": Run(
        read_stereoseq, "stereoseq", "bin1_genes", "ucs_nuclei", "gene", (150, 190),
        invariants={"um_per_unit": 0.5, "count_key": "count"},
    ),
}  # fmt: skip
ON_DEMAND = ("xenium-breast", "iss-whole")  # test_real_data.py looks at the first one more closely
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in ON_DEMAND else []) for name in RUNS]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Callable[[str], SpatialData]:
    """Call it for a sample, read once; cells go to new objects."""
    read: dict[str, SpatialData] = {}

    def sample(name: str) -> SpatialData:
        if name not in read:
            read[name] = RUNS[name].read(tmp_path_factory.mktemp(name))
        return read[name]

    return sample


def assert_found(run: Run, sample: SpatialData, result: SpatialData) -> None:
    """What was found is what is there, and the result is as every result."""
    record = result["ucs_table"].uns["ucs"]
    found = {name: record["parameters"][name] for name in ("platform", "points_key", "nuclei_key", "gene_key")}
    assert found == {name: getattr(run, name) for name in found}
    assert record["qc"]["alignment"] == "aligned"
    assert run.n_cells[0] <= result["ucs_table"].n_obs <= run.n_cells[1]
    as_read = result.points[run.points_key]
    renamed = as_read.rename(columns={run.gene_key: "feature_name"})
    renamed.attrs.update({**as_read.attrs, "spatialdata_attrs": {"feature_key": "feature_name"}})
    checked = SpatialData.init_from_elements({n: result[n] for n in ("ucs_cells", "ucs_boundaries", "ucs_table")})
    checked[run.points_key] = renamed
    source = find_source(result, **{"resolution": record["parameters"]["resolution"], **run.options})
    # On the grid some nuclei are in two parts.
    nuclei = prepare(result, source, run.nuclei_key, check_alignment=False).nuclei
    assert_invariants(checked, points_key=run.points_key, nuclei=nuclei.labels, **run.invariants)
    assert "ucs_cells" not in sample.labels  # the result is an object of its own


@pytest.mark.parametrize("name", NAMES)
def test_by_default(name, samples, tmp_path):
    """Cells hold most transcripts, and are larger than their nuclei, but not by much."""
    run, sample = RUNS[name], samples(name)
    result = segment(sample, method="pretrained", check_alignment=True, **run.options)
    assert_found(run, sample, result)
    table = result["ucs_table"]
    in_cells = table.X.sum() / table.uns["ucs"]["qc"]["n_kept"]
    in_nuclei = table.layers["nucleus"].sum() / table.uns["ucs"]["qc"]["n_kept"]
    assert max(0.4, in_nuclei + 0.05) < in_cells < 1
    assert 1.2 < (table.obs["area_um2"] / table.obs["nucleus_area_um2"]).median() < 6
    # What readers leave in attrs must not end in places that cannot be stored.
    result.subset(["ucs_cells", "ucs_boundaries", "ucs_table"]).write(tmp_path / "store.zarr")
    stored = sd.read_zarr(tmp_path / "store.zarr")
    assert stored["ucs_table"].uns["ucs"]["parameters"]["gene_key"] == run.gene_key


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if name != "iss-whole"])
def test_by_a_method_that_trains(name, samples):
    run, sample = RUNS[name], samples(name)
    assert_found(run, sample, segment(sample, check_alignment=True, params=QUICK, **run.options))


class TestStereoseq:
    def test_nuclei_of_the_ssdna_image_are_the_true_ones(self, samples):
        sample = ucs.pp.nuclei(samples("stereoseq"), inplace=False, progress=False)
        found = match(np.asarray(sample["truth"]), np.asarray(sample["ucs_nuclei"]))
        assert found.loc[0.5, "f1"] > 0.85

    def test_with_labels_of_nuclei_the_image_is_not_looked_at(self, samples):
        sample = samples("stereoseq").subset(["bin1_genes", "ssDNA_regist"])
        sample["nuclei"] = samples("stereoseq")["truth"].copy()
        result = segment(sample, params=QUICK)
        assert result["ucs_table"].uns["ucs"]["parameters"]["nuclei_key"] == "nuclei"

    def test_a_gem_without_nuclei_and_image_says_what_to_add(self):
        sample = stereoseq_real()
        message = r"Found no labels or shapes element with nuclei.*No image shows .*registered with the .* .DAPI, ssDNA"
        with pytest.raises(KeyError, match=message):
            ucs.tl.segment(sample, progress=False)
        assert [name for _, name, _ in sample.gen_elements()] == ["bin1_genes"]

    def test_a_gem_with_nuclei_made_of_its_density(self):
        """Not what one should do, but all that can be done with this sample: the way works for real rows."""
        sample = stereoseq_real()
        points = sample["bin1_genes"].compute()
        x0, y0 = points["x"].min(), points["y"].min()
        counts = np.zeros((300, 300))
        np.add.at(counts, (points["y"] - y0, points["x"] - x0), points["count"])
        density = gaussian_filter(counts, 5) ** 2  # 2.5 um
        sample["density"] = Image2DModel.parse(
            density[None], dims=("c", "y", "x"), c_coords=["DNA"], transformations={"global": at(x0, y0)}
        )
        result = segment(sample, params=QUICK)
        table = result["ucs_table"]
        assert table.n_obs > 10
        assert table.shape[1] == 10_631
        assert table.uns["ucs"]["qc"]["n_kept"] == points["count"].sum()


def at(x0: float, y0: float):
    from spatialdata.transformations import Translation

    return Translation([x0, y0], axes=("x", "y"))


class TestPixelSizeOfIss:
    def test_pixels_taken_for_um_are_refused_with_what_would_do(self):
        message = r"median area of the nuclei 'nuclei' is 1.\d+e\+03 um\^2.*from 0.0\d+ to 0.\d+ um\), such as um_per_"
        with pytest.raises(ValueError, match=message):
            ucs.tl.segment(iss_sdata(ISS_PART), progress=False)
