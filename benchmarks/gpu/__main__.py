"""Check the engine on a GPU, and time it: ``python -m benchmarks.gpu OUT.json [--reduced] [--device cuda]``.

For a machine with torch, numba, numpy and scipy that may have neither SpatialData nor this package: run it in the root
of a clone. It takes six minutes at most. All that is found goes to one JSON file, which is written after each part; the
exit status is 0 only if every check passed and no part failed. ``--reduced`` does the same with next to nothing of it,
on any machine: it says that the check runs, and no figure of it means anything.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.gpu._bare import make_importable

SECONDS = 345.0
"""For all parts together: six minutes less what starting and ending take."""
REDUCED_SECONDS = 3000.0
"""The same where it is to run, on a machine that may do much else."""

_SHARES = {"machine": 15.0, "warm_up": 60.0, "checks": 80.0, "timings": 120.0, "graphs": 40.0, "batches": 30.0}
_PACKAGES = ("torch", "triton", "numba", "numpy", "scipy", "safetensors", "spatialdata")


def main() -> None:
    """Do all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the JSON file")
    parser.add_argument("--device", default="auto", help="as in ComputeOptions (%(default)s)")
    parser.add_argument("--reduced", action="store_true", help="next to nothing of it, to see that it runs")
    parser.add_argument(
        "--seconds", type=float, help=f"for all parts together ({SECONDS:g}; reduced: {REDUCED_SECONDS:g})"
    )
    options = parser.parse_args()
    start = time.perf_counter()
    replaced = make_importable()

    from benchmarks.gpu.report import Report
    from ucs.methods.device import resolve_device

    device = resolve_device(options.device)
    if device.type == "cpu" and not options.reduced:
        parser.error("there is no GPU here: pass --reduced to see that the check runs")
    seconds = options.seconds or (REDUCED_SECONDS if options.reduced else SECONDS)
    report = Report(options.out, seconds, device=str(device), reduced=options.reduced, stand_ins=replaced)
    report.content["import_seconds"] = time.perf_counter() - start
    work = _parts(device, reduced=options.reduced)
    later = dict(_SHARES)
    for name, one in work.items():
        later.pop(name)
        report.part(name, one, later=sum(later.values()) * seconds / sum(_SHARES.values()))
    passed = report.finish()
    print(f"{options.out}: {'passed' if passed else 'FAILED: ' + ', '.join(report.content['failures'])}")
    sys.stdout.flush()
    sys.exit(0 if passed and report.content["complete"] else 1)


def _parts(device: Any, *, reduced: bool) -> dict[str, Any]:
    from benchmarks.gpu import checks, speed, timings
    from benchmarks.gpu.nets import all_nets

    known: dict[str, Any] = {"peak": float("nan"), "flops": {}}

    def machine(found: dict[str, Any], _end: float) -> None:
        found.update(_machine(device))
        known["peak"] = found["peak_flops"] = speed.peak_flops(device, side=256 if reduced else 8192)
        nets = all_nets(side=speed.SMALL_SIDE if reduced else None)
        known["flops"] = found["flops_of_a_block"] = {name: one.flops() for name, one in nets.items()}

    def warm_up(_found: dict[str, Any], end: float) -> None:
        """Compile the kernels, and let the GPU's libraries start."""
        if not reduced:
            checks.run_checks({}, end, device, reduced=True)

    return {
        "machine": machine,
        "warm_up": warm_up,
        "checks": lambda found, end: checks.run_checks(found, end, device, reduced=reduced),
        "timings": lambda found, end: timings.time_stages(
            found, end, device, known["flops"], known["peak"], reduced=reduced
        ),
        "graphs": lambda found, end: speed.compare_graphs(found, end, device, reduced=reduced),
        "batches": lambda found, end: speed.sweep_batches(found, end, device, reduced=reduced),
    }


def _machine(device: Any) -> dict[str, Any]:
    import torch

    from benchmarks._machine import describe

    found: dict[str, Any] = {"cpu": describe(), "cores": os.cpu_count(), "python": platform.python_version()}
    found["packages"] = {}
    for name in _PACKAGES:
        try:
            found["packages"][name] = version(name)
        except PackageNotFoundError:
            found["packages"][name] = None
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found["gpu"] = about.name
        found["gpu_gib"] = about.total_memory / 2**30
        found["capability"] = torch.cuda.get_device_capability(device)
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return found


if __name__ == "__main__":
    main()
