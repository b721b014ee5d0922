"""A trained model: what a method has learned, the genes it knows, and how it came about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ucs.methods.model_files import (
    MODEL_FILE,
    check_description,
    check_free,
    digest_of,
    read_model,
    read_weights,
    readable,
    write_model,
)
from ucs.methods.registry import method_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ucs._kernels.transcripts import TranscriptMap
    from ucs.methods.clusters.expression import ExpressionProfiles
    from ucs.methods.params import MethodParams

MINIMUM_OVERLAP = 0.5
"""Share of a model's genes that data must have for the model to be applied."""


@dataclass(frozen=True, repr=False)
class UCSModel(ABC):
    """What a method has learned, and all that is needed to apply it.

    Attributes
    ----------
    genes
        Names of the genes that the nets see, in their order.
    params
        Parameters of the method.
    um_per_px
        Resolution of the raster it was trained on.
    history
        Plain values: curves of the training, seed, versions.
    """

    method: ClassVar[str]
    """Name of the method."""

    genes: tuple[str, ...]
    params: Any
    um_per_px: float
    history: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        name, seed = type(self).__name__, self.history.get("seed")
        return f"{name}({len(self.genes)} genes, {self.um_per_px:g} um per px, seed {seed}, {self.params!r})"

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return all that is learned, by name."""

    def description(self) -> dict[str, Any]:
        """Return what more is to be saved, as values that JSON knows."""
        return {}

    @classmethod
    @abstractmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        description: Mapping[str, Any],
        genes: tuple[str, ...],
        params: MethodParams,
        um_per_px: float,
        history: dict[str, Any],
    ) -> UCSModel:
        """Make a model of what :meth:`tensors` and :meth:`description` returned.

        When a file is read it is first called with tensors that have a shape, but no values (torch's ``meta`` device).
        """

    @property
    def expression(self) -> ExpressionProfiles | None:
        """Expression clusters of the nuclei; None if the model has none."""
        return None

    @property
    def uses_markers(self) -> bool:
        """Whether the model looks at marker genes, and so at given cell types, in prediction."""
        return False

    def distinct(self) -> list[UCSModel]:
        """Return every model once, as :meth:`RegionModels.distinct` does: this one."""
        return [self]

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model into a directory: weights as safetensors, all else as JSON.

        Whatever happens on the way, the directory holds the old model or the new one.

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
        check_free(path, overwrite=overwrite)
        write_model(path, MODEL_FILE, self.described(), [self.tensors()])

    def described(self) -> dict[str, Any]:
        """Return all but what is learned, as values that JSON knows."""
        return {
            "method": self.method,
            "genes": list(self.genes),
            "params": self.params.as_dict(),
            "um_per_px": self.um_per_px,
            "history": self.history,
            "weights": digest_of(self.tensors()),
            **self.description(),
        }

    @classmethod
    def load(cls, path: str | Path) -> UCSModel:
        """Read a model that :meth:`save` wrote; nothing is unpickled.

        Raises
        ------
        FileNotFoundError
            If there is no model at ``path``.
        ValueError
            If a file is malformed, damaged or too large, or its format or method is not known to this version.
        """
        path = Path(path)
        return read_model(path, MODEL_FILE, lambda description: cls.of_description(path, description))

    @classmethod
    def of_description(cls, path: Path, description: dict[str, Any]) -> UCSModel:
        """Make the model that a file in a directory describes, see :meth:`load`."""
        with readable(path):
            check_description(description)
            method = method_named(description["method"])
            rest = (
                description,
                tuple(description["genes"]),
                method.params.resolve(description["params"]),
                float(description["um_per_px"]),
                description["history"],
            )
            tensors = read_weights(
                path, description["weights"], lambda empty: method.model.from_tensors(empty, *rest).tensors()
            )
            return method.model.from_tensors(tensors, *rest)

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


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under names that begin with a prefix."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def match_genes(genes: Sequence[str], features: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """For each feature, tell whether it is one of ``genes`` and which (0 if none): two arrays ``(n_features,)``."""
    number = {gene: k for k, gene in enumerate(genes)}
    keep = np.array([feature in number for feature in features], dtype=bool)
    return keep, np.array([number.get(feature, 0) for feature in features], dtype=np.int32)


@dataclass(frozen=True)
class Selection:
    """Which features of a map are looked at, and their new numbers; see :meth:`TranscriptMap.select`."""

    keep: NDArray[np.bool_]
    new_index: NDArray
    n_features: int

    @classmethod
    def of_genes(cls, genes: Sequence[str], features: Sequence[str]) -> Selection:
        """Select genes, in their order, from features."""
        return cls(*match_genes(genes, features), len(genes))

    def of(self, transcripts: TranscriptMap) -> TranscriptMap:
        """Return these features of a map."""
        return transcripts.select(self.keep, self.new_index, self.n_features)

    def of_columns(self, counts: Any) -> Any:
        """Return these features of CSR counts ``(n, all features)``."""
        from scipy.sparse import csr_matrix

        of_row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        kept = self.keep[counts.indices]
        entries = (counts.data[kept], (of_row[kept], self.new_index[counts.indices[kept]]))
        return csr_matrix(entries, shape=(counts.shape[0], self.n_features))
