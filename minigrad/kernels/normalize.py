"""The hot patterns of every normalizer as plain functions on arrays: two reductions, and one fused combination.

    moments      mean and variance over some axes
    paired_sums  Σ w·g  and  Σ w·g·(x − mu)  over some axes
    combine      a·w·g + b·(x − mu) + c      where a, b, c are small and broadcast

x, g are large and of one shape; mu, a, b, c, w broadcast to it. Subtracting mu first, rather than multiplying out, is what
keeps float32 right when the mean is large. On NumPy all three walk over the first axis in blocks that stay in the cache, so
that large arrays are read once and temporaries never reach memory, and share the blocks between threads. Elsewhere they are
the same formulas on whole arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .threads import share

Array = Any
Axes = tuple[int, ...]

_BLOCK_BYTES = 1 << 18  # of one large array: a few of them fit in the second-level cache together
_THREAD_BYTES = 1 << 21  # below this a second thread costs more than it brings


def _part(small: Array, start: int, stop: int) -> Array:
    """The rows of a broadcastable array that belong to a block."""
    return small if small is None or small.ndim == 0 or small.shape[0] == 1 else small[start:stop]


def _blocked(x: Array, work: Callable[[int, int], Any]) -> list[Any]:
    """work(start, stop) for blocks of rows of x, shared between threads, results in order."""
    n = x.shape[0]
    row = max(1, x.nbytes // max(n, 1))
    step = max(1, _BLOCK_BYTES // row)

    def several(start: int, stop: int) -> list[Any]:
        return [work(i, min(i + step, stop)) for i in range(start, stop, step)]
    return [r for part in share(several, n, max(1, _THREAD_BYTES // row)) for r in part]


def _gather(parts: list[Array], axes: Axes) -> Array:
    """Block results put together: added where the first axis is summed, one after the other where it is not."""
    if 0 not in axes:
        return np.concatenate(parts, axis=0)
    return parts[0] if len(parts) == 1 else np.add.reduce(parts)


def _applies(xp: Any, x: Array) -> bool:
    return xp is np and x.ndim > 1 and x.size > 0


def moments(xp: Any, x: Array, axes: Axes) -> tuple[Array, Array]:
    """Mean and biased variance of x over `axes` (kept as size 1), stable for any mean.

    Each block is centred on its own mean; blocks are merged by Chan, Golub and LeVeque's update, Σ(x − μ)² =
    Σ_blocks [Σ(x − μ_b)² + n_b (μ_b − μ)²], so that x is read from memory once.
    """
    if not _applies(xp, x):
        mu = x.mean(axis=axes, keepdims=True)
        centred = x - mu
        return mu, (centred * centred).mean(axis=axes, keepdims=True)
    rest = prod(x.shape[i] for i in axes if i != 0)

    def block(start: int, stop: int) -> tuple[Array, Array, int]:
        part = x[start:stop]
        count = rest * (stop - start if 0 in axes else 1)
        mu = _sum(part, axes) / count
        t = part - mu
        return mu, _sum_of_products(t, t, axes), count
    parts = _blocked(x, block)
    if 0 not in axes:
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] / p[2] for p in parts])
    total = sum(p[2] for p in parts)
    mu = sum(p[0] * (p[2] / total) for p in parts)
    squares = sum(p[1] + p[2] * np.square(p[0] - mu) for p in parts)
    return mu.astype(x.dtype, copy=False), (squares / total).astype(x.dtype, copy=False)


def paired_sums(xp: Any, g: Array, x: Array, mu: Array, w: Array | None, axes: Axes) -> tuple[Array, Array]:
    """Σ w·g and Σ w·g·(x − mu) over `axes` (kept as size 1); w = None means 1."""
    if not _applies(xp, x):
        h = g if w is None else g * w
        return h.sum(axis=axes, keepdims=True), (h * (x - mu)).sum(axis=axes, keepdims=True)

    def block(start: int, stop: int) -> tuple[Array, Array]:
        h = g[start:stop] if w is None else g[start:stop] * _part(w, start, stop)
        return _sum(h, axes), _sum_of_products(h, x[start:stop] - _part(mu, start, stop), axes)
    parts = _blocked(x, block)
    return _gather([p[0] for p in parts], axes), _gather([p[1] for p in parts], axes)


def combine(xp: Any, g: Array | None, x: Array, mu: Array, a: Array | None, b: Array, c: Array | None, w: Array | None = None) -> Array:
    """a·w·g + b·(x − mu) + c as a new array; g = None leaves the first term out, w = None means 1, c = None means 0."""
    if not _applies(xp, x):
        out = b * (x - mu)
        if g is not None:
            out = out + (g * a if w is None else g * w * a)
        return out if c is None else out + c
    out = np.empty(x.shape, x.dtype)

    def block(start: int, stop: int) -> None:
        o = out[start:stop]
        np.subtract(x[start:stop], _part(mu, start, stop), out=o)
        np.multiply(o, _part(b, start, stop), out=o)
        if g is not None:
            t = g[start:stop] * _part(a, start, stop)
            if w is not None:
                np.multiply(t, _part(w, start, stop), out=t)
            np.add(o, t, out=o)
        if c is not None:
            np.add(o, _part(c, start, stop), out=o)
    _blocked(x, block)
    return out


# -- sums inside a block ------------------------------------------------------------------------------------------------


def _sum(a: Array, axes: Axes) -> Array:
    return np.add.reduce(a, axis=axes, keepdims=True)


def _sum_of_products(a: Array, b: Array, axes: Axes) -> Array:
    """Σ a·b over `axes`: dot products along the contiguous run of trailing axes, without an array of products."""
    lead = a.ndim
    while lead and lead - 1 in axes:
        lead -= 1
    if lead == a.ndim or not (a.flags.c_contiguous and b.flags.c_contiguous):
        return np.add.reduce(a * b, axis=axes, keepdims=True)
    dots = np.vecdot(a.reshape(*a.shape[:lead], -1), b.reshape(*b.shape[:lead], -1))
    outer = tuple(i for i in axes if i < lead)
    return np.add.reduce(dots, axis=outer, keepdims=True).reshape([1 if i in axes else n for i, n in enumerate(a.shape)])
