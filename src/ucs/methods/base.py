"""The interface of segmentation methods: arrays in, arrays out.

A run owns genes, regions, samples, tiles, files, memory, workers, resuming and refinement. A :class:`Method` owns what
is learned and decided, in four steps:

1. :meth:`Method.survey` measures a whole raster once, for training and prediction;
2. :meth:`Method.learn_shared` learns what all regions of the tissue have in common;
3. :meth:`Method.prepare` collects what one model learns from, and :meth:`TrainingSet.fit` trains it;
4. :meth:`Method.plan` applies models to a raster: a :class:`TilePlan` cuts out tasks, which a picklable
   :class:`TilePredictor` turns into cells, in this process or another one.

A new method is a subclass of :class:`Method` and a call of :func:`register`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ucs._kernels.moved import no_moves
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.params import TrainingParams
from ucs.methods.registry import METHODS, method_named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from ucs._kernels.stains import Stains
    from ucs.methods.model import UCSModel
    from ucs.methods.params import MethodParams

    Progress = Callable[[int, int], None]
    """Called with ``(done, total)``."""


@dataclass(frozen=True)
class RasterSample:
    """One sample, or a part of it, as arrays on one raster of ``(h, w)`` square pixels.

    Attributes
    ----------
    transcripts
        All features: genes, then controls.
    features
        Their names.
    n_genes
        How many of them are genes.
    nuclei
        ``(h, w)`` int32 ids 1..n, 0 elsewhere.
    n
        Number of nuclei.
    um_per_px
        Side of a pixel in um.
    learned
        ``(h, w)`` ids of the nuclei to learn from; all if None.
    inside
        ``(h, w)`` bool, the pixels to take background from; all if None.
    markers
        Marker genes of each type, or None.
    cell_types
        ``(n,)`` the type of each nucleus, ``""`` where unknown; None if none were given.
    number
        Of the sample among those that a model is learned from.
    stains
        Images of stains; None if there are none.
    """

    transcripts: TranscriptMap
    features: tuple[str, ...]
    n_genes: int
    nuclei: NDArray[np.int32]
    n: int
    um_per_px: float
    learned: NDArray[np.int32] | None = None
    inside: NDArray[np.bool_] | None = None
    markers: Mapping[str, Sequence[str]] | None = None
    cell_types: NDArray[np.object_] | None = None
    number: int = 0
    stains: Stains | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` in pixels."""
        return self.transcripts.shape

    @property
    def nuclei_to_learn(self) -> NDArray[np.int32]:
        """``(h, w)`` ids of the nuclei to learn from."""
        return self.nuclei if self.learned is None else self.learned

    def crop(self, window: Window) -> RasterSample:
        """Return a window that lies inside the raster; ids stay as they are."""
        of = window.slices
        return replace(
            self,
            transcripts=self.transcripts.crop(window),
            nuclei=self.nuclei[of],
            learned=None if self.learned is None else self.learned[of],
            inside=None if self.inside is None else self.inside[of],
            stains=None if self.stains is None else self.stains.crop(window),
        )


@dataclass(frozen=True)
class TileCells:
    """The cells on the core of one tile, ``(h, w)`` each, not yet refined.

    Attributes
    ----------
    labels
        int32, the nucleus that owns the pixel, 0 for none.
    confidence
        uint8, 255 times the probability that a transcript there comes from that nucleus' cell.
    foreground
        uint8, 255 times the probability that the pixel lies in any cell.
    moves
        ``(m, 6)`` int32, transcripts of another cell than their pixel, as :data:`ucs._kernels.moved.COLUMNS`; rows and
        columns are those of the core, features those of the raster. No transcript of a nucleus.
    """

    labels: NDArray[np.int32]
    confidence: NDArray[np.uint8]
    foreground: NDArray[np.uint8]
    moves: NDArray[np.int32] = field(default_factory=no_moves)


class TilePredictor(ABC):
    """Fitted models at work on one sample: plain arrays and nets, which may be pickled and sent to other processes."""

    @abstractmethod
    def on(self, device: torch.device) -> TilePredictor:
        """Return the predictor with its nets on a device; those of this one stay where they are."""

    @abstractmethod
    def forward(self, task: Any, *, device: torch.device, tile_size: int) -> Any:
        """Do the part of the nets, which a GPU may do while :meth:`decide` works on the tile before.

        Parameters
        ----------
        task
            Of :meth:`TilePlan.task`.
        device
            Where the nets are.
        tile_size
            Side in pixels of what goes through the nets at once on a GPU.
        """

    @abstractmethod
    def decide(self, scores: Any) -> TileCells:
        """Make cells of what :meth:`forward` returns."""


class TilePlan(ABC):
    """A sample with the models that are applied to it, ready to be cut into tiles."""

    predictor: TilePredictor

    @abstractmethod
    def task(self, core: Window) -> Any:
        """Cut out all that the pixels of a core depend on; its corner lies on the lattice of blocks. Picklable."""


class TrainingSet(ABC):
    """What one model learns from."""

    lacks: str = ""
    """What is missing for a model of its own, such as ``"no background"``; empty if nothing is."""

    @abstractmethod
    def fit(
        self,
        params: MethodParams,
        *,
        device: torch.device,
        seed: int,
        start: UCSModel | None,
        progress: Progress,
    ) -> UCSModel:
        """Train a model.

        Parameters
        ----------
        params
            Parameters of the method.
        device
            Where to compute.
        seed
            Of weights and random draws.
        start
            A trained model to begin with, which stays as it is; it takes a third of the steps then.
        progress
            Called with ``(steps done, steps at most)``.
        """


class Method(ABC):
    """A way to learn and decide which nucleus each pixel belongs to."""

    name: ClassVar[str]
    """As given to ``method=``."""
    params: ClassVar[type[MethodParams]]
    """Its parameters."""
    model: ClassVar[type[UCSModel]]
    """Its trained models."""
    threshold: ClassVar[float] = 0.5
    """Default of the probability of lying in a cell above which a pixel does."""
    finest_um: ClassVar[float | None] = None
    """Side of a pixel in um that its cells have by default where the platform's is coarser; None for the platform's."""
    uses_stains: ClassVar[bool] = False
    """Whether images of stains have an effect."""
    types_need_markers: ClassVar[bool] = False
    """Whether given cell types have an effect with marker genes only."""

    @property
    def trains(self) -> bool:
        """Whether it learns from the sample; otherwise its net was trained before."""
        return issubclass(self.params, TrainingParams)

    def uses_markers(self, params: MethodParams) -> bool:
        """Tell whether marker genes and given cell types have an effect."""
        return False

    def survey(
        self,
        raster: RasterSample,
        genes: tuple[str, ...],
        params: MethodParams,
        *,
        model_of_nucleus: NDArray[np.int64] | None = None,
        progress: Progress = lambda _done, _total: None,
    ) -> Any:
        """Measure a whole raster for training and prediction; None if there is nothing to measure.

        Parameters
        ----------
        raster
            The raster.
        genes
            Those that the nets see.
        params
            Parameters of the method.
        model_of_nucleus
            ``(n + 1,)`` which of several models each nucleus has; None for one model.
        progress
            Called with ``(tiles done, tiles)``.
        """
        return None

    def learn_shared(
        self, rasters: Sequence[RasterSample], genes: tuple[str, ...], params: MethodParams, *, seed: int
    ) -> Any:
        """Learn from whole samples what the models of all their regions share; None if there is nothing."""
        return None

    @abstractmethod
    def prepare(
        self,
        rasters: Sequence[RasterSample],
        surveys: Sequence[Any],
        genes: tuple[str, ...],
        params: MethodParams,
        shared: Any,
        *,
        of: str,
    ) -> TrainingSet:
        """Collect what one model learns from.

        Parameters
        ----------
        rasters, surveys
            One or several samples, or what one region holds of them, and :meth:`survey` of each.
        genes
            Those that the nets see.
        params
            Parameters of the method.
        shared
            Of :meth:`learn_shared`.
        of
            Names the tissue in messages; empty for one model.
        """

    @abstractmethod
    def plan(
        self,
        models: Sequence[UCSModel],
        raster: RasterSample,
        model_of_nucleus: NDArray[np.int64],
        survey: Any,
        *,
        threshold: float,
    ) -> TilePlan:
        """Apply one model, or one for each region, to a raster.

        Parameters
        ----------
        models
            Models of this method, with one resolution, reach and shape exponent.
        raster
            The whole raster.
        model_of_nucleus
            ``(n + 1,)`` the number of the model of each nucleus.
        survey
            Of :meth:`survey`, with the genes of the first model.
        threshold
            Probability of lying in a cell above which a pixel does, between 0 and 1.
        """

    def bytes_of_tile(self, side: int, n_pixels: int) -> int:
        """Return the bytes that are held of a tile of this side while it is worked on."""
        return min((side + _AROUND_TILE) ** 2, n_pixels) * _BYTES_PER_TILE_PIXEL


_BYTES_PER_TILE_PIXEL, _AROUND_TILE = 80, 128  # measured: of a tile at work, and how much larger than its core it is


def register(method: Method) -> Method:
    """Make a method known under its name, for ``method=`` and for saved models.

    Raises
    ------
    ValueError
        If the name is taken by another method.
    """
    known = METHODS.get(method.name)
    if known is not None and type(known) is not type(method):
        msg = f"There is a method {method.name!r} already: {known!r}. Give yours another name."
        raise ValueError(msg)
    METHODS[method.name] = method
    return method


def resolve_method(name: str | Method) -> Method:
    """Return the method of a name.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    return name if isinstance(name, Method) else method_named(name)


def method_names() -> list[str]:
    """Return the names of the methods that are known."""
    return list(METHODS)
