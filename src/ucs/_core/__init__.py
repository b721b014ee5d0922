"""Array kernels of the engine: arrays in, arrays out, nothing of files, platforms or SpatialData."""
