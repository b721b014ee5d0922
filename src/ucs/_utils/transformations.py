"""Affine matrices over ``(x, y, 1)`` between elements and coordinate systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData


def transformation_matrix(
    sdata: SpatialData, source: str, target: str, *, coordinate_system: str | None = None
) -> NDArray[np.float64]:
    """Return the ``(3, 3)`` matrix from the intrinsic ``(x, y, 1)`` of one element to that of another.

    The matrix goes through the given coordinate system, else through ``"global"`` or the first one that both share,
    else along the shortest path through other elements.

    Raises
    ------
    ValueError
        If there is no path, or the elements do not share the coordinate system; the message lists those of both.
    """
    from spatialdata.transformations import get_transformation, get_transformation_between_coordinate_systems

    of_source = get_transformation(sdata[source], get_all=True)
    of_target = get_transformation(sdata[target], get_all=True)
    shared = sorted(set(of_source) & set(of_target))
    systems = f"{source!r} is in {listed(of_source)}, {target!r} in {listed(of_target)}"
    if coordinate_system is not None and coordinate_system not in shared:
        msg = f"coordinate_system={coordinate_system!r} is not one of both elements: {systems}."
        raise ValueError(msg)
    if shared:
        system = coordinate_system or ("global" if "global" in shared else shared[0])
        matrices = [affine_matrix(of[system]) for of in (of_source, of_target)]
        for name, matrix in zip((source, target), matrices, strict=True):
            _check_invertible(matrix, name, system)
        return np.linalg.inv(matrices[1]) @ matrices[0]
    try:
        path = get_transformation_between_coordinate_systems(sdata, sdata[source], sdata[target])
    except RuntimeError as error:
        msg = (
            f"{source!r} and {target!r} share no coordinate system and no path connects them: {systems}. Register them "
            "with spatialdata.transformations.set_transformation."
        )
        raise ValueError(msg) from error
    return affine_matrix(path)


def matrix_to_system(sdata: SpatialData, key: str, system: str) -> NDArray[np.float64]:
    """Return the ``(3, 3)`` matrix from the intrinsic ``(x, y, 1)`` of an element to a coordinate system.

    Raises
    ------
    ValueError
        If there is no path, or it cannot be inverted.
    """
    from spatialdata.transformations import get_transformation, get_transformation_between_coordinate_systems

    systems = get_transformation(sdata[key], get_all=True)
    if system in systems:
        matrix = affine_matrix(systems[system])
    else:
        try:
            matrix = affine_matrix(get_transformation_between_coordinate_systems(sdata, sdata[key], system))
        except (RuntimeError, ValueError) as error:
            msg = (
                f"{key!r} is in {listed(systems)}, from which no path leads to {system!r}. Register it with "
                "spatialdata.transformations.set_transformation."
            )
            raise ValueError(msg) from error
    _check_invertible(matrix, key, system)
    return matrix


def common_system(sdata: SpatialData, keys: Sequence[str], given: str | None = None) -> str:
    """Return the coordinate system that several elements share: the given one, ``"global"``, or the first.

    Raises
    ------
    ValueError
        If they share none, or not the given one.
    """
    from spatialdata.transformations import get_transformation

    systems = {key: set(get_transformation(sdata[key], get_all=True)) for key in keys}
    shared = sorted(set.intersection(*systems.values()))
    each = "; ".join(f"{key!r} is in {listed(sorted(systems[key]))}" for key in keys[:4])
    if given is not None and given not in shared:
        msg = f"coordinate_system={given!r} is not one of all the elements: {each}."
        raise ValueError(msg)
    if not shared:
        msg = f"{listed(keys)} share no coordinate system: {each}. Register them with set_transformation."
        raise ValueError(msg)
    return given or ("global" if "global" in shared else shared[0])


def near(sdata: SpatialData, keys: Sequence[str], points_keys: Sequence[str]) -> list[str]:
    """Return those keys whose elements share a coordinate system with some points; all of them if none does."""
    from spatialdata.transformations import get_transformation

    systems = {system for key in points_keys for system in get_transformation(sdata[key], get_all=True)}
    sharing = [key for key in keys if systems & set(get_transformation(sdata[key], get_all=True))]
    return sharing or list(keys)


def _check_invertible(matrix: NDArray[np.float64], name: str, system: str) -> None:
    linear = matrix[:2, :2]
    if not np.isfinite(matrix).all() or abs(np.linalg.det(linear)) <= 1e-12 * np.square(linear).sum():
        msg = f"The transformation of {name!r} to {system!r} cannot be inverted: {matrix.tolist()}. Register another."
        raise ValueError(msg)


def affine_matrix(transformation: object) -> NDArray[np.float64]:
    """Return a transformation as a ``(3, 3)`` matrix over ``(x, y, 1)``."""
    return transformation.to_affine_matrix(input_axes=("x", "y"), output_axes=("x", "y"))  # type: ignore[attr-defined]
