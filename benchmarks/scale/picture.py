"""Draw a part of a workload, to look at it: ``python -m benchmarks.scale look STORE --out PICTURE.png [--um 200]``.

Nuclei in grey, transcripts as dots: coloured by the nucleus they were drawn from where the store says so, else by gene.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from spatialdata import SpatialData


def draw(store: Path, out: Path, *, um: float = 200.0, at: tuple[float, float] | None = None) -> None:
    """Write a picture of a square in the middle of the store (or at ``(x, y)``, in um), and print its figures."""
    import matplotlib.pyplot as plt
    import spatialdata as sd

    sdata = sd.read_zarr(store)
    points = next(iter(sdata.points.values()))
    unit = sdata.attrs.get("stereoseq", {}).get("um_per_unit", 1.0)
    labels, um_per_px = _labels(sdata, unit)
    centre = np.array(labels.shape[::-1]) * um_per_px / 2 if at is None else np.asarray(at) + um / 2
    (x0, y0), side = (centre - um / 2) / unit, um / unit
    near = points[(points["x"] >= x0) & (points["x"] < x0 + side) & (points["y"] >= y0) & (points["y"] < y0 + side)]
    frame = near.compute()
    first = ((centre - um / 2) / um_per_px).astype(int)
    last = first + int(um / um_per_px)
    window = np.asarray(labels[first[1] : last[1], first[0] : last[0]])
    colour = frame["cell_id"] if "cell_id" in frame else frame["gene"].cat.codes
    rng = np.random.default_rng(0)
    palette = rng.uniform(0, 0.9, (1000, 3))
    colours = palette[np.asarray(colour) % 1000]
    if "cell_id" in frame:
        colours[np.asarray(frame["cell_id"]) < 0] = 0
    figure, axes = plt.subplots(figsize=(10, 10))
    extent = (x0, x0 + side, y0 + side, y0)
    axes.imshow(window > 0, cmap="Greys", vmin=0, vmax=3, extent=extent, interpolation="nearest")
    axes.scatter(frame["x"], frame["y"], s=3, c=colours, linewidths=0)
    axes.set_title(f"{store.name}: {um:g} um, {len(frame)} transcripts, {len(np.unique(window)) - 1} nuclei")
    figure.savefig(out, dpi=100, bbox_inches="tight")
    plt.close(figure)
    print(f"{out}: {len(frame)} rows, {len(np.unique(window)) - 1} nuclei, {(window > 0).mean():.1%} of it nuclei")


def _labels(sdata: SpatialData, unit: float) -> tuple[Any, float]:
    """Return the finest labels and the size of their pixels in um."""
    from spatialdata.transformations import get_transformation

    element = next(iter(sdata.labels.values()))
    points = next(iter(sdata.points.values()))
    scale = get_transformation(points).to_affine_matrix(("x", "y"), ("x", "y"))[0, 0]
    if hasattr(element, "children"):
        element = next(iter(element["scale0"].to_dataset().values()))
    return element.data, unit / scale
