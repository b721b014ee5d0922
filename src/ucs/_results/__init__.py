"""From labels to what is written back: labels, outlines, table, column of the points."""
