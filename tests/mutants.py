"""Wrong derivative rules, each one small mistake away from the right one: the sign, a factor, an axis, a lost term ...

A check that accepts one of them is a bug in the check: test_mutants.py shows that none is accepted. `replaced_rule` is
how a rule is exchanged; it also serves whoever wants to see what a check says about their own mistake.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import pi, prod
from typing import Any, NamedTuple

from minigrad.core.by_hand import ByHand
from minigrad.core.plan import Primitive
from minigrad.core.tensor import Tensor
from minigrad.ops.broadcasting import broadcast_to, sum_to
from minigrad.ops.einsum import _contract, _turned
from minigrad.ops.elementwise import (
    _share,
    _slope_in_base,
    _slope_in_exponent,
    abs,
    cos,
    erf,
    exp,
    power,
    power_tensor,
    sigmoid,
    sign,
    sin,
    tanh,
    where,
)
from minigrad.ops.linalg import (
    _cofactor,
    _cofactor_slope,
    _column,
    _diagonal,
    _eigh,
    _inv,
    _lyapunov,
    _matmul,
    _put_on_diagonal,
    _row,
    _solve,
    _sym,
    _t,
    _tril,
    _triu,
)
from minigrad.ops.losses import _one_hot
from minigrad.ops.neural import (
    _avg_pool2d,
    _avg_unpool,
    _conv2d,
    _conv2d_input,
    _conv2d_weight,
    _part_means,
    _part_means_input,
    _unpool,
    _winners,
)
from minigrad.ops.normalize import _minus, _times, combine
from minigrad.ops.reduce import _count, _cumsum, _max, _min, _spread, _sum, _to_winners, flip
from minigrad.ops.shape import (
    _concatenate,
    _filled,
    _gather,
    _getitem,
    _pieces,
    _put,
    _put_along_axis,
    _reshape,
    _roll,
    _scatter_add,
    _take_along_axis,
    _transpose,
    expand_dims,
)

_INFINITY = float("inf")
_COUNTED: dict[str, Any] = {"count_include_pad": True, "ceil_mode": False, "divisor": None}


@contextmanager
def replaced_rule(primitive: Primitive, name: str, rule: Callable[..., Any]) -> Iterator[None]:
    """Inside, `rule` computes the gradient of the input called `name`, or the whole "backward" of a by-hand op."""
    before = dict(vars(primitive), rules=dict(primitive.rules))
    if isinstance(primitive, ByHand):
        assert name == "backward"
        primitive.use(rule)
    else:
        primitive.rules[name] = rule
    primitive.plans.clear()
    try:
        yield
    finally:
        primitive.rules.update(before.pop("rules"))
        vars(primitive).update(before)
        primitive.plans.clear()


class Mutant(NamedTuple):
    """A wrong rule for one input of one op, or for all of them ("backward" of a by-hand op)."""

    op: str
    input: str
    mistake: str
    rule: Callable[..., Any]


def _every_axis(a):
    return tuple(range(a.ndim))


_ELEMENTWISE = [
    ("add", "a", "factor 2", lambda g: 2.0 * g),
    ("add", "b", "sign", lambda g: -g),
    ("subtract", "a", "sign", lambda g: -g),
    ("subtract", "b", "lost sign", lambda g: g),
    ("multiply", "a", "wrong operand", lambda g, a: g * a),
    ("multiply", "b", "wrong operand", lambda g, b: g * b),
    ("multiply", "a", "lost factor", lambda g: g),
    ("divide", "a", "times for divided by", lambda g, b: g * b),
    ("erf", "a", "half the factor", lambda g, a: g * exp(-(a * a)) / pi**0.5),
    ("erf", "a", "half the exponent", lambda g, a: g * (2 / pi**0.5) * exp(-0.5 * (a * a))),
    ("gelu", "a", "the density is missing", lambda g, a: g * (0.5 * (1.0 + erf(0.5**0.5 * a)))),
    ("gelu", "a", "sign of a term", lambda g, a: g * (0.5 * (1.0 + erf(0.5**0.5 * a)) - a * exp(-0.5 * (a * a)) / (2 * pi) ** 0.5)),
    ("divide", "b", "sign", lambda g, b, out: g * out / b),
    ("divide", "b", "lost division", lambda g, out: -g * out),
    ("divide", "b", "kept a for out", lambda g, a, b: -g * a / b),
    ("negative", "a", "lost sign", lambda g: g),
    ("identity", "a", "factor 2", lambda g: g + g),
    ("clone", "a", "factor 2", lambda g: g + g),
    ("power_number", "a", "exponent not lowered", lambda g, a, exponent: g * (exponent * power(a, exponent))),
    ("power_number", "a", "lost factor", lambda g, a, exponent: g * power(a, exponent - 1)),
    ("power_number", "a", "factor off by one", lambda g, a, exponent: g * ((exponent - 1) * power(a, exponent - 1))),
    ("power_tensor", "a", "lost factor", lambda g, a, b: g * power_tensor(a, b - 1.0)),
    ("power_tensor", "a", "exponent not lowered", lambda g, a, b: g * b * power_tensor(a, b)),
    ("power_tensor", "b", "lost logarithm", lambda g, out: g * out),
    ("power_tensor", "a", "flat wherever b is 0: no mixed derivative", lambda g, a, b: g * where(b == 0, 0.0, _slope_in_base(a, b))),
    ("power_tensor", "b", "wrong operand", lambda g, b, out: g * _slope_in_exponent(b, out)),
    ("square", "a", "lost factor 2", lambda g, a: g * a),
    ("square", "a", "kept out for a", lambda g, out: g * (2.0 * out)),
    ("exp", "a", "kept a for out", lambda g, a: g * a),
    ("exp", "a", "lost factor", lambda g: g),
    ("log", "a", "kept out for a", lambda g, out: g / out),
    ("log", "a", "times for divided by", lambda g, a: g * a),
    ("sqrt", "a", "lost factor 1/2", lambda g, out: g / out),
    ("sqrt", "a", "kept a for out", lambda g, a: g / (2.0 * a)),
    ("abs", "a", "lost sign", lambda g: g),
    ("abs", "a", "a for its sign", lambda g, a: g * a),
    ("tanh", "a", "lost square", lambda g, out: g * (1.0 - out)),
    ("tanh", "a", "sign of a term", lambda g, out: g * (1.0 + out * out)),
    ("tanh", "a", "kept a for out", lambda g, a: g * (1.0 - a * a)),
    ("sigmoid", "a", "lost term", lambda g, out: g * out),
    ("sigmoid", "a", "tanh's rule", lambda g, out: g * (1.0 - out * out)),
    ("relu", "a", "lost mask", lambda g: g),
    ("relu", "a", "mask turned round", lambda g, out: g * (out <= 0)),
    ("gate", "g", "lost slope", lambda h, y: where(y > 0, h, 0.0)),
    ("gate", "g", "gate turned round", lambda h, y, slope: where(y > 0, h * slope, h)),
    ("leaky_relu", "a", "branches exchanged", lambda g, out, slope: where(out > 0, g * slope, g)),
    ("leaky_relu", "a", "lost slope", lambda g, out: where(out > 0, g, 0.0)),
    ("elu", "a", "lost term", lambda g, out: where(out > 0, g, g * out)),
    ("elu", "a", "alpha taken for 1", lambda g, out: where(out > 0, g, g * (out + 1.0))),
    ("softplus", "a", "tanh for sigmoid", lambda g, a: g * tanh(a)),
    ("softplus", "a", "kept out for a", lambda g, out: g * sigmoid(out)),
    ("sin", "a", "sin for cos", lambda g, a: g * sin(a)),
    ("sin", "a", "sign", lambda g, a: -g * cos(a)),
    ("cos", "a", "lost sign", lambda g, a: g * sin(a)),
    ("log1p", "a", "lost 1", lambda g, a: g / a),
    ("expm1", "a", "lost 1", lambda g, out: g * out),
    ("maximum", "a", "the loser wins", lambda g, a, b: _share(g, a, b, b > a)),
    ("maximum", "b", "both win", lambda g: g),
    ("minimum", "a", "the loser wins", lambda g, a, b: _share(g, a, b, a > b)),
    ("minimum", "b", "half for all", lambda g: g * 0.5),
    ("where", "a", "condition turned round", lambda g, cond: where(cond, 0.0, g)),
    ("where", "b", "lost condition", lambda g: g),
    ("clip", "a", "lost bounds", lambda g: g),
    ("clip", "a", "lost upper bound", lambda g, a, low: g * (a >= (-_INFINITY if low is None else low))),
    ("astype", "a", "dtype not put back", lambda g: g),
    ("broadcast_to", "a", "mean for sum", lambda g, a_shape: sum_to(g, a_shape) * (prod(a_shape) / g.size)),
    ("broadcast_to", "a", "lost sum", lambda g: g),
    ("sum_to", "a", "mean for sum", lambda g, a_shape: broadcast_to(g, a_shape) * (g.size / prod(a_shape))),
]
_REDUCTIONS = [
    ("sum", "a", "mean for sum", lambda g, a_shape, axis, keepdims: _spread(g / _count(a_shape, axis), a_shape, axis, keepdims)),
    ("sum", "a", "axes not put back", lambda g, a_shape, axis: _spread(g, a_shape, axis, True)),
    ("sum", "a", "sign", lambda g, a_shape, axis, keepdims: _spread(-g, a_shape, axis, keepdims)),
    ("mean", "a", "sum for mean", lambda g, a_shape, axis, keepdims: _spread(g, a_shape, axis, keepdims)),
    ("mean", "a", "divided by all sizes", lambda g, a_shape, axis, keepdims: _spread(g / prod(a_shape), a_shape, axis, keepdims)),
    ("mean", "a", "n − 1 for n", lambda g, a_shape, axis, keepdims: _spread(g / (_count(a_shape, axis) - 1 or 1), a_shape, axis, keepdims)),
    ("cumsum", "a", "not reversed", lambda g, axis: _cumsum(g, axis=axis)),
    ("cumsum", "a", "reversed once", lambda g, axis: _cumsum(flip(g, axis), axis=axis)),
    ("cumsum", "a", "axis 0", lambda g: flip(_cumsum(flip(g, 0), axis=0), 0)),
    ("max", "a", "shared by all", lambda g, a_shape, axis, keepdims: _spread(g / _count(a_shape, axis), a_shape, axis, keepdims)),
    ("max", "a", "the smallest wins", lambda g, a, axis, keepdims: _to_winners(g, a, _min(a, axis=axis, keepdims=keepdims), axis, keepdims)),
    ("min", "a", "all win", lambda g, a_shape, axis, keepdims: _spread(g, a_shape, axis, keepdims)),
    ("logsumexp", "a", "lost normalization", lambda g, a, axis, keepdims: _spread(g, a.shape, axis, keepdims) * exp(a)),
    ("logsumexp", "a", "log of the softmax", lambda g, a, out, axis, keepdims:
        _spread(g, a.shape, axis, keepdims) * (a - _spread(out, a.shape, axis, keepdims))),
    ("logsumexp", "a", "max's rule", lambda g, a, axis, keepdims: _to_winners(g, a, _max(a, axis=axis, keepdims=keepdims), axis, keepdims)),
    ("softmax", "a", "lost term", lambda g, out: out * g),
    ("softmax", "a", "sign of a term", lambda g, out, axis: out * (g + _sum(g * out, axis=axis, keepdims=True))),
    ("softmax", "a", "lost factor", lambda g, out, axis: g - _sum(g * out, axis=axis, keepdims=True)),
    ("softmax", "a", "lost weights in the sum", lambda g, out, axis: out * (g - _sum(g, axis=axis, keepdims=True))),
    ("softmax", "a", "sum over every axis", lambda g, out: out * (g - _sum(g * out, axis=_every_axis(g), keepdims=True))),
    ("log_softmax", "a", "lost exp", lambda g, out, axis: g - out * _sum(g, axis=axis, keepdims=True)),
    ("log_softmax", "a", "lost sum", lambda g, out: g - exp(out) * g),
    ("log_softmax", "a", "lost term", lambda g: g),
    ("moments", "x", "lost mean", lambda g, x, out, axes: combine(None, x, out[0], None, g[1] * (2 / _count(x.shape, axes)), None)),
    ("moments", "x", "lost factor 2", lambda g, x, out, axes:
        combine(None, x, out[0], None, g[1] * (1 / _count(x.shape, axes)), g[0] * (1 / _count(x.shape, axes)))),
    ("moments", "x", "not centred", lambda g, x, axes:
        combine(None, x, g[0] * 0.0, None, g[1] * (2 / _count(x.shape, axes)), g[0] * (1 / _count(x.shape, axes)))),
    ("moments", "x", "n − 1 for n", lambda g, x, out, axes:
        combine(None, x, out[0], None, g[1] * (2 / (_count(x.shape, axes) - 1)), g[0] * (1 / _count(x.shape, axes)))),
    ("paired_sums", "g", "lost weight", lambda u, x, mu: combine(None, x, mu, None, u[1], u[0])),
    ("paired_sums", "g", "lost first sum", lambda u, x, mu, w: _times(combine(None, x, mu, None, u[1], None), w)),
    ("paired_sums", "x", "wrong sum", lambda u, g, w: _times(g, w) * u[0]),
    ("paired_sums", "mu", "lost sign", lambda u, g, w, mu_shape: sum_to(_times(g, w) * u[1], mu_shape)),
    ("paired_sums", "w", "lost g", lambda u, x, mu, w_shape: sum_to(combine(None, x, mu, None, u[1], u[0]), w_shape)),
    ("combine", "g", "lost weight", lambda h, a: h * a),
    ("combine", "x", "a for b", lambda h, a, g_shape: broadcast_to(h * a, g_shape)),
    ("combine", "mu", "lost sign", lambda h, b, mu_shape: sum_to(h * b, mu_shape)),
    ("combine", "a", "lost weight", lambda h, g, a_shape: sum_to(h * g, a_shape)),
    ("combine", "b", "not centred", lambda h, x, b_shape: sum_to(h * x, b_shape)),
    ("combine", "c", "mean for sum", lambda h, c_shape: sum_to(h, c_shape) * (prod(c_shape) / h.size)),
    ("combine", "w", "lost a", lambda h, g, w_shape: sum_to(h * g, w_shape)),
    ("paired_sums", "r", "not centred", lambda u, g, x, w, r_shape: sum_to(_times(g, w) * u[1] * x, r_shape)),
    ("scale_shift", "x", "lost weight", lambda h, b: h * b),
    ("scale_shift", "mu", "lost factor", lambda h, mu_shape: sum_to(-h, mu_shape)),
    ("scale_shift", "c", "sign", lambda h, c_shape: sum_to(-h, c_shape)),
    ("scale_shift", "w", "lost b", lambda h, x, mu, w_shape: sum_to(h * _minus(x, mu), w_shape)),
    ("scale_shift", "b", "not centred", lambda h, x, b_shape: sum_to(h * x, b_shape)),
]
_SHAPES = [
    ("reshape", "a", "column-major order", lambda g, a_shape: _reshape(_transpose(g, axes=_every_axis(g)[::-1]), shape=a_shape)),
    ("transpose", "a", "forward permutation", lambda g, axes: _transpose(g, axes=axes)),
    ("transpose", "a", "axes reversed", lambda g, axes: _transpose(g, axes=axes[::-1])),
    ("flip", "a", "not flipped back", lambda g: g),
    ("flip", "a", "every axis", lambda g: flip(g)),
    ("roll", "a", "sign of the shift", lambda g, shift, axis: _roll(g, shift=shift, axis=axis)),
    ("roll", "a", "not rolled back", lambda g: g),
    ("roll", "a", "first axis only", lambda g, shift, axis: _roll(g, shift=(-shift[0],), axis=axis[:1])),
    ("concatenate", "arrays", "pieces in reverse order", lambda g, arrays_shape, axis: _pieces(g, [s[axis] for s in arrays_shape], axis)[::-1]),
    ("concatenate", "arrays", "sign of the last", lambda g, arrays_shape, axis:
        (lambda p: (*p[:-1], -p[-1]))(_pieces(g, [s[axis] for s in arrays_shape], axis))),
    ("split", "a", "pieces in reverse order", lambda g, axis: _concatenate(*g[::-1], axis=axis)),
    ("split", "a", "axis 0", lambda g: _concatenate(*g, axis=0)),
    ("pad", "a", "after for before", lambda g, a_shape, widths: _getitem(g, index=tuple(slice(w[1], w[1] + n) for w, n in zip(widths, a_shape, strict=True)))),
    ("getitem", "a", "put back to front", lambda g, a_shape, index: flip(_put(g, index=index, shape=a_shape))),
    ("put", "g", "factor 2", lambda h, index: 2.0 * _getitem(h, index=index)),
    ("gather", "a", "repeats overwrite", lambda g, a_shape, indices, template: _put(g, index=_filled(template, indices), shape=a_shape)),
    ("gather", "a", "sign", lambda g, a_shape, indices, template: _scatter_add(-g, *indices, template=template, shape=a_shape)),
    ("scatter_add", "g", "sign", lambda h, indices, template: -_gather(h, *indices, template=template)),
    ("take_along_axis", "a", "indices back to front", lambda g, a_shape, indices, axis: _put_along_axis(g, flip(indices), axis=axis, shape=a_shape)),
    ("take_along_axis", "a", "shared", lambda g, a_shape, indices, axis: _put_along_axis(g, indices, axis=axis, shape=a_shape) / g.shape[axis]),
    ("put_along_axis", "g", "indices back to front", lambda h, indices, axis: _take_along_axis(h, flip(indices), axis=axis)),
]
_LINALG = [
    ("matmul", "a", "b not transposed", lambda g, b: _matmul(g, b)),
    ("matmul", "a", "factors exchanged", lambda g, b: _matmul(_t(b), g)),
    ("matmul", "b", "a not transposed", lambda g, a: _matmul(a, g)),
    ("matmul", "b", "sign", lambda g, a: _matmul(_t(a), -g)),
    ("contract", "a", "sign", lambda g, b, spec: _contract(-g, b, spec=_turned(spec, 2, 1, 0))),
    ("contract", "b", "mean for sum", lambda g, a, spec: _contract(a, g, spec=_turned(spec, 0, 2, 1)) / a.shape[0]),
    ("diagonal", "a", "lost offset", lambda g, a_shape, axis1, axis2: _put_on_diagonal(g, shape=a_shape, offset=0, axis1=axis1, axis2=axis2)),
    ("diagonal", "a", "axes exchanged", lambda g, a_shape, offset, axis1, axis2: _put_on_diagonal(g, shape=a_shape, offset=offset, axis1=axis2, axis2=axis1)),
    ("put_on_diagonal", "a", "sign of the offset", lambda g, offset, axis1, axis2: _diagonal(g, offset=-offset, axis1=axis1, axis2=axis2)),
    ("tril", "a", "lost mask", lambda g: g),
    ("tril", "a", "lost k", lambda g: _tril(g, k=0)),
    ("triu", "a", "tril for triu", lambda g, k: _tril(g, k=k)),
    ("triu", "a", "k off by one", lambda g, k: _triu(g, k=k + 1)),
    ("norm", "a", "lost division", lambda g, a: a * g),
    ("norm", "a", "sign of a for a", lambda g, a: sign(a) * g),
    ("inv", "a", "lost sign", lambda g, out: _t(out) @ g @ _t(out)),
    ("inv", "a", "not transposed", lambda g, out: -(out @ g @ out)),
    ("inv", "a", "one factor only", lambda g, out: -(_t(out) @ g)),
    ("solve", "a", "lost sign", lambda g, a, out: _solve(_t(a), g) @ _t(out)),
    ("solve", "a", "not transposed", lambda g, a, out: -(_solve(a, g) @ _t(out))),
    ("solve", "b", "not transposed", lambda g, a: _solve(a, g)),
    ("det", "a", "transposed", lambda g, a: _column(_column(g)) * _t(_cofactor(a))),
    ("det", "a", "lost det", lambda g, a: _column(_column(g)) * _t(_inv(a))),
    ("det", "a", "sum for each", lambda g, a: _cofactor(a) * g.sum()),
    ("cofactor", "a", "transposed", lambda g, a: _t(_cofactor_slope(a, g))),
    ("cofactor_slope", "g", "sign", lambda h, a: _cofactor_slope(a, -h)),
    ("cholesky", "a", "whole diagonal", lambda g, out: _cholesky_with(g, out, 1.0, symmetric=True)),
    ("cholesky", "a", "not symmetric", lambda g, out: _cholesky_with(g, out, 0.5, symmetric=False)),
    ("eigh", "a", "gap turned round", lambda g, out: _eigh_with(g, out, gap=-1.0)),
    ("eigh", "a", "lost eigenvalues", lambda g, out: _eigh_with(g, out, values=0.0)),
    ("eigh", "a", "lost eigenvectors", lambda g, out: _eigh_with(g, out, gap=_INFINITY)),
    ("eigvalsh", "a", "transposed", lambda g, a: (lambda v: (_t(v) * _row(g)) @ v)(_eigh(a)[1])),
    ("eigvalsh", "a", "weights on the wrong side", lambda g, a: (lambda v: _sym((v * _column(g)) @ _t(v)))(_eigh(a)[1])),
    ("lyapunov", "s", "lost sign", lambda g, s, out: (lambda d: _sym(d @ _t(out) + _t(out) @ d))(_lyapunov(s, g))),
    ("lyapunov", "s", "lost term", lambda g, s, out: (lambda d: -_sym(d @ _t(out)))(_lyapunov(s, g))),
    ("lyapunov", "c", "takes C for symmetric", lambda g, s: _lyapunov(s, _sym(g))),
    ("inv_sqrtm", "a", "lost sign", lambda g, a, out: _lyapunov(_sym(a) @ out, out @ _sym(g) @ out)),
    ("inv_sqrtm", "a", "A for its root", lambda g, a, out: -_lyapunov(a, out @ _sym(g) @ out)),
    ("inv_sqrtm", "a", "lost factor", lambda g, a, out: -_lyapunov(_sym(a) @ out, _sym(out @ g))),
]


def _cholesky_with(g, out, diagonal, symmetric):
    p, inverse = _t(out) @ g, _inv(out)
    da = _t(inverse) @ (_tril(p, k=-1) + diagonal * (_tril(p, k=0) - _tril(p, k=-1))) @ inverse
    return _sym(da) if symmetric else da


def _eigh_with(g, out, gap=1.0, values=1.0):
    (gw, gv), (w, v) = g, out
    differences = where(abs(_row(w) - _column(w)) < 1e-9, _INFINITY, gap * (_row(w) - _column(w)))
    return _sym((values * (v * _row(gw)) + v @ ((_t(v) @ gv) / differences)) @ _t(v))


def _flipped(w):
    return flip(w, (2, 3))


_NEURAL = [
    ("conv2d", "x", "kernel flipped", lambda g, w, x_shape, stride, padding, dilation, groups:
        _conv2d_input(g, _flipped(w), shape=x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)),
    ("conv2d", "x", "padding exchanged", lambda g, w, x_shape, stride, padding, dilation, groups:
        _conv2d_input(g, w, shape=x_shape, stride=stride, padding=padding[::-1], dilation=dilation, groups=groups)),
    ("conv2d", "x", "stride exchanged", lambda g, w, x_shape, stride, padding, dilation, groups:
        _conv2d_input(g, w, shape=x_shape, stride=stride[::-1], padding=padding, dilation=dilation, groups=groups)),
    ("conv2d", "x", "dilation exchanged", lambda g, w, x_shape, stride, padding, dilation, groups:
        _conv2d_input(g, w, shape=x_shape, stride=stride, padding=padding, dilation=dilation[::-1], groups=groups)),
    ("conv2d", "b", "mean over the batch", lambda g: _sum(g, axis=(0, 2, 3), keepdims=False) / g.shape[0]),
    ("conv2d", "b", "sum over the batch alone", lambda g: _sum(g, axis=(0,), keepdims=False)[:, 0, 0]),
    ("conv2d", "w", "image flipped", lambda g, x, w_shape, stride, padding, dilation, groups:
        _conv2d_weight(_flipped(x), g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)),
    ("conv2d", "w", "mean over the batch", lambda g, x, w_shape, stride, padding, dilation, groups:
        _conv2d_weight(x, g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups) / x.shape[0]),
    ("conv2d_input", "g", "kernel flipped", lambda h, w, stride, padding, dilation, groups:
        _conv2d(h, _flipped(w), None, stride=stride, padding=padding, dilation=dilation, groups=groups)),
    ("conv2d_input", "w", "sign", lambda h, g, w_shape, stride, padding, dilation, groups:
        -_conv2d_weight(h, g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)),
    ("conv2d_weight", "x", "kernel flipped", lambda h, g, x_shape, stride, padding, dilation, groups:
        _conv2d_input(g, _flipped(h), shape=x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)),
    ("conv2d_weight", "g", "factor 2", lambda h, x, stride, padding, dilation, groups:
        2.0 * _conv2d(x, h, None, stride=stride, padding=padding, dilation=dilation, groups=groups)),
    ("max_pool2d", "x", "shared by the window", lambda g, x_shape, kernel, stride, padding:
        _avg_unpool(g, shape=x_shape, kernel=kernel, stride=stride, padding=padding, **_COUNTED)),
    ("max_pool2d", "x", "overlaps overwrite", lambda g, index, x_shape, kernel, stride, padding, dilation:
        (lambda ones, dx: where(ones > 0, 1.0, 0.0) * dx / where(ones > 1, 2.0, 1.0))(*(
            _unpool(h, index, shape=x_shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation) for h in (g * 0.0 + 1.0, g)))),
    ("max_pool2d", "x", "lost dilation", lambda g, index, x_shape, kernel, stride, padding:
        _unpool(g, index, shape=x_shape, kernel=kernel, stride=stride, padding=padding, dilation=(1, 1))),
    ("unpool", "g", "mean of the window", lambda h, kernel, stride, padding:
        _avg_pool2d(h, kernel=kernel, stride=stride, padding=padding, **_COUNTED)),
    ("winners", "x", "sign", lambda h, index, x_shape, kernel, stride, padding, dilation:
        -_unpool(h, index, shape=x_shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation)),
    ("unpool", "g", "images back to front", lambda h, index, kernel, stride, padding, dilation:
        _winners(_flipped(h), index, kernel=kernel, stride=stride, padding=padding, dilation=dilation)),
    ("avg_pool2d", "x", "sum for mean", lambda g, x_shape, kernel, stride, padding, count_include_pad, ceil_mode, divisor:
        _avg_unpool(g * prod(kernel), shape=x_shape, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad,
                    ceil_mode=ceil_mode, divisor=divisor)),
    ("avg_pool2d", "x", "padding always counted", lambda g, x_shape, kernel, stride, padding, ceil_mode, divisor:
        _avg_unpool(g, shape=x_shape, kernel=kernel, stride=stride, padding=padding, count_include_pad=True, ceil_mode=ceil_mode, divisor=divisor)),
    ("avg_pool2d", "x", "lost divisor", lambda g, x_shape, kernel, stride, padding, count_include_pad, ceil_mode:
        _avg_unpool(g, shape=x_shape, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad, ceil_mode=ceil_mode,
                    divisor=None)),
    ("part_means", "x", "means where the parts overlap", lambda g, x_shape, axis: _part_means(g, axis=axis, parts=x_shape[axis])),
    ("part_means", "x", "sum for mean", lambda g, x_shape, axis, parts: _part_means_input(g * (x_shape[axis] / parts), axis=axis, size=x_shape[axis])),
    ("part_means_input", "g", "its own map", lambda h, g_shape, axis: _part_means_input(h, axis=axis, size=g_shape[axis])),
    ("label_cross_entropy", "backward", "lost one-hot", lambda g, saved, z, target: (expand_dims(g, 1) * exp(z - saved[0]) / saved[1], None)),
    ("label_cross_entropy", "backward", "sign of a term", lambda g, saved, z, target:
        (expand_dims(g, 1) * (exp(z - saved[0]) / saved[1] + _one_hot(target, classes=z.shape[1])), None)),
    ("label_cross_entropy", "backward", "lost normalization", lambda g, saved, z, target:
        (expand_dims(g, 1) * (exp(z - saved[0]) - _one_hot(target, classes=z.shape[1])), None)),
    ("avg_unpool", "g", "padding never counted", lambda h, kernel, stride, padding:
        _avg_pool2d(h, kernel=kernel, stride=stride, padding=padding, count_include_pad=False, ceil_mode=False, divisor=None)),
]



def _constant(t):
    """What a "Grad" class with stored arrays does to second derivatives: right in first order, a constant in second."""
    return t.detach() if isinstance(t, Tensor) else t


_SECOND_ORDER = [
    ("multiply", "a", "b a constant", lambda g, b: g * _constant(b)),
    ("divide", "b", "out a constant", lambda g, b, out: -g * _constant(out) / b),
    ("power_number", "a", "a a constant", lambda g, a, exponent: g * (exponent * power(_constant(a), exponent - 1))),
    ("exp", "a", "out a constant", lambda g, out: g * _constant(out)),
    ("sqrt", "a", "out a constant", lambda g, out: g / (2.0 * _constant(out))),
    ("tanh", "a", "one out a constant", lambda g, out: g * (1.0 - out * _constant(out))),
    ("sigmoid", "a", "one out a constant", lambda g, out: g * (_constant(out) * (1.0 - out))),
    ("softplus", "a", "sigmoid a constant", lambda g, a: g * _constant(sigmoid(a))),
    ("logsumexp", "a", "softmax a constant", lambda g, a, out, axis, keepdims:
        _spread(g, a.shape, axis, keepdims) * _constant(exp(a - _spread(out, a.shape, axis, keepdims)))),
    ("softmax", "a", "weights in the sum constant", lambda g, out, axis: out * (g - _sum(g * _constant(out), axis=axis, keepdims=True))),
    ("log_softmax", "a", "out a constant", lambda g, out, axis: g - _constant(exp(out)) * _sum(g, axis=axis, keepdims=True)),
    ("moments", "x", "mean a constant", lambda g, x, out, axes: combine(
        None, x, _constant(out[0]), None, g[1] * (2 / _count(x.shape, axes)), g[0] * (1 / _count(x.shape, axes)))),
    ("paired_sums", "g", "x a constant", lambda u, x, mu, w, r: _times(combine(None, _constant(x), mu, None, u[1], u[0], r), w)),
    ("norm", "a", "out a constant", lambda g, a, out: a * (g / _constant(out))),
    ("matmul", "a", "b a constant", lambda g, b: _matmul(g, _t(_constant(b)))),
    ("inv", "a", "one factor a constant", lambda g, out: -(_t(out) @ g @ _t(_constant(out)))),
    ("solve", "b", "a a constant", lambda g, a: _solve(_t(_constant(a)), g)),
    ("inv_sqrtm", "a", "root a constant", lambda g, a, out: -_lyapunov(_constant(_sym(a) @ out), out @ _sym(g) @ out)),
    ("conv2d", "w", "x a constant", lambda g, x, w_shape, stride, padding, dilation, groups:
        _conv2d_weight(_constant(x), g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)),
    ("label_cross_entropy", "backward", "cache a constant", lambda g, saved, z, target:
        (expand_dims(g, 1) * (exp(z - saved[0]) / _constant(saved[1]) - _one_hot(target, classes=z.shape[1])), None)),
    ("cumsum", "a", "g a constant", lambda g, axis: flip(_cumsum(flip(_constant(g), axis), axis=axis), axis)),
]

MUTANTS = [Mutant(*row) for row in [*_ELEMENTWISE, *_REDUCTIONS, *_SHAPES, *_LINALG, *_NEURAL, *_SECOND_ORDER]]
