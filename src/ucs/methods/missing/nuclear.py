"""How nuclear transcripts are: which genes' transcripts lie in nuclei rather than in the rest of the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap

_PRIOR_COUNT = 25.0  # transcripts of the average gene composition that nucleus and cytoplasm begin with


def nuclear_signature(
    transcripts: TranscriptMap, nuclei: NDArray[np.int32], cells: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Return the log likelihood (Poisson) of each pixel's transcripts, nuclei against the rest of cells, ``(h, w)``.

    How nuclear a gene is is told within cells: of its transcripts as many are expected in nuclei as there are of all
    transcripts of the same cells. Genes of cells with little cytoplasm would seem nuclear otherwise.

    Parameters
    ----------
    transcripts
        Of the genes to use.
    nuclei, cells
        ``(h, w)`` ids of nuclei and of their cells.
    """
    rows, n_genes = transcripts.rows(), transcripts.n_features
    cell, count = cells[rows, transcripts.column], transcripts.count
    in_cell = cell > 0
    in_nucleus = in_cell & (nuclei[rows, transcripts.column] > 0)
    of_cell = np.bincount(cell, weights=count)
    nuclear_share = np.bincount(cell, weights=count * in_nucleus, minlength=len(of_cell)) / np.maximum(of_cell, 1)

    def per_gene(weights: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(transcripts.feature, weights=weights, minlength=n_genes).astype(np.float64)

    seen = per_gene(count * in_nucleus), per_gene(count * (in_cell & ~in_nucleus))
    expected = per_gene(count * in_cell * nuclear_share[cell]), per_gene(count * in_cell * (1 - nuclear_share[cell]))
    prior = _PRIOR_COUNT * (seen[0] + seen[1] + 1e-9) / (seen[0] + seen[1] + 1e-9).sum()
    enriched = [np.log((one + prior) / (other + prior)) for one, other in zip(seen, expected, strict=True)]
    areas = (nuclei > 0).sum(), ((cells > 0) & (nuclei == 0)).sum()
    nucleus, rest = ((one.sum() + 1) / max(area, 1) for one, area in zip(seen, areas, strict=True))
    weight = np.log(nucleus / rest) + enriched[0] - enriched[1]
    pixel = rows * nuclei.shape[1] + transcripts.column
    out = np.bincount(pixel, weights=weight[transcripts.feature] * count, minlength=nuclei.size)
    return (out - (nucleus - rest)).reshape(nuclei.shape).astype(np.float32)
