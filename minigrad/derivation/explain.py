"""Why a line is wrong, from two sides: what the numbers say, and which edit of the student's own text would make it right.

`diagnose` finds the change of the right answer's terms that gives the student's numbers: a path that is missing, a sign, a sum for a mean.
`Edits` finds the shortest change of the line itself. Where both find something they confirm each other, and each says what it says
better: the terms say which path, the edit says what stands in the line and what belongs there.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ..core.backend import np
from .attempt import Attempt
from .changes import Trial
from .diagnose import Diagnosis, diagnose
from .edit import REDUCTIONS, Edit, Scope
from .edits import EditCase, Edits
from .expression import Evaluated, Expr, expression, text, walk
from .fixtures import fixture
from .inside.worker import ArgumentError
from .operations import Unknown
from .parts import by_parts
from .probe import Probe
from .projection import forgotten_sum
from .proposals import alike
from .repair import repair

OTHER_EPSILON = 1.7  # times ε, in a further case: an identity that holds for one ε only explains nothing
MOST_CASES = 4
# What the terms say better than an edit: which path, and how much of it.
TERMS = frozenset({"missing path", "eval formula", "other derivative", "counted twice", "sum for mean", "mean for sum", "n - 1 for n", "n for n - 1", "sign",
                   "factor", "epsilon misplaced"})
# Edits that say more than "a path is missing" does: what was meant is there, and only its form is wrong.
FORM = frozenset({"does not commute", "branches swapped", "wrong condition", "wrong axis", "precedence", "diagonal", "swapped", "keepdims", "inverted",
                  "hard-coded", "transposed", "product"})
LOOKS_LIKE = 0.99  # correlation, in all cases
CLEAR, CLOSE_COST = 0.9, 0.35  # an edit that is as simple as this is what was meant; another within so much may be as well


class WrittenLine:
    """A line as an expression, with what it may use.

    Raises:
        Unknown: it is none that can be computed here.
    """

    def __init__(self, attempt: Attempt, name: str) -> None:
        source = attempt.runner.source(name)
        if source is None:
            raise Unknown
        try:
            module = ast.parse(source[0])
        except (SyntaxError, ValueError, RecursionError):
            raise Unknown from None
        self.attempt, self.line, self.first = attempt, attempt.task.line(name), source[1]
        self.names = attempt.names(name)
        functions = [n.name for n in module.body if isinstance(n, ast.FunctionDef)]
        self.name = name if name in functions or len(functions) != 1 else functions[0]  # in a notebook it may go by another name
        self.given = {id(p): arguments(p, attempt, name) for p in attempt.probes}
        first = self.given[id(attempt.probes[0])]
        root = expression(module, self.name, self.names, {n: v for n, v in first.items() if callable(v)})
        if root is None:
            raise Unknown
        self.root: Expr = root
        self.counts = frozenset(n for n, v in first.items() if isinstance(v, (int, np.integer)) and not isinstance(v, bool))

    def case(self, probe: Probe, scale: float, given: dict[str, Any] | None = None, tolerant: bool = False) -> EditCase:
        """The line on a probe."""
        return EditCase(Evaluated(self.root, given if given is not None else self.given[id(probe)], tolerant), probe.adjoints[str(self.line.target)], scale)

    def scope(self, right: Any) -> Scope:
        """What it may use."""
        names = self.given[id(self.attempt.probes[0])]
        return Scope(self.names, [n for n in names if n not in self.names and not callable(names[n])], self.counts, np.shape(right))


def arguments(probe: Probe, attempt: Attempt, name: str) -> dict[str, Any]:
    """All that the line `name` may use on a probe."""
    line, found = attempt.task.line(name), dict[str, Any]()
    for n in [*probe.values, *probe.keywords, *probe.given, *(f"d_{k}" for k in probe.adjoints)]:
        try:
            found[n] = fixture(probe, line, n)
        except ArgumentError:
            continue
    return {**found, **probe.local_derivatives(str(line.target))} if str(line.target) in probe.lines else found


class Search:
    """The cases in which an edit must make a line right.

    Raises:
        Unknown: the line cannot be computed here.
    """

    def __init__(self, attempt: Attempt, name: str, wrong: Sequence[Trial]) -> None:
        line = WrittenLine(attempt, name)
        trials = sorted(wrong, key=lambda t: t.right.size)[:MOST_CASES]
        self.cases = [line.case(t.probe, t.scale) for t in trials]
        for p in [p for p in attempt.probes if id(p) not in {id(t.probe) for t in trials}][:MOST_CASES - len(trials)]:
            self.cases.append(line.case(p, float(np.abs(p.adjoints[str(line.line.target)]).max(initial=0)) or 1.0))
        twin = with_other_epsilon(trials[0].probe, attempt)
        if twin is not None:
            self.cases.append(line.case(twin, trials[0].scale, arguments(twin, attempt, name)))
        if not all(_is(case.line.value(line.root), t) for case, t in zip(self.cases, trials, strict=False)):
            raise Unknown  # it was read as another line than Python runs: two names for one array, say
        self.scope = line.scope(trials[0].right)
        self.line, self.trials = line, trials

    @cached_property
    def edits(self) -> Edits:
        """All edits of the line."""
        with np.errstate(all="ignore"):
            return Edits(self.cases[0], self.cases[1:], self.scope)

    def single(self) -> list[Edit]:
        """See `Edits.single`."""
        with np.errstate(all="ignore"):
            return self.edits.single()

    def pair(self) -> list[Edit]:
        """See `Edits.pair`."""
        with np.errstate(all="ignore"):
            return self.edits.pair()


def _is(value: Any, t: Trial) -> bool:
    """Whether a line's value is what the student's code has returned."""
    a = np.asarray(value, "float64")
    return a.shape == t.found.shape and bool(np.allclose(a, t.found, rtol=1e-7, atol=1e-7 * t.scale, equal_nan=True))


def searched(attempt: Attempt, name: str, wrong: Sequence[Trial]) -> Search | None:
    """The search for edits of a line; None where it cannot be computed here."""
    try:
        with np.errstate(all="ignore"):
            return Search(attempt, name, wrong)
    except (Unknown, ArgumentError, RecursionError, KeyError, TypeError, ValueError):
        return None


def with_other_epsilon(probe: Probe, attempt: Attempt) -> Probe | None:
    """The same case with another ε; None where there is none, or the forward pass does not take it."""
    name = next((n for n, v in probe.keywords.items() if n.startswith("eps") and isinstance(v, float)), None)
    if name is None:
        return None
    try:
        keywords = {**probe.keywords, name: probe.keywords[name] * OTHER_EPSILON}
        return Probe(attempt.task, (probe.arrays, keywords), None, probe.adjoints[probe.output])
    except Exception:  # a forward may refuse it in its own way
        return None


def said(edits: Sequence[Edit], first: int, name: str) -> str:
    """The edits in words, each with its place."""
    parts = []
    for e in edits:
        source = next((n.source for n in e.at if n.source is not None), None)
        where = f" (line {source.line + first}" if source is not None and source.line else ""
        if where:
            where += f", in the helper {source.function})" if source is not None and source.function not in ("", name) else ")"
        parts.append(e.words + where)
    return "; and ".join(dict.fromkeys(parts))


def explained(target: str, wrong: Sequence[Trial], name: str, names: Sequence[str], attempt: Attempt) -> Diagnosis | None:
    """The explanation of a line that returns the right shape; None if there is none."""
    search = searched(attempt, name, wrong)
    found = search.single() if search is not None else []
    by_terms = diagnose(target, wrong, names, thorough=not found)
    if search is None:
        return by_terms or repair(attempt, name, [t.probe for t in wrong], [t.scale for t in wrong])
    line, first = search.line, search.line.first
    if found:
        return _both(by_terms, found, first, name)
    if by_terms is None:
        given = [line.given[id(t.probe)] for t in search.trials]
        by_part = by_parts(target, line.root, given, search.trials, search.scope, first)
        if by_part is None and any(len(term.paths) > 1 for term in search.trials[0].terms):
            apart = [t._replace(terms=t.probe.split(t.terms)) for t in search.trials]
            by_part = by_parts(target, line.root, given, apart, search.scope, first)
        if by_part is not None and by_part.code != "wrong term":
            return by_part
        if both := search.pair():
            return Diagnosis(both[0].code, said(both, first, name))
        return by_part or forgotten_sum(target, search.trials) or stops(search) or local_only(search)
    return by_terms


def stops(search: Search) -> Diagnosis | None:
    """Where a line stops being right: the first of its own values that look like one of the task's and are not it."""
    names = [n for n, v in search.cases[0].line.arguments.items() if isinstance(v, (np.ndarray, np.generic)) and np.size(v) > 2]
    found: list[str] = []
    own = {id(n.inputs[0]) for n in search.cases[0].line.kept if n.op == "use" and n.inputs[0].op not in ("name", "use")}  # what the student has given a name
    for node in search.cases[0].line.kept:
        v = search.cases[0].line.value(node)
        if id(node) not in own or node.source is None or node.op in ("name", "constant") or _is_transform(node) or not isinstance(v, np.ndarray) or v.size <= 2:
            continue
        within = {n.options["name"] for n in walk(node) if n.op == "name"}  # a value without its mean is not meant to be that value
        pairs = {n: [(c.line.value(node), c.line.arguments[n]) for c in search.cases] for n in names if n not in within}
        near = [n for n, values in pairs.items() if all(alike(v, w, LOOKS_LIKE) and not _shifted(v, w) for v, w in values)]
        if not near or any(np.allclose(np.ravel(v), np.ravel(w), rtol=1e-9, atol=0) for n in near for v, w in pairs[n][:1]):
            continue
        w = np.reshape(pairs[near[0]][0][1], v.shape)
        at = np.unravel_index(int(np.abs(v - w).argmax()), v.shape)
        found.append(f"`{text(node)}` (line {node.source.line + search.line.first}) looks like `{near[0]}` and is not: at {tuple(map(int, at))} it is "
                     f"{float(v[at]):.4g} instead of {float(w[at]):.4g}")
    return Diagnosis("wrong value", f"no single mistake explains it. The first values that are not the task's: {'; '.join(found[:2])}") if found else None


def local_only(search: Search) -> Diagnosis | None:
    """A line that uses no adjoint is the derivative of one step only."""
    if any(n.op == "name" and str(n.options["name"]).startswith("d_") for n in search.cases[0].line.kept):
        return None
    return Diagnosis("missing operand", "no adjoint is used: the derivative of one step is multiplied by the adjoint of its result, "
                     "and summed where it was shared")


def _is_transform(node: Expr) -> bool:
    """Whether it is computed from one value of the task, element by element: sqrt(var + eps) is meant as it is."""
    below = list(walk(node))
    names = {n.options["name"] for n in below if n.op == "name" and not str(n.options["name"]).startswith("eps")}
    return len(names) < 2 and not any(n.op in REDUCTIONS for n in below)


def _shifted(v: Any, w: Any) -> bool:
    """Whether two values differ by a constant, as var and var + eps do."""
    difference = np.ravel(v) - np.ravel(w)
    return bool(np.ptp(difference) <= 1e-9 * np.abs(np.ravel(w)).max())


def _both(by_terms: Diagnosis | None, found: Sequence[Edit], first: int, name: str) -> Diagnosis:
    """What to say where an edit makes the line right, and perhaps the terms tell something as well."""
    best = found[0]
    words = said([best], first, name)
    close = [e for e in found[1:] if e.cost <= best.cost + CLOSE_COST]
    if by_terms is None or by_terms.code not in TERMS:
        other = next((e for e in close if e.code != best.code and e.line != best.line), None)
        return Diagnosis(best.code, words + (f"; or else {said([other], first, name)}" if other is not None else ""))
    if by_terms.code in ("missing path", "eval formula"):
        better = next((e for e in found if e.code in FORM and e.cost <= CLEAR), None)
        if better is not None:
            return Diagnosis(better.code, said([better], first, name))
    if by_terms.code == "other derivative":
        return by_terms
    if best.code == "hard-coded":
        return Diagnosis("hard-coded", f"{words}; so {by_terms.message}", by_terms.routes)
    if by_terms.code in ("mean for sum", "sum for mean") and best.code == "extra operand":
        return Diagnosis(by_terms.code, f"{by_terms.message}: {words}", by_terms.routes)
    whole = "whole line" in by_terms.message and by_terms.code == "sign"  # where the minus belongs is anybody's guess
    same = next((e for e in (best, *close) if e.code == by_terms.code and e.code != "factor" and not (whole and not e.words.startswith("the minus of"))), None)
    if by_terms.code == "epsilon misplaced" and same is not None:
        return Diagnosis(by_terms.code, said([same], first, name))
    number = not whole and best.code == "factor" and best.at[0].op == "constant"
    message = by_terms.message + (f": {said([same], first, name)}" if same is not None else f": {words}" if number else "")
    other = next((e for e in (best, *close) if e.code in FORM and e.code != by_terms.code and (e.code != "transposed" or "d_" in text(e.at[0]))), None)
    return Diagnosis(by_terms.code, message + (f"; or else {said([other], first, name)}" if other is not None else ""), by_terms.routes)


def explained_edit(attempt: Attempt, name: str, wrong: Sequence[Trial], pairs: bool = False) -> Diagnosis | None:
    """The edit alone that makes a line right, where its numbers are not finite or have another shape; None if there is none.

    Args:
        pairs: try two edits as well.
    """
    search = searched(attempt, name, wrong)
    if search is None:
        return None
    found = search.single()[:1] or (search.pair() if pairs else [])
    return Diagnosis(found[0].code, said(found, search.line.first, name)) if found else None


def explained_error(attempt: Attempt, name: str) -> Diagnosis | None:
    """What makes a line right that raises an error about shapes; None if nothing was found."""
    try:
        with np.errstate(all="ignore"):
            line = WrittenLine(attempt, name)
            target = str(line.line.target)
            cases = [line.case(p, float(np.abs(p.adjoints[target]).max(initial=0)) or 1.0, tolerant=True) for p in attempt.probes[:MOST_CASES]]
            found = Edits(cases[0], cases[1:], line.scope(cases[0].right)).single()
    except (Unknown, ArgumentError, RecursionError, KeyError, TypeError, ValueError):
        return None
    return Diagnosis(found[0].code, said(found[:1], line.first, name)) if found else None
