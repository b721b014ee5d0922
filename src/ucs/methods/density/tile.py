"""The cells of one tile: all that is done pixel by pixel, on a part of the raster that holds what its core depends on.

A :class:`TileTask` and :class:`Judges` are plain arrays and nets: they may go to another process or machine, and give
the same result there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ucs.methods.density.confidence import share_from_cells
from ucs.methods.density.ownership import Evidence, choose_owners
from ucs.methods.density.surroundings import cell_probability
from ucs.methods.density.training import DensityData, predict_density

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray

    from ucs.methods.density.levels import Levels
    from ucs.methods.density.net import DensityNet
    from ucs.methods.density.statistics import Extract, Selection
    from ucs.methods.density.surroundings import Surroundings


@dataclass(frozen=True)
class Judge:
    """A density model at work on one sample.

    Attributes
    ----------
    net
        On the device, or on the CPU.
    selection
        The features that it sees.
    levels
        Of the sample, on the pixels of its nuclei.
    mean
        Mean count of these pixels.
    """

    net: DensityNet
    selection: Selection
    levels: Levels
    mean: float


@dataclass(frozen=True)
class Judges:
    """What is the same for all tiles.

    Attributes
    ----------
    judges
        The models.
    log_ratio
        ``(kinds, features)`` of the features that the first one sees; None to go by distance alone.
    trust_um
        See :class:`ucs.methods.density.ownership.Evidence`.
    threshold
        Probability of lying in a cell above which a pixel does.
    """

    judges: tuple[Judge, ...]
    log_ratio: NDArray[np.float32] | None
    trust_um: float
    threshold: float

    def on(self, device: torch.device) -> Judges:
        """Return them with their nets on a device; those of this object may move there, too."""
        return replace(self, judges=tuple(replace(judge, net=judge.net.to(device)) for judge in self.judges))


@dataclass(frozen=True)
class TileTask:
    """What is to be done.

    Attributes
    ----------
    number
        Of the tile.
    extract
        The part of the raster.
    judge
        ``(m + 1,)`` number of the model that judges each nucleus.
    richness
        ``(models, m + 1)`` of the nuclei, in the transcripts that each model sees.
    membership
        ``(m + 1, kinds)`` how likely each nucleus is of each kind.
    """

    number: int
    extract: Extract
    judge: NDArray[np.integer]
    richness: NDArray[np.float32]
    membership: NDArray[np.float32]


@dataclass(frozen=True)
class TileCells:
    """What is said of the pixels of a core, ``(h, w)`` each.

    Attributes
    ----------
    labels
        int32, the id in the raster of the nucleus that owns the pixel, 0 for none; not yet refined.
    certainty
        uint8, 255 times the probability of that owner among the nuclei around.
    from_cells
        uint8, 255 times the probability that a transcript there comes from a cell.
    """

    labels: NDArray[np.int32]
    certainty: NDArray[np.uint8]
    from_cells: NDArray[np.uint8]


@dataclass(frozen=True)
class Density:
    """A task with what the nets say of it; ``(h, w)`` of its window, right in its core."""

    task: TileTask
    around: Surroundings
    in_cell: NDArray[np.float32]
    from_cells: NDArray[np.uint8]


def cells_of_tile(task: TileTask, judges: Judges, *, device: torch.device, tile_size: int) -> TileCells:
    """Return the cells of one tile.

    Parameters
    ----------
    task, judges
        The tile and the models, whose nets are on ``device``.
    device
        Where to compute.
    tile_size
        As in :func:`ucs.methods.density.training.predict_density`.
    """
    return decide(ask_nets(task, judges, device=device, tile_size=tile_size), judges)


def ask_nets(
    task: TileTask,
    judges: Judges,
    *,
    device: torch.device,
    tile_size: int,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> Density:
    """Do the part of the nets: how likely each pixel lies in a cell."""
    part, core = task.extract, task.extract.inner
    first = part.surroundings(judges.judges[0].selection.of(part.transcripts))
    nearest = first.nearest
    in_cell = np.zeros(first.totals.shape, dtype=np.float32)
    from_cells = np.zeros(first.totals.shape, dtype=np.uint8)
    for number, judge in enumerate(judges.judges):
        mine = task.judge == number
        mine[0] = False
        if not mine.any():
            continue
        around = replace(first, richness=task.richness[number])
        if number > 0:
            around = replace(around, totals=judge.selection.of(part.transcripts).totals())
        density = np.zeros(first.totals.shape, dtype=np.float32)
        data = DensityData(around, mine, judge.mean)
        predict_density(data, judge.net, density, device=device, core=core, tile_size=tile_size, progress=update)
        probability = cell_probability(around, density, judge.levels)
        share = share_from_cells(around, density, judge.levels)
        if len(judges.judges) == 1:
            return Density(task, first, probability, share)
        inside = mine[nearest.owner]
        np.copyto(in_cell, probability, where=inside)
        np.copyto(from_cells, share, where=inside)
    return Density(task, first, in_cell, from_cells)


def decide(density: Density, judges: Judges) -> TileCells:
    """Do the remainder: which nucleus owns each pixel, and which pixels lie in no cell."""
    part, around = density.task.extract, density.around
    evidence = None
    if judges.log_ratio is not None:
        of_first = judges.judges[0].selection.of(part.transcripts)
        evidence = Evidence(of_first, judges.log_ratio, density.task.membership, judges.trust_um)
    owner, certainty = choose_owners(
        part.nuclei, around.boxes, around.axes, reach=part.reach, um_per_px=part.um_per_px, evidence=evidence
    )
    inner = part.inner.slices
    labels = part.ids[owner[inner]]
    labels[(density.in_cell[inner] <= judges.threshold) & (part.nuclei[inner] == 0)] = 0
    return TileCells(labels, certainty[inner].copy(), density.from_cells[inner].copy())
