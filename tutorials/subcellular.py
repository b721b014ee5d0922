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
# # Inside cells: localisation and shape
#
# Which genes are found in the nucleus rather than in the cytoplasm? How round are the cells of a type? In this
# simulated tissue the answer is known.

# %%
import ucs

sdata = ucs.datasets.simulate(width_um=200, height_um=160, n_genes=100, nuclear_spread=1.0, seed=2)
ucs.tl.segment(sdata, progress=False)

# %% [markdown]
# ## Nuclear and cytoplasmic genes
#
# Each gene is compared with the other genes of the same cells, so that the sizes of nuclei do not matter. At most 5 %
# of the genes that are called should be false (`alpha`).

# %%
found = ucs.tl.localization(sdata)
found["localization"].value_counts()

# %%
ax = ucs.pl.localization(found)
# %% [markdown]
# Against the truth: how nuclear a gene was made (`nuclear_ratio`, relative to the median gene), by what was called.

# %%
ratio = sdata["true_table"].var["nuclear_ratio"]
relative = (ratio / ratio.median()).groupby(found["localization"], observed=True)
relative.describe()[["count", "min", "50%", "max"]].round(2)

# %% [markdown]
# Some genes with a preference are not called: this is a small tissue, and the test is made for few false calls.
# [Looking at cells](../looking.md#nuclear-and-cytoplasmic-genes) has the formula and the measured power.
#
# ## Shapes
#
# `ucs.tl.morphology` adds the shapes of cells and nuclei to `obs`; with types, a box for each. Eccentricity is 0 for a
# circle and near 1 for a needle; solidity is the share of its convex hull that a cell fills.

# %%
ucs.tl.morphology(sdata)
cells = sdata["ucs_table"]
truth = sdata["true_table"].obs.set_index("cell_id")
spindle = truth["is_spindle"].reindex(cells.obs["nucleus_id"]).to_numpy()
cells.obs["shape"] = ["spindle" if one else "round" for one in spindle]
ax = ucs.pl.morphology(sdata, by="shape")
# %%
shapes = ["eccentricity", "nucleus_eccentricity", "nucleus_area_ratio"]
cells.obs.groupby("shape", observed=True)[shapes].median().round(2)
