"""Calling an op: the general way, and three shorter ones for the calls that a training step is made of.

The general way, `call`, takes any mixture of Tensors, raw arrays and numbers, checks all of it, and is the meaning of a call. A
shorter way is taken only where those checks can find nothing: raw arrays, as in a rule in first order; one Tensor on
the tape; two Tensors of one dtype, or one beside a number. The tests compare both on every op: results, tape lines, what
they keep, and errors are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..kernels.half import of_one_dtype
from . import backend, ownership, storage
from .backend import NAMESPACES, REAL, Array, Namespace
from .errors import error
from .inputs import (
    checked_keywords,
    explained,
    integers_follow,
    namespace_of_like_tensors,
    one_float_dtype,
    one_namespace,
    only_numbers_in_keywords,
    own_arrays,
)
from .plan import Plan, Primitive, output_tensor
from .state import watching
from .storage import _checksums
from .tensor import Line, Tensor, Value, state

# -- the general way --------------------------------------------------------------------------------------------------------

def call(p: Primitive, args: Sequence[Value], meta: dict[str, Any]) -> tuple[Any, Any]:
    """Apply `p` to any mixture of Tensors, raw arrays and numbers. Returns (result, cache)."""
    given = list(args)
    if p.defaults:
        meta = {**p.defaults, **meta}
    if meta:
        while len(given) < len(p.inputs) and p.inputs[len(given)] in meta:  # inputs by name
            given.append(meta[name := p.inputs[len(given)]])
            meta = {k: v for k, v in meta.items() if k != name}
        meta = checked_keywords(p, meta)
    if not p.variadic and len(given) != len(p.inputs):
        raise error(TypeError, p.name, got=f"{len(given)} inputs", needs=f"{len(p.inputs)}: {', '.join(p.inputs)}", fix="arrays come first, then keywords")
    taped = False
    for a in given:
        if isinstance(a, Tensor):
            taped = True
            break
    else:  # in a rule: NumPy's 0-d results are scalars with a dtype, which must stay what they are
        given = [backend.np.asarray(a) if isinstance(a, backend.np.generic) else a for a in given]
    xp = namespace_of_like_tensors(p, given) if taped and p.align is None else None
    if xp is None:
        xp = one_namespace(p, given)
        if taped:
            if p.align is not None:
                given = p.align(p, given)
            else:
                integers_follow(p, given, one_float_dtype(p, given if p.joint is None else of_one_dtype(given)))
    record = state.recording and (p.joint is not None or bool(p.rules))
    arrays: list[Array] = []
    parents: list[Line | None] = []
    mask, bit = 0, 1
    for a in given:
        line = None
        if isinstance(a, Tensor):
            arrays.append(a._data)
            if record:
                line = a._line
                if line is not None:
                    mask |= bit
        else:
            arrays.append(a)
        parents.append(line)
        bit <<= 1
    plan = p.plan(mask, len(given)) if mask else None
    if plan is not None and plan.steps:
        arrays, meta = own_arrays(p, plan, given, arrays, meta)
        if _checksums:
            _look(arrays)
    try:
        out, cache = p.forward_with_cache(xp, arrays, meta, given)
    except Exception as e:
        raise explained(p, given, meta, e) from e
    if not taped:
        return out, cache
    result: Any
    if plan is not None and plan.steps:
        result = _recorded(xp, plan, tuple(parents), arrays, meta, out, cache)
    elif type(out) is tuple:
        result = tuple(Tensor(_as_array(xp, o)) for o in out)
    else:
        result = Tensor(_as_array(xp, out))
    if watching:
        for watch in state.watchers:
            watch(p, given, result)
    return result, cache


def _recorded(xp: Namespace, plan: Plan, parents: tuple[Line | None, ...], arrays: Sequence[Array], meta: dict[str, Any], out: Any, cache: Any) -> Any:
    """The output as a Tensor, or several, whose new line keeps what the rules will ask for."""
    if type(out) is tuple:
        outs = tuple(_as_array(xp, o) for o in out)
        line = Line(plan, parents, plan.collect(arrays, outs, meta, cache), tuple((o.shape, o.dtype) for o in outs), None)
        return tuple(output_tensor(o, line, i) for i, o in enumerate(outs))
    if type(out) not in NAMESPACES:
        out = xp.asarray(out)
    return Tensor(out, Line(plan, parents, plan.collect(arrays, out, meta, cache), out.shape, out.dtype))


def _as_array(xp: Namespace, value: Any) -> Array:
    return value if type(value) in NAMESPACES else xp.asarray(value)  # NumPy turns 0-d results into scalars


def _look(arrays: list[Array]) -> None:
    """Were those of the op's arrays written to that had been handed out? (Its Tensor and this list hold one that no line keeps.)"""
    for i in range(len(arrays)):
        if type(arrays[i]) in NAMESPACES:
            idle = ownership.others([arrays[i]]) == 1 + sum(a is arrays[i] for a in arrays)
            storage.look(arrays[i], idle)


# -- shorter ways -----------------------------------------------------------------------------------------------------------

def shortest_way(p: Primitive) -> Callable[..., Any]:
    """The function that stands for a primitive: it takes the shortest way that a call allows."""
    if not only_numbers_in_keywords(p):
        return general_way(p)
    if not p.variadic and not p.defaults and p.rules.keys() == {*p.inputs} and len(p.inputs) <= 2:
        return _of_one(p) if len(p.inputs) == 1 else _of_two(p)
    return general_way(p) if p.defaults else _of_many(p)


def general_way(p: Primitive) -> Callable[..., Any]:
    """The function that takes the general way in every call."""
    return lambda *args, **meta: call(p, args, meta)[0]


_USUAL = backend.np.dtype("float32")  # one object for all arrays of it, which is found out sooner than that it is a member of REAL
_absent: Any = type("absent", (), {"__slots__": ()})()  # an input that was not given: the general way says so


def _of_one(p: Primitive) -> Callable[..., Any]:
    """One Tensor on the tape, or a raw array."""
    forward, plans = p.forward, p.plans

    def apply(a: Any = _absent, *more: Any, **meta: Any) -> Any:
        if more:
            return call(p, (a, *more), meta)[0]
        if isinstance(a, Tensor):
            line = a._line
            if line is not None and state.recording and not watching and not _checksums:
                x = a._data
                kind = type(x)
                try:
                    out = forward(NAMESPACES[kind], x, **meta)
                except Exception as e:
                    raise explained(p, (a,), meta, e) from e
                plan = plans.get(1) or p.plan(1, 1)
                if type(out) is not kind:
                    return _recorded(NAMESPACES[kind], plan, (line,), (x,), meta, out, None)
                return Tensor(out, Line(plan, (line,), plan.collect((x,), out, meta, None), out.shape, out.dtype))
        elif type(a) in NAMESPACES:
            if a.dtype is _USUAL or a.dtype in REAL:
                try:
                    return forward(NAMESPACES[type(a)], a, **meta)
                except Exception as e:
                    raise explained(p, (a,), meta, e) from e
        elif isinstance(a, backend.np.generic) and a.dtype in REAL:  # what NumPy makes of a 0-d result
            return _raw(p, backend.np, (backend.np.asarray(a),), meta)
        return call(p, () if a is _absent else (a,), meta)[0]

    return apply


def _of_two(p: Primitive) -> Callable[..., Any]:
    """Two Tensors of one dtype, or a Tensor and a number, one of them on the tape; or raw arrays."""
    forward, plans, align = p.forward, p.plans, p.align

    def apply(a: Any = _absent, b: Any = _absent, *more: Any, **meta: Any) -> Any:
        if b is _absent or more:
            return call(p, [v for v in (a, b, *more) if v is not _absent], meta)[0]
        if isinstance(a, Tensor):
            m, x = a._line, a._data
            kind = type(x)
            if isinstance(b, Tensor):
                n, y = b._line, b._data
                if kind is not type(y) or x.dtype is not y.dtype:
                    return call(p, (a, b), meta)[0]
                if align is not None and x.shape != y.shape:
                    a, b = align(p, [a, b])
                    m, x, n, y = a._line, a._data, b._line, b._data
                mask = (m is not None) + 2 * (n is not None)
            elif align is not None and (type(b) is float or type(b) is int):
                n, y, mask = None, b, int(m is not None)
            else:
                return call(p, (a, b), meta)[0]
        elif isinstance(b, Tensor):
            n, y = b._line, b._data
            kind = type(y)
            if align is None or (type(a) is not float and type(a) is not int):
                return call(p, (a, b), meta)[0]
            m, x, mask = None, a, 2 * (n is not None)
        else:
            if type(a) in NAMESPACES and (a.dtype is _USUAL or a.dtype in REAL) and (
                    type(b) is float or type(b) is int or (type(b) is type(a) and (b.dtype is _USUAL or b.dtype in REAL))):
                return _raw(p, NAMESPACES[type(a)], (a, b), meta)
            return call(p, (a, b), meta)[0]
        if not mask or not state.recording or watching or _checksums:
            x = y = None  # `call` may ask who holds the arrays
            return call(p, (a, b), meta)[0]
        try:
            out = forward(NAMESPACES[kind], x, y, **meta)
        except Exception as e:
            raise explained(p, (a, b), meta, e) from e
        plan = plans.get(mask) or p.plan(mask, 2)
        if type(out) is not kind:
            return _recorded(NAMESPACES[kind], plan, (m, n), (x, y), meta, out, None)
        return Tensor(out, Line(plan, (m, n), plan.collect((x, y), out, meta, None), out.shape, out.dtype))

    return apply


def _of_many(p: Primitive) -> Callable[..., Any]:
    """Raw arrays, numbers and None."""
    count = None if p.variadic else len(p.inputs)

    def apply(*args: Any, **meta: Any) -> Any:
        kind: Any = None
        if count is not None and len(args) != count:
            return call(p, args, meta)[0]
        for a in args:
            mine = type(a)
            if a is not None and mine is not float and mine is not int:
                if (mine is not kind and (kind is not None or mine not in NAMESPACES)) or (a.dtype is not _USUAL and a.dtype not in REAL):
                    return call(p, args, meta)[0]
                kind = mine
        return call(p, args, meta)[0] if kind is None else _raw(p, NAMESPACES[kind], args, meta)

    return apply


def _raw(p: Primitive, xp: Namespace, arrays: tuple[Array, ...], meta: dict[str, Any]) -> Any:
    """All inputs are raw arrays (a rule in first order): the result is raw, nothing is recorded."""
    try:
        return p.forward(xp, *arrays, **meta)
    except Exception as e:
        raise explained(p, arrays, meta, e) from e
