"""How much memory there is, how much is held, and how much a run takes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES_PER_PIXEL = 32
"""Of all the rasters that a run holds at once, per pixel of the grid."""

BYTES_PER_TRANSCRIPT = 60
"""While transcripts are brought into order; 12 of them stay."""


def check_fits_memory(extent: NDArray[np.float64], resolution: float, n_transcripts: int) -> None:
    """Raise ``MemoryError`` if a grid would not fit into this machine's memory, with the numbers.

    Parameters
    ----------
    extent
        Width and height in pixels.
    resolution
        Side of a pixel in um.
    n_transcripts
        Transcripts held.
    """
    available = machine_memory()
    fixed = n_transcripts * BYTES_PER_TRANSCRIPT
    pixel_bytes = float(extent[0] + 1) * float(extent[1] + 1) * BYTES_PER_PIXEL
    if available is None or pixel_bytes + fixed <= available:
        return
    finest = resolution * np.sqrt(pixel_bytes / max(available - fixed, 1))
    msg = (
        f"resolution={resolution:g} um gives a grid of {extent[1] + 1:.0f} x {extent[0] + 1:.0f} pixels, which needs "
        f"about {(pixel_bytes + fixed) / 2**30:.3g} GiB; this machine has {available / 2**30:.1f} GiB. The finest "
        f"resolution that fits is about {finest:.2g} um."
    )
    raise MemoryError(msg)


def machine_memory() -> int | None:
    """Return the machine's memory in bytes, or None if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def resident_memory() -> int:
    """Return the bytes that this process holds now; where the system does not tell, the most it has held, or 0."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
