"""The steps of a run in their order: prepare, train, predict tile by tile, resume, check."""
