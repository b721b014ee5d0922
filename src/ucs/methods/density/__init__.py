"""The density method: a net that predicts held-out transcripts, and expression clusters of the nuclei."""
