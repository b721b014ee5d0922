"""Whether a segmentation would get as far as training, and how much memory and time it would take."""
