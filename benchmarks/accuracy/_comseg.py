"""Run ComSeg on one folder; called by :mod:`benchmarks.accuracy.peers` with ComSeg's own Python, never imported.

The folder holds ``spots/tissue.csv`` (x, y in um from the corner, z = 0, gene) and ``masks/tissue.npy`` (ids of nuclei,
1 um per pixel); ``cells.npy`` with the cell of each row of the former is added. Nothing is imported but ComSeg and what
it needs.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from comseg import dataset, dictionary


def main(folder: Path, diameter_um: float, radius_um: float, seed: int) -> None:
    """Associate transcripts with nuclei by ComSeg's own steps and defaults."""
    np.random.seed(seed)  # noqa: NPY002 - what ComSeg draws from
    spots = folder / "spots" / "tissue.csv"
    n = len(pd.read_csv(spots))
    data = dataset.ComSegDataset(
        path_dataset_folder=str(folder / "spots"),
        path_to_mask_prior=str(folder / "masks"),
        mask_file_extension=".npy",
        dict_scale={"x": 1, "y": 1, "z": 1},
        mean_cell_diameter=diameter_um,
        gene_column="gene",
        prior_name="in_nucleus",
        disable_tqdm=True,
    )
    data.add_prior_from_mask(overwrite=True, compute_centroid=True)
    data.compute_edge_weight()
    cells = dictionary.ComSegDict(dataset=data, mean_cell_diameter=diameter_um, seed=seed, disable_tqdm=True)
    cells.run_all(max_cell_radius=radius_um, disable_tqdm=True)
    graph = cells["tissue"].G
    found = np.zeros(n, dtype=np.int64)
    for node, properties in graph.nodes(data=True):
        if properties.get("gene") != "centroid" and 0 <= int(node) < n:
            found[int(node)] = int(properties.get("cell_index_pred", 0))
    np.save(folder / "cells.npy", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
