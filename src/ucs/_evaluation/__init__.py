"""What the metrics share: segmentations on one raster, contingency tables, counts, references."""
