"""Nuclei on a lattice with transcripts around them of known density, for the tests of the density net."""

from __future__ import annotations

import numpy as np
import torch
from rasters import grid_of_discs, map_from_dense
from scipy import ndimage

from ucs._kernels.lattice import bounding_boxes
from ucs.methods.density.params import DensityParams
from ucs.methods.density.statistics import look_over
from ucs.methods.density.surroundings import survey
from ucs.methods.density.training import DensityData, new_density_net, predict_density
from ucs.methods.model import Selection

CPU = torch.device("cpu")
PARAMS = DensityParams(patch_size=24, max_steps=4, width=8)
REACH = 20
SHAPE = (130, 150)


def density_field(nuclei, um_per_px=1.0):
    """Transcripts per um2: rich nuclei, cells that end 3 um from their nucleus, next to nothing beyond."""
    distance = ndimage.distance_transform_edt(nuclei == 0) * um_per_px
    return np.where(nuclei > 0, 1.2, np.where(distance <= 3, 0.6, 0.03))


def sample(shape=SHAPE, *, spacing=26, seed=0, mine=None, um_per_px=1.0, depth=1.0):
    nuclei = grid_of_discs(shape, spacing, 4)
    rate = depth * density_field(nuclei, um_per_px) * um_per_px**2
    return of(np.random.default_rng(seed).poisson(rate).astype(np.int32), nuclei, mine=mine, um_per_px=um_per_px)


def of(totals, nuclei, *, mine=None, um_per_px=1.0):
    boxes = bounding_boxes(nuclei, int(nuclei.max(initial=0)))
    around = survey(totals, nuclei, boxes, reach=REACH, strength=0.5, um_per_px=um_per_px)
    return DensityData.of(around, mine)


def overviewed(data):
    """The same data, not held as a whole but looked at window by window."""
    around = data.around
    selection = Selection(np.ones(1, dtype=bool), np.zeros(1, dtype=np.int64), 1)
    transcripts = map_from_dense(around.totals[None])
    seen = look_over(transcripts, selection, around.nuclei, reach=REACH, strength=0.5, um_per_px=1.0, tile=96)
    return DensityData.of(seen, data.mine)


def predict(data, net, *, fill=-1.0, **options):
    out = np.full(data.around.totals.shape, fill, dtype=np.float32)
    predict_density(data, net, out, device=CPU, **options)
    return out


def lively(seed=0):
    """A net whose output varies: a new one says the mean of every pixel."""
    net = new_density_net(PARAMS, seed).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(seed), std=0.3)
    return net
