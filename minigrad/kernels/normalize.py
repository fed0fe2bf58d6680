"""The hot patterns of every normalizer as plain functions on arrays: two reductions, and one fused combination.

    moments      mean and variance over some axes
    paired_sums  Σ w·g  and  Σ w·g·r·(x − mu)  over some axes
    combine      a·w·g + b·(x − mu) + c,  or without g  w·b·(x − mu) + c

x, g are large and of one shape. The others are small and broadcast to it; None stands for mu = 0, w = 1, r = 1, c = 0.
Subtracting mu first, rather than multiplying out, is what keeps float32 right when the mean is large. On NumPy all three
walk over the first axis in blocks that stay in the cache, so that large arrays are read once and temporaries never reach
memory, and share the blocks between threads. Elsewhere they are the same formulas on whole arrays.
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


def _rows(small: Any, ndim: int, start: int, stop: int) -> Any:
    """What of a small array (a number, None) meets the rows start to stop of a large one with `ndim` axes."""
    return small[start:stop] if getattr(small, "ndim", 0) == ndim and small.shape[0] > 1 else small


def _blocked(x: Array, work: Callable[[int, int], Any], add: bool = False) -> list[Any]:
    """work(start, stop) for blocks of rows of x, shared between threads, results in order.

    With `add` each thread adds the arrays of all its blocks as it goes, and there is one result a thread.
    """
    n = x.shape[0]
    row = max(1, x.nbytes // n)
    step = max(1, _BLOCK_BYTES // row)

    def several(start: int, stop: int) -> list[Any]:
        results: list[Any] = []
        for i in range(start, stop, step):
            result = work(i, min(i + step, stop))
            if add and results:
                for total, part in zip(results[0], result):
                    np.add(total, part, out=total)
            else:
                results.append(result)
        return results
    return [r for part in share(several, n, max(1, _THREAD_BYTES // row)) for r in part]


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


def paired_sums(xp: Any, g: Array, x: Array, mu: Array, w: Array, r: Array, axes: Axes) -> tuple[Array, Array]:
    """Σ w·g and Σ w·g·r·(x − mu) over `axes` (kept as size 1)."""
    if r is not None and all(r.shape[i] == 1 for i in axes):  # a factor of the sum
        s, t = paired_sums(xp, g, x, mu, w, None, axes)
        return s, t * r
    if not _applies(xp, x):
        h = _times(g, w)
        return h.sum(axis=axes, keepdims=True), (h * _times(_minus(x, mu), r)).sum(axis=axes, keepdims=True)

    def block(start: int, stop: int) -> tuple[Array, Array]:
        mu_, w_, r_ = (_rows(small, x.ndim, start, stop) for small in (mu, w, r))
        h, t = _times(g[start:stop], w_), _minus(x[start:stop], mu_)
        if r is not None:
            t = np.multiply(t, r_, out=t if mu is not None else None)
        return _sum(h, axes), _sum_of_products(h, t, axes)
    parts = _blocked(x, block, add=0 in axes)
    together = sum if 0 in axes else np.concatenate
    return together([p[0] for p in parts]), together([p[1] for p in parts])


def combine(xp: Any, g: Array, x: Array, mu: Array, a: Array, b: Array, c: Array, w: Array) -> Array:
    """a·w·g + b·(x − mu) + c as a new array; without g (None) it is w·b·(x − mu) + c."""
    if not _applies(xp, x):
        out = _minus(x, mu) * b
        out = _times(out, w) if g is None else out + _times(g * a, w)
        return out if c is None else out + c
    out = np.empty(x.shape, x.dtype)

    def block(start: int, stop: int) -> None:
        o = out[start:stop]
        mu_, a_, b_, c_, w_ = (_rows(small, x.ndim, start, stop) for small in (mu, a, b, c, w))
        if mu is None:
            np.multiply(x[start:stop], b_, out=o)
        else:
            np.subtract(x[start:stop], mu_, out=o)
            np.multiply(o, b_, out=o)
        t = o if g is None else g[start:stop] * a_
        if w is not None:
            np.multiply(t, w_, out=t)
        if g is not None:
            np.add(o, t, out=o)
        if c is not None:
            np.add(o, c_, out=o)
    _blocked(x, block)
    return out


def _minus(x: Array, mu: Array) -> Array:
    return x if mu is None else x - mu


def _times(x: Array, w: Array) -> Array:
    return x if w is None else x * w


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
