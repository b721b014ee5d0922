"""A Xenium run as the instrument writes it, so that ``spatialdata_io.xenium`` reads it with no option but the path."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import shapely
import tifffile
import zarr
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array
from skimage.draw import polygon

PIXEL_SIZE = 0.2125
PRIME_4_CHANNELS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")


def write_xenium_bundle(
    path: Path,
    transcripts: pd.DataFrame,
    nuclei: pd.DataFrame,
    cells: pd.DataFrame,
    *,
    version: str,
    proteins: tuple[str, ...] = (),
) -> Path:
    """Write the files that the reader asks for.

    Parameters
    ----------
    path
        The new folder.
    transcripts
        With the vendor's columns.
    nuclei, cells
        Vertices (``cell_id``, ``vertex_x``, ``vertex_y``; from version 2 on ``label_id``). Of a cell that is in
        neither table the transcripts lose their cell.
    version
        Of the vendor's software: cells.zarr.zip and the image differ between 1.3, 2 and 4.
    proteins
        Names of proteins: features of the matrix of a Protein run, and channels of its image.
    """
    path.mkdir()
    major = int(version.split(".")[0])
    names = pd.unique(cells["cell_id"])
    (path / "experiment.xenium").write_text(
        json.dumps({"pixel_size": PIXEL_SIZE, "analysis_sw_version": f"xenium-{version}"})
    )
    transcripts.to_parquet(path / "transcripts.parquet")
    nuclei, cells = (_labelled(vertices, names, major=major) for vertices in (nuclei, cells))
    for name, vertices in (("nucleus", nuclei), ("cell", cells)):
        columns = ["cell_id", "vertex_x", "vertex_y", *(["label_id"] if major > 1 else [])]
        vertices[columns].to_parquet(path / f"{name}_boundaries.parquet")
    nucleus_mask, cell_mask = (_masks(vertices, (nuclei, cells)) for vertices in (nuclei, cells))
    _write_cells_zarr(path, names, nuclei, nucleus_mask, cell_mask, major=major)
    _write_matrix(path, names, transcripts, proteins)
    _write_cells(path, names, cells)
    _write_image(path, nucleus_mask, major=major, proteins=proteins)
    return path


def _labelled(vertices: pd.DataFrame, names: NDArray, *, major: int) -> pd.DataFrame:
    """Give every polygon its number from 1 on, in the order of the file; up to version 1 that of its cell."""
    vertices = vertices[vertices["cell_id"].isin(names)]
    if major == 1:
        return vertices.assign(label_id=pd.Index(names).get_indexer(vertices["cell_id"]) + 1)
    by = "label_id" if "label_id" in vertices else "cell_id"
    return vertices.assign(label_id=pd.factorize(vertices[by])[0] + 1)


def _masks(vertices: pd.DataFrame, all_vertices: tuple[pd.DataFrame, ...]) -> NDArray[np.uint32]:
    """Fill polygons at the pixel size of the image, from the origin of the slide on."""
    size = [int(max(v[axis].max() for v in all_vertices) / PIXEL_SIZE) + 2 for axis in ("vertex_y", "vertex_x")]
    mask = np.zeros(size, dtype=np.uint32)
    for label, ring in vertices.groupby("label_id"):
        row, column = polygon(ring["vertex_y"] / PIXEL_SIZE - 0.5, ring["vertex_x"] / PIXEL_SIZE - 0.5, mask.shape)
        mask[row, column] = label
    return mask


def _write_cells_zarr(
    path: Path,
    names: NDArray,
    nuclei: pd.DataFrame,
    nucleus_mask: NDArray[np.uint32],
    cell_mask: NDArray[np.uint32],
    *,
    major: int,
) -> None:
    prefix = [int("".join(f"{ord(c) - ord('a'):x}" for c in name.split("-")[0]), 16) for name in names]
    suffix = [int(name.split("-")[1]) for name in names]
    columns = ["cell_centroid_x", "cell_centroid_y", "cell_area", "nucleus_centroid_x", "nucleus_centroid_y"]
    columns += ["nucleus_area", "z_level", *(["nucleus_count"] if major > 1 else [])]
    with zarr.storage.ZipStore(path / "cells.zarr.zip", mode="w") as store:
        root = zarr.open_group(store, mode="w", zarr_format=2)
        root["cell_id"] = np.stack([prefix, suffix], axis=1).astype(np.uint32)
        shape = (len(names), len(columns))
        root.create_array("cell_summary", shape=shape, dtype="float64", attributes={"column_names": columns})
        for number, mask in enumerate((nucleus_mask, cell_mask)):
            array = root.create_array(f"masks/{number}", shape=mask.shape, dtype="uint32", chunks=(1024, 1024))
            array[:] = mask
        if major == 1:
            root["seg_mask_value"] = np.arange(1, len(names) + 1, dtype=np.uint32)
        else:
            of_nuclei = nuclei.groupby("label_id")["cell_id"].first()
            root["polygon_sets/0/cell_index"] = pd.Index(names).get_indexer(of_nuclei).astype(np.uint32)
            root["polygon_sets/1/cell_index"] = np.arange(len(names), dtype=np.uint32)


def _write_matrix(path: Path, names: NDArray, transcripts: pd.DataFrame, proteins: tuple[str, ...]) -> None:
    """Count as the vendor does, and add scaled intensities of proteins."""
    feature = transcripts["feature_name"].astype("category").cat
    row = pd.Index(names).get_indexer(transcripts["cell_id"])
    counted = (row >= 0) & (transcripts["qv"].to_numpy() >= 20)
    entries = (np.ones(counted.sum(), dtype=np.int32), (feature.codes.to_numpy()[counted], row[counted]))
    counts = coo_array(entries, shape=(len(feature.categories) + len(proteins), len(names))).todense()
    counts[len(feature.categories) :] = 1234
    matrix = csc_array(counts)
    features = [*feature.categories, *proteins]
    is_control = pd.Series(feature.categories).str.contains("NegControl|Codeword|BLANK|Intergenic")
    types = np.where(is_control, "Negative Control Probe", "Gene Expression").tolist()
    types += ["Protein Expression"] * len(proteins)
    with h5py.File(path / "cell_feature_matrix.h5", "w") as file:
        if proteins:
            file.attrs["protein_scaling_factor"] = 10.0
        group = file.create_group("matrix")
        group["barcodes"] = np.asarray(names, dtype="S")
        group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        group["shape"] = np.asarray(matrix.shape, dtype=np.int32)
        of_features = group.create_group("features")
        of_features["id"] = of_features["name"] = np.asarray(features, dtype="S")
        of_features["feature_type"] = np.asarray(types, dtype="S")
        of_features["genome"] = np.asarray(["Unknown"] * len(features), dtype="S")


def _write_cells(path: Path, names: NDArray, cells: pd.DataFrame) -> None:
    first = cells.groupby("cell_id")[["vertex_x", "vertex_y"]].mean().loc[names]
    rings = cells.groupby("cell_id")[["vertex_x", "vertex_y"]].apply(lambda ring: shapely.Polygon(ring.to_numpy()).area)
    pd.DataFrame(
        {
            "cell_id": names,
            "x_centroid": first["vertex_x"].to_numpy(),
            "y_centroid": first["vertex_y"].to_numpy(),
            "cell_area": rings.loc[names].to_numpy(),
            "nucleus_area": rings.loc[names].to_numpy(),
        }
    ).to_parquet(path / "cells.parquet")


def _write_image(path: Path, nucleus_mask: NDArray[np.uint32], *, major: int, proteins: tuple[str, ...]) -> None:
    """Write bright nuclei on dark ground; other channels are black."""
    plane = np.where(nucleus_mask > 0, 3000, 100).astype(np.uint16)
    if major == 1:
        for name in ("focus", "mip"):
            tifffile.imwrite(path / f"morphology_{name}.ome.tif", plane, metadata={"axes": "YX"}, compression="zlib")
        return
    folder = path / "morphology_focus"
    folder.mkdir()
    channels = [*PRIME_4_CHANNELS, *proteins] if proteins else ["DAPI"]
    name = "ch0000_dapi.ome.tif" if major > 3 else "morphology_focus_0000.ome.tif"
    planes = np.zeros((len(channels), *plane.shape), dtype=np.uint16)
    planes[0] = plane
    metadata = {"axes": "CYX", "Channel": {"Name": channels}}
    tifffile.imwrite(folder / name, planes, metadata=metadata, compression="zlib", photometric="minisblack")
    said = tifffile.tiffcomment(folder / name)
    tifffile.tiffcomment(folder / name, said.replace("Channel:0:", "Channel:").encode())  # as the vendor numbers them
