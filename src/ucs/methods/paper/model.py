"""A trained model of the paper's method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch

from ucs.methods.model import UCSModel, match_genes, prefixed, unprefixed
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ucs.methods.paper.params import PaperParams
    from ucs.methods.params import MethodParams


@dataclass(frozen=True, kw_only=True, repr=False)
class PaperModel(UCSModel):
    """The Foreground Predict Net and the Cell Predict Net.

    Attributes
    ----------
    foreground, cell
        Both nets, in evaluation mode, on the CPU.
    markers
        Marker genes of each type that the Cell Predict Net looks at; none in most models.
    """

    method: ClassVar[str] = "paper"

    foreground: ForegroundNet
    cell: CellNet
    markers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def uses_markers(self) -> bool:
        """Whether the Cell Predict Net looks at marker genes."""
        return bool(self.markers)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights of both nets."""
        return prefixed("foreground", self.foreground.state_dict()) | prefixed("cell", self.cell.state_dict())

    def description(self) -> dict[str, Any]:
        """Return the markers."""
        return {"markers": self.markers}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        description: Mapping[str, Any],
        genes: tuple[str, ...],
        params: MethodParams,
        um_per_px: float,
        history: dict[str, Any],
    ) -> PaperModel:
        """Make a model of what :meth:`tensors` and :meth:`description` returned."""
        markers = description["markers"]
        if not (isinstance(markers, dict) and all(isinstance(named, list) for named in markers.values())):
            msg = "'markers' must be lists of genes by cell type"
            raise TypeError(msg)
        if not all(isinstance(gene, str) for named in markers.values() for gene in named):
            msg = "'markers' must be names of genes"
            raise TypeError(msg)
        convolutions = cast("PaperParams", params).encoder_convolutions
        foreground = ForegroundNet(len(genes), convolutions=convolutions)
        cell = CellNet(marked=bool(markers))
        # torch's annotations lack memory_format.
        foreground.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        foreground.load_state_dict(unprefixed("foreground", tensors))
        cell.load_state_dict(unprefixed("cell", tensors))
        return cls(
            foreground=foreground.eval(),
            cell=cell.eval(),
            markers=markers,
            genes=genes,
            params=params,
            um_per_px=um_per_px,
            history=history,
        )

    def nets_for(self, genes: Sequence[str]) -> tuple[ForegroundNet, CellNet]:
        """Return both nets for some of the model's genes, in another order or not; the model stays as it is.

        Raises
        ------
        ValueError
            If the model does not know one of them.
        """
        if tuple(genes) == self.genes:
            return self.foreground, self.cell
        keep, index = match_genes(self.genes, genes)
        if not keep.all():
            msg = f"The model does not know {int((~keep).sum())} of {len(genes)} genes."
            raise ValueError(msg)
        weights = self.foreground.state_dict()
        first = "embedding.layers.0.weight"  # (256, n_genes)
        foreground = ForegroundNet(len(genes), convolutions=self.foreground.convolutions)
        foreground.load_state_dict({**weights, first: weights[first][:, torch.from_numpy(index).long()]})
        return foreground.eval(), self.cell
