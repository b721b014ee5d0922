"""Nuclei of a sample on its grid: from labels, shapes, images of a nuclear stain, or marked transcripts."""
