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
# # Large slides, memory and Dask
#
# A whole slide needs no other call than a crop: the raster is worked on in tiles, and what does not fit into memory
# lies on disk. The result is the same, bit by bit, whatever the tiles (on a CPU). This page shows it on a small
# tissue.

# %%
import numpy as np
import spatialdata as sd

import ucs

sdata = ucs.datasets.simulate(width_um=150, height_um=120, seed=0)
sdata.write("slide.zarr", overwrite=True)
sdata = sd.read_zarr("slide.zarr")  # from a store, transcripts are read part by part

# %% [markdown]
# ## What will it take?
#
# `check` reads the sample, but predicts nothing. Memory and time are estimates for this machine.

# %%
found = ucs.pp.check(sdata)
{name: found["estimate"][name] for name in ("memory_gib", "memory_there_gib", "seconds")}

# %% [markdown]
# ## A limit of memory
#
# By default most of what is free may be used. With `memory_limit` what does not fit is moved to the folder `scratch`,
# and tiles are made smaller if need be. `write=True` adds the cells to the store.

# %%
compute = {"memory_limit": "4 GiB", "scratch": "scratch"}
ucs.tl.segment(sdata, compute=compute, key_added="limited", write=True, progress=False)

# %% [markdown]
# ## Several workers
#
# If a Dask client is active, its workers share the tiles. On a machine with several GPUs start one worker for each
# (`dask_cuda.LocalCUDACluster()`). Workers must reach `scratch` by the same path.

# %%
from distributed import Client, LocalCluster

with (
    LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
    Client(cluster),
):
    ucs.tl.segment(sdata, compute={"tile_size": 96}, key_added="shared", progress=False)

# %%
same = np.array_equal(sdata["limited_cells"].data.compute(), sdata["shared_cells"].data.compute())
f"the same labels: {same}"

# %% [markdown]
# ## Runs that may be killed
#
# `compute={"resume": True}` keeps finished tiles until the run is complete; the same call continues after a crash. On
# the command line: `ucs segment slide.zarr --memory-limit 6GiB --resume`.
#
# Measured sizes and times are in `benchmarks/scale/RESULTS.md`.
