"""Training of the density net and of the kinds of cells on prepared tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.ids import ids_in
from ucs._kernels.lattice import bounding_boxes
from ucs._run.cell_types import memberships
from ucs._utils.log import logger
from ucs._utils.progress import stage
from ucs.methods.density.expression import KindNet
from ucs.methods.density.expression_weight import LabelledTissue, learn_kinds
from ucs.methods.density.overviews import overview_of
from ucs.methods.density.statistics import renumber, tiles_of
from ucs.methods.density.training import DensityData, train_density
from ucs.methods.device import precision, resolve_device
from ucs.methods.model import UCSModel, match_genes

if TYPE_CHECKING:
    from ucs._kernels.transcripts import TranscriptMap
    from ucs._read.sample import Sample
    from ucs._read.transcripts import Transcripts
    from ucs._run.tissue import Tissue
    from ucs._run.training import Learning
    from ucs.methods.params import TrainParams

FINE_TUNING = 1 / 3
"""Share of the steps that are left to a model which begins as the shared one."""

_ENOUGH_NUCLEI = 20_000
_PART = 768  # px, side of a part of a sample with more nuclei than that

_LOOKS = 20  # points of the loss curve that are kept


def select(transcripts: Transcripts, genes: tuple[str, ...]) -> TranscriptMap:
    """Return the transcripts of some genes, numbered in their order."""
    keep, index = match_genes(genes, transcripts.genes + transcripts.controls)
    return transcripts.map.select(keep, index, len(genes))


def learn_kind_net(samples: list[Sample], genes: tuple[str, ...], learning: Learning) -> KindNet:
    """Learn kinds of cells from whole samples; an empty net if expression is not to have a say."""
    if learning.ownership == "distance":
        return KindNet(0, len(genes))
    annotate = memberships(samples, genes, learning.markers)
    tissues = [
        part
        for sample in samples
        for part in _labelled(sample, genes, learning.seed, whole=annotate is not None)
    ]
    profiles, trust_um = learn_kinds(tissues, seed=learning.seed, annotate=annotate)
    if profiles is None:
        logger.info("Too few nuclei with transcripts to tell kinds of cells apart: pixels go to the nearest nucleus.")
    else:
        logger.info(
            "Kinds of cells: %d; a unit of log likelihood outweighs %.2f um.", len(profiles.log_share), trust_um
        )
    return KindNet.of(profiles, trust_um, len(genes))


def _labelled(sample: Sample, genes: tuple[str, ...], seed: int, *, whole: bool) -> list[LabelledTissue]:
    """Return a sample, or random parts of it that have enough nuclei: a whole slide would take memory for nothing."""
    transcripts, nuclei, n = sample.transcripts, sample.nuclei.labels, len(sample.nuclei.ids)
    um_per_px = transcripts.grid.um_per_px
    if whole or n <= _ENOUGH_NUCLEI:
        return [LabelledTissue(select(transcripts, genes), nuclei, bounding_boxes(nuclei, n), um_per_px)]
    tiles = list(tiles_of(nuclei.shape, _PART))
    parts, n_found = [], 0
    for k in np.random.default_rng(seed).permutation(len(tiles)):
        ids, local = renumber(nuclei[tiles[k].slices], n)
        if len(ids) <= 2:  # no nucleus has a neighbour
            continue
        part = select(replace(transcripts, map=transcripts.map.crop(tiles[k])), genes)
        parts.append(LabelledTissue(part, local, bounding_boxes(local, len(ids) - 1), um_per_px))
        n_found += len(ids) - 1
        if n_found >= _ENOUGH_NUCLEI:
            break
    return parts


def kinds_of_genes(kinds: KindNet, genes: tuple[str, ...], wanted: tuple[str, ...]) -> KindNet:
    """Return a net of kinds for some of its genes."""
    if wanted == genes:
        return kinds
    number = {gene: k for k, gene in enumerate(genes)}
    columns = [number[gene] for gene in wanted]
    out = KindNet(len(kinds.log_share), len(wanted))
    out.log_ratio.copy_(kinds.log_ratio[:, columns])
    out.log_share.copy_(kinds.log_share)
    out.trust_um.copy_(kinds.trust_um)
    return out


@dataclass(frozen=True)
class DensityLesson:
    """What one density net learns from; ``has_background`` is true because it needs none to be named."""

    data: list[DensityData]
    genes: tuple[str, ...]
    um_per_px: float
    of: str
    has_background: bool = True

    @classmethod
    def prepare(
        cls, tissues: list[Tissue], genes: tuple[str, ...], learning: Learning, of: str = ""
    ) -> DensityLesson:
        """Measure the surroundings of each pixel; ``of`` names the tissue in messages."""
        data = [_data(tissue, genes, learning.params) for tissue in tissues]
        return cls(data, genes, tissues[0].transcripts.grid.um_per_px, of)

    def train(
        self,
        learning: Learning,
        timings: dict[str, float],
        kinds: KindNet,
        *,
        start: UCSModel | None = None,
        detail: str = "",
    ) -> UCSModel:
        """Train the density net, from a new one or from a trained model's on."""
        params, where = learning.params.filled(density=True), resolve_device(learning.device)
        if start is not None:
            params = replace(params, max_steps=math.ceil(FINE_TUNING * params.max_steps))
        with stage("train", timings, progress=learning.progress, unit="step", detail=detail) as update:
            net, losses = train_density(
                self.data,
                params,
                device=where,
                seed=learning.seed,
                start=None if start is None else start.density_nets()[0],
                progress=update,
            )
        curve = _curve(losses)
        logger.info(
            "Trained the density net%s: %d steps, loss %.4f in the first ones, %.4f in the last quarter.",
            f" of {self.of}" if self.of else "",
            params.max_steps,
            curve["loss"][0],
            np.mean(losses[-(len(losses) // 4 + 1) :]),
        )
        history = {
            "background": {"method": "density"},
            "curves": {"density": curve},
            "trust_um": float(kinds.trust_um),
            "seed": learning.seed,
            "n_samples": len(self.data),
            "warm_start": start is not None,
            "device": str(where),
            "precision": precision(where),
            "versions": {name: version(name) for name in ("spatialdata-ucs", "torch", "numpy", "numba")},
        }
        return UCSModel(net.cpu(), kinds, self.genes, params, self.um_per_px, history)


def _data(tissue: Tissue, genes: tuple[str, ...], params: TrainParams) -> DensityData:
    overview = overview_of(tissue.transcripts, tissue.nuclei, genes, params, tissue.overviews)
    mine = np.zeros(len(overview.boxes), dtype=bool)
    mine[ids_in(tissue.learned)] = True
    return DensityData.of(overview, mine)


def _curve(losses: list[float]) -> dict[str, list[float] | list[int]]:
    """Return means of the loss over equal parts of the training."""
    edges = np.unique(np.linspace(0, len(losses), min(_LOOKS, len(losses)) + 1).astype(int))
    means = [float(np.mean(losses[a:b])) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return {"step": edges[1:].tolist(), "loss": means}
