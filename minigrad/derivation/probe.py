"""One run of the composed form on random numbers: all values, all adjoints, and which path contributes what.

The tape of the composed form is the answer key. A `Probe` keeps that tape; `terms` cuts it at the adjoints that a line may
use, and returns each path's contribution on its own. Their sum is the reference. Every step of a path (`Edge`) can be
taken again with something changed, which is how mistakes are recognized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from ..core import engine
from ..core.backend import Array, np
from ..core.errors import error
from ..core.tensor import Line, Tensor
from ..show import record, tape
from ..show.print import Tape
from .outputs import joined
from .task import Case, Task, TaskError

MOST_PATHS = 400
MOST_ELEMENTS = 150  # of a Jacobian whose diagonal is wanted
ELEMENTWISE = frozenset({
    "exp", "log", "tanh", "sigmoid", "relu", "leaky_relu", "elu", "gelu", "softplus", "silu", "abs", "sqrt", "square", "sin", "cos", "erf", "log1p",
    "expm1", "reciprocal", "sign"})


def in_dtype(value: Any, dtype: str) -> Any:
    """Floats, in arrays and Tensors, on the host and in this dtype; everything else as it is."""
    if isinstance(value, Tensor):
        return Tensor(in_dtype(np.array(value.numpy()), dtype), None)
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


class Edge(NamedTuple):
    """A step of a path against the arrows: from the cotangent of `line` to that of its input at `position`."""

    line: Line
    position: int

    def pull(self, g: Array, saved: Any = None) -> Array:
        """The cotangent of the input, for `g` of the line; `saved`: what the rule reads, if not what the tape kept."""
        plan: Any = self.line.plan
        if plan.is_output:
            parts: list[Any] = [None] * len(self.line.parents[0].shape)  # type: ignore[union-attr]
            parts[plan.position] = g
            return parts
        if type(g) is list:
            g = engine._filled(self.line, g, False)
        for where, call in plan.steps:
            if where == self.position:
                return np.asarray(call(g, self.line.saved if saved is None else saved))
            if type(where) is tuple and self.position in where:
                return np.asarray(call(g, self.line.saved if saved is None else saved)[where.index(self.position)])
        raise AssertionError("an edge that no rule serves")


class Term(NamedTuple):
    """All paths from the target through the same named values to one adjoint."""

    through: tuple[str, ...]  # names on the way from the target to `source`, which is the last
    source: str
    paths: tuple[tuple[Edge, ...], ...]  # from the source back to the target
    value: Array
    use: str = ""  # "the second of three uses", where a term is one of several on the same way


class Probe:
    """Values, adjoints and the tape of one case.

    Args:
        case: arrays by argument name, and keywords. Floats take the dtype; integers and booleans (labels, indices, masks) stay as
            they are and are not variables.
        rng: draws the cotangent of the output, if none is given.
        dtype: float64; in float32 the tape shows what the numbers of a case are worth in that dtype.
    """

    def __init__(self, task: Task, case: tuple[Mapping[str, Any], Mapping[str, Any]], rng: Any, cotangent: Array | None = None, dtype: str = "float64") -> None:
        arrays, keywords = case
        self.task, self.arrays = task, {k: in_dtype(np.asarray(a), dtype) for k, a in arrays.items()}
        self.keywords = {k: in_dtype(v, dtype) for k, v in keywords.items()}
        self.inputs: dict[str, Any] = {k: Tensor(a.copy(), None) if a.dtype.kind == "f" else a.copy() for k, a in self.arrays.items()}
        for t in self.inputs.values():
            if isinstance(t, Tensor):
                t.requires_grad = True
        with record() as seen:
            y, self.outputs = joined(task.forward(*self.inputs.values(), **self.keywords))
        if not isinstance(y, Tensor) or y._line is None:
            raise error(TypeError, f"task {task.name}", got=f"a forward that returns {type(y).__name__}", needs="Tensors that depend on its arguments",
                        fix="return the result of minigrad ops")
        self.lines: dict[str, Line] = {k: t._line for k, t in self.inputs.items() if isinstance(t, Tensor) and t._line is not None}
        self.values: dict[str, Any] = dict(self.arrays)
        for entry in seen:
            if entry.name is not None:
                self.values[entry.name] = np.array(entry.value._data)
                if entry.line is not None:
                    self.lines[entry.name] = entry.line
        self.output = y._line.name or "y"
        self.unnamed: dict[str, Array] = {}  # values without a name, by what they look like
        self.lines[self.output] = y._line
        self.values.setdefault(self.output, np.array(y._data))
        self.order = engine.reachable([y._line])
        self.unnamed_lines: dict[str, Line] = {}
        for entry in seen:
            if entry.name is None and entry.line is not None and not entry.line.plan.is_output and entry.line.plan.name != "_broadcast_to":
                look = self._look(entry.line)
                self.unnamed.setdefault(look, np.array(entry.value._data))
                self.unnamed_lines.setdefault(look, entry.line)
        self.name_of = {line: name for name, line in self.lines.items()}
        self.children: dict[Line, list[Edge]] = {line: [] for line in self.order}
        for line in self.order:
            for position, parent in enumerate(line.parents):
                if parent is not None:
                    self.children[parent].append(Edge(line, position))
        cotangent = rng.normal(size=y.shape).astype(dtype) if cotangent is None else cotangent.astype(dtype)
        names = [n for n, line in self.lines.items() if line in self.children]
        targets = {self.lines[n] for n in names} - {y._line}
        found = engine._run([(y._line, cotangent)], targets, create_graph=False, retain_graph=True)
        self.adjoints = {n: np.array(found[self.lines[n]]) for n in names if self.lines[n] in found}
        self.adjoints[self.output] = cotangent
        self.twins: dict[Any, list[Term] | None] = {}  # terms of the same function with another ε
        self._alive = (y, seen)

    def tape(self) -> Tape:
        """The tape of this run. Arguments and the output have a name on it, too: the one that messages and routes use."""
        for name, line in self.lines.items():
            if line.name is None:
                line.note("name", name)
        return tape(self._alive[0])

    def in_float32(self, target: str) -> Array | None:
        """The adjoint of `target` by the tape in float32; None where the forward pass does not run in it."""
        try:
            with np.errstate(all="ignore"):
                twin = Probe(self.task, (self.arrays, self.keywords), None, self.adjoints[self.output], "float32")
            return np.asarray(twin.adjoints[target], "float64")
        except Exception:  # a forward with its own constants in float64, which do not mix with float32
            return None

    def _look(self, line: Line, depth: int = 3) -> str:
        """How a value without a name was computed, in short: var + …, sqrt(var + …)."""
        name = next((n for n, other in self.lines.items() if other is line), None)
        if name is not None or line.plan.is_leaf or not depth:
            return name or "…"
        op = line.plan.name.lstrip("_")
        inputs = ["…" if p is None else self._look(p, depth - (op != "broadcast_to")) for p in line.parents]
        if op in ("broadcast_to", "identity"):
            return inputs[0]
        sign = {"add": "+", "subtract": "−", "multiply": "·", "divide": "/"}.get(op)
        return f"({inputs[0]} {sign} {inputs[1]})" if sign else f"{op}({', '.join(inputs)})"

    @cached_property
    def unnamed_adjoints(self) -> dict[str, Array]:
        """Adjoints of values without a name, by what they look like: sqrt(var + eps)."""
        lines = {look: line for look, line in self.unnamed_lines.items() if line in self.children and line not in self.name_of}
        found = engine._run([(self.lines[self.output], self.adjoints[self.output])], set(lines.values()), create_graph=False, retain_graph=True)
        return {look: np.array(found[line]) for look, line in lines.items() if line in found}

    def local_derivatives(self, target: str) -> dict[str, Array]:
        """Derivatives of the functions of one variable, element by element, between `target` and the output: "tanh'(a)"."""
        found: dict[str, Array] = {}
        for line in self.order:
            parents = [p for p in line.parents if p is not None]
            if line.plan.is_output or line.plan.is_leaf or len(parents) != 1 or line.plan.name.lstrip("_") not in ELEMENTWISE:
                continue
            parent = parents[0]
            if parent.shape == line.shape:
                edge = next(e for e in self.children[parent] if e.line is line)
                with np.errstate(all="ignore"):
                    found.setdefault(f"{line.plan.name.lstrip('_')}'({self._look(parent)})", np.asarray(edge.pull(np.ones(line.shape)), "float64"))
        return {n: a for n, a in found.items() if np.isfinite(a).all()}

    def diagonal(self, target: str, source: str) -> Array | None:
        """∂source_i / ∂target_i, element by element; None where their shapes differ or there are too many."""
        a, b = self.lines[target], self.lines[source]
        size = int(np.prod(a.shape))
        if a.shape != b.shape or size > MOST_ELEMENTS:
            return None
        found = np.zeros(size)
        for i in range(size):
            g = np.zeros(size)
            g[i] = 1.0
            pulled = engine._run([(b, g.reshape(a.shape))], {a}, create_graph=False, retain_graph=True)
            found[i] = np.asarray(pulled[a]).ravel()[i] if a in pulled else 0.0
        return found.reshape(a.shape)

    def after(self, name: str) -> set[str]:
        """What the values without a name that depend on `name` look like."""
        below, stack = set[Line](), [self.lines[name]]
        while stack:
            for edge in self.children.get(stack.pop(), ()):
                if edge.line not in below:
                    below.add(edge.line)
                    stack.append(edge.line)
        return {look for look, line in self.unnamed_lines.items() if line in below}

    @cached_property
    def undefined(self) -> str | None:
        """A value of the forward pass that is NaN; None if there is none. (Inf may be meant, as in a mask.)"""
        return next((n for n, a in self.values.items() if n not in self.arrays and np.asarray(a).dtype.kind == "f" and np.isnan(a).any()), None)

    @property
    def where(self) -> str:
        """The case in words: shapes of arrays, and the values of other keywords."""
        everything = {**self.arrays, **{k: v for k, v in self.keywords.items() if isinstance(v, (np.ndarray, Tensor))}}
        shapes = ", ".join(f"{k} {a.shape}" for k, a in everything.items())
        keywords = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.keywords.items() if k not in everything)
        return f"{shapes}{'; ' if keywords else ''}{keywords}"

    def refuse_undefined(self, names: Sequence[str], op: str = "") -> None:
        """A case at which no derivative can be judged.

        Args:
            names: of values whose adjoints are wanted.
            op: what the error says it comes from; the task, if nothing is given.

        Raises:
            TaskError: one of these adjoints is NaN or Inf, or any value of the forward pass is NaN.
        """
        for name in names:
            if not np.isfinite(self.adjoints[name]).all():
                raise error(TaskError, op or f"task {self.task.name}", got=f"a forward whose derivative d_{name} is {odd(self.adjoints[name])} at {self.where}",
                            needs="inputs at which it is finite", fix="keep them away from roots and logarithms of 0 or less, and from divisions by 0")
        if self.undefined is not None:
            raise error(TaskError, op or f"task {self.task.name}", got=f"a forward whose value {self.undefined} is NaN at {self.where}",
                        needs="inputs at which it is defined",
                        fix="keep them away from roots and logarithms of what is negative, and from 0/0; an array of zeros stands for normal numbers")

    @cached_property
    def given(self) -> dict[str, Any]:
        """The task's further arguments."""
        everything = {**self.values, **self.keywords}
        return {k: f(everything) for k, f in self.task.given.items()}

    def downstream(self, name: str) -> set[str]:
        """The values that depend on `name`, by name."""
        stack, seen = [self.lines[name]], set()
        while stack:
            for edge in self.children.get(stack.pop(), ()):
                if edge.line not in seen:
                    seen.add(edge.line)
                    stack.append(edge.line)
        return {self.name_of[line] for line in seen if line in self.name_of}

    def terms(self, target: str, sources: Sequence[str], swap: Mapping[Line, Any] | None = None) -> list[Term]:
        """The contributions to the adjoint of `target`, cut at the values `sources` whose adjoints are known.

        A path that meets none of them runs to the output. `swap` replaces what some lines saved.
        """
        stops = {self.lines[s] for s in sources} | {self.lines[self.output]}
        groups: dict[tuple[str, ...], list[tuple[Edge, ...]]] = {}
        stack: list[tuple[Line, tuple[Edge, ...], tuple[str, ...]]] = [(self.lines[target], (), ())]
        count = 0
        while stack:
            line, path, names = stack.pop()
            for edge in self.children.get(line, ()):
                through = (*names, self.name_of[edge.line]) if edge.line in self.name_of else names
                if edge.line in stops:
                    count += 1
                    groups.setdefault(through, []).append((edge, *path))
                else:
                    stack.append((edge.line, (edge, *path), through))
            if count > MOST_PATHS:
                raise error(TaskError, f"task {self.task.name}", got=f"more than {MOST_PATHS} paths from {target}", needs="fewer",
                            fix="name more of the values in between")
        return [Term(through, through[-1], tuple(paths), sum(self.along(p, self.adjoints[through[-1]], swap) for p in paths))
                for through, paths in sorted(groups.items(), key=lambda item: len(item[0]))]

    def split(self, terms: Sequence[Term], swap: Mapping[Line, Any] | None = None) -> list[Term]:
        """One term for each path: x @ x.T uses x twice, on the same way."""
        found = []
        for term in terms:
            for i, path in enumerate(sorted(term.paths, key=lambda p: [(e.line.index, e.position) for e in p])):
                use = f"use {i + 1} of {len(term.paths)}" if len(term.paths) > 1 else ""
                found.append(Term(term.through, term.source, (path,), self.along(path, self.adjoints[term.source], swap), use))
        return found

    def with_epsilon(self, keyword: str, how: str) -> Probe | None:
        """The same run without ε ("none"), or with √v + ε in the place of √(v + ε) ("outside"); the adjoints stay as they are.

        None where the function cannot be evaluated like that.
        """
        if how in ("none", "negative"):
            eps: Any = 0.0 if how == "none" else -self.keywords[keyword]
        else:
            added = [line for line in self.order if line.plan.name == "sqrt"]
            if not added:
                return None
            root = added[0].saved[0] if added[0].saved else None
            if root is None:
                return None
            old = np.asarray(self.keywords[keyword], "float64")
            eps = 2 * old * np.sqrt(np.maximum(root**2 - old, 0)) + old**2
        try:
            with np.errstate(all="ignore"):
                twin = Probe(self.task, (self.arrays, {**self.keywords, keyword: eps}), None, self.adjoints[self.output])
        except Exception:  # a forward may refuse this ε in its own way: then there is nothing to compare with
            return None
        twin.adjoints = self.adjoints
        return twin

    def along(self, path: tuple[Edge, ...], g: Array, swap: Mapping[Line, Any] | None = None) -> Array:
        """The cotangent at the end of a path."""
        for edge in path:
            g = edge.pull(g, swap.get(edge.line) if swap else None)
        return np.asarray(g)


def tape_of(task: Task, seed: int = 0) -> Tape:
    """The tape of a task's composed form at one of its cases, with the names that reports use: for a picture of it.

    >>> from minigrad import derivation
    >>> task = derivation.load_task("02_batch_norm")
    >>> [line.name for line in derivation.tape_of(task) if line.name]
    ['x', 'share', 'gamma', 'beta', 'mu', 'xc', 'var', 'rstd', 'xhat', 'y']
    """
    rng = np.random.default_rng(seed)
    return Probe(task, next(iter(task.cases(rng, "float64"))), rng).tape()


def finite_at(task: Task, case: Case) -> bool:
    """Whether the forward pass takes this case, and all its values have finite adjoints there."""
    try:
        with np.errstate(all="ignore"):
            probe = Probe(task, case, np.random.default_rng(0))
        return probe.undefined is None and all(np.isfinite(a).all() for a in probe.adjoints.values())
    except Exception:  # whatever a forward raises for what does not suit it
        return False


def odd(a: Array) -> str:
    """What an array has that is not finite."""
    return "NaN" if np.isnan(a).any() else "Inf"
