"""Checks of arguments, elements, logging, memory, progress bars and threads, independent of segmentation."""
