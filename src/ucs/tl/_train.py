"""Training as a step of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from spatialdata import SpatialData

from ucs._read.platforms import resolve_platform
from ucs._read.regions import find_regions, read_regions
from ucs._read.sample import Source, find_nuclei_key, find_source, prepare
from ucs._run.arguments import check_training
from ucs._run.cell_types import with_given_types
from ucs._run.training import train_model
from ucs._utils.checks import listed, not_spatialdata
from ucs._utils.progress import Stages
from ucs.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionRule, RegionsOption
    from ucs.methods import Method, MethodParams, RegionModels, UCSModel
    from ucs.methods.markers import Markers


def train(
    sdata: SpatialData | Sequence[SpatialData],
    points_key: str | Sequence[str | Sequence[str]] | None = None,
    nuclei_key: str | Sequence[str] | None = None,
    *,
    method: str | Method | None = None,
    platform: str | Platform = "auto",
    resolution: float | None = None,
    regions: RegionsOption = None,
    markers: Markers | None = None,
    cell_type_key: str | None = None,
    params: MethodParams | Mapping[str, Any] | None = None,
    read: ReadOptions | Mapping[str, Any] | None = None,
    device: str = "auto",
    seed: int | None = None,
    progress: bool = True,
) -> UCSModel | RegionModels:
    """Train a model on one sample or several and return it; ``sdata`` is not changed.

    Parameters
    ----------
    sdata
        One sample, or several of one platform and panel from which one model is learned. Genes are matched by name;
        backgrounds are measured in each sample; patches are drawn from all, and held-out squares from each.
    points_key, nuclei_key
        As in :func:`segment`. Of several samples: one key for all, or a list with one for each.
    platform, resolution, read
        As in :func:`segment`, for all samples. If more than a tenth of the genes does not occur in all samples, the
        nets see only those that do.
    regions
        As in :func:`segment`: one model for each. Of several samples, regions of one name are one region.
    method, markers, cell_type_key, params, seed, progress
        As in :func:`segment`, which is this function followed by :func:`predict`.
    device
        As in :class:`ucs.options.ComputeOptions`.

    Returns
    -------
    The model, to be applied with :func:`predict` or ``segment(..., model=...)``, or saved; with ``regions`` a mapping
    of their names to models, :class:`ucs.methods.RegionModels`, for the same use.

    Raises
    ------
    KeyError, ValueError, MemoryError
        As :func:`segment`, for what concerns its input; if there is no sample, or samples differ in platform or
        resolution, or less than half of their genes are common to all.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=80, height_um=80, seed=0)
    >>> ucs.tl.train(sdata, progress=False).method
    'pretrained'
    """
    several = not isinstance(sdata, SpatialData)
    objects = _checked_objects(sdata)
    points_keys: list[Any] = _one_for_each(points_key, len(objects), "points_key") if several else [points_key]
    nuclei_keys: list[Any] = _one_for_each(nuclei_key, len(objects), "nuclei_key") if several else [nuclei_key]
    reading = ReadOptions.resolve_part(read, ("stain_keys",), "in ucs.tl.train: stains are compared with the cells")
    options = check_training(
        resolve_platform(objects[0], platform, points_keys[0]),
        method=method,
        regions=regions,
        markers=markers,
        cell_type_key=cell_type_key,
        params=params,
        read=reading,
        device=device,
        seed=seed,
    )
    sources: list[Source] = []
    found: list[str] = []
    rules: list[RegionRule | None] = []
    for number, one in enumerate(objects):
        with _naming(number, len(objects)):
            source = find_source(
                one,
                points_keys[number],
                platform=platform,
                coordinate_system=reading.coordinate_system,
                gene_key=reading.gene_key,
                resolution=resolution,
                finest=options.method.finest_um,
                um_per_unit=reading.um_per_unit,
                z_planes=reading.z_planes,
                outlier_um=reading.outlier_um,
            )
            sources.append(source)
            found.append(find_nuclei_key(one, source, nuclei_keys[number]))
            rules.append(find_regions(one, source, regions))
    _check_alike(sources, rules)
    samples, of_samples = [], []
    for number, (one, source, rule) in enumerate(zip(objects, sources, rules, strict=True)):
        with _naming(number, len(objects)):
            sample = prepare(
                one,
                source,
                found[number],
                coordinate_system=reading.coordinate_system,
                check_alignment=reading.check_alignment,
                fuse_nuclei=reading.fuse_nuclei,
                progress=progress,
            )
            sample = with_given_types(one, sample, cell_type_key, options.markers)
            samples.append(sample)
            if rule is not None:
                of_samples.append(read_regions(one, sample, rule, coordinate_system=reading.coordinate_system))
    return train_model(samples, of_samples or None, options, Stages(progress=progress)).model


def _checked_objects(given: SpatialData | Sequence[SpatialData]) -> list[SpatialData]:
    """Return one object or several as a list."""
    objects = list(given) if isinstance(given, list | tuple) else [given]
    if not objects:
        msg = "sdata is an empty list; pass at least one SpatialData."
        raise ValueError(msg)
    for one in objects:
        if not isinstance(one, SpatialData):
            msg = f"{not_spatialdata(one, 'a SpatialData or a list of such')}."
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
