"""Overviews of prepared tissue, each made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs.methods.density.statistics import Selection, look_over
from ucs.methods.model import match_genes

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from ucs._read.transcripts import Transcripts
    from ucs.methods.density.statistics import Overview
    from ucs.methods.params import TrainParams


def overview_of(
    transcripts: Transcripts,
    nuclei: NDArray[np.int32],
    genes: tuple[str, ...],
    params: TrainParams,
    known: dict[Any, Overview],
    groups: NDArray[np.int64] | None = None,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> Overview:
    """Look over tissue.

    Parameters
    ----------
    transcripts, nuclei
        The tissue.
    genes
        Those whose transcripts are counted.
    params
        Tell how far nuclei reach and how distances are measured.
    known
        What was looked over before, for this tissue; the new overview is added, unless it is of groups.
    groups, update
        As in :func:`ucs.methods.density.statistics.look_over`.
    """
    key = (genes, params.reach, params.stretch)
    if groups is None and key in known:
        return known[key]
    overview = look_over(
        transcripts.map,
        Selection(*match_genes(genes, transcripts.genes + transcripts.controls), len(genes)),
        nuclei,
        reach=params.reach,
        strength=params.stretch,
        um_per_px=transcripts.grid.um_per_px,
        groups=groups,
        update=update,
    )
    if groups is None:
        known[key] = overview
    return overview
