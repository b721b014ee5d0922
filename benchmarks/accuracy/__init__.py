"""Cells against known truth: ours, every nuclear expansion, and the paper's own setting."""
