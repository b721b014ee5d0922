"""A check of the engine on a GPU; the machine needs torch, numba, numpy and scipy, but no SpatialData."""
