"""What stains add, by class of cells: ``python -m benchmarks.accuracy.stains [--regimes ...] [--seeds ...]``.

Simulated membranes (with gaps, patches of other brightness, blur and noise) and the inside of cells, true ones and two
that tell nothing: the membranes of other tissue, and noise. ``--real``: polyT of mouse brain, by capture and purity.
"""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pandas as pd
from spatialdata.models import Image2DModel
from spatialdata.transformations import Identity

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.regimes import Field, field_of, run_method, score, summarise
from benchmarks.accuracy.samples import merscope

if TYPE_CHECKING:
    from numpy.typing import NDArray

REGIMES = ("default", "sparse", "loose", "spindle", "crowded", "background", "depth_0.1", "small_among_large", "fibres")
CONTRASTS = {"membrane_contrast": 5.0, "interior_contrast": 3.0}
KINDS = ("none", "membrane", "interior", "both", "other tissue", "noise")


def stained_field(regime: str, seed: int, size: float, resolution: float) -> Field:
    """Simulate a field with true stains, images of another field's, and noise."""
    tissue = {"width_um": size, "height_um": size, **ucs.datasets.REGIMES[regime], **CONTRASTS}
    sdata = ucs.datasets.simulate(seed=seed, **tissue)
    other = ucs.datasets.simulate(seed=seed + 1000, **tissue)
    rng = np.random.default_rng(seed)
    sdata["other"] = _image(_channel(other, "membrane"))
    sdata["noise"] = _image(rng.poisson(200, _channel(sdata, "membrane").shape).astype(np.uint16))
    obs = sdata.tables["true_table"].obs.set_index("cell_id")
    return field_of(sdata, obs["cell_class"].astype(str), resolution)


def _channel(sdata: Any, name: str) -> NDArray[np.uint16]:
    return np.asarray(sdata["morphology_focus"]["scale0"]["image"].sel(c=name))


def _image(channel: NDArray[np.uint16]) -> Any:
    lazy = da.from_array(channel[None], chunks=(1, 1024, 1024))
    return Image2DModel.parse(lazy, dims=("c", "y", "x"), c_coords=["stain"], transformations={"global": Identity()})


def keys_of(kind: str) -> list[str] | None:
    """Return ``stain_keys`` of a kind of stain."""
    of = {
        "none": None,
        "membrane": ["morphology_focus/membrane"],
        "interior": ["morphology_focus/interior"],
        "both": ["morphology_focus/membrane", "morphology_focus/interior"],
        "other tissue": ["other"],
        "noise": ["noise"],
    }
    return of[kind]


def real() -> pd.DataFrame:
    """Return what cells of MERSCOPE mouse brain capture, and how purely, with and without polyT."""
    sample, rows = merscope(), []
    for keys in (None, ["brain_z0/PolyT"], ["brain_z0"]):
        out = ucs.tl.segment(
            sample.sdata, nuclei_key=sample.nuclei_key, read={"stain_keys": keys}, inplace=False, progress=False
        )
        table = ucs.tl.compare(out, {"ours": "ucs_table", **sample.segmentations})
        rows.append({"stains": ", ".join(keys or ["none"]), **table.loc["ours"].to_dict()})
    return pd.DataFrame(rows)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=list(ucs.datasets.REGIMES))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10])
    parser.add_argument("--size", type=float, default=200.0, help="side of the tissue in um")
    parser.add_argument("--resolution", type=float, default=0.5, help="um per pixel")
    parser.add_argument("--real", action="store_true", help="the real sample instead")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    print(describe())
    if options.real:
        print(real().T.to_string())
        return
    tables = []
    for regime in options.regimes:
        parts = []
        for seed in options.seeds:
            field = stained_field(regime, seed, options.size, options.resolution)
            for kind in options.kinds:
                read = {"stain_keys": keys_of(kind)}
                ids, assigned, confidence = run_method(field, options.resolution, seed, read=read)
                cells, bins = score(field, ids, assigned, confidence)
                parts.append((cells.assign(segmentation=kind, radius=np.nan), bins.assign(segmentation=kind)))
        of = {"regime": regime}
        table = summarise(*(pd.concat(frames).assign(**of) for frames in zip(*parts, strict=True)))
        tables.append(table)
        print(f"\n{table.to_string(index=False, float_format=lambda x: f'{x:.3f}')}", flush=True)
    every = pd.concat(tables).pivot_table(index=["regime", "class"], columns="segmentation", values="F1@0.7")
    differences = every.sub(every["none"], axis=0)
    for title, table in (("F1@0.7 less that without stains", differences), ("mean", differences.mean().to_frame().T)):
        print(f"\n{title}\n{table[options.kinds].to_string(float_format=lambda x: f'{x:+.3f}')}")


if __name__ == "__main__":
    main()
