"""Whole slides: make the workloads, run them, kill them.

    python -m benchmarks.scale generate --mpx 41        # the breast slide, or a crop of 1, 4 or 16 Mpx
    python -m benchmarks.scale generate-chip --size 6000  # a Stereo-seq chip, or its central part
    python -m benchmarks.scale slide --mpx 41           # one run, Zarr to Zarr, in a fresh process
    python -m benchmarks.scale stereoseq --size 6000
    python -m benchmarks.scale run STORE                # any other store
    python -m benchmarks.scale curve                    # 1, 4, 16, 41 Mpx, and the ratios
    python -m benchmarks.scale kill --mpx 1             # kill -9 at five moments, then resume
    python -m benchmarks.scale look STORE --out PNG

Workloads lie in ``--folder`` and are made there if they are not.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from benchmarks._machine import describe, peak_gib
from benchmarks.scale.run import WAYS, measure, show_curve

MPX = (1, 4, 16, 41)


def slide(folder: Path, mpx: int, *, seed: int = 0, threads: int = 1, anew: bool = False) -> Path:
    """Return the store of a slide; it is made if it is not there."""
    path = folder / f"slide_{mpx}.zarr"
    if anew or not path.exists():
        from benchmarks.scale.workload import write_slide

        write_slide(path, mpx, seed=seed, threads=threads)
    return path


def chip(folder: Path, size: list[int] | None, *, seed: int = 0, threads: int = 1, anew: bool = False) -> Path:
    """Return the store of a chip; it is made if it is not there."""
    from benchmarks.scale.stereoseq import WHOLE, write_chip

    shape = WHOLE if not size else (size[0], size[-1])
    path = folder / ("chip.zarr" if shape == WHOLE else f"chip_{'x'.join(str(n) for n in dict.fromkeys(shape))}.zarr")
    if anew or not path.exists():
        write_chip(path, shape, seed=seed, threads=threads)
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    names = ("generate", "generate-chip", "slide", "stereoseq", "run", "curve", "kill", "look")
    of = {name: commands.add_parser(name) for name in names}
    for name, command in of.items():
        default = Path(tempfile.gettempdir()) / "scale"
        command.add_argument("--folder", type=Path, default=default, help="of the workloads (%(default)s)")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--threads", type=int, default=1, help="to make workloads with")
        if name in ("generate", "slide", "kill"):
            command.add_argument("--mpx", type=int, choices=MPX, default=1 if name == "kill" else 41)
        if name in ("generate-chip", "stereoseq"):
            command.add_argument("--size", type=int, nargs="+", help="rows (and columns) of the central part")
        if name in ("run", "look"):
            command.add_argument("store", type=Path)
        if name in ("slide", "stereoseq", "run", "curve", "kill"):
            command.add_argument("--options", type=json.loads, default={}, help="of segment, as JSON")
        if name in ("slide", "stereoseq", "run", "curve"):
            command.add_argument("--no-warm-up", action="store_true", help="no small run before, that compiles kernels")
            command.add_argument("--way", choices=WAYS, default="write", help="into the store, or to a new one")
        if name in ("slide", "stereoseq", "run"):
            command.add_argument("--keep", type=Path, help="leave the store with the cells here")
    of["curve"].add_argument("--mpx", type=int, nargs="+", choices=MPX, default=list(MPX))
    of["kill"].add_argument("--verbose", action="store_true", help="show what the runs log")
    of["kill"].add_argument("--kills", type=int, default=5)
    of["kill"].add_argument("--window", type=float, nargs=2, default=[0.0, 1.0], help="where kills fall, e.g. 0.9 1")
    of["kill"].add_argument("--chained", action="store_true", help="one run after another of the same store")
    of["kill"].add_argument("--without-resume", action="store_true", help="the run after a kill starts afresh")
    of["look"].add_argument("--out", type=Path, required=True)
    of["look"].add_argument("--um", type=float, default=200.0)
    of["look"].add_argument("--at", type=float, nargs=2, metavar=("X", "Y"))
    return parser


def _run_cases(options: argparse.Namespace, making: dict[str, Any]) -> None:
    stores = {
        "slide": lambda: [slide(options.folder, options.mpx, **making)],
        "stereoseq": lambda: [chip(options.folder, options.size, **making)],
        "run": lambda: [options.store],
        "curve": lambda: [slide(options.folder, mpx, **making) for mpx in sorted(options.mpx)],
    }[options.command]()
    print(describe())
    if not options.no_warm_up and options.command != "run":
        of_chip = options.command == "stereoseq"
        small = chip(options.folder, [1000], **making) if of_chip else slide(options.folder, 1, **making)
        print(f"first run, on {small.name}, which may compile kernels: {measure(small).process_seconds:.1f} s")
    results = []
    for store in stores:
        result = measure(store, way=options.way, options=options.options, keep=getattr(options, "keep", None))
        result.show()
        results.append(result)
    if options.command == "curve":
        show_curve(results)


def main() -> None:
    """Do what the command line says."""
    logging.getLogger("ome_zarr").setLevel(logging.ERROR)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # lines appear as they come, in a file too
    options = _parser().parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    making = {"seed": options.seed, "threads": options.threads}
    if options.command in ("generate", "generate-chip"):
        if options.command == "generate":
            slide(options.folder, options.mpx, anew=True, **making)
        else:
            chip(options.folder, options.size, anew=True, **making)
        print(f"peak memory {peak_gib():.2f} GiB")
    elif options.command == "look":
        from benchmarks.scale.picture import draw

        draw(options.store, options.out, um=options.um, at=options.at)
    elif options.command == "kill":
        from benchmarks.scale.faults import kill

        well = kill(
            slide(options.folder, options.mpx, **making),
            options.folder / f"kill-{os.getpid()}",
            kills=options.kills,
            seed=options.seed,
            window=tuple(options.window),
            chained=options.chained,
            resume=not options.without_resume,
            options=options.options,
            verbose=options.verbose,
        )
        sys.exit(0 if well else 1)
    else:
        _run_cases(options, making)


if __name__ == "__main__":
    main()
