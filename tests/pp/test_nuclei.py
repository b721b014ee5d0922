from __future__ import annotations

import numpy as np
import pytest
import spatialdata as sd
from helpers import cheap_copy
from spatialdata import SpatialData
from spatialdata.models import Image3DModel, Labels2DModel
from spatialdata.transformations import Affine, Scale, Sequence, Translation, get_transformation
from stains import UM_PER_PX, blobs, f1, find, image_element, sdata_of

import ucs


class TestResult:
    def test_transformations_are_those_of_the_image(self, small):
        shift = Translation([100.0, -50.0], ("x", "y"))
        flip = Affine(np.array([[0, 2.0, 3], [-2.0, 0, 4], [0, 0, 1]]), ("x", "y"), ("x", "y"))
        sdata = sdata_of(small[0], transformations={"global": shift, "fov": flip, "both": Sequence([shift, flip])})
        ucs.pp.nuclei(sdata, um_per_px=UM_PER_PX, progress=False)
        found, expected = (get_transformation(sdata[key], get_all=True) for key in ("ucs_nuclei", "image"))
        assert set(found) == set(expected)
        for system, transformation in expected.items():
            matrices = (t.to_affine_matrix(("x", "y"), ("x", "y")) for t in (found[system], transformation))
            np.testing.assert_allclose(*matrices)

    @pytest.mark.parametrize(("um_per_px", "factor"), [(UM_PER_PX, 1), (UM_PER_PX / 2, 2)])
    def test_level_of_a_multiscale_image(self, small, um_per_px, factor):
        """The coarsest with pixels of at most 0.3 um; its labels lie where the image does."""
        image, truth = (a.repeat(factor, 0).repeat(factor, 1) for a in small)
        multiscale = image_element(
            image, scale_factors=[2, 2], transformations={"global": Scale([3.0, 3.0], ("x", "y"))}
        )
        sdata = SpatialData(images={"image": multiscale})
        ucs.pp.nuclei(sdata, um_per_px=um_per_px, progress=False)
        labels = sdata.labels["ucs_nuclei"]
        assert labels.shape == tuple(n // factor for n in image.shape)
        matrix = get_transformation(labels).to_affine_matrix(("x", "y"), ("x", "y"))
        np.testing.assert_allclose(matrix, np.diag([3.0 * factor, 3.0 * factor, 1]))
        assert f1(truth[::factor, ::factor], np.asarray(labels)) >= 0.85

    def test_goes_through_zarr(self, small, tmp_path):
        sdata = sdata_of(small[0], scale_factors=[2])
        ucs.pp.nuclei(sdata, um_per_px=UM_PER_PX, progress=False, tile_size=200)
        Labels2DModel().validate(sdata.labels["ucs_nuclei"])
        sdata.write(tmp_path / "out.zarr")
        back = sd.read_zarr(tmp_path / "out.zarr")
        np.testing.assert_array_equal(back.labels["ucs_nuclei"], sdata.labels["ucs_nuclei"])
        ucs.pp.nuclei(back, um_per_px=UM_PER_PX, progress=False, labels_key_added="again")
        assert "again" in repr(back)  # which looks for files behind every element
        back.write_element("again")

    def test_keys(self, small):
        sdata = sdata_of(small[0])
        assert ucs.pp.nuclei(sdata, um_per_px=UM_PER_PX, progress=False) is None
        before = np.asarray(sdata.labels["ucs_nuclei"])
        with pytest.raises(ValueError, match=r"labels\['ucs_nuclei'\] exists; pass overwrite=True"):
            ucs.pp.nuclei(sdata, um_per_px=UM_PER_PX, progress=False)
        with pytest.raises(ValueError, match="is the name of an element in images"):
            ucs.pp.nuclei(sdata, um_per_px=UM_PER_PX, labels_key_added="image", overwrite=True)
        with pytest.raises(ValueError, match="no valid name"):
            ucs.pp.nuclei(sdata, um_per_px=UM_PER_PX, labels_key_added="a b")
        new = ucs.pp.nuclei(sdata, um_per_px=UM_PER_PX, progress=False, overwrite=True, inplace=False, min_area=50)
        assert np.asarray(new.labels["ucs_nuclei"]).max() < before.max()
        np.testing.assert_array_equal(sdata.labels["ucs_nuclei"], before)

    def test_the_input_stays_as_it_was(self, small, caplog):
        sdata = sdata_of(small[0])
        copy = cheap_copy(sdata)
        find(sdata)
        assert list(sdata.gen_elements())[0][1] == "image"
        assert "ucs_nuclei" not in sdata
        np.testing.assert_array_equal(sdata.images["image"], copy.images["image"])
        assert "nuclei, median area" in caplog.text

    def test_the_main_job_takes_them(self, simulated_copy):
        sdata = simulated_copy()
        for key in ("nucleus_labels", "cell_labels"):
            del sdata.labels[key]
        del sdata.shapes["nucleus_boundaries"]
        ucs.pp.nuclei(sdata, progress=False)
        source = ucs._read.sample.find_source(sdata)
        sample = ucs._read.sample.prepare(sdata, source, "ucs_nuclei")
        assert sample.alignment != "unchecked"
        assert len(sample.nuclei.ids) > 100


class TestBadImages:
    def test_constant(self):
        with pytest.raises(ValueError, match=r"images\['image'\] is constant \(7 everywhere\)"):
            find(sdata_of(np.full((200, 300), 7, np.uint8)))

    def test_noise(self):
        image = np.random.default_rng(0).poisson(100, (500, 500)).astype(np.uint16)
        with pytest.raises(ValueError, match=r"Nothing in images\['image'\] stands out of the noise"):
            find(sdata_of(image))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, small, value):
        image = small[0].astype(np.float32)
        image[300, 200:203] = value
        sdata = sdata_of(image)
        for method in ("watershed", blobs):
            with pytest.raises(ValueError, match=r"images\['image'\] has 3 NaN or infinite pixels in rows .*fillna"):
                find(sdata, method=method)
        assert "ucs_nuclei" not in sdata

    def test_three_dimensional(self):
        element = Image3DModel.parse(np.ones((1, 2, 20, 20)), dims=("c", "z", "y", "x"), c_coords=["DAPI"])
        with pytest.raises(ValueError, match=r"has the dimensions .*'z'.*add a plane or a projection"):
            find(SpatialData(images={"image": element}))

    def test_other_arguments(self, small):
        sdata = sdata_of(small[0])
        with pytest.raises(
            ValueError, match=r"method='otsu' is unknown; known are 'watershed', 'cellpose', 'stardist'"
        ):
            find(sdata, method="otsu")
        with pytest.raises(TypeError, match=r"method=3 must be 'watershed', .* or a function"):
            find(sdata, method=3)
        with pytest.raises(ValueError, match="tile_size=10 must be a whole number, 32 or above"):
            find(sdata, tile_size=10)
