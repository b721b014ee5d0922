"""Summary of a sample as plain values, for the log and for :func:`ucs.pp.check`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._kernels.labels.ids import pixels_of_ids
from ucs._read.nuclei.make import stain_of, way_to_make
from ucs._read.nuclei.stain import find_stain, pixel_size, working_level
from ucs._read.platforms import recognise
from ucs._read.unit import GIVEN
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialdata import SpatialData

    from ucs._read.grid import Grid
    from ucs._read.nuclei.onto_grid import Nuclei
    from ucs._read.platforms import Platform
    from ucs._read.source import Source
    from ucs._read.transcripts import Transcripts


def describe_source(source: Source) -> dict[str, Any]:
    """Return the elements and columns that are read, and the unit."""
    columns = source.columns
    return {
        "kind": "points" if source.elements[0].table_key is None else "bins",
        "elements": [element.key for element in source.elements],
        "columns": {
            "gene": columns.gene,
            "count": columns.count,
            "quality": columns.quality,
            "plane": columns.plane,
            "is gene": columns.is_gene,
            "category": columns.category,
        },
        "minimum_quality": columns.minimum_quality if columns.quality is not None else None,
        "z_planes": list(columns.planes),
        "um_per_unit": source.um_per_unit,
        "coordinate_system": source.system,
    }


def describe_transcripts(transcripts: Transcripts) -> dict[str, Any]:
    """Return the number of transcripts, and the number of rows dropped, by reason.

    ``kept`` counts molecules, controls included. If each row is one molecule, kept and dropped rows add up to ``rows``.
    """
    n_genes = len(transcripts.genes)
    of_controls = sum(
        int(band.count[band.feature >= n_genes].sum(dtype=np.int64)) for _, _, band in transcripts.map.bands()
    )
    return {
        "rows": transcripts.n_rows,
        "kept": transcripts.map.n_transcripts,
        "dropped": {
            "of low quality": transcripts.n_low_quality,
            "in other z planes": transcripts.n_other_planes,
            "with a count of 0": transcripts.n_zero_count,
            "seen in two fields of view": transcripts.n_seen_twice,
            "far from all others": transcripts.n_outlying,
        },
        "genes": n_genes,
        "controls": len(transcripts.controls),
        "control_transcripts": of_controls,
    }


def describe_grid(grid: Grid) -> dict[str, Any]:
    """Return shape, resolution and origin of the grid."""
    return {"shape": list(grid.shape), "resolution_um": grid.um_per_px, "origin": [float(x) for x in grid.origin]}


def describe_nuclei(nuclei: Nuclei, grid: Grid) -> dict[str, Any]:
    """Return the number of nuclei on the grid, their median area, and the number outside."""
    areas = pixels_of_ids(nuclei.labels, len(nuclei.ids))[1:] * grid.um_per_px**2
    return {
        "count": len(nuclei.ids),
        "median_area_um2": float(np.median(areas[areas > 0])),
        "outside": int(nuclei.n_outside),
    }


def describe_missing_nuclei(sdata: SpatialData, source: Source) -> dict[str, Any]:
    """Return the images in which missing nuclei would be found, and their size.

    Raises what :func:`ucs._read.nuclei.of_sample.make_missing` would raise before it reads any pixel.
    """
    if source.by_field and way_to_make(sdata, source) == "rows":
        cells = source.platform.cell_labels_key
        return {"source": f"transcripts known to be nuclear, in the vendor's cells {cells!r}", "image_pixels": 0}
    if source.by_field:
        stains = [stain_of(sdata, source, element) for element in source.elements]
    else:
        stain = find_stain(sdata, None, None, source)
        stains = [(stain, pixel_size(sdata, stain.key, None, source))]
    first, um_per_px = stains[0]
    images = f"image {first.key!r}" if len(stains) == 1 else f"{len(stains)} images ({first.key!r}, ...)"
    return {
        "source": f"{images}, channel {listed(first.channels)}, {um_per_px:.4g} um per px",
        "images": [stain.key for stain, _ in stains],
        "channels": [str(name) for name in first.channels],
        "um_per_px": um_per_px,
        "image_pixels": sum(int(np.prod(working_level(stain, um)[0].shape[-2:])) for stain, um in stains),
    }


def why_platform(sdata: SpatialData, platform: str | Platform, points_key: str | Sequence[str] | None) -> str:
    """Return how the platform was recognised."""
    return recognise(sdata, points_key)[1] if platform == "auto" else GIVEN


def why_points(source: Source, points_key: str | Sequence[str] | None) -> str:
    """Return how the elements with transcripts were detected."""
    if points_key is not None:
        return GIVEN
    first = source.elements[0]
    keys = (first.key,) if first.table_key is None else (first.table_key,)
    patterns = source.platform.points_keys if first.table_key is None else source.platform.table_keys
    return _fits(keys[0], patterns, source.platform)


def why_nuclei(source: Source, key: str, nuclei_key: str | None) -> str:
    """Return how the nuclei were detected."""
    return GIVEN if nuclei_key is not None else _fits(key, source.platform.nuclei_keys, source.platform)


def _fits(key: str, patterns: Sequence[str], platform: Platform) -> str:
    pattern = next((pattern for pattern in patterns if key == pattern or re.fullmatch(pattern, key)), None)
    if pattern is None:
        return f"the only one that {platform.name} data may have"
    return "by its name" if key == pattern else f"its name fits {pattern!r}"


def short_form(summary: dict[str, Any]) -> list[str]:
    """Return the two lines that :func:`ucs.tl.segment` logs: the input, and the nuclei and the grid."""
    source, transcripts, nuclei = summary["source"], summary["transcripts"], summary["nuclei"]
    without = dropped(transcripts)
    left_out = f" (left out: {without})" if without else ""
    first = (
        f"Input: {summary['platform']['name']}, {source['kind']} {named(source['elements'])}: {kept(transcripts)}"
        f"{left_out}, {transcripts['genes']:,} genes, {transcripts['controls']:,} controls."
    )
    height, width = summary["grid"]["shape"]
    second = (
        f"Nuclei {nuclei['element']!r}: {nuclei['count']:,}, median {nuclei['median_area_um2']:.0f} um2, "
        f"{summary['alignment']['verdict']}; grid {height:,} x {width:,} at {summary['grid']['resolution_um']:g} um."
    )
    return [first, second]


def named(keys: list[str]) -> str:
    """Return one key, or the number of keys and the first."""
    return f"{keys[0]!r}" if len(keys) == 1 else f"{len(keys)} elements ({keys[0]!r}, ...)"


def kept(transcripts: dict[str, Any] | None) -> str:
    """Return the number of transcripts kept and of rows, as text; empty if nothing has been read."""
    if not transcripts:
        return ""
    n_kept, rows = transcripts["kept"], transcripts["rows"]
    rows_kept = rows - sum(transcripts["dropped"].values())
    # A row may be several molecules.
    return f"{n_kept:,} transcripts {'of' if n_kept == rows_kept else f'in {rows_kept:,} of'} {rows:,} rows"


def dropped(transcripts: dict[str, Any] | None) -> str:
    """Return the number of rows dropped by reason, as text; empty if there are none."""
    by_reason = transcripts["dropped"] if transcripts else {}
    return ", ".join(f"{n:,} {reason}" for reason, n in by_reason.items() if n)
