"""Prediction on one prepared sample by one model, or by one for each region."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._results.elements import Prediction
from ucs._run.tiles import run_tiles
from ucs._utils.checks import listed
from ucs._utils.memory import release_unused
from ucs.methods.base import resolve_method
from ucs.methods.model import UCSModel
from ucs.methods.region_models import RegionModels, load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._files.workspace import Workspace
    from ucs._read.regions import Regions
    from ucs._utils.progress import Stages
    from ucs.methods.base import RasterSample

    Model = UCSModel | RegionModels


def as_model(model: object) -> Model:
    """Return a model, or one for each region; read from the directory if it is a path.

    Raises
    ------
    TypeError
        If it is neither, nor a mapping of region -> model.
    """
    if isinstance(model, UCSModel | RegionModels):
        return model
    if isinstance(model, str | Path):
        return load_model(model)
    if isinstance(model, Mapping):
        models = {str(region): as_model(one) for region, one in model.items()}
        nested = [region for region, one in models.items() if not isinstance(one, UCSModel)]
        if nested:
            msg = f"model= has models of regions for {listed(nested)}; a region has one model."
            raise TypeError(msg)
        return RegionModels({region: one for region, one in models.items() if isinstance(one, UCSModel)})
    msg = f"model={model!r} must be a UCSModel or the path of one, or a mapping of region -> either."
    raise TypeError(msg)


def check_regions_of_model(model: Model, regions: object) -> None:
    """Raise ``ValueError`` if models are one per region and no regions are asked for, or the other way round."""
    if isinstance(model, RegionModels) and regions is None:
        msg = f"model= has one model for each of the regions {listed(model)}: say with regions= where they are."
        raise ValueError(msg)
    if isinstance(model, UCSModel) and regions is not None:
        msg = f"regions={regions!r} needs one model for each region, but model= is a single one for all."
        raise ValueError(msg)


def predict_cells(
    raster: RasterSample,
    model: Model,
    regions: Regions | None = None,
    *,
    survey: Any = None,
    threshold: float | None = None,
    tile_size: int,
    device: str,
    workspace: Workspace,
    foreground: bool = False,
    stages: Stages,
) -> Prediction:
    """Apply a model, or one for each region, to one sample; see :func:`ucs.tl.predict`.

    Parameters
    ----------
    raster
        The sample.
    model, regions
        One model, or one for each of the regions.
    survey
        Of the raster, if training has made it (:meth:`ucs.methods.Method.survey`); measured if None.
    threshold
        Probability of lying in a cell above which a pixel does; the method's default if None.
    tile_size, device
        As in :class:`ucs.options.ComputeOptions`.
    workspace
        Where rasters are held.
    foreground
        Whether the probability of lying in a cell is wanted.
    stages
        Times the stages.
    """
    models, model_of_nucleus = models_of_nuclei(raster, model, regions)
    obs = {} if regions is None else {"model_region": regions.column()}
    method = resolve_method(models[0].method)
    with stages.stage("survey", unit="tile") as update:
        if survey is None or len(models) > 1:
            groups = model_of_nucleus if len(models) > 1 else None
            survey = method.survey(raster, models[0].genes, models[0].params, model_of_nucleus=groups, progress=update)
        threshold = method.threshold if threshold is None else threshold
        plan = method.plan(models, raster, model_of_nucleus, survey, threshold=threshold)
    del survey
    release_unused()
    rasters = run_tiles(
        plan,
        raster.nuclei,
        raster.n,
        len(raster.features),
        tile_size=tile_size,
        device=device,
        workspace=workspace,
        foreground=foreground,
        stages=stages,
    )
    return Prediction(**rasters, obs=obs)


def regions_of_models(regions: Regions, model: Model) -> dict[str, Any]:
    """Return what ``uns["ucs"]["regions"]`` says: plain values, one of each region."""
    own = [
        isinstance(model, RegionModels) and model.get(name, model.shared) is not model.shared for name in regions.names
    ]
    return {
        "by": str(regions.rule),
        "names": list(regions.names),
        "n_nuclei": regions.n_nuclei.tolist(),
        "has_own_model": own,
        "n_nuclei_outside": regions.n_outside,
    }


def models_of_nuclei(
    raster: RasterSample, model: Model, regions: Regions | None
) -> tuple[list[UCSModel], NDArray[np.int64]]:
    """Return the models that any nucleus has, and the number of that of each, ``(n + 1,)``.

    Raises
    ------
    ValueError
        If there is no model for a region, or for nuclei that lie in none, the resolution is another, or the data lacks
        genes.
    """
    if isinstance(model, UCSModel):
        number = np.zeros(raster.n + 1, dtype=np.int64)
        candidates = [model]
    else:
        number, candidates = _models_by_region(model, regions)
    used, number = np.unique(number, return_inverse=True)
    models = [candidates[k] for k in used]
    if not np.isclose(raster.um_per_px, models[0].um_per_px, rtol=1e-6):
        msg = (
            f"The model was trained at {models[0].um_per_px:g} um per pixel, the grid has {raster.um_per_px:g}: pass "
            f"resolution={models[0].um_per_px:g}, or train a model at this resolution."
        )
        raise ValueError(msg)
    for one in models:
        one.check_overlap(raster.features)
    return models, number


def _models_by_region(model: RegionModels, regions: Regions | None) -> tuple[NDArray[np.int64], list[UCSModel]]:
    check_regions_of_model(model, regions)
    if regions is None:
        raise AssertionError  # refused above
    unknown = [name for name in regions.names if name not in model]
    if unknown:
        msg = f"model= has no model for the regions {listed(unknown)}; it has: {listed(model)}."
        raise ValueError(msg)
    if regions.n_outside > 0 and model.shared is None:
        msg = (
            f"{regions.n_outside} nuclei lie in no region ({regions.rule}), and there is no shared model for them: "
            "pass ucs.methods.RegionModels(models, shared=...), or extend the regions."
        )
        raise ValueError(msg)
    candidates = model.distinct()
    number = {id(one): k for k, one in enumerate(candidates)}
    # Nuclei in no region have the shared model, which is the first if there is one; so has id 0, which is none.
    of_region = np.array([0, *(number[id(model[name])] for name in regions.names)])
    of_nucleus = of_region[regions.of_nucleus]
    of_nucleus[0] = of_nucleus[1]
    return of_nucleus, candidates
