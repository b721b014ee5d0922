"""Parameters of the paper's method."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from ucs._utils.checks import check_positive, is_number
from ucs._utils.options import documented, option
from ucs.methods.params import TrainingParams

STEPS, CELL_STEPS, CELL_PATCHES = (120, 480), (200, 400), (48, 192)
"""Fewest and most steps of both nets, and patches of the second, where they grow with the tissue: small samples need so
many steps to converge, and with the most of them a slide trains in some minutes on one core."""


def check_background(background: Any, name: str) -> None:
    """Raise ``ValueError`` unless it is ``"auto"``, ``"paper"`` or a positive distance."""
    if background in ("auto", "paper"):
        return
    if isinstance(background, str):
        msg = f"{name}={background!r} is unknown; valid are 'auto', 'paper' or a distance in um."
        raise ValueError(msg)
    check_positive(background, name)


def check_shape_exponent(value: Any, name: str) -> None:
    """Raise ``ValueError`` unless it is ``"literal"`` or a number from 0 to 1."""
    if value != "literal" and not (is_number(value) and 0 <= value <= 1):
        msg = f"{name}={value!r} must be a number from 0 (plain distances) to 1, or 'literal'."
        raise ValueError(msg)


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class PaperParams(TrainingParams):
    """How the Foreground Predict Net and the Cell Predict Net are trained.

    Lengths are in pixels unless said otherwise, because the nets know nothing else; the resolution says what a pixel
    is.
    """

    background: str | float = option(
        "auto",
        "Where training takes background from (paper, equation 7): 'auto', beyond a distance from nuclei that is "
        "calibrated from the density around them; 'paper', outside the paper's dilation (10 x 10 kernel, 4 times), far "
        "too distant in dense tissue; or a distance in um.",
        check=check_background,
    )
    batch_size: int = option(1, "Patches per step of the Foreground Predict Net.", least=1)
    encoder_convolutions: int = option(
        1,
        "3 x 3 convolutions in each of the four blocks of the Foreground Predict Net's encoder: 1, as the paper's text "
        "has it, or 2.",
        least=1,
        most=2,
    )
    shape_exponent: float | str = option(  # type: ignore[assignment]
        0.3,
        "How far the softmasks' distances follow the shape of nuclei (paper, equation 11), in training and prediction: "
        "exponent of the ratio of the axes of the nucleus' ellipse, 0 for plain distances, or 'literal' for the root "
        "of the eccentricity, as the paper writes it.",
        check=check_shape_exponent,
    )
    max_steps: int = option(
        0,
        "Steps of the Foreground Predict Net at most; 0: one for each patch that covers the tissue, at least 120 and "
        "at most 480.",
        least=0,
    )
    learning_rate: float = option(
        3e-4,
        "Adam's learning rate for the Foreground Predict Net at its highest (paper: 1e-4 throughout). It rises over "
        "the first steps and falls to 0 along a cosine, which takes a third of the steps to the same held-out loss.",
        above=0,
    )
    evaluate_every: int = option(20, "Steps between two looks at the held-out patches.", least=1)
    patience: int = option(3, "Looks without a better held-out loss after which training stops.", least=1)
    betas: tuple[float, float] = option((0.9, 0.999), "Adam's decay rates (paper).", least=0, below=1)
    weight_decay: float = option(1e-4, "Adam's weight decay (paper).", least=0)
    held_out: float = option(
        0.1,
        "Share of the lattice squares of the tissue whose pixels are never trained on, at most 12 of a sample.",
        least=0,
        most=0.5,
    )
    foreground_weights: tuple[float, float] = option(
        (1.0, 1.0), "Weights w1, w2 of nucleus and background pixels (paper, equation 9).", above=0
    )
    cell_weights: tuple[float, float] = option(
        (1.0, 1.0), "Weights w3, w4 of nucleus and background pixels (paper, equation 10).", above=0
    )
    marker_weight: float = option(
        0.01,
        "Weight of the cross-entropy between q and the mask of markers (the paper states none). Most pixels of a cell "
        "have no marker, so the term draws q to 0 there: 0.01 does no harm, with 1 cells wither.",
        least=0,
    )
    cell_patches: int = option(
        0,
        "Patches on which the Cell Predict Net is trained; 0: as many as cover the tissue, at least 48 and at most "
        "192.",
        least=0,
    )
    cell_steps: int = option(
        0,
        "Steps of the Cell Predict Net at most; 0: four for each patch of the tissue, at least 200 and at most 400.",
        least=0,
    )
    cell_learning_rate: float = option(
        5e-3, "Adam's learning rate for the Cell Predict Net at its highest; it has 2,700 weights.", above=0
    )
    tau: float = option(5.0, "Softness of the softmask in pixels (paper, equation 2).", above=0)

    def planned(self, n_pixels: int) -> Self:
        """Return parameters with numbers of steps and patches for a tissue of so many pixels."""
        n_patches = round(n_pixels / self.patch_size**2)

        def within(n: float, bounds: tuple[int, int]) -> int:
            return math.ceil(min(max(n, bounds[0]), bounds[1]))

        return replace(
            self,
            max_steps=self.max_steps or within(n_patches / self.batch_size, STEPS),
            cell_steps=self.cell_steps or within(4 * n_patches, CELL_STEPS),
            cell_patches=self.cell_patches or within(n_patches, CELL_PATCHES),
        )
