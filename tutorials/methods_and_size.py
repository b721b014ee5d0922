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
# # Methods, and the size of cells
#
# Two choices change the cells most: `threshold`, which makes them wide or tight, and `method`. The first is tried on
# the real sample that comes with the package, the second on simulated tissue, whose true cells are known.

# %%
import pandas as pd

import ucs

sdata = ucs.datasets.xenium_breast()

# %% [markdown]
# ## One dial for the size
#
# The model of the default method needs no training to speak of (it groups the nuclei of this sample by expression). It
# serves for all thresholds.

# %%
model = ucs.tl.train(sdata, progress=False)
thresholds = {0.1: "wide", 0.3: "wider", 0.5: "default", 0.7: "tighter", 0.9: "tight"}
for threshold, name in thresholds.items():
    ucs.tl.predict(sdata, model, threshold=threshold, key_added=name, progress=False)

# %%
shown = {f"threshold {threshold}": f"{thresholds[threshold]}_boundaries" for threshold in (0.1, 0.5, 0.9)}
ax = ucs.pl.compare(sdata, shown, bounds=(1560, 2780, 1660, 2880))

# %% [markdown]
# Each step captures fewer transcripts, and what remains is purer. `curve` and `threshold` tell the picture which rows
# belong together.

# %%
cells = {f"threshold {threshold:g}": f"{name}_cells" for threshold, name in thresholds.items()}
table = ucs.tl.compare(sdata, cells, expansions_um=(0, 1, 2, 4, 8))
table.loc[list(cells), "threshold"] = list(thresholds)
table.loc[list(cells), "curve"] = "ucs"
ax = ucs.pl.purity_capture(table)

# %% [markdown]
# Where to stop depends on the question. Rare transcripts, few genes: lower the threshold. Cell types that must not
# mix, ligands and receptors of neighbours: raise it.
#
# ## Methods
#
# `"density"` learns from the sample alone; take it where a warning says that the tissue is like none that the default
# was trained on. `"paper"` reproduces the paper; its result depends on `params={"background": ...}`. (Fewer steps than
# the default of 300, so that this page is made quickly.)

# %%
tissue = ucs.datasets.simulate(width_um=120, height_um=120, seed=3)
ucs.tl.segment(tissue, key_added="pretrained", progress=False)
ucs.tl.segment(tissue, method="density", params={"max_steps": 100}, key_added="density", progress=False)

# %%
found = {
    name: ucs.metrics.match("true_cells", f"{name}_cells", sdata=tissue)["f1"] for name in ("pretrained", "density")
}
pd.DataFrame(found).round(3)  # F1 of the cells

# %% [markdown]
# One small tissue says little. [Comparison](../comparison.md) has figures of many, real ones among them.
