"""Tools: segment, its steps, and what serves anybody's labels."""

from ucs.tl._aggregate import aggregate
from ucs.tl._annotate import annotate_nuclei
from ucs.tl._compare import compare
from ucs.tl._localization import localization
from ucs.tl._morphology import morphology
from ucs.tl._outlines import outlines
from ucs.tl._predict import find_missing, predict
from ucs.tl._segment import segment
from ucs.tl._train import train

__all__ = [
    "aggregate", "annotate_nuclei", "compare", "find_missing", "localization", "morphology", "outlines", "predict",
    "segment", "train",
]  # fmt: skip
