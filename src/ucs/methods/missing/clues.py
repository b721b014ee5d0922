"""What tells where a nucleus is missing, measured on the sample's own nuclei and cells.

- *Unexplained density.* Where transcripts are as dense as in cytoplasm, but farther from every nucleus than its cell
  reaches, there is a cell without one. ``excess = c - reached(d)``: the share of cell that the density implies, less
  the share of cells that reach this far (:class:`ucs.methods.density.levels.Levels`). It averages to about 0 over cells
  whose nucleus is seen, whatever the share of missing nuclei.
- *Other transcripts.* Those of another expression cluster than the near nucleus' are farther from it than they seem:
  the distance that evidence outweighs (:mod:`ucs.methods.density.ownership`) is added.
- *Nuclear transcripts.* Genes differ in how nuclear their transcripts are; the log likelihood of nucleus against
  cytoplasm, summed over an area of a nucleus, tells the middle of a missing cell from the far end of a seen one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.bands import bands
from ucs._kernels.count import count_in_labels, row_sums
from ucs._kernels.labels.ids import pixels_of_ids
from ucs.methods.missing.nuclear import NuclearSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.bands import Raster
    from ucs._kernels.transcripts import TranscriptMap
    from ucs.methods.density.levels import Levels
    from ucs.methods.density.ownership import Evidence

_DENSITY_SIGMA_UM = (2.0, 4.0)  # least and largest of the Gaussian by which the density of transcripts is measured
_COUNT_IN_GAUSSIAN = 30.0  # transcripts of cytoplasm that it is to see, over its effective area of 4 pi sigma^2
_PIXEL_SIGMA_UM = 1.5  # as in ucs.methods.density.ownership
_KIND_SIGMA_UM = 3.0  # the kind of cell is decided on more transcripts than fit a pixel
_POOREST = 0.1  # share of the sample's own nuclei that a candidate need not equal


@dataclass(frozen=True)
class TypicalCells:
    """What is measured once on all of a sample's nuclei and cells.

    Attributes
    ----------
    nucleus_area, cell_area
        Medians, in pixels.
    poorest
        What all but a tenth of the sample's own nuclei have at least: the signature summed over the nucleus, its
        transcripts per pixel, the transcripts of its cell, the signature per transcript.
    signature
        How nuclear each gene is.
    levels
        Densities and lengths.
    um_per_px
        Side of a pixel in um.
    """

    nucleus_area: float
    cell_area: float
    poorest: tuple[float, float, float, float]
    signature: NuclearSignature
    levels: Levels
    um_per_px: float

    @classmethod
    def measure(
        cls,
        transcripts: TranscriptMap,
        nuclei: NDArray[np.int32],
        cells: Raster,
        n: int,
        levels: Levels,
        um_per_px: float,
    ) -> TypicalCells:
        """Measure them.

        Parameters
        ----------
        transcripts
            Of the genes that the model knows.
        nuclei, cells, n
            ``(h, w)`` ids of nuclei and of the cells that they were given, and the highest of them.
        levels
            Densities and lengths of the sample.
        um_per_px
            Side of a pixel in um.
        """
        of_nuclei = pixels_of_ids(nuclei, n)[1:]
        of_cells = np.sum([pixels_of_ids(band, n) for _, band in bands(cells)], axis=0)[1:]
        in_nuclei, in_cells = count_in_labels(transcripts, nuclei, n), count_in_labels(transcripts, cells, n)
        n_nucleus, n_cell = int(of_nuclei.sum()), int(of_cells.sum())
        signature = NuclearSignature.measure(in_nuclei, in_cells, n_nucleus, n_cell - n_nucleus)
        there, counts = of_nuclei > 0, row_sums(in_nuclei)
        nuclear = signature.of_labels(in_nuclei, of_nuclei)
        values = (nuclear, counts / np.maximum(of_nuclei, 1), row_sums(in_cells), nuclear / np.maximum(counts, 1))
        total, dense, rich, each = (float(np.quantile(value[there], _POOREST)) for value in values)
        return cls(
            float(np.median(of_nuclei[there])),
            float(np.median(of_cells[of_cells > 0])),
            (total, dense, rich, each),
            signature,
            levels,
            um_per_px,
        )

    @property
    def nucleus_radius(self) -> float:
        """Of a disc as large as a typical nucleus, in pixels."""
        return float(np.sqrt(self.nucleus_area / np.pi))

    @property
    def cell_radius(self) -> float:
        """Of a disc as large as a typical cell, in pixels."""
        return float(np.sqrt(self.cell_area / np.pi))


@dataclass(frozen=True)
class Clues:
    """What is known of each pixel of a window, ``(h, w)`` each.

    Attributes
    ----------
    totals
        int32 transcripts per pixel.
    nuclei
        int32 ids.
    density
        float32, transcripts per um2, smoothed.
    remoteness
        float32, um to the nearest nucleus (stretched), more if the transcripts fit another kind of cell; 0 in nuclei.
    signature
        float32, log likelihood of the pixel's transcripts in nucleus against cytoplasm.
    excess
        float32, see the module; -1 in nuclei.
    typical
        Cells of the sample.
    """

    totals: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    density: NDArray[np.float32]
    remoteness: NDArray[np.float32]
    signature: NDArray[np.float32]
    excess: NDArray[np.float32]
    typical: TypicalCells


def gather_clues(
    transcripts: TranscriptMap,
    nuclei: NDArray[np.int32],
    nearest: NDArray[np.int32],
    distance: NDArray[np.float32],
    typical: TypicalCells,
    evidence: Evidence | None,
) -> Clues:
    """Measure the clues of a window.

    Parameters
    ----------
    transcripts
        Of the genes that the model knows.
    nuclei
        ``(h, w)`` ids.
    nearest, distance
        ``(h, w)`` nearest nucleus and stretched distance to it in pixels, ``inf`` beyond reach.
    typical
        Cells of the sample.
    evidence
        Expression clusters and the nuclei's memberships; None if expression tells nothing.
    """
    totals, levels, um_per_px = transcripts.totals(), typical.levels, typical.um_per_px
    density = smoothed_density(totals, levels.cytoplasm, um_per_px=um_per_px)
    remoteness = np.minimum(distance * np.float32(um_per_px), np.float32(50))
    if evidence is not None and evidence.expression_weight_um > 0:
        remoteness += _distance_of_other_kinds(evidence, nearest, um_per_px)
    np.maximum(remoteness, 0, out=remoteness)
    remoteness[nuclei > 0] = 0
    contrast = max(levels.cytoplasm - levels.background, 1e-9)
    excess = np.clip((density - levels.background) / np.float32(contrast), 0, 1) - levels.reached(remoteness)
    excess[nuclei > 0] = -1
    signature = typical.signature.of_pixels(transcripts)
    return Clues(totals, nuclei, density, remoteness, signature, excess.astype(np.float32), typical)


def smoothed_density(totals: NDArray[np.int32], cytoplasm: float, *, um_per_px: float) -> NDArray[np.float32]:
    """Return transcripts per um2 around each pixel, ``(h, w)``; over a wider area if ``cytoplasm`` has few."""
    from scipy.ndimage import gaussian_filter

    sigma = np.clip(np.sqrt(_COUNT_IN_GAUSSIAN / (4 * np.pi * max(cytoplasm, 1e-9))), *_DENSITY_SIGMA_UM)
    return gaussian_filter(totals.astype(np.float32), sigma / um_per_px) / np.float32(um_per_px**2)


def _distance_of_other_kinds(evidence: Evidence, nearest: NDArray[np.int32], um_per_px: float) -> NDArray[np.float32]:
    """Return by how many um the transcripts around a pixel fit the likeliest kind better than the nearest nucleus."""
    from scipy.ndimage import gaussian_filter

    of = evidence.transcripts
    shape, pixel = of.shape, of.rows() * of.shape[1] + of.column
    narrow, wide = _PIXEL_SIGMA_UM / um_per_px, _KIND_SIGMA_UM / um_per_px
    likeliest = np.full(shape, -np.inf, dtype=np.float32)
    of_likeliest, of_nearest = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for k, log_ratio in enumerate(evidence.log_ratio):
        fit = np.bincount(pixel, weights=log_ratio[of.feature] * of.count, minlength=nearest.size)
        fit = fit.reshape(shape).astype(np.float32)
        around = gaussian_filter(fit, wide)
        fit = gaussian_filter(fit, narrow) * np.float32(4 * np.pi * narrow**2)  # the scale of ownership
        of_nearest += evidence.membership[:, k][nearest] * fit
        better = around > likeliest
        likeliest[better], of_likeliest[better] = around[better], fit[better]
    return np.float32(evidence.expression_weight_um) * np.where(nearest > 0, of_likeliest - of_nearest, 0)
