"""Parameters of simulated tissue with their ranges."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Self

import numpy as np

from ucs.datasets._layouts import LAYOUTS


def _bounded(default: Any, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class SimulationParams:
    """Parameters of :func:`ucs.datasets.simulate`. Lengths in um, areas in um^2.

    Attributes
    ----------
    width_um, height_um
        Size of the field.
    n_genes
        Number of genes, controls not counted.
    n_cell_types
        Number of cell types.
    cells_per_mm2
        Density of cells where there is tissue. With ``cell_area_um2`` it decides how crowded the tissue is.
    cell_area_um2
        Median area of the outline a cell would have if it were alone; neighbours cut into it.
    cell_area_spread
        Standard deviation of the logarithm of that area; a quarter of its square lies between types.
    nucleus_area_um2, nucleus_area_spread
        Median area of nuclei, standard deviation of its logarithm.
    nucleus_offset
        How far nuclei may lie from the middle of their cell: 0 = in the middle, 1 = up to the outline.
    spindle_share
        Share of the cells that are spindle-shaped. It is filled up type by type, as real spindle-shaped cells are
        of certain types (fibroblasts, smooth muscle); they lie in streams, along a direction that varies smoothly.
    spindle_aspect
        Mean ratio of length to width of spindle-shaped cells; their nuclei are elongated along the same axis.
    aspect
        Mean ratio of length to width of all other cells.
    irregularity
        Relative amplitude of the waves on cell outlines; nuclei have a third of it.
    packing
        How far cells keep from each other before they are drawn: 1 = free outlines just touch, 0 = placed at random.
    empty_share
        Share of the field without tissue.
    empty_scale_um
        Size of the features of the tissue's border.
    niche_scale_um
        Size of the regions in which a cell type is frequent.
    niche_strength
        How strongly types keep to their regions, 0 = mixed at random.
    missing_nuclei
        Share of the cells whose nucleus is not in ``nucleus_labels`` (nor in its polygons or the image).
    transcripts_per_cell
        Mean number of transcripts of a cell.
    transcripts_spread
        Standard deviation of the logarithm of that number among cells of one type, beyond what their area explains.
    transcripts_spread_types
        Standard deviation of the logarithm of the types' means.
    marker_genes
        Number of marker genes of each type (fewer if the panel is too small).
    marker_fold
        How much higher a marker is expressed in its type than elsewhere.
    expression_spread
        Standard deviation of the logarithm of a gene's expression among types, markers apart.
    nuclear_enrichment
        Median over the genes of their density in the nucleus relative to the cytoplasm.
    nuclear_spread
        Standard deviation of the logarithm of that ratio over the genes: nuclear and cytoplasmic genes.
    background_per_um2
        Density of background transcripts, which come from no cell, anywhere in the field.
    diffusion_share
        Share of the cells' transcripts that have moved away from where they were.
    diffusion_um
        Standard deviation of that movement in x and in y.
    control_share
        Number of transcripts of control features, relative to those of genes.
    low_quality_share
        Share of the transcripts with a quality value below 20.
    membrane_contrast, interior_contrast
        Brightness of cell membranes and of the inside of cells relative to the background, in channels ``membrane`` and
        ``interior`` of the image: uneven, membranes with gaps. 0 = no such channel; 5 is clear, 1 is faint.
    """

    width_um: float = _bounded(200.0, 20, 5000)
    height_um: float = _bounded(200.0, 20, 5000)
    n_genes: int = _bounded(300, 1, 60_000)
    n_cell_types: int = _bounded(8, 1, 1000)
    cells_per_mm2: float = _bounded(5000.0, 1, 50_000)
    cell_area_um2: float = _bounded(160.0, 5, 10_000)
    cell_area_spread: float = _bounded(0.35, 0, 2)
    nucleus_area_um2: float = _bounded(40.0, 2, 2000)
    nucleus_area_spread: float = _bounded(0.22, 0, 1)
    nucleus_offset: float = _bounded(0.53, 0, 1)
    spindle_share: float = _bounded(0.25, 0, 1)
    spindle_aspect: float = _bounded(2.8, 1, 10)
    aspect: float = _bounded(1.25, 1, 3)
    irregularity: float = _bounded(0.07, 0, 0.3)
    packing: float = _bounded(0.85, 0, 1)
    empty_share: float = _bounded(0.12, 0, 0.95)
    empty_scale_um: float = _bounded(40.0, 5, 5000)
    niche_scale_um: float = _bounded(40.0, 5, 5000)
    niche_strength: float = _bounded(1.2, 0, 20)
    missing_nuclei: float = _bounded(0.0, 0, 1)
    transcripts_per_cell: float = _bounded(125.0, 0, 20_000)
    transcripts_spread: float = _bounded(0.35, 0, 2)
    transcripts_spread_types: float = _bounded(0.25, 0, 2)
    marker_genes: int = _bounded(12, 0, 1000)
    marker_fold: float = _bounded(20.0, 1, 1000)
    expression_spread: float = _bounded(0.5, 0, 3)
    nuclear_enrichment: float = _bounded(1.5, 0.01, 100)
    nuclear_spread: float = _bounded(0.7, 0, 3)
    background_per_um2: float = _bounded(0.045, 0, 10)
    diffusion_share: float = _bounded(0.18, 0, 1)
    diffusion_um: float = _bounded(4.0, 0, 100)
    control_share: float = _bounded(0.002, 0, 1)
    low_quality_share: float = _bounded(0.15, 0, 0.95)
    membrane_contrast: float = _bounded(0.0, 0, 100)
    interior_contrast: float = _bounded(0.0, 0, 100)

    @classmethod
    def checked(cls, **values: float) -> Self:
        """Make parameters from keywords, naming what is unknown or out of range.

        Raises
        ------
        TypeError
            A name is unknown, or a value is not a number.
        ValueError
            A value is out of its range.
        """
        known = {parameter.name: parameter for parameter in fields(cls)}
        for name, value in values.items():
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"Did you mean {close[0]!r}? " if close else ""
                raise TypeError(f"simulate() has no parameter {name!r}. {hint}It has: {', '.join(known)}.")
            values[name] = _checked_number(name, value, **known[name].metadata, whole=known[name].type == "int")
        return cls(**values)  # type: ignore[arg-type]


def _checked_number(name: str, value: object, *, low: float, high: float, whole: bool) -> float:
    """Return ``value`` as a plain number within ``[low, high]``."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}={value!r} given: it must be a number.")
    if not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name}={value} given: it must be {kind} from {low:g} to {high:g}.")
    return int(value) if whole else float(value)


#: Tissues that are hard in one way each: keywords for :func:`ucs.datasets.simulate`.
REGIMES: dict[str, dict[str, Any]] = {
    "default": {},
    "sparse": {"transcripts_per_cell": 30.0},
    "background": {"background_per_um2": 0.15},
    "diffusion": {"diffusion_share": 0.35, "diffusion_um": 6.0},
    "crowded": {"cells_per_mm2": 8500.0},
    "loose": {"cells_per_mm2": 2600.0, "packing": 1.0},
    "spindle": {"spindle_share": 0.7},
    "missing": {"missing_nuclei": 0.2},
    "5k": {"n_genes": 5000, "transcripts_per_cell": 500.0, "marker_genes": 60},
    **{name: {"layout": name} for name in LAYOUTS},
}
