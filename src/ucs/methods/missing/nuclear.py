"""How nuclear transcripts are: which genes' transcripts lie in nuclei rather than in the rest of the same cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ucs._kernels.transcripts import TranscriptMap

# Transcripts of the average gene composition that nucleus and cytoplasm begin with: rare genes say nothing.
_PRIOR_COUNT = 25.0


@dataclass(frozen=True)
class NuclearSignature:
    """The log likelihood (Poisson) of transcripts, nuclei against the rest of cells.

    Attributes
    ----------
    weight
        ``(genes,)`` what a transcript of each gene adds.
    per_pixel
        What each pixel takes away: the difference of the expected numbers.
    """

    weight: NDArray[np.float64]
    per_pixel: float

    @classmethod
    def measure(
        cls, in_nuclei: csr_matrix, in_cells: csr_matrix, nucleus_pixels: int, rest_pixels: int
    ) -> NuclearSignature:
        """Measure it on a sample's own nuclei and cells.

        How nuclear a gene is is told within cells: of its transcripts as many are expected in nuclei as there are of
        all transcripts of the same cells. Genes of cells with little cytoplasm would seem nuclear otherwise.

        Parameters
        ----------
        in_nuclei, in_cells
            ``(n, genes)`` transcripts in each nucleus and in its whole cell.
        nucleus_pixels, rest_pixels
            Pixels of nuclei, and of cells outside nuclei.
        """
        nuclear = np.asarray(in_nuclei.sum(axis=0), dtype=np.float64).ravel()
        other = np.asarray(in_cells.sum(axis=0), dtype=np.float64).ravel() - nuclear
        of_cell = np.asarray(in_cells.sum(axis=1), dtype=np.float64).ravel()
        share = np.asarray(in_nuclei.sum(axis=1), dtype=np.float64).ravel() / np.maximum(of_cell, 1)
        expected = in_cells.T @ share, in_cells.T @ (1 - share)
        prior = _PRIOR_COUNT * (nuclear + other + 1e-9) / (nuclear + other + 1e-9).sum()
        enriched = [
            np.log((seen + prior) / (by_cell + prior)) for seen, by_cell in zip((nuclear, other), expected, strict=True)
        ]
        in_nucleus = (nuclear.sum() + 1) / max(nucleus_pixels, 1)
        in_rest = (other.sum() + 1) / max(rest_pixels, 1)
        return cls(np.log(in_nucleus / in_rest) + enriched[0] - enriched[1], float(in_nucleus - in_rest))

    def of_pixels(self, transcripts: TranscriptMap) -> NDArray[np.float32]:
        """Return the log likelihood of each pixel of a map of the same genes, ``(h, w)``."""
        h, w = transcripts.shape
        pixel = transcripts.rows() * w + transcripts.column
        out = np.bincount(pixel, weights=self.weight[transcripts.feature] * transcripts.count, minlength=h * w)
        return (out - self.per_pixel).reshape(h, w).astype(np.float32)

    def of_labels(self, counts: csr_matrix, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum over the pixels of labels, ``(n,)``, of their ``(n, genes)`` counts and ``(n,)`` sizes."""
        return np.asarray(counts @ self.weight) - self.per_pixel * pixels
