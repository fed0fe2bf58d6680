"""Moments, paired sums and the combination on CuPy: how arrays of any shape become the (N, C, L) of normalize.cu.

Passes over memory: moments 1 (read x), paired sums 2 (read g and x), combine 3 (read g and x, write) or 2 without g. So batch
norm takes 3 forward and 5 backward, which is the least if the array does not fit into the cache.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from .launch import BLOCKS, THREADS, TILE, launch, usable, vectors

if TYPE_CHECKING:
    from ..normalize import Coefficients

Array = Any
Axes = tuple[int, ...]
Groups = list[list[int]]  # axes of x that are one axis of (N, C, L)

_LIMIT = 1 << 31  # elements of one statistic: the kernels divide with 32 bits. Statistics: CUDA takes fewer blocks side by side


def moments(xp: Any, x: Array, axes: Axes) -> tuple[Array, Array] | None:
    """Mean and biased variance over `axes`, kept as size 1, reading x once."""
    kind, groups = _reduction(x.shape, axes)
    if kind != "channels" or not usable(xp, x) or not x.ndim:
        return None
    N, C, L = _sizes(x.shape, groups)
    if max(N * L, C) >= _LIMIT:
        return None
    vector, span, parts = _cut(x, N, C, L, x)
    mean, variance = (xp.empty((C,), dtype=x.dtype) for _ in range(2))
    means, squares = (mean, variance) if parts == 1 else (xp.empty((C, parts), dtype=x.dtype) for _ in range(2))
    launch(xp, "normalize", "moments_parts", x.dtype, (C * parts,), x, means, squares, C, L, N * L, span, parts, vector)
    if parts > 1:
        launch(xp, "normalize", "moments_merge", x.dtype, (-(-C // (THREADS // 32)),), means, squares, mean, variance, C, N * L, span, parts)
    kept = _kept(x.shape, axes)
    return mean.reshape(kept), variance.reshape(kept)


def paired_sums(xp: Any, g: Array, x: Array, mu: Array, w: Array, r: Array, axes: Axes) -> tuple[Array, Array] | None:
    """Σ w·g and Σ w·g·r·(x − mu) over `axes`, kept as size 1, reading g and x once."""
    kind, groups = _reduction(x.shape, axes)
    if kind is None or not x.ndim or not usable(xp, x, g):
        return None
    small = _smalls(xp, x, groups, mu, w, r)
    N, C, L = _sizes(x.shape, groups)
    if small is None or max(N * L, C) >= _LIMIT:
        return None
    if kind == "columns":
        vector = vectors(x.dtype, L, g, x)
        wide = -(-L // (32 * (16 // x.dtype.itemsize if vector else 1)))  # blocks side by side
        parts = max(1, min(-(-N // 64), BLOCKS // wide))
        span = -(-N // parts)
        parts = -(-N // span)
        s, t = (xp.empty((parts, L), dtype=x.dtype) for _ in range(2))
        launch(xp, "normalize", "column_parts", x.dtype, (wide, parts), g, x, *small, s, t, N, L, span, vector)
        over = 0
    else:
        vector, span, parts = _cut(x, N, C, L, g, x)
        s, t = (xp.empty((C, parts), dtype=x.dtype) for _ in range(2))
        launch(xp, "normalize", "paired_parts", x.dtype, (C * parts,), g, x, *small, s, t, C, L, N * L, span, parts, vector)
        over = 1
    kept = _kept(x.shape, axes)
    return (s.reshape(kept), t.reshape(kept)) if parts == 1 else (s.sum(axis=over).reshape(kept), t.sum(axis=over).reshape(kept))


def combine(xp: Any, g: Array, x: Array, by: Coefficients, out: Array | None) -> Array | None:
    """a·w·g + b·(x − mu) + c, without g w·b·(x − mu) + c, in one pass; into `out` if given, which may be x or g."""
    if not x.ndim or not usable(xp, x, g, out):
        return None
    coefficients = by.mu, by.a if g is not None else None, by.b, by.c, by.w
    groups = _alike(x.shape, *coefficients)
    small = _smalls(xp, x, groups, *coefficients)
    if small is None:
        return None
    _, C, L = _sizes(x.shape, groups)
    out = xp.empty(x.shape, dtype=x.dtype) if out is None else out
    vector = vectors(x.dtype, L, g, x, out)
    blocks = -(-x.size // (THREADS * (16 // x.dtype.itemsize if vector else 1)))
    launch(xp, "normalize", "combine", x.dtype, (min(blocks, 8 * BLOCKS),), out, g, x, *small, x.size, C, L, vector, x.size >= _LIMIT)
    return out


# -- shapes -------------------------------------------------------------------------------------------------------------


def _reduction(shape: Axes, axes: Axes) -> tuple[str | None, Groups]:
    """"channels" and the axes that are N, C, L, where N and L are summed over; "columns" where only N is; or None."""
    runs: list[tuple[bool, list[int]]] = []
    for i, n in enumerate(shape):
        if n == 1 and runs:
            runs[-1][1].append(i)  # an axis of length 1 belongs anywhere
        elif runs and runs[-1][0] == (i in axes):
            runs[-1][1].append(i)
        else:
            runs.append((i in axes, [i]))
    pattern, parts = [summed for summed, _ in runs], [part for _, part in runs]
    match pattern:
        case [True]:
            return "channels", [[], [], parts[0]]
        case [False, True]:
            return "channels", [[], *parts]
        case [True, False, True]:
            return "channels", parts
        case [True, False]:
            return "columns", [parts[0], [], parts[1]]
    return None, []


def _alike(shape: Axes, *small: Any) -> Groups:
    """Three groups of neighbouring axes along each of which every small array changes or does not, as far as three suffice."""
    groups: list[tuple[Any, list[int]]] = []
    for i in range(len(shape)):
        changes = tuple(_changes(s, i - len(shape)) for s in small)
        if groups and (shape[i] == 1 or changes == groups[-1][0]):
            groups[-1][1].append(i)
        elif groups and all(shape[j] == 1 for j in groups[-1][1]):  # what came before decides nothing
            groups[-1] = (changes, [*groups[-1][1], i])
        else:
            groups.append((changes, [i]))
    found = [part for _, part in groups]
    while len(found) > 3:
        found[:2] = [found[0] + found[1]]
    return [[] for _ in range(3 - len(found))] + found


def _changes(small: Any, axis: int) -> bool:
    shape = getattr(small, "shape", ())
    return -axis <= len(shape) and shape[axis] != 1


def _sizes(shape: Axes, groups: Groups) -> tuple[int, int, int]:
    n, c, l = (prod(shape[i] for i in group) for group in groups)
    return n, c, l


def _kept(shape: Axes, axes: Axes) -> Axes:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _smalls(xp: Any, x: Array, groups: Groups, *small: Any) -> list[Any] | None:
    """Pointer and code of each small array, made to change along whole groups; None if one is of another dtype."""
    found: list[Any] = []
    for s in small:
        if s is None:
            found += [None, 0]
            continue
        if not hasattr(s, "shape"):
            s = xp.full((1,), s, dtype=x.dtype)
        if s.dtype != x.dtype:
            return None
        code, target = 0, [1] * x.ndim
        for bit, group in zip((1, 2, 4), groups, strict=True):
            if any(_changes(s, i - x.ndim) for i in group):
                code |= bit
                for i in group:
                    target[i] = x.shape[i]
        size = prod(target)
        found += [xp.ascontiguousarray(s if s.size == size else xp.broadcast_to(s, target)), code]
    return found


def _cut(x: Array, N: int, C: int, L: int, *arrays: Array) -> tuple[bool, int, int]:
    """16 bytes at once?, elements of a part, parts of a channel: whole tiles, and enough blocks for the device."""
    tile, elements = THREADS * TILE, N * L
    parts = max(1, min(-(-elements // tile), BLOCKS // C))
    span = -(-elements // (parts * tile)) * tile
    return vectors(x.dtype, L, *arrays), span, -(-elements // span)
