"""A report on a segmentation: what was found and decided, how good it looks, and what to do about what does not."""
