"""Tiles on the workers of a Dask client: measured on this machine, estimated for larger ones."""
