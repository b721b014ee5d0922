"""The net that learns where cells are: it predicts transcripts it has not seen.

Each pixel's transcripts are split at random. From one part, in a window of 17 x 17 pixels, and from the place of the
pixel among the nuclei, the net predicts the expected number in the other part. Nobody needs to say where cells are: the
count is the label, at every pixel, also at those between nucleus and background which the published scheme leaves out
(paper, equations 7 and 8). Given the window, the two parts are independent, so the net cannot gain by copying noise:
what it learns is the density that the pixel's surroundings imply, and with it the edge of the cell.

Convolutions are "valid": an input of ``(h + 16, w + 16)`` pixels gives ``(h, w)``; no border is invented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALO = 8
"""Reach of the eight 3 x 3 convolutions, in pixels."""

_CENTRES_UM = (0.0, 1.5, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0)  # of bumps that make the distance readable to a linear layer
_BUMP_UM = 1.5
_FAR_UM = 30.0
_GAP_UM = 10.0

N_GEOMETRY = len(_CENTRES_UM) + 4
"""Channels that describe the place of a pixel among the nuclei."""


def geometry(
    distance: NDArray[np.float32], second: NDArray[np.float32], richness: NDArray[np.float32], *, um_per_px: float
) -> NDArray[np.float32]:
    """Describe the place of pixels among the nuclei, ``(N_GEOMETRY, h, w)`` float32.

    Parameters
    ----------
    distance, second
        ``(h, w)`` stretched distance in pixels to the nearest and second nearest nucleus (0 in nuclei, ``inf`` beyond
        reach).
    richness
        ``(h, w)`` log of the nearest nucleus' density over that of all nuclei.
    um_per_px
        Side of a pixel in um.
    """
    d = np.minimum(distance * um_per_px, _FAR_UM)
    gap = np.minimum(np.minimum(second * um_per_px, _FAR_UM) - d, _GAP_UM)
    out = np.empty((N_GEOMETRY, *distance.shape), dtype=np.float32)
    for channel, centre in zip(out, _CENTRES_UM, strict=False):
        channel[:] = np.exp(-0.5 * ((d - centre) / _BUMP_UM) ** 2)
    out[-4] = d / 10
    out[-3] = gap / 5
    out[-2] = richness
    out[-1] = distance == 0
    return out


class DensityNet(nn.Module):
    """Expected transcripts per pixel from those around it and from the nuclei.

    Parameters
    ----------
    width
        Channels of each of the eight convolutions.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        inputs = 2 + N_GEOMETRY
        self.convolutions = nn.ModuleList(nn.Conv2d(inputs if k == 0 else width, width, 3) for k in range(HALO))
        self.head = nn.Sequential(
            nn.Conv2d(width * HALO // 2 + N_GEOMETRY, 64, 1),
            nn.ReLU(),
            nn.Conv2d(64, 32, 1),
            nn.ReLU(),
            nn.Conv2d(32, 1, 1),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]  # begins at the mean density everywhere

    def forward(self, counts: Tensor, place: Tensor) -> Tensor:
        """Return the log of the expected count over the sample's mean, ``(B, h, w)``.

        Parameters
        ----------
        counts
            ``(B, h + 16, w + 16)`` transcripts per pixel, scaled by :func:`count_scale`.
        place
            ``(B, N_GEOMETRY, h + 16, w + 16)`` of :func:`geometry`.
        """
        counts = counts[:, None]
        x = torch.cat([counts, counts * place[:, -1:], place], dim=1).contiguous(memory_format=torch.channels_last)
        seen = []
        for k, convolution in enumerate(self.convolutions):
            x = functional.relu(convolution(x))
            if k % 2:
                seen.append(x)
        h, w = x.shape[-2:]
        parts = [_centre(part, h, w) for part in (*seen, place)]
        return self.head(torch.cat(parts, dim=1))[:, 0]


def _centre(x: Tensor, h: int, w: int) -> Tensor:
    top, left = (x.shape[-2] - h) // 2, (x.shape[-1] - w) // 2
    return x[..., top : top + h, left : left + w]


def count_scale(mean: float) -> float:
    """Return the factor for counts by which samples of any depth look alike, from the mean count of a pixel."""
    return float((2 * mean) ** -0.5) if mean > 0 else 1.0
