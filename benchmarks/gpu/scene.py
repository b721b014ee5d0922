"""A synthetic slide, made with numpy alone: nuclei on a lattice out of line, transcripts of cells around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.transcripts import TranscriptMap
from ucs.methods.base import RasterSample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Of the breast slide of benchmarks/scale: 108,868 nuclei and 42.6 M transcripts of 313 genes on 41.2 mm2.
SPACING_UM = 19.45
PER_UM2 = 1.03
N_GENES = 313

_N_TYPES = 8
_AMBIENT = 0.12  # share of the transcripts that lie anywhere
_RADIUS_UM = (2.8, 4.8)  # half axes of nuclei
_AROUND_UM = (1.5, 4.5)  # what the cell has beyond them
_OUT_OF_LINE_UM = 3.0  # at most, on each axis: nuclei do not touch
_NUCLEI_AT_ONCE = 20_000
_TRANSCRIPTS_AT_ONCE = 2_000_000


def make_slide(
    shape_um: tuple[float, float],
    um_per_px: float,
    *,
    repeats: tuple[int, int] = (1, 1),
    n_genes: int = N_GENES,
    per_um2: float = PER_UM2,
    seed: int = 0,
) -> RasterSample:
    """Return a slide on a raster.

    Parameters
    ----------
    shape_um
        Height and width in um of the tissue that is drawn, at least twice :data:`SPACING_UM` each.
    um_per_px
        Side of a pixel.
    repeats
        How often the slide has this tissue below and beside each other: a large one is made in no time.
    n_genes
        Number of genes, all of the features.
    per_um2
        Transcripts per um2.
    seed
        Of all that is random.
    """
    random = np.random.default_rng(seed)
    rows, columns = (int(side // SPACING_UM) for side in shape_um)
    n = rows * columns
    centre = np.stack(np.divmod(np.arange(n), columns), axis=1) * SPACING_UM + SPACING_UM / 2
    centre += random.uniform(-_OUT_OF_LINE_UM, _OUT_OF_LINE_UM, size=(n, 2))
    axes, angle = random.uniform(*_RADIUS_UM, size=(n, 2)), random.uniform(0, np.pi, size=n)
    shape = tuple(round(side / um_per_px) for side in shape_um)
    nuclei = _paint(centre, axes, angle, shape, um_per_px)
    around = random.uniform(*_AROUND_UM, size=n)
    profile = random.gamma(0.3, size=(_N_TYPES, n_genes)) + 1e-3
    drawn = _draw(random, centre, axes + around[:, None], angle, profile, shape_um, round(per_um2 * np.prod(shape_um)))
    parts = [(*np.minimum((place / um_per_px).astype(np.int32), np.array(shape) - 1).T, gene) for place, gene in drawn]
    row, column, gene = (np.concatenate(of_all) for of_all in zip(*parts, strict=True))
    # (rows of pieces, columns of pieces, transcripts) each
    below, beside = np.mgrid[: repeats[0], : repeats[1]].astype(np.int32)[..., None]
    row, column = (np.ravel(row + shape[0] * below), np.ravel(column + shape[1] * beside))
    gene = np.tile(gene, np.prod(repeats))
    number = np.kron(np.arange(np.prod(repeats), dtype=np.int32).reshape(repeats), np.full(shape, n, dtype=np.int32))
    nuclei = np.tile(nuclei, repeats)
    np.add(nuclei, number, out=nuclei, where=nuclei > 0)
    transcripts = TranscriptMap.from_positions(row, column, gene, None, shape=nuclei.shape, n_features=n_genes)
    features = tuple(f"gene{k}" for k in range(n_genes))
    return RasterSample(transcripts, features, n_genes, nuclei, n * int(np.prod(repeats)), um_per_px)


def _paint(
    centre: NDArray[np.float64],
    axes: NDArray[np.float64],
    angle: NDArray[np.float64],
    shape: tuple[int, ...],
    um_per_px: float,
) -> NDArray[np.int32]:
    """Return ``(h, w)`` ids 1..n of ellipses that do not touch."""
    out = np.zeros(shape, dtype=np.int32)
    half = int(np.ceil(_RADIUS_UM[1] / um_per_px)) + 1
    offset = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1).T
    for first in range(0, len(centre), _NUCLEI_AT_ONCE):
        of = slice(first, first + _NUCLEI_AT_ONCE)
        pixel = (centre[of] / um_per_px).astype(np.int32)[:, None] + offset  # (nuclei, pixels, 2)
        away = (pixel + 0.5) * um_per_px - centre[of, None]
        cosine, sine = np.cos(angle[of, None]), np.sin(angle[of, None])
        along, across = away[..., 0] * cosine + away[..., 1] * sine, away[..., 1] * cosine - away[..., 0] * sine
        inside = (along / axes[of, None, 0]) ** 2 + (across / axes[of, None, 1]) ** 2 <= 1
        inside &= ((pixel >= 0) & (pixel < shape)).all(axis=-1)
        number, place = np.nonzero(inside)
        row, column = pixel[number, place].T
        out[row, column] = first + number + 1
    return out


def _draw(
    random: np.random.Generator,
    centre: NDArray[np.float64],
    axes: NDArray[np.float64],
    angle: NDArray[np.float64],
    profile: NDArray[np.float64],
    shape_um: tuple[float, float],
    n: int,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Yield places ``(m, 2)`` in um and genes of ``n`` transcripts, some at a time."""
    kind = random.integers(len(profile), size=len(centre))
    upto = np.cumsum(profile / profile.sum(axis=1, keepdims=True), axis=1)
    upto = (upto / upto[:, -1:] + np.arange(len(profile))[:, None]).ravel()  # one ascending table of all types
    sides = np.array(shape_um)
    for first in range(0, n, _TRANSCRIPTS_AT_ONCE):
        m = min(_TRANSCRIPTS_AT_ONCE, n - first)
        cell = random.integers(len(centre), size=m)
        far, turn = np.sqrt(random.random(m)), random.uniform(0, 2 * np.pi, size=m)
        along, across = far * np.cos(turn) * axes[cell, 0], far * np.sin(turn) * axes[cell, 1]
        cosine, sine = np.cos(angle[cell]), np.sin(angle[cell])
        place = centre[cell] + np.stack([along * cosine - across * sine, along * sine + across * cosine], axis=1)
        ambient = random.random(m) < _AMBIENT
        place[ambient] = random.random((int(ambient.sum()), 2)) * sides
        gene = np.searchsorted(upto, random.random(m) + kind[cell]) - kind[cell] * profile.shape[1]
        gene = np.clip(gene, 0, profile.shape[1] - 1)
        gene[ambient] = random.integers(profile.shape[1], size=int(ambient.sum()))
        yield np.clip(place, 0, sides - 1e-3).astype(np.float32), gene.astype(np.int32)
