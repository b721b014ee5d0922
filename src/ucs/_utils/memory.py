"""Memory of the machine and of this process, limits, and estimates of what a run needs."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES_PER_PIXEL = 32
"""Memory of all rasters that a run with the published networks holds at a time, per pixel of the grid."""

BYTES_PER_PIXEL_OF_NUCLEI = 4
"""Memory of the nuclei, int32, which are always held in memory."""

PLAIN_PIXELS = 1 << 23
"""Pixels of the largest raster of cells that is a plain array; larger ones are compressed in chunks."""

# Of these rasters at the peak: plain arrays, and compressed.
_BYTES_PER_PLAIN_PIXEL, _BYTES_PER_COMPRESSED_PIXEL = 16, 6

DISK_BYTES_PER_PIXEL = 4
"""Disk space of these rasters in the scratch folder, compressed."""

BYTES_PER_PIXEL_IN_PARTS = 6
"""Memory of all rasters, per pixel of the grid, if it is processed tile by tile."""

BYTES_PER_TRANSCRIPT = 28
"""Memory while transcripts are sorted or features are selected."""

BYTES_PER_TRANSCRIPT_HELD = 12
"""Memory of the sorted map: column, feature and count as int32."""

TRANSCRIPTS_SHARE = 0.5
"""Share of the memory limit that transcripts may fill before they go to disk."""

_LONGEST_SIDE = 2**31 - 2  # pixels: rows and columns are held as int32
_RESERVE = 0.1  # of the available memory: left to other processes
_UNITS = {unit: 1000**k for k, unit in enumerate(("b", "kb", "mb", "gb", "tb"))} | {
    unit: 1024**k for k, unit in enumerate(("", "kib", "mib", "gib", "tib"))
}


def bytes_of_rasters(n_pixels: int) -> int:
    """Return the memory of the rasters of a run of ``n_pixels``, without the nuclei, in bytes."""
    return n_pixels * (_BYTES_PER_PLAIN_PIXEL if n_pixels <= PLAIN_PIXELS else _BYTES_PER_COMPRESSED_PIXEL)


def check_fits_memory(
    extent: NDArray[np.float64], resolution: float, n_transcripts: int, *, bytes_per_pixel: float = BYTES_PER_PIXEL
) -> None:
    """Raise ``MemoryError`` if a grid would not fit into this machine's memory.

    Parameters
    ----------
    extent
        Width and height in pixels.
    resolution
        Side of a pixel in um.
    n_transcripts
        Number of transcripts in memory.
    bytes_per_pixel
        Memory of all rasters held at a time.
    """
    available = machine_memory()
    fixed = n_transcripts * BYTES_PER_TRANSCRIPT
    pixel_bytes = float(extent[0] + 1) * float(extent[1] + 1) * bytes_per_pixel
    size = f"resolution={resolution:g} um gives a grid of {extent[1] + 1:.0f} x {extent[0] + 1:.0f} pixels"
    hint = "If a few transcripts far from all others make it that large, leave them out with read['outlier_um']."
    if pixel_bytes + fixed > available:
        finest = resolution * np.sqrt(pixel_bytes / max(available - fixed, 1))
        msg = (
            f"{size}, which needs about {(pixel_bytes + fixed) / 2**30:.3g} GiB; this machine has "
            f"{available / 2**30:.1f} GiB. The finest resolution that fits is about {finest:.2g} um. {hint}"
        )
        raise MemoryError(msg)
    if max(extent) > _LONGEST_SIDE:
        finest = resolution * max(extent) / _LONGEST_SIDE
        msg = (
            f"{size}; a side may have {_LONGEST_SIDE} of them. The finest resolution that fits is {finest:.2g} um. "
            f"{hint}"
        )
        raise MemoryError(msg)


def parse_limit(limit: str | float | None) -> int | None:
    """Return a memory limit in bytes.

    Parameters
    ----------
    limit
        ``"auto"``: what this process holds plus what is available now, less a reserve; a text such as ``"6 GiB"`` or
        ``"800 MB"``; a number of bytes; or None for no limit.

    Returns
    -------
    Bytes that the process may hold; None if there is no limit.

    Raises
    ------
    ValueError
        If the text is not understood, or the limit is not positive and finite.
    TypeError
        If it is neither a text nor a number.
    """
    if limit is None:
        return None
    if isinstance(limit, str):
        if limit.strip().lower() == "auto":
            return resident_memory() + int(available_memory() * (1 - _RESERVE))
        n_bytes = _bytes_of(limit)
    elif isinstance(limit, bool | np.bool_) or not isinstance(limit, int | float | np.integer | np.floating):
        msg = f"memory_limit={limit!r} must be 'auto', a size such as '6 GiB', a number of bytes, or None."
        raise TypeError(msg)
    else:
        n_bytes = float(limit)
    if not (np.isfinite(n_bytes) and n_bytes >= 1):
        msg = f"memory_limit={limit!r} must be positive and finite: 'auto', a size such as '6 GiB', or bytes."
        raise ValueError(msg)
    return int(n_bytes)


def _bytes_of(text: str) -> float:
    parts = re.fullmatch(r"\s*([+-]?[\d.]+(?:e[+-]?\d+)?)\s*([a-z]*)\s*", text.lower())
    try:
        if parts is not None:
            return float(parts[1]) * _UNITS[parts[2]]
    except (KeyError, ValueError):
        pass
    msg = (
        f"memory_limit={text!r} is not understood: 'auto', or a number of bytes, or one with a unit of B, kB, MB, GB, "
        "TB, KiB, MiB, GiB, TiB, such as '6 GiB'."
    )
    raise ValueError(msg)


def available_memory() -> int:
    """Return the bytes that this process can still allocate, on the machine and in its control group."""
    on_machine, in_group = int(psutil.virtual_memory().available), _available_in_group()
    return on_machine if in_group is None else min(on_machine, in_group)


def _available_in_group(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the bytes left in the tightest control group (version 2) of this process; None without a limit."""
    left = []
    try:
        own = next(line[3:] for line in groups.read_text().splitlines() if line.startswith("0::"))
        folder = root / own.strip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(root) and (group / "memory.max").exists():
                most = (group / "memory.max").read_text().strip()
                if most != "max":
                    used = int((group / "memory.current").read_text())
                    # The page cache is freed when memory is needed.
                    cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
                    left.append(max(int(most) - used + (int(cached[1]) if cached else 0), 0))
    except (OSError, ValueError, StopIteration):
        return min(left) if left else None
    return min(left) if left else None


def machine_memory() -> int:
    """Return the machine's memory in bytes."""
    return int(psutil.virtual_memory().total)


def resident_memory() -> int:
    """Return the bytes that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """Return the most bytes that this process has held."""
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def release_unused() -> None:
    """Return memory that allocators keep for later use to the system, where that is possible."""
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)
