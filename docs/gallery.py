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
# # Gallery
#
# Every picture of `ucs.pl`, with its call. The tissue is the real sample that comes with the package (breast cancer,
# Xenium; 10x Genomics, CC BY 4.0), but for the last two. Each function returns the axes, so titles, limits and
# `ax.figure.savefig("cells.pdf")` are matplotlib's.

# %%
import ucs

sdata = ucs.datasets.xenium_breast()
ucs.tl.segment(sdata, key_added={"foreground": "ucs_foreground"}, progress=False)
part = (1560, 2780, 1660, 2880)  # x0, y0, x1, y1 in the units of the points, here um

# %% [markdown]
# ## Cells over the density of the transcripts
#
# Outlines, nuclei and stain; dark is dense.

# %%
ax = ucs.pl.cells(sdata, bounds=part)

# %% [markdown]
# ## Cells and chosen genes

# %%
ax = ucs.pl.cells(sdata, color=["LUM", "POSTN", "FASN"], bounds=part)

# %% [markdown]
# ## Cells on H&E

# %%
ax = ucs.pl.cells(sdata, image_key="he_image", show=("image", "scale_bar"), bounds=part)

# %% [markdown]
# ## Cells filled by a gene, or by a column of `obs`

# %%
ax = ucs.pl.cells(sdata, fill="LUM", show=("scale_bar",))

# %%
ax = ucs.pl.cells(sdata, fill="area_um2", fill_range=(0, 150), show=("scale_bar",))

# %% [markdown]
# ## Several segmentations side by side

# %%
segmentations = {"vendor": "cell_boundaries", "ucs": "ucs_boundaries"}
ax = ucs.pl.compare(sdata, segmentations, bounds=part)

# %% [markdown]
# ## Purity against capture

# %%
table = ucs.tl.compare(sdata, segmentations, expansions_um=(0, 1, 2, 4, 8))
ax = ucs.pl.purity_capture(table)

# %% [markdown]
# ## How sure is it?

# %%
ax = ucs.pl.confidence(sdata)

# %% [markdown]
# ## Probability of lying in a cell

# %%
ax = ucs.pl.foreground(sdata)

# %% [markdown]
# ## Shapes
#
# All cells, or a box for each category of `obs`.

# %%
ucs.tl.morphology(sdata)
ax = ucs.pl.morphology(sdata)

# %% [markdown]
# ## Nuclear and cytoplasmic genes
#
# Simulated tissue, in which more genes have a preference.

# %%
tissue = ucs.datasets.simulate(width_um=200, height_um=160, n_genes=100, nuclear_spread=1.0, seed=2)
ucs.tl.segment(tissue, progress=False)
ax = ucs.pl.localization(ucs.tl.localization(tissue))

# %% [markdown]
# ## Cell types

# %%
types = ucs.metrics.transfer_types(tissue["ucs_table"], tissue["true_table"], type_key="cell_type")
tissue["ucs_table"].obs["cell_type"] = types["type"].to_numpy()
ax = ucs.pl.cells(tissue, fill="cell_type", show=("nuclei", "scale_bar"))
