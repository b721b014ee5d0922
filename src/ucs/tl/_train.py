"""Training as a step of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs.nn.device import resolve_device
from ucs.pp._sample import find_source, prepare
from ucs.tl._engine import train_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spatialdata import SpatialData

    from ucs._platforms import Platform
    from ucs.nn.model import UCSModel
    from ucs.nn.params import TrainParams


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
    resolve_device(device)
    source = find_source(
        sdata, points_key, platform=platform, gene_key=gene_key, resolution=resolution, um_per_unit=um_per_unit
    )
    sample = prepare(
        sdata, source, nuclei_key, coordinate_system=coordinate_system, check_alignment=check_alignment
    )
    return train_model(
        sample,
        genes=genes,
        train=train,
        background=background,
        device=device,
        seed=seed,
        progress=progress,
        timings={},
    )
