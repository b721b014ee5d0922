"""What users do with a table of cells."""

from __future__ import annotations

import warnings

from anndata import AnnData


def analyse(table: AnnData) -> None:
    """Normalise, reduce, cluster, and look at neighbourhoods, in place."""
    import scanpy as sc
    import squidpy as sq

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        sc.pp.normalize_total(table)
        sc.pp.log1p(table)
        sc.pp.pca(table, n_comps=10)
        sc.pp.neighbors(table, n_neighbors=8)
        sc.tl.leiden(table, flavor="igraph", n_iterations=2, resolution=1.0, random_state=0)
        sq.gr.spatial_neighbors_delaunay(table)
        if table.obs["leiden"].nunique() > 1:
            sq.gr.nhood_enrichment(table, cluster_key="leiden", n_perms=20, seed=0, show_progress_bar=False)
