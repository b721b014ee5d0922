"""Options of reading, computing and naming results: passed as instances or as mappings of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ucs._utils.checks import check_at_least, check_name, check_positive, checked_planes
from ucs._utils.options import Options, documented, option

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ComputeOptions", "OutputKeys", "ReadOptions"]


def _check_genes(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, str | Integral | Sequence):
        msg = f"{name}={value!r} must be 'all', 'hvg', a number, a list of names or a regular expression."
        raise TypeError(msg)
    if isinstance(value, Integral):
        check_at_least(int(value), 1, name)


def _check_planes(value: Any, name: str) -> None:
    checked_planes(value)


def _check_stains(value: Any, name: str) -> None:
    if value is None:
        return
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        msg = f"{name}={value!r} must be a list of keys of images, such as ['morphology_focus/boundary'], or None."
        raise TypeError(msg)
    if len(value) == 0:
        msg = f"{name} is an empty list; leave it out to use no stains."
        raise ValueError(msg)


def _check_optional_positive(value: Any, name: str) -> None:
    if value is not None:
        check_positive(value, name)


def _check_optional_name(value: Any, name: str) -> None:
    if value is not None:
        check_name(value, name)


def _check_path(value: Any, name: str) -> None:
    if value is not None and not isinstance(value, str | Path):
        msg = f"{name}={value!r} must be the path of a folder, or None."
        raise TypeError(msg)


def _check_limit(value: Any, name: str) -> None:
    from ucs._utils.memory import parse_limit

    parse_limit(value)


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class ReadOptions(Options):
    """How a sample is read from its elements."""

    argument: ClassVar[str] = "read"

    coordinate_system: str | None = option(
        None, "Coordinate system in which points and nuclei meet; 'global' or another that both share if None."
    )
    um_per_unit: float | None = option(
        None, "Length of the points' intrinsic unit in um; the platform's if None.", check=_check_optional_positive
    )
    gene_key: str | None = option(None, "Column with the gene of each transcript; detected automatically if None.")
    genes: str | int | Sequence[str] = option(
        "all",
        "Genes that the nets see: 'all'; 'hvg' for the 1000 most highly variable ones, or their number (by scanpy on "
        "counts in bins of 10 um); a list of names; or a regular expression. The table has all genes in any case.",
        check=_check_genes,
    )
    genes_per_region: bool = option(
        default=False,
        text="Whether the genes are chosen in each region: highly variable ones differ between regions (paper).",
    )
    z_planes: Sequence[float] | float | None = option(
        None,
        "Planes in z whose transcripts are used, as numbered in the data (MERSCOPE: 'z', the vendor's 'global_z'; "
        "CosMx: 'z_raw'); all if None. The other transcripts belong to no cell.",
        check=_check_planes,
    )
    outlier_um: float | None = option(
        None,
        "Leave out transcripts far from all others: they are counted in squares of this side in um, and squares that "
        "touch form a group. What lies beyond the rectangle around all groups that hold at least 0.1 % of the "
        "transcripts belongs to no cell. If None, all are used, and far ones are warned of.",
        check=_check_optional_positive,
    )
    stain_keys: Sequence[str] | None = option(
        None,
        "Images of stains that tell where cells end, such as of membranes, boundaries or the inside of cells "
        "(method 'pretrained'): their keys, or 'image/channel' for one of their channels; '{fov}' in place of the name "
        "of a field of view. How much each tells is learned from the sample; one that tells nothing is left out with a "
        "warning. Takes 2 bytes of memory per pixel and channel.",
        check=_check_stains,
    )
    fuse_nuclei: bool = option(
        default=False,
        text="Whether nuclei that the vendor gives to one cell (column 'cell_id' of the nuclei's shapes, as in Xenium "
        "runs from version 2 on) make one nucleus, in parts, with the cell's id; otherwise each makes its own cell.",
    )
    check_alignment: bool = option(
        default=True,
        text="Whether to check that the nuclei lie where the transcripts are, and that the median nucleus has 5 to 500 "
        "um2; if not, a wrong size is only warned of.",
    )


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class ComputeOptions(Options):
    """Where and with how much memory to compute; the result does not depend on it (on the CPU, bit by bit)."""

    argument: ClassVar[str] = "compute"

    device: str = option("auto", "Where the nets run: 'auto' (CUDA, MPS or CPU), or a torch device such as 'cuda:1'.")
    tile_size: int = option(
        1024,
        "Side in pixels of what is worked on at a time, of the chunks of the labels (for more than 8 Mpx, and on disk, "
        "rounded up to a multiple of 96) and, on a GPU, of what goes through the nets at once.",
        least=1,
    )
    memory_limit: str | float | None = option(
        "auto",
        "What the process may hold: 'auto' (most of what is free now), bytes, or a size such as '6 GiB'; None for no "
        "limit. What does not fit is held in the scratch folder; tiles are made smaller if that is needed.",
        check=_check_limit,
    )
    scratch: str | Path | None = option(
        None,
        "Folder for temporary files: what does not fit into memory, tiles that workers share, and what 'resume' needs. "
        "With 'resume' the folder of the object's store if None, otherwise the system's. All is removed at the end.",
        check=_check_path,
    )
    resume: bool = option(
        default=False,
        text="Whether a run that is killed may be continued by calling again with the same arguments: the trained "
        "model and finished tiles are then kept in the scratch folder until the run is complete. If data, parameters "
        "or versions differ from those of the killed run it begins afresh, and says so.",
    )


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class OutputKeys(Options):
    """What results are called, and which are wanted; a string names all after one prefix."""

    argument: ClassVar[str] = "key_added"

    labels: str = option("ucs_cells", "Labels of the cells.", flag="labels-key", check=check_name)
    shapes: str = option("ucs_boundaries", "Shapes with their outlines.", flag="shapes-key", check=check_name)
    table: str = option("ucs_table", "Table of counts.", flag="table-key", check=check_name)
    points_column: str = option(
        "ucs_cell_id", "Column of the points with the cell of each transcript.", check=check_name
    )
    confidence_column: str | None = option(
        None,
        "A further column of the points, float32: the probability that a transcript comes from the cell it is counted "
        "in, 0 outside cells, calibrated on simulated tissue; none if None.",
        check=_check_optional_name,
    )
    foreground: str | None = option(
        None,
        "Image (one channel, float32) of the probability that a pixel lies in a cell (paper: p_fg); none if None.",
        flag="foreground-key",
        check=_check_optional_name,
    )
    missing_nuclei: str = option(
        "ucs_missing_nuclei",
        "Labels of the nuclei that 'find_missing' finds.",
        flag="missing-nuclei-key",
        check=check_name,
    )
    outlines: str = option(
        "smooth",
        "'smooth': moved off the edges of the pixels by less than half a pixel, the same for both cells at a border, "
        "without overlaps or gaps; 'pixels': along these edges, so that polygons hold just what the labels hold.",
        choices=("pixels", "smooth"),
    )
    min_transcripts: int = option(0, "Cells with fewer transcripts (of genes) are left out.", least=0)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that points get."""
        return [name for name in (self.points_column, self.confidence_column) if name is not None]

    @classmethod
    def of_prefix(cls, prefix: str) -> Self:
        """Return the keys that begin with a prefix: ``"ucs"`` gives ``ucs_cells``, ``ucs_boundaries`` and so on."""
        names = {"labels": "cells", "shapes": "boundaries", "table": "table", "points_column": "cell_id"}
        check_name(prefix, "key_added")
        named: dict[str, Any] = {name: f"{prefix}_{word}" for name, word in names.items()}
        return cls(**named, missing_nuclei=f"{prefix}_missing_nuclei")

    @classmethod
    def resolve(cls, value: Self | str | Mapping[str, Any] | None, **defaults: Any) -> Self:
        """Return keys from an instance, a prefix, or a mapping of some fields beside a ``"prefix"``.

        Raises
        ------
        TypeError, ValueError
            If it is none of these, or a field is unknown.
        """
        if isinstance(value, str):
            return cls.of_prefix(value)
        if isinstance(value, cls) or value is None or not hasattr(value, "keys"):
            return super().resolve(value, **defaults)
        given: dict[str, Any] = dict(value)  # type: ignore[arg-type]
        return super().resolve(given, **cls.of_prefix(given.pop("prefix", "ucs")).as_dict())
