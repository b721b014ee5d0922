"""What a report says in words and numbers."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ucs._utils.checks import listed
from ucs.pp import check

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData

_FEW_CAPTURED = 0.6  # below, as the log of a run says too
_FEW_TRANSCRIPTS = 20  # per cell (median): types can hardly be told apart
_DOUBTFUL = 0.5  # confidence of a cell that is as likely made of another's transcripts
_MANY_DOUBTFUL = 0.1
_TINY_UM2, _MANY_TINY = 10.0, 0.1  # smaller than nearly all nuclei
_VENDOR = (r"cell_boundaries", r"cell_labels", r"(?i:.*cell_?(boundaries|labels|polygons|bounds))")
_PACKAGES = ("spatialdata", "anndata", "numpy", "numba", "scipy", "torch")


class Advice(NamedTuple):
    """Something to be wary of, and what to do about it."""

    text: str
    next_step: str
    serious: bool = False


def vendor_key_of(sdata: SpatialData, vendor_key: str | None, *, of: dict[str, Any]) -> str | None:
    """Return the key given, or that of other cells than ours by its name; None if there are none."""
    there = [key for key in [*sdata.shapes, *sdata.labels] if key not in of.values()]
    if vendor_key is not None:
        if vendor_key not in there:
            msg = f"vendor_key={vendor_key!r} is no other labels or shapes element; there are: {listed(there)}."
            raise KeyError(msg)
        return vendor_key
    return next((key for pattern in _VENDOR for key in there if re.fullmatch(pattern, key)), None)


def checked(sdata: SpatialData, uns: dict[str, Any]) -> Any:
    """Return what :func:`ucs.pp.check` finds: by itself, with its reasons, or else with the parameters of a run."""
    used = uns["parameters"]
    common = {"method": used["method"], "resolution": float(used["resolution"]), "overwrite": True, "estimate": False}
    found = check(sdata, **common)
    source, nuclei = found.get("source") or {}, found.get("nuclei") or {}
    same = (
        (found.get("platform") or {}).get("name") == used["platform"]
        and repr(used["nuclei_key"]) in str(nuclei.get("source"))
        and source.get("um_per_unit") == float(used["um_per_unit"])
    )
    if same:
        return found
    return check(
        sdata,
        used["points_key"] if used["points_key"] in [*sdata.points, *sdata.shapes] else None,
        used["nuclei_key"] if used["nuclei_key"] in sdata else None,
        platform=used["platform"],
        read={"um_per_unit": float(used["um_per_unit"])},
        **common,
    )


def figures_of(cells: AnnData) -> dict[str, str]:
    """Return the key figures of a run."""
    quality, obs = cells.uns["ucs"]["qc"], cells.obs
    share = captured(cells)
    return {
        "cells": f"{cells.n_obs:,}",
        "nuclei": f"{int(quality['n_nuclei']):,}",
        "transcripts read": f"{int(quality['n_rows']):,}",
        "of good quality": f"{int(quality['n_kept']):,}",
        "of these in cells": f"{100 * share:.0f} %",
        "median area": f"{obs['area_um2'].median():.0f} um2",
        "median transcripts per cell": f"{obs['n_transcripts'].median():.0f}",
        "median genes per cell": f"{obs['n_genes'].median():.0f}",
        "median confidence": f"{obs['confidence'].median():.2f}",
        "method": f"{cells.uns['ucs']['parameters']['method']}, threshold "
        f"{float(cells.uns['ucs']['parameters']['threshold']):g}",
    }


def captured(cells: AnnData) -> float:
    """Return the share of the transcripts of good quality that lie in cells."""
    controls = cells.obsm["controls"].sum() if "controls" in cells.obsm else 0
    return float(cells.X.sum() + controls) / max(int(cells.uns["ucs"]["qc"]["n_kept"]), 1)


def advice(cells: AnnData, found: Any, compared: pd.DataFrame) -> list[Advice]:
    """Return what to be wary of, the most serious first."""
    obs, used = cells.obs, cells.uns["ucs"]["parameters"]
    out = [
        Advice(problem["message"], "The cells below should not be used before this is mended.", serious=True)
        for problem in found["problems"]
    ]
    warned = dict.fromkeys([*cells.uns["ucs"].get("warnings", ()), *found["warnings"]])
    out += [Advice(str(text), "See the maps and crops below for its consequences.") for text in warned]
    alignment = found.get("alignment")
    if alignment and cells.uns["ucs"]["qc"].get("alignment") != "aligned" and not found["problems"]:
        text = f"Whether nuclei and transcripts are aligned could not be decided: {alignment['verdict']}."
        out.append(Advice(text, "Look at the crops: nuclei should lie where transcripts are dense."))
    share, median = captured(cells), obs["n_transcripts"].median()
    if share < _FEW_CAPTURED:
        text = f"Only {100 * share:.0f} % of the transcripts lie in cells."
        step = (
            "See the map of unassigned transcripts. If they lie where nuclei are missing, segment with "
            "find_missing=True (--find-missing); if around cells, a lower threshold than "
            f"{float(used['threshold']):g} gives larger ones, at the purity that the curve shows."
        )
        out.append(Advice(text, step))
    if median < _FEW_TRANSCRIPTS:
        text = f"The median cell has {median:.0f} transcripts: too few to tell many cell types apart."
        step = "Leave the poorest cells out (key_added={'min_transcripts': 10}); take borders between cells as rough."
        out.append(Advice(text, step))
    doubtful = float((obs["confidence"] < _DOUBTFUL).mean())
    if doubtful > _MANY_DOUBTFUL:
        text = f"{100 * doubtful:.0f} % of the cells have a confidence below {_DOUBTFUL:g}."
        out.append(Advice(text, "Look at the doubtful places, and leave these cells out: obs['confidence'] > 0.5."))
    tiny = float((obs["area_um2"] < _TINY_UM2).mean())
    if tiny > _MANY_TINY:
        text = f"{100 * tiny:.0f} % of the cells are smaller than {_TINY_UM2:g} um2."
        out.append(Advice(text, "Check the nuclei: fragments, debris, or a wrong unit (um_per_unit=)."))
    if "spurious_excess" in compared and "ucs" in compared.index:
        out += _against_expansions(compared)
    return sorted(out, key=lambda one: not one.serious)


def _against_expansions(compared: pd.DataFrame) -> list[Advice]:
    known = compared[compared["curve"] == "nuclear expansion"].dropna(subset=["spurious_coexpression"])
    ours = compared.loc["ucs"]
    if len(known) < 2 or not known["capture"].min() <= ours["capture"] <= known["capture"].max():
        return []
    known = known.sort_values("capture")
    expected = np.interp(ours["capture"], known["capture"], known["spurious_coexpression"])
    if not ours["spurious_coexpression"] > expected:
        return []
    text = "At the same capture, nuclei expanded by a fixed radius are as pure as these cells or purer."
    step = "Check nuclei and alignment in the crops; compare with another method (method='density')."
    return [Advice(text, step)]


def versions(uns: dict[str, Any]) -> dict[str, str]:
    """Return the versions of the run, and those of the packages that are there now."""
    out = {"spatialdata-ucs (of the run)": str(uns["version"])}
    for name in _PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out
