"""From an image of a nuclear stain to labels of nuclei; arrays only."""
