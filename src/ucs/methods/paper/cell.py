"""The Cell Predict Net: which nucleus a pixel belongs to (paper, equations 2-6)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

_FIRST_BIAS = -2.0


class CellNet(nn.Module):
    """Cell Predict Net: a scalar per pixel, gated by the softmask of each nucleus (paper, equation 4).

    ``q_c(p) = softmax(H(f(p) s_c(p)))`` with H a 1 x 1 convolution from one channel to two, hence
    ``q_c(p) = sigmoid(w f(p) s_c(p) + b)``: f is computed once per pixel, not once per nucleus. With markers H has a
    second input, the mask m_c(p) of "a marker of this cell's type is here": ``q_c = sigmoid(w f s_c + w2 m_c + b)``.

    Parameters
    ----------
    width
        Channels of the features.
    marked
        Whether there are markers.
    """

    def __init__(self, width: int = 64, *, marked: bool = False) -> None:
        super().__init__()
        self.marked = marked
        self.scalar_net = nn.Sequential(
            nn.Conv2d(width, 32, 1), nn.ReLU(), nn.Conv2d(32, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 1)
        )
        self.head = nn.Conv2d(1 + marked, 2, 1)
        # Far from the nucleus, where s is 0, a pixel is background to begin with. From a bias that is above 0 by chance
        # training takes long, or ends far from the optimum.
        with torch.no_grad():
            cast("Tensor", self.head.bias).copy_(torch.tensor([-_FIRST_BIAS / 2, _FIRST_BIAS / 2]))
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))
        """Root mean square of ``logit q`` over the training pairs: what the threshold's margins are measured in."""

    def scalar(self, features: Tensor) -> Tensor:
        """Return f(p) for features ``(B, 64, h, w)``: ``(B, h, w)``."""
        return self.scalar_net(features)[:, 0]

    def weight_bias(self) -> tuple[Tensor, Tensor]:
        """Return ``w`` and ``b``: the difference of the two classes of H."""
        weight = self.head.weight[1, 0, 0, 0] - self.head.weight[0, 0, 0, 0]
        bias = cast("Tensor", self.head.bias)  # a convolution may have none; this one has
        return weight, bias[1] - bias[0]

    def mark_weight(self) -> Tensor:
        """Return what a marker of the cell's type on a pixel adds to ``logit q``; 0 without markers."""
        if not self.marked:
            return torch.zeros(())
        return self.head.weight[1, 1, 0, 0] - self.head.weight[0, 1, 0, 0]

    def pair_logits(self, scalar: Tensor, softmask: Tensor, mark: Tensor | None = None) -> Tensor:
        """Return ``logit q`` for pairs of a pixel's f and a nucleus' softmask at that pixel, all ``(n,)``.

        ``mark`` is 1 where a marker of the nucleus' type is on the pixel, 0 where none is.
        """
        weight, bias = self.weight_bias()
        logit = weight * scalar * softmask + bias
        return logit + self.mark_weight() * mark if self.marked and mark is not None else logit

    def forward(self, features: Tensor, pixel: Tensor, softmask: Tensor, mark: Tensor | None = None) -> Tensor:
        """Return ``logit q`` of pairs; ``pixel`` ``(n,)`` counts the features' pixels in (batch, row, column)."""
        return self.pair_logits(torch.flatten(self.scalar(features))[pixel], softmask, mark)
