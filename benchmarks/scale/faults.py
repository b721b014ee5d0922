"""Kill runs with ``kill -9`` and look at what is left: ``python -m benchmarks.scale kill [--mpx 1] [--kills 5]``.

An undisturbed run gives the reference and its duration. Then, for each of the random moments of that duration, a run
with ``compute={"resume": True}`` is killed on a fresh clone of the store. After it the store must read, its elements
must be what they were, byte for byte, and cells that are there must be whole. The same call again must end with the
labels and the counts of the reference, bit by bit, and leave nothing behind. With ``--chained`` the kills hit one run
after another, each of which takes up what the ones before have left. A run of 1 Mpx is one tile: with
``--options '{"compute": {"tile_size": 256}}'`` it leaves finished tiles behind, as ``--mpx 4`` and more do.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale._clone import clone, digests, is_metadata
from benchmarks.scale._compare import differences, element_names, leftovers, read
from benchmarks.scale.run import ROOT

PATIENCE = 10
"""A run that takes so many times as long as the reference, and ten minutes more, is given up."""

LONGEST_REFERENCE = 3600.0


@dataclass
class Trial:
    """What one kill has left, and what the run after it has made of it."""

    moment: float
    killed: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    resumed_seconds: float = 0.0

    def show(self, duration: float) -> None:
        """Print it."""
        what = "killed" if self.killed else "had ended before it could be killed"
        verdict = "FAILED: " + "; ".join(self.problems) if self.problems else "store as before"
        verdict += ", labels the same" if self.resumed_seconds and not self.problems else ""
        notes = f" ({'; '.join(self.notes)})" if self.notes else ""
        then = f"; then {self.resumed_seconds:.1f} s" if self.resumed_seconds else ""
        print(f"  {self.moment:7.1f} s ({self.moment / duration:4.0%}): {what}{then}: {verdict}{notes}")


class Faults:
    """Trials on clones of one store, in a folder that is deleted at the end.

    Parameters
    ----------
    store
        The workload; it stays as it is.
    folder
        For clones and scratch files; must be new.
    options
        Further keyword arguments of ``segment`` in every run.
    resume
        Whether runs may be resumed (``compute={"resume": True}``); otherwise the run after a kill starts afresh.
    verbose
        Whether runs show what they log.
    """

    def __init__(
        self,
        store: Path,
        folder: Path,
        *,
        options: dict[str, Any] | None = None,
        resume: bool = True,
        verbose: bool = False,
    ) -> None:
        self.store, self.resume, self.verbose = store, resume, verbose
        self.options = options or {}
        self.before = digests(store)
        self.reference = clone(store, folder / "reference.zarr")
        self.duration = LONGEST_REFERENCE
        self.duration = self._finish(self.reference, self.options)

    def trial(self, moment: float, target: Path, scratch: Path) -> Trial:
        """Kill a run at a moment and look at the store."""
        trial = Trial(moment)
        process, report = self._start(target, self._resuming(scratch))
        begin = self._begin(process, report)
        if begin is not None:
            time.sleep(max(0.0, begin + moment - time.time()))
        trial.killed = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.returncode not in (0, -signal.SIGKILL):
            trial.problems.append(f"the run ended by itself, with exit code {process.returncode}")
        trial.problems += self._look(target, trial.notes)
        return trial

    def kill_once(self, moment: float, target: Path, scratch: Path) -> Trial:
        """Kill a run on a clone, or on what earlier kills have left of it; earlier if the run ends before its time."""
        for attempt in range(5):
            if not target.exists():
                clone(self.store, target)
            trial = self.trial(moment * 0.7**attempt, target, scratch)
            if trial.killed or trial.problems:
                break
            shutil.rmtree(target.parent)
        return trial

    def take_up(self, trial: Trial, target: Path, scratch: Path) -> None:
        """Call the run again and compare its cells with the reference."""
        try:
            trial.resumed_seconds = self._finish(target, self._resuming(scratch))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            trial.problems.append(str(error))
            return
        found = dict.fromkeys([*self._look(target, []), *differences(self.reference, target)])
        trial.problems += [f"after the second run: {line}" for line in found]
        if left := leftovers(target, scratch, self.before):
            trial.notes.append(f"left behind: {', '.join(left[:3])}{' ...' if len(left) > 3 else ''}")

    def _resuming(self, scratch: Path) -> dict[str, Any]:
        if not self.resume:
            return self.options
        scratch.mkdir(parents=True, exist_ok=True)
        compute = {"resume": True, "scratch": str(scratch), **self.options.get("compute", {})}
        return {**self.options, "compute": compute}

    def _start(self, target: Path, options: dict[str, Any]) -> tuple[subprocess.Popen, Path]:
        report = target.with_suffix(".json")
        for old in (report, report.with_suffix(".begun")):
            old.unlink(missing_ok=True)
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale.child", str(target)]
        command += ["--report", str(report), "--options", json.dumps(options)]
        if self.verbose:
            command.append("--verbose")
        return subprocess.Popen(command, cwd=ROOT), report

    def _begin(self, process: subprocess.Popen, report: Path) -> float | None:
        """Wait until a run has read its imports; None if it ended before."""
        begun = report.with_suffix(".begun")
        while process.poll() is None:
            text = begun.read_text() if begun.exists() else ""
            if text.endswith("}"):
                return float(json.loads(text)["begin"])
            time.sleep(0.02)
        return None

    def _finish(self, target: Path, options: dict[str, Any]) -> float:
        """Run to the end; return the seconds."""
        process, report = self._start(target, options)
        try:
            process.wait(600 + PATIENCE * self.duration)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            msg = f"the run on {target.name} failed with exit code {process.returncode}"
            raise RuntimeError(msg)
        found = json.loads(report.read_text())
        return float(found["end"] - found["begin"])

    def _look(self, target: Path, notes: list[str]) -> list[str]:
        """Return what is wrong with a store that was written to."""
        now = digests(target)
        changed = [name for name, digest in self.before.items() if now.get(name) != digest and not is_metadata(name)]
        problems = [f"{len(changed)} files of the store changed or gone, e.g. {changed[0]}"] if changed else []
        names = [name for name in self.before if now.get(name) != self.before[name] and is_metadata(name)]
        if names:
            notes.append(f"metadata changed: {', '.join(names)}")
        try:
            here, there = element_names(read(target)), element_names(read(self.store))
        except Exception as error:  # noqa: BLE001 - whatever a reader raises on a damaged store
            return [*problems, f"the store does not read: {type(error).__name__}: {error}"]
        if missing := there - here:
            problems.append(f"elements are gone: {', '.join(sorted(missing))}")
        if added := here - there:
            notes.append(f"with {', '.join(sorted(added))}")
            problems += differences(self.reference, target)
        return problems


def kill(
    store: Path,
    folder: Path,
    *,
    kills: int = 5,
    seed: int = 0,
    window: tuple[float, float] = (0.0, 1.0),
    chained: bool = False,
    resume: bool = True,
    options: dict[str, Any] | None = None,
    verbose: bool = False,
) -> bool:
    """Print what kills at random moments do to runs on a store; return whether all was well.

    The moments lie in ``window``, in shares of the undisturbed run's duration.
    """
    folder.mkdir(parents=True)
    try:
        faults = Faults(store, folder, options=options, resume=resume, verbose=verbose)
        print(f"{store.name}: undisturbed run {faults.duration:.1f} s")
        moments = np.sort(np.random.default_rng(seed).uniform(*window, kills)) * faults.duration
        if chained:
            moments = np.diff(moments, prepend=0.0)  # of what the kill before has left to do
        trials = []
        for k, moment in enumerate(moments.tolist()):
            place = folder / ("chained" if chained else f"trial-{k}")
            target, scratch = place / "store.zarr", place / "scratch"
            trial = faults.kill_once(moment, target, scratch)
            if not chained or k == kills - 1:
                faults.take_up(trial, target, scratch)
                shutil.rmtree(place)
            trial.show(faults.duration)
            trials.append(trial)
        return not any(trial.problems for trial in trials)
    finally:
        shutil.rmtree(folder)
