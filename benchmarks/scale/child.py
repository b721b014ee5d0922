"""One run on a store, in a process of its own: ``python -m benchmarks.scale.child STORE --report FILE [...]``.

Reads the store, calls :func:`ucs.tl.segment` with ``write=True``, as a user would, and writes a report: when the work
began and ended, the stages, what was found. Options of ``segment`` are given as JSON: ``--options '{"compute":
{"resume": true}}'``.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any


def summary(table: Any) -> dict[str, Any]:
    """Return what the table of a run says of it, in types that JSON knows."""
    used = table.uns["ucs"]
    qc = used["qc"]
    return {
        "timings": {name: float(seconds) for name, seconds in used["timings"].items()},
        "memory": {name: _plain(value) for name, value in used.items() if "memory" in name or "peak" in name},
        "cells": int(table.n_obs),
        "genes": int(table.n_vars),
        "rows": int(qc["n_rows"]),
        "transcripts": int(qc["n_kept"]),
        "grid": [int(n) for n in qc["grid_shape"]],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--options", default="{}", help="keyword arguments of segment, as JSON")
    parser.add_argument("--verbose", action="store_true", help="show what the run logs")
    options = parser.parse_args()
    import spatialdata as sd

    import ucs.tl

    logging.getLogger("ome_zarr").setLevel(logging.ERROR)
    if not options.verbose:
        logging.getLogger("ucs").setLevel(logging.WARNING)

    moments = {"begin": time.time()}
    options.report.with_suffix(".begun").write_text(json.dumps(moments))
    sdata = sd.read_zarr(options.store)
    keywords: dict[str, Any] = {"write": True, "overwrite": True, "progress": False, **json.loads(options.options)}
    ucs.tl.segment(sdata, **keywords)
    moments["end"] = time.time()
    found = summary(sdata.tables["ucs_table"])
    options.report.write_text(json.dumps({**moments, **found}))


if __name__ == "__main__":
    main()
