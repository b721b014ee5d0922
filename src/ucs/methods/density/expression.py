"""The net that tells which nucleus a pixel's transcripts fit: kinds of cells, learned from the sample's own nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ucs.methods.density.profiles import Profiles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


class KindNet(nn.Module):
    """Memberships of nuclei in kinds of cells, and what transcripts say of a kind.

    One linear layer over the genes and a softmax: the posterior of a mixture of multinomials (see
    :mod:`ucs.methods.density.profiles`), whose weights are fitted by expectation maximisation rather than by gradients.

    Parameters
    ----------
    n_kinds
        Number of kinds; 0 if none could be told apart: then distance alone decides.
    n_genes
        Number of genes.
    """

    log_ratio: Tensor
    log_share: Tensor
    trust_um: Tensor

    def __init__(self, n_kinds: int, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("log_ratio", torch.zeros(n_kinds, n_genes))
        self.register_buffer("log_share", torch.zeros(n_kinds, dtype=torch.float64))
        self.register_buffer("trust_um", torch.zeros(1, dtype=torch.float64))

    @classmethod
    def of(cls, profiles: Profiles | None, trust_um: float, n_genes: int) -> KindNet:
        """Make a net of fitted profiles; ``trust_um`` is the distance that a unit of log likelihood outweighs."""
        if profiles is None:
            return cls(0, n_genes)
        net = cls(*profiles.log_ratio.shape)
        net.log_ratio.copy_(torch.from_numpy(profiles.log_ratio))
        net.log_share.copy_(torch.from_numpy(profiles.log_share))
        net.trust_um.fill_(trust_um)
        return net

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
