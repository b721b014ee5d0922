"""Time and memory of the main job, by stage."""
