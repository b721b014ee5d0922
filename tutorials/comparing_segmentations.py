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
# # Comparing segmentations
#
# Which cells are better, the vendor's or ours? This compares them on a small real sample (breast cancer, Xenium; it
# comes with the package). The same calls serve for cells of any program: see [Cells of other
# programs](../exports.md#cells-of-other-programs).

# %%
import ucs

sdata = ucs.datasets.xenium_breast()
ucs.tl.segment(sdata, progress=False)

# %% [markdown]
# ## Look first

# %%
segmentations = {"vendor": "cell_boundaries", "ucs": "ucs_boundaries"}
ax = ucs.pl.compare(sdata, segmentations, bounds=(1560, 2780, 1660, 2880))
# %% [markdown]
# The vendor's cells are nuclei that were expanded until they meet. They take in the stroma, where few nuclei lie.
#
# ## Measure
#
# `ucs.tl.compare` brings all cells onto one raster and counts the same transcripts in them. `expansions_um` adds the
# nuclei, grown by so many um: what every method has to beat.

# %%
table = ucs.tl.compare(sdata, segmentations, expansions_um=(0, 1, 2, 4, 8))
table[["n_cells", "area_um2", "transcripts_per_cell", "genes_per_cell", "capture", "spurious_coexpression"]].round(2)

# %% [markdown]
# - `capture`: share of the transcripts that lie in cells.
# - `spurious_coexpression`: how often genes that nuclei keep apart are found in one cell. Lower is purer.
#
# The vendor's cells capture more and are less pure. Neither figure means anything alone: any cells become purer by
# making them smaller. So one is drawn against the other.

# %%
ax = ucs.pl.purity_capture(table)
# %% [markdown]
# A segmentation is better than another if it lies above it at the same capture. Ours lies above the curve of the
# expansions; the vendor's cells lie near that curve. Our cells were made with these genes in view, which flatters
# them; `ucs.metrics.heldout_purity` measures on genes that were not used.
#
# `capture` is that of the outlines. The table that `segment` writes holds some more, because near borders a transcript
# is given to a cell by its gene, too:

# %%
counted = sdata["ucs_table"]
f"{table.loc['ucs', 'capture']:.0%} by outline, {counted.X.sum() / counted.uns['ucs']['qc']['n_kept']:.0%} in the table"
