"""How well nuclei are found in images of them."""
