"""Edits of several places that belong together: one name for another in all of them, one axis for another, two names that have changed places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from .edit import POWERS, REDUCTIONS, Edit, Scope, axes_of, base, below, constant, factors, name, one, over, shape_of
from .expression import Expr, text


def everywhere(nodes: Sequence[Expr], values: Mapping[int, Any], scope: Scope) -> Iterator[Edit]:
    """The same change at all places: one name for another, one axis for another."""
    uses: dict[str, list[Expr]] = {}
    for n in nodes:
        if n.op == "use" and "(" not in n.options["name"]:
            uses.setdefault(n.options["name"], []).append(n)
    for old, places in uses.items():
        if len(places) > 1:
            for other in (*scope.own, *scope.others):
                if other != old:
                    yield Edit("wrong operand", f"`{old}` stands where `{other}` belongs, in all {len(places)} places", tuple(places),
                               tuple(name(other) for _ in places), 1.2 + 0.25 * (other not in scope.own))
    numbers: dict[float, list[Expr]] = {}
    for n in nodes:
        if n.op == "constant" and isinstance(n.options["value"], int) and n.options["value"] > 1:
            numbers.setdefault(n.options["value"], []).append(n)
    for c, places in numbers.items():
        if len(places) > 1:
            for count in scope.counts:
                yield Edit("hard-coded", f"the number {c} stands where `{count}` belongs, in all {len(places)} places: it fits one example only", tuple(places),
                           tuple(name(count) for _ in places), 0.8)
    powers: dict[str, list[Expr]] = {}
    for n in nodes:
        if n.op == "**" and n.inputs[1].op == "constant":
            powers.setdefault(text(n), []).append(n)
    for said, places in powers.items():
        for p in (POWERS if len(places) > 1 else ()):
            raised = [n.inputs[0] if p == 1 else Expr("**", [n.inputs[0], constant(p)]) for n in places]
            if places[0].inputs[1].options["value"] != p:
                yield Edit("wrong power", f"`{said}` should be `{text(raised[0])}`, in all {len(places)} places", tuple(places), tuple(raised), 0.85)
    reductions = [n for n in nodes if n.op in REDUCTIONS and n.inputs]
    for axis in {repr(n.options.get("axis")) for n in reductions}:
        places = [n for n in reductions if repr(n.options.get("axis")) == axis]
        ndim = max((len(shape_of(values[id(n.inputs[0])])) for n in places), default=0)
        lost = [n for n in places if n.options.get("axis") is not None and not n.options.get("keepdims")]
        if len(lost) > 1:
            yield Edit("keepdims", f"{' and '.join(f'`{text(n)}`' for n in lost)} lose the axis that they reduce: keepdims=True is missing", tuple(lost),
                       tuple(Expr(n.op, n.inputs, {**n.options, "keepdims": True}) for n in lost), 0.6)
        for new in axes_of(ndim):
            for keep in (None, True, False):
                if len(places) > 1 and repr(new) != axis:
                    changed = tuple(Expr(n.op, n.inputs, {**n.options, "axis": new, **({} if keep is None else {"keepdims": keep})}) for n in places)
                    what = "statistics are taken" if any(n.op in ("var", "std") for n in places) else "sums and means are taken"
                    yield Edit("wrong axis", f"all {what} over {over(places[0].options.get('axis'))} (`{text(places[0])}`, …); they should be over {over(new)}",
                               tuple(places), changed, 1.0)
    # a factor that belongs inside of a bracket, because what is in there does not commute with it
    for n in nodes:
        if n.op == "*":
            for k in (0, 1):
                outside, inside = factors(n.inputs[k]), n.inputs[1 - k]
                if base(inside).op not in ("+", "-"):
                    continue
                within = below(inside)
                for j, f in enumerate(outside):
                    rest = outside[:j] + outside[j + 1:]
                    leaf = text(f)
                    for source, places in uses.items():
                        here = [u for u in places if id(u) in within]
                        if not here or source == leaf:
                            continue
                        whole = inside
                        for r in rest:
                            whole = Expr("*", [r, whole])
                        words = (f"`{leaf}` stands in front of the bracket of `{text(n)}`; it belongs inside, at every `{source}`: "
                                 "it does not commute with the mean")
                        inner = (Expr("*", [f, Expr("use", u.inputs, u.options)]) for u in here)
                        yield Edit("does not commute", words, (n, *here), (whole, *inner), 1.1)
    for n in nodes:  # a product of sums where a sum of products belongs
        if n.op == "*":
            a, b = (base(i) for i in n.inputs)
            if a.op in ("sum", "mean") and b.op in ("sum", "mean"):
                new = Expr(a.op, [Expr("*", [a.inputs[0], b.inputs[0]])], a.options)
                yield one("does not commute", f"`{text(n)}` multiplies two {a.op}s; the {a.op} of the products belongs there: `{text(new)}`", n, new, 0.6)


def exchanged(nodes: Sequence[Expr], values: Mapping[int, Any]) -> Iterator[Edit]:
    """Two names that have changed places."""
    uses = [n for n in nodes if n.op == "use" and "(" not in n.options["name"]]
    seen = set()
    for a, b in combinations(uses, 2):
        x, y = a.options["name"], b.options["name"]
        if x == y:
            continue
        new = (Expr("use", b.inputs, b.options), Expr("use", a.inputs, a.options))
        yield Edit("swapped", f"`{x}` and `{y}` have changed places", (a, b), new, 1.1)
        if (x, y) not in seen:
            seen.add((x, y))
            places = [n for n in uses if n.options["name"] in (x, y)]
            if len(places) > 2:
                yield Edit("swapped", f"`{x}` and `{y}` have changed places", tuple(places),
                           tuple(Expr("use", (b if n.options["name"] == x else a).inputs, (b if n.options["name"] == x else a).options) for n in places), 1.15)
