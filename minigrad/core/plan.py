"""What a primitive knows about itself, and what a tape line of it keeps.

A `Primitive` holds an op's forward and its rules; a `Plan` is made from it for each set of inputs that require grad: which
arrays and metadata the rules asked for by their parameter names, and how to call the rules with them.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from .backend import NAMESPACES, Array, Namespace
from .errors import error
from .tensor import Line, Tensor, Value

Align = Callable[["Primitive", list[Any]], list[Any]]
Get = Callable[[Sequence[Any], Any, dict[str, Any], Any], Any]  # from the arrays, the output, the keywords and the cache of a call
Parameters = Sequence[tuple[str, bool]]  # names in order, and whether each is passed by keyword


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
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        for p in parameters:
            if p.kind is p.VAR_POSITIONAL:
                self.variadic = p.name
            elif p.kind is p.KEYWORD_ONLY:
                self.keywords.append(p.name)
                if p.default is not p.empty:
                    self.defaults[p.name] = p.default
            else:
                self.inputs.append(p.name)
        # what help() shows: an input may be a Tensor, an array or a number, whatever the forward is given
        self.signature = inspect.Signature([p if p.kind is p.KEYWORD_ONLY else p.replace(annotation=p.empty) for p in parameters])
        if (forward.__module__ or "").startswith("minigrad."):
            registry[self.name] = self
        unknown = set(rules) - {*self.inputs, self.variadic}
        if unknown:
            raise error(TypeError, f"@primitive {self.name}", got=f"rules for {sorted(unknown)}", needs=f"names among its inputs {self._input_names()}",
                        fix="name each rule after the input whose gradient it computes")

    # by-hand ops override the next five
    joint: Callable[..., Any] | None = None  # the rule of all inputs at once: joint(cotangent, cache, ...)
    backward_names: Parameters = ()  # its parameters after these two
    more_kept: Sequence[str] = ()  # what else a line keeps

    def forward_with_cache(self, xp: Namespace, arrays: Sequence[Array], meta: dict[str, Any], given: Sequence[Value]) -> tuple[Any, Any]:
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

    def parameters_of(self, rule: Callable[..., Any], skip: int) -> Parameters:
        """(name, passed by keyword) of the parameters of `rule` after the first `skip`."""
        ps = list(inspect.signature(rule).parameters.values())[skip:]
        return [(p.name, p.kind is p.KEYWORD_ONLY) for p in ps]


class Plan:
    """What a line of one primitive keeps, and how its rules are called, given which inputs require grad.

    `collect(arrays, out, meta, cache)` builds the tuple `saved`; `steps` lists (input positions, call) where
    ``call(cotangent, saved)`` runs one rule. Both are put together once, from the rules' parameter names.
    """

    is_leaf = is_output = False

    def __init__(self, primitive: Primitive, mask: int, count: int) -> None:
        self.primitive, self.name = primitive, primitive.name
        self.slots: list[tuple[str, str, Any]] = []  # of `saved`: (parameter name, kind, input position or keyword)
        wanted = [i for i in range(count) if mask >> i & 1]
        fixed = len(primitive.inputs)
        steps: list[tuple[int | tuple[int, ...], Callable[[Any, Any], Any]]] = []
        if primitive.joint is not None:
            cache = self._slot("cache", "cache", None)
            steps.append((tuple(range(count)), self._calling(primitive.joint, primitive.backward_names, cache)))
            for name in primitive.more_kept:
                self._find(name)
        else:
            for i in wanted:
                if i < fixed and primitive.inputs[i] in primitive.rules:
                    steps.append((i, self._calling(rule := primitive.rules[primitive.inputs[i]], primitive.parameters_of(rule, 1))))
            if primitive.variadic in primitive.rules and any(i >= fixed for i in wanted):
                steps.append((tuple(range(fixed, count)), self._calling(rule := primitive.rules[primitive.variadic], primitive.parameters_of(rule, 1))))
        self.steps = tuple(steps)
        self.kept_positions = {k for _, kind, i in self.slots for k in (range(fixed, count) if kind == "arrays" else [i]) if kind in ("array", "arrays")}
        self.collect = _collecting([(kind, key) for _, kind, key in self.slots])

    def _calling(self, rule: Callable[..., Any], parameters: Parameters, *first: int) -> Callable[[Any, Any], Any]:
        """call(cotangent, saved): the rule with its parameters looked up in the saved tuple, those at `first` before the others."""
        at = [*first, *(self._find(name) for name, by_keyword in parameters if not by_keyword)]
        named = [(name, self._find(name)) for name, by_keyword in parameters if by_keyword]
        if named:
            return lambda g, s: rule(g, *[s[i] for i in at], **{name: s[i] for name, i in named})
        match at:  # the usual numbers of parameters are written out, because every line of a backward comes by here
            case []:
                return lambda g, s: rule(g)
            case [i]:
                return lambda g, s: rule(g, s[i])
            case [i, j]:
                return lambda g, s: rule(g, s[i], s[j])
            case [i, j, k]:
                return lambda g, s: rule(g, s[i], s[j], s[k])
        return lambda g, s: rule(g, *[s[i] for i in at])

    def _slot(self, name: str, kind: str, key: Any) -> int:
        if (name, kind, key) not in self.slots:
            self.slots.append((name, kind, key))
        return self.slots.index((name, kind, key))

    def _find(self, name: str) -> int:
        p = self.primitive
        base, _, suffix = name.rpartition("_")
        if name == "out":
            return self._slot(name, "out", None)
        if name in p.inputs:
            return self._slot(name, "array", p.inputs.index(name))
        if name in p.keywords:
            return self._slot(name, "meta", name)
        if name == p.variadic:
            return self._slot(name, "arrays", len(p.inputs))
        if suffix in ("shape", "dtype") and base in p.inputs:
            return self._slot(name, suffix, p.inputs.index(base))
        if suffix in ("shape", "dtype") and base == p.variadic:
            return self._slot(name, f"{suffix}s", len(p.inputs))
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


def _collecting(slots: list[tuple[str, Any]]) -> Callable[[Sequence[Any], Any, dict[str, Any], Any], tuple[Any, ...]]:
    """collect(arrays, out, meta, cache): the tuple of what the slots (kind, key) hold."""
    match slots:  # what most lines keep is written out, because every line that is recorded comes by here
        case []:
            return lambda d, out, m, cache: ()
        case [("array", i)]:
            return lambda d, out, m, cache: (d[i],)
        case [("array", i), ("array", j)]:
            return lambda d, out, m, cache: (d[i], d[j])
        case [("out", _)]:
            return lambda d, out, m, cache: (out,)
        case [("shape", i)]:
            return lambda d, out, m, cache: (d[i].shape,)
    match gets := [_getter(kind, key) for kind, key in slots]:
        case [one]:
            return lambda d, out, m, cache: (one(d, out, m, cache),)
        case [one, two]:
            return lambda d, out, m, cache: (one(d, out, m, cache), two(d, out, m, cache))
        case [one, two, three]:
            return lambda d, out, m, cache: (one(d, out, m, cache), two(d, out, m, cache), three(d, out, m, cache))
    return lambda d, out, m, cache: tuple([get(d, out, m, cache) for get in gets])


def _getter(kind: str, key: Any) -> Get:
    match kind:
        case "array":
            return lambda d, out, m, cache: d[key]
        case "arrays":
            return lambda d, out, m, cache: tuple(d[key:])
        case "shape" | "dtype":
            return lambda d, out, m, cache: getattr(d[key], kind)
        case "shapes" | "dtypes":
            return lambda d, out, m, cache: tuple([getattr(a, kind[:-1]) for a in d[key:]])
        case "meta":
            return lambda d, out, m, cache: m[key]
        case "out":
            return lambda d, out, m, cache: out
    return lambda d, out, m, cache: cache


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
