"""Parameters of the density method."""

from __future__ import annotations

from dataclasses import dataclass

from ucs._utils.options import documented, option
from ucs.methods.params import TrainingParams


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class DensityParams(TrainingParams):
    """How the density net is trained and how owners are chosen.

    Lengths are in pixels, because the net knows nothing else; the resolution says what a pixel is.
    """

    ownership: str = option(
        "expression",
        "Which nucleus a pixel goes to. 'expression': the near one whose expression cluster its transcripts fit, as "
        "far as the sample shows that this tells owners apart; elsewhere the nearest. 'distance': the nearest.",
        choices=("expression", "distance"),
    )
    batch_size: int = option(1, "Patches per step.", least=1)
    max_steps: int = option(300, "Steps of the training.", least=1)
    learning_rate: float = option(
        3e-3,
        "Adam's learning rate at its highest. It rises over the first steps and falls to 0 at the last along a cosine.",
        above=0,
    )
    width: int = option(32, "Channels of each convolution.", least=1)
    betas: tuple[float, float] = option((0.9, 0.999), "Adam's decay rates (paper).", least=0, below=1)
    weight_decay: float = option(1e-4, "Adam's weight decay (paper).", least=0)
