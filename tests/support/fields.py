"""Fields of view cut out of one tissue, laid out as ``spatialdata_io.cosmx`` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scenes import Scene, affine, make_points
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel
from spatialdata.transformations import Identity

Box = tuple[int, int, int, int]


def cut_fields(
    scene: Scene,
    boxes: Sequence[Box],
    *,
    flip: bool = True,
    nuclei: str = "{fov}_nuclei",
    to_global: NDArray | None = None,
    columns: dict[str, Any] | None = None,
) -> SpatialData:
    """Cut fields of view out of a scene.

    Parameters
    ----------
    scene
        Nuclei on pixels of 1 um, and transcripts.
    boxes
        ``(x0, y0, x1, y1)`` of each field in pixels of the nuclei; fields may overlap.
    flip
        Whether ``y`` of a field is counted from its lower side up, as CosMx does.
    nuclei
        Key of the labels.
    to_global
        From the scene's um to the common coordinate system; the same if None.
    columns
        More columns of the points.
    """
    elements = {}
    origin = scene.to_um[:2, 2]
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        fov = str(number + 2)
        left, top, bottom = x0 + origin[0], y0 + origin[1], y1 + origin[1]
        inside = scene.points["x"].between(left, x1 + origin[0]) & scene.points["y"].between(top, bottom)
        points = scene.points[inside].rename(columns={"feature_name": "target"}).reset_index(drop=True)
        labels = scene.nuclei[y0:y1, x0:x1]
        points["x"] -= left
        points["y"] = bottom - points["y"] if flip else points["y"] - top
        to_um = np.array([[1.0, 0.0, left], [0.0, -1.0 if flip else 1.0, bottom if flip else top], [0.0, 0.0, 1.0]])
        systems = {fov: Identity(), "global": affine((np.eye(3) if to_global is None else to_global) @ to_um)}
        points = points.drop(columns="qv").assign(fov=number + 2, CellComp="Cytoplasm", **(columns or {}))
        elements[f"{fov}_points"] = make_points(points, systems)
        elements[nuclei.replace("{fov}", fov)] = Labels2DModel.parse(
            np.ascontiguousarray(labels[::-1] if flip else labels), dims=("y", "x"), transformations=dict(systems)
        )
    return SpatialData.init_from_elements(elements)


def same_up_to_ids(a: NDArray, b: NDArray) -> float:
    """Share of the pixels in which two segmentations agree, if every cell of one is one of the other."""
    pairs, counts = np.unique(np.stack([a[(a > 0) & (b > 0)], b[(a > 0) & (b > 0)]]), axis=1, return_counts=True)
    best = {}
    for (i, j), _ in sorted(zip(pairs.T.tolist(), counts, strict=True), key=lambda pair: pair[1]):
        best[i] = j
    renamed = np.zeros(a.max() + 1, dtype=int)
    for i, j in best.items():
        renamed[i] = j
    assert len(set(best.values())) == len(best) == len(np.unique(a[a > 0])) == len(np.unique(b[b > 0]))
    return float((renamed[a] == b).mean())
