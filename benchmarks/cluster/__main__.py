"""Share a slide among processes, and estimate it for GPUs: ``python -m benchmarks.cluster [--workers 1 2 4]``.

Measured: the slide of ``benchmarks/scale`` with 1, 2 and 4 workers on this machine, each a process with one thread, and
the parts that such a run is made of. Estimated from these: 8 workers and 100 whole slides, with nets as fast as on this
machine's CPU and with nets that take no time, between which any GPU lies. The estimate leaves out that several jobs
share one disk; bytes per second say what that disk must bear.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path

from benchmarks._machine import describe
from benchmarks.cluster.estimate import WHOLE_MPX, estimate
from benchmarks.cluster.parts import Parts, Run, measure, scheduler_seconds, segment, workers
from benchmarks.scale.__main__ import MPX, slide


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(tempfile.gettempdir()) / "scale"
    parser.add_argument("--folder", type=Path, default=default, help="of the workloads (%(default)s)")
    parser.add_argument("--mpx", type=int, choices=MPX, default=1)
    parser.add_argument("--um", type=float, help="side of a corner of the slide that is used instead of all")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--tile-size", type=int, default=480, help="in pixels (%(default)s)")
    options = parser.parse_args()
    import spatialdata as sd
    from spatialdata.transformations import get_transformation

    import ucs

    for name in ("ucs", "ome_zarr", "distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options.folder.mkdir(parents=True, exist_ok=True)
    sdata, mpx = sd.read_zarr(slide(options.folder, options.mpx)), float(options.mpx)
    if options.um:
        to_global = get_transformation(sdata.points["transcripts"]).to_affine_matrix(("x",), ("x",))
        side = options.um * to_global[0, 0]  # of points in um
        corners = {"min_coordinate": [0, 0], "max_coordinate": [side, side]}
        sdata = sd.bounding_box_query(sdata, axes=("x", "y"), target_coordinate_system="global", **corners)
        mpx = options.um**2 / 1e6
    print(f"{describe()}; load of {os.cpu_count()} cores by others: {os.getloadavg()[0]:.1f}", flush=True)
    model = ucs.tl.train(sdata, progress=False)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        scratch = Path(folder)
        segment(sdata, model, options.tile_size, scratch)  # compiles kernels
        parts = measure(sdata, model, mpx, options.tile_size, scratch)
        print(f"{'workers':>8s} {'tiles s':>8s} {'speed-up':>9s} {'all s':>8s} {'start s':>8s}", flush=True)
        runs: dict[int, Run] = {}
        for n in options.workers:
            with workers(n) as client:
                first = segment(sdata, model, options.tile_size, scratch)  # loads kernels
                runs[n] = run = segment(sdata, model, options.tile_size, scratch)
                parts.scheduler_seconds = scheduler_seconds(client)
            gain = runs[options.workers[0]].seconds["cells"] / run.seconds["cells"]
            start = first.seconds["cells"] - run.seconds["cells"]
            print(
                f"{n:8d} {run.seconds['cells']:8.2f} {gain:9.2f} {run.seconds['total']:8.1f} {start:8.2f}", flush=True
            )
    _add_tasks(parts, run)
    show_parts(parts)
    show_estimates(parts)


def _add_tasks(parts: Parts, run: Run) -> None:
    parts.bytes_per_task = sum(run.bytes_of_tasks) / len(run.bytes_of_tasks)
    parts.bytes_of_predictor = run.bytes_of_predictor
    parts.bytes_per_result = run.bytes_of_results / len(run.bytes_of_tasks)


def show_parts(parts: Parts) -> None:
    """Print the parts."""
    print()
    for name, value in parts.as_dict().items():
        print(f"{name:20s} {value:14,.4f}" if isinstance(value, float) else f"{name:20s} {value:14,d}")


def show_estimates(parts: Parts) -> None:
    """Print what other machines would take."""
    print(f"\n{'slides':>7s} {'workers':>8s} {'nets':>8s} {'together':>10s} {'apart':>10s} {'MB/s':>8s}  bound by")
    for slides, n in ((1, 1), (1, 8), (100, 1), (100, 8)):
        for nets in (True, False):
            made = estimate(parts, workers=n, slides=slides, nets=nets)
            print(f"{slides:7d} {n:8d} {'as here' if nets else 'no time':>8s} {_hours(made.together):>10s} "
                  f"{_hours(made.apart):>10s} {made.bytes_per_second / 1e6:8.1f}  {made.bound_by}")  # fmt: skip
    print(f"of {WHOLE_MPX} Mpx each; together: workers share each slide; apart: each worker has slides of its own")


def _hours(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    main()
