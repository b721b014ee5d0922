from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from spatialdata import SpatialData
from spatialdata.models import PointsModel
from spatialdata.transformations import Affine, Identity, Scale
from stains import UM_PER_PX, find, image_element, sdata_of

import ucs


class TestStain:
    NAMES = ("18S", "DAPI", "ATP1A1/CD45/E-Cadherin")

    def test_by_the_name_of_the_channel(self, small):
        noise = np.random.default_rng(0).poisson(100, small[0].shape).astype(np.uint16)
        expected = find(sdata_of(small[0]))
        three = np.stack([noise, small[0], noise])
        for names in (self.NAMES, ("PolyT", "ssDNA", "Membrane"), ("a", "Hoechst 33342", "b"), ("B", "DNA", "rRNA")):
            np.testing.assert_array_equal(find(sdata_of(three, names)), expected)
        np.testing.assert_array_equal(find(sdata_of(three, (0, 1, 2)), channel=1), expected)
        np.testing.assert_array_equal(find(sdata_of(three, self.NAMES), channel=1), expected)
        np.testing.assert_array_equal(find(sdata_of(three, self.NAMES), channel="dapi"), expected)

    def test_by_the_name_of_the_image(self, small):
        element = image_element(small[0], [0])
        other = image_element(np.stack([small[0]] * 3), ["r", "g", "b"])
        sdata = SpatialData(images={"morphology_mip": element, "morphology_focus": element, "he_image": other})
        labels = ucs.pp.nuclei(sdata, um_per_px=UM_PER_PX, progress=False, inplace=False)
        assert "ucs_nuclei" in labels

    def test_two_candidates(self, small):
        element = image_element(small[0])
        sdata = SpatialData(images={"run_z2": element, "run_z3": element, "other": image_element(small[0], ["18S"])})
        with pytest.raises(
            ValueError, match=r"Several images show the nuclear stain: 'run_z2', 'run_z3'\. .*image_key="
        ):
            find(sdata)
        assert find(sdata, "run_z3").max() > 0
        twice = sdata_of(np.stack([small[0]] * 2), ["DAPI_1", "DAPI_2"])
        with pytest.raises(ValueError, match=r"several channels with a nuclear stain: 'DAPI_1', 'DAPI_2'\. .*channel="):
            find(twice)

    def test_missing(self, small):
        sdata = sdata_of(np.stack([small[0]] * 2), ["18S", "PolyT"])
        with pytest.raises(KeyError, match=r"No image shows a nuclear stain .*'image' with channels '18S', 'PolyT'"):
            find(sdata)
        with pytest.raises(KeyError, match=r"no channel named after a nuclear stain; its channels are: '18S', 'PolyT'"):
            find(sdata, "image")
        with pytest.raises(KeyError, match=r"No image has channel='DAPI'; there are: 'image' with channels '18S'"):
            find(sdata, channel="DAPI")
        with pytest.raises(KeyError, match=r"channel='DAPI' is not a channel of images\['image'\]; .*'18S', 'PolyT'"):
            find(sdata, "image", channel="DAPI")
        with pytest.raises(KeyError, match=r"channel=2 is not a channel"):
            find(sdata, "image", channel=2)
        with pytest.raises(KeyError, match=r"image_key='dapi' is not in this SpatialData; its images are: 'image'"):
            find(sdata, "dapi")
        with pytest.raises(KeyError, match=r"No image shows a nuclear stain .*there are: none"):
            find(SpatialData())


class TestPixelSize:
    @staticmethod
    def points(transformations, **columns):
        frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0], "feature_name": ["A", "B"], **columns})
        return PointsModel.parse(frame, feature_key="feature_name", transformations=transformations)

    def sdata(self, image, to_global, *, name="transcripts", **columns):
        return SpatialData(images={"image": image_element(image)}, points={name: self.points(to_global, **columns)})

    def test_from_the_transcripts(self, small):
        to_global = {"global": Scale([1 / UM_PER_PX] * 2, ("x", "y"))}
        sdata = self.sdata(small[0], to_global, qv=[40.0, 40.0])
        np.testing.assert_array_equal(find(sdata, um_per_px=None), find(sdata))
        rotated = np.array([[0, -1 / UM_PER_PX, 900.0], [1 / UM_PER_PX, 0, 40.0], [0, 0, 1]])
        sdata = self.sdata(small[0], {"global": Affine(rotated, ("x", "y"), ("x", "y"))}, qv=[40.0, 40.0])
        np.testing.assert_array_equal(find(sdata, um_per_px=None), find(sdata))

    def test_unknown(self, small):
        image = small[0]
        for sdata, problem in (
            (sdata_of(image), "no transcripts share a coordinate system"),
            (self.sdata(image, {"elsewhere": Identity()}), "no transcripts share a coordinate system"),
            (self.sdata(image, {"global": Identity()}), "have the same unit, which may be anything"),
            (self.sdata(image, {"global": Scale([1e-3] * 2, ("x", "y"))}), "make it 1000 um, which cannot be right"),
        ):
            with pytest.raises(ValueError, match=rf"size of a pixel of images\['image'\] .*{problem}.*um_per_px="):
                find(sdata, um_per_px=None)
        for wrong in (0, -1, np.nan, "1"):
            with pytest.raises(ValueError, match="must be a positive number"):
                find(sdata_of(image), um_per_px=wrong)

    def test_disagreement(self, small):
        points = {
            "transcripts": self.points({"global": Scale([4.0, 4.0], ("x", "y"))}),
            "more_transcripts": self.points({"global": Scale([2.0, 2.0], ("x", "y"))}),
        }
        sdata = SpatialData(images={"image": image_element(small[0])}, points=points)
        with pytest.raises(
            ValueError, match=r"the transcripts disagree \('transcripts': 0.25 um, 'more_transcripts': 0.5"
        ):
            find(sdata, um_per_px=None)
