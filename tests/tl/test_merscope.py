"""A MERSCOPE run has no nuclei: they are found in its DAPI image."""

from __future__ import annotations

import numpy as np
import pytest
from spatialdata.models import Image2DModel

import ucs
from helpers import merscope_sdata, require_data

QUICK = {"max_steps": 3, "cell_steps": 10, "cell_patches": 4}


@pytest.fixture(scope="module")
def merscope():
    return merscope_sdata(require_data("merscope_mousebrain"))


def test_merscope_is_segmented_with_no_option_from_its_dapi(merscope):
    result = ucs.tl.segment(merscope, inplace=False, train=QUICK, progress=False)
    assert list(merscope.labels) == []
    parameters = result["ucs_table"].uns["ucs"]["parameters"]
    assert (parameters["platform"], parameters["nuclei_key"]) == ("merscope", "ucs_nuclei")
    assert result["ucs_table"].uns["ucs"]["qc"]["alignment"] == "aligned"
    n_nuclei = int(result["ucs_nuclei"].max().compute())
    assert 300 < n_nuclei < 900  # the vendor has about 500 cells here
    assert result["ucs_table"].n_obs == n_nuclei
    assert not result["ucs_table"].var_names.str.startswith("Blank-").any()
    assert result["ucs_table"].obsm["controls"].columns.str.startswith("Blank-").all()


def test_merscope_with_its_image_upside_down_is_refused(merscope):
    image = merscope["brain_region_0_z0"]
    flipped = Image2DModel.parse(
        np.asarray(image)[:, ::-1].copy(), dims=("c", "y", "x"), c_coords=image.coords["c"].to_numpy().tolist()
    )
    sdata = merscope.subset(list(merscope.points))
    sdata["brain_region_0_z0"] = flipped
    with pytest.raises(ValueError, match="flipped along y they would fit much better"):
        ucs.tl.segment(sdata, train=QUICK, progress=False)
    assert list(sdata.labels) == []


def test_without_nuclei_and_without_a_stain_both_are_said_to_be_missing(merscope):
    sdata = merscope.subset(list(merscope.points))
    with pytest.raises(KeyError, match=r"Found no labels or shapes element with nuclei.*Nor can nuclei be found"):
        ucs.tl.segment(sdata, train=QUICK, progress=False)
