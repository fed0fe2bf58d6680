"""Primitives: an op beside its derivative rules.

    @primitive(a=lambda g, b: g * b, b=lambda g, a: g * a)
    def mul(xp, a, b): return xp.multiply(a, b)

The forward function gets the array namespace first, then its inputs, then keywords. A rule gets the cotangent first; the
names of its other parameters say what the tape keeps for it:

    NAME         the array of that input            NAME_shape, NAME_dtype   metadata of that input: keeps nothing
    out          the array of the output            a keyword of the op      its value: keeps nothing

Rules use ordinary operators and minigrad's ops, so the same lines run on raw arrays (first order) and on Tensors, where
they are recorded (``create_graph=True``). Only what the inputs that require grad need is kept.

Conventions for the less usual ops:
- A variadic input (``*arrays``) has one rule for all of them; it returns a tuple with one gradient (or None) an input, and
  ``arrays``, ``arrays_shape`` are tuples.
- An op with several outputs returns a tuple. Its rule's cotangent is then a tuple, with zeros for unused outputs, and
  ``out`` is the tuple of outputs.
- An input without a rule is a constant for the derivative (indices, masks); Tensors are accepted there.
- A rule may return None: no gradient flows that way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..kernels.half import of_one_dtype
from . import backend, ownership, storage
from .backend import NAMESPACES, Array
from .errors import BackendError, TapeError, describe, error, op_named
from .plan import Align, Primitive, output_tensor
from .state import watching
from .storage import _checksums
from .tensor import Line, Tensor, state

# -- calling an op ----------------------------------------------------------------------------------------------------------

def call(p: Primitive, args: Sequence[Any], meta: dict[str, Any]) -> tuple[Any, Any]:
    """Apply `p` to any mixture of Tensors, raw arrays and numbers. Returns (result, cache)."""
    if p.defaults:
        meta = {**p.defaults, **meta}
    if meta:
        meta = _checked_keywords(p, meta)
    given = list(args)
    if not p.variadic and len(given) != len(p.inputs):
        raise error(TypeError, p.name, got=f"{len(given)} inputs", needs=f"{len(p.inputs)}: {', '.join(p.inputs)}", fix="arrays come first, then keywords")
    taped = False
    for a in given:
        if isinstance(a, Tensor):
            taped = True
            break
    else:  # in a rule: NumPy's 0-d results are scalars with a dtype, which must stay what they are
        given = [backend.np.asarray(a) if isinstance(a, backend.np.generic) else a for a in given]
    xp = _namespace_of_like_tensors(p, given) if taped and p.align is None else None
    if xp is None:
        xp = _one_namespace(p, given)
        if taped:
            if p.align is not None:
                given = p.align(p, given)
            else:
                _integers_follow(p, given, _one_float_dtype(p, given if p.joint is None else of_one_dtype(given)))
    record = state.recording and (p.joint is not None or bool(p.rules))
    arrays: list[Any] = []
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
        arrays, meta = _own_arrays(p, plan, given, arrays, meta)
        if _checksums:
            _look(arrays)
    try:
        out, cache = p.forward_with_cache(xp, arrays, meta, given)
    except Exception as e:
        raise _explained(p, given, meta, e) from e
    if not taped:
        return out, cache
    result: Any
    if plan is None or not plan.steps:
        result = tuple(Tensor(_as_array(xp, o)) for o in out) if type(out) is tuple else Tensor(_as_array(xp, out))
    else:
        if type(out) is tuple:
            outs = tuple(_as_array(xp, o) for o in out)
            line = Line(plan, tuple(parents), plan.collect(arrays, outs, meta, cache), tuple((o.shape, o.dtype) for o in outs), None)
            result = tuple(output_tensor(o, line, i) for i, o in enumerate(outs))
        else:
            out = _as_array(xp, out)
            result = Tensor(out, Line(plan, tuple(parents), plan.collect(arrays, out, meta, cache), out.shape, out.dtype))
    if watching:
        for watch in state.watchers:
            watch(p, given, result)
    return result, cache


def _own_arrays(p: Primitive, plan: Any, given: list[Any], arrays: list[Any], meta: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Copies in the place of arrays that the caller may change, where a line will keep them: raw inputs, and all in keywords.

    A Tensor among the inputs needs no copy, because writes into it are known. An op made by hand may keep any input in its cache.
    """
    arrays = [a.copy() if type(g) in NAMESPACES and (i in plan.kept_positions or p.joint is not None) else a
              for i, (g, a) in enumerate(zip(given, arrays, strict=True))]
    return arrays, {k: _copied(v) for k, v in meta.items()} if meta else meta


def _copied(value: Any) -> Any:
    """A keyword's value with copies of the raw arrays in it."""
    if type(value) in NAMESPACES:
        return value.copy()
    if type(value) in (tuple, list) and not all(type(v) is int for v in value):
        return type(value)(_copied(v) for v in value)
    return value


def _look(arrays: list[Any]) -> None:
    """Were those of the op's arrays written to that had been handed out? (Its Tensor and this list hold one that no line keeps.)"""
    for i in range(len(arrays)):
        if type(arrays[i]) in NAMESPACES:
            idle = ownership.others([arrays[i]]) == 1 + sum(a is arrays[i] for a in arrays)
            storage.look(arrays[i], idle)


def _checked_keywords(p: Primitive, meta: dict[str, Any]) -> dict[str, Any]:
    """The keywords, Tensors among them as the raw constants they must be."""
    for k, v in meta.items():
        if k not in p.keywords:
            raise error(TypeError, p.name, got=f"the keyword {k!r}", needs=f"keywords among {p.keywords}",
                        fix="leave it out: ops never write into their input" if k == "inplace" else "check the spelling")
        if isinstance(v, Tensor):
            meta = {**meta, k: _constant(p, k, v)}
        elif type(v) not in NAMESPACES and isinstance(v, backend.np.ndarray):
            meta = {**meta, k: backend.plain(v, f"{p.name}, {k}=")}
    return meta


def _as_array(xp: Any, value: Any) -> Array:
    return value if type(value) in NAMESPACES else xp.asarray(value)  # NumPy turns 0-d results into scalars


def _constant(p: Primitive, name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        if value._line is not None and state.recording:
            raise error(TapeError, p.name, got=f"a tensor that requires grad as the keyword {name!r}", needs="a constant: keywords have no derivative",
                        fix=f"pass {name}.detach()")
        return value._data
    return value


def _namespace_of_like_tensors(p: Primitive, given: Sequence[Any]) -> Any:
    """The namespace, where all of `given` are Tensors of one backend, and the floating ones and data of the first's dtype; else None."""
    kind: Any = None
    for i, a in enumerate(given):
        if not isinstance(a, Tensor):
            return None
        data = a._data
        if kind is None:
            kind, dtype = type(data), data.dtype
        elif type(data) is not kind or (data.dtype is not dtype and (data.dtype.kind == "f" or _is_data(p, i))):
            return None
    return NAMESPACES[kind] if dtype.kind == "f" else None


def _one_namespace(p: Primitive, given: list[Any]) -> Any:
    """The namespace of all arrays in `given` (numbers apart), after replacing NumPy scalars by Python's."""
    xp: Any = None
    for i, a in enumerate(given):
        data = a._data if isinstance(a, Tensor) else a
        if isinstance(data, (float, int)) or data is None:  # bool is an int; numpy.float64 is a float
            given[i] = data.item() if isinstance(data, backend.np.generic) else data
            continue
        if isinstance(data, backend.np.generic):
            given[i] = data.item()
            continue
        if type(data) not in NAMESPACES:
            given[i] = data = backend.plain(data, p.name)
        if not backend.is_array(data):
            raise error(TypeError, p.name, got=describe(a), needs="Tensors, raw arrays or numbers", fix="make a tensor of it: minigrad.tensor(...)")
        if data is a and data.dtype.kind not in "fiub":
            raise error(TypeError, p.name, got=describe(a), needs="real numbers, integers or booleans", fix="convert the data first: .real of complex numbers")
        mine = NAMESPACES[type(data)]
        if xp is not None and mine is not xp:
            names = sorted({backend.name_of(b._data if isinstance(b, Tensor) else b) for b in given if isinstance(b, Tensor) or backend.is_array(b)})
            raise error(BackendError, p.name, got=f"arrays of the backends {' and '.join(names)}", needs="all inputs on one backend",
                        fix=f"move one of them: {' or '.join(f'x.to({n!r})' for n in names)}; a raw array: minigrad.tensor(a, backend=...)")
        xp = mine
    return xp or backend.np


def _one_float_dtype(p: Primitive, given: Sequence[Any]) -> Any:
    """The floating dtype of all floating arrays in `given`, or None. Two of them are an error."""
    found: Any = None
    for a in given:
        dtype = getattr(a, "dtype", None)
        if dtype is not None and dtype.kind == "f":
            if found is not None and dtype != found:
                raise error(TypeError, p.name, got=f"the dtypes {found} and {dtype}", needs="one floating dtype: nothing is converted silently",
                            fix=f"x.astype('{dtype}') for the {found} one, or x.astype('{found}') for the {dtype} one; "
                                f"a whole module: model.astype('{found}')")
            found = dtype
    return found


def _integers_follow(p: Primitive, given: list[Any], dtype: Any) -> None:
    """Where a float decides the dtype, integers and booleans that are data follow it."""
    for i, a in enumerate(given) if dtype is not None else ():
        if getattr(a, "dtype", dtype).kind != "f" and _is_data(p, i):
            given[i] = Tensor(a._data.astype(dtype)) if isinstance(a, Tensor) else a.astype(dtype)


def _is_data(p: Primitive, position: int) -> bool:
    """Has this input a rule? (Indices, labels and masks have none.)"""
    return (p.inputs[position] if position < len(p.inputs) else p.variadic) in p.rules


def _explained(p: Primitive, given: Sequence[Any], meta: dict[str, Any], e: Exception) -> Exception:
    """The library's error with the op's name, shapes and dtypes, unless it explains itself already."""
    known = (ValueError, TypeError, IndexError, ArithmeticError, MemoryError)
    if "\n  needs: " in str(e) or (not isinstance(e, known) and "LinAlgError" not in type(e).__name__):
        return e
    if not meta.keys() <= {*p.keywords}:  # the fast ways find it out here
        try:
            _checked_keywords(p, meta)
        except TypeError as unknown:
            return unknown
    missing = [k for k in p.keywords if k not in meta and k not in p.defaults]
    if missing:
        return error(TypeError, p.name, got=f"no {' and no '.join(missing)}", needs=f"the keywords {p.keywords}", fix=f"{p.name}(..., {missing[0]}=...)")
    if isinstance(e, FloatingPointError):  # NumPy's errstate was asked to raise
        return error(FloatingPointError, p.name, got=", ".join(map(describe, given)), needs=f"no {e}, as numpy.errstate demands here",
                     fix="numpy.errstate(all='ignore') around it, or mg.debug() to find the first NaN or Inf")
    kind: type[Exception] = next((k for k in (ValueError, TypeError, IndexError, MemoryError) if isinstance(e, k)), ValueError)
    words = [describe(a) for a in given] + [f"{k}={v!r}" for k, v in meta.items() if not hasattr(v, "shape")]
    public = op_named(p.name)
    needs, fix = ("more memory than there is", "a smaller batch; see docs/gpu.md for what CuPy keeps") if kind is MemoryError else (
        "inputs that fit each other", f"check the {'dtypes' if kind is TypeError else 'shapes'}{f'; see help({public})' if public else ''}")
    return error(kind, p.name, got=", ".join(words), needs=f"{needs} ({e})", fix=fix)


def _only_numbers_in_keywords(p: Primitive) -> bool:
    """May a line keep this op's keywords as they are? minigrad's own pass no arrays there; of others nobody knows."""
    return not p.keywords or (p.forward.__module__ or "").startswith("minigrad.ops.")


def _fast_unary(p: Primitive) -> Callable[..., Any]:
    """One raw array, or one Tensor on the tape; everything else goes the general way."""
    forward, plans = p.forward, p.plans
    several = False  # outputs; found out at the first call
    numbers = _only_numbers_in_keywords(p)

    def apply(a: Any, **meta: Any) -> Any:
        nonlocal several
        if isinstance(a, Tensor):
            line = a._line
            if line is not None and state.recording and not several and not watching and not _checksums and numbers:
                x = a._data
                xp = NAMESPACES[type(x)]
                try:
                    out = forward(xp, x, **meta)
                except Exception as e:
                    raise _explained(p, (a,), meta, e) from e
                several = type(out) is tuple
                if not several:
                    if type(out) not in NAMESPACES:
                        out = xp.asarray(out)  # a NumPy scalar
                    plan = plans.get(1) or p.plan(1, 1)
                    return Tensor(out, Line(plan, (line,), plan.collect((x,), out, meta, None), out.shape, out.dtype))
        elif type(a) in NAMESPACES:  # all raw: a rule in first order; nothing is recorded
            try:
                return forward(NAMESPACES[type(a)], a, **meta)
            except Exception as e:
                raise _explained(p, (a,), meta, e) from e
        elif isinstance(a, backend.np.generic):  # in a rule: what NumPy makes of a 0-d result
            return _raw(p, backend.np, (backend.np.asarray(a),), meta)
        return call(p, (a,), meta)[0]

    return apply


def _fast_binary(p: Primitive) -> Callable[..., Any]:
    """Two Tensors of one dtype, or a Tensor and a number, one of them on the tape; or raw arrays."""
    forward, plans, align = p.forward, p.plans, p.align
    numbers = _only_numbers_in_keywords(p)

    def apply(a: Any, b: Any, **meta: Any) -> Any:
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
            if type(a) in NAMESPACES and (type(b) is type(a) or type(b) is float or type(b) is int):
                return _raw(p, NAMESPACES[type(a)], (a, b), meta)
            return call(p, (a, b), meta)[0]
        if not mask or not state.recording or watching or _checksums or not numbers:
            x = y = None  # `call` may ask who holds the arrays
            return call(p, (a, b), meta)[0]
        xp = NAMESPACES[kind]
        try:
            out = forward(xp, x, y, **meta)
        except Exception as e:
            raise _explained(p, (a, b), meta, e) from e
        if type(out) is not kind:
            out = xp.asarray(out)
        plan = plans.get(mask) or p.plan(mask, 2)
        return Tensor(out, Line(plan, (m, n), plan.collect((x, y), out, meta, None), out.shape, out.dtype))

    return apply


def _general(p: Primitive) -> Callable[..., Any]:
    def apply(*args: Any, **meta: Any) -> Any:
        kind: Any = None
        for a in args:
            mine = type(a)
            if mine is not float and mine is not int and mine is not kind:
                if kind is not None or mine not in NAMESPACES:
                    return call(p, args, meta)[0]
                kind = mine
        return call(p, args, meta)[0] if kind is None or p.defaults else _raw(p, NAMESPACES[kind], args, meta)

    return apply


def _raw(p: Primitive, xp: Any, arrays: tuple[Any, ...], meta: dict[str, Any]) -> Any:
    """All inputs are raw arrays (a rule in first order): the result is raw, nothing is recorded."""
    try:
        return p.forward(xp, *arrays, **meta)
    except Exception as e:
        raise _explained(p, arrays, meta, e) from e


def as_function(p: Primitive, apply: Callable[..., Any]) -> Callable[..., Any]:
    """`apply` under the op's name and documentation, with the Primitive as its attribute."""
    apply.__name__ = apply.__qualname__ = p.name
    apply.__doc__ = p.forward.__doc__
    apply.__module__ = p.forward.__module__
    apply.primitive = p  # type: ignore[attr-defined]
    return apply


def primitive(align: Align | None = None, /, **rules: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn ``forward(xp, *inputs, **keywords)`` into an op with these derivative rules (see the module's docstring).

    Args:
        align: prepares the inputs before the forward (elementwise ops pass one that broadcasts; see `elementwise`).
        rules: input name -> ``rule(cotangent, ...) -> gradient``. Inputs without a rule are constants.

    >>> import minigrad as mg
    >>> @mg.primitive(a=lambda g, b: g * b, b=lambda g, a: g * a)
    ... def product(xp, a, b):
    ...     return xp.multiply(a, b)
    >>> x = mg.tensor([3.0], requires_grad=True)
    >>> product(x, x).backward()
    >>> x.grad
    tensor([6.], dtype=float32)
    """
    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        p = Primitive(forward, rules, align)
        plain = not p.variadic and not p.defaults
        if plain and rules.keys() == {*p.inputs} and len(p.inputs) <= 2:
            return as_function(p, _fast_unary(p) if len(p.inputs) == 1 else _fast_binary(p))
        return as_function(p, _general(p))
    return decorate
