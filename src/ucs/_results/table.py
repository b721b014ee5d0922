"""Tables of cells x genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._kernels.count import row_sums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

INSTANCE_KEY = "cell_id"
REGION_KEY = "region"


def build_table(
    counts: csr_matrix,
    control_counts: csr_matrix | None = None,
    *,
    genes: Sequence[str],
    controls: Sequence[str],
    panel: tuple[Sequence[str], Sequence[str]],
    ids: NDArray,
    region: str,
    area_um2: NDArray[np.floating],
    centroid_um: NDArray[np.float64],
    obs: Mapping[str, Any],
    layers: Mapping[str, csr_matrix],
    uns: Mapping[str, Any],
) -> AnnData:
    """Return the table that annotates a labels or shapes element.

    Parameters
    ----------
    counts
        ``(n, len(genes))`` int counts.
    control_counts
        ``(n, len(controls))`` int counts; None for no controls.
    genes, controls
        Names of the features that were counted.
    panel
        Names of all genes and all controls, the columns of the table; those that were not counted are 0.
    ids
        ``(n,)`` instance ids.
    region
        Key of the element that the rows annotate.
    area_um2
        ``(n,)`` areas in um2.
    centroid_um
        ``(n, 2)`` centroids (x, y) in um.
    obs
        Further columns, ``(n,)`` each.
    layers
        Further counts, of the shape of ``counts``.
    uns
        Content of ``uns["ucs"]``.
    """
    from anndata import AnnData
    from spatialdata.models import TableModel

    if ids.dtype.itemsize < 2:
        ids = ids.astype(np.int16)  # SpatialData takes no 8-bit instance ids
    names = pd.Index([str(i) for i in ids])
    n_transcripts = row_sums(counts)
    frame = pd.DataFrame(
        {
            INSTANCE_KEY: ids,
            REGION_KEY: pd.Categorical([region] * len(ids), categories=[region]),
            **obs,
            "area_um2": area_um2,
            "n_transcripts": n_transcripts,
            "n_genes": np.diff(counts.indptr).astype(np.int64),
            "n_controls": np.zeros(len(ids), dtype=np.int64) if control_counts is None else row_sums(control_counts),
            "density": n_transcripts / area_um2,
        },
        index=names,
    )
    all_genes, all_controls = panel
    var = pd.DataFrame(index=pd.Index(list(all_genes), dtype=object))
    table = AnnData(X=_in_panel(counts, genes, all_genes), obs=frame, var=var)
    for name, layer in layers.items():
        table.layers[name] = _in_panel(layer, genes, all_genes)
    table.obsm["spatial"] = centroid_um
    table.uns["ucs"] = storable(uns)
    if all_controls and control_counts is not None:
        # No frame: SpatialData renames the rows of tables that it concatenates, but not those of frames in them.
        table.obsm["controls"] = _in_panel(control_counts, controls, all_controls)
        table.uns["ucs"]["controls"] = np.array(all_controls, dtype=object)
    return TableModel.parse(table, region=region, region_key=REGION_KEY, instance_key=INSTANCE_KEY)


def _in_panel(counts: csr_matrix, names: Sequence[str], panel: Sequence[str]) -> csr_matrix:
    """Return counts of some features, in alphabetical order, with a column for each feature of the panel."""
    from scipy.sparse import csr_matrix

    if counts.shape[1] == len(panel):
        return counts
    column = pd.Index(panel).get_indexer(list(names)).astype(counts.indices.dtype)
    return csr_matrix((counts.data, column[counts.indices], counts.indptr), shape=(counts.shape[0], len(panel)))


def control_counts_of(table: AnnData) -> pd.DataFrame:
    """Return the counts of controls of a table of ours as a frame, cells x controls."""
    names = table.uns["ucs"].get("controls", [])
    counts = table.obsm["controls"].toarray() if len(names) else np.zeros((table.n_obs, 0), dtype=np.int64)
    return pd.DataFrame(counts, index=table.obs_names, columns=list(names))


def at_home(
    centroid_um: NDArray[np.float64], to_home: NDArray[np.floating], um_per_unit: float
) -> NDArray[np.float64]:
    """Return positions in the frame, in um, as positions in the coordinates of the results, in um.

    Parameters
    ----------
    centroid_um
        ``(n, 2)`` positions in the frame.
    to_home
        ``(3, 3)`` from the frame to the coordinates of the results.
    um_per_unit
        Length of a unit of the frame in um.
    """
    if np.array_equal(to_home, np.eye(3)):
        return centroid_um
    scale = np.sqrt(abs(np.linalg.det(to_home[:2, :2])))
    return (centroid_um / um_per_unit @ to_home[:2, :2].T + to_home[:2, 2]) * um_per_unit / scale


def storable(value: Any) -> Any:
    """Return nested plain values in a form that AnnData can write: without None, and with lists as arrays."""
    if isinstance(value, dict):
        return {str(k): storable(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return np.asarray(value)
    return value
