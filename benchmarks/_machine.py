"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import resource
import sys


def describe() -> str:
    """Return processor, threads and versions in one line."""
    import numba
    import torch

    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110 - one look, no path object needed
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123
            name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return (
        f"{name}, {torch.get_num_threads()} threads, python {platform.python_version()}, torch {torch.__version__}, "
        f"numba {numba.__version__}"
    )


def peak_gib() -> float:
    """Return the peak resident set of this process in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
