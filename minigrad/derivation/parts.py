"""A line that is a sum, part by part: which of its terms are paths of the right answer, and which one is none.

Where no edit of the whole makes it right, the terms that are right can be left alone. What remains is looked at on its own: two mistakes
in one line are then two mistakes in two terms, and a term that nothing explains is at least named.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from math import prod
from typing import NamedTuple

from ..core.backend import Array, np
from .changes import Trial
from .diagnose import Diagnosis, route, routes, same
from .edit import Edit, Scope, base
from .edits import EditCase, Edits
from .expression import Evaluated, Expr, text
from .operations import Unknown

MOST_PARTS = 12
LINEAR = ("sum", "mean", "T", "mT", "expand_dims", "reshape", "ravel", "trace", "diag")


class Addend(NamedTuple):
    """A term of a line: what it adds to the result, and the node that a student would call it by."""

    node: Expr
    label: Expr


def parts(node: Expr) -> list[Addend]:
    """The terms of an expression, with what multiplies them from outside."""
    if node.op == "use":
        inner = parts(node.inputs[0])
        return inner if len(inner) > 1 else [Addend(node, node)]
    if node.op == "+":
        return parts(node.inputs[0]) + parts(node.inputs[1])
    if node.op == "-":
        return parts(node.inputs[0]) + [Addend(Expr("neg", [p.node]), p.label) for p in parts(node.inputs[1])]
    if node.op == "neg":
        inner = parts(node.inputs[0])
        return [Addend(Expr("neg", [p.node]), p.label) for p in inner] if len(inner) > 1 else [Addend(node, node)]
    if node.op in ("*", "@"):
        left, right = (parts(n) for n in node.inputs)
        if 1 < len(left) * len(right) <= MOST_PARTS:
            return [Addend(Expr(node.op, [a.node, b.node]), a.label if len(left) > 1 else b.label) for a in left for b in right]
    if node.op in ("/", *LINEAR) and node.inputs:
        inner = parts(node.inputs[0])
        if 1 < len(inner) <= MOST_PARTS:
            return [Addend(Expr(node.op, [p.node, *node.inputs[1:]], node.options), p.label) for p in inner]
    return [Addend(node, node)]


def by_parts(target: str, root: Expr, given: Sequence[dict[str, object]], trials: Sequence[Trial], scope: Scope, first: int) -> Diagnosis | None:
    """What is wrong with which terms; None if the terms do not tell.

    Args:
        target: the value whose adjoint it is.
        root: the line.
        given: its arguments on each trial.
        trials: with the right terms.
        scope: what the line may use.
        first: the number of the line before the first one of the text.
    """
    found = parts(root)
    wanted = [k for k in range(len(trials[0].terms)) if any(float(np.abs(t.terms[k].value).max(initial=0)) > 1e-9 * t.scale for t in trials)]
    if not 1 < len(found) <= MOST_PARTS or any(len(t.terms) != len(trials[0].terms) for t in trials) or not wanted:
        return None
    try:
        with np.errstate(all="ignore"):
            values = [[np.broadcast_to(np.asarray(Evaluated(p.node, g).value(p.node), "float64"), t.right.shape) for p in found]
                      for g, t in zip(given, trials, strict=True)]
    except (Unknown, ValueError, RecursionError, KeyError):
        return None

    def equal(mine: Sequence[int], theirs: Sequence[int]) -> bool:
        return all(same(_sum([v[i] for i in mine]), _sum([t.terms[k].value for k in theirs]), t.scale) for v, t in zip(values, trials, strict=True))
    left, right = list(range(len(found))), list(wanted)
    for mine, theirs in [(1, 1), (2, 1), (1, 2), (2, 2)]:
        for a in list(combinations(left, mine)):
            for b in list(combinations(right, theirs)):
                if set(a) <= set(left) and set(b) <= set(right) and equal(a, b):
                    left, right = [i for i in left if i not in a], [k for k in right if k not in b]
    if len(left) == len(found) and len(left) > 2:
        return None
    if not right:
        nothing = [i for i in left if all(float(np.abs(v[i]).max(initial=0)) <= 1e-9 * t.scale for v, t in zip(values, trials, strict=True))]
        left = [i for i in left if i not in nothing]
        if not left:
            return None
        terms, verb = " and ".join(f"`{_said(found[i], first)}" for i in left), "is" if len(left) == 1 else "are"
        return Diagnosis("extra path", f"{terms} {verb} too many: no path from {target} gives this; the other terms are right")
    if len(left) == len(right) <= 3:
        for order in permutations(right):
            explained = [_edit(found[i], k, given, trials, scope) for i, k in zip(left, order, strict=True)]
            if all(e is not None for e in explained):
                edits = [e for e in explained if e is not None]
                return Diagnosis(edits[0].code, "; and ".join(f"{e.words} (line {e.line + first})" for e in edits))
    if len(left) == len(found) or len(left) > 2:
        return None
    others = [trials[0].terms[k] for k in right]
    said = [route(term, target) for term in others]
    if not left:
        return Diagnosis("missing path", f"{'; and '.join(said)} {'is' if len(said) == 1 else 'are'} missing", routes(others, target, "missing"))
    names = list(dict.fromkeys(f"`{_said(found[i], first)}" for i in left))
    return Diagnosis("wrong term", "; ".join(names) + f" {'is' if len(names) == 1 else 'are'} not right: {' and '.join(said)} "
                     f"{'belongs' if len(said) == 1 else 'belong'} there. The other terms are right", routes(others, target, "wrong"))


def _sum(values: Sequence[Array]) -> Array:
    total = values[0]
    for v in values[1:]:
        total = total + v
    return total


def _said(part: Addend, first: int) -> str:
    label = part.label
    source = label.source or next((n.source for n in (base(label), part.node) if n.source is not None), None)
    return f"{text(label)}`" + (f" (line {source.line + first})" if source is not None and source.line else "")


def _edit(part: Addend, k: int, given: Sequence[dict[str, object]], trials: Sequence[Trial], scope: Scope) -> Edit | None:
    """The edit that makes a term the k-th one."""
    try:
        cases = [EditCase(Evaluated(part.node, g), t.terms[k].value, t.scale) for g, t in zip(given, trials, strict=True)]
        own = [np.shape(c.line.value(part.node)) for c in cases]
        cases = [c._replace(right=np.broadcast_to(c.right, shape)) if prod(shape) == np.size(c.right) else c for c, shape in zip(cases, own, strict=True)]
        found = Edits(cases[0], cases[1:], scope).single()
    except (Unknown, ValueError, RecursionError):
        return None
    return found[0] if found else None
