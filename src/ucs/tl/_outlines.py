"""Labels as polygons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._read.grid import planar
from ucs._results.outlines import dense_view, polygon_frame
from ucs._results.write import Elements, with_elements
from ucs._utils.checks import check_any_label, check_free_keys, check_positive, choose_one
from ucs._utils.elements import finest_level

if TYPE_CHECKING:
    from spatialdata import SpatialData


def outlines(
    sdata: SpatialData,
    labels_key: str,
    *,
    shapes_key_added: str | None = None,
    smooth: bool = False,
    simplify: float = 0.0,
    overwrite: bool = False,
    inplace: bool = True,
) -> SpatialData | None:
    """Return the outline of every label of a labels element as one valid polygon.

    The outline runs along the edges of the pixels: its area is the number of pixels, and filling it gives the label
    again. With ``smooth`` it is moved off them by less than half a pixel and still holds the centres of its label's
    pixels alone; labels that touch share their border, without overlaps or gaps. A label in several
    4-connected parts becomes a multi-polygon.

    Parameters
    ----------
    sdata
        Object with the labels.
    labels_key
        Key of a 2D labels element; of a multiscale element the finest level is used.
    shapes_key_added
        Key of the shapes; ``f"{labels_key}_boundaries"`` if None.
    smooth
        Whether outlines are smooth, or run along the edges of the pixels.
    simplify
        Largest distance in pixels by which leaving out vertices may move the outline; 0 keeps all. Neighbours are
        simplified separately, so their outlines may overlap by as much.
    overwrite
        Whether existing shapes of this key may be replaced.
    inplace
        Whether to add the results to ``sdata``, or to return a new object that shares its elements.

    Returns
    -------
    None, or the new object. The shapes are in the intrinsic pixel coordinates ``(x, y)`` of the labels, index = id,
    with their transformations.

    Raises
    ------
    KeyError
        If the labels are missing.
    ValueError
        If the key is taken, or an id or ``simplify`` is negative.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> ucs.tl.outlines(sdata, "true_cells")
    >>> bool(sdata["true_cells_boundaries"].geometry.is_valid.all())
    True
    """
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import get_transformation

    labels_key = choose_one(labels_key, list(sdata.labels), (), argument="labels_key", what="labels element")
    shapes_key_added = shapes_key_added or f"{labels_key}_boundaries"
    check_free_keys(sdata, {"shapes_key_added": ("shapes", shapes_key_added)}, overwrite=overwrite)
    if simplify != 0:
        check_positive(simplify, "simplify")
    element = sdata.labels[labels_key]
    array = finest_level(element)
    dense, _, ids = dense_view(np.asarray(array))
    check_any_label(ids, labels_key)
    frame = polygon_frame(dense, np.eye(3), ids=ids, smooth=smooth, simplify=simplify)
    transformations = get_transformation(element, get_all=True)
    shapes = ShapesModel.parse(frame, transformations=planar(transformations))
    return with_elements(sdata, Elements({shapes_key_added: shapes}), inplace=inplace)
