"""Training as a step of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from spatialdata import SpatialData

from ucs._read.regions import find_regions, read_regions
from ucs._read.sample import Source, find_nuclei_key, find_source, prepare
from ucs._run.cell_types import read_markers, with_given_types
from ucs._run.training import Learning, resolve_params, train_model
from ucs._utils.checks import check_at_least, check_option, listed
from ucs.methods.device import resolve_device
from ucs.methods.paper.find_background import check_background

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ucs._read.markers import Markers
    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionRule, RegionsOption
    from ucs.methods.model import UCSModel
    from ucs.methods.params import TrainParams
    from ucs.methods.region_models import RegionModels


def train(
    sdata: SpatialData | Sequence[SpatialData],
    points_key: str | Sequence[str | Sequence[str]] | None = None,
    nuclei_key: str | Sequence[str] | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
    gene_key: str | None = None,
    genes: str | int | Sequence[str] = "all",
    z_planes: Sequence[float] | float | None = None,
    fuse_nuclei: bool = False,
    regions: RegionsOption = None,
    genes_per_region: bool = False,
    warm_start: bool = False,
    train: TrainParams | Mapping[str, Any] | None = None,
    background: str | float = "auto",
    ownership: str = "expression",
    softmask: str = "scaled",
    markers: Markers | None = None,
    cell_type_key: str | None = None,
    check_alignment: bool = True,
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> UCSModel | RegionModels:
    """Train both nets on one sample or several and return them; ``sdata`` is not changed.

    Parameters
    ----------
    sdata
        One sample, or several of one platform and panel from which one model is learned. Genes are matched by name; the
        background is calibrated in each sample; patches are drawn from all in proportion to their nuclei, and held-out
        squares from each.
    points_key, nuclei_key
        As in :func:`segment`. Of several samples: one key for all, or a list with one for each.
    platform, coordinate_system, resolution, um_per_unit, gene_key, genes, z_planes, fuse_nuclei
        As in :func:`segment`, for all samples. If more than a tenth of the genes does not occur in all samples, the
        nets see only those that do.
    regions
        As in :func:`segment`: one model for each. Of several samples, regions of one name are one region.
    genes_per_region, warm_start, train, background, ownership, softmask, markers, cell_type_key, check_alignment, \
device, seed, progress
        As in :func:`segment`, which is this function followed by :func:`predict`.

    Returns
    -------
    The model, to be applied with :func:`predict` or ``segment(..., model=...)``, or saved; with ``regions`` a mapping
    of their names to models, :class:`ucs.methods.RegionModels`, for the same use.

    Raises
    ------
    KeyError, ValueError, MemoryError
        As :func:`segment`, for what concerns its input; if there is no sample, or samples differ in platform or
        resolution, or less than half of their genes are common to all.
    """
    check_at_least(seed, 0, "seed")
    check_background(background)
    check_option(ownership, "ownership", ("expression", "distance"))
    check_option(softmask, "softmask", ("scaled", "plain"))
    of_type = read_markers(markers, cell_type_key, background)
    resolve_device(device)
    several = not isinstance(sdata, SpatialData)
    objects = _checked_objects(sdata)
    points_keys: list[Any] = _one_for_each(points_key, len(objects), "points_key") if several else [points_key]
    nuclei_keys: list[Any] = _one_for_each(nuclei_key, len(objects), "nuclei_key") if several else [nuclei_key]
    sources: list[Source] = []
    found: list[str] = []
    rules: list[RegionRule | None] = []
    for number, one in enumerate(objects):
        with _naming(number, len(objects)):
            source = find_source(
                one,
                points_keys[number],
                platform=platform,
                coordinate_system=coordinate_system,
                gene_key=gene_key,
                resolution=resolution,
                um_per_unit=um_per_unit,
                z_planes=z_planes,
            )
            sources.append(source)
            found.append(find_nuclei_key(one, source, nuclei_keys[number]))
            rules.append(find_regions(one, source, regions, genes_per_region=genes_per_region))
    _check_alike(sources, rules)
    params = resolve_params(train, sources[0].platform, softmask)
    samples, of_samples = [], []
    for number, (one, source, rule) in enumerate(zip(objects, sources, rules, strict=True)):
        with _naming(number, len(objects)):
            sample = prepare(
                one,
                source,
                found[number],
                coordinate_system=coordinate_system,
                check_alignment=check_alignment,
                fuse_nuclei=fuse_nuclei,
                progress=progress,
            )
            sample = with_given_types(one, sample, cell_type_key, of_type)
            samples.append(sample)
            if rule is not None:
                of_samples.append(read_regions(one, sample, rule, coordinate_system=coordinate_system))
    learning = Learning(
        params, genes, background, device, seed, warm_start, genes_per_region, progress, ownership, of_type
    )
    return train_model(samples, of_samples or None, learning, {})


def _checked_objects(given: SpatialData | Sequence[SpatialData]) -> list[SpatialData]:
    """Return one object or several as a list."""
    objects = list(given) if isinstance(given, list | tuple) else [given]
    if not objects:
        msg = "sdata is an empty list; pass at least one SpatialData."
        raise ValueError(msg)
    for one in objects:
        if not isinstance(one, SpatialData):
            msg = f"sdata must be a SpatialData or a list of such, not {type(one).__name__}."
            raise TypeError(msg)
    return objects


def _one_for_each(keys: Any, n: int, name: str) -> list[Any]:
    """Return one key for each sample: the one given for all, or those of a list."""
    if keys is None or isinstance(keys, str):
        return [keys] * n
    if len(keys) != n:
        msg = f"{name} lists {len(keys)} keys for {n} samples; pass one for all, or one for each."
        raise ValueError(msg)
    return list(keys)


@contextlib.contextmanager
def _naming(number: int, n: int) -> Iterator[None]:
    """Say in an error which of several samples it is about."""
    try:
        yield
    except (KeyError, ValueError, MemoryError) as error:
        if n > 1:
            error.add_note(f"In sample {number + 1} of {n}.")
        raise


def _check_alike(sources: Sequence[Source], rules: Sequence[RegionRule | None]) -> None:
    """Raise ``ValueError`` if one model cannot be learned from samples together."""
    platforms = list(dict.fromkeys(source.platform.name for source in sources))
    if len(platforms) > 1:
        msg = (
            f"The samples are of the platforms {listed(platforms)}: densities differ, and so would their models. Train "
            "one for each platform, or pass platform= to read all alike."
        )
        raise ValueError(msg)
    resolutions = list(dict.fromkeys(source.resolution for source in sources))
    if len(resolutions) > 1:
        msg = f"The samples have resolutions of {resolutions} um; pass resolution= for all."
        raise ValueError(msg)
    if len(sources) > 1 and any(rule is not None and rule.kind in ("blocks", "fov") for rule in rules):
        msg = (
            "regions= of several samples must go by name (a column or shapes): blocks and fields of view of different "
            "samples have nothing in common."
        )
        raise ValueError(msg)
