"""The steps of the main job in the order in which they are done, from reading to the new elements."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ucs._files.store import least_bytes
from ucs._files.swap import check_space
from ucs._files.workspace import Workspace, closing, in_memory
from ucs._read.regions import read_regions
from ucs._read.sample import prepare
from ucs._results.elements import build_elements, count_transcripts
from ucs._results.write import add_elements
from ucs._run.cell_types import with_given_types
from ucs._run.cluster import active_client
from ucs._run.place import fit_tiles
from ucs._run.predict import judges_of, predict_cells
from ucs._run.record import log_result, record_of
from ucs._run.resume import begin_or_continue, trained_once
from ucs._run.training import train_model
from ucs._utils.memory import peak_memory, release_unused
from ucs._utils.progress import stage
from ucs.methods.missing.search import MISSING, add_missing_cells, missing_nuclei_element

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ucs._read.regions import RegionRule, Regions
    from ucs._read.sample import Sample
    from ucs._read.source import Source
    from ucs._results.keys import OutputKeys
    from ucs._results.write import Elements
    from ucs._run.predict import Model, Prediction
    from ucs._run.training import Learning


@dataclass(frozen=True)
class Run:
    """The main job, with what it was asked for; arguments are checked.

    Attributes
    ----------
    source, nuclei_key, keys
        Where the data are, and what the results are called.
    rule
        What the regions are; None for one model.
    model
        A trained one; None to train it.
    learning
        How models are trained, and what holds for prediction, too: ``ownership``, ``markers``, ``progress``.
    cell_type_key, coordinate_system, check_alignment, fuse_nuclei, find_missing, min_transcripts
        As in :func:`ucs.tl.segment`.
    tile_size, device, write
        As in :func:`ucs.tl.segment`.
    place, limit
        Folder for temporary files (the system's if None) and the bytes that may be held.
    resume_name
        What the run is called if it may be continued; None if not.
    """

    source: Source
    nuclei_key: str | None
    keys: OutputKeys
    rule: RegionRule | None
    model: Model | None
    learning: Learning
    cell_type_key: str | None
    coordinate_system: str | None
    check_alignment: bool
    fuse_nuclei: bool
    find_missing: bool
    min_transcripts: int
    tile_size: int
    device: str
    write: bool
    place: Path | None
    limit: int | None
    resume_name: str | None

    def add_cells(self, sdata: SpatialData, target: SpatialData) -> None:
        """Do all the steps, and add what is made of one object to another, which may be the same."""
        timings: dict[str, float] = {}
        start = time.perf_counter()
        with closing(Workspace(self.place, limit=self.limit, resumable=self.resume_name)) as workspace:
            elements, n_of_genes = self._elements(sdata, workspace, timings)
            release_unused()  # of what they were made of
            timings["total"] = time.perf_counter() - start
            uns = elements.new[self.keys.table].uns["ucs"]
            uns["timings"], uns["peak_memory_gib"] = timings, peak_memory() / 2**30
            add_elements(target, elements, write=self.write)
        log_result(target, n_of_genes, self.keys, timings, written=self.write)

    def _elements(self, sdata: SpatialData, workspace: Workspace, timings: dict[str, float]) -> tuple[Elements, int]:
        """Return the new elements, and how many transcripts of genes there are."""
        sample, regions = self._read(sdata, timings)
        tile = self._make_room(sdata, sample, regions, workspace)
        model = self._trained(sample, regions, workspace, timings)
        record = record_of(sample, model, regions, self.keys, min_transcripts=self.min_transcripts)
        sample, prediction = self._predict(sample, regions, model, tile, workspace, timings)
        if self.find_missing:
            record["qc"]["n_missing_cells"] = int(prediction.obs[MISSING].sum())
        with stage("count", timings, progress=False):
            counts = count_transcripts(sample, prediction)
        sample = sample.without_transcripts()
        elements = build_elements(
            sdata,
            sample,
            prediction,
            counts,
            keys=self.keys,
            min_transcripts=self.min_transcripts,
            tile_size=self.tile_size,
            uns=record,
            timings=timings,
        )
        if self.keys.missing_nuclei is not None:
            elements.new[self.keys.missing_nuclei] = missing_nuclei_element(
                sdata, sample, prediction.obs[MISSING], tile_size=self.tile_size
            )
        elements.new.update(sample.found)
        return elements, counts.n_of_genes

    def _read(self, sdata: SpatialData, timings: dict[str, float]) -> tuple[Sample, Regions | None]:
        with stage("read", timings, progress=self.learning.progress, unit="part") as update:
            sample = prepare(
                sdata,
                self.source,
                self.nuclei_key,
                coordinate_system=self.coordinate_system,
                check_alignment=self.check_alignment,
                fuse_nuclei=self.fuse_nuclei,
                scratch=self.place,
                memory_limit=self.limit,
                progress=self.learning.progress,
                update=update,
            )
            sample = with_given_types(sdata, sample, self.cell_type_key, self.learning.markers)
            rule, system = self.rule, self.coordinate_system
            regions = None if rule is None else read_regions(sdata, sample, rule, coordinate_system=system)
        release_unused()  # of the tables that were read
        return sample, regions

    def _make_room(self, sdata: SpatialData, sample: Sample, regions: Regions | None, workspace: Workspace) -> int:
        """See to it that all that follows has room, and return the side of the tiles."""
        if self.write:
            check_space(Path(sdata.path), least_bytes(sample), "The result")
        if active_client(self.device) is not None:
            workspace.use_folder()
        plain = self.find_missing or self.learning.gives_published(self.model)
        tile = fit_tiles(workspace, sample.transcripts.grid.shape, self.tile_size, plain=plain)
        if self.resume_name is None:
            return tile
        decisive = {"learning": replace(self.learning, progress=False), "find_missing": self.find_missing}
        return begin_or_continue(
            workspace, sample, regions, self.model, device=self.learning.device, tile_size=tile, options=decisive
        )

    def _trained(
        self, sample: Sample, regions: Regions | None, workspace: Workspace, timings: dict[str, float]
    ) -> Model:
        if self.model is not None:
            return self.model

        def train() -> Model:
            return train_model([sample], None if regions is None else [regions], self.learning, timings)

        model = train() if self.resume_name is None else trained_once(workspace, train)
        release_unused()
        return model

    def _predict(
        self,
        sample: Sample,
        regions: Regions | None,
        model: Model,
        tile: int,
        workspace: Workspace,
        timings: dict[str, float],
    ) -> tuple[Sample, Prediction]:
        """Return the cells, and the sample with the nuclei that were missing, if they are looked for."""

        def cells_of(sample: Sample, regions: Regions | None) -> Prediction:
            return predict_cells(
                sample,
                model,
                regions,
                ownership=self.learning.ownership,
                tile_size=tile,
                device=self.device,
                workspace=workspace,
                progress=self.learning.progress,
                timings=timings,
            )

        prediction = cells_of(sample, regions)
        if self.find_missing:
            first = judges_of(sample, model, regions)[0][0]
            held = in_memory(prediction.labels), in_memory(prediction.probability)
            prediction = replace(prediction, labels=held[0], probability=held[1])
            workspace.forget_rasters()
            sample, prediction = add_missing_cells(
                sample, regions, prediction, first, cells_of, ownership=self.learning.ownership, timings=timings
            )
        sample.overviews.clear()
        release_unused()
        labels, probability = workspace.settle([prediction.labels, prediction.probability])
        return sample, replace(prediction, labels=labels, probability=probability)
