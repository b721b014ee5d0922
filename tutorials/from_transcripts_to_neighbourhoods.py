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
# # From transcripts to neighbourhoods
#
# Transcripts and nuclei go in, cells come out, and the usual tools go on from there: scanpy for cell types, squidpy for
# neighbourhoods, spatialdata-plot for pictures. All of it runs on simulated tissue, with nothing to download.
#
# ## The data
#
# The simulated tissue is laid out as `spatialdata_io.xenium` lays out a Xenium run: points `transcripts` in um, nuclei
# as labels and as polygons. It also holds the true cells. With data of your own, begin with one of
#
# ```python
# sdata = spatialdata_io.xenium("path/to/xenium_output")
# sdata = spatialdata.read_zarr("path/to/store.zarr")
# ```

# %%
import ucs

sdata = ucs.datasets.simulate(width_um=200, height_um=200, seed=0)
sdata

# %% [markdown]
# ## Cells
#
# One call detects the transcripts and the nuclei, finds the cells, and writes four things back.

# %%
ucs.tl.segment(sdata)
sdata

# %% [markdown]
# Each nucleus has one cell. The polygons, the labels, the rows of the table and the column of the points share their
# ids.

# %%
adata = sdata.tables["ucs_table"]
adata.obs.describe()

# %%
assigned = (sdata.points["transcripts"]["ucs_cell_id"] > 0).mean().compute()
f"{adata.n_obs} cells hold {assigned:.0%} of the transcripts"

# %% [markdown]
# Look at the cells before relying on them. Each outline should enclose what looks like one cell, and not be a circle
# around the nucleus. If cells are too wide or too tight, another `threshold` changes their size:
# [Methods, and the size of cells](methods_and_size.ipynb).

# %%
import matplotlib.pyplot as plt
import spatialdata_plot  # noqa: F401 - adds sdata.pl

fig, ax = plt.subplots(figsize=(7, 7))
(
    sdata.pl.render_points("transcripts", size=1, color="lightsteelblue")
    .pl.render_shapes("nucleus_boundaries", fill_alpha=0.4, color="darkorange")
    .pl.render_shapes("ucs_boundaries", fill_alpha=0, outline_alpha=1, outline_width=1)
    .pl.show(ax=ax, coordinate_systems="global", title="cells over transcripts")
)

# %% [markdown]
# ## Cell types
#
# The table holds plain integer counts, as scanpy expects them.

# %%
import scanpy as sc

adata.layers["counts"] = adata.X.copy()
sc.pp.filter_genes(adata, min_cells=3)
sc.pp.normalize_total(adata)
sc.pp.log1p(adata)
sc.pp.pca(adata, n_comps=20)
sc.pp.neighbors(adata)
sc.tl.leiden(adata, flavor="igraph", n_iterations=2)
adata.obs["leiden"].value_counts()

# %% [markdown]
# ## Neighbourhoods
#
# `obsm["spatial"]` holds the centroids in um.

# %%
import squidpy as sq

sq.gr.spatial_neighbors_delaunay(adata)
sq.gr.nhood_enrichment(adata, cluster_key="leiden", seed=0, show_progress_bar=False)
sq.pl.nhood_enrichment(adata, cluster_key="leiden", figsize=(4, 4))

# %% [markdown]
# ## A picture of the clusters
#
# The table annotates the cells, so spatialdata-plot can colour them by any of its columns or genes.

# %%
sdata.tables["ucs_table"] = adata
fig, ax = plt.subplots(figsize=(7, 7))
sdata.pl.render_shapes("ucs_boundaries", color="leiden").pl.show(ax=ax, coordinate_systems="global", title="Leiden")

# %% [markdown]
# ## To disk and back

# %%
import spatialdata as sd

sdata.write("tissue.zarr", overwrite=True)
sd.read_zarr("tissue.zarr")
