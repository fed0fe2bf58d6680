"""Broadcasting is an op: elementwise ops insert visible `broadcast_to` lines, whose derivative is `sum_to`, and the reverse.

No derivative rule ever un-broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from operator import index as as_integer
from typing import Any

from ..core import backend
from ..core.backend import NAMESPACES, Array, Namespace
from ..core.errors import error
from ..core.inputs import one_float_dtype
from ..core.plan import Primitive
from ..core.primitive import primitive
from ..core.tensor import Tensor, Value, state
from ..kernels.reduce import sum_over


@primitive(a=lambda g, a_shape: _sum_to(g, shape=a_shape))
def _broadcast_to(xp: Namespace, a: Array, *, shape: tuple[int, ...]) -> Array:
    return backend.broadcast_view(xp, a, shape)


@primitive(a=lambda g, a_shape: _broadcast_to(g, shape=a_shape))
def _sum_to(xp: Namespace, a: Array, *, shape: tuple[int, ...]) -> Array:
    axes = _repeated_axes(a.shape, shape)
    if not axes:
        return a.reshape(shape)
    if a.dtype == backend.float16:
        return sum_over(xp, a, axes, dtype=backend.float32).astype(a.dtype).reshape(shape)
    out = sum_over(xp, a, axes)
    return out if out.shape == shape else out.reshape(shape)


@lru_cache(maxsize=4096)
def _repeated_axes(large: tuple[int, ...], small: tuple[int, ...]) -> tuple[int, ...]:
    lead = len(large) - len(small)
    return (*range(lead), *(i + lead for i, n in enumerate(small) if n == 1 and large[i + lead] != 1))


def broadcast_to(a: Value, shape: int | tuple[int, ...]) -> Value:
    """`a` repeated along new or size-1 axes to `shape` (a read-only view on NumPy). Derivative: `sum_to`.

    Raises:
        ValueError: `a` does not broadcast to `shape`.
    """
    sizes = _sizes(shape)
    _require_broadcast("broadcast_to", a.shape, sizes)
    return _broadcast_to(a, shape=sizes)


def sum_to(a: Value, shape: int | tuple[int, ...]) -> Value:
    """`a` summed over the axes along which `shape` broadcasts to it (float16 summed in float32). Derivative: `broadcast_to`.

    Raises:
        ValueError: `shape` does not broadcast to the shape of `a`.
    """
    sizes = _sizes(shape)
    _require_broadcast("sum_to", sizes, a.shape)
    return _sum_to(a, shape=sizes)


def _sizes(shape: Any) -> tuple[int, ...]:
    """A shape as NumPy takes it: one size, or several."""
    return tuple(map(as_integer, shape)) if isinstance(shape, Iterable) else (as_integer(shape),)


def _require_broadcast(op: str, small: tuple[int, ...], large: tuple[int, ...]) -> None:
    lead = len(large) - len(small)
    if lead < 0 or any(m not in (1, n) for m, n in zip(small, large[lead:], strict=True)):
        raise error(ValueError, op, got=f"the shapes {small} (small) and {large} (large)", needs="a small shape that broadcasts to the large one",
                    fix="sizes must be equal or 1, counted from the right")


def align(p: Primitive, given: list[Any]) -> list[Any]:
    """Bring the inputs of an elementwise op to one dtype and, where a gradient will flow, one shape.

    Booleans and integers follow the float; Python numbers never change a dtype; two different floats are an error.
    """
    if len(given) == 2 and isinstance(given[0], Tensor) and isinstance(given[1], Tensor) and given[0]._data.dtype is given[1]._data.dtype:
        return _match_shapes(p, given, [given[0]._data.shape, given[1]._data.shape])
    found = one_float_dtype(p, given)
    if found is None and any(isinstance(a, float) for a in given):
        found = backend.default_dtype  # integers beside a Python float
    shapes = []
    for i, a in enumerate(given):
        if hasattr(a, "shape"):
            shapes.append(a.shape)
            if found is not None and a.dtype.kind != "f" and not _stays(p, i):
                given[i] = _cast(a, found)
    return _match_shapes(p, given, shapes) if len(shapes) > 1 else given


def _match_shapes(p: Primitive, given: list[Any], shapes: list[tuple[int, ...]]) -> list[Any]:
    try:
        shape = backend.broadcast_shapes(*shapes)
    except ValueError:
        raise error(ValueError, p.name, got=f"the shapes {' and '.join(map(str, shapes))}",
                    needs="shapes that broadcast: equal or 1 on each axis, counted from the right",
                    fix="reshape or expand_dims one of them") from None
    if state.recording:
        for i, a in enumerate(given):
            if isinstance(a, Tensor) and a._line is not None and a._data.shape != shape:
                given[i] = _broadcast_to(a, shape=shape)
    return given


def _stays(p: Primitive, position: int) -> bool:
    return p.inputs[position] == "cond"


def _cast(a: Value, dtype: Any) -> Value:
    return Tensor(a._data.astype(dtype)) if isinstance(a, Tensor) else a.astype(dtype)


def align_floating(p: Primitive, given: list[Any]) -> list[Any]:
    """As `align`, for functions with floating results only: integers and booleans become the default float dtype."""
    given = align(p, given)
    return [_cast(a, backend.default_dtype) if hasattr(a, "dtype") and a.dtype.kind != "f" else a for a in given]


def elementwise(floating: bool = False, /, **rules: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`@primitive` for elementwise ops: inputs are broadcast to one shape by visible tape lines and share one dtype.

    >>> import minigrad as mg
    >>> @mg.elementwise(a=lambda g, b: g * b, b=lambda g, a: g * a)
    ... def product(xp, a, b):
    ...     return xp.multiply(a, b)
    >>> x, w = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), mg.tensor([1.0, 10.0], requires_grad=True)
    >>> product(x, w).backward(mg.tensor([[1.0, 0.0], [2.0, 1.0]]))
    >>> w.grad
    tensor([7., 4.], dtype=float32)
    """
    return primitive(align_floating if floating else align, **rules)


floating = partial(elementwise, True)


def namespace_of(a: Value) -> Value:
    """The array module behind a Tensor or raw array."""
    data = a._data if isinstance(a, Tensor) else a
    if isinstance(data, backend.np.generic):  # in a rule: NumPy's 0-d results are scalars
        return backend.np
    return NAMESPACES.get(type(data)) or backend.namespace(data)


__all__ = ["broadcast_to", "elementwise", "sum_to"]
