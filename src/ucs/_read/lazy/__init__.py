"""The transcript map as a lazy Dask array: extents from metadata, counts when they are computed."""
