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

import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from . import backend, storage
from .backend import NAMESPACES, Array
from .errors import BackendError, TapeError, describe, error
from .storage import _checksums
from .tensor import Line, Tensor, state

Align = Callable[["Primitive", list[Any]], list[Any]]
watchers: list[Callable[[Primitive, Sequence[Any], Any], None]] = []  # called after each op: debug mode and record()


registry: dict[str, Primitive] = {}  # minigrad's own primitives: each must have a case in the tests


class Primitive:
    """What the decorators know about one op: its name, forward, inputs, keywords and rules."""

    def __init__(self, forward: Callable[..., Any], rules: dict[str, Callable[..., Any]], align: Align | None = None) -> None:
        self.forward, self.rules, self.align = forward, rules, align
        self.name = forward.__name__.lstrip("_")
        self.plans: dict[Any, Plan] = {}  # by mask (of a variadic op by mask and count); emptied when a rule is replaced
        self.inputs: list[str] = []
        self.variadic: str | None = None
        self.keywords: list[str] = []
        self.defaults: dict[str, Any] = {}
        for p in list(inspect.signature(forward).parameters.values())[1:]:
            if p.kind is p.VAR_POSITIONAL:
                self.variadic = p.name
            elif p.kind is p.KEYWORD_ONLY:
                self.keywords.append(p.name)
                if p.default is not p.empty:
                    self.defaults[p.name] = p.default
            else:
                self.inputs.append(p.name)
        if (forward.__module__ or "").startswith("minigrad."):
            registry[self.name] = self
        unknown = set(rules) - {*self.inputs, self.variadic}
        if unknown:
            raise error(TypeError, f"@primitive {self.name}", got=f"rules for {sorted(unknown)}", needs=f"names among its inputs {self._input_names()}",
                        fix="name each rule after the input whose gradient it computes")

    # by-hand ops override the next three
    joint: Callable[..., Any] | None = None

    def forward_with_cache(self, xp: Any, arrays: Sequence[Any], meta: dict[str, Any], given: Sequence[Any]) -> tuple[Any, Any]:
        """Run the forward on `arrays`, those of `given`; the second value is what `save` returned (None here)."""
        return self.forward(xp, *arrays, **meta), None

    def recompute_cache(self, kept: dict[str, Any], meta: dict[str, Any], cache: Any) -> Any:
        """The cache once more, from the inputs and on the tape."""
        return None

    def plan(self, mask: int, count: int) -> Plan:
        """The plan for this set of inputs requiring grad (bit i of `mask` is input i) among `count` inputs."""
        key = (mask, count) if self.variadic else mask
        plan = self.plans.get(key)
        if plan is None:
            plan = self.plans[key] = Plan(self, mask, count)
        return plan

    def _input_names(self) -> list[str]:
        return [*self.inputs, *([f"*{self.variadic}"] if self.variadic else [])]

    def parameters_of(self, rule: Callable[..., Any], skip: int) -> list[tuple[str, bool]]:
        """(name, passed by keyword) of the parameters of `rule` after the first `skip`."""
        ps = list(inspect.signature(rule).parameters.values())[skip:]
        return [(p.name, p.kind is p.KEYWORD_ONLY) for p in ps]


class Plan:
    """What a line of one primitive keeps, and how its rules are called, given which inputs require grad.

    `collect(arrays, out, meta, cache)` builds the tuple `saved`; `steps` lists (input positions, call) where
    ``call(cotangent, saved)`` runs one rule. Both are assembled once from the rules' parameter names.
    """

    is_leaf = is_output = False

    def __init__(self, primitive: Primitive, mask: int, count: int) -> None:
        self.primitive, self.name = primitive, primitive.name
        self.slots: list[tuple[str, str, Any]] = []  # (parameter name, kind, input position or keyword)
        self._codes: list[str] = []
        wanted = [i for i in range(count) if mask >> i & 1]
        fixed = len(primitive.inputs)
        steps: list[tuple[int | tuple[int, ...], Callable[[Any, Any], Any]]] = []
        if primitive.joint is not None:
            steps.append((tuple(range(count)), self._compile(primitive.joint, skip=2, joint=True)))
        else:
            for i in wanted:
                if i < fixed and primitive.inputs[i] in primitive.rules:
                    steps.append((i, self._compile(primitive.rules[primitive.inputs[i]], skip=1)))
            if primitive.variadic in primitive.rules and any(i >= fixed for i in wanted):
                steps.append((tuple(range(fixed, count)), self._compile(primitive.rules[primitive.variadic], skip=1)))
        self.steps = tuple(steps)
        self.kept_positions = {k for _, kind, i in self.slots for k in (range(fixed, count) if kind == "arrays" else [i]) if kind in ("array", "arrays")}
        # the tuple of everything the rules asked for, as one expression over arrays d, output, keywords m and cache
        self.collect: Callable[[Any, Any, Any, Any], tuple[Any, ...]] = eval(f"lambda d, out, m, cache: ({''.join(c + ', ' for c in self._codes)})")

    def _compile(self, rule: Callable[..., Any], skip: int, joint: bool = False) -> Callable[[Any, Any], Any]:
        """``lambda g, s: rule(g, s[0], s[2])``: the rule with its parameters looked up in the saved tuple."""
        given = ["g"]
        if joint:
            given.append(f"s[{self._slot('cache', 'cache', None, 'cache')}]")
        for name, by_keyword in self.primitive.parameters_of(rule, skip):
            where = f"s[{self._find(name)}]"
            given.append(f"{name}={where}" if by_keyword else where)
        return eval(f"lambda g, s: rule({', '.join(given)})", {"rule": rule})

    def _slot(self, name: str, kind: str, key: Any, code: str) -> int:
        if (name, kind, key) not in self.slots:
            self.slots.append((name, kind, key))
            self._codes.append(code)
        return self.slots.index((name, kind, key))

    def _find(self, name: str) -> int:
        p = self.primitive
        base, _, suffix = name.rpartition("_")
        if name == "out":
            return self._slot(name, "out", None, "out")
        if name in p.inputs:
            i = p.inputs.index(name)
            return self._slot(name, "array", i, f"d[{i}]")
        if name in p.keywords:
            return self._slot(name, "meta", name, f"m[{name!r}]")
        start = len(p.inputs)
        if name == p.variadic:
            return self._slot(name, "arrays", start, f"tuple(d[{start}:])")
        if suffix in ("shape", "dtype") and base in p.inputs:
            return self._slot(name, suffix, p.inputs.index(base), f"d[{p.inputs.index(base)}].{suffix}")
        if suffix in ("shape", "dtype") and base == p.variadic:
            return self._slot(name, suffix, base, f"tuple([a.{suffix} for a in d[{start}:]])")
        raise error(TypeError, f"rule of {p.name}", got=f"a parameter {name!r}",
                    needs=f"'out', an input {p._input_names()}, INPUT_shape, INPUT_dtype, or a keyword {p.keywords}",
                    fix="rename the rule's parameter to what it should receive")

    def arrays_in(self, saved: tuple[Any, ...]) -> dict[str, Array]:
        """The arrays among `saved`, by parameter name (a tuple's as name[0], name[1] ...)."""
        found: dict[str, Array] = {}
        for (name, _, _), value in zip(self.slots, saved, strict=True):
            if isinstance(value, tuple):
                found.update({f"{name}[{i}]": v for i, v in enumerate(value) if type(v) in NAMESPACES})
            elif type(value) in NAMESPACES:
                found[name] = value
        return found

    def on_tape(self, line: Line) -> tuple[Any, ...]:
        """`saved` as Tensors tied to the lines they came from, so that a rule run on them is recorded."""
        values: list[Any] = []
        for (_, kind, key), value in zip(self.slots, line.saved, strict=True):
            if kind == "array":
                value = Tensor(value, line.parents[key]) if type(value) in NAMESPACES else value
            elif kind == "arrays":
                value = tuple(Tensor(v, line.parents[key + i]) for i, v in enumerate(value))
            elif kind == "out":
                value = tuple(output_tensor(v, line, i) for i, v in enumerate(value)) if isinstance(value, tuple) else Tensor(value, line)
            values.append(value)
        cache_at = next((k for k, s in enumerate(self.slots) if s[1] == "cache"), None)
        if cache_at is not None:
            kept = {name: v for (name, kind, _), v in zip(self.slots, values, strict=True) if kind in ("array", "out")}
            meta = {name: v for (name, kind, _), v in zip(self.slots, values, strict=True) if kind == "meta"}
            self.primitive.rebuild_inputs(kept, meta, line)  # type: ignore[attr-defined]
            values[cache_at] = self.primitive.recompute_cache(kept, meta, line.saved[cache_at])
            for k, (name, kind, _) in enumerate(self.slots):
                if kind == "array":
                    values[k] = kept[name]
        return tuple(values)


# -- several outputs: one line for the op, and one for each output ----------------------------------------------------------

class _OutputPlan:
    is_leaf, is_output, steps, slots = False, True, (), ()

    def __init__(self, position: int) -> None:
        self.position, self.name = position, f"output[{position}]"

    def arrays_in(self, saved: Any) -> dict[str, Array]:
        return {}


_output_plans: list[Any] = []


def output_tensor(array: Array, line: Line, position: int) -> Tensor:
    """Output number `position` of an op with several, as a Tensor with a line of its own: always the same one."""
    while len(_output_plans) <= position:
        _output_plans.append(_OutputPlan(len(_output_plans)))
    known = line.noted("outputs")
    if known is None:
        line.note("outputs", known := {})
    made = known[position]() if position in known else None
    if made is None:
        made = Line(_output_plans[position], (line,), (), array.shape, array.dtype)
        known[position] = weakref.ref(made)
    return Tensor(array, made)


def is_output(line: Line) -> bool:
    """Is this the line of one output of an op with several?"""
    return isinstance(line.plan, _OutputPlan)


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
    xp = _namespace_of_like_tensors(given) if taped and p.align is None else None
    if xp is None:
        xp = _one_namespace(p, given)
        if taped:
            if p.align is not None:
                given = p.align(p, given)
            else:
                _one_float_dtype(p, given)
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
    try:
        out, cache = p.forward_with_cache(xp, arrays, meta, given)
    except Exception as e:
        raise _explained(p, given, meta, e) from e
    if not taped:
        return out, cache
    plan = p.plan(mask, len(given)) if mask else None
    result: Any
    if plan is None or not plan.steps:
        result = tuple(Tensor(_as_array(xp, o)) for o in out) if type(out) is tuple else Tensor(_as_array(xp, out))
    else:
        for i in plan.kept_positions:
            if not isinstance(given[i], Tensor) and type(given[i]) in NAMESPACES:
                arrays[i] = given[i].copy()  # the caller's own array: what the tape keeps must not change under it
        if _checksums:
            for array in arrays:
                if type(array) in NAMESPACES:
                    storage.look(array)
        if type(out) is tuple:
            outs = tuple(_as_array(xp, o) for o in out)
            line = Line(plan, tuple(parents), plan.collect(arrays, outs, meta, cache), tuple((o.shape, o.dtype) for o in outs), None)
            result = tuple(output_tensor(o, line, i) for i, o in enumerate(outs))
        else:
            out = _as_array(xp, out)
            result = Tensor(out, Line(plan, tuple(parents), plan.collect(arrays, out, meta, cache), out.shape, out.dtype))
    for watch in watchers:
        watch(p, given, result)
    return result, cache


def _checked_keywords(p: Primitive, meta: dict[str, Any]) -> dict[str, Any]:
    """The keywords, Tensors among them as the raw constants they must be."""
    for k, v in meta.items():
        if k not in p.keywords:
            raise error(TypeError, p.name, got=f"the keyword {k!r}", needs=f"keywords among {p.keywords}", fix="check the spelling")
        if isinstance(v, Tensor):
            meta = {**meta, k: _constant(p, k, v)}
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


def _namespace_of_like_tensors(given: Sequence[Any]) -> Any:
    """The namespace, where all of `given` are Tensors of one backend and the floating ones of the first's dtype; else None."""
    kind: Any = None
    for a in given:
        if not isinstance(a, Tensor):
            return None
        data = a._data
        if kind is None:
            kind, dtype = type(data), data.dtype
        elif type(data) is not kind or (data.dtype is not dtype and data.dtype.kind == "f"):
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
        if not backend.is_array(data):
            raise error(TypeError, p.name, got=describe(a), needs="Tensors, raw arrays or numbers", fix="make a tensor of it: minigrad.tensor(...)")
        mine = NAMESPACES[type(data)]
        if xp is not None and mine is not xp:
            names = " and ".join(sorted({backend.name_of(b._data if isinstance(b, Tensor) else b) for b in given
                                         if isinstance(b, Tensor) or backend.is_array(b)}))
            raise error(BackendError, p.name, got=f"arrays of the backends {names}", needs="all inputs on one backend",
                        fix="move one of them: x.to('cupy') or x.to('numpy')")
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
                            fix=f"x.astype('{found}') on one of them")
            found = dtype
    return found


def _explained(p: Primitive, given: Sequence[Any], meta: dict[str, Any], e: Exception) -> Exception:
    """The library's error with the op's name, shapes and dtypes, unless it explains itself already."""
    if "\n  needs: " in str(e) or (not isinstance(e, (ValueError, TypeError, IndexError, ArithmeticError)) and "LinAlgError" not in type(e).__name__):
        return e
    kind: type[Exception] = next((k for k in (ValueError, TypeError, IndexError) if isinstance(e, k)), ValueError)
    words = [describe(a) for a in given] + [f"{k}={v!r}" for k, v in meta.items() if not hasattr(v, "shape")]
    return error(kind, p.name, got=", ".join(words), needs=f"inputs that fit each other ({e})", fix=f"check the shapes; see help(minigrad.{p.name})")


def _fast_unary(p: Primitive) -> Callable[..., Any]:
    """One raw array, or one Tensor on the tape; everything else goes the general way."""
    forward, plans = p.forward, p.plans
    several = False  # outputs; found out at the first call

    def apply(a: Any, **meta: Any) -> Any:
        nonlocal several
        if isinstance(a, Tensor):
            line = a._line
            if line is not None and state.recording and not several and not watchers and not _checksums:
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
        if not mask or not state.recording or watchers or _checksums:
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
