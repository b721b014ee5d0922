"""Checks of arguments, logging, memory, progress bars and threads: nothing that knows of cells."""
