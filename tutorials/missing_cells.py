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
# # Cells whose nucleus is missing
#
# A nucleus may lie out of the section, or be missed in the image. Its cell's transcripts are then unassigned, or taken
# by neighbours. `find_missing=True` looks for such cells. In this simulated tissue a fifth of the nuclei was taken
# away.

# %%
import pandas as pd

import ucs

sdata = ucs.datasets.simulate(width_um=200, height_um=160, missing_nuclei=0.2, seed=0)
ucs.tl.segment(sdata, progress=False)
ucs.tl.segment(sdata, find_missing=True, key_added="all", progress=False)

# %%
without, cells = sdata["ucs_table"], sdata["all_table"]
missing = cells.obs["is_missing_cell"]
f"{without.n_obs} cells with a nucleus, {missing.sum()} more are found"

# %% [markdown]
# Cells that were found are flagged and come last. Their nuclei, discs of the median size, are
# `labels["all_missing_nuclei"]`.

# %%
cells.obs["origin"] = missing.map({False: "nucleus given", True: "found"})
ax = ucs.pl.cells(sdata, shapes_key="all_boundaries", fill="origin")
# %% [markdown]
# ## Are they real?
#
# Here one can tell. F1 of all cells at an IoU of 0.5:

# %%
pd.Series(
    {
        "without": ucs.metrics.match("true_cells", "ucs_cells", sdata=sdata)["f1"].iloc[0],
        "with find_missing": ucs.metrics.match("true_cells", "all_cells", sdata=sdata)["f1"].iloc[0],
    }
).round(3)

# %% [markdown]
# On real tissue one cannot tell. Look at the picture over the stain, and compare what the found cells express with the
# others: a cell that is real has transcripts enough and a confidence like its neighbours.

# %%
cells.obs.groupby("origin", observed=True)[["area_um2", "n_transcripts", "confidence"]].median().round(2)

# %% [markdown]
# Where no nucleus is missing a few cells are invented, so this is off by default.
# [Concepts](../concepts.md#cells-without-a-nucleus) has the figures, also those of real tissue, where too many are
# found. `key_added={"prefix": "all", "min_transcripts": 20}` leaves poor ones out.
