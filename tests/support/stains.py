"""Images of nuclear stains with known nuclei, and what is found in them."""

from __future__ import annotations

import runpy
from pathlib import Path

import dask.array as da
import numpy as np
from scipy import ndimage
from skimage.measure import label
from spatialdata import SpatialData
from spatialdata.models import Image2DModel

import ucs

UM_PER_PX = 0.2125
IMAGES = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "nuclei" / "images.py"))


def dapi(seed, size=100.0, tissue="touching", **options):
    """A degraded image and its nuclei."""
    parameters = IMAGES["TISSUES"][tissue] | IMAGES["FAST"]
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **parameters)
    image = np.asarray(sdata.images["morphology_focus"]["scale0"]["image"][0])
    truth = np.asarray(sdata.labels["nucleus_labels"]["scale0"]["image"])
    return IMAGES["degrade"](image, seed, um_per_px=UM_PER_PX, **options), truth


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
