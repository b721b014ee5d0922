"""Cells whose nucleus is missing from the nuclei."""
