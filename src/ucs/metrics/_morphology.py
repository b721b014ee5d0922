"""Size and shape of cells and of their nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._evaluation.arguments import checked_ids, rasters_of
from ucs._evaluation.contingency import contingency
from ucs._evaluation.hull import hull_sizes
from ucs._kernels.ids import densify
from ucs._kernels.measure import eccentricities, moments

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue


def morphology(
    labels: ArrayLike | str,
    nuclei: ArrayLike | str | None = None,
    *,
    um_per_px: float | None = None,
    sdata: SpatialData | Tissue | None = None,
) -> pd.DataFrame:
    """Measure every cell, and the nucleus in it.

    Parameters
    ----------
    labels
        Label image ``(H, W)`` of cells, integers, 0 = background; or the key of an element of ``sdata``.
    nuclei
        The same of nuclei, on the same raster; their ids need not be related to those of the cells.
    um_per_px
        Side of a pixel in um; 1 if None. Not to be given with keys.
    sdata
        Where the keys are to be found.

    Returns
    -------
    One row per cell (the index, ``cell_id``) with

    - ``area_um2``,
    - ``eccentricity`` of the ellipse with the same second moments, ``sqrt(1 - (b / a)^2)``: 0 for a disc, towards 1 for
      a line (a pixel counts as a square, so that a row of pixels has a width),
    - ``solidity``: number of pixels over that of the convex hull of the pixel centres: 1 for a disc, less the more bays
      and arms there are.

    With nuclei also ``n_nuclei``, the number of nuclei that have more of their pixels in this cell than in any other
    (and more than none), and of the one among these with most pixels in the cell: ``nucleus_id``, ``nucleus_area_um2``,
    ``nucleus_eccentricity`` and ``nucleus_solidity`` (of the whole nucleus). A cell without has NaN there; ids that are
    no numbers are None.

    Raises
    ------
    ValueError
        If these are no 2D arrays of ids of one shape, or ``um_per_px`` is not positive.

    References
    ----------
    The paper compares the eccentricity of cells and nuclei per cell type. The hull is that of
    ``skimage.morphology.convex_hull_image`` with ``offset_coordinates=False``; ``skimage.measure.regionprops`` takes
    pixels as points, so that its eccentricity of a row of pixels is 1.
    """
    if not (um_per_px is None or 0 < um_per_px < np.inf):
        raise ValueError(f"um_per_px={um_per_px} given: the side of a pixel in um must be positive and finite.")
    given = [labels] if nuclei is None else [labels, nuclei]
    rasters = rasters_of(given, sdata)
    if sdata is not None and um_per_px is not None:
        raise ValueError("um_per_px= is known where sdata= is given: leave it out.")
    images = [
        np.asarray(checked_ids(image, name)) for (image, _, _), name in zip(rasters, ("labels", "nuclei"), strict=False)
    ]
    for image, name in zip(images, ("labels", "nuclei"), strict=False):
        if image.ndim != 2 or image.shape != images[0].shape:
            raise ValueError(f"{name} has shape {image.shape}: label images (height, width) of one shape are needed.")
    dense = [densify(image) for image in images]
    named = [
        (array, ids if names is None else names) for (array, ids), (_, names, _) in zip(dense, rasters, strict=True)
    ]
    side = rasters[0][2] or um_per_px or 1.0
    return morphology_of(*named[0], *(named[1] if len(named) > 1 else (None, None)), um_per_px=side)


def morphology_of(
    labels: NDArray[np.int32],
    ids: NDArray,
    nuclei: NDArray[np.int32] | None,
    nucleus_ids: NDArray | None,
    *,
    um_per_px: float,
) -> pd.DataFrame:
    """Measure cells and nuclei with dense ids; see :func:`morphology`."""
    frame = _measured(labels, ids, um_per_px).rename_axis("cell_id")
    if nuclei is None or nucleus_ids is None:
        return frame
    cell, nucleus, n_pixels = _homes(labels, nuclei)
    frame["n_nuclei"] = np.bincount(cell, minlength=len(ids) + 1)[1:]
    order = np.lexsort((nucleus, -n_pixels, cell))  # the lower id at a tie
    cell, nucleus = cell[order], nucleus[order]
    first = np.concatenate([[True], cell[1:] != cell[:-1]]) if len(cell) else np.zeros(0, dtype=bool)
    own = pd.Series(nucleus[first], index=ids[cell[first] - 1])
    measured = _measured(nuclei, nucleus_ids, um_per_px)
    of_cell = measured.iloc[own.to_numpy() - 1].set_axis(own.index)
    of_cell.insert(0, "id", pd.Series(nucleus_ids[own.to_numpy() - 1], index=own.index))
    return frame.join(of_cell.add_prefix("nucleus_"))


def _measured(labels: NDArray[np.int32], ids: NDArray, um_per_px: float) -> pd.DataFrame:
    sums = moments(labels, len(ids))
    return pd.DataFrame(
        {
            "area_um2": sums[:, 0] * um_per_px**2,
            "eccentricity": eccentricities(sums),
            "solidity": sums[:, 0] / hull_sizes(labels, len(ids)),
        },
        index=ids,
    )


def _homes(
    labels: NDArray[np.int32], nuclei: NDArray[np.int32]
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]:
    """Return for each nucleus that lies in some cell: the cell with most of its pixels, its id, and that number."""
    counts = contingency(nuclei, labels)
    pairs = counts.overlap.tocoo()
    order = np.lexsort((pairs.col, -pairs.data, pairs.row))
    row, column, n_pixels = pairs.row[order], pairs.col[order], pairs.data[order]
    first = np.concatenate([[True], row[1:] != row[:-1]]) if len(row) else np.zeros(0, dtype=bool)
    return counts.predicted_ids[column[first]], counts.true_ids[row[first]], n_pixels[first]
