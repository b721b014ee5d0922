"""A trained model of the density method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ucs.methods.density.expression import ExpressionProfiles
from ucs.methods.density.net import DensityNet
from ucs.methods.model import UCSModel, prefixed, unprefixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ucs.methods.params import MethodParams


@dataclass(frozen=True, kw_only=True, repr=False)
class DensityModel(UCSModel):
    """A density net with the expression clusters of the sample's nuclei.

    Attributes
    ----------
    net
        Predicts where cells are; in evaluation mode, on the CPU.
    clusters
        Tell which nucleus the transcripts at a pixel fit; without any cluster distance alone decides.
    """

    method: ClassVar[str] = "density"

    net: DensityNet
    clusters: ExpressionProfiles

    @property
    def expression(self) -> ExpressionProfiles | None:
        """Expression clusters of the nuclei; None if there are none."""
        return self.clusters if self.clusters.profiles is not None else None

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights of the net and the clusters."""
        return prefixed("net", self.net.state_dict()) | prefixed("clusters", self.clusters.state_dict())

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        description: Mapping[str, Any],
        genes: tuple[str, ...],
        params: MethodParams,
        um_per_px: float,
        history: dict[str, Any],
    ) -> DensityModel:
        """Make a model of what :meth:`tensors` returned."""
        width = tensors["net.convolutions.0.weight"].shape[0]
        net, clusters = DensityNet(width), ExpressionProfiles(len(tensors["clusters.log_share"]), len(genes))
        # torch's annotations lack memory_format.
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        net.load_state_dict(unprefixed("net", tensors))
        clusters.load_state_dict(unprefixed("clusters", tensors))
        return cls(
            net=net.eval(),
            clusters=clusters.eval(),
            genes=genes,
            params=params,
            um_per_px=um_per_px,
            history=history,
        )
