"""The operations that a student's line may be made of, on small arrays: what `expression` computes a line with.

Nothing else exists there: a name that is not in `FUNCTIONS` is not known, and a result that would be large is refused before it is made.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from ..core.backend import np

MOST_ELEMENTS = 200_000  # of a value
MOST_PRODUCTS = 10_000_000  # of a matrix product

Value = Any  # an array, a number, a tuple of sizes


class Unknown(Exception):
    """Something that is not known here, or is not done here."""


def _axis(value: Any) -> Any:
    return tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else value if value is None else int(value)


def _reduction(f: Callable[..., Any]) -> Callable[..., Value]:
    def reduced(a: Value, axis: Any = None, keepdims: Any = False, ddof: Any = None) -> Value:
        a, axis, more = np.asarray(a), _axis(axis), {} if ddof is None else {"ddof": ddof}
        n = a.size if axis is None else prod(a.shape[k] for k in (axis if isinstance(axis, tuple) else (axis,)))
        if n == 0 or (ddof is not None and ddof >= n):
            raise Unknown  # NumPy would warn
        return f(a, axis=axis, keepdims=bool(keepdims), **more)
    return reduced


def _norm(a: Value, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Value:
    if ord not in (None, 2, "fro"):
        raise Unknown
    return np.sqrt(np.sum(np.square(a), axis=_axis(axis), keepdims=bool(keepdims)))


def _sized(*shape: Any) -> tuple[int, ...]:
    flat = [int(n) for s in shape for n in (s if isinstance(s, (tuple, list)) else (s,))]
    if prod(flat) > MOST_ELEMENTS or min(flat, default=0) < 0:
        raise Unknown
    return tuple(flat)


def _eye(n: Value) -> Value:
    return np.eye(_sized(n, n)[0])


def _diag(a: Value) -> Value:
    if np.ndim(a) == 1:
        _sized(np.size(a), np.size(a))
    return np.diag(a)


def _triangle(f: Callable[..., Any]) -> Callable[..., Value]:
    def cut(a: Value, k: Any = 0) -> Value:
        if np.ndim(a) < 2:
            raise Unknown
        return f(a, int(k))
    return cut


def _multi_dot(arrays: Value) -> Value:
    found = arrays[0]
    for b in arrays[1:]:
        found = applied("@", [found, b], {})
    return found


def _held_by(item: Value) -> int:
    """How much a tuple holds, with the tuples in it."""
    return 1 + sum(map(_held_by, item)) if isinstance(item, tuple) else int(np.size(item))


def _tuple(*items: Value) -> Value:
    if _held_by(items) > MOST_ELEMENTS:
        raise Unknown
    return items


def _places(k: Value) -> Value:
    """Numbers of elements, or which of them."""
    a = np.asarray(k)
    if a.dtype.kind == "b":
        return a
    if not np.array_equal(a, np.asarray(a, "int64")):
        raise Unknown
    return int(a) if a.ndim == 0 else np.asarray(a, "int64")


def _key(keys: Sequence[Value]) -> Any:
    """An index; together its arrays pick only so many elements."""
    found = tuple(k if isinstance(k, slice) or k is None or k is Ellipsis else _places(k) for k in keys)
    _sized(*np.broadcast_shapes(*(k.shape for k in found if isinstance(k, np.ndarray) and k.dtype.kind != "b")))
    return found if len(found) > 1 else found[0]


def _taken(a: Value, *keys: Value) -> Value:
    a, key = np.asarray(a), _key(keys)
    picks = [k.shape for k in (key if isinstance(key, tuple) else (key,)) if isinstance(k, np.ndarray) and k.dtype.kind != "b"]
    if prod(np.broadcast_shapes(*picks)) * a.size > MOST_PRODUCTS:
        raise Unknown
    return a[key]


def _put(a: Value, value: Value, *keys: Value) -> Value:
    found = np.array(a)
    found[_key(keys)] = value
    return found


def _added_at(a: Value, value: Value, *keys: Value) -> Value:
    found = np.array(a, "float64")
    np.add.at(found, _key(keys), value)
    return found


def _power(a: Value, b: Value) -> Value:
    return np.asarray(a, "float64") ** np.asarray(b, "float64")


def _reciprocal_or_0(a: Value) -> Value:
    return np.where(np.asarray(a) == 0, 0.0, 1.0 / np.where(np.asarray(a) == 0, 1.0, a))


def _reshape(a: Value, *s: Value) -> Value:
    return np.reshape(a, [int(n) for x in s for n in (x if isinstance(x, (tuple, list)) else (x,))])


ELEMENTWISE: dict[str, Callable[..., Value]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": _power, "%": np.mod, "//": np.floor_divide,
    "<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
    "&": np.logical_and, "|": np.logical_or, "where": np.where, "clip": np.clip, "heaviside": np.heaviside, "hypot": np.hypot,
    "maximum": np.maximum, "minimum": np.minimum, "fmax": np.fmax, "fmin": np.fmin}
ONE: dict[str, Callable[..., Value]] = {
    **{name: getattr(np, name) for name in (
        "sqrt", "exp", "log", "abs", "absolute", "fabs", "sign", "tanh", "square", "reciprocal", "sin", "cos", "log1p", "expm1", "cbrt",
        "isfinite", "isnan")},
    "neg": np.negative, "~": np.logical_not, "rsqrt": lambda a: 1.0 / np.sqrt(a), "recip0": _reciprocal_or_0}
REDUCING: dict[str, Callable[..., Value]] = {
    **{name: _reduction(getattr(np, name)) for name in ("sum", "mean", "var", "std", "max", "min", "prod", "any", "all")},
    "norm": _norm, "trace": lambda a: np.trace(a), "cumsum": lambda a, axis=None: np.cumsum(a, _axis(axis))}
PRODUCTS: dict[str, Callable[..., Value]] = {
    "@": np.matmul, "dot": np.dot, "outer": np.outer, "vdot": np.vdot, "inner": np.inner, "kron": np.kron,
    "einsum": lambda *a, subscripts: np.einsum(subscripts, *a)}
MAKING: dict[str, Callable[..., Value]] = {
    "arange": lambda n: np.arange(*_sized(n)), "eye": _eye, "zeros": lambda *s: np.zeros(_sized(*s)), "ones": lambda *s: np.ones(_sized(*s)),
    "zeros_like": lambda a: np.zeros(np.shape(a)), "ones_like": lambda a: np.ones(np.shape(a)), "full_like": lambda a, b: np.full(np.shape(a), b),
    "float": lambda a: np.asarray(a, "float64")[()], "copy": lambda a: np.array(a, "float64"), "int": int}
MOVING: dict[str, Callable[..., Value]] = {
    "T": lambda a: np.asarray(a).T, "mT": lambda a: np.swapaxes(a, -1, -2), "transpose": lambda a, axes=None: np.transpose(a, axes),
    "swapaxes": lambda a, first, second: np.swapaxes(a, int(first), int(second)), "diag": _diag, "diagonal": lambda a: np.diagonal(a),
    "reshape": _reshape, "ravel": np.ravel, "expand_dims": lambda a, axis: np.expand_dims(a, _axis(axis)),
    "squeeze": lambda a, axis=None: np.squeeze(a, _axis(axis)), "broadcast_to": lambda a, *s: np.broadcast_to(a, _sized(*s)),
    "atleast_2d": np.atleast_2d, "tril": _triangle(np.tril), "triu": _triangle(np.triu),
    "index": lambda a, key: np.asarray(a)[key], "take": _taken, "put": _put, "add.at": _added_at}
SIZES: dict[str, Callable[..., Value]] = {
    "shape": lambda a: np.shape(a), "size": np.size, "len": len, "ndim": np.ndim, "item": lambda a, i: a[int(i)], "tuple": _tuple}
FUNCTIONS: dict[str, Callable[..., Value]] = {
    **ELEMENTWISE, **ONE, **REDUCING, **PRODUCTS, **MAKING, **MOVING, **SIZES,
    "inv": np.linalg.inv, "solve": np.linalg.solve, "multi_dot": _multi_dot}

METHODS = {"sum", "mean", "var", "std", "max", "min", "prod", "any", "all", "trace", "dot", "reshape", "ravel", "flatten", "squeeze", "swapaxes", "transpose",
           "diagonal", "copy", "astype", "clip", "item", "conj"}
SAME_AS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/", "power": "**", "float_power": "**", "pow": "**", "negative": "neg",
    "matmul": "@", "greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "logical_not": "~", "logical_and": "&", "logical_or": "|",
    "amax": "max", "amin": "min", "identity": "eye", "asarray": "copy", "array": "copy", "ascontiguousarray": "copy", "astype": "copy", "conj": "copy",
    "nan_to_num": "copy", "float64": "float", "float32": "float", "flatten": "ravel", "permute_dims": "transpose", "matrix_transpose": "mT",
    "range": "arange", "empty_like": "zeros_like", "empty": "zeros"}
IGNORED = ("dtype", "copy", "order", "out", "optimize", "like")
OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@", ast.Pow: "**", ast.Mod: "%", ast.FloorDiv: "//", ast.BitAnd: "&",
    ast.BitOr: "|", ast.Lt: "<", ast.Gt: ">", ast.LtE: "<=", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


def applied(op: str, inputs: Sequence[Value], options: Mapping[str, Any]) -> Value:
    """The value of an operation.

    Raises:
        Unknown: it is not known, too large, or NumPy refuses it.
    """
    try:
        if op in ELEMENTWISE and prod(np.broadcast_shapes(*(np.shape(a) for a in inputs))) > MOST_ELEMENTS:
            raise Unknown
        if op in PRODUCTS and prod(max(1, np.size(a)) for a in inputs) > MOST_PRODUCTS:
            raise Unknown
        found = FUNCTIONS[op](*inputs, **options)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, np.linalg.LinAlgError, MemoryError):
        raise Unknown from None
    if isinstance(found, (np.ndarray, np.generic)) and (found.size > MOST_ELEMENTS or found.dtype.kind not in "fiub"):
        raise Unknown
    return found
