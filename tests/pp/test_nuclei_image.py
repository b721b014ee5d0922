from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from scipy import ndimage
from skimage.measure import label
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Image3DModel, Labels2DModel, PointsModel
from spatialdata.transformations import Affine, Identity, Scale, Sequence, Translation, get_transformation

import ucs
from helpers import cheap_copy
from ucs.pp._nuclei_objects import label_objects
from ucs.pp._nuclei_tiles import Raster, in_order, renumbering, tiles
from ucs.pp._nuclei_watershed import WatershedParams

UM_PER_PX = 0.2125
IMAGES = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "nuclei" / "images.py"))


def dapi(seed, size=100.0, tissue="touching", **options):
    """A degraded image and its nuclei."""
    parameters = IMAGES["TISSUES"][tissue] | IMAGES["FAST"]
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **parameters)
    image = np.asarray(sdata.images["morphology_focus"]["scale0"]["image"][0])
    truth = np.asarray(sdata.labels["nucleus_labels"]["scale0"]["image"])
    return IMAGES["degrade"](image, seed, um_per_px=UM_PER_PX, **options), truth


@pytest.fixture(scope="module")
def small():
    return dapi(0)


def image_element(image, channels=("DAPI",), chunks=150, **options):
    image = np.asarray(image)
    image = image[None] if image.ndim == 2 else image
    lazy = da.from_array(image, chunks=(1, chunks, chunks))
    return Image2DModel.parse(lazy, dims=("c", "y", "x"), c_coords=list(channels), **options)


def sdata_of(image, channels=("DAPI",), **options):
    return SpatialData(images={"image": image_element(image, channels, **options)})


def find(sdata, *args, **options):
    options = {"um_per_px": UM_PER_PX, "progress": False, "inplace": False} | options
    return np.asarray(ucs.pp.nuclei(sdata, *args, **options).labels["ucs_nuclei"])


def f1(truth, labels):
    return float(ucs.metrics.match(truth, labels, thresholds=[0.5])["f1"].iloc[0])


def blobs(image):
    """A method whose answer for a nucleus depends on what is near only."""
    return label(ndimage.gaussian_filter(image[0].astype(float), 3) > 900)


class TestWatershed:
    @pytest.mark.parametrize("seed", range(10))
    def test_simulated_dapi(self, seed):
        """Blur, noise, uneven light, and about half of the nuclei touching another."""
        image, truth = dapi(seed)
        assert IMAGES["touching_share"](truth) > 0.3
        assert f1(truth, find(sdata_of(image))) >= 0.85

    @pytest.mark.parametrize("tissue", ["default", "large", "small", "spindle"])
    def test_nuclei_of_any_kind(self, tissue):
        image, truth = dapi(0, 120, tissue)
        assert f1(truth, find(sdata_of(image))) >= 0.9

    def test_breast(self, breast):
        ucs.pp.nuclei(breast, progress=False)
        truth = np.asarray(breast.labels["nucleus_labels"]["scale0"]["image"])
        assert f1(truth, np.asarray(breast.labels["ucs_nuclei"])) >= 0.85

    def test_the_same_for_any_tiles(self, small):
        sdata = sdata_of(small[0])
        whole = find(sdata, tile_size=4096)
        for tile_size in (256, 700, 101, 64):
            np.testing.assert_array_equal(find(sdata, tile_size=tile_size), whole)
        np.testing.assert_array_equal(find(sdata_of(small[0], chunks=77), tile_size=256), whole)

    def test_the_same_for_any_tiles_with_many_nuclei(self):
        image, _ = dapi(3, 180, "heaped")
        sdata = sdata_of(image)
        np.testing.assert_array_equal(find(sdata, tile_size=256), find(sdata, tile_size=4096))

    def test_ids_are_dense_and_in_raster_order(self, small):
        labels = find(sdata_of(small[0]))
        assert labels.dtype == np.uint32
        ids, first = np.unique(labels, return_index=True)
        assert ids.tolist() == list(range(len(ids)))
        assert (np.diff(first[1:]) > 0).all()

    def test_nuclei_are_connected_whole_and_of_the_right_size(self, small):
        labels = find(sdata_of(small[0]))
        area = np.bincount(labels.ravel())[1:] * UM_PER_PX**2
        assert 8 * 0.9 <= area.min() <= area.max() <= 400
        for k, box in enumerate(ndimage.find_objects(labels), start=1):
            assert ndimage.label(labels[box] == k)[1] == 1
        assert np.bincount(find(sdata_of(small[0]), min_area=30).ravel())[1:].min() * UM_PER_PX**2 >= 30 * 0.9

    def test_any_type(self, small):
        image, truth = small
        scaled = image / image.max()
        for other in ((scaled * 255).astype(np.uint8), scaled, scaled.astype(np.float32), image.astype(">u2")):
            assert f1(truth, find(sdata_of(other))) >= 0.85

    @pytest.mark.parametrize("um_per_px", [0.1, 0.35, 0.5, 1.0])
    def test_any_pixel_size(self, small, um_per_px):
        image, truth = small
        zoom = UM_PER_PX / um_per_px
        blurred = ndimage.gaussian_filter(image.astype(np.float32), max(0, 0.4 / zoom - 0.4))
        labels = find(sdata_of(ndimage.zoom(blurred, zoom, order=1)), um_per_px=um_per_px)
        assert f1(ndimage.zoom(truth, zoom, order=0), labels) >= 0.85

    def test_light_and_padding(self):
        image, truth = dapi(1, dimmest=0.1)
        assert f1(truth, find(sdata_of(image))) >= 0.8
        padded = np.zeros((900, 1100), dtype=np.uint16)
        padded[200:-229, 300:-329] = image
        assert f1(np.pad(truth, ((200, 229), (300, 329))), find(sdata_of(padded))) >= 0.8

    def test_empty_tissue_has_no_nuclei(self):
        """Neither in tiles with nothing but noise, nor because others have nuclei."""
        image, truth = dapi(2, 60)
        wide = np.random.default_rng(0).poisson(130, (600, 900)).astype(np.uint16)
        wide[: image.shape[0], : image.shape[1]] = image
        labels = find(sdata_of(wide), tile_size=150)
        assert f1(np.pad(truth, [(0, 600 - len(truth)), (0, 900 - len(truth))]), labels) >= 0.8
        assert np.isin(labels[320:], 0).all()

    def test_tiny_images(self):
        image = np.random.default_rng(0).normal(100, 1, (50, 47))
        rows, columns = np.mgrid[:50, :47]
        disc = (rows - 20) ** 2 + (columns - 22) ** 2 <= 14**2
        image[disc] += 500
        labels = find(sdata_of(image))
        assert labels.max() == 1
        assert f1(disc.astype(int), labels) == 1
        with pytest.raises(ValueError, match="constant|no nuclei|noise"):
            find(sdata_of(image[:1, :1]))

    def test_parameters(self, small):
        with pytest.raises(TypeError, match=r"no option 'blobb'; it has: smoothing, blob"):
            find(sdata_of(small[0]), blobb=2)
        with pytest.raises(ValueError, match=r"contrast=-1 must be a number, 0 or above"):
            find(sdata_of(small[0]), contrast=-1)
        with pytest.raises(ValueError, match="must be positive, and min_area=9"):
            WatershedParams(min_area=9, max_area=8)
        with pytest.raises(ValueError, match="takes one channel, 2 given"):
            find(sdata_of(np.stack([small[0]] * 2), ["DAPI", "18S"]), channel=["DAPI", "18S"])


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
        source = ucs.pp._sample.find_source(sdata)
        sample = ucs.pp._sample.prepare(sdata, source, "ucs_nuclei")
        assert sample.alignment != "unchecked"
        assert len(sample.nuclei.ids) > 100


class TestBadImages:
    @pytest.mark.parametrize("method", ["watershed", "stardist"])
    def test_constant(self, method, monkeypatch):
        TestNetworks().stardist(monkeypatch, [])
        with pytest.raises(ValueError, match=r"images\['image'\] is constant \(7 everywhere\)"):
            find(sdata_of(np.full((200, 300), 7, np.uint8)), method=method)

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


def test_tiles_share_out_the_pixels():
    counts = np.zeros((70, 45), dtype=int)
    for window in tiles(counts.shape, 32):
        counts[window.slices] += 1
    assert (counts == 1).all()


def test_results_come_in_order_and_errors_come_through():
    windows = tiles((100, 100), 10)
    assert list(in_order(lambda window: window, windows)) == windows

    def fail(window):
        if window.top == 50:
            raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        list(in_order(fail, windows))


def test_renumbering():
    first = np.array([0, 50, 7, 30, 9])
    assert renumbering(first, np.array([True, True, True, False, True])).tolist() == [0, 3, 1, 0, 2]
