"""New Tensors of a given shape: zeros, ones, number ranges, random numbers.

A shape is a tuple or its sizes one by one: ``zeros((2, 3))`` or ``zeros(2, 3)``. All take, by keyword:

    dtype            by default float32; where the values are given (`full`, `arange`), as `tensor` makes of them: integers int64
    backend          by default the current one (see `use`); of ``..._like`` functions their model's
    requires_grad    by default False

Random numbers are drawn on the host by minigrad's generator (see `seed`), so that one seed gives the same on every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index as as_integer
from typing import Any

from ..core import backend as backends
from ..core.backend import Array, Namespace
from ..core.errors import describe, error, integer
from ..core.tensor import Tensor, Value, tensor


def _shape(op: str, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Both ways to write a shape; numbers with an ``__index__`` are sizes."""
    wanted = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    like = getattr(wanted[0], "ndim", 0) if wanted and op in ("zeros", "ones", "full") else 0
    fix = f"{op}_like(x) has the shape of an array x" if like else f"{op}((2, 3)) or {op}(2, 3); dtype= is a keyword"
    return tuple(integer(op, "size", n, 0, fix=fix) for n in wanted)


def _made(op: str, make: Callable[[Any, Any], Array], dtype: Any, backend: str | None, requires_grad: bool) -> Tensor:
    """make(namespace, dtype) as a Tensor."""
    wanted = backends.np.dtype(backends.default_dtype if dtype is None else dtype)
    if wanted.kind not in "fiub":
        raise error(TypeError, op, got=f"dtype {wanted}", needs="real numbers, integers or booleans", fix="dtype='float32'")
    try:
        made = Tensor(make(backends.get(backend or backends.current_name()), wanted))
    except OverflowError:
        raise error(ValueError, op, got=f"a number that dtype {wanted} does not have", needs="a dtype that has all of them", fix="dtype='float32'") from None
    if requires_grad:
        made.requires_grad = True
    return made


def _cast(values: Any, dtype: Any) -> Value:
    """Host numbers in `dtype`, where NumPy would let integers wrap around."""
    if dtype.kind in "iu" and values.size and not backends.np.iinfo(dtype).min <= values.min() <= values.max() <= backends.np.iinfo(dtype).max:
        raise OverflowError
    return values.astype(dtype)


def _numbers(op: str, **values: Any) -> list[Any]:
    for name, value in values.items():
        if not isinstance(value, (int, float, backends.np.number, backends.np.bool_)):
            array = isinstance(value, (list, tuple)) or bool(getattr(value, "ndim", 0))
            raise error(TypeError, op, got=f"{name}: {describe(value)}", needs="a Python number",
                        fix="minigrad.broadcast_to(minigrad.tensor([1, 2, 3]), (2, 3)) repeats an array" if array else "take .item() of a tensor or an array")
    return [*values.values()]


def zeros(*shape: Any, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros."""
    sizes = _shape("zeros", shape)
    return _made("zeros", lambda xp, t: xp.zeros(sizes, dtype=t), dtype, backend, requires_grad)


def ones(*shape: Any, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """Ones."""
    sizes = _shape("ones", shape)
    return _made("ones", lambda xp, t: xp.ones(sizes, dtype=t), dtype, backend, requires_grad)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """One number everywhere. By default of the dtype that ``tensor(fill_value)`` has."""
    sizes, (value,) = _shape("full", (shape,)), _numbers("full", fill_value=fill_value)
    return _made("full", lambda xp, t: xp.full(sizes, value, dtype=t), tensor(value).dtype if dtype is None else dtype, backend, requires_grad)


def eye(n: int, m: int | None = None, k: int = 0, *, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """(n, m) with ones on the k-th diagonal, zeros elsewhere; ``eye(n)`` is the identity.

    >>> import minigrad as mg
    >>> mg.eye(2)
    tensor([[1., 0.],
            [0., 1.]], dtype=float32)
    """
    rows = integer("eye", "n", n, 0)
    columns = rows if m is None else integer("eye", "m", m, 0)
    return _made("eye", lambda xp, t: xp.eye(rows, columns, as_integer(k), dtype=t), dtype, backend, requires_grad)


def arange(start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... before `stop`; ``arange(n)`` counts from 0. Of integers int64, else float32 (rounded from float64)."""
    first, last, by = _numbers("arange", start=0 if stop is None else start, stop=start if stop is None else stop, step=step)
    if not by or not all(backends.np.isfinite([first, last, by])):
        raise error(ValueError, "arange", got=f"start={first}, stop={last}, step={by}", needs="finite numbers, and a step that is not 0",
                    fix="linspace(start, stop, num) for a number of steps")
    values = backends.np.arange(first, last, by)
    if dtype is None and values.dtype.kind != "f":
        dtype = "int64"
    return _made("arange", lambda xp, t: xp.asarray(_cast(values, t)), dtype, backend, requires_grad)


def linspace(start: Any, stop: Any, num: int = 50, *, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """`num` numbers in equal steps from `start` to `stop`, both among them."""
    first, last = _numbers("linspace", start=start, stop=stop)
    values = backends.np.linspace(first, last, integer("linspace", "num", num, 0))
    return _made("linspace", lambda xp, t: xp.asarray(_cast(values, t)), dtype, backend, requires_grad)


def _model(op: str, a: Value, dtype: Any, backend: str | None) -> tuple[tuple[int, ...], Any, str]:
    """Shape, dtype and backend of a tensor like `a`."""
    data = a._data if isinstance(a, Tensor) else backends.plain(a, op)
    if not backends.is_array(data):
        raise error(TypeError, op, got=describe(a), needs="a Tensor or an array", fix="make a tensor of it: minigrad.tensor(...)")
    return data.shape, data.dtype if dtype is None else dtype, backend or backends.name_of(data)


def zeros_like(a: Value, *, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape, dtype and backend of `a`: a constant, or a new variable."""
    shape, dtype, backend = _model("zeros_like", a, dtype, backend)
    return zeros(shape, dtype=dtype, backend=backend, requires_grad=requires_grad)


def ones_like(a: Value, *, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape, dtype and backend of `a`: a constant, or a new variable."""
    shape, dtype, backend = _model("ones_like", a, dtype, backend)
    return ones(shape, dtype=dtype, backend=backend, requires_grad=requires_grad)


def full_like(a: Value, fill_value: Any, *, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """One number everywhere, in the shape, dtype and backend of `a`: a constant, or a new variable."""
    shape, dtype, backend = _model("full_like", a, dtype, backend)
    return full(shape, fill_value, dtype=dtype, backend=backend, requires_grad=requires_grad)


# -- random numbers -------------------------------------------------------------------------------------------------------


def rand(*shape: Any, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """Random numbers, uniform in [0, 1): 1 is not among them in any dtype, because digits that the dtype does not have are cut off."""
    def make(xp: Namespace, t: Value) -> Array:
        _require_float("rand", t)
        steps = 2.0 ** (backends.np.finfo(t).nmant + 1)
        return xp.asarray((backends.np.floor(backends.generator().random(sizes) * steps) / steps).astype(t))
    sizes = _shape("rand", shape)
    return _made("rand", make, dtype, backend, requires_grad)


def randn(*shape: Any, dtype: Any = None, backend: str | None = None, requires_grad: bool = False) -> Tensor:
    """Random numbers, normally distributed with mean 0 and variance 1.

    >>> import minigrad as mg
    >>> mg.seed(0)
    >>> w = mg.randn(3, 4, requires_grad=True)
    >>> w.shape, str(w.dtype)
    ((3, 4), 'float32')
    """
    def make(xp: Namespace, t: Value) -> Array:
        _require_float("randn", t)
        return xp.asarray(backends.np.asarray(backends.generator().standard_normal(sizes)).astype(t))
    sizes = _shape("randn", shape)
    return _made("randn", make, dtype, backend, requires_grad)


def _require_float(op: str, dtype: Any) -> None:
    if dtype.kind != "f":
        raise error(TypeError, op, got=f"dtype {dtype}", needs="a floating dtype", fix="randint(low, high, shape) for integers")


def randint(low: int, high: int | None = None, size: Any = (), *, dtype: Any = "int64", backend: str | None = None) -> Tensor:
    """Random integers of the shape `size` from `low` to `high` − 1; ``randint(n)`` from 0 to n − 1."""
    first, end = (0, low) if high is None else (low, high)
    sizes = _shape("randint", (size,))
    if not all(isinstance(n, (int, backends.np.integer)) for n in (first, end)) or first >= end:
        raise error(ValueError, "randint", got=f"low={first!r}, high={end!r}", needs="integers, low < high",
                    fix="randint(low, high, (2, 3)): high is not among them")

    def make(xp: Namespace, t: Value) -> Array:
        return xp.asarray(_cast(backends.np.asarray(backends.generator().integers(first, end, sizes)), t))
    return _made("randint", make, dtype, backend, False)


def permutation(n: int, *, backend: str | None = None) -> Tensor:
    """The integers 0 ... n − 1 in random order: ``x[permutation(len(x))]`` shuffles."""
    count = integer("permutation", "n", n, 0, fix="x[permutation(len(x))] shuffles x" if hasattr(n, "shape") else None)
    return _made("permutation", lambda xp, t: xp.asarray(backends.generator().permutation(count)), "int64", backend, False)


__all__ = ["arange", "eye", "full", "full_like", "linspace", "ones", "ones_like", "permutation", "rand", "randint", "randn", "zeros", "zeros_like"]
