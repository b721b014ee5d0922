"""Digests of what a segmentation reads and of what it gives, part by part, and the environment that they hold in."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import shapely
import torch
from scipy import sparse
from spatialdata import SpatialData


def environment() -> dict[str, str]:
    """What the last bits of a result depend on: versions, the CPU's instructions, the precision of the nets."""
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "maker": str(cpu.get("cpu_name", "unknown")).split()[0],  # libraries of linear algebra go by it, too
        "precision": "bfloat16" if cpu.get("avx512_bf16") or cpu.get("amx_bf16") else "float32",
    }


def digest(*values: Any) -> str:
    """Of arrays, columns, lists of names or bytes: types, shapes and exact values."""
    state = hashlib.blake2b(digest_size=8)
    for value in values:
        array = np.frombuffer(value, dtype=np.uint8) if isinstance(value, bytes) else np.asarray(value)
        if array.dtype.kind in "biuf":
            state.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        else:  # text or categories
            state.update(repr(array.tolist()).encode())
    return state.hexdigest()


def of_input(sdata: SpatialData, points_key: str, gene_key: str, nuclei_key: str) -> str:
    """Of transcripts and nuclei: labels, at their finest scale, or shapes."""
    points, nuclei = sdata.points[points_key].compute(), sdata[nuclei_key]
    if nuclei_key in sdata.shapes:
        nuclei = _wkb(nuclei)
    elif "scale0" in nuclei:
        nuclei = nuclei["scale0"]["image"]
    return digest(points["x"], points["y"], points[gene_key].astype(str), nuclei)


def of_cells(
    sdata: SpatialData, labels: Sequence[str], shapes: str, table: str, points: str, columns: Sequence[str]
) -> dict[str, str]:
    """Name of each part of a result -> its digest, given the keys of the elements and the columns of the points."""
    of_table, of_shapes, of_points = sdata[table], sdata[shapes], sdata[points].compute()
    genes = list(of_table.var_names)
    parts = {f"labels/{key}": digest(sdata[key]) for key in labels}
    parts |= {"counts": digest(*_canonical(of_table.X), genes), "outlines": digest(of_shapes.index, _wkb(of_shapes))}
    parts |= {f"layers/{key}": digest(*_canonical(layer), genes) for key, layer in of_table.layers.items()}
    parts |= {f"obs/{key}": digest(column) for key, column in of_table.obs.items()}
    for key, each in of_table.obsm.items():
        entries = _canonical(each) if sparse.issparse(each) else [each, list(getattr(each, "columns", []))]
        parts[f"obsm/{key}"] = digest(*entries)
    return parts | {f"points/{key}": digest(of_points[key]) for key in columns}


def _wkb(shapes: Any) -> bytes:
    return b"".join(shapely.to_wkb(shapes.geometry.to_numpy()))


def _canonical(counts: Any) -> tuple[Any, ...]:
    """Arrays of a matrix that are the same in whichever order its entries are, and with or without stored zeros."""
    counts = sparse.csr_matrix(counts, copy=True)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    return counts.indptr.astype(np.int64), counts.indices.astype(np.int64), counts.data
