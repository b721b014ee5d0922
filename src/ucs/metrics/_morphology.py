"""Size and shape of cells and of their nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._evaluation.arguments import checked_image, checked_side, rasters_of
from ucs._evaluation.contingency import contingency
from ucs._evaluation.hull import hull_sizes
from ucs._kernels.labels.ids import densify
from ucs._kernels.labels.measure import eccentricities, moments

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
    """Return area, eccentricity and solidity of every cell, and of the nucleus in it.

    Parameters
    ----------
    labels
        Label image ``(H, W)`` of cells, integers, 0 = background; or the key of an element of ``sdata``.
    nuclei
        The same of nuclei, on the same raster; their ids need not be related to those of the cells.
    um_per_px
        Side of a pixel in um; 1 if None. Not with keys.
    sdata
        Object, or :class:`Tissue`, that has the keys.

    Returns
    -------
    One row per cell (the index, ``cell_id``) with

    - ``area_um2``,
    - ``eccentricity`` of the ellipse with the same second moments, ``sqrt(1 - (b / a)^2)``: 0 for a disc, towards 1 for
      a line (a pixel counts as a square, so that a row of pixels has a width),
    - ``solidity``: number of pixels over that in the convex hull of the pixel centres: 1 for a disc, less for cells
      with bays and arms.

    With nuclei also ``n_nuclei``, the number of nuclei that have more of their pixels in this cell than in any other.
    Of these nuclei, the one with most pixels in the cell gives ``nucleus_id``, ``nucleus_area_um2``,
    ``nucleus_eccentricity`` and ``nucleus_solidity`` (of the whole nucleus). These are NaN for a cell without a
    nucleus, and ids that are text are None.

    Raises
    ------
    ValueError
        If the images are not 2D, not of one shape or hold no ids, or ``um_per_px`` is not positive.
    TypeError
        If a key is given without ``sdata``, or an array with it.

    References
    ----------
    The paper compares the eccentricity of cells and nuclei per cell type. The hull is that of
    ``skimage.morphology.convex_hull_image`` with ``offset_coordinates=False``; ``skimage.measure.regionprops`` takes
    pixels as points, so that its eccentricity of a row of pixels is 1.

    Examples
    --------
    >>> import numpy as np
    >>> found = morphology(np.array([[3, 3, 0], [3, 3, 0], [3, 0, 0]]), um_per_px=0.5)
    >>> found[["area_um2", "solidity"]].to_dict("index")
    {3: {'area_um2': 1.25, 'solidity': 1.0}}
    """
    side = checked_side(um_per_px, sdata)
    rasters = rasters_of([labels] if nuclei is None else [labels, nuclei], sdata)
    named: list[Any] = []
    for (given, names, um_of_tissue), name in zip(rasters, ("labels", "nuclei"), strict=False):
        dense, ids = densify(checked_image(given, name))
        named += [dense, ids if names is None else names]
        side = um_of_tissue or side
    if len(named) > 2 and named[0].shape != named[2].shape:
        raise ValueError(f"nuclei has shape {named[2].shape} and labels {named[0].shape}: both must be on one raster.")
    return morphology_of(*named, um_per_px=side)


def morphology_of(
    labels: NDArray[np.int32],
    ids: NDArray,
    nuclei: NDArray[np.int32] | None = None,
    nucleus_ids: NDArray | None = None,
    *,
    um_per_px: float,
) -> pd.DataFrame:
    """Measure cells and nuclei with dense ids; see :func:`morphology`."""
    frame = _measured(labels, ids, um_per_px).rename_axis("cell_id")
    if nuclei is None or nucleus_ids is None:
        return frame
    homes = _homes(labels, nuclei)
    frame["n_nuclei"] = np.bincount(homes["cell"], minlength=len(ids) + 1)[1:]
    largest = homes.sort_values(["cell", "n_pixels", "nucleus"], ascending=[True, False, True]).drop_duplicates("cell")
    own = pd.Series(largest["nucleus"].to_numpy(), index=ids[largest["cell"].to_numpy() - 1])
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


def _homes(labels: NDArray[np.int32], nuclei: NDArray[np.int32]) -> pd.DataFrame:
    """Return for each nucleus that lies in some cell the cell with most of its pixels (the lower id at a tie)."""
    counts = contingency(nuclei, labels)
    pairs = counts.overlap.tocoo()
    frame = pd.DataFrame(
        {"nucleus": counts.true_ids[pairs.row], "cell": counts.predicted_ids[pairs.col], "n_pixels": pairs.data}
    )
    frame = frame.sort_values(["nucleus", "n_pixels", "cell"], ascending=[True, False, True])
    return frame.drop_duplicates("nucleus")
