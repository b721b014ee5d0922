"""Randomised tissue with known cells, far wider than any one tissue: what the pretrained net learns from.

Nothing here is fitted to a sample. Sizes, shapes, densities, backgrounds, errors of the nuclei and kinds of cells are
drawn anew for each field from wide ranges (:func:`random_tissue`), so that a net has to read from the field itself what
holds in it. Cells are patches of a warped plane in which neighbours compete; no cell is a disc, and no level is that of
the whole field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, grey_dilation, shift

from benchmarks.pretraining.kinds import Kinds, between

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_CELLS = 1500
_ATTEMPTS = 5000


@dataclass(frozen=True)
class Field:
    """One field of tissue on a raster of ``(h, w)`` pixels.

    Attributes
    ----------
    cells
        ``(h, w)`` int32, the nucleus whose cell the pixel lies in; 0 for none, and for cells whose nucleus is not seen.
    nuclei
        ``(h, w)`` int32 ids 1..n, as they are seen: some are missing, merged, split or out of place.
    row, column
        ``(m,)`` pixels of the transcripts.
    gene
        ``(m,)`` numbers of their genes.
    origin
        ``(m,)`` the nucleus of the cell that each comes from; 0 for none.
    n_genes
        Number of genes.
    um_per_px
        Side of a pixel in um.
    """

    cells: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    gene: NDArray[np.int64]
    origin: NDArray[np.int32]
    n_genes: int
    um_per_px: float


_MIXED = 0.35  # share of fields whose kinds differ widely in size and in how much of a cell the nucleus fills


def random_tissue(seed: int, *, mixed: bool | None = None, side: int = 320, um_per_px: float = 0.5) -> Field:
    """Draw a field of tissue.

    Parameters
    ----------
    seed
        Of all draws.
    mixed
        Whether kinds differ widely in size and in how much of a cell the nucleus fills; drawn if None.
    side
        Of the field in pixels.
    um_per_px
        Side of a pixel in um.
    """
    random = np.random.default_rng(seed)
    for _ in range(20):
        is_mixed = bool(random.random() < _MIXED) if mixed is None else mixed
        field = _draw(random, side, um_per_px, mixed=is_mixed)
        if field is not None:
            return field
    msg = f"No tissue with nuclei and transcripts was drawn from seed {seed}."
    raise RuntimeError(msg)


def _wave(random: np.random.Generator, side: int, sigma: float) -> NDArray[np.float32]:
    """Return a smooth random field of mean 0 and standard deviation 1; ``sigma`` in pixels."""
    step = max(1, int(sigma // 3))
    small = -(-side // step) + 2
    wave = gaussian_filter(random.normal(size=(small, small)), max(sigma / step, 0.5), mode="wrap")
    if step > 1:
        at = np.arange(side) / step
        low = at.astype(int)
        share = (at - low)[:, None]
        wave = wave[low] * (1 - share) + wave[low + 1] * share
        wave = wave[:, low] * (1 - share.T) + wave[:, low + 1] * share.T
    else:
        wave = wave[:side, :side]
    return ((wave - wave.mean()) / max(wave.std(), 1e-9)).astype(np.float32)


def _place(
    random: np.random.Generator, kinds: Kinds, side_um: float, allowed: NDArray, um_per_px: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Return positions in um, radii and kinds of cells, large ones first or in any order."""
    kind = random.choice(len(kinds.radius), _ATTEMPTS, p=kinds.share)
    order = random.random()
    if order < 0.4:
        kind = kind[np.argsort(-kinds.radius[kind], kind="stable")]
    radius = kinds.radius[kind] * np.exp(random.normal(0, 0.15, _ATTEMPTS))
    position = random.uniform(-6, side_um + 6, (_ATTEMPTS, 2))
    closeness = random.uniform(0.65, 0.98)
    kept = np.zeros((_MOST_CELLS, 3))
    chosen, misses = [], 0
    pixels = np.clip((position / um_per_px).astype(int), 0, allowed.shape[0] - 1)
    for k in range(_ATTEMPTS):
        if not allowed[pixels[k, 0], pixels[k, 1]]:
            continue
        m = len(chosen)
        distance = np.hypot(kept[:m, 0] - position[k, 0], kept[:m, 1] - position[k, 1])
        if m and (distance < closeness * (kept[:m, 2] + radius[k])).any():
            misses += 1
            if misses > 1200:
                break
            continue
        kept[m] = *position[k], radius[k]
        chosen.append(k)
        if len(chosen) == _MOST_CELLS:
            break
    return position[chosen], radius[chosen], kind[chosen]


def _grow(
    random: np.random.Generator, kinds: Kinds, at: NDArray, radius: NDArray, kind: NDArray, side: int, um_per_px: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return cells, nuclei and the relative distance from the middle of the own cell, ``(side, side)`` each."""
    n = len(at)
    turn = random.uniform(0, np.pi) + random.normal(0, random.choice([0.2, 0.5, 3.0]), n)
    elongation = np.clip(kinds.elongation[kind] * np.exp(random.normal(0, 0.15, n)), 0.1, 1)
    extent = kinds.extent[kind] * np.exp(random.normal(0, random.uniform(0.03, 0.2), n))
    weight = kinds.weight[kind]
    warp, fine = random.uniform(0, 1.5), random.uniform(0, 0.5)
    lobes = random.uniform(0, 0.25)
    tails = random.random(n) < random.choice([0, 0, 0.3, 0.8])
    tail_length, tail_width = random.uniform(1.6, 3.5), random.uniform(0.2, 0.5)
    eccentric = random.choice([0.05, 0.12, 0.3])
    rows, columns = ((np.mgrid[:side, :side] + 0.5) * um_per_px).astype(np.float32)
    rows = rows + warp * _wave(random, side, 3 / um_per_px) + fine * _wave(random, side, 1 / um_per_px)
    columns = columns + warp * _wave(random, side, 3 / um_per_px) + fine * _wave(random, side, 1 / um_per_px)
    best = np.full((side, side), np.inf, dtype=np.float32)
    depth = np.zeros((side, side), dtype=np.float32)
    cells, nuclei = np.zeros((side, side), dtype=np.int32), np.zeros((side, side), dtype=np.int32)
    nearest = np.full((side, side), np.inf, dtype=np.float32)
    share = np.clip(kinds.nucleus[kind] * np.exp(random.normal(0, 0.08, n)), 0.2, 0.97)
    phase = random.uniform(0, 2 * np.pi, (n, 2))
    for i in range(n):
        a, b = radius[i] / math.sqrt(elongation[i]), radius[i] * math.sqrt(elongation[i])
        reach = extent[i] * a * (tail_length if tails[i] else 1) + 4
        row0, column0 = np.maximum(((at[i] - reach) / um_per_px).astype(int), 0)
        row1, column1 = np.clip(((at[i] + reach) / um_per_px).astype(int) + 1, 0, side)
        if row1 <= row0 or column1 <= column0:
            continue
        here = np.s_[row0:row1, column0:column1]
        dy, dx = rows[here] - at[i, 0], columns[here] - at[i, 1]
        cosine, sine = math.cos(turn[i]), math.sin(turn[i])
        u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
        far = np.hypot(u / a, v / b)
        if lobes > 0.02:
            angle = np.arctan2(v / b, u / a)
            far = far / (1 + lobes * (0.6 * np.sin(2 * angle + phase[i, 0]) + 0.5 * np.sin(3 * angle + phase[i, 1])))
        if tails[i]:
            far = np.minimum(far, np.hypot(u / (tail_length * a), v / (tail_width * b)))
        mine = (far < extent[i]) & (far * weight[i] < best[here])
        best[here][mine] = far[mine] * weight[i]
        depth[here][mine] = (far / extent[i])[mine]
        cells[here][mine] = i + 1
        away = random.normal(0, eccentric, 2) * radius[i] * (1 - share[i])
        flat = elongation[i] ** 0.7
        core = np.hypot(
            (u - away[0]) / (share[i] * radius[i] / math.sqrt(flat)),
            (v - away[1]) / (share[i] * radius[i] * math.sqrt(flat)),
        )
        mine = (core < 1) & (core < nearest[here])
        nearest[here][mine] = core[mine]
        nuclei[here][mine] = i + 1
    cells = np.where((nuclei > 0) & (cells == 0), nuclei, cells)
    nuclei = np.where(nuclei == cells, nuclei, 0)
    return cells, nuclei, depth


def _processes(
    random: np.random.Generator, kinds: Kinds, cells: NDArray, nuclei: NDArray, um_per_px: float
) -> NDArray:
    """Return thin curves of RNA whose cells lie elsewhere: the kind plus 1, 0 elsewhere."""
    side = len(cells)
    out = np.zeros((side, side), dtype=np.int32)
    kind, width, base = int(random.integers(len(kinds.radius))), random.uniform(0.8, 3), random.uniform(0, np.pi)
    for _ in range(int(random.integers(3, 26))):
        start, angle = random.random(2) * side, base + random.normal(0, 0.3)
        length = side if random.random() < 0.5 else random.uniform(15, 80) / um_per_px
        t = np.arange(-length, length, 0.4)
        y = start[0] + t * math.sin(angle) + 6 * np.sin(t / 25 + random.random() * 6)
        x = start[1] + t * math.cos(angle)
        for off in np.arange(-width, width, um_per_px / 2) / um_per_px / 2:
            row, column = (y + off * math.cos(angle)).astype(int), (x - off * math.sin(angle)).astype(int)
            inside = (row >= 0) & (column >= 0) & (row < side) & (column < side)
            out[row[inside], column[inside]] = kind + 1
    return np.where(cells > 0, 0, out) if random.random() < 0.5 else np.where(nuclei > 0, 0, out)


def _draw(random: np.random.Generator, side: int, um_per_px: float, *, mixed: bool) -> Field | None:
    kinds = Kinds.mixed(random) if mixed else Kinds.draw(random)
    side_um, px_um2 = side * um_per_px, um_per_px**2
    filled = (kinds.extent == 3).all()
    gap = 0.0 if random.random() < (0.8 if filled else 0.4) else random.uniform(0, 0.6)
    tissue = _wave(random, side, random.uniform(20, 80) / um_per_px)
    allowed = tissue >= np.quantile(tissue, gap)
    at, radius, kind = _place(random, kinds, side_um, allowed, um_per_px)
    if len(at) < 6:
        return None
    cells, nuclei, far = _grow(random, kinds, at, radius, kind, side, um_per_px)
    n = len(at)
    process = np.zeros((side, side), dtype=np.int32)
    if random.random() < (0.4 if mixed else 0.25):
        process = _processes(random, kinds, cells, nuclei, um_per_px)
        cells = np.where(process > 0, 0, cells)

    dead = np.zeros(n + 1, dtype=bool)  # stained nuclei of cells that are gone, in debris
    if random.random() < (0.2 if mixed else 0.06):
        region = _wave(random, side, random.uniform(20, 50) / um_per_px) > random.uniform(0.2, 1.2)
        dead[np.unique(nuclei[region])] = True
        dead[0] = False
        cells = np.where(dead[cells] & (nuclei == 0), 0, cells)

    # How much RNA lies where.
    level = between(random, 0.05, 5)
    per_cell = level * kinds.depth[kind] * np.exp(random.normal(0, random.uniform(0.1, 0.45), n))
    gradient = np.ones((side, side), dtype=np.float32)
    if random.random() < 0.6:
        gradient = np.exp(_wave(random, side, random.uniform(30, 120) / um_per_px) * random.choice([0, 0.2, 0.5, 0.8]))
    elif random.random() < 0.5:  # two cores
        edge = np.arange(side) > side * random.uniform(0.3, 0.7)
        gradient = np.where(edge[None, :] if random.random() < 0.5 else edge[:, None], random.uniform(0.05, 1), 1.0)
        gradient = np.broadcast_to(gradient, (side, side))
    rate = np.r_[0, per_cell][cells] * gradient
    grain = np.exp(0.25 * _wave(random, side, 2 / um_per_px) * random.choice([0, 1]))
    rate = rate * (1 - random.choice([0, 0, 0.4, 0.8]) * far**2) * grain
    rate = np.where(nuclei > 0, rate * random.uniform(0.5, 1.9), rate)
    rate = np.where(dead[cells], rate * random.uniform(0, 0.5), rate)
    rate = np.where(process > 0, level * kinds.depth[np.maximum(process - 1, 0)] * gradient, rate)
    uneven = np.exp(_wave(random, side, 30 / um_per_px) * random.choice([0, 0.4]))
    background = level * between(random, 0.006, 0.4) * gradient * uneven
    if random.random() < 0.3:  # RNA leaks from where it is
        leaked = gaussian_filter(rate, random.uniform(4, 15) / um_per_px)
        background = background * (0.2 + leaked / max(rate.mean(), 1e-9))
    if dead.any():  # their RNA lies around
        around = gaussian_filter(dead[nuclei].astype(float), 8 / um_per_px)
        background = background + level * random.uniform(0.1, 1) * gradient * np.minimum(around * 4, 1)
    if random.random() < 0.3:  # RNA without nuclei: smears, debris, cells out of the plane
        region = _wave(random, side, random.uniform(10, 50) / um_per_px) > random.uniform(0.3, 1.4)
        if random.random() < 0.6:
            nuclei = np.where(np.isin(nuclei, np.unique(cells[region])) & region, 0, nuclei)
        background = np.where(region, np.maximum(background, level * random.uniform(0.15, 1.3)), background)
    seen, nuclei = _seen(random, nuclei, n)
    cell_of, nuclei, n_seen = _renumbered(seen, nuclei)
    if n_seen < 4:
        return None

    # Transcripts and where they come from.
    y, x = _spread(random, rate * px_um2)
    if not 150 < len(y) < 400_000:
        return None
    n_genes = int(random.integers(60, 401))
    profiles, ambient, nuclear_bias = _expression(random, kinds, n_genes)
    from_process = process[y, x]
    kind_of = np.where(from_process > 0, from_process - 1, np.r_[0, kind][cells[y, x]])
    gene = np.zeros(len(y), dtype=np.int64)
    in_nucleus = nuclei[y, x] > 0
    for k in range(len(kinds.radius)):
        for flag, bias in ((True, nuclear_bias), (False, np.maximum(2 - nuclear_bias, 0.1))):
            which = (kind_of == k) & (in_nucleus == flag)
            weight = profiles[k] * bias
            gene[which] = random.choice(n_genes, int(which.sum()), p=weight / weight.sum())
    origin = cell_of[cells[y, x]]
    by, bx = _spread(random, background * px_um2)
    spread = between(random, 0.2, 2.2) / um_per_px
    y, x = (v + random.random(len(v)) + random.normal(0, spread, len(v)) for v in (y, x))
    y, x = np.r_[y, by + random.random(len(by))], np.r_[x, bx + random.random(len(bx))]
    gene = np.r_[gene, random.choice(n_genes, len(by), p=ambient)]
    origin = np.r_[origin, np.zeros(len(by), dtype=np.int64)]
    inside = (y >= 0) & (x >= 0) & (y < side) & (x < side)
    return Field(
        cell_of[cells].astype(np.int32), nuclei.astype(np.int32), y[inside].astype(np.int64),
        x[inside].astype(np.int64), gene[inside], origin[inside].astype(np.int32), n_genes, um_per_px,
    )  # fmt: skip


def _spread(random: np.random.Generator, rate: NDArray) -> tuple[NDArray, NDArray]:
    count = random.poisson(np.maximum(rate, 0))
    y, x = np.nonzero(count)
    return np.repeat(y, count[y, x]), np.repeat(x, count[y, x])


def _seen(random: np.random.Generator, nuclei: NDArray, n: int) -> tuple[NDArray[np.int64], NDArray]:
    """Return which id each nucleus is seen under, ``(n + 1,)``, 0 if it is not, and the nuclei as they are seen."""
    seen = np.arange(n + 1)
    if random.random() < 0.5:
        seen[1:][random.random(n) < random.uniform(0, 0.25)] = 0
    if random.random() < 0.2:  # nuclei that touch are taken for one
        pairs = np.unique(np.stack([nuclei[:, :-1].ravel(), nuclei[:, 1:].ravel()], axis=1), axis=0)
        pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs > 0).all(axis=1)]
        for a, b in pairs[random.random(len(pairs)) < 0.3]:
            if seen[a] == a and seen[b] == b:
                seen[b] = a
    if random.random() < 0.4:  # nuclei are found too large, too small or beside
        kind = random.random()
        if kind < 0.3:
            nuclei = np.where(binary_erosion(nuclei > 0, iterations=1), nuclei, 0)
        elif kind < 0.6:
            nuclei = np.where(binary_dilation(nuclei > 0) & (nuclei == 0), grey_dilation(nuclei, size=3), nuclei)
        else:
            nuclei = shift(nuclei, np.rint(random.normal(0, 1.5, 2)), order=0)
    return seen, nuclei


def _renumbered(seen: NDArray, nuclei: NDArray) -> tuple[NDArray[np.int64], NDArray, int]:
    """Return the new number of each cell, the nuclei renumbered, and how many there are."""
    found = np.unique(seen[nuclei])
    found = found[found > 0]
    number = np.zeros(len(seen), dtype=np.int64)
    number[found] = np.arange(1, len(found) + 1)
    return number[seen], number[seen[nuclei]], len(found)


def _expression(random: np.random.Generator, kinds: Kinds, n_genes: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return profiles ``(kinds, genes)``, the ambient one, and how much more of a gene lies in nuclei."""
    n = len(kinds.radius)
    common = random.lognormal(0, random.uniform(0.6, 1.5), n_genes)
    profiles = np.tile(common, (n, 1)) * random.lognormal(0, random.uniform(0.05, 0.5), (n, n_genes))
    fold = random.uniform(1.5, 14)
    for k in range(n):
        markers = random.choice(n_genes, max(2, int(n_genes * random.uniform(0.03, 0.12))), replace=False)
        profiles[:, markers] *= random.uniform(0.03, 0.6)
        profiles[k, markers] = common[markers] * fold
    profiles /= profiles.sum(axis=1, keepdims=True)
    ambient = kinds.share @ profiles if random.random() < 0.6 else common / common.sum()
    bias = random.beta(1.5, 3.5, n_genes) * 2.4 if random.random() < 0.5 else np.ones(n_genes)
    return profiles, ambient, bias
