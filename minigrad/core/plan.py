"""What a primitive knows about itself, and what a tape line of it keeps.

A `Primitive` holds an op's forward and its rules; a `Plan` is made from it for each set of inputs that require grad: which
arrays and metadata the rules asked for by their parameter names, and how to call the rules with them.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from .backend import NAMESPACES, Array
from .errors import error
from .tensor import Line, Tensor

Align = Callable[["Primitive", list[Any]], list[Any]]


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
