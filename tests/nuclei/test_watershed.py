from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from stains import IMAGES, UM_PER_PX, dapi, f1, find, sdata_of

import ucs
from ucs._nuclei.watershed import WatershedParams


class TestWatershed:
    @pytest.mark.parametrize("seed", [0, 1, *(pytest.param(k, marks=pytest.mark.slow) for k in range(2, 10))])
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
