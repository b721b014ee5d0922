"""Expression clusters of nuclei: counts in cores, profiles, and the evidence that they give."""
