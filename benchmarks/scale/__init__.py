"""Whole slides: full-size workloads, and what a run on them takes."""
