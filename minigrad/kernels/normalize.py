"""The hot patterns of every normalizer as plain functions on arrays: two reductions, and one fused combination.

    moments      mean and variance over some axes
    paired_sums  Σ w·g  and  Σ w·g·r·(x − mu)  over some axes
    combine      a·w·g + b·(x − mu) + c,  or without g  w·b·(x − mu) + c     (`Coefficients` names a, b, c, mu, w)

x, g are large and of one shape. The others are small and broadcast to it; None stands for mu = 0, w = 1, r = 1, c = 0.
Subtracting mu first, rather than multiplying out, is what keeps float32 right when the mean is large. On NumPy all three
walk over the first axis in blocks that stay in the cache, so that large arrays are read once and temporaries never reach
memory, and share the blocks between threads. On CuPy they are CUDA kernels (see cuda/). Elsewhere, for small arrays, and where
the kernels do not apply, they are the same formulas on whole arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from itertools import takewhile
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .cuda import normalize as cuda
from .reduce import sum_over
from .threads import share

Array = Any
Axes = tuple[int, ...]
Undo = Callable[[Array, Array], tuple[Array, Array]]

_BLOCK_BYTES = 1 << 19  # of one large array: small for the cache, large beside what a call of NumPy costs
_THREAD_BYTES = 1 << 19  # below this a second thread costs more than it brings
_SMALL_BYTES = 1 << 16  # up to here a handful of calls of NumPy is faster than the way through blocks
_NEAR = 4.0  # standard deviations: to subtract a mean that is nearer to 0 only in the end costs 2 bits at most
_LONG = 512  # elements: from here on an inner loop is worth starting


def _rows(small: Any, ndim: int, start: int, stop: int) -> Any:
    """What of a small array (a number, None) meets the rows start to stop of a large one with `ndim` axes."""
    return small[start:stop] if getattr(small, "ndim", 0) == ndim and small.shape[0] > 1 else small


def _varies(small: Any, ndim: int) -> tuple[bool, ...]:
    """Along which of `ndim` axes a small array changes."""
    return _changes(getattr(small, "shape", ()), ndim)


def _varies_along(axes: Axes, small: Any, ndim: int) -> bool:
    varies = _varies(small, ndim)
    return any([varies[i] for i in axes])


@lru_cache
def _changes(shape: Axes, ndim: int) -> tuple[bool, ...]:
    return tuple(n != 1 for n in (1,) * (ndim - len(shape)) + shape)


def _blocked(x: Array, work: Callable[[int, int, Array], Any], spare: int = 1, add: bool = False, backwards: bool = False) -> list[Any]:
    """work(start, stop, spare) for blocks of rows of x, shared between threads, results in order.

    `spare` is that many arrays of a block's shape to compute in: new ones for every block would cost as much as the
    arithmetic. With `add` each thread adds the arrays of all its blocks as it goes, and there is one result per thread.
    `backwards` starts with the last block: after a pass over the same arrays, that is the
    one which the cache still holds.
    """
    n = x.shape[0]
    row = max(1, x.nbytes // n)

    def several(start: int, stop: int) -> list[Any]:
        results: list[Any] = []
        size = _BLOCK_BYTES * (1 if spare else 2)
        size *= 1 if stop - start == n else 4  # threads pass Python's lock on between two calls
        step = max(1, min(size // row, n))
        buffers = np.empty((spare, min(step, stop - start), *x.shape[1:]), x.dtype)
        starts = range(start, stop, step)
        for i in reversed(starts) if backwards else starts:
            result = work(i, min(i + step, stop), buffers[:, :stop - i])
            if add and results:
                for total, part in zip(results[0], result):
                    np.add(total, part, out=total)
            else:
                results.append(result)
        return results
    return [r for part in share(several, n, max(1, _THREAD_BYTES // row)) for r in part]


class _direct:
    """Inside, NumPy applies small arrays to large ones directly, where that means long inner loops.

    Its default is to copy what broadcasts through a buffer of 8,192 elements, unless the buffer is shorter than the inner
    loop: without the copies an operation takes half the time.
    """

    def __init__(self, x: Array, *small: Any) -> None:
        self.long = _inner_loop(x.shape, tuple(_varies(s, x.ndim) for s in small)) >= _LONG
        self.before = np.getbufsize()

    def __enter__(self) -> None:  # each thread has its own buffer size
        if self.long:
            np.setbufsize(16)

    def __exit__(self, *_: object) -> None:
        if self.long:
            np.setbufsize(self.before)


@lru_cache
def _inner_loop(shape: Axes, small: tuple[tuple[bool, ...], ...]) -> int:
    """Elements in a row of an array of this shape over which the small ones either change all the time or never."""
    varies = list(zip(*small))[::-1]
    return prod(n for n, _ in zip(shape[::-1], takewhile(lambda v: v == varies[0], varies)))


def _applies(xp: Any, x: Array) -> bool:
    return xp is np and x.ndim > 1 and x.size > 0


def moments(xp: Any, x: Array, axes: Axes) -> tuple[Array, Array]:
    """Mean and biased variance of x over `axes` (kept as size 1), stable for any mean.

    A block with μ_b² within 3 times its variance has Σ(x − μ_b)² = Σx² − n_b μ_b², which costs 2 bits at most. Any other
    block is centred on μ_b, whose rounding error δ = mean(x − μ_b) is then corrected. Blocks are merged by Chan, Golub and
    LeVeque's update, var = Σ_blocks (n_b/n) [var_b + (μ_b − μ)²]. So x is read once.
    Rounding never makes the variance negative, and the mean of equal numbers is that number. In float32 the squares of a block
    must not overflow: n_b σ² < 3·10³⁸, so a deviation σ of 10¹⁶ is safe, and 10¹⁸ for means of up to 300 elements (10¹⁹ is the
    largest mean that the CUDA kernels take).
    """
    if not _applies(xp, x) or x.nbytes <= _SMALL_BYTES:
        found = None if xp is np else cuda.moments(xp, x, axes)
        if found is not None:
            return found
        count = prod(x.shape[i] for i in axes)
        mu = sum_over(xp, x, axes, True) / count
        centred = x - mu
        delta = sum_over(xp, centred, axes, True) / count
        centred = centred - delta
        return mu + delta, sum_over(xp, centred * centred, axes, True) / count
    rest = prod(x.shape[i] for i in axes if i != 0)
    plain, products = _sums(x.shape, axes)
    direct = _direct(x, x[tuple(slice(0, 1 if i in axes else None) for i in range(x.ndim))])

    def block(start: int, stop: int, spare: Array) -> tuple[Array, Array, int]:
        part = x[start:stop]
        count = rest * (stop - start if 0 in axes else 1)
        mu = plain(part) / count
        mean_square = products(part, part, spare[0]) / count
        if np.all((4 * np.square(mu) <= 3 * mean_square) & (mean_square < np.inf)):
            return mu, mean_square - np.square(mu), count
        with direct:
            t = np.subtract(part, mu, out=spare[0])
        delta = plain(t) / count
        return mu + delta, np.maximum(products(t, t, t) / count - np.square(delta), 0), count
    parts = _blocked(x, block)
    if 0 not in axes:
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    total = sum(p[2] for p in parts)
    mu = parts[0][0] + sum((p[0] - parts[0][0]) * (p[2] / total) for p in parts)
    var = sum((p[1] + np.square(p[0] - mu)) * (p[2] / total) for p in parts)
    return mu.astype(x.dtype, copy=False), var.astype(x.dtype, copy=False)


def paired_sums(xp: Any, g: Array, x: Array, mu: Array, w: Array, r: Array, axes: Axes, first: Undo | None = None) -> tuple[Array, Array]:
    """Σ w·g and Σ w·g·r·(x − mu) over `axes` (kept as size 1), of ``first(g, x)`` if that is given.

    A mu that is one number for each sum, and near 0 beside what x deviates from it, is subtracted from the sums
    and not from x.
    """
    if r is not None and not _varies_along(axes, r, x.ndim):  # a factor of the sum
        s, t = paired_sums(xp, g, x, mu, w, None, axes, first)
        return s, t * r
    if not _applies(xp, x):
        g, x = (g, x) if first is None else first(g, x)
        found = None if xp is np else cuda.paired_sums(xp, g, x, mu, w, r, axes)
        if found is not None:
            return found
        h = _times(g, w)
        return sum_over(xp, h, axes, True), sum_over(xp, h * _times(_minus(x, mu), r), axes, True)

    plain, products = _sums(x.shape, axes)
    if x.nbytes <= _SMALL_BYTES:
        g, x = (g, x) if first is None else first(g, x)
        h = _times(g, w)
        return plain(h), products(h, _times(_minus(x, mu), r), None)
    direct = _direct(x, mu, w, r)
    after = mu is not None and r is None and w is None and first is None and _is_near(mu, mu, x, axes)

    def block(start: int, stop: int, spare: Any) -> tuple[Array, Array]:
        h, t = _part(g, x, start, stop, first)
        mu_, w_, r_ = (_rows(small, x.ndim, start, stop) for small in (mu, w, r))
        with direct:
            h = h if w is None else np.multiply(h, w_, out=spare[0])
            if after:
                total = plain(h)
                return total, products(h, t, None) - mu_ * total
            t = t if mu is None else np.subtract(t, mu_, out=spare[1])
            t = t if r is None else np.multiply(t, r_, out=spare[1])
        return plain(h), products(h, t, spare[1])
    parts = _blocked(x, block, spare=0 if after else 2, add=0 in axes)
    together = sum if 0 in axes else np.concatenate
    return together([p[0] for p in parts]), together([p[1] for p in parts])


class Coefficients(NamedTuple):
    """Those of ``a·w·g + b·(x − mu) + c``, or where there is no g of ``w·b·(x − mu) + c``: small arrays that broadcast to x."""

    b: Array  # times x
    mu: Array = None  # subtracted from x first; None for 0
    c: Array = None  # added; None for 0
    a: Array = None  # times g; None where there is no g
    w: Array = None  # times g too, or where there is no g times x; None for 1


def combine(xp: Any, g: Array, x: Array, by: Coefficients, *, first: Undo | None = None, then: Callable[[Array], Any] | None = None,
            out: Array | None = None) -> Array:
    """a·w·g + b·(x − mu) + c as a new array; without g (None) it is w·b·(x − mu) + c.

    It is written into `out`, if given, which may be x itself. `first` takes g and x to those that are meant, and `then`
    changes the result in place: both block by block, in cache.
    """
    if not _applies(xp, x) or x.nbytes <= _SMALL_BYTES:
        g, x = (g, x) if first is None else first(g, x)
        result = None if xp is np else cuda.combine(xp, g, x, by, out)
        if result is None:
            result = _minus(x, by.mu) * by.b
            result = _times(result, by.w) if g is None else result + _times(g, by.w) * by.a
            result = result if by.c is None else result + by.c
            if out is not None:
                out[...] = result
                result = out
        if then is not None:
            then(result)
        return result
    result = np.empty(x.shape, x.dtype) if out is None else out
    by, last = _shorter(g, x, by)
    direct = _direct(x, *by)

    def block(start: int, stop: int, spare: Array) -> None:
        o = result[start:stop]
        here = Coefficients(*(_rows(small, x.ndim, start, stop) for small in by))
        h, t = _part(g, x, start, stop, first)
        with direct:
            t = t if by.mu is None else np.subtract(t, here.mu, out=o)
            np.multiply(t, here.b, out=o)
            if last:
                np.multiply(np.add(o, h, out=o), here.a, out=o)
            elif g is not None:
                h = h if by.w is None else np.multiply(h, here.w, out=spare[0])
                np.add(o, np.multiply(h, here.a, out=spare[0]), out=o)
            elif by.w is not None:
                np.multiply(o, here.w, out=o)
            if by.c is not None:
                np.add(o, here.c, out=o)
        if then is not None:
            then(o)
    _blocked(x, block, spare=0 if first is None and (g is None or last) else 1, backwards=True)
    return result


def _shorter(g: Array, x: Array, by: Coefficients) -> tuple[Coefficients, bool]:
    """Coefficients and "multiply by a last" with which a·g + b·(x − mu) + c takes as few passes as it can:

    b·(x − (mu − c/b)) and a·(g + (b/a)·(x − mu)), where every quotient is finite. The first is rounded by up to 3 units of
    b·mu and of c in place of one, so mu must be near 0 beside what x deviates from it, and without g c/b as well.
    """
    last = False
    with np.errstate(all="ignore"):
        if by.c is not None and by.w is None and by.mu is not None:
            shift = by.c / by.b
            near = by.mu if g is not None else np.maximum(abs(by.mu), abs(shift))
            fixed = tuple(i for i, varies in enumerate(_varies(by.mu, x.ndim)) if not varies)
            if np.isfinite(shift).all() and _is_near(near, by.mu, x, fixed):
                by = by._replace(mu=by.mu - shift, c=None)
        if g is not None and by.w is None and by.c is None:
            ratio = by.b / by.a
            if np.isfinite(ratio).all():
                by, last = by._replace(b=ratio), True
    return by, last


def _is_near(near: Array, mu: Array, x: Array, axes: Axes) -> bool:
    """Whether `near` is within 4 root mean squares of x − mu over `axes`, where mu is one number, judged by a sample of x."""
    if _varies_along(axes, mu, x.ndim):
        return False
    sample = x[_sparsely(x.shape, axes)] - mu
    count = prod(sample.shape[i] for i in axes)
    return bool((np.square(near / _NEAR) * count <= np.add.reduce(np.square(sample), axis=axes, keepdims=True)).all())


@lru_cache
def _sparsely(shape: Axes, axes: Axes) -> tuple[slice, ...]:
    """One of up to 256 elements, and at least 32 where there are so many, over `axes`."""
    sparse = max(1, min(256, prod(shape[i] for i in axes) // 32))
    steps = [1] * len(shape)
    for i in axes:
        steps[i] = min(shape[i], sparse // prod(steps))
    return tuple(slice(step // 2, None, step) for step in steps)


def _part(g: Array, x: Array, start: int, stop: int, first: Undo | None) -> tuple[Array, Array]:
    h, t = None if g is None else g[start:stop], x[start:stop]
    return (h, t) if first is None else first(h, t)


def _minus(x: Array, mu: Array) -> Array:
    return x if mu is None else x - mu


def _times(x: Array, w: Array) -> Array:
    return x if w is None else x * w


# -- sums inside a block ------------------------------------------------------------------------------------------------


@lru_cache
def _sums(shape: Axes, axes: Axes) -> tuple[Callable[[Array], Array], Callable[[Array, Array, Array], Array]]:
    """Functions of blocks of rows of an array of this shape: a -> Σ a, and (a, b, spare) -> Σ a·b, over `axes`.

    They are dot products along the last axes where these are summed; elsewhere `spare` takes the elements of a·b.
    """
    lead = len(shape)
    while lead > 1 and lead - 1 in axes:
        lead -= 1
    n = prod(shape[lead:])
    runs = (-1, *shape[1:lead], n)
    outer = tuple(i for i in axes if i < lead)
    kept = (1 if 0 in axes else -1, *(1 if i in axes else size for i, size in enumerate(shape[1:], 1)))

    def dots(a: Array, b: Array) -> Array:
        products = np.vecdot(a, b)
        return (sum_over(np, products, outer) if outer else products).reshape(kept)

    def plain(a: Array) -> Array:
        if n == 1 or n > _LONGEST or not a.flags.c_contiguous:
            return sum_over(np, a, axes, True)
        return dots(a.reshape(runs), _ones(a.dtype)[:n])

    def products(a: Array, b: Array, spare: Array) -> Array:
        if n == 1 or not (a.flags.c_contiguous and b.flags.c_contiguous):
            return sum_over(np, np.multiply(a, b, out=spare), axes, True)
        return dots(a.reshape(runs), b.reshape(runs))
    return plain, products


_LONGEST = 1 << 16  # elements in a sum that is a dot product with ones: three times as fast as NumPy's


@cache
def _ones(dtype: Any) -> Array:
    return np.ones(_LONGEST, dtype)
