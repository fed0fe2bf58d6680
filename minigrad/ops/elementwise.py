"""Elementwise ops, each beside its derivative: this file reads like a table of calculus.

All broadcast by NumPy's rule (visibly, see `broadcasting`) and keep the floating dtype; Python numbers never change it.
Integers and booleans become float32 where the result must be floating. What happens at kinks, ties, infinities and NaN is
listed in docs/conventions.md.
"""

from __future__ import annotations

import math
from operator import index as as_integer
from typing import Any

from ..core import backend
from ..core.backend import Array, Namespace
from ..core.errors import describe, error
from ..core.primitive import primitive
from ..core.tensor import Value
from ..kernels import erf as error_function
from ..kernels import select
from ..kernels.spread import spread
from .broadcasting import elementwise, floating, namespace_of

# -- arithmetic ---------------------------------------------------------------------------------------------------------


@elementwise(a=lambda g: g, b=lambda g: g)
def add(xp: Namespace, a: Array, b: Array) -> Array:
    """a + b."""
    return spread(xp, xp.add, a, b)


@elementwise(a=lambda g: g, b=lambda g: -g)
def subtract(xp: Namespace, a: Array, b: Array) -> Array:
    """a − b."""
    return xp.subtract(a, b)


@elementwise(a=lambda g, b: g * b, b=lambda g, a: g * a)
def multiply(xp: Namespace, a: Array, b: Array) -> Array:
    """a · b, elementwise."""
    return spread(xp, xp.multiply, a, b)


@floating(a=lambda g, b: g / b, b=lambda g, b, out: -g * out / b)
def divide(xp: Namespace, a: Array, b: Array) -> Array:
    """a / b; of integers a float32. Division by zero follows IEEE (Inf or NaN; `minigrad.debug()` finds it)."""
    return xp.divide(a, b)


@elementwise(a=lambda g: -g)
def negative(xp: Namespace, a: Array) -> Array:
    """−a."""
    return xp.negative(a)


@elementwise(a=lambda g: g)
def identity(xp: Namespace, a: Array) -> Array:
    """A separate tape line for the same values."""
    return a.view() if hasattr(a, "view") else a


@elementwise(a=lambda g: g)
def clone(xp: Namespace, a: Array) -> Array:
    """The same values in new memory, on the tape. For a constant copy: ``x.detach().clone()``."""
    return a.copy()


@floating(a=lambda g, a, exponent: g * (exponent * power(a, exponent=exponent - 1)) if exponent not in (0, 1) else g if exponent else _zeros(g))
def power_number(xp: Namespace, a: Array, *, exponent: float) -> Array:
    """a ** exponent for a Python number."""
    return xp.square(a) if exponent == 2 else xp.power(a, exponent)


@elementwise()
def _zeros(xp: Namespace, a: Array) -> Array:
    """0 for each element, also where that is infinite or NaN, of which 0·a makes NaN."""
    return xp.zeros_like(a)


@floating(a=lambda g, a, b: g * _slope_in_base(a, b), b=lambda g, a, out: g * _slope_in_exponent(a, out))
def power_tensor(xp: Namespace, a: Array, b: Array) -> Array:
    """a ** b with a tensor exponent."""
    return xp.power(a, b)


def _slope_in_base(a: Value, b: Value) -> Value:
    """b·aᵇ⁻¹, and 0 where that is 0·∞ or 0·NaN: a⁰ is 1 for every a."""
    flat = (b == 0) & ~(abs(a) > 0)
    return where(flat, 0.0, b * power_tensor(where(flat, 1.0, a), b - 1.0))


def _slope_in_exponent(a: Value, out: Any) -> Value:
    """aᵇ·log a, and 0 where that is 0·∞ (aᵇ = 0, the limit), and at 0⁰ (where aᵇ = 1 jumps to 0 for every b > 0)."""
    if isinstance(a, (int, float)):  # an array of out's dtype, which a number must not decide
        a = namespace_of(out).full(out.shape, a, dtype=out.dtype)
    flat = (out == 0) | (a == 0) & (out == 1)
    return where(flat, 0.0, out * log(where(flat, 1.0, a)))


def power(a: Value, exponent: Any) -> Value:
    """a ** exponent.

    With a Python number as exponent, its derivative is exponent·a**(exponent−1); an integer exponent accepts negative `a`.
    With a tensor exponent, `a` must be non-negative for a finite derivative in the exponent. a⁰ is 1 for every a, also
    infinity and NaN, with derivative 0 in a; 0ᵇ has derivative 0 in b ≥ 0.
    """
    exponent = _number(exponent)
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        integers = getattr(a, "dtype", None) is not None and a.dtype.kind in "iu"
        if integers and isinstance(exponent, int) and exponent >= 0:
            return _integer_power(a, exponent=exponent)
        return power_number(a, exponent=exponent)
    return power_tensor(a, exponent)


def _number(value: Any) -> Value:
    """NumPy's scalars as Python's numbers, which do not decide the dtype of a result."""
    return value.item() if isinstance(value, backend.np.generic) else value


def _python_number(op: str, value: Any, fix: str = "take .item() of a tensor or an array") -> Value:
    """A constant of the op, which must not decide the dtype of its result, as an array would."""
    value = _number(value)
    if not isinstance(value, (int, float)):
        raise error(TypeError, op, got=describe(value), needs="a Python number", fix=fix)
    return value


@primitive()
def _integer_power(xp: Namespace, a: Array, *, exponent: int) -> Array:
    return xp.power(a, exponent)


@elementwise(a=lambda g, a: g * (2.0 * a))
def square(xp: Namespace, a: Array) -> Array:
    """a²."""
    return xp.square(a)


# -- functions of one variable ------------------------------------------------------------------------------------------


@floating(a=lambda g, out: g * out)
def exp(xp: Namespace, a: Array) -> Array:
    """eᵃ."""
    return xp.exp(a)


@floating(a=lambda g, a: g / a)
def log(xp: Namespace, a: Array) -> Array:
    """Natural logarithm; −Inf at 0 and NaN below, like NumPy."""
    return xp.log(a)


@floating(a=lambda g, out: g / (2.0 * out))
def sqrt(xp: Namespace, a: Array) -> Array:
    """√a. Its derivative is infinite at 0: add an ε inside, as the normalization layers do."""
    return xp.sqrt(a)


@elementwise(a=lambda g, a: g * sign(a))
def abs(xp: Namespace, a: Array) -> Array:
    """|a|, with derivative 0 at 0."""
    return xp.absolute(a)


@floating(a=lambda g, out: g * (1.0 - out * out))
def tanh(xp: Namespace, a: Array) -> Array:
    """Hyperbolic tangent."""
    return xp.tanh(a)


@floating(a=lambda g, out: g * (out * (1.0 - out)))
def sigmoid(xp: Namespace, a: Array) -> Array:
    """1 / (1 + e⁻ᵃ), as (1 or e) / (1 + e) with e = e^−|a|: no overflow, and small values keep their digits."""
    e = xp.exp(-xp.absolute(a))
    return xp.where(a >= 0, 1, e) / (1 + e)


@elementwise(g=lambda h, y, slope: _gate(h, y, slope=slope))
def _gate(xp: Namespace, g: Array, y: Array, *, slope: float) -> Array:
    """g where y > 0, else slope·g: the derivative of relu and leaky_relu. y only opens and closes the gate: a constant."""
    return select.gate(xp, g, y, slope)


@elementwise(a=lambda g, out: _gate(g, out, slope=0.0))
def relu(xp: Namespace, a: Array) -> Array:
    """max(a, 0), with derivative 0 at 0. Keeps its output only."""
    return spread(xp, xp.maximum, a, 0)


@floating(a=lambda g, out, slope: _gate(g, out, slope=slope))
def _leaky_relu(xp: Namespace, a: Array, *, slope: float) -> Array:
    return select.leaky(xp, a, slope)


def leaky_relu(a: Value, negative_slope: float = 0.01) -> Value:
    """a where a > 0, else negative_slope·a; at 0 the derivative is negative_slope. Keeps its output only.

    Raises:
        ValueError: negative_slope < 0: the output then no longer tells the sign of the input.
    """
    slope = _python_number("leaky_relu", negative_slope)
    if not slope >= 0:
        raise error(ValueError, "leaky_relu", got=f"negative_slope={negative_slope}", needs="a slope of at least 0", fix="use where(a > 0, a, slope * a)")
    return _leaky_relu(a, slope=slope)


@floating(a=lambda g, out, alpha: g * where(out > 0, 1.0, out + alpha))
def _elu(xp: Namespace, a: Array, *, alpha: float) -> Array:
    return xp.where(a > 0, a, alpha * xp.expm1(xp.minimum(a, 0)))


def elu(a: Value, alpha: float = 1.0) -> Value:
    """a where a > 0, else alpha·(eᵃ − 1). Keeps its output only.

    Raises:
        ValueError: alpha < 0: the output then no longer tells the sign of the input.
    """
    alpha = _python_number("elu", alpha)
    if not alpha >= 0:
        raise error(ValueError, "elu", got=f"alpha={alpha}", needs="alpha of at least 0", fix="use where(a > 0, a, alpha * (exp(a) - 1))")
    return _elu(a, alpha=alpha)


@floating(a=lambda g, a: g * sigmoid(a))
def softplus(xp: Namespace, a: Array) -> Array:
    """log(1 + eᵃ), as max(a, 0) + log1p(e^−|a|): no overflow."""
    return xp.maximum(a, 0) + xp.log1p(xp.exp(-xp.absolute(a)))


@floating(a=lambda g, a: g * (2 / math.sqrt(math.pi) * exp(-(a * a))))
def erf(xp: Namespace, a: Array) -> Array:
    """The error function 2/√π ∫₀ᵃ e^(−s²) ds; `minigrad.kernels.erf` says how, and how exactly: a few roundings."""
    return math.erf(a) if isinstance(a, (int, float)) else error_function.erf(xp, a)


def _gelu_slope(g: Any, a: Any) -> Any:
    """g·(Φ(a) + a·φ(a)). It is 0 or 1 where |a| > 40 in every dtype, and ∞·φ(∞) would be NaN."""
    a = clip(a, -40.0, 40.0)
    return g * (0.5 * (1.0 + erf(math.sqrt(0.5) * a)) + a * (exp(-0.5 * (a * a)) / math.sqrt(2 * math.pi)))


@floating(a=_gelu_slope)
def _gelu(xp: Namespace, a: Array) -> Array:
    return 0.5 * a * math.erfc(-math.sqrt(0.5) * a) if isinstance(a, (int, float)) else error_function.gelu(xp, a)


_GELU_C, _GELU_K = 0.7978845608028654, 0.044715  # √(2/π)


def gelu(a: Value, approximate: str = "none") -> Value:
    """Gaussian error linear unit: a·Φ(a), with Φ the normal distribution function, ½(1 + erf(a/√2)).

    Args:
        approximate: "none", or "tanh" for ½a(1 + tanh(√(2/π)(a + 0.044715 a³))), which differs by less than 0.0005.
    """
    if approximate not in ("none", "tanh"):
        raise error(ValueError, "gelu", got=f"approximate={approximate!r}", needs="'none' or 'tanh'", fix="leave it out for the exact form")
    if approximate == "none":
        return _gelu(a)
    near = clip(a, -10.0, 10.0)  # tanh is ±1 in every dtype long before ±10: a³ would overflow, and ∞·0 be NaN
    return where(a > 10.0, a, 0.5 * near * (1.0 + tanh(_GELU_C * (near + _GELU_K * (near * near * near)))))


def _cos(a: Value) -> Value:
    return cos(a)


@floating(a=lambda g, a: g * _cos(a))
def sin(xp: Namespace, a: Array) -> Array:
    """Sine."""
    return xp.sin(a)


@floating(a=lambda g, a: -g * sin(a))
def cos(xp: Namespace, a: Array) -> Array:
    """Cosine."""
    return xp.cos(a)


@floating(a=lambda g, a: g / (1.0 + a))
def log1p(xp: Namespace, a: Array) -> Array:
    """log(1 + a), exact for small a."""
    return xp.log1p(a)


@floating(a=lambda g, out: g * (out + 1.0))
def expm1(xp: Namespace, a: Array) -> Array:
    """eᵃ − 1, exact for small a."""
    return xp.expm1(a)


# -- choosing -----------------------------------------------------------------------------------------------------------


@elementwise(a=lambda g, a, b: _share(g, a, b, a > b), b=lambda g, a, b: _share(g, b, a, b > a))
def maximum(xp: Namespace, a: Array, b: Array) -> Array:
    """The larger of a and b, NaN where one is NaN. At a tie each gets half of the gradient; a NaN gets all of it."""
    return xp.maximum(a, b)


@elementwise(a=lambda g, a, b: _share(g, a, b, a < b), b=lambda g, a, b: _share(g, b, a, b < a))
def minimum(xp: Namespace, a: Array, b: Array) -> Array:
    """The smaller of a and b, NaN where one is NaN. At a tie each gets half of the gradient; a NaN gets all of it."""
    return xp.minimum(a, b)


def _share(g: Value, mine: Any, other: Any, wins: Any) -> Value:
    """What of g goes to `mine`; the only value that differs from itself is NaN, which the result then is."""
    return where(wins | (mine != mine), g, where(mine == other, g * 0.5, 0.0))


@elementwise(a=lambda g, cond: where(cond, g, 0.0), b=lambda g, cond: where(cond, 0.0, g))
def where(xp: Namespace, cond: Array, a: Array, b: Array) -> Array:
    """a where `cond` is true, else b. `cond` is a boolean constant: a Tensor, an array, True or False."""
    return select.where(xp, cond, a, b)


@elementwise(a=lambda g, a, low, high: where(_inside(a, low, high), g, 0.0))
def _clip(xp: Namespace, a: Array, *, low: float | None, high: float | None) -> Array:
    return xp.clip(a, low, high)


def _inside(a: Value, low: float | None, high: float | None) -> Value:
    if low is None or high is None:
        return a >= low if high is None else a <= high
    return logical_and(a >= low, a <= high)


def clip(a: Value, min: float | None = None, max: float | None = None) -> Value:
    """a limited to [min, max] (Python numbers, either may be None). The gradient passes where a is inside or on the edge."""
    if min is None and max is None:
        raise error(ValueError, "clip", got="no bounds", needs="min, max or both", fix="pass at least one number")
    min, max = (bound if bound is None else _python_number("clip", bound, "use maximum and minimum for tensors") for bound in (min, max))
    return _clip(as_floating(a) if isinstance(min, float) or isinstance(max, float) else a, low=min, high=max)


# -- constants for the derivative: comparisons, signs -----------------------------------------------------------------------


def _comparison(name: str, doc: str) -> Value:
    def forward(xp: Namespace, a: Array, b: Array) -> Array:
        return getattr(xp, name)(a, b)
    forward.__name__, forward.__doc__ = name, doc
    return elementwise()(forward)


greater = _comparison("greater", "a > b, a boolean constant.")
greater_equal = _comparison("greater_equal", "a ≥ b, a boolean constant.")
less = _comparison("less", "a < b, a boolean constant.")
less_equal = _comparison("less_equal", "a ≤ b, a boolean constant.")
equal = _comparison("equal", "a = b elementwise, a boolean constant.")
not_equal = _comparison("not_equal", "a ≠ b elementwise, a boolean constant.")
logical_and = _comparison("logical_and", "a and b elementwise, a boolean constant.")
logical_or = _comparison("logical_or", "a or b elementwise, a boolean constant.")


@elementwise()
def logical_not(xp: Namespace, a: Array) -> Array:
    """not a, a boolean constant."""
    return xp.logical_not(a)


@elementwise()
def sign(xp: Namespace, a: Array) -> Array:
    """−1, 0 or 1: a constant for the derivative."""
    return xp.sign(a)


@elementwise()
def isfinite(xp: Namespace, a: Array) -> Array:
    """Is a neither infinite nor NaN? A boolean constant."""
    return xp.isfinite(a)


@elementwise()
def isinf(xp: Namespace, a: Array) -> Array:
    """Is a ∞ or −∞? A boolean constant."""
    return xp.isinf(a)


@elementwise()
def isnan(xp: Namespace, a: Array) -> Array:
    """Is a NaN? A boolean constant."""
    return xp.isnan(a)


def nan_to_num(a: Value, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Value:
    """a with Python numbers in the place of NaN, ∞ and −∞ (None: the largest and smallest finite number). Derivative 0 where it is replaced."""
    if _is_whole(a):
        return clone(a)
    largest = float(backend.np.finfo(a.dtype).max)
    fills = [_python_number("nan_to_num", v) for v in (nan, largest if posinf is None else posinf, -largest if neginf is None else neginf)]
    a = where(isnan(a), fills[0], a)
    return where(isinf(a), where(a > 0, fills[1], where(a < 0, fills[2], a)), a)


# -- whole numbers: constants for the derivative, as `sign` ---------------------------------------------------------------------


@elementwise()
def floor(xp: Namespace, a: Array) -> Array:
    """The largest whole number ≤ a, a constant for the derivative. Integers stay integers."""
    return a.copy() if _is_whole(a) else xp.floor(a)


@elementwise()
def ceil(xp: Namespace, a: Array) -> Array:
    """The smallest whole number ≥ a, a constant for the derivative. Integers stay integers."""
    return a.copy() if _is_whole(a) else xp.ceil(a)


def _is_whole(a: Value) -> bool:
    """An array of integers or booleans?"""
    return getattr(a, "dtype", backend.default_dtype).kind != "f"


@elementwise()
def _round(xp: Namespace, a: Array, *, decimals: int) -> Array:
    return xp.round(a, decimals) if getattr(a, "dtype", None) != backend.bool_ else a.copy()  # NumPy makes float16 of booleans


def round(a: Value, decimals: int = 0) -> Value:
    """a to the nearest number with that many decimals (negative: tens, hundreds ...), halves to the even one: a constant for the derivative.

    A gradient straight through it: ``x + (round(x) - x).detach()``.
    """
    return _round(a, decimals=as_integer(decimals))


# -- dtype ----------------------------------------------------------------------------------------------------------------


@primitive(a=lambda g, a_dtype: astype(g, a_dtype))
def _astype(xp: Namespace, a: Array, *, dtype: Any) -> Array:
    return a.astype(dtype)


@primitive()
def _astype_constant(xp: Namespace, a: Array, *, dtype: Any) -> Array:
    return a.astype(dtype)


def astype(a: Value, dtype: Any) -> Value:
    """`a` with another dtype. Differentiable between floats; to integers or booleans the result is a constant.

    Raises:
        TypeError: complex numbers, text or dates.
    """
    from_dtype, to_dtype = a.dtype, namespace_of(a).empty(0, dtype=dtype).dtype
    if from_dtype == to_dtype:
        return a
    if to_dtype.kind not in "fiub":
        raise error(TypeError, "astype", got=f"dtype {to_dtype}", needs="real numbers, integers or booleans", fix="x.astype('float32')")
    return (_astype if to_dtype.kind == "f" else _astype_constant)(a, dtype=to_dtype)


def as_floating(a: Value) -> Value:
    """`a` itself if it is floating; of integers and booleans float32, as every function with a floating result does."""
    return a if getattr(a, "dtype", None) is None or a.dtype.kind == "f" else astype(a, backend.default_dtype)


def require_floating(op: str, **arrays: object) -> None:
    """Refuse integers and booleans where they are data beside floating parameters, which decide the dtype.

    Raises:
        TypeError: one of `arrays` (name -> array or Tensor; others are let through) is not floating.
    """
    dtypes = {name: a.dtype for name, a in arrays.items() if hasattr(a, "dtype")}
    for name, dtype in dtypes.items():
        if dtype.kind != "f":
            wanted = next((d for d in dtypes.values() if d.kind == "f"), "float32")
            raise error(TypeError, op, got=f"{name}: {describe(arrays[name])}", needs="floating data: integers and booleans are not converted here",
                        fix=f"{name}.astype('{wanted}')")


__all__ = ["abs", "add", "astype", "ceil", "clip", "clone", "cos", "divide", "elu", "equal", "erf", "exp", "expm1", "floor", "gelu", "greater",
           "greater_equal", "identity", "isfinite", "isinf", "isnan", "leaky_relu", "less", "less_equal", "log", "log1p", "logical_and", "logical_not",
           "logical_or", "maximum", "minimum", "multiply", "nan_to_num", "negative", "not_equal", "power", "relu", "round", "sigmoid", "sign", "sin",
           "softplus", "sqrt", "square", "subtract", "tanh", "where"]
