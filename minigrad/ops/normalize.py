"""The patterns that every normalization layer is made of, as ops with rules.

    moments(x, axis)                mean and variance
    paired_sums(g, x, mu, axis)     Σ w·g and Σ w·g·r·(x − mu)
    scale_shift(x, mu, b, c)        w·b·(x − mu) + c
    combine(g, x, mu, a, b, c)      a·w·g + b·(x − mu) + c

A layer's forward ends with a `scale_shift`; its hand-derived backward is a `paired_sums` or two and one `combine`, each of which
reads the large arrays once (see kernels/normalize.py for how). x, g have one shape; all others are small and broadcast to it. None stands for mu = 0,
c = 0, and for a weight w or r of 1. For float16 x (the small ones may be float32) everything is computed in float32: moments and sums
stay float32, and what the last two make is stored as float16. Their derivatives are written with themselves and elementwise ops,
so layers made of them can be differentiated again.
"""

from __future__ import annotations

from typing import Any

from ..core.backend import Array, Namespace
from ..core.errors import describe, error
from ..core.primitive import primitive
from ..core.tensor import Tensor, Value
from ..kernels import normalize
from ..kernels.cuda import rows
from ..kernels.half import is_half, stored, widened
from .broadcasting import sum_to
from .elementwise import as_floating
from .reduce import _count
from .shape import Axis, normalize_axis


def _times(g: Value, w: Value) -> Value:
    return g if w is None else g * w


def _minus(x: Value, mu: Value) -> Value:
    return x if mu is None else x - mu


@primitive(x=lambda g, x, out, axes: scale_shift(x, out[0], g[1] * (2.0 / _some(x, axes)), g[0] * (1.0 / _some(x, axes))))
def _moments(xp: Namespace, x: Array, *, axes: tuple[int, ...]) -> tuple[Array, Array]:
    return normalize.moments(xp, x, axes)


def _some(x: Value, axes: tuple[int, ...]) -> int:
    """How many elements each mean is of; 1 where there are none, and so no gradients either."""
    return _count(x.shape, axes) or 1


def moments(x: Value, axis: Axis) -> tuple[Value, Value]:
    """Mean and biased variance of `x` over `axis`, each with the reduced axes kept as size 1; of integers and float16 in float32.

    Those of nothing are NaN, as in NumPy. The variance never subtracts two large squares, so it is right for any mean.
    Derivative: (g_mean + 2 g_var (x − mean)) / m; the mean's own effect on the variance, −2 Σ(x − mean)/m, is zero.
    """
    return _moments(as_floating(widened(x)), axes=normalize_axis("moments", axis, x))


@primitive(g=lambda u, x, mu, w, r: _times(scale_shift(x, mu, u[1], u[0], r), w),
           x=lambda u, g, w, r: _times(_times(g, w) * u[1], r),
           mu=lambda u, g, w, r, mu_shape: sum_to(-_times(_times(g, w) * u[1], r), mu_shape),
           w=lambda u, g, x, mu, r, w_shape: sum_to(g * scale_shift(x, mu, u[1], u[0], r), w_shape),
           r=lambda u, g, x, mu, w, r_shape: sum_to(_times(g, w) * u[1] * _minus(x, mu), r_shape))
def _paired_sums(xp: Namespace, g: Array, x: Array, mu: Array, w: Array, r: Array, *, axes: tuple[int, ...], first: Any) -> tuple[Array, Array]:
    return normalize.paired_sums(xp, g, x, mu, w, r, axes, first)


def paired_sums(g: Value, x: Value, mu: Value, axis: Axis, w: Value = None, r: Value = None, *, first: Any = None) -> tuple[Value, Value]:
    """Σ h and Σ h·x̂ over `axis`, with h = w·g and x̂ = r·(x − mu); the reduced axes are kept as size 1. Of float16 in float32.

    ``first(g, x) -> (g, x)``, made of elementwise ops, is applied before: for Tensors on the tape, for arrays block by
    block, so that its results never reach memory.
    """
    if is_half(x):
        g, x, mu, w, r = map(widened, (g, x, mu, w, r))
    g, x, first = _on_tape("paired_sums", g, x, first)
    return _paired_sums(g, x, mu, w, r, axes=normalize_axis("paired_sums", axis, x), first=first)


def _on_tape(op: str, g: Value, x: Value, first: Any) -> tuple[Any, Any, Any]:
    g, x = as_floating(g), as_floating(x)
    if getattr(g, "shape", None) != getattr(x, "shape", None):
        raise error(ValueError, op, got=f"g: {describe(g)}, x: {describe(x)}", needs="one shape: only the others broadcast", fix="broadcast_to(g, x.shape)")
    return (*first(g, x), None) if first is not None and (isinstance(g, Tensor) or isinstance(x, Tensor)) else (g, x, first)


@primitive(x=lambda h, b, w: _times(h * b, w),
           mu=lambda h, b, w, mu_shape: sum_to(-_times(h * b, w), mu_shape),
           b=lambda h, x, mu, w, b_shape: sum_to(_times(h * _minus(x, mu), w), b_shape),
           c=lambda h, c_shape: sum_to(h, c_shape),
           w=lambda h, x, mu, b, w_shape: sum_to(h * b * _minus(x, mu), w_shape))
def _scale_shift(xp: Namespace, x: Array, mu: Array, b: Array, c: Array, w: Array) -> Array:
    return normalize.combine(xp, None, x, normalize.Coefficients(b, mu, c, None, w))


@primitive(g=lambda h, a, w: _times(h * a, w),
           x=lambda h, b: h * b,
           mu=lambda h, b, mu_shape: sum_to(-(h * b), mu_shape),
           a=lambda h, g, w, a_shape: sum_to(_times(h * g, w), a_shape),
           b=lambda h, x, mu, b_shape: sum_to(h * _minus(x, mu), b_shape),
           c=lambda h, c_shape: sum_to(h, c_shape),
           w=lambda h, g, a, w_shape: sum_to(h * g * a, w_shape))
def _combine(xp: Namespace, g: Array, x: Array, mu: Array, a: Array, b: Array, c: Array, w: Array, *, first: Any) -> Array:
    return normalize.combine(xp, g, x, normalize.Coefficients(b, mu, c, a, w), first=first)


def scale_shift(x: Value, mu: Value, b: Value, c: Value = None, w: Value = None) -> Value:
    """w·b·(x − mu) + c in one pass over x: a normalizer's forward."""
    if is_half(x):
        return stored(scale_shift(*map(widened, (x, mu, b, c, w))))
    return _scale_shift(as_floating(x), mu, b, c, w)


def combine(g: Value, x: Value, mu: Value, a: Value, b: Value, c: Value = None, w: Value = None, *, first: Any = None) -> Value:
    """a·w·g + b·(x − mu) + c in one pass over g and x: dx of a normalizer. With g = None it is `scale_shift`, and `a` is not asked.

    `first` as in `paired_sums`; it needs g.
    """
    if g is None:
        return scale_shift(x, mu, b, c, w)
    if is_half(x):
        return stored(combine(*map(widened, (g, x, mu, a, b, c, w)), first=first))
    g, x, first = _on_tape("combine", g, x, first)
    return _combine(g, x, mu, a, b, c, w, first=first)


def _following(x: Array, parameter: Array | None) -> Array | None:
    """Integers beside x, in its dtype."""
    return parameter if parameter is None or parameter.dtype.kind == "f" else parameter.astype(x.dtype)


class FusedRows:
    """Layer norm (`centred`) and RMS norm in one kernel per direction, on CuPy, for `by_hand(fused=)`; elsewhere it does not apply.

    Their formulas are in the layers' own files; this is the same with x read once forward, and g and x once backward.
    """

    def __init__(self, *, centred: bool) -> None:
        self.centred = centred

    def forward(self, xp: Namespace, x: Array, gamma: Array, beta: Array | None = None, *, eps: float) -> tuple[Array, tuple[Array, ...]] | None:
        """y and the rows' statistics: mean and variance, or the mean square alone."""
        if gamma is None or (beta is None) is self.centred:
            return None  # a parameter is missing: the layer's own function says which
        gamma, beta = _following(x, gamma), _following(x, beta)
        found = rows.forward(xp, x, gamma, beta, eps, self.centred)
        return None if found is None else (found[0], found[1:] if self.centred else found[2:])

    def backward(self, xp: Namespace, g: Array, saved: tuple[Array, ...], x: Array, gamma: Array, *, eps: float) -> tuple[Array, ...] | None:
        """dx, dγ and, if `centred`, dβ."""
        mean, variance = saved if self.centred else (None, *saved)
        found = rows.backward(xp, g, x, _following(x, gamma), mean, variance, eps, self.centred)
        return None if found is None else found if self.centred else found[:2]


__all__ = ["FusedRows", "combine", "moments", "paired_sums", "scale_shift"]
