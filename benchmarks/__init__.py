"""Scripts behind the figures; see README.md."""
