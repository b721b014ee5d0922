"""The Foreground Predict Net: from transcripts, the probability that a pixel lies in a cell (paper, equation 1).

Convolutions are "valid": an input of ``(h + 2 halo, w + 2 halo)`` pixels gives an output of ``(h, w)``, so that every
output pixel has seen its whole receptive field (``halo`` pixels on each side: 4, or 8 with two convolutions a block)
and no border is invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

HALO = 8
"""The largest halo that a net may have, in pixels; a net says its own (:attr:`ForegroundNet.halo`)."""

CONVOLUTIONS = (1, 2)
"""How many 3 x 3 convolutions a block of the encoder may have."""

_OWN_SHARE = 0.5
"""Spread of the genes' first vectors around the one that they share, relative to its length."""


@dataclass(frozen=True)
class PixelTranscripts:
    """Transcripts of a batch of equal windows, as a CSR matrix (pixels x genes).

    Attributes
    ----------
    pixel_start
        ``(B * h * w + 1,)`` int64: entries of pixel ``p`` (batch, row, column in C order) are
        ``pixel_start[p]:pixel_start[p + 1]``.
    gene
        ``(n,)`` int64, ascending within a pixel.
    count
        ``(n,)`` float32.
    shape
        ``(B, h, w)``.
    """

    pixel_start: Tensor
    gene: Tensor
    count: Tensor
    shape: tuple[int, int, int]

    def to(self, device: torch.device) -> PixelTranscripts:
        """Copy to a device."""
        return PixelTranscripts(self.pixel_start.to(device), self.gene.to(device), self.count.to(device), self.shape)


class TranscriptEmbedding(nn.Module):
    """Three 1 x 1 convolutions without non-linearity between them, applied without ever building the dense map.

    Because the three layers are linear, their output at a pixel is the sum of one vector per transcript plus a
    constant. The table of these vectors is the product of the layers' weights; it is made anew at each step, so that
    training moves the three layers as it would with the dense map. Only the rows of genes that occur in a batch are
    made: a patch holds some thousand transcripts, of however many genes.
    """

    def __init__(self, n_genes: int, widths: tuple[int, int, int] = (256, 128, 64)) -> None:
        super().__init__()
        sizes = (n_genes, *widths)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self._initialise()

    @property
    def _linear(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The three layers by their type, which a ``ModuleList`` does not keep."""
        return cast("tuple[nn.Linear, nn.Linear, nn.Linear]", tuple(self.layers))

    @torch.no_grad()
    def _initialise(self) -> None:
        """Begin as a count of transcripts plus something of each gene's own.

        Customary bounds shrink with the number of inputs. Here an input is a few transcripts out of thousands of genes:
        the first vectors would be next to nothing, and the more so the larger the panel.
        """
        first, second, third = self._linear
        shared = torch.randn(first.out_features, 1)
        first.weight.copy_(shared + _OWN_SHARE * torch.randn_like(first.weight))
        for layer in (second, third):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        for layer in (first, second, third):
            nn.init.zeros_(layer.bias)

    def table(self, genes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the vectors of ``genes`` (all if None), shape ``(n_genes, 64)``, and the constant, shape ``(64,)``."""
        first, second, third = self._linear
        following = third.weight @ second.weight  # (64, 256)
        constant = following @ first.bias + third.weight @ second.bias + third.bias
        by_gene = first.weight if genes is None else first.weight.index_select(1, genes)  # (256, n_genes)
        return by_gene.t() @ following.t(), constant

    def forward(self, transcripts: PixelTranscripts) -> Tensor:  # (B, 64, h, w)
        """Embed a batch: ``(B, 64, h, w)`` float32."""
        # Mixed precision stays out of the sum: it is cheap, and exact sums keep sparse equal to dense.
        with torch.autocast(transcripts.gene.device.type, enabled=False):
            return self._sum(transcripts)

    def _sum(self, transcripts: PixelTranscripts) -> Tensor:
        genes, row = torch.unique(transcripts.gene, return_inverse=True)
        table, constant = self.table(genes)
        summed = functional.embedding_bag(
            row,
            table,
            transcripts.pixel_start,
            mode="sum",
            per_sample_weights=transcripts.count,
            include_last_offset=True,
        )
        b, h, w = transcripts.shape
        return (summed + constant).view(b, h, w, -1).permute(0, 3, 1, 2)  # channels-last in memory


class ForegroundNet(nn.Module):
    """Foreground Predict Net (paper, equations 1 and 3).

    The paper says of the classifier that it is four 1 x 1 convolutions, and of the feature that it is the output before
    the last. It leaves open what lies between them: here a rectified linear unit follows each but the last, and the
    feature handed on is the third one's output before that unit, so that the Cell Predict Net sees its negative values.

    Parameters
    ----------
    n_genes
        Number of genes it sees.
    convolutions
        3 x 3 convolutions in each block of the encoder, 1 or 2.
    encoder
        Widths of the encoder's blocks.
    classifier
        Widths of the classifier's layers before the last; the last of them is the feature handed on.
    """

    def __init__(
        self,
        n_genes: int,
        *,
        convolutions: int = 1,
        encoder: tuple[int, ...] = (128, 256, 128, 64),
        classifier: tuple[int, ...] = (256, 128, 64),
    ) -> None:
        super().__init__()
        if convolutions not in CONVOLUTIONS:
            msg = f"convolutions={convolutions!r} must be one of {CONVOLUTIONS}."
            raise ValueError(msg)
        self.embedding = TranscriptEmbedding(n_genes)
        widths = (64, *encoder)
        self.blocks = nn.ModuleList(_block(a, b, convolutions) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.convolutions = convolutions
        self.halo = len(encoder) * convolutions
        """What an input must have more than its output, in pixels on each side."""
        sizes = (sum(widths), *classifier)
        self.classifier = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.last = nn.Conv2d(sizes[-1], 2, 1)
        self.feature_width = sizes[-1]
        for layer in [*self.blocks.modules(), *self.classifier]:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(cast("Tensor", layer.bias))  # a convolution may have none; these have

    def encode(self, embedded: Tensor) -> Tensor:
        """Return E, the concatenation of the embedding and the four blocks: ``(B, 640, h - 2 halo, w - 2 halo)``."""
        parts = [embedded]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        h, w = parts[-1].shape[-2:]
        return torch.cat([_centre(part, h, w) for part in parts], dim=1)

    def features(self, transcripts: PixelTranscripts) -> Tensor:
        """Return I, the output before the last layer (equation 3): ``(B, 64, h - 2 halo, w - 2 halo)``."""
        x = self.encode(self.embedding(transcripts))
        for k, layer in enumerate(self.classifier):
            x = layer(x)
            if k < len(self.classifier) - 1:
                x = functional.relu(x)
        return x

    def logits(self, features: Tensor) -> Tensor:
        """Return ``logit p_fg``, the difference of the two classes of equation 1: ``(B, h, w)``."""
        classes = self.last(functional.relu(features))
        return classes[:, 1] - classes[:, 0]

    def forward(self, transcripts: PixelTranscripts) -> Tensor:
        """Return ``logit p_fg``: ``(B, h - 2 halo, w - 2 halo)``."""
        return self.logits(self.features(transcripts))


def _block(n_in: int, n_out: int, convolutions: int) -> nn.Sequential:
    """Return 3 x 3 convolutions, each with a rectified linear unit."""
    layers: list[nn.Module] = []
    for k in range(convolutions):
        layers += [nn.Conv2d(n_out if k else n_in, n_out, 3), nn.ReLU()]
    return nn.Sequential(*layers)


def _centre(x: Tensor, h: int, w: int) -> Tensor:
    top, left = (x.shape[-2] - h) // 2, (x.shape[-1] - w) // 2
    return x[..., top : top + h, left : left + w]
