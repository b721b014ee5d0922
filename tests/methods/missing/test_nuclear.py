from __future__ import annotations

import numpy as np

from ucs._kernels.count import count_in_labels
from ucs._kernels.labels.ids import pixels_of_ids
from ucs._kernels.transcripts import TranscriptMap
from ucs.methods.missing.nuclear import NuclearSignature


def test_genes_of_cells_with_little_cytoplasm_are_not_nuclear():
    """Of two kinds of cells one is all nucleus; only the gene that lies in nuclei within cells tells of nuclei."""
    cells = np.zeros((60, 60), dtype=np.int32)
    nuclei = cells.copy()
    for k in range(9):
        window = np.s_[20 * (k // 3) + 2 : 20 * (k // 3) + 18, 20 * (k % 3) + 2 : 20 * (k % 3) + 18]
        cells[window] = k + 1
        inner = (slice(1, -1), slice(1, -1)) if k % 2 else (slice(5, -5), slice(5, -5))
        nuclei[window][inner] = k + 1
    random = np.random.default_rng(0)
    row, column = (random.integers(0, 60, 20_000) for _ in range(2))
    cell, in_nucleus = cells[row, column], nuclei[row, column] > 0
    of_kind = np.where(cell > 0, cell % 2, 0)  # genes 0 and 1: of the kinds; gene 2: in nuclei three times as often
    gene = np.where(random.random(len(row)) < np.where(in_nucleus, 0.6, 0.2), 2, of_kind)
    transcripts = TranscriptMap.from_positions(row, column, gene, None, shape=(60, 60), n_features=3)
    in_nuclei, in_cells = count_in_labels(transcripts, nuclei, 9), count_in_labels(transcripts, cells, 9)
    n_nucleus, n_cell = int((nuclei > 0).sum()), int((cells > 0).sum())
    measured = NuclearSignature.measure(in_nuclei, in_cells, n_nucleus, n_cell - n_nucleus)
    signature = measured.of_pixels(transcripts)
    assert signature.shape == (60, 60)
    weight = np.linalg.lstsq(
        transcripts.dense().reshape(3, -1).T.astype(float), signature.ravel() - signature[transcripts.totals() == 0][0]
    )[0]
    assert weight[2] > 0.3
    assert abs(weight[0] - weight[1]) < 0.3
    assert max(weight[:2]) < 0
    of_nuclei = measured.of_labels(in_nuclei, pixels_of_ids(nuclei, 9)[1:])
    np.testing.assert_allclose(of_nuclei, [signature[nuclei == c].sum() for c in range(1, 10)], rtol=1e-4)
