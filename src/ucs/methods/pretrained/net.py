"""The pretrained net: which of the two nearest nuclei owns a place, or none of them.

Convolutions are "valid": an input of ``(h + 2 HALO, w + 2 HALO)`` net pixels gives ``(h, w)``; no border is invented.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ucs.methods.pretrained.features import N_FEATURES

_DILATIONS = (1, 1, 2, 1, 4, 1, 2, 1)

HALO = sum(_DILATIONS)
"""Reach of the convolutions, in net pixels."""

CLASSES = 3
"""Nearest nucleus, second nearest, none of them."""


class OwnerNet(nn.Module):
    """Log odds of the owner of a place, and of the origin of a transcript there.

    Parameters
    ----------
    width
        Channels of each of the eight convolutions.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.inputs = nn.Conv2d(N_FEATURES, width, 1)
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, dilation=step) for step in _DILATIONS)
        self.head = nn.Sequential(nn.Conv2d(width + N_FEATURES, 64, 1), nn.ReLU(), nn.Conv2d(64, 2 * CLASSES, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(B, 2, 3, h, w)``: owner of the place, then origin of a transcript.

        Parameters
        ----------
        features
            ``(B, N_FEATURES, h + 2 HALO, w + 2 HALO)`` of :func:`ucs.methods.pretrained.features.net_features`.
        """
        x = functional.relu(self.inputs(features))
        for k, convolution in enumerate(self.convolutions):
            step = _DILATIONS[k]
            made = functional.relu(convolution(x))
            x = made if k % 2 == 0 else made + x[..., step:-step, step:-step]  # (B, width, h, w)
        x = torch.cat([x, features[..., HALO:-HALO, HALO:-HALO]], dim=1)
        out = self.head(x)
        return out.view(out.shape[0], 2, CLASSES, *out.shape[-2:])
