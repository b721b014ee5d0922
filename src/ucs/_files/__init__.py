"""Files that survive a crash: stores locked and swapped as a whole, workspaces, scratch arrays."""
