"""The steps of a check: those of :func:`ucs.tl.segment` up to training. One that fails does not end the rest."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ucs._read.alignment import check_placement, check_size
from ucs._read.nuclei.of_sample import find_nuclei_key, keys_of_nuclei, load_nuclei
from ucs._read.regions import find_regions, read_regions
from ucs._read.sample import Sample, find_source, read_source
from ucs._read.source import Source
from ucs._read.stains import find_stains
from ucs._read.summary import (
    describe_grid,
    describe_missing_nuclei,
    describe_nuclei,
    describe_source,
    describe_transcripts,
    why_nuclei,
    why_platform,
    why_points,
)
from ucs._results.keys import check_keys
from ucs._run.cell_types import with_given_types
from ucs._run.check.estimate import Workload, estimate
from ucs._run.check.report import Check
from ucs._run.genes import N_HIGHLY_VARIABLE, choose_genes, import_scanpy
from ucs._run.predict import models_of_nuclei
from ucs._run.region_samples import raster_of
from ucs._utils.log import collected
from ucs._utils.memory import resident_memory
from ucs.methods.optimize import FINE_TUNING
from ucs.methods.params import TrainingParams

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.fields import Fields
    from ucs._read.grid import Grid
    from ucs._read.nuclei.onto_grid import Nuclei
    from ucs._read.transcripts import Transcripts
    from ucs._run.arguments import Arguments

T = TypeVar("T")

_OF_THE_DATA = (ImportError, KeyError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""Errors that are reported."""


@dataclass
class InputChecker:
    """Goes through the steps and keeps what they find, and what they stumble over."""

    sdata: SpatialData
    asked: Arguments
    estimate: bool
    found: dict[str, Any] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)

    def run(self) -> Check:
        """Return what is found."""
        before = resident_memory()
        with collected() as records:
            self._go_through(before)
        return Check(
            ok=not self.problems,
            problems=self.problems,
            warnings=[record.getMessage() for record in records if record.levelno >= logging.WARNING],
            notes=[record.getMessage() for record in records if record.levelno < logging.WARNING],
            **self.found,
        )

    def _go_through(self, before: int) -> None:
        start = time.perf_counter()
        source = self._attempt(self._find_source)
        if source is None:
            return
        nuclei_key = self._find_elements(source)
        read = self._attempt(read_source, self.sdata, source)
        if read is None:
            return
        transcripts, fields, fov = read
        self.found["transcripts"] = describe_transcripts(transcripts)
        self.found["grid"] = describe_grid(transcripts.grid)
        self._attempt(self._count_genes, transcripts)
        if nuclei_key is None:
            return
        nuclei, n_models = None, 1.0
        if not self._nuclei_are_there(source, nuclei_key):
            self._attempt(self._where_to_find_nuclei, source, nuclei_key)
        else:
            nuclei = self._attempt(self._load_nuclei, source, nuclei_key, transcripts.grid, fields, fov)
            if nuclei is not None:
                sample = Sample(source, nuclei_key, transcripts, nuclei, "unchecked", {}, fields, fov)
                self._compare(sample)
                given = self.asked.cell_type_key, self.asked.training.markers
                self._attempt(with_given_types, self.sdata, sample, *given)
                n_models = self._attempt(self._divide, sample) or 1.0
        if not self.problems:
            self._estimate(source, transcripts, nuclei, n_models, before, time.perf_counter() - start)

    def _find_source(self) -> Source:
        asked, sdata = self.asked, self.sdata
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
        self.found["platform"] = {
            "name": source.platform.name,
            "because": why_platform(sdata, asked.platform, asked.points_key),
        }
        self.found["source"] = {
            **describe_source(source),
            "because": why_points(source, asked.points_key),
            "um_per_unit_because": source.unit_because,
        }
        return source

    def _find_elements(self, source: Source) -> str | None:
        """Find the nuclei and the regions, and whether there is room for what would be added."""
        asked = self.asked
        nuclei_key = self._attempt(find_nuclei_key, self.sdata, source, asked.nuclei_key)
        if nuclei_key is not None:
            self._attempt(
                check_keys,
                asked.keys,
                self.sdata,
                source,
                nuclei_key,
                find_missing=bool(asked.find_missing),
                overwrite=asked.overwrite,
            )
        self._attempt(find_stains, self.sdata, source, asked.read.stain_keys or ())
        # A ``TypeError`` is one of the call here, whatever the data.
        rule = self._attempt(find_regions, self.sdata, source, asked.regions, _passing=(TypeError,))
        if rule is not None:
            self.found["regions"] = {"rule": str(rule)}
        return nuclei_key

    def _count_genes(self, transcripts: Transcripts) -> None:
        """Tell how many genes the nets would see; highly variable ones are not looked for."""
        genes, model, there = self.asked.read.genes, self.asked.model, len(transcripts.genes)
        if model is not None:
            models = model.distinct()
            features = transcripts.genes + transcripts.controls
            for one in models:
                one.check_overlap(features)
            known = {gene for one in models for gene in one.genes}
            n_genes = len(known.intersection(features))
        elif genes == "hvg" or (isinstance(genes, int) and genes >= 1):
            n_genes = N_HIGHLY_VARIABLE if isinstance(genes, str) else int(genes)
            if n_genes < there:
                import_scanpy()
            n_genes = min(n_genes, there)
        else:
            n_genes = len(choose_genes(genes, [transcripts]))
        self.found["transcripts"]["genes_seen"] = n_genes

    def _nuclei_are_there(self, source: Source, nuclei_key: str) -> bool:
        return all(key in self.sdata for key in keys_of_nuclei(source, nuclei_key))

    def _where_to_find_nuclei(self, source: Source, nuclei_key: str) -> None:
        self.found["nuclei"] = {
            "element": nuclei_key,
            "because": "no labels or shapes hold nuclei",
            **describe_missing_nuclei(self.sdata, source),
        }

    def _load_nuclei(
        self, source: Source, nuclei_key: str, grid: Grid, fields: Fields | None, fov: NDArray[np.int32] | None
    ) -> Nuclei:
        asked = self.asked
        nuclei = load_nuclei(
            self.sdata,
            source,
            nuclei_key,
            grid,
            fields=fields,
            fov=fov,
            coordinate_system=asked.read.coordinate_system,
            fuse_nuclei=asked.read.fuse_nuclei,
        )
        kind = "labels" if keys_of_nuclei(source, nuclei_key)[0] in self.sdata.labels else "shapes"
        self.found["nuclei"] = {
            "element": nuclei_key,
            "source": f"{kind} {nuclei_key!r}",
            "because": why_nuclei(source, nuclei_key, asked.nuclei_key),
            **describe_nuclei(nuclei, grid),
        }
        return nuclei

    def _compare(self, sample: Sample) -> None:
        """Check the size of the nuclei and where they lie."""
        source, transcripts, nuclei = sample.source, sample.transcripts, sample.nuclei
        keys: dict[str, Any] = {"nuclei_key": sample.nuclei_key, "points_key": source.points_key}
        strict = self.asked.read.check_alignment
        um: dict[str, Any] = {"um_per_px": transcripts.grid.um_per_px, "um_per_unit": source.um_per_unit}
        image_um = sample.source.platform.image_um
        self._attempt(check_size, nuclei, **um, **keys, strict=strict, image_um=image_um)
        verdict = self._attempt(check_placement, transcripts, nuclei, **keys) or "misaligned" if strict else "unchecked"
        self.found["alignment"] = {"verdict": verdict}

    def _divide(self, sample: Sample) -> float:
        """Divide the tissue into regions, if asked for; return how many models there would be to train."""
        asked = self.asked
        rule, regions = find_regions(self.sdata, sample.source, asked.regions), None
        if rule is not None:
            regions = read_regions(self.sdata, sample, rule, coordinate_system=asked.read.coordinate_system)
            self.found["regions"] = {
                "rule": str(rule),
                "count": len(regions.names),
                "names": list(regions.names),
                "fewest_nuclei": int(regions.n_nuclei.min()),
                "most_nuclei": int(regions.n_nuclei.max()),
                "nuclei_outside": regions.n_outside,
            }
        if asked.model is not None:
            return len(models_of_nuclei(raster_of(sample, None), asked.model, regions)[0])
        if regions is None:
            return 1
        n, shared = len(regions.names), regions.n_outside > 0
        params = asked.training.params
        warm = isinstance(params, TrainingParams) and params.warm_start and (n > 1 or shared)
        return n * FINE_TUNING + 1 if warm else n + shared

    def _estimate(
        self,
        source: Source,
        transcripts: Transcripts,
        nuclei: Nuclei | None,
        n_models: float,
        before: int,
        seconds: float,
    ) -> None:
        asked, n_genes = self.asked, self.found["transcripts"]["genes_seen"]
        model = None if asked.model is None else asked.model.distinct()[0]
        # Which of the genes they are makes no difference to the time.
        training = replace(asked.training, genes=transcripts.genes[:n_genes])
        work = Workload(
            source,
            transcripts,
            nuclei,
            training,
            asked.compute,
            model,
            n_models if model is None else 0,
            self.found["nuclei"].get("image_pixels", 0),
            seconds,
        )
        self.found["estimate"] = estimate(work, before=before, timed=self.estimate)

    def _attempt(
        self, step: Callable[..., T], *arguments: Any, _passing: tuple[type[Exception], ...] = (), **options: Any
    ) -> T | None:
        """Return what a step returns; None, with a problem noted, if it fails, but for errors that pass."""
        try:
            return step(*arguments, **options)
        except _passing:
            raise
        except _OF_THE_DATA as error:
            # str() of a KeyError is the repr of its message.
            message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            if message not in [problem["message"] for problem in self.problems]:
                self.problems.append({"error": type(error).__name__, "message": message})
            return None
