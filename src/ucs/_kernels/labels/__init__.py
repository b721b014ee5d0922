"""Kernels on label rasters: ids, filling, measuring, outlines, refinement, sampling, joining."""
