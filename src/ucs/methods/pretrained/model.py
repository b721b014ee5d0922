"""A model of the pretrained method: the net, and the expression clusters of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors.torch import load

from ucs.methods.density.expression import ExpressionProfiles
from ucs.methods.model import UCSModel, prefixed, unprefixed
from ucs.methods.pretrained.clusters import Clusters
from ucs.methods.pretrained.net import OwnerNet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ucs.methods.params import MethodParams

WEIGHTS = "owner_net.safetensors"
"""File of the weights beside this module; ``benchmarks/pretraining`` makes it."""

_EVIDENCE_UM = 0.5  # um of distance per unit of log likelihood, for the search for missing cells


@dataclass(frozen=True, kw_only=True, repr=False)
class PretrainedModel(UCSModel):
    """The pretrained net with the expression clusters of a sample.

    Attributes
    ----------
    net
        Says which nucleus owns a place; in evaluation mode, on the CPU.
    clusters
        Of the sample's nuclei, and its ambient RNA.
    """

    method: ClassVar[str] = "pretrained"

    net: OwnerNet
    clusters: Clusters

    @property
    def expression(self) -> ExpressionProfiles | None:
        """Expression clusters of the nuclei; None if there is only one."""
        if len(self.clusters.log_share) < 2:
            return None
        made = ExpressionProfiles(*self.clusters.log_ratio[:-1].shape)
        made.log_ratio.copy_(self.clusters.log_ratio[:-1])
        made.log_share.copy_(self.clusters.log_share)
        made.expression_weight_um.fill_(_EVIDENCE_UM)
        return made

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
    ) -> PretrainedModel:
        """Make a model of what :meth:`tensors` returned."""
        clusters = Clusters(len(tensors["clusters.log_share"]), len(genes))
        clusters.load_state_dict(unprefixed("clusters", tensors))
        net = net_of(unprefixed("net", tensors))
        return cls(
            net=net, clusters=clusters.eval(), genes=genes, params=params, um_per_px=um_per_px, history=history
        )


def net_of(weights: Mapping[str, Tensor]) -> OwnerNet:
    """Return a net with given weights, in evaluation mode."""
    net = OwnerNet(weights["inputs.weight"].shape[0])
    net.load_state_dict(weights)
    # torch's annotations lack memory_format.
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval()


@cache
def _published_weights() -> bytes:
    return files("ucs.methods.pretrained").joinpath(WEIGHTS).read_bytes()


def pretrained_net() -> OwnerNet:
    """Return the net as it comes with the package."""
    return net_of(load(_published_weights()))
