"""Expression clusters of the sample's nuclei: which nucleus the transcripts at a pixel fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ucs.methods.clusters.profiles import Profiles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


class ExpressionProfiles(nn.Module):
    """Memberships of nuclei in kinds of cells, and what transcripts say of a kind.

    One linear layer over the genes and a softmax: the posterior of a mixture of multinomials (see
    :mod:`ucs.methods.clusters.profiles`), whose weights are fitted by expectation maximisation, not by gradients.

    Parameters
    ----------
    n_clusters
        Number of kinds; 0 if none could be told apart: then distance alone decides.
    n_genes
        Number of genes.
    """

    log_ratio: Tensor
    log_share: Tensor
    expression_weight_um: Tensor

    def __init__(self, n_clusters: int, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("log_ratio", torch.zeros(n_clusters, n_genes))
        self.register_buffer("log_share", torch.zeros(n_clusters, dtype=torch.float64))
        self.register_buffer("expression_weight_um", torch.zeros(1, dtype=torch.float64))

    @classmethod
    def of(cls, profiles: Profiles | None, expression_weight_um: float, n_genes: int) -> ExpressionProfiles:
        """Make a net of fitted profiles; ``expression_weight_um`` is in um of distance per unit of log likelihood."""
        if profiles is None:
            return cls(0, n_genes)
        net = cls(*profiles.log_ratio.shape)
        net.log_ratio.copy_(torch.from_numpy(profiles.log_ratio))
        net.log_share.copy_(torch.from_numpy(profiles.log_share))
        net.expression_weight_um.fill_(expression_weight_um)
        return net

    def of_columns(self, columns: list[int]) -> ExpressionProfiles:
        """Return the clusters as some of the genes show them."""
        out = ExpressionProfiles(len(self.log_share), len(columns))
        out.log_ratio.copy_(self.log_ratio[:, columns])
        out.log_share.copy_(self.log_share)
        out.expression_weight_um.copy_(self.expression_weight_um)
        return out

    @property
    def profiles(self) -> Profiles | None:
        """The kinds as arrays; None if there are none."""
        if len(self.log_share) == 0:
            return None
        return Profiles(self.log_ratio.cpu().numpy(), self.log_share.cpu().numpy())

    def membership(self, counts: csr_matrix) -> NDArray[np.float32]:
        """Return ``(n + 1, kinds)``: how likely each nucleus is of each kind, zeros for id 0 (no nucleus).

        Parameters
        ----------
        counts
            ``(n, genes)`` transcripts in the nuclei.
        """
        profiles = self.profiles
        out = np.zeros((counts.shape[0] + 1, len(self.log_share)), dtype=np.float32)
        if profiles is not None:
            out[1:] = profiles.membership(counts)
        return out
