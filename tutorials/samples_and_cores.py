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
# # Several samples, tissue microarrays, regions
#
# ## Cores of different depth on one slide
#
# Where one core has far fewer transcripts than its neighbour, a single level for the whole slide fails one of them.
# The default method takes levels from the neighbourhood of each nucleus, so there is nothing to set. In this simulated
# tissue the right half has three tenths of the depth of the left one.

# %%
import anndata as ad
import geopandas as gpd
import pandas as pd
import shapely
import spatialdata as sd
from spatialdata.models import ShapesModel
from spatialdata.transformations import get_transformation

import ucs

slide = ucs.datasets.simulate(layout="depth_0.3", width_um=200, height_um=120, seed=0)
ucs.tl.segment(slide, progress=False)
ax = ucs.pl.cells(slide, fill="n_transcripts")
# %%
truth = slide["true_table"].obs.set_index("cell_id")["cell_class"]
pairs = ucs.metrics.matched_pairs("true_cells", "ucs_cells", sdata=slide, threshold=0.5)
found = truth.index.isin(pairs["true_id"])
share = pd.Series(found, index=truth, name="share of the true cells that are found")
share.groupby(level=0, observed=True).mean().round(2)

# %% [markdown]
# ## Which core is a cell of?
#
# Draw the cores as polygons (in napari, say), and join. `obsm["spatial"]` is in the units of the transcripts.

# %%
outlines = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 104, 120), shapely.box(104, 0, 200, 120)], index=["A1", "A2"])
placed = get_transformation(slide["transcripts"], get_all=True)
slide["cores"] = ShapesModel.parse(outlines, transformations=placed)

cells = slide["ucs_table"]
centres = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*cells.obsm["spatial"].T), index=cells.obs_names)
cells.obs["core"] = gpd.sjoin(centres, slide["cores"], predicate="within")["index_right"].reindex(cells.obs_names)
cells.obs.groupby("core", observed=True)[["area_um2", "n_transcripts", "confidence"]].median().round(2)

# %% [markdown]
# One core as an object of its own, transcripts, cells and all:

# %%
in_global = sd.transform(slide["cores"], to_coordinate_system="global")
sd.polygon_query(slide, in_global.geometry["A1"], target_coordinate_system="global")

# %% [markdown]
# ## Several samples of one panel
#
# One model learns the expression clusters of all, so that they mean the same everywhere. Then each sample is
# predicted, and the tables are put together.

# %%
samples = {
    name: ucs.datasets.simulate(width_um=120, height_um=120, seed=seed) for name, seed in {"p1": 4, "p2": 5}.items()
}
model = ucs.tl.train(list(samples.values()), progress=False)
for sample in samples.values():
    ucs.tl.predict(sample, model, progress=False)
ad.concat({name: one["ucs_table"] for name, one in samples.items()}, label="sample", index_unique="-")

# %% [markdown]
# `model.save("panel")` keeps the model; `ucs.methods.UCSModel.load("panel")` brings it back.
#
# ## A model for each region
#
# Methods that learn from the sample can have a model for each region: `ucs.tl.segment(slide, method="density",
# regions="cores")`. The default method refuses `regions=`, as it has nothing to learn there.
