"""A small GEF file, as geftools writes it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

GENES = ["Xist", "Actb", "Gapdh"]  # as stored: by count, not by name
IDS = ["ENS2", "ENS1", "ENS3"]
COUNTS = [2, 3, 1]
X, Y = [4, 0, 3, 3, 8, 300], [5, 7, 5, 6, 0, 2]
MOLECULES = [1, 2, 1, 1, 4, 200]


def write_gef(path: Path, *, modern: bool = True, exon: bool = True, bins: tuple[int, ...] = (1,), **changed) -> Path:
    """A square-bin GEF as geftools writes it: three columns of genes at first, four since version 4."""
    width = 64
    names = [("geneID", f"S{width}"), ("geneName", f"S{width}")] if modern else [("gene", f"S{width}")]
    with h5py.File(path, "w") as file:
        file.attrs["version"] = np.array([4 if modern else 2], dtype=np.uint32)
        file.attrs["omics"] = np.array([b"Transcriptomics"], dtype="S32")
        for size in bins:
            group = file.create_group(f"geneExp/bin{size}")
            rows = np.zeros(len(X), dtype=[("x", "<i4"), ("y", "<i4"), ("count", "u1")])
            rows["x"], rows["y"], rows["count"] = np.array(X) // size * size, np.array(Y) // size * size, MOLECULES
            expression = group.create_dataset("expression", data=changed.get("expression", rows))
            for name, value in {"minX": 9600, "minY": 12600, "resolution": changed.get("resolution", 500)}.items():
                expression.attrs[name] = np.array([value], dtype=np.uint32)
            table = np.zeros(len(GENES), dtype=[*names, ("offset", "<u4"), ("count", "<u4")])
            for name, _ in names:
                table[name] = IDS if name == "geneID" else changed.get("genes", GENES)
            table["count"] = changed.get("counts", COUNTS)
            table["offset"] = np.cumsum(table["count"]) - table["count"]
            group.create_dataset("gene", data=table)
            if exon:
                group.create_dataset("exon", data=np.array([1, 1, 0, 1, 3, 150], dtype=np.uint8))
    return path
