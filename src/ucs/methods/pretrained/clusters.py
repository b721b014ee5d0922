"""Expression clusters of the sample's nuclei, and the ambient RNA that they are told from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ucs.methods.density.profiles import Profiles, fit_profiles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_PRIOR_AMBIENT = 200.0  # transcripts of the average nucleus that the ambient profile begins with


class Clusters(nn.Module):
    """Profiles of clusters, as buffers: nothing here is trained by gradients.

    Parameters
    ----------
    n_clusters
        Number of clusters, at least 1.
    n_genes
        Number of genes.
    """

    log_ratio: Tensor
    log_share: Tensor

    def __init__(self, n_clusters: int, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("log_ratio", torch.zeros(n_clusters + 1, n_genes))
        self.register_buffer("log_share", torch.zeros(n_clusters, dtype=torch.float64))

    @classmethod
    def fit(
        cls, counts: csr_matrix, far: NDArray[np.integer], *, seed: int, profiles: Profiles | None = None
    ) -> Clusters:
        """Fit clusters to counts in nuclei ``(n, genes)`` and in places far from nuclei ``(genes,)``.

        With too few nuclei to tell any apart there is one cluster, the average nucleus.
        """
        if profiles is None:
            found = fit_profiles(counts, seed=seed)
            profiles = found[0] if found else Profiles(np.zeros((1, counts.shape[1]), np.float32), np.zeros(1))
        total = np.asarray(counts.sum(axis=0)).ravel() + 1.0
        overall = total / total.sum()
        ambient = far + _PRIOR_AMBIENT * overall
        made = cls(len(profiles.log_ratio), counts.shape[1])
        against = np.log(ambient / ambient.sum()) - np.log(overall)
        made.log_ratio.copy_(torch.from_numpy(np.vstack([profiles.log_ratio, against]).astype(np.float32)))
        made.log_share.copy_(torch.from_numpy(profiles.log_share))
        return made.eval()

    def membership(self, counts: csr_matrix) -> NDArray[np.float32]:
        """Return ``(n + 1, clusters)``: how likely each nucleus is of each cluster, zeros for id 0 (no nucleus)."""
        profiles = Profiles(self.log_ratio[:-1].numpy(), self.log_share.numpy())
        out = np.zeros((counts.shape[0] + 1, len(self.log_share)), dtype=np.float32)
        out[1:] = profiles.membership(counts)
        return out
