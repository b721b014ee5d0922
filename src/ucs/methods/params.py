"""Parameters of the nets and of training, checked where they are made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class TrainParams:
    """How the two nets are trained and which patch they look at.

    Lengths are in pixels, because the nets know nothing else; the resolution says what a pixel is.
    """

    patch_size: int = 48
    """Side of a training patch (paper: 48)."""
    batch_size: int = 1
    """Patches per step of the Foreground Predict Net."""
    max_steps: int = 0
    """Steps of the first net at most; 0 is the default of each: 300 of the density net; of the published one as many as
    patches cover the tissue, 120 at least and 480 at most."""
    evaluate_every: int = 20
    """Steps between two looks at the held-out patches."""
    patience: int = 3
    """Looks without a better held-out loss after which training stops; the best weights are kept."""
    learning_rate: float = 0.0
    """Adam's learning rate for the first net at its highest; 0 is the default of each: 3e-3 of the density net, 3e-4 of
    the published one (paper: 1e-4 throughout). It rises over the first steps and falls to 0 at the last along a cosine,
    which takes a third of the steps to the same held-out loss and leaves less noise."""
    density_width: int = 32
    """Channels of each convolution of the density net."""
    stretch: float = 0.3
    """How far distances follow the shape of nuclei (``softmask="scaled"``): the exponent of their ratio of axes."""
    threshold: float = 0.35
    """Probability of lying in a cell above which a pixel does, with the density net.

    Up to 1/2 cells hold at least their nucleus and what lies within 1 um of it; towards 1 they shrink to their nucleus.
    """
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates (paper)."""
    weight_decay: float = 1e-4
    """Adam's weight decay (paper)."""
    held_out: float = 0.1
    """Share of the lattice squares with nuclei whose pixels are never trained on."""
    foreground_weights: tuple[float, float] = (1.0, 1.0)
    """Weights w1, w2 of nucleus and background pixels (paper, equation 9)."""
    cell_weights: tuple[float, float] = (1.0, 1.0)
    """Weights w3, w4 of nucleus and background pixels (paper, equation 10)."""
    marker_weight: float = 0.01
    """Weight of the cross-entropy between q and the mask of markers, if there are any (the paper states none). Most
    pixels of a cell have no marker, so the term draws q to 0 there: 0.01 does no harm, with 1 cells wither."""
    encoder_convolutions: int = 1
    """3 x 3 convolutions in each of the four blocks of the published encoder, 1 (the paper's text) or 2."""
    softmask: str = "scaled"
    """How softmasks of the published nets follow the shape of nuclei: ``"scaled"`` with the exponent ``stretch``,
    ``"literal"`` by the root of the eccentricity as the paper has it, or ``"plain"``, not at all."""
    cell_patches: int = 0
    """Patches on which the Cell Predict Net is trained; 0: as many as cover the tissue, 48 at least and 192 at most."""
    cell_steps: int = 0
    """Steps of the Cell Predict Net at most; 0: four for each patch of the tissue, 200 at least and 400 at most."""
    cell_learning_rate: float = 5e-3
    """Adam's learning rate for the Cell Predict Net at its highest; it has 2,700 weights and sees fixed features."""
    min_nuclei: int = 50
    """Nuclei that a region must have for a model of its own."""
    tau: float = 5.0
    """Softness of the softmask in pixels (paper, equation 2)."""
    reach: int = 24
    """Half the patch a pixel looks at when nuclei are chosen: nuclei farther than this are no candidates."""

    def __post_init__(self) -> None:
        for name, low in (
            ("patch_size", 8),
            ("batch_size", 1),
            ("max_steps", 0),
            ("density_width", 1),
            ("evaluate_every", 1),
            ("patience", 1),
            ("cell_patches", 0),
            ("cell_steps", 0),
            ("min_nuclei", 1),
            ("reach", 1),
        ):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= low):
                msg = f"TrainParams.{name}={value!r} must be a whole number of at least {low}."
                raise ValueError(msg)
        if not 0 <= self.marker_weight < math.inf:
            msg = f"TrainParams.marker_weight={self.marker_weight!r} must not be negative."
            raise ValueError(msg)
        if not 0 <= self.learning_rate < math.inf:
            msg = f"TrainParams.learning_rate={self.learning_rate!r} must not be negative (0: the default of each net)."
            raise ValueError(msg)
        if not 0 <= self.stretch <= 1:
            msg = f"TrainParams.stretch={self.stretch!r} must lie between 0 (plain distances) and 1."
            raise ValueError(msg)
        if self.encoder_convolutions not in (1, 2):
            msg = f"TrainParams.encoder_convolutions={self.encoder_convolutions!r} must be 1 or 2."
            raise ValueError(msg)
        if self.softmask not in ("scaled", "literal", "plain"):
            msg = f"TrainParams.softmask={self.softmask!r} must be 'scaled', 'literal' or 'plain'."
            raise ValueError(msg)
        if not 0 < self.threshold < 1:
            msg = f"TrainParams.threshold={self.threshold!r} must lie between 0 and 1."
            raise ValueError(msg)
        for name in ("cell_learning_rate", "tau"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                msg = f"TrainParams.{name}={value!r} must be positive."
                raise ValueError(msg)
        if not 0 <= self.weight_decay < math.inf:
            msg = f"TrainParams.weight_decay={self.weight_decay!r} must not be negative."
            raise ValueError(msg)
        for name in ("foreground_weights", "cell_weights"):
            value = getattr(self, name)
            if not (len(value) == 2 and all(0 < weight < math.inf for weight in value)):
                msg = f"TrainParams.{name}={value!r} must be two positive numbers."
                raise ValueError(msg)
        if not (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)):
            msg = f"TrainParams.betas={self.betas!r} must be two numbers of at least 0 and below 1."
            raise ValueError(msg)
        if not 0 <= self.held_out <= 0.5:
            msg = f"TrainParams.held_out={self.held_out!r} must lie between 0 and 0.5."
            raise ValueError(msg)

    @classmethod
    def resolve(cls, value: TrainParams | Mapping[str, Any] | None, **defaults: Any) -> TrainParams:
        """Return parameters from an instance, a mapping of some of them, or None; ``defaults`` hold where it is silent.

        Raises
        ------
        ValueError
            If a name is unknown or a value out of bounds.
        TypeError
            If ``value`` is none of these.
        """
        if isinstance(value, TrainParams):
            return value
        if value is None:
            return cls(**defaults)
        if not hasattr(value, "keys"):
            msg = f"train={value!r} must be a TrainParams, a mapping of its fields, or None."
            raise TypeError(msg)
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(value) - known)
        if unknown:
            msg = f"train has unknown fields {unknown}; known are {sorted(known)}."
            raise ValueError(msg)
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return replace(cls(**defaults), **given)

    @property
    def softmask_strength(self) -> float | str:
        """What :func:`ucs._kernels.distances.nucleus_axes` is to be asked for."""
        return {"scaled": self.stretch, "plain": 0.0}.get(self.softmask, self.softmask)

    def filled(self, *, density: bool) -> TrainParams:
        """Return parameters with the defaults of the density net, or else of the published one, where 0 is given.

        Steps of the published nets stay 0, since they depend on the tissue.
        """
        steps, rate = (300, 3e-3) if density else (0, 3e-4)
        return replace(self, max_steps=self.max_steps or steps, learning_rate=self.learning_rate or rate)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
