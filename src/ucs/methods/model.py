"""A trained model: both nets, the genes they know, and how they came about."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ucs.methods.density.expression import KindNet
from ucs.methods.density.net import DensityNet
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.params import TrainParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap

_FORMAT = 1
_WEIGHTS = "model.safetensors"
MODEL_FILE = "model.json"
REGIONS_FILE = "regions.json"  # of a folder with the models of several regions

MINIMUM_OVERLAP = 0.5
"""Share of a model's genes that data must have for the model to be applied."""


@dataclass(frozen=True)
class UCSModel:
    """Both nets and all that is needed to apply them.

    Attributes
    ----------
    foreground
        The net that says where cells are, in evaluation mode, on the CPU: the density net, or the published Foreground
        Predict Net.
    cell
        The net that says which nucleus a pixel belongs to: kinds of cells, or the published Cell Predict Net.
    genes
        Names of the genes that the nets see, in their order.
    params
        Parameters of the training and of the patch.
    um_per_px
        Resolution of the raster it was trained on.
    history
        Plain values: background chosen, curves, seed, versions.
    markers
        Marker genes of each type that the published Cell Predict Net looks at; none in most models.
    """

    foreground: ForegroundNet | DensityNet
    cell: CellNet | KindNet
    genes: tuple[str, ...]
    params: TrainParams
    um_per_px: float
    history: dict[str, Any] = field(default_factory=dict)
    markers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_published(self) -> bool:
        """Whether the nets are those of the paper."""
        return isinstance(self.foreground, ForegroundNet)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model into a directory: weights as safetensors, all else as JSON.

        Parameters
        ----------
        path
            The directory; made if it does not exist.
        overwrite
            Whether a model that is there may be replaced.

        Raises
        ------
        FileExistsError
            If there is one and ``overwrite`` is False.
        """
        path = Path(path)
        if not overwrite and any((path / name).exists() for name in (MODEL_FILE, REGIONS_FILE)):
            msg = f"{path} holds a model already; pass overwrite=True to replace it."
            raise FileExistsError(msg)
        description = {
            "format": _FORMAT,
            "nets": "published" if self.is_published else "density",
            "genes": list(self.genes),
            "params": self.params.as_dict(),
            "um_per_px": self.um_per_px,
            "history": self.history,
            "markers": self.markers,
        }
        text = json.dumps(description, indent=1)  # first, since it fails on what JSON does not know
        path.mkdir(parents=True, exist_ok=True)
        weights = {f"foreground.{k}": v.contiguous() for k, v in self.foreground.state_dict().items()}
        weights |= {f"cell.{k}": v.contiguous() for k, v in self.cell.state_dict().items()}
        save_file(weights, path / _WEIGHTS)
        (path / MODEL_FILE).write_text(text)
        (path / REGIONS_FILE).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> UCSModel:
        """Read a model that :meth:`save` wrote; nothing is unpickled.

        Raises
        ------
        FileNotFoundError
            If there is no model at ``path``.
        ValueError
            If its format is not known to this version.
        """
        path = Path(path)
        for name in (MODEL_FILE, _WEIGHTS):
            if not (path / name).exists():
                msg = f"{path} holds no model: {name} is missing."
                raise FileNotFoundError(msg)
        description = json.loads((path / MODEL_FILE).read_text())
        if description.get("format") != _FORMAT:
            msg = f"{path} has model format {description.get('format')!r}; this version reads format {_FORMAT}."
            raise ValueError(msg)
        weights = load_file(path / _WEIGHTS)
        params, n_genes = TrainParams.resolve(description["params"]), len(description["genes"])
        foreground: ForegroundNet | DensityNet
        cell: CellNet | KindNet
        if description.get("nets", "published") == "published":  # the only ones when models did not yet say which
            foreground = ForegroundNet(n_genes, convolutions=params.encoder_convolutions)
            cell = CellNet(marked=bool(description.get("markers")))
        else:
            foreground = DensityNet(params.density_width)
            cell = KindNet(len(weights["cell.log_share"]), n_genes)
        # torch's annotations lack memory_format.
        foreground.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for prefix, net in (("foreground.", foreground), ("cell.", cell)):
            net.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        return cls(
            foreground.eval(),
            cell.eval(),
            tuple(description["genes"]),
            params,
            description["um_per_px"],
            description["history"],
            description.get("markers", {}),
        )

    def published_nets(self) -> tuple[ForegroundNet, CellNet]:
        """Return both nets of a published model.

        Raises
        ------
        TypeError
            If they are others.
        """
        if not (isinstance(self.foreground, ForegroundNet) and isinstance(self.cell, CellNet)):
            msg = "The model does not have the published nets."
            raise TypeError(msg)
        return self.foreground, self.cell

    def density_nets(self) -> tuple[DensityNet, KindNet]:
        """Return both nets of a density model.

        Raises
        ------
        TypeError
            If they are others.
        """
        if not (isinstance(self.foreground, DensityNet) and isinstance(self.cell, KindNet)):
            msg = "The model has the published nets."
            raise TypeError(msg)
        return self.foreground, self.cell

    def nets_for(self, genes: Sequence[str]) -> tuple[ForegroundNet, CellNet]:
        """Return both published nets for some of the model's genes, in another order or not; the model stays as it is.

        Raises
        ------
        ValueError
            If the model does not know one of them.
        """
        published, cell = self.published_nets()
        if tuple(genes) == self.genes:
            return published, cell
        keep, index = match_genes(self.genes, genes)
        if not keep.all():
            msg = f"The model does not know {int((~keep).sum())} of {len(genes)} genes."
            raise ValueError(msg)
        weights = published.state_dict()
        first = "embedding.layers.0.weight"  # (256, n_genes)
        foreground = ForegroundNet(len(genes), convolutions=published.convolutions)
        foreground.load_state_dict({**weights, first: weights[first][:, torch.from_numpy(index).long()]})
        return foreground.eval(), cell

    def select_genes(self, transcripts: TranscriptMap, features: Sequence[str]) -> TranscriptMap:
        """Return the transcripts that the model knows, numbered in its order of genes.

        Parameters
        ----------
        transcripts
            Of the data.
        features
            Names of its features.

        Raises
        ------
        ValueError
            If the data has less than half of the model's genes.
        """
        self.check_overlap(features)
        keep, index = match_genes(self.genes, features)
        return transcripts.select(keep, index, len(self.genes))

    def check_overlap(self, features: Sequence[str]) -> None:
        """Raise ``ValueError`` if data with these features has less than half of the model's genes."""
        n_shared = len(set(self.genes).intersection(features))
        if n_shared < MINIMUM_OVERLAP * len(self.genes):
            msg = (
                f"The model knows {len(self.genes)} genes, of which the data ({len(features)} features) has {n_shared} "
                f"({n_shared / len(self.genes):.0%}); at least {MINIMUM_OVERLAP:.0%} are needed. Use a "
                "model trained on this panel, or train one (model=None)."
            )
            raise ValueError(msg)


def match_genes(genes: Sequence[str], features: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """For each feature, tell whether it is one of ``genes`` and which (0 if none): two arrays ``(n_features,)``."""
    number = {gene: k for k, gene in enumerate(genes)}
    keep = np.array([feature in number for feature in features], dtype=bool)
    return keep, np.array([number.get(feature, 0) for feature in features], dtype=np.int32)
