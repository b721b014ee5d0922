"""Tables of transcripts, and their reading as the preparation does it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scenes import make_points
from spatialdata import SpatialData

from ucs._read.elements import PointsElement
from ucs._read.platforms import GENERIC
from ucs._read.transcripts import TranscriptColumns, read_transcripts


def frame(x, y, genes, **columns):
    return pd.DataFrame({"x": x, "y": y, "feature_name": pd.Categorical(genes), **columns})


def many_points(n=4000, *, counts=True, n_genes=30, seed=0, dtype=np.float32):
    """Anywhere around the origin, over several bands of rows, in pixels that have more than one."""
    random = np.random.default_rng(seed)
    columns = {"qv": random.uniform(15, 40, n).astype(np.float32)}
    if counts:
        columns["count"] = random.integers(0, 4, n)
    x, y = random.uniform(-20, 30, n).astype(dtype), random.uniform(-300, 250, n).astype(dtype)
    return frame(x, y, [f"G{k:05d}" for k in random.integers(0, n_genes, n)], **columns)


def read(points, *, platform=GENERIC, resolution=1.0, um_per_unit=1.0, npartitions=1, **options):
    element = make_points(points, npartitions=npartitions) if isinstance(points, pd.DataFrame) else points
    columns = TranscriptColumns.of(element, "feature_name", platform)
    sdata = SpatialData(points={"transcripts": element})
    return read_transcripts(
        sdata,
        (PointsElement("transcripts", columns),),
        platform,
        resolution=resolution,
        um_per_unit=um_per_unit,
        **options,
    )


def assert_same(a, b):
    assert a.grid == b.grid
    assert (a.genes, a.controls, a.n_rows, a.n_low_quality) == (b.genes, b.controls, b.n_rows, b.n_low_quality)
    for name in ("row_start", "column", "feature", "count"):
        np.testing.assert_array_equal(getattr(a.map, name), getattr(b.map, name))
