"""Metrics of segmentations: agreement, purity and capture, shape, stability, and baselines to compare with.

Functions accept arrays and tables of any origin. Instead of a label image or a table, the key of an element can be
given together with ``sdata=``: the object, or a :class:`Tissue` made of it. :func:`ucs.tl.compare` computes them for
several segmentations.
"""

from __future__ import annotations

from ucs._evaluation.tissue import Tissue
from ucs._evaluation.types import transfer_types
from ucs.metrics._baselines import expand_nuclei, voronoi_cells
from ucs.metrics._capture import Capture, capture
from ucs.metrics._comparison import ComparisonMetrics
from ucs.metrics._contamination import NeighbourContamination, neighbour_contamination
from ucs.metrics._correlation import ReferenceCorrelation, reference_correlation
from ucs.metrics._heldout import gene_halves, heldout_purity
from ucs.metrics._markers import markers_from_reference
from ucs.metrics._match import IOU_THRESHOLDS, match, matched_pairs
from ucs.metrics._mecr import Mecr, mecr
from ucs.metrics._morphology import morphology
from ucs.metrics._purity import NegativeMarkerPurity, negative_marker_purity
from ucs.metrics._seams import seams
from ucs.metrics._spurious import SpuriousCoexpression, spurious_coexpression
from ucs.metrics._stability import subsample_stability
from ucs.metrics._summary import summary
from ucs.metrics._transcripts import transcript_assignment

__all__ = [
    "IOU_THRESHOLDS",
    "Capture",
    "ComparisonMetrics",
    "Mecr",
    "NegativeMarkerPurity",
    "NeighbourContamination",
    "ReferenceCorrelation",
    "SpuriousCoexpression",
    "Tissue",
    "capture",
    "expand_nuclei",
    "gene_halves",
    "heldout_purity",
    "markers_from_reference",
    "match",
    "matched_pairs",
    "mecr",
    "morphology",
    "negative_marker_purity",
    "neighbour_contamination",
    "reference_correlation",
    "seams",
    "spurious_coexpression",
    "subsample_stability",
    "summary",
    "transcript_assignment",
    "transfer_types",
    "voronoi_cells",
]
