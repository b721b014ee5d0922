"""Detection of nuclei in images of a nuclear stain, tile by tile."""
