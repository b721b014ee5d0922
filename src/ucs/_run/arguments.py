"""Arguments of a segmentation, checked against each other before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ucs._read.platforms import resolve_platform
from ucs._run.cluster import device_of_training
from ucs._run.predict import as_model, check_regions_of_model
from ucs._run.training import TrainingOptions
from ucs._utils.checks import check_at_least, check_one_object, check_positive, is_number, listed, refuse
from ucs.methods.base import resolve_method
from ucs.methods.markers import markers_by_type
from ucs.options import ComputeOptions, OutputKeys, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionsOption
    from ucs._run.predict import Model
    from ucs.methods.base import Method
    from ucs.methods.markers import Markers
    from ucs.methods.model import UCSModel
    from ucs.methods.params import MethodParams

DEFAULT_METHOD = "pretrained"

FIND_MISSING = (False, True, "paper")
"""Values of ``find_missing``."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What :func:`ucs.tl.segment` and :func:`ucs.pp.check` were called with; nothing in it is without effect.

    Attributes
    ----------
    platform, resolution, regions, find_missing, overwrite
        As in :func:`ucs.tl.segment`.
    points_key, nuclei_key, cell_type_key
        As in :func:`ucs.tl.segment`.
    model
        A trained model, or one for each region; None to train.
    training
        How models are trained; with a model, its method.
    threshold
        Probability of lying in a cell above which a pixel does.
    read, compute, keys
        Options.
    """

    points_key: str | Sequence[str] | None
    nuclei_key: str | None
    platform: str | Platform
    resolution: float | None
    regions: RegionsOption
    model: Model | None
    training: TrainingOptions
    cell_type_key: str | None
    find_missing: bool | str
    threshold: float
    read: ReadOptions
    compute: ComputeOptions
    keys: OutputKeys
    overwrite: bool


def check_arguments(
    sdata: SpatialData,
    points_key: str | Sequence[str] | None,
    nuclei_key: str | None,
    *,
    method: str | Method | None,
    platform: str | Platform,
    resolution: float | None,
    regions: RegionsOption,
    model: UCSModel | str | Path | Mapping[str, UCSModel | str | Path] | None,
    markers: Markers | None,
    cell_type_key: str | None,
    find_missing: bool | str,
    threshold: float | None,
    params: MethodParams | Mapping[str, Any] | None,
    read: ReadOptions | Mapping[str, Any] | None,
    compute: ComputeOptions | Mapping[str, Any] | None,
    key_added: str | OutputKeys | Mapping[str, Any],
    seed: int | None,
    overwrite: bool,
) -> Arguments:
    """Return the arguments of :func:`ucs.tl.segment`, checked.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong in itself, or would have no effect.
    """
    check_one_object(sdata)
    resolved = resolve_platform(sdata, platform, points_key)
    trained = None if model is None else as_model(model)
    reading, computing = ReadOptions.resolve(read), ComputeOptions.resolve(compute)
    training = check_training(
        resolved,
        method=method if trained is None else _method_of_model(trained, method),
        regions=regions,
        markers=markers,
        cell_type_key=cell_type_key if trained is None else None,
        params=params if trained is None else None,
        read=reading,
        device=computing.device,
        seed=seed,
    )
    if trained is not None:
        given = {
            "params=": params is not None,
            "markers=": markers is not None,
            "seed=": seed is not None,
            "read['genes']": "genes" in ReadOptions.given(read),
            "read['genes_per_region']": reading.genes_per_region,
            "cell_type_key=": cell_type_key is not None and not trained.uses_markers,
        }
        refuse(given, "with model=, which is trained already")
        check_regions_of_model(trained, regions)
    if resolution is not None:
        check_positive(resolution, "resolution")
    if find_missing not in FIND_MISSING:
        msg = f"find_missing={find_missing!r} is unknown; valid are {listed(FIND_MISSING)}."
        raise ValueError(msg)
    keys = OutputKeys.resolve(key_added)
    if not find_missing and isinstance(key_added, Mapping):
        others = OutputKeys.resolve({name: key for name, key in key_added.items() if name != "missing_nuclei"})
        refuse({"key_added['missing_nuclei']": keys != others}, "without find_missing=")
    if threshold is not None and not (is_number(threshold) and 0 < threshold < 1):
        msg = f"threshold={threshold!r} must lie between 0 and 1: lower values give larger cells."
        raise ValueError(msg)
    default = resolved.thresholds.get(training.method.name, training.method.threshold)
    return Arguments(
        points_key=points_key,
        nuclei_key=nuclei_key,
        platform=platform,
        resolution=resolution,
        regions=regions,
        model=trained,
        training=training,
        cell_type_key=cell_type_key,
        find_missing=find_missing,
        threshold=float(default if threshold is None else threshold),
        read=reading,
        compute=computing,
        keys=keys,
        overwrite=overwrite,
    )


def check_training(
    platform: Platform,
    *,
    method: str | Method | None,
    regions: RegionsOption,
    markers: Markers | None,
    cell_type_key: str | None,
    params: MethodParams | Mapping[str, Any] | None,
    read: ReadOptions,
    device: str,
    seed: int | None,
) -> TrainingOptions:
    """Return how models are trained; see :func:`ucs.tl.train` for the arguments.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong in itself, or would have no effect.
    """
    chosen = resolve_method(DEFAULT_METHOD if method is None else method)
    settings = chosen.params.resolve(params, **platform.params.get(chosen.name, {}))
    if seed is not None:
        check_at_least(seed, 0, "seed")
    if not chosen.trains:
        where = f"with method={chosen.name!r}, whose net is trained before and adapts to each place"
        refuse({"regions=": regions is not None}, where)
    if not chosen.uses_stains:
        refuse({"read['stain_keys']": read.stain_keys is not None}, f"with method={chosen.name!r}")
    if regions is None:
        changed = settings.changed()
        given = {f"params[{name!r}]": name in changed for name in ("warm_start", "min_nuclei")}
        refuse({**given, "read['genes_per_region']": read.genes_per_region}, "without regions=")
    typed = {"markers=": markers is not None, "cell_type_key=": cell_type_key is not None}
    if not chosen.uses_markers(settings):
        refuse(typed, f"with method={chosen.name!r} and these parameters: {settings!r}")
    of_type = None if markers is None else markers_by_type(markers)
    if chosen.types_need_markers and of_type is None:
        refuse({"cell_type_key=": cell_type_key is not None}, f"without markers= with method={chosen.name!r}")
    return TrainingOptions(
        method=chosen,
        params=settings,
        genes=read.genes,
        genes_per_region=read.genes_per_region,
        markers=of_type,
        device=device_of_training(device),
        seed=seed or 0,
    )


def _method_of_model(model: Model, method: str | Method | None) -> str:
    name = None if method is None else resolve_method(method).name
    if name is not None and name != model.method:
        msg = f"method={name!r}, but the model is of the method {model.method!r}. Leave method= out with model=."
        raise ValueError(msg)
    return model.method
