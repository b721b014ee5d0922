"""Cell types of nuclei from the transcripts in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._evaluation.reference import as_reference
from ucs._evaluation.types import type_probabilities
from ucs._kernels.count import count_in_labels, split_columns
from ucs._kernels.labels.measure import centroids, moments
from ucs._read.platforms import FOV
from ucs._read.sample import find_nuclei_key, find_source, prepare
from ucs._results.table import build_table
from ucs._results.write import Elements, with_elements
from ucs._utils.checks import check_free_keys
from ucs._utils.log import logger
from ucs.methods.cell_types import types_by_markers
from ucs.methods.markers import marker_table
from ucs.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from ucs._evaluation.reference import Scale
    from ucs._read.platforms import Platform
    from ucs._read.sample import Sample
    from ucs.methods.markers import Markers

_UNKNOWN = "unknown"  # type of nuclei without transcripts, or whose likeliest type is not probable enough

_UNUSED = ("genes", "stain_keys", "genes_per_region", "fuse_nuclei")  # options of reading without effect here


def annotate_nuclei(
    sdata: SpatialData,
    points_key: str | Sequence[str] | None = None,
    nuclei_key: str | None = None,
    *,
    markers: Markers | None = None,
    reference: AnnData | pd.DataFrame | None = None,
    type_key: str | None = None,
    scale: Scale | None = None,
    min_confidence: float = 0.5,
    platform: str | Platform = "auto",
    resolution: float | None = None,
    read: ReadOptions | Mapping[str, Any] | None = None,
    table_key_added: str = "ucs_nuclei_types",
    overwrite: bool = False,
    inplace: bool = True,
) -> SpatialData | None:
    """Return the cell type of each nucleus, from the transcripts in it, with its probability.

    With a reference, it is the type whose profile makes the transcripts most likely, a tenth of which are taken as
    ambient. With markers, a mixture is fitted to the nuclei in which each marker is higher in its types than in all
    others; a further type without markers takes the nuclei that fit none.

    Parameters
    ----------
    sdata
        Object with transcripts and nuclei, or with transcripts and an image of a nuclear stain, see :func:`segment`.
    markers
        Marker genes: a mapping from type to genes; a long DataFrame with a column of types (``type``, ``cell_type``,
        ...) and one of genes (``gene``, ``marker``, ...); or a wide one of 0 and 1, types x genes.
    reference
        Instead of markers: single cells (AnnData with types in ``obs[type_key]``) or profiles (DataFrame, types x
        genes).
    type_key, scale
        Of the reference: the column of the types (for a DataFrame its index if None), and ``"log1p"`` if its values are
        logarithms, which are then undone, or ``"linear"``.
    min_confidence
        Lowest probability of a type. Nuclei below it are ``"unknown"``, as are those without transcripts.
    points_key, nuclei_key, platform, resolution
        As in :func:`segment`.
    read
        How the sample is read: :class:`ucs.options.ReadOptions`, or a mapping of its fields but those of genes, of
        regions, of stains and ``fuse_nuclei``.
    table_key_added
        Key of the table.
    overwrite
        Whether a table under that key may be replaced.
    inplace
        Whether to add the results to ``sdata``, or to return a new object that shares its elements.

    Returns
    -------
    None, or the new object. The table has CSR int counts, nuclei x genes. Its rows annotate the nuclei, unless these
    are one element for
    each field of view. ``obs`` has ``cell_type`` (categorical, with ``"unknown"``), ``cell_type_confidence`` (the
    probability of the most likely type, even if too low; NaN without transcripts) and areas in um2;
    ``obsm["cell_type_probability"]`` the probability of each type, ``obsm["spatial"]`` the centroids in um.

    Raises
    ------
    TypeError
        If markers or reference have no known form.
    KeyError, ValueError
        If neither or both of markers and reference are given; if fewer than two types have a marker among the genes, or
        the reference shares fewer than 10 genes with the data, has negative values, or has values that look like
        logarithms and ``scale`` is None; if the key is taken; or as :func:`segment` for the data.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=100, height_um=100, n_genes=30, n_cell_types=2, seed=0)
    >>> ucs.tl.annotate_nuclei(sdata, reference=sdata["true_table"], type_key="cell_type")
    >>> list(sdata["ucs_nuclei_types"].obs["cell_type"].cat.categories)
    ['type_1', 'type_2', 'unknown']
    """
    if (markers is None) == (reference is None):
        msg = "Pass either markers= or reference= to tell the types by: " + (
            "neither is given." if markers is None else "both are given."
        )
        raise ValueError(msg)
    if not 0 <= min_confidence <= 1:
        msg = f"min_confidence={min_confidence!r} must lie between 0 and 1."
        raise ValueError(msg)
    check_free_keys(sdata, {"table_key_added": ("tables", table_key_added)}, overwrite=overwrite)
    if reference is not None:
        reference = as_reference(reference, type_key=type_key, scale=scale)  # before the data is read
    reading = ReadOptions.resolve_part(read, _UNUSED, "in ucs.tl.annotate_nuclei")
    source = find_source(
        sdata,
        points_key,
        platform=platform,
        coordinate_system=reading.coordinate_system,
        gene_key=reading.gene_key,
        resolution=resolution,
        um_per_unit=reading.um_per_unit,
        z_planes=reading.z_planes,
        outlier_um=reading.outlier_um,
    )
    sample = prepare(
        sdata,
        source,
        find_nuclei_key(sdata, source, nuclei_key),
        coordinate_system=reading.coordinate_system,
        check_alignment=reading.check_alignment,
    )
    counts = count_in_labels(sample.transcripts.map, sample.nuclei.labels, len(sample.nuclei.ids))
    genes = pd.Index(sample.transcripts.genes)
    if markers is not None:
        probability = _marked_types(counts[:, : len(genes)], genes, markers)
    else:
        probability = type_probabilities(counts, genes, as_reference(reference))
    table = _table(sample, counts, probability, min_confidence)
    known = table.obs["cell_type"] != _UNKNOWN
    logger.info("Annotated %d of %d nuclei: %s.", known.sum(), len(known), _frequencies(table.obs["cell_type"]))
    return with_elements(sdata, Elements({**sample.found, table_key_added: table}), inplace=inplace)


def _marked_types(counts: csr_matrix, genes: pd.Index, markers: Markers) -> pd.DataFrame:
    """Return the probability of each type that has a marker, nuclei x types; NaN for nuclei without transcripts.

    What a row lacks to 1 is the probability of no type.
    """
    names, is_marker = marker_table(markers, genes)
    probability = pd.DataFrame(types_by_markers(counts, is_marker)[:, :-1], columns=names)
    probability[np.asarray(counts.sum(axis=1)).ravel() == 0] = np.nan
    return probability


def _likeliest(probability: pd.DataFrame, min_confidence: float) -> tuple[pd.Categorical, NDArray[np.float64]]:
    """Return the likeliest type of each row, ``"unknown"`` if it is not probable enough, and its probability."""
    values = probability.to_numpy(dtype=np.float64)
    confidence = values.max(axis=1, initial=0.0, where=~np.isnan(values))
    best = np.where(np.isnan(values), -1, values).argmax(axis=1)
    names = [str(name) for name in probability.columns if str(name) != _UNKNOWN]
    named = np.asarray(probability.columns.astype(str))[best]
    known = (confidence >= min_confidence) & (confidence > 0)
    confidence[np.isnan(values).all(axis=1)] = np.nan
    return pd.Categorical(np.where(known, named, _UNKNOWN), categories=[*names, _UNKNOWN]), confidence


def _table(sample: Sample, counts: csr_matrix, probability: pd.DataFrame, min_confidence: float) -> AnnData:
    from spatialdata.models import TableModel

    grid, nuclei = sample.transcripts.grid, sample.nuclei
    types, confidence = _likeliest(probability, min_confidence)
    shapes = moments(nuclei.labels, len(nuclei.ids))
    obs: dict[str, Any] = {"cell_type": types, "cell_type_confidence": confidence}
    ids = nuclei.ids if np.issubdtype(nuclei.ids.dtype, np.integer) else nuclei.ids.astype(str).astype(object)
    linked = FOV not in sample.nuclei_key
    numbers = np.arange(1, len(ids) + 1, dtype=np.int32)
    table = build_table(
        *split_columns(counts, len(sample.transcripts.genes)),
        genes=sample.transcripts.genes,
        controls=sample.transcripts.controls,
        panel=sample.transcripts.panel,
        ids=numbers,
        region=sample.nuclei_key,
        area_um2=shapes[:, 0] * grid.um_per_px**2,
        centroid_um=centroids(shapes) * grid.um_per_px + np.array(grid.origin) * grid.um_per_unit,
        obs=obs,
        layers={},
        uns={"nuclei_key": sample.nuclei_key, "points_key": sample.source.points_key},
    )
    table.obs["cell_id"] = ids
    table.obs_names = pd.Index([str(one) for one in ids])
    table.obsm["cell_type_probability"] = probability.set_axis(table.obs_names, axis=0).rename(columns=str)
    del table.uns["spatialdata_attrs"]
    if not linked:
        return table
    return TableModel.parse(table, region=sample.nuclei_key, region_key="region", instance_key="cell_id")


def _frequencies(types: pd.Series) -> str:
    return ", ".join(f"{name} {n}" for name, n in types.value_counts().items() if n)
