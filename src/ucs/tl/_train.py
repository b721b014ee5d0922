"""Training as a step of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._checks import check_at_least
from ucs.nn.device import resolve_device
from ucs.nn.params import TrainParams
from ucs.pp._sample import find_nuclei_key, find_source, prepare
from ucs.tl._engine import check_background, train_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spatialdata import SpatialData

    from ucs._platforms import Platform
    from ucs.nn.model import UCSModel


def train(
    sdata: SpatialData,
    points_key: str | None = None,
    nuclei_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
    gene_key: str | None = None,
    genes: str | int | Sequence[str] = "all",
    train: TrainParams | Mapping[str, Any] | None = None,
    background: str | float = "auto",
    check_alignment: bool = True,
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> UCSModel:
    """Train both nets on a sample and return them; ``sdata`` is not changed.

    All parameters are those of :func:`segment`, which is this function followed by :func:`predict`.

    Returns
    -------
    The model, to be applied with :func:`predict` or ``segment(..., model=...)``, or saved.

    Raises
    ------
    KeyError, ValueError, MemoryError
        As :func:`segment`, for what concerns its input.
    """
    check_at_least(seed, 0, "seed")
    check_background(background)
    resolve_device(device)
    source = find_source(
        sdata, points_key, platform=platform, gene_key=gene_key, resolution=resolution, um_per_unit=um_per_unit
    )
    params = TrainParams.resolve(train, **source.platform.train)
    sample = prepare(
        sdata,
        source,
        find_nuclei_key(sdata, source.platform, nuclei_key),
        coordinate_system=coordinate_system,
        check_alignment=check_alignment,
        progress=progress,
    )
    return train_model(
        sample,
        genes=genes,
        train=params,
        background=background,
        device=device,
        seed=seed,
        progress=progress,
        timings={},
    )
