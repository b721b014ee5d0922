"""Segmentations of one tissue side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs.pl._cells import cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from spatialdata import SpatialData


def compare(sdata: SpatialData, segmentations: Mapping[str, str], *, ax: NDArray | None = None, **options: Any) -> Any:
    """Draw several segmentations of one tissue, each into axes of its own, over the same transcripts and stain.

    Parameters
    ----------
    sdata
        Object with cells and transcripts.
    segmentations
        Name -> key of a labels or shapes element, as for :func:`ucs.tl.compare`.
    ax
        Axes to draw into, one for each; those of a new figure if None.
    **options
        Further arguments of :func:`cells`; ``bounds=`` chooses the part to show.

    Returns
    -------
    The axes, ``(n,)``, titled by the names.

    Raises
    ------
    ValueError
        If there are no segmentations, or another number of axes; and as :func:`cells`.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> axes = ucs.pl.compare(sdata, {"true": "true_cells", "vendor": "cell_labels"}, bounds=(0, 0, 40, 40))
    """
    import numpy as np
    from matplotlib import pyplot as plt

    if not segmentations:
        msg = "There is nothing to draw: pass segmentations={name: key}."
        raise ValueError(msg)
    n = len(segmentations)
    if ax is None:
        _, ax = plt.subplots(1, n, figsize=(5 * n + 0.5, 5), layout="constrained", squeeze=False)
    axes = np.ravel(np.asarray(ax, dtype=object))
    if len(axes) != n:
        msg = f"ax has {len(axes)} axes for {n} segmentations: pass one for each."
        raise ValueError(msg)
    for one, (name, key) in zip(axes, segmentations.items(), strict=True):
        cells(sdata, shapes_key=key, ax=one, **options)
        one.set_title(name)
    for one in axes[1:]:
        one.set_ylabel("")
    if options.get("fill") is None:  # all have the same transcripts, and so one scale
        for bar in [bar for one in axes[:-1] for bar in one.child_axes]:
            bar.remove()
    return axes
