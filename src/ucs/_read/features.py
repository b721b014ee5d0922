"""Features of transcripts as numbers, genes before controls: the one place that decides their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ucs._read.columns import TranscriptColumns
    from ucs._read.platforms import Platform


def encode_features(feature: pd.Series, codes: dict[str, int]) -> NDArray[np.int32]:
    """Return the number of each row's feature; names that are new to ``codes`` get the next numbers."""
    if not isinstance(feature.dtype, pd.CategoricalDtype):
        feature = feature.astype("category")
    new_code = np.array([codes.setdefault(str(c), len(codes)) for c in feature.cat.categories], dtype=np.int32)
    return new_code[feature.cat.codes.to_numpy()]


def counts_of(frame: pd.DataFrame, columns: TranscriptColumns) -> NDArray[np.int32]:
    """Return how many molecules each row stands for."""
    count = np.ones(len(frame)) if columns.count is None else frame[columns.count].to_numpy()
    return count.astype(np.int32)


def order_features(
    codes: dict[str, int],
    occurring: NDArray[np.bool_],
    platform: Platform,
    votes: Mapping[str, int],
) -> tuple[NDArray[np.int32], tuple[str, ...], tuple[str, ...]]:
    """Number the features that occur: genes first, then controls, each alphabetically, whatever order they came in.

    Parameters
    ----------
    codes
        Name -> number of the features met.
    occurring
        Whether each of these numbers is kept.
    platform
        Tells genes from controls by their names.
    votes
        How many more rows call a feature a gene than call it none: a control has more of these.

    Returns
    -------
    The new number of each (-1 if not kept), the genes and the controls.
    """
    names = sorted(name for name, code in codes.items() if occurring[code])
    controls = tuple(name for name in names if platform.is_control(name) or votes.get(name, 0) < 0)
    genes = tuple(sorted(set(names) - set(controls)))
    new_code = np.full(len(codes), -1, dtype=np.int32)
    for number, feature_name in enumerate(genes + controls):
        new_code[codes[feature_name]] = number
    return new_code, genes, controls
