"""From a SpatialData object to one raster sample: platform, source and unit, transcripts, nuclei, regions."""
