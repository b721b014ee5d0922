# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # References, cell types and label transfer
#
# With a single-cell reference, cells get types, and the reference says how well their expression fits. Simulated
# tissue stands in for both here: what cells truly express is known, and half of the true cells serve as "single
# cells".

# %%
import anndata as ad
import numpy as np
import scanpy as sc
from sklearn.neighbors import KNeighborsClassifier

import ucs

sdata = ucs.datasets.simulate(width_um=200, height_um=160, n_cell_types=5, seed=1)
truth = sdata["true_table"]
reference = truth[np.arange(truth.n_obs) % 2 == 0].copy()  # AnnData of counts, types in obs["cell_type"]
ucs.tl.segment(sdata, progress=False)
cells = sdata["ucs_table"]

# %% [markdown]
# ## Types by likelihood
#
# `transfer_types` gives each cell the type whose mean profile makes its counts most likely. It needs no normalisation
# and no neighbours.

# %%
types = ucs.metrics.transfer_types(cells, reference, type_key="cell_type")
cells.obs["cell_type"] = types["type"].to_numpy()
true_type = truth.obs.set_index("cell_id")["cell_type"].reindex(cells.obs["nucleus_id"]).to_numpy()
known = ~np.isin(cells.obs["nucleus_id"], reference.obs["cell_id"])  # cells that the reference has not seen
f"by likelihood: {(cells.obs['cell_type'].to_numpy() == true_type)[known].mean():.0%} of {known.sum()} cells are right"

# %%
ax = ucs.pl.cells(sdata, fill="cell_type")
# %% [markdown]
# ## Types by neighbours in a joint space
#
# The usual way in scanpy: both are normalised, put together and reduced to principal components; each cell takes the
# type that most of its nearest reference cells have. The joint UMAP shows whether the two lie together.

# %%
shared = reference.var_names.intersection(cells.var_names)
joint = ad.concat({"reference": reference[:, shared], "cells": cells[:, shared]}, label="origin", index_unique="-")
sc.pp.normalize_total(joint, target_sum=100)
sc.pp.log1p(joint)
sc.pp.pca(joint, n_comps=15)
is_reference = joint.obs["origin"] == "reference"
neighbours = KNeighborsClassifier(n_neighbors=10).fit(joint.obsm["X_pca"][is_reference], reference.obs["cell_type"])
by_neighbours = neighbours.predict(joint.obsm["X_pca"][~is_reference])
f"by neighbours: {(by_neighbours == true_type)[known].mean():.0%} are right"

# %%
sc.pp.neighbors(joint, n_neighbors=10)
sc.tl.umap(joint, random_state=0)
sc.pl.umap(joint, color=["cell_type", "origin"], size=30, wspace=0.3)

# %% [markdown]
# ## How well does expression fit?
#
# Pearson's correlation of each type's mean expression with that of the reference (the paper's measure). Spill from
# neighbours lowers it, so it compares segmentations, at equal capture.

# %%
ucs.metrics.reference_correlation(cells, reference, "cell_type", type_key="cell_type").per_type

# %% [markdown]
# Types of nuclei, before any cell is drawn, come from `ucs.tl.annotate_nuclei`, by a reference or by markers. For scVI
# and scANVI see [the recipe](../exports.md#scvi-scanvi).
