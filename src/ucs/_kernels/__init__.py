"""Numba kernels on arrays: sparse transcripts, labels, distances, counting, refinement."""
