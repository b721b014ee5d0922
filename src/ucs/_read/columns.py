"""Columns of a points element, checks and filters of its rows, and the numbers of its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._utils.checks import checked_planes, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dask.dataframe import DataFrame as DaskDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform

LARGEST_COUNT = 2**31 - 1  # counts are held as int32

MISSING_AS_TEXT = ("nan", "None", "<NA>")
"""Missing names after ``PointsModel.parse`` has made categories of a column of text."""


@dataclass(frozen=True)
class TranscriptColumns:
    """Columns to read from a points element, and the filters of its rows.

    Attributes
    ----------
    gene
        Column with the feature of a row.
    count
        Column with the number of molecules of a row; None if each row is one molecule.
    quality, minimum_quality
        Rows with a lower value in this column are dropped.
    plane, planes
        Rows with another value in this column are dropped.
    is_gene, category, gene_category
        Columns that mark the feature of a row as a gene: a boolean, or a category that matches this pattern.
    """

    gene: str
    count: str | None = None
    quality: str | None = None
    minimum_quality: float = 0.0
    plane: str | None = None
    planes: tuple[float, ...] = ()
    is_gene: str | None = None
    category: str | None = None
    gene_category: str = ".*"

    @classmethod
    def of(
        cls,
        points: DaskDataFrame,
        gene: str,
        platform: Platform,
        *,
        z_planes: Sequence[float] | float | None = None,
        name: str = "",
    ) -> TranscriptColumns:
        """Choose those of a platform's columns that exist.

        Raises
        ------
        KeyError
            If planes are chosen, but there is no column with the plane of a transcript.
        ValueError
            If the planes are not numbers.
        """
        there = list(points.columns)
        planes = checked_planes(z_planes)
        plane = _first(platform.plane_columns, there) if planes else None
        if planes and plane is None:
            wanted = f"looked for {listed(platform.plane_columns)}" if platform.plane_columns else "it has no planes"
            msg = (
                f"z_planes={z_planes!r}: no column of points[{name!r}] says in which plane a transcript lies "
                f"({platform.name}: {wanted}); its columns are {listed(there)}."
            )
            raise KeyError(msg)
        return cls(
            gene,
            _first(platform.count_columns, there),
            _first((platform.quality_column,), there),
            platform.minimum_quality,
            plane,
            planes,
            _first((platform.is_gene_column,), there),
            _first((platform.category_column,), there),
            platform.gene_category,
        )

    def names(self) -> list[str]:
        """All columns to read."""
        optional = (self.count, self.quality, self.plane, self.is_gene, self.category)
        return list(dict.fromkeys(["x", "y", self.gene, *(c for c in optional if c is not None)]))

    def good(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which rows pass the quality cut, ``(n,)``."""
        if self.quality is None:
            return np.ones(len(frame), dtype=bool)
        return frame[self.quality].to_numpy(dtype=np.float64, na_value=np.nan) >= self.minimum_quality

    def in_planes(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which rows lie in the chosen planes, ``(n,)``."""
        if self.plane is None:
            return np.ones(len(frame), dtype=bool)
        return np.isin(frame[self.plane].to_numpy(dtype=np.float64), self.planes)

    def kept(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which rows pass both filters, ``(n,)``."""
        return self.good(frame) & self.in_planes(frame)

    def add_votes(self, frame: pd.DataFrame, votes: dict[str, int]) -> None:
        """Add to each feature the number of rows that mark it as a gene, minus the number that mark it as a control."""
        vote = self._votes(frame)
        if vote is None:
            return
        feature = frame[self.gene].astype("category").cat
        total = np.bincount(feature.codes.to_numpy(), weights=vote, minlength=len(feature.categories))
        for name, n in zip(feature.categories[total != 0], total[total != 0], strict=True):
            votes[str(name)] = votes.get(str(name), 0) + int(n)

    def _votes(self, frame: pd.DataFrame) -> NDArray[np.float64] | None:
        """Return 1 where a row marks its feature as a gene, -1 where as a control, 0 where the value is missing."""
        vote = np.zeros(len(frame))
        if self.category is not None:
            category = frame[self.category].astype("category").cat
            is_gene = category.categories.astype(str).str.fullmatch(self.gene_category)
            by_code = np.append(np.where(is_gene, 1.0, -1.0), 0.0)  # the code of a missing value is -1
            vote = by_code[category.codes.to_numpy()]
        if self.is_gene is not None and frame[self.is_gene].dtype == np.bool_:
            return 2.0 * frame[self.is_gene].to_numpy() - 1
        if self.is_gene is not None:
            flag = _flags(frame[self.is_gene]).to_numpy(dtype=np.float64, na_value=np.nan)
            vote = np.where(np.isnan(flag), vote, 2 * flag - 1)
        return None if self.is_gene is None and self.category is None else vote


def _first(names: Sequence[str | None], there: Sequence[str]) -> str | None:
    return next((name for name in names if name in there), None)


def _flags(column: pd.Series) -> pd.Series:
    """Return 1 for true and 0 for false, given as booleans, numbers or text, and NaN for values that are missing.

    Values that are none of these are NaN too; :func:`check_frame` refuses them.
    """
    text = column.astype("string").str.strip().str.lower()
    return text.map({"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}).astype("Float64")


def _check_types(frame: pd.DataFrame, columns: TranscriptColumns, where: str) -> None:
    """Raise ``ValueError`` if a column of numbers holds something else, or one of flags no flags."""
    for name in ("x", "y", columns.count, columns.quality, columns.plane):
        if name is not None and not pd.api.types.is_numeric_dtype(frame[name].dtype):
            msg = (
                f"{where}: the column {name!r} must hold numbers, not {frame[name].dtype}. Make them numbers, as in "
                f"points[{name!r}] = points[{name!r}].astype(float)."
            )
            raise ValueError(msg)
    if columns.is_gene is not None and frame[columns.is_gene].dtype != np.bool_:
        column = frame[columns.is_gene]
        bad = column.notna() & _flags(column).isna() & ~column.astype("string").isin(MISSING_AS_TEXT)
        if bad.any():
            msg = (
                f"{where}: {int(bad.sum())} of {len(frame)} values of {columns.is_gene!r} are neither true nor false, "
                f"e.g. {column[bad].iloc[0]!r}. Make them booleans, or drop the column."
            )
            raise ValueError(msg)


def check_frame(frame: pd.DataFrame, columns: TranscriptColumns, where: str) -> None:
    """Raise ``ValueError`` if a position is not finite, a feature is missing, or a count is not a whole number."""
    _check_types(frame, columns, where)
    for axis in ("x", "y"):
        position = frame[axis].to_numpy()
        bad = ~np.isfinite(position if position.dtype.kind in "fiu" else position.astype(np.float64))
        if bad.any():
            msg = f"{where}: {bad.sum()} of {len(frame)} positions have a NaN or infinite {axis}. Drop them first."
            raise ValueError(msg)
    missing = frame[columns.gene].isna().to_numpy()
    if missing.any():
        msg = f"{where}: {missing.sum()} of {len(frame)} rows have no value in {columns.gene!r}. Drop these rows first."
        raise ValueError(msg)
    as_text = _is_missing_as_text(frame[columns.gene])
    if as_text.any():
        msg = (
            f"{where}: {as_text.sum()} of {len(frame)} rows have {columns.gene!r} = "
            f"{str(frame[columns.gene].to_numpy()[as_text][0])!r}, which is what a missing name becomes when a points "
            "element is made. Drop these rows first; if a gene really has this name, give it another."
        )
        raise ValueError(msg)
    if columns.count is not None:
        count = frame[columns.count].to_numpy(dtype=np.float64)
        bad = ~((count >= 0) & (count <= LARGEST_COUNT) & (count == np.floor(count)))  # NaN is bad too
        if bad.any():
            msg = (
                f"{where}: {bad.sum()} of {len(frame)} values of {columns.count!r} are negative, not whole or too "
                f"large, e.g. {count[bad][0]:g}. Counts must be whole numbers from 0 to {LARGEST_COUNT}."
            )
            raise ValueError(msg)


def _is_missing_as_text(feature: pd.Series) -> NDArray[np.bool_]:
    if isinstance(feature.dtype, pd.CategoricalDtype) and not feature.cat.categories.isin(MISSING_AS_TEXT).any():
        return np.zeros(len(feature), dtype=bool)
    return feature.isin(MISSING_AS_TEXT).to_numpy()


def codes_of(names: Iterable[object], codes: dict[str, int]) -> NDArray[np.int32]:
    """Return the number of each name; names that are new to ``codes`` get the next numbers."""
    return np.array([codes.setdefault(str(name), len(codes)) for name in names], dtype=np.int32)


def encode_features(feature: pd.Series, codes: dict[str, int]) -> NDArray[np.int32]:
    """Return the number of each row's feature; names that are new to ``codes`` get the next numbers."""
    if not isinstance(feature.dtype, pd.CategoricalDtype):
        feature = feature.astype("category")
    return codes_of(feature.cat.categories, codes)[feature.cat.codes.to_numpy()]


def counts_of(frame: pd.DataFrame, columns: TranscriptColumns) -> NDArray[np.int32]:
    """Return the number of molecules of each row, ``(n,)``."""
    count = np.ones(len(frame)) if columns.count is None else frame[columns.count].to_numpy()
    return count.astype(np.int32)


def names_in_tables(sdata: SpatialData, genes: Sequence[str]) -> set[str]:
    """Return the features of the tables beside the transcripts that list most of their genes; not those of ours."""
    found: set[str] = set()
    for table in sdata.tables.values():
        names = table.var_names.astype(str)
        if "ucs" not in table.uns and 2 * names.isin(genes).sum() >= len(genes):
            kinds = table.var.get("feature_types")
            found.update(names if kinds is None else names[(kinds == "Gene Expression").to_numpy()])
    return found


def panel_of(
    names: Iterable[str], genes: Sequence[str], controls: Sequence[str], platform: Platform, votes: Mapping[str, int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return all genes and all controls, each in alphabetical order: those that occur, and those that are only listed.

    Tables have a column for each, so that those of several samples of a panel are alike.
    """
    known = {*genes, *controls}
    others = {name for name in names if name not in known and name and name not in MISSING_AS_TEXT}
    of_controls = {name for name in others if platform.is_control(name) or votes.get(name, 0) < 0}
    return tuple(sorted({*genes, *(others - of_controls)})), tuple(sorted({*controls, *of_controls}))


def order_features(
    codes: dict[str, int],
    occurring: NDArray[np.bool_],
    platform: Platform,
    votes: Mapping[str, int],
) -> tuple[NDArray[np.int32], tuple[str, ...], tuple[str, ...]]:
    """Number the features that occur: genes, then controls, each in alphabetical order.

    Parameters
    ----------
    codes
        Codes of all features, by name.
    occurring
        ``(n_codes,)`` whether any transcript has this code.
    platform
        Recognises controls by their names.
    votes
        Votes from :meth:`TranscriptColumns.add_votes`, by name; a feature with a negative sum is a control.

    Returns
    -------
    New number of each code, -1 if it does not occur; the genes; the controls.
    """
    names = sorted(name for name, code in codes.items() if occurring[code])
    controls = tuple(name for name in names if platform.is_control(name) or votes.get(name, 0) < 0)
    genes = tuple(sorted(set(names) - set(controls)))
    new_code = np.full(len(codes), -1, dtype=np.int32)
    for number, feature_name in enumerate(genes + controls):
        new_code[codes[feature_name]] = number
    return new_code, genes, controls
