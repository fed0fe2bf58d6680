"""Ops over axes: sums, products, extremes and order, truth, and the softmax family.

Axes: None (all), an integer or a tuple, negative allowed; `keepdims` as NumPy. float16 is summed in float32.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from ..core import backend
from ..core.backend import Array, Namespace
from ..core.errors import error
from ..core.primitive import primitive
from ..core.tensor import Value
from ..kernels.half import is_half, widened
from ..kernels.reduce import sum_over
from .broadcasting import _broadcast_to
from .elementwise import as_floating, astype, clone, exp, where
from .shape import Axis, _reshape, _transpose, concatenate, flatten, flip, moveaxis, normalize_axis, one_axis, reshape, squeeze, stack, take_along_axis


def _spread(g: Value, shape: tuple[int, ...], axis: tuple[int, ...], keepdims: bool) -> Value:
    """A reduced array repeated along the axes that were reduced, back to `shape`."""
    if not keepdims and g.ndim:
        g = _reshape(g, shape=tuple(1 if i in axis else n for i, n in enumerate(shape)))
    return _broadcast_to(g, shape=shape)


@lru_cache(maxsize=4096)
def _count(shape: tuple[int, ...], axis: tuple[int, ...]) -> int:
    return math.prod(shape[i] for i in axis)


# -- sums -------------------------------------------------------------------------------------------------------------------


@primitive(a=lambda g, a_shape, axis, keepdims: _spread(g, a_shape, axis, keepdims))
def _sum(xp: Namespace, a: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    if a.dtype == backend.float16:
        return sum_over(xp, a, axis, keepdims, backend.float32).astype(a.dtype)
    return sum_over(xp, a, axis, keepdims)


def sum(a: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """Sum over `axis`."""
    return _sum(a, axis=normalize_axis("sum", axis, a), keepdims=keepdims)


@primitive(a=lambda g, a_shape, axis, keepdims: _spread(g * (1 / (_count(a_shape, axis) or 1)), a_shape, axis, keepdims))
def _mean(xp: Namespace, a: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    if a.dtype == backend.float16:
        return (sum_over(xp, a, axis, keepdims, backend.float32) / _count(a.shape, axis)).astype(a.dtype)
    return sum_over(xp, a, axis, keepdims) / _count(a.shape, axis)


def mean(a: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """Mean over `axis`; of integers a float32. The mean of nothing is NaN, as in NumPy."""
    axes = normalize_axis("mean", axis, a)
    return _mean(as_floating(a), axis=axes, keepdims=keepdims)


def var(a: Value, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Value:
    """Variance over `axis`, Σ(a − mean)² / (n − ddof), in two passes: no cancellation for a large mean."""
    if is_half(a):  # the squares of 256 and of 1/8192 are not in its range
        return astype(var(widened(a), axis, ddof, keepdims), a.dtype)
    centred = a - mean(a, axis, keepdims=True)
    axes = normalize_axis("var", axis, a)
    squares = mean(centred * centred, axes, keepdims)
    n, free = _count(a.shape, axes), _degrees_of_freedom("var", a.shape, axes, ddof)
    return squares * (n / free) if ddof else squares


def _degrees_of_freedom(op: str, shape: tuple[int, ...], axis: tuple[int, ...], ddof: int) -> int:
    n = _count(shape, axis)
    if ddof and n <= ddof:
        raise error(ValueError, op, got=f"{n} elements and ddof={ddof}", needs="more elements than ddof", fix="use ddof=0, or a larger batch")
    return n - ddof


def _along(g: Value, a: Value, out: Any) -> Value:
    """g · a/‖a‖, and 0 where a = 0, in every order. a/‖a‖ is at most 1; g/‖a‖ could overflow."""
    return where(out == 0, 0.0, g) * (a / where(out == 0, 1.0, out))


@primitive(a=_along)
def _norm(xp: Namespace, a: Array, *, axis: tuple[int, ...]) -> Array:
    """√(Σ a²), a not in float16. Very large or small numbers are first divided by the largest, so that their squares stay in range."""
    if not a.size:
        return xp.sqrt(xp.square(a).sum(axis=axis, keepdims=True))
    largest = xp.maximum(a.max(axis=axis, keepdims=True), -a.min(axis=axis, keepdims=True))
    ordinary = (largest > 2.0**-40) & (largest < 2.0**40) | (largest == 0) | ~xp.isfinite(largest)
    if xp is backend.np and ordinary.all():  # to know this of a GPU's numbers would wait for it
        return xp.sqrt(xp.square(a).sum(axis=axis, keepdims=True))
    unit = xp.where(ordinary, 1, largest).astype(a.dtype, copy=False)
    return unit * xp.sqrt(xp.square(a / unit).sum(axis=axis, keepdims=True))


def std(a: Value, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Value:
    """Standard deviation over `axis`. Its derivative is 0 where it is 0 (in second order too), as that of `norm`.

    It is the norm of a − mean, divided by √(n − ddof): right also where the variance leaves the range.
    """
    if is_half(a):
        return astype(std(widened(a), axis, ddof, keepdims), a.dtype)
    centred = a - mean(a, axis, keepdims=True)
    axes = normalize_axis("std", axis, a)
    out = _norm(centred, axis=axes) / math.sqrt(_degrees_of_freedom("std", a.shape, axes, ddof))
    return out if keepdims else squeeze(out, axes)


@primitive(a=lambda g, axis: flip(_cumsum(flip(g, axis), axis=axis), axis))
def _cumsum(xp: Namespace, a: Array, *, axis: int) -> Array:
    if a.dtype == backend.float16:
        return a.cumsum(axis=axis, dtype=backend.float32).astype(a.dtype)
    return a.cumsum(axis=axis)


def cumsum(a: Value, axis: int | None = None) -> Value:
    """Running sum along `axis` (None: of the flattened array)."""
    if axis is None:
        return _cumsum(flatten(a), axis=0)
    return _cumsum(a, axis=one_axis("cumsum", axis, a))


# -- products ---------------------------------------------------------------------------------------------------------------
#
# Composed of multiplications alone: no rule divides by an element, so that zeros are no exception in any order of derivative.


def prod(a: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """Product over `axis`, of one half of the elements times the other until one is left; the product of nothing is 1.

    The derivative in an element is the product of the others, whether some of them are 0 or not.
    """
    if is_half(a):
        return astype(prod(widened(a), axis, keepdims), a.dtype)
    axes = normalize_axis("prod", axis, a)
    a, n = _wide_integers(a), _count(a.shape, axes)
    if not n:
        return sum(a, axes, keepdims) + 1
    rest = tuple(i for i in range(a.ndim) if i not in axes)
    out = _reshape(_transpose(a, axes=(*rest, *axes)), shape=(*(a.shape[i] for i in rest), n))
    if n == 1:
        out = clone(out)
    while n > 1:
        half = n // 2
        halves = out[..., :half] * out[..., half:2 * half]
        out = concatenate([halves, out[..., 2 * half:]], -1) if n % 2 else halves
        n = out.shape[-1]
    return _reshape(out, shape=tuple(1 if i in axes else m for i, m in enumerate(a.shape) if keepdims or i not in axes))


def cumprod(a: Value, axis: int | None = None) -> Value:
    """Running product along `axis` (None: of the flattened array). Zeros are no exception for its derivative, as in `prod`."""
    if axis is None:
        a, axis = flatten(a), 0
    if is_half(a):
        return astype(cumprod(widened(a), axis), a.dtype)
    axis = one_axis("cumprod", axis, a)
    return moveaxis(_running_products(moveaxis(_wide_integers(a), axis, -1)), -1, axis)


def _running_products(a: Value) -> Value:
    """Of the last axis: those of neighbouring pairs are every second result, and one multiplication more gives each of the others."""
    n = a.shape[-1]
    if n < 2:
        return clone(a)
    second = _running_products(a[..., :-1:2] * a[..., 1::2])
    first = concatenate([a[..., :1], second[..., :(n - 1) // 2] * a[..., 2::2]], -1)
    pairs = reshape(stack([first[..., :n // 2], second], -1), (*a.shape[:-1], n - n % 2))
    return concatenate([pairs, first[..., -1:]], -1) if n % 2 else pairs


def _wide_integers(a: Value) -> Value:
    """Integers and booleans in the 64 bits in which NumPy adds and multiplies them; floats as they are."""
    return a if a.dtype.kind == "f" else astype(a, "uint64" if a.dtype.kind == "u" else "int64")


# -- extremes ---------------------------------------------------------------------------------------------------------------


@primitive(a=lambda g, a, out, axis, keepdims: _to_winners(g, a, out, axis, keepdims))
def _max(xp: Namespace, a: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return a.max(axis=axis, keepdims=keepdims)


@primitive(a=lambda g, a, out, axis, keepdims: _to_winners(g, a, out, axis, keepdims))
def _min(xp: Namespace, a: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return a.min(axis=axis, keepdims=keepdims)


def _to_winners(g: Value, a: Value, out: Any, axis: tuple[int, ...], keepdims: bool) -> Value:
    """The gradient goes to the winning elements, in equal shares at a tie. NaN wins, and differs from itself."""
    winners = astype((a == _spread(out, a.shape, axis, keepdims)) | (a != a), g.dtype)
    return _spread(g, a.shape, axis, keepdims) * winners / _sum(winners, axis=axis, keepdims=True)


def max(a: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """Largest element over `axis`. At a tie the winners share the gradient equally."""
    return _max(a, axis=_not_empty("max", a, axis), keepdims=keepdims)


def min(a: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """Smallest element over `axis`. At a tie the winners share the gradient equally."""
    return _min(a, axis=_not_empty("min", a, axis), keepdims=keepdims)


def _not_empty(op: str, a: Value, axis: Axis) -> tuple[int, ...]:
    axes = normalize_axis(op, axis, a)
    if not _count(a.shape, axes):
        raise error(ValueError, op, got=f"shape {tuple(a.shape)} over the axes {axes}", needs="at least one element to choose from",
                    fix="check for an empty batch")
    return axes


@primitive()
def _argmax(xp: Namespace, a: Array, *, axis: int | None) -> Array:
    return a.argmax(axis=axis)


def argmax(a: Value, axis: int | None = None) -> Value:
    """Index of the first largest element along `axis` (None: in the flattened array), an integer constant."""
    _not_empty("argmax", a, axis)
    return _argmax(a, axis=None if axis is None else one_axis("argmax", axis, a))


@primitive()
def _argmin(xp: Namespace, a: Array, *, axis: int | None) -> Array:
    return a.argmin(axis=axis)


def argmin(a: Value, axis: int | None = None) -> Value:
    """Index of the first smallest element along `axis` (None: in the flattened array), an integer constant."""
    _not_empty("argmin", a, axis)
    return _argmin(a, axis=None if axis is None else one_axis("argmin", axis, a))


# -- order ------------------------------------------------------------------------------------------------------------------


@primitive()
def _argsort(xp: Namespace, a: Array, *, axis: int) -> Array:
    return xp.argsort(a, axis=axis, kind="stable")


def argsort(a: Value, axis: int | None = -1) -> Value:
    """The indices that sort `a` along `axis` (None: the flattened array), integer constants: equal elements keep their order, NaN comes last."""
    if axis is None:
        a, axis = flatten(a), 0
    return _argsort(a, axis=one_axis("argsort", axis, a))


def sort(a: Value, axis: int | None = -1) -> Value:
    """`a` in rising order along `axis` (None: the flattened array). The gradient goes where each element came from: see `argsort` for ties."""
    if axis is None:
        a, axis = flatten(a), 0
    return take_along_axis(a, argsort(a, axis), axis)


# -- true or false: constants for the derivative ------------------------------------------------------------------------------


@primitive()
def _any(xp: Namespace, a: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return xp.any(a, axis=axis, keepdims=keepdims)


def any(a: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """Is some element over `axis` true (not 0)? A boolean constant; NaN is true, and of nothing it is false."""
    return _any(a, axis=normalize_axis("any", axis, a), keepdims=keepdims)


@primitive()
def _all(xp: Namespace, a: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return xp.all(a, axis=axis, keepdims=keepdims)


def all(a: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """Is every element over `axis` true (not 0)? A boolean constant; NaN is true, and of nothing it is true."""
    return _all(a, axis=normalize_axis("all", axis, a), keepdims=keepdims)


# -- the softmax family: stable for any finite input ------------------------------------------------------------------------


_MAX = {2: 65504.0, 4: 3.4028234663852886e38, 8: 1.7976931348623157e308}  # the largest finite float, by its bytes


def _largest(xp: Namespace, a: Array, axis: tuple[int, ...]) -> Array:
    """The maximum to subtract before exp; the largest finite number instead of an infinite one."""
    bound = _MAX[a.dtype.itemsize]
    return xp.minimum(xp.maximum(a.max(axis=axis, keepdims=True), -bound), bound)


@primitive()
def _peak(xp: Namespace, a: Array, *, axis: tuple[int, ...]) -> Array:
    """`_largest` as a constant for the derivative: what is subtracted and added again may be any number."""
    return _largest(xp, a, axis)


def _total(xp: Namespace, e: Array, axis: tuple[int, ...]) -> Array:
    """Σ e, of float16 in float32: more than 65504 ones would be infinite."""
    return sum_over(xp, e, axis, True, backend.float32 if e.dtype == backend.float16 else None)


@primitive(a=lambda g, a, axis, keepdims: _spread(g, a.shape, axis, keepdims) * _softmax(a, axis=axis))  # exp(a − out) has the rounding of out
def _logsumexp(xp: Namespace, a: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    m = _largest(xp, a, axis)
    out = (m + xp.log(_total(xp, xp.exp(a - m), axis))).astype(a.dtype, copy=False)
    return out if keepdims else out.reshape(tuple(n for i, n in enumerate(a.shape) if i not in axis))


def logsumexp(a: Value, axis: Axis = None, keepdims: bool = False) -> Value:
    """log Σ eᵃ over `axis`, without overflow."""
    return _logsumexp(as_floating(a), axis=_not_empty("logsumexp", a, axis), keepdims=keepdims)


@primitive(a=lambda g, out, axis: out * (g - _sum(g * out, axis=axis, keepdims=True)))
def _softmax(xp: Namespace, a: Array, *, axis: tuple[int, ...]) -> Array:
    e = xp.exp(a - _largest(xp, a, axis))
    return (e / _total(xp, e, axis)).astype(a.dtype, copy=False)


def softmax(a: Value, axis: Axis = -1) -> Value:
    """eᵃ / Σ eᵃ over `axis` (default: the last)."""
    return _softmax(as_floating(a), axis=_not_empty("softmax", a, axis))


@primitive(a=lambda g, out, axis: g - exp(out) * _sum(g, axis=axis, keepdims=True))
def _log_softmax(xp: Namespace, a: Array, *, axis: tuple[int, ...]) -> Array:
    shifted = a - _largest(xp, a, axis)
    return (shifted - xp.log(_total(xp, xp.exp(shifted), axis))).astype(a.dtype, copy=False)


def log_softmax(a: Value, axis: Axis = -1) -> Value:
    """log softmax over `axis` (default: the last), without taking the log of a small number."""
    return _log_softmax(as_floating(a), axis=_not_empty("log_softmax", a, axis))


__all__ = ["all", "any", "argmax", "argmin", "argsort", "cumprod", "cumsum", "log_softmax", "logsumexp", "max", "mean", "min", "prod", "softmax",
           "sort", "std", "sum", "var"]

