"""The steps of a segmentation in the order in which they are done, from reading to the new elements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.disk import check_space
from ucs._files.store import bytes_to_write, check_store
from ucs._files.workspace import Workspace, closing
from ucs._read.regions import find_regions, read_regions
from ucs._read.sample import find_nuclei_key, find_source, prepare
from ucs._read.stains import find_stains, with_stains
from ucs._results.elements import build_elements, count_transcripts
from ucs._results.keys import check_keys, new_elements
from ucs._results.leftovers import check_stored_leftovers, without_leftovers
from ucs._results.stored_points import WITH_POINTS, check_stored_points
from ucs._results.write import add_elements, said_when_done
from ucs._run.cell_types import with_given_types
from ucs._run.cluster import active_client
from ucs._run.missing import MISSING, add_missing_cells
from ucs._run.predict import predict_cells
from ucs._run.record import log_result, record_of
from ucs._run.region_samples import raster_of
from ucs._run.resume import begin_or_continue, drop_half_written, trained_once
from ucs._run.scratch_dir import fit_tiles, place_of
from ucs._run.training import Trained, train_model
from ucs._utils.elements import shallow_copy
from ucs._utils.log import noted
from ucs._utils.memory import parse_limit, peak_memory, release_unused
from ucs._utils.progress import Stages

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ucs._read.regions import RegionRule, Regions
    from ucs._read.sample import Sample
    from ucs._read.source import Source
    from ucs._results.elements import Prediction
    from ucs._results.write import Elements
    from ucs._run.arguments import Arguments


def run_segmentation(
    sdata: SpatialData, asked: Arguments, *, inplace: bool, write: bool | str, progress: bool
) -> SpatialData | None:
    """Find the elements, check that all that follows can be done, and segment; see :func:`ucs.tl.segment`."""
    if write and not inplace:
        msg = "write=True writes to the object's own store and needs inplace=True."
        raise ValueError(msg)
    source = find_source(
        sdata,
        asked.points_key,
        platform=asked.platform,
        coordinate_system=asked.read.coordinate_system,
        gene_key=asked.read.gene_key,
        resolution=asked.resolution,
        finest=asked.training.method.finest_um,
        um_per_unit=asked.read.um_per_unit,
        z_planes=asked.read.z_planes,
        outlier_um=asked.read.outlier_um,
    )
    nuclei_key = find_nuclei_key(sdata, source, asked.nuclei_key)
    find_stains(sdata, source, asked.read.stain_keys or ())  # one that is not there is told before all is read
    if write:
        drop_half_written(sdata)
    find_missing = bool(asked.find_missing)
    check_keys(asked.keys, sdata, source, nuclei_key, find_missing=find_missing, overwrite=asked.overwrite)
    if write:
        kinds = {key: kind for kind, key in new_elements(asked.keys, find_missing=find_missing).values()}
        check_store(sdata, kinds, overwrite=asked.overwrite)
        read = {part.key: part.read_columns() for part in source.elements}
        check_stored_points(sdata, read, asked.keys.columns, write=write)
        check_stored_leftovers(sdata, asked.keys, read, find_missing=find_missing, write=write)
    # Which cells are kept and how they are outlined decides no tile.
    resume, names = asked.compute.resume, replace(asked.keys, min_transcripts=0, outlines="pixels")
    run = Run(
        asked=asked,
        source=source,
        nuclei_key=nuclei_key,
        rule=find_regions(sdata, source, asked.regions),
        write=write,
        progress=progress,
        place=place_of(asked.compute.scratch, sdata, resume=resume),
        limit=parse_limit(asked.compute.memory_limit),
        resume_name=f"{sdata.path} {source.points_key} {names.as_dict()}" if resume else None,
    )
    target = sdata if inplace else shallow_copy(sdata)
    run.add_cells(sdata, target)
    return None if inplace else target


@dataclass(frozen=True)
class Run:
    """A segmentation that can be done.

    Attributes
    ----------
    asked
        The arguments.
    source, nuclei_key
        Where the data are.
    rule
        What the regions are; None for one model.
    write, progress
        As in :func:`ucs.tl.segment`.
    place, limit
        Folder for temporary files (the system's if None) and the bytes that may be held.
    resume_name
        What the run is called if it may be continued; None if not.
    """

    asked: Arguments
    source: Source
    nuclei_key: str
    rule: RegionRule | None
    write: bool | str
    progress: bool
    place: Path | None
    limit: int | None
    resume_name: str | None

    def add_cells(self, sdata: SpatialData, target: SpatialData) -> None:
        """Do all the steps, and add what is made of one object to another, which may be the same."""
        stages = Stages(progress=self.progress)
        with (
            said_when_done(target.path) as written,
            closing(Workspace(self.place, limit=self.limit, resumable=self.resume_name)) as workspace,
        ):
            with stages.stage("total"), noted() as warnings:
                elements, n_of_genes = self._elements(sdata, workspace, stages)
                release_unused()  # of what they were made of
            uns = elements.new[self.asked.keys.table].uns["ucs"]
            uns["timings"], uns["peak_memory_gib"] = stages.seconds, peak_memory() / 2**30
            if warnings:
                uns["warnings"] = np.array([record.getMessage() for record in warnings], dtype=object)
            leftovers = without_leftovers(target, self.asked.keys, elements)
            add_elements(target, elements, write=self.write, overwrite=self.asked.overwrite)
            written.extend(elements.new if self.write else ())
            for key in leftovers:
                del target[key]
            log_result(
                target,
                n_of_genes,
                self.asked.keys,
                stages.seconds["total"],
                column_left_out=bool(self.write) and self.write != WITH_POINTS,
                find_missing=bool(self.asked.find_missing),
            )

    def _elements(self, sdata: SpatialData, workspace: Workspace, stages: Stages) -> tuple[Elements, int]:
        """Return the new elements, and how many transcripts of genes there are."""
        sample, regions = self._read(sdata, stages)
        tile = self._make_room(sdata, sample, regions, workspace)
        trained = self._trained(sample, regions, workspace, stages)
        record = record_of(sample, trained.model, regions, self.asked.keys, threshold=self.asked.threshold)
        sample, prediction = self._predict(sample, regions, trained, tile, workspace, stages)
        record["qc"]["n_moved_transcripts"] = prediction.moved.n_transcripts
        if self.asked.find_missing:
            record["qc"]["n_missing_cells"] = int(prediction.obs[MISSING].sum())
        with stages.stage("count"):
            counts = count_transcripts(sample, prediction)
        sample = sample.without_transcripts()
        elements = build_elements(
            sdata,
            sample,
            prediction,
            counts,
            keys=self.asked.keys,
            missing=prediction.obs[MISSING] if self.asked.find_missing else None,
            tile_size=self.asked.compute.tile_size,
            uns=record,
            stages=stages,
        )
        elements.new.update(sample.found)
        return elements, counts.n_of_genes

    def _read(self, sdata: SpatialData, stages: Stages) -> tuple[Sample, Regions | None]:
        with stages.stage("read", unit="part") as update:
            system = self.asked.read.coordinate_system
            sample = prepare(
                sdata,
                self.source,
                self.nuclei_key,
                coordinate_system=system,
                check_alignment=self.asked.read.check_alignment,
                fuse_nuclei=self.asked.read.fuse_nuclei,
                scratch=self.place,
                memory_limit=self.limit,
                progress=self.progress,
                update=update,
            )
            sample = with_stains(sdata, sample, self.asked.read, update=update)
            sample = with_given_types(sdata, sample, self.asked.cell_type_key, self.asked.training.markers)
            regions = None if self.rule is None else read_regions(sdata, sample, self.rule, coordinate_system=system)
        release_unused()  # of the tables that were read
        return sample, regions

    def _make_room(self, sdata: SpatialData, sample: Sample, regions: Regions | None, workspace: Workspace) -> int:
        """See to it that all that follows has room, and return the side of the tiles."""
        if self.write:
            n_pixels, n_cells = sample.transcripts.grid.n_pixels, len(sample.nuclei.ids)
            least = bytes_to_write(n_pixels=n_pixels, n_cells=n_cells, n_entries=0)
            check_space(Path(sdata.path), least, "The result")
        if active_client(self.asked.compute.device) is not None:
            workspace.use_folder()
        training = self.asked.training
        shape, of_tile = sample.transcripts.grid.shape, training.method.bytes_of_tile
        tile = fit_tiles(workspace, shape, self.asked.compute.tile_size, bytes_of_tile=of_tile)
        if self.resume_name is None:
            return tile
        decisive: dict[str, Any] = {
            "training": training,
            "find_missing": self.asked.find_missing,
            "threshold": self.asked.threshold,
        }
        return begin_or_continue(
            workspace, sample, regions, self.asked.model, device=training.device, tile_size=tile, options=decisive
        )

    def _trained(self, sample: Sample, regions: Regions | None, workspace: Workspace, stages: Stages) -> Trained:
        if self.asked.model is not None:
            return Trained(self.asked.model)

        def train() -> Trained:
            return train_model([sample], None if regions is None else [regions], self.asked.training, stages)

        trained = train() if self.resume_name is None else trained_once(workspace, train)
        release_unused()
        return trained

    def _predict(
        self,
        sample: Sample,
        regions: Regions | None,
        trained: Trained,
        tile: int,
        workspace: Workspace,
        stages: Stages,
    ) -> tuple[Sample, Prediction]:
        """Return the cells, and the sample with the nuclei that were missing, if they are looked for."""

        def cells_of(sample: Sample, regions: Regions | None, *, foreground: bool) -> Prediction:
            return predict_cells(
                raster_of(sample, self.asked.training.markers),
                trained.model,
                regions,
                survey=trained.surveys.pop() if trained.surveys else None,
                threshold=self.asked.threshold,
                tile_size=tile,
                device=self.asked.compute.device,
                workspace=workspace,
                foreground=foreground,
                stages=stages,
            )

        wanted = self.asked.keys.foreground is not None
        prediction = cells_of(sample, regions, foreground=wanted or self.asked.find_missing == "paper")
        if self.asked.find_missing:
            sample, prediction = add_missing_cells(
                sample,
                regions,
                prediction,
                trained.model,
                lambda sample, regions: cells_of(sample, regions, foreground=wanted),
                rule=self.asked.find_missing,
                workspace=workspace,
                stages=stages,
            )
        release_unused()
        rasters = [prediction.labels, prediction.confidence, *([prediction.foreground] if wanted else [])]
        labels, confidence, *foreground = workspace.settle(rasters)
        settled = replace(prediction, labels=labels, confidence=confidence, foreground=next(iter(foreground), None))
        if sample.source.has_bins:  # a bin has one cell, whatever its genes
            settled = replace(settled, moved=settled.moved.without_any())
        return sample, settled
