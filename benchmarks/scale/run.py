"""Run one case from Zarr to Zarr in a fresh process, and say what it took.

Two ways, both a user's: ``write`` calls ``ucs.tl.segment(sdata, write=True)``, which adds the cells to the store (to a
clone of it here, so that the workload stays as it is); ``output`` runs ``ucs segment STORE --output NEW`` on the
command line, which writes the whole object anew, transcripts with their cells included.

The peak is that of the child as the system counts it. With ``write`` the largest resident set seen in each stage is
shown too, from samples ten times a second, the stages laid end to end in their order.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.scale._clone import clone

ROOT = Path(__file__).parents[2]
WAYS = ("write", "output")
ORDER = (
    "read", "shared", "survey", "train", "cells", "refine", "find missing", "count", "table", "outline",
)  # fmt: skip
"""Stages that are known, as they follow each other."""

_RANK = {name: rank for rank, name in enumerate(ORDER)}


class Sample(NamedTuple):
    """What a process held at a moment: bytes in all, and those that no file stands behind."""

    moment: float
    resident: int
    anonymous: int


@dataclass
class Result:
    """What a run took.

    Attributes
    ----------
    seconds
        From reading the store to the last byte written, without the start of the interpreter.
    process_seconds
        With it.
    peak
        Bytes, of the child.
    found
        See :func:`benchmarks.scale.child.summary`.
    anonymous
        Bytes at most seen that no file stands behind, which the system can not drop; 0 if it does not tell.
    peaks
        Bytes per stage.
    """

    store: Path
    seconds: float
    process_seconds: float
    peak: int
    found: dict[str, Any]
    anonymous: int = 0
    peaks: dict[str, int] = field(default_factory=dict)

    @property
    def mpx(self) -> float:
        """Pixels of the grid, in millions."""
        return self.found["grid"][0] * self.found["grid"][1] / 1e6

    @property
    def peak_beyond_transcripts(self) -> int:
        """Bytes beyond the transcripts held, 12 bytes each."""
        return self.peak - 12 * self.found["transcripts"]

    def show(self) -> None:
        """Print it."""
        found, per_second = self.found, self.found["transcripts"] / self.seconds
        print(f"{self.store.name}: {self.mpx:.1f} Mpx, {found['rows']:,} rows, {found['transcripts']:,} kept, "
              f"{found['genes']:,} genes, {found['cells']:,} cells")  # fmt: skip
        for name, seconds in stages(found, self.seconds).items():
            memory = f"  {self.peaks[name] / 2**30:6.2f} GiB" if name in self.peaks else ""
            print(f"  {name:12s} {seconds:8.1f} s{memory}")
        print(f"  {'all':12s} {self.seconds:8.1f} s  {self.peak / 2**30:6.2f} GiB at most, "
              f"{self.anonymous / 2**30:.2f} of it with no file behind ({self.process_seconds:.1f} s with the "
              "start of the process)")  # fmt: skip
        print(f"  {self.seconds / self.mpx:.2f} s per Mpx, {per_second:,.0f} transcripts per s, "
              f"{self.peak_beyond_transcripts / 2**30:.2f} GiB beyond 12 bytes per transcript")  # fmt: skip
        for name, value in found["memory"].items():
            print(f"  {name}, as the run itself says: {value}")


def stages(found: dict[str, Any], seconds: float) -> dict[str, float]:
    """Return the seconds of each stage that the run tells, and of what is left: between stages, and around them."""
    timings = dict(found["timings"])
    total = timings.pop("total")
    around = "write" if "write" not in timings else "around"
    return {**timings, "in between": max(total - sum(timings.values()), 0.0), around: max(seconds - total, 0.0)}


def measure(
    store: Path, *, way: str = "write", options: dict[str, Any] | None = None, keep: Path | None = None
) -> Result:
    """Run a case in a process of its own.

    Parameters
    ----------
    store
        The workload; it stays as it is.
    way
        ``"write"`` or ``"output"``.
    options
        Keyword arguments of ``segment``.
    keep
        Where the store with the cells is left; deleted if None.

    Raises
    ------
    RuntimeError
        If the run fails.
    """
    target = keep or store.with_name(f".{store.stem}.{os.getpid()}.zarr")
    report = target.with_suffix(".json")
    try:
        if way == "write":
            clone(store, target)
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale.child", str(target)]
            command += ["--report", str(report), "--options", json.dumps(options or {})]
        else:
            command = [sys.executable, "-W", "ignore", "-c", "from ucs.cli import app; app()", "segment", str(store)]
            command += ["--output", str(target), "--quiet", "--overwrite"]
            command += _on_command_line(options or {})
        started, ended, peak, samples = watch(command)
        found = json.loads(report.read_text()) if way == "write" else _of_store(target)
    finally:
        for left in (report, report.with_suffix(".begun")):
            left.unlink(missing_ok=True)
        if keep is None and target.exists():
            shutil.rmtree(target)
    begin = found.get("begin", started)
    seconds = found.get("end", ended) - begin
    anonymous = max((sample.anonymous for sample in samples), default=0)
    result = Result(store, seconds, ended - started, peak, found, anonymous)
    if way == "write":  # a run on the command line does not tell when it began
        result.peaks = _peaks_of_stages(stages(found, seconds), begin, samples)
    return result


def _on_command_line(options: dict[str, Any]) -> list[str]:
    """Return keyword arguments of ``segment``, fields of groups among them, as options of ``ucs segment``."""
    words: list[str] = []
    for name, value in options.items():
        if name == "params":
            words += [word for field, of in value.items() for word in ("--param", f"{field}={of}")]
        elif isinstance(value, dict):
            words += _on_command_line(value)
        else:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def _of_store(path: Path) -> dict[str, Any]:
    import spatialdata as sd

    from benchmarks.scale.child import summary

    found = summary(sd.read_zarr(path, selection=("tables",)).tables["ucs_table"])
    last = len(ORDER)  # the store gives stages back in another order than that of the run
    found["timings"] = dict(sorted(found["timings"].items(), key=lambda item: _RANK.get(item[0], last)))
    return found


def watch(command: list[str]) -> tuple[float, float, int, list[Sample]]:
    """Run a command; return when it started and ended, its peak resident set in bytes, and samples.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    started = time.time()
    process = subprocess.Popen(command, cwd=ROOT)
    samples: list[Sample] = []
    sampler = threading.Thread(target=_sample, args=(process.pid, samples), daemon=True)
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        msg = f"exit code {process.returncode} of {' '.join(command)}"
        raise RuntimeError(msg)
    return started, time.time(), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), samples


def _sample(pid: int, samples: list[Sample]) -> None:
    """Note the resident set of a process until it is gone."""
    statm, page = Path(f"/proc/{pid}/statm"), os.sysconf("SC_PAGE_SIZE")
    while True:
        try:
            _, resident, of_files, *_ = (int(n) * page for n in statm.read_text().split())
            samples.append(Sample(time.time(), resident, resident - of_files))
        except (OSError, ValueError):
            return
        time.sleep(0.1)


def _peaks_of_stages(seconds: dict[str, float], begin: float, samples: list[Sample]) -> dict[str, int]:
    peaks, start = {}, begin
    for name, duration in seconds.items():
        inside = [sample.resident for sample in samples if start <= sample.moment <= start + duration]
        start += 0.0 if name == "in between" else duration
        if inside and name != "in between":
            peaks[name] = max(inside)
    return peaks


def show_curve(results: list[Result]) -> None:
    """Print results of several sizes side by side, and the ratios of the largest to the second smallest one (4 Mpx)."""
    print(f"{'Mpx':>6s} {'transcripts':>13s} {'s':>8s} {'s / Mpx':>8s} {'peak GiB':>9s} {'beyond transcripts':>19s}")
    for result in results:
        beyond = result.peak_beyond_transcripts / 2**30
        print(f"{result.mpx:6.1f} {result.found['transcripts']:13,d} {result.seconds:8.1f} "
              f"{result.seconds / result.mpx:8.2f} {result.peak / 2**30:9.2f} {beyond:19.2f}")  # fmt: skip
    by_size = {round(result.mpx): result for result in results}
    if {4, 41} <= set(by_size):
        small, large = by_size[4], by_size[41]
        time_ratio = (large.seconds / large.mpx) / (small.seconds / small.mpx)
        memory_ratio = large.peak_beyond_transcripts / small.peak_beyond_transcripts
        print(f"s per Mpx, 41 against 4 Mpx: {time_ratio:.2f} (at most 1.15)")
        print(f"peak beyond the transcripts held, 41 against 4 Mpx: {memory_ratio:.2f} (at most 1.5)")
