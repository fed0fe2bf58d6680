"""Derivatives of functions: products with the Jacobian and the Hessian, and the whole Jacobian, all made of `grad`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .core.backend import NAMESPACES
from .core.engine import _recording, grad
from .core.errors import describe, error
from .core.tensor import Tensor


def vjp(f: Callable[..., Any], xs: Sequence[Tensor], v: Any = None, *, create_graph: bool = False) -> tuple[Any, tuple[Tensor, ...]]:
    """(f(*xs), vᵀJ): value and cotangents of every input (zeros where `f` does not use one)."""
    inputs, y = _call_on_variables(f, xs, create_graph)
    found = grad(y, inputs, v, create_graph=create_graph, allow_unused=True)
    return (y if create_graph else _detached(y)), tuple(_or_zeros(g, x) for g, x in zip(found, inputs, strict=True))


def jvp(f: Callable[..., Any], xs: Sequence[Tensor], vs: Sequence[Tensor]) -> tuple[Any, Any]:
    """(f(*xs), J v): value and directional derivative, by differentiating the (linear) vjp with respect to its cotangent.

    Args:
        f: returns a Tensor of any shape, or a tuple of them; value and derivative are then tuples too.
        vs: a direction for each input, of its shape and dtype. Where nothing depends on the inputs the derivative is 0.

    >>> import minigrad as mg
    >>> mg.jvp(lambda x: (x * x).sum(), [mg.tensor([1.0, 2.0])], [mg.tensor([1.0, 10.0])])
    (tensor(5., dtype=float32), tensor(42., dtype=float32))
    """
    directions = _directions("jvp", xs, vs)
    inputs, y = _call_on_variables(f, xs, False)
    outputs = list(y) if isinstance(y, (tuple, list)) else [y]
    for out in outputs:
        if not isinstance(out, Tensor):
            raise error(TypeError, "jvp", got=f"{describe(out)} from the function", needs="a Tensor, or a tuple of Tensors", fix="compute it from Tensors")
    taped = [out for out in outputs if out._line is not None]
    us = [_or_zeros(None, out) for out in taped]
    for u in us:
        u.requires_grad = True
    pulled = grad(taped, inputs, us, create_graph=True, allow_unused=True) if taped else ()
    terms = [(p, v) for p, v in zip(pulled, directions) if p is not None and p._line is not None]
    pushed = iter(grad([p for p, _ in terms], us, [v for _, v in terms], allow_unused=True) if terms else [None] * len(us))
    tangents = [_or_zeros(next(pushed) if out._line is not None else None, out) for out in outputs]
    return _detached(y), tuple(tangents) if isinstance(y, (tuple, list)) else tangents[0]


def hvp(f: Callable[..., Tensor], xs: Sequence[Tensor], vs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Hessian of the scalar function `f` times `vs` (one for each input, of its shape and dtype): one product per input.

    >>> import minigrad as mg
    >>> mg.hvp(lambda x: (x * x * x).sum(), [mg.tensor([1.0, 2.0])], [mg.tensor([1.0, 1.0])])
    (tensor([ 6., 12.], dtype=float32),)
    """
    directions = _directions("hvp", xs, vs)
    inputs, y = _call_on_variables(f, xs, False)
    if not isinstance(y, Tensor) or y.size != 1:
        raise error(ValueError, "hvp", got=f"{describe(y)} from the function", needs="a scalar Tensor", fix="reduce it to a loss: y.sum(), (y * v).sum()")
    first = grad(y, inputs, create_graph=True, allow_unused=True) if y._line is not None else ()
    terms = [(g, v) for g, v in zip(first, directions) if g is not None and g._line is not None]
    if not terms:
        return tuple(_or_zeros(None, x) for x in inputs)
    second = grad([g for g, _ in terms], inputs, [v for _, v in terms], allow_unused=True)
    return tuple(_or_zeros(g, x) for g, x in zip(second, inputs, strict=True))


def _directions(op: str, xs: Sequence[Tensor], vs: Sequence[Tensor]) -> list[Tensor]:
    """`vs` as a list, after checking that there is one that fits for each of `xs`."""
    inputs, directions = _listed(xs), _listed(vs)
    if len(inputs) != len(directions):
        raise error(ValueError, op, got=f"{len(directions)} vectors for {len(inputs)} inputs", needs="one vector for each input",
                    fix="zeros where an input should not move: x * 0")
    for i, (x, v) in enumerate(zip(inputs, directions)):
        if isinstance(x, Tensor) and (not isinstance(v, Tensor) or v.shape != x.shape or v.dtype != x.dtype or v.backend != x.backend):
            raise error(ValueError if isinstance(v, Tensor) else TypeError, op, got=f"vector {i}: {describe(v)}", needs=f"{describe(x)}, as input {i}",
                        fix=f"minigrad.tensor(v, dtype='{x.dtype}', backend='{x.backend}'), of the input's shape")
    return directions


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The full Jacobian of ``f`` at `x`, of shape y.shape + x.shape: one backward for each element of y.

    >>> import minigrad as mg
    >>> mg.jacobian(lambda x: x * x, mg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]], dtype=float32)
    """
    if not isinstance(x, Tensor):
        raise error(TypeError, "jacobian", got=f"x: {describe(x)}", needs="one Tensor", fix="one input at a time: jacobian(lambda a: f(a, b), a)")
    (variable,), y = _call_on_variables(f, [x], False)
    xp = NAMESPACES[type(y._data)]
    rows = xp.zeros((y.size, *variable.shape), dtype=variable.dtype)
    if y._line is not None:
        for i in range(y.size):
            e = xp.zeros(y.size, dtype=y.dtype)
            e[i] = 1
            (row,) = grad(y, [variable], Tensor(e.reshape(y.shape)), retain_graph=True, allow_unused=True)
            if row is not None:
                rows[i] = row._data
    return Tensor(rows.reshape(y.shape + variable.shape))


def _listed(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _call_on_variables(f: Callable[..., Any], xs: Sequence[Tensor], connected: bool) -> tuple[list[Tensor], Any]:
    """Call `f` on fresh variables with the values of `xs` (on `xs` themselves if `connected` and already taped)."""
    inputs: list[Tensor] = []
    for x in _listed(xs):
        if not isinstance(x, Tensor):
            raise error(TypeError, "inputs", got=describe(x), needs="Tensors", fix="wrap them: minigrad.tensor(...)")
        if connected and x._line is not None:
            inputs.append(x)
        else:
            fresh = Tensor(x._data)
            fresh.requires_grad = True
            inputs.append(fresh)
    with _recording(True):
        return inputs, f(*inputs)


def _detached(y: Any) -> Any:
    return tuple(t.detach() for t in y) if isinstance(y, (tuple, list)) else y.detach()


def _or_zeros(g: Tensor | None, x: Tensor) -> Tensor:
    return Tensor(NAMESPACES[type(x._data)].zeros(x.shape, x.dtype)) if g is None else g
