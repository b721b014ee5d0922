from __future__ import annotations

import sys
import types

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from stains import UM_PER_PX, blobs, f1, find, sdata_of

import ucs
from ucs._nuclei.objects import label_objects
from ucs._nuclei.tiles import Raster


class TestFunctions:
    def test_the_same_for_any_tiles(self, small):
        sdata = sdata_of(small[0])
        whole = find(sdata, method=blobs)
        expected = np.asarray(blobs(small[0][None]))
        assert ucs.metrics.match(expected, whole, thresholds=[1.0])["f1"].iloc[0] == 1
        for tile_size in (256, 150, 61):
            np.testing.assert_array_equal(find(sdata, method=blobs, tile_size=tile_size), whole)

    def test_gets_the_channels_as_they_are(self, small):
        image = np.stack([small[0], small[0] // 2, small[0] // 3])
        seen = []

        def method(window):
            seen.append(window)
            return blobs(window)

        find(sdata_of(image, ["18S", "DAPI", "ATP1A1"]), channel=["ATP1A1", "18S"], method=method)
        assert len(seen) == 1
        np.testing.assert_array_equal(seen[0], image[[2, 0]])
        assert seen[0].dtype == np.uint16

    def test_nuclei_found_twice_are_there_once(self):
        """A method that sees a nucleus elsewhere in another window, so that its middle lies in two tiles."""
        image = np.zeros((1, 200, 200), dtype=np.uint8)
        image[0, 90:110, 90:112] = 1
        calls = []

        def method(window):
            calls.append(window.shape)
            found = window[0].astype(int)
            return np.roll(found, -4 if len(calls) == 1 else 0, axis=1)

        raster = Raster(da.from_array(image), 1, "image")
        found = label_objects(
            raster, method, 1.0, name="it", tile_size=100, scaled=False, update=lambda done, total: None
        )
        assert len(calls) == 4
        assert np.unique(found.labels.compute()).tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("wrong", "found"),
        [
            (lambda c: c[0] > 900, "type bool"),
            (lambda c: blobs(c).astype(float), "type float64"),
            (lambda c: blobs(c)[:-1], r"shape \(469, 470\)"),
            (lambda c: -blobs(c), r"negative values \(lowest -"),
        ],
    )
    def test_what_is_no_labels_is_refused(self, small, wrong, found):
        sdata = sdata_of(small[0][:470, :470])
        with pytest.raises(ValueError, match=rf"method=<lambda> returned .*{found}.*must return integer labels"):
            find(sdata, method=wrong)

    def test_options_are_refused(self, small):
        with pytest.raises(TypeError, match="takes no options, but 'sigma' given: bind them with functools.partial"):
            find(sdata_of(small[0]), method=blobs, sigma=3)

    def test_nothing_or_nothing_of_the_right_size(self, small):
        with pytest.raises(ValueError, match=r"method=<lambda> found no nuclei .*Look at the image"):
            find(sdata_of(small[0]), method=lambda c: np.zeros(c.shape[1:], int))
        with pytest.raises(ValueError, match=r"median nucleus has [\d.e+]+ um2, .*um_per_px=5 cannot be right"):
            find(sdata_of(small[0]), method=blobs, um_per_px=5)


class TestNetworks:
    """Other people's networks, replaced by modules with the same interface."""

    @staticmethod
    def install(monkeypatch, name, **modules):
        package = types.ModuleType(name)
        for key, value in modules.items():
            setattr(package, key, value)
            if isinstance(value, types.ModuleType):
                monkeypatch.setitem(sys.modules, f"{name}.{key}", value)
        monkeypatch.setitem(sys.modules, name, package)

    @staticmethod
    def scaled_blobs(image):
        assert image.dtype == np.float32
        assert -1 < image.min() < 0.2 < 0.8 < image.max() < 3
        return label(ndimage.gaussian_filter(image, 3) > ndimage.gaussian_filter(image, 25) + 0.1)

    def cellpose(self, monkeypatch, *, version, calls):
        find_blobs = self.scaled_blobs

        class Model4:
            def __init__(self, gpu=False, pretrained_model="cpsam_v2", model_type=None, device=None):
                calls.append({"gpu": gpu, "pretrained_model": pretrained_model, "model_type": model_type})

            def eval(self, x, batch_size=8, channel_axis=None, normalize=True, diameter=None, channels=None):
                calls.append({"normalize": normalize, "diameter": diameter, "channels": channels, "shape": x.shape})
                return find_blobs(x if x.ndim == 2 else x[0]), [], []

        models = types.ModuleType("cellpose.models")
        models.CellposeModel = Model4
        if version == 3:
            models.Cellpose = object
        self.install(monkeypatch, "cellpose", models=models)

    def test_cellpose_4(self, monkeypatch, small):
        calls = []
        self.cellpose(monkeypatch, version=4, calls=calls)
        labels = find(sdata_of(small[0]), method="cellpose", gpu=False)
        assert f1(small[1], labels) > 0.5
        assert calls[0] == {"gpu": False, "pretrained_model": "cpsam_v2", "model_type": None}
        assert calls[1] == {"normalize": False, "diameter": None, "channels": None, "shape": small[0].shape}

    def test_cellpose_4_with_channels_weights_and_options(self, monkeypatch, small):
        calls = []
        self.cellpose(monkeypatch, version=4, calls=calls)
        two = sdata_of(np.stack([small[0]] * 2), ["DAPI", "18S"])
        find(two, channel=["DAPI", "18S"], method="cellpose", model="my_weights", diameter=30)
        assert calls[0]["pretrained_model"] == "my_weights"
        assert (calls[1]["diameter"], calls[1]["shape"]) == (30, (2, *small[0].shape))

    def test_cellpose_3(self, monkeypatch, small):
        calls = []
        self.cellpose(monkeypatch, version=3, calls=calls)
        assert f1(small[1], find(sdata_of(small[0]), method="cellpose")) > 0.5
        assert calls[0]["model_type"] == "nuclei"
        assert calls[1]["channels"] == [0, 0]
        assert calls[1]["diameter"] == pytest.approx(7.5 / UM_PER_PX)

    def stardist(self, monkeypatch, calls):
        find_blobs = self.scaled_blobs

        class StarDist2D:
            @classmethod
            def from_pretrained(cls, name):
                calls.append(name)
                return cls() if name.startswith("2D_") else None

            def predict_instances(self, img, prob_thresh=None):
                calls.append(prob_thresh)
                return find_blobs(img).astype(np.int32), {"prob": []}

        models = types.ModuleType("stardist.models")
        models.StarDist2D = StarDist2D
        self.install(monkeypatch, "stardist", models=models)

    def test_stardist(self, monkeypatch, small):
        calls = []
        self.stardist(monkeypatch, calls)
        assert f1(small[1], find(sdata_of(small[0]), method="stardist", prob_thresh=0.4)) > 0.5
        assert calls == ["2D_versatile_fluo", 0.4]
        with pytest.raises(RuntimeError, match=r"could not be loaded \(ValueError: StarDist has no .* 'other'"):
            find(sdata_of(small[0]), method="stardist", model="other")

    def test_instanseg(self, monkeypatch, small):
        import torch

        calls, find_blobs = [], self.scaled_blobs

        class InstanSeg:
            def __init__(self, model_type="brightfield_nuclei", device=None, verbosity=1):
                calls.append((model_type, device, verbosity))

            def eval_small_image(self, image, pixel_size=None, normalise=True, return_image_tensor=True, target="all"):
                calls.append((pixel_size, normalise, return_image_tensor, target))
                return torch.from_numpy(find_blobs(image[0]).astype(np.float32))[None, None]

        self.install(monkeypatch, "instanseg", InstanSeg=InstanSeg)
        assert f1(small[1], find(sdata_of(small[0]), method="instanseg", device="cpu")) > 0.5
        assert calls == [("fluorescence_nuclei_and_cells", "cpu", 0), (UM_PER_PX, False, False, "nuclei")]

    @pytest.mark.parametrize("method", ["cellpose", "stardist", "instanseg"])
    def test_missing_package(self, monkeypatch, small, method):
        monkeypatch.setitem(sys.modules, method, None)  # as if it were not installed
        with pytest.raises(ImportError, match=rf"method='{method}' needs the package .* pip install {method}"):
            find(sdata_of(small[0]), method=method)

    def test_weights_that_cannot_be_had(self, monkeypatch, small):
        def fail(*_, **__):
            raise ConnectionError("no route to host")

        models = types.ModuleType("cellpose.models")
        models.CellposeModel = fail
        self.install(monkeypatch, "cellpose", models=models)
        sdata = sdata_of(small[0])
        with pytest.raises(RuntimeError, match=r"no route to host.*CELLPOSE_LOCAL_MODELS_PATH.*'watershed' needs none"):
            ucs.pp.nuclei(sdata, method="cellpose", um_per_px=UM_PER_PX, progress=False)
        assert "ucs_nuclei" not in sdata

    def test_constant_image(self, monkeypatch):
        self.stardist(monkeypatch, [])
        with pytest.raises(ValueError, match=r"images\['image'\] is constant \(7 everywhere\)"):
            find(sdata_of(np.full((200, 300), 7, np.uint8)), method="stardist")
