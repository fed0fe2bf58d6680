"""Edits of single places of a line: every change that somebody may have got wrong, for each kind of operation.

There is no list for each task: the operations of NumPy, the names that the line may use, and the shapes are all that is known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.backend import np
from .edit import POWERS, REDUCTIONS, Edit, Scope, axes_of, base, below, constant, factors, name, one, over, shape_of
from .everywhere import everywhere, exchanged
from .expression import RANK, Evaluated, Expr, text

ALIKE = 0.7  # correlation


def edits(line: Evaluated, scope: Scope) -> Iterator[Edit]:
    """All edits, in no particular order; `Edit.cost` says how likely they are."""
    nodes = [n for n in line.kept if n.source is not None or n.op not in ("name", "constant")]
    locals_ = {n.options["name"]: n.inputs[0] for n in nodes if n.op == "use" and n.inputs[0].op not in ("name",) and "(" not in n.options["name"]}
    values = {id(n): line.value(n) for n in line.kept}
    standing = Standing.of(nodes)
    for n in nodes:
        v = values[id(n)]
        if n.op == "key":
            yield from _key(n)
            continue
        if not isinstance(v, (np.ndarray, np.generic, int, float)) or isinstance(v, bool):
            if n.op == "where":
                yield from _where(n)
            continue
        yield from _operators(n, values, scope, standing)
        yield from _leaves(n, values, scope, locals_, line)
        yield from _numbers(n, scope)
        yield from _reduced(n, values, scope)
        yield from _wrapped(n, values, scope)
        yield from _factors(n, values, scope, line, standing)
        yield from _where(n)
        if n.op == "put":
            yield from _put(n, values)
    yield from everywhere(nodes, values, scope)
    yield from exchanged(nodes, values)


def _key(n: Expr) -> Iterator[Edit]:
    """Another index."""
    k = n.options["value"]
    if isinstance(k, int) and not isinstance(k, bool):
        for other in (k - 1, k + 1):
            yield one("wrong index", f"the index {k} should be {other}", n, Expr("key", (), {"value": other}), 0.7)


class Standing(NamedTuple):
    """Names that a line multiplies and divides by, adds and subtracts: where one is too many, its opposite is not missing."""

    factors: frozenset[str]
    divisors: frozenset[str]
    added: frozenset[str]
    subtracted: frozenset[str]

    @classmethod
    def of(cls, nodes: Sequence[Expr]) -> Standing:
        """Those of all operations."""
        def named(op: str, places: Sequence[int]) -> frozenset[str]:
            found = (f.inputs[0] if f.op == "**" else f for n in nodes if n.op == op for k in places for f in factors(n.inputs[k]))
            return frozenset(f.options["name"] for f in found if f.op == "use")
        return cls(named("*", (0, 1)) - named("/", (1,)), named("/", (1,)), named("+", (0, 1)), named("-", (1,)))


AGAIN = 0.25  # what it costs to undo, somewhere else, what stands in the line


def _operators(n: Expr, values: Mapping[int, Any], scope: Scope, standing: Standing) -> Iterator[Edit]:
    if n.op in ("+", "-"):
        other = Expr("-" if n.op == "+" else "+", n.inputs)
        yield one("sign", f"`{text(n)}` should be `{text(other)}`", n, other, 0.5)
        for k in (0, 1):
            kept = n.inputs[k] if k == 0 or n.op == "+" else Expr("neg", [n.inputs[1]])
            yield one("extra path", f"the term `{text(n.inputs[1 - k])}` is too many in `{text(n)}`", n, kept, 1.1)
    if n.op == "-":
        swapped = Expr("-", n.inputs[::-1])
        yield one("sign", f"`{text(n)}` should be `{text(swapped)}`", n, swapped, 0.6)
    if n.op == "neg":
        yield one("sign", f"the minus of `{text(n)}` is too many", n, n.inputs[0], 0.5)
    elif n.op not in ("name", "use", "constant", "tuple", "shape", "item", "index"):
        yield one("sign", f"`{text(n)}` needs a minus", n, Expr("neg", [n]), 0.7)
    if n.op in ("*", "/"):
        other = Expr("/" if n.op == "*" else "*", n.inputs)
        does, belongs = ("multiplies", "divide") if n.op == "*" else ("divides", "multiply")
        yield one("inverted", f"`{text(n)}` {does} by `{text(n.inputs[1])}` where it should {belongs} by it", n, other, 0.6)
        if n.op == "*":
            yield one("inverted", f"`{text(n)}` multiplies by `{text(n.inputs[0])}` where it should divide by it", n, Expr("/", n.inputs[::-1]), 0.7)
        else:
            yield one("inverted", f"`{text(n)}` is upside down: it should be `{text(Expr('/', n.inputs[::-1]))}`", n, Expr("/", n.inputs[::-1]), 0.9)
        for k in (0, 1):
            if n.op == "*":
                extra = text(n.inputs[1 - k])
                code = "extra operand" if extra not in scope.counts else "mean for sum" if extra in standing.divisors else "sum for mean"
                yield one(code, f"the factor `{extra}` is too many in `{text(n)}`", n, n.inputs[k], 0.9)
        if n.op == "/":
            code = "mean for sum" if text(n.inputs[1]) in scope.counts else "extra operand"
            yield one(code, f"`{text(n)}` is divided by `{text(n.inputs[1])}`, which is too many", n, n.inputs[0], 0.9)
    if n.op == "*" and all(len(shape_of(values[id(i)])) == 2 for i in n.inputs):
        yield one("product", f"`{text(n)}` multiplies element by element; it should be the matrix product `{text(Expr('@', n.inputs))}`", n,
                   Expr("@", n.inputs), 0.8)
    if n.op in ("@", "dot"):
        a, b = n.inputs
        for new in (Expr("@", [b, a]), Expr("@", [Expr("T", [a]), b]), Expr("@", [a, Expr("T", [b])]), Expr("@", [Expr("T", [b]), Expr("T", [a])]),
                    Expr("@", [b, Expr("T", [a])]), Expr("@", [Expr("T", [b]), a])):
            yield one("transposed", f"`{text(n)}` should be `{text(_untwice(new))}`", n, _untwice(new), 0.9)
        left, right = base(a), base(b)
        if left.op in ("@", "dot"):  # A.T @ X @ A for A @ X @ A.T
            turned = _untwice(Expr("@", [Expr("@", [Expr("T", [left.inputs[0]]), left.inputs[1]]), Expr("T", [b])]))
            yield one("transposed", f"`{text(n)}` is turned the wrong way: it should be `{text(turned)}`", n, turned, 0.9)
        if right.op in ("@", "dot"):
            turned = _untwice(Expr("@", [Expr("T", [a]), Expr("@", [right.inputs[0], Expr("T", [right.inputs[1]])])]))
            yield one("transposed", f"`{text(n)}` is turned the wrong way: it should be `{text(turned)}`", n, turned, 0.9)
        yield one("product", f"`{text(n)}` is a matrix product; it should multiply element by element", n, Expr("*", [a, b]), 0.9)
        yield one("extra operand", f"the factor `{text(a)}` is too many in `{text(n)}`", n, b, 1.0)
        yield one("extra operand", f"the factor `{text(b)}` is too many in `{text(n)}`", n, a, 1.0)
    if n.op in ("T", "mT"):
        yield one("transposed", f"`{text(n)}` should not be transposed", n, n.inputs[0], 0.7)
    if n.op == "/" and n.inputs[0].op == "**" and n.inputs[0].inputs[1].op == "constant" and n.inputs[1].op == "constant":
        power, by = n.inputs[0].inputs[1].options["value"], n.inputs[1].options["value"]
        if by:
            new = Expr("**", [n.inputs[0].inputs[0], constant(power / by)])
            yield one("precedence", f"`{text(n)}` is `({text(n.inputs[0])}) / {by:g}`: ** comes before /. It should be "
                       f"`{_held(n.inputs[0].inputs[0])} ** ({power:g}/{by:g})`", n, new, 0.5)
    if n.op == "/" and n.inputs[1].op == "constant" and n.inputs[0].op == "*" and n.inputs[0].inputs[1].op == "**":
        front, tower = n.inputs[0].inputs
        if tower.inputs[1].op == "constant" and n.inputs[1].options["value"]:
            power, by = tower.inputs[1].options["value"], n.inputs[1].options["value"]
            new = Expr("*", [front, Expr("**", [tower.inputs[0], constant(power / by)])])
            yield one("precedence", f"`{text(tower)}/{by:g}` divides the power by {by:g}, not the exponent: ** comes before /. It should be "
                       f"`{_held(tower.inputs[0])} ** ({power:g}/{by:g})`", n, new, 0.5)
    if n.op in ("*", "/", "+", "-") and n.inputs[0].op in ("*", "/", "+", "-"):  # (a . b) . c for a . (b . c)
        a, b, c = *n.inputs[0].inputs, n.inputs[1]
        if (n.inputs[0].op, n.op) not in (("+", "+"), ("*", "*"), ("+", "-"), ("*", "/")):
            new = Expr(n.inputs[0].op, [a, Expr(n.op, [b, c])])
            how = " lacks brackets: it" if RANK[n.inputs[0].op] >= RANK[n.op] else ": the brackets hold too much. It"
            yield one("precedence", f"`{text(n)}`{how} should be `{text(new)}`", n, new, 0.8)
            if n.op in ("+", "-") and n.inputs[0].op == "/":
                new = Expr("/", [Expr(n.op, [a, c]), b])
                yield one("precedence", f"`{text(n)}` divides the first term only: it should be `{text(new)}`", n, new, 1.0)
            if n.op in ("+", "-") and n.inputs[0].op == "*":
                new = Expr("*", [b, Expr(n.op, [a, c])])
                yield one("precedence", f"`{text(n)}` lacks brackets: it should be `{text(new)}`", n, new, 0.9)
    if n.op in ("+", "-") and n.inputs[1].op == "/":
        a, (b, c) = n.inputs[0], n.inputs[1].inputs
        new = Expr("/", [Expr(n.op, [a, b]), c])
        yield one("precedence", f"`{text(n)}` divides the last term only: it should be `{text(new)}`", n, new, 0.8)
    if n.op == "+" and any(_is_epsilon(i) for i in n.inputs):
        tower, eps = n.inputs if _is_epsilon(n.inputs[1]) else n.inputs[::-1]
        inner = base(tower)
        if inner.op == "sqrt" or (inner.op == "**" and inner.inputs[1].op == "constant"):
            new = Expr(inner.op, [Expr("+", [inner.inputs[0], eps]), *inner.inputs[1:]])
            what = "root" if inner.op == "sqrt" else "power"
            yield one("epsilon misplaced", f"`{text(n)}` has ε outside of the {what}: it should be `{text(new)}`", n, new, 0.5)
    if n.op in ("*", "/") and n.inputs[0].op in ("+", "-"):
        a, b = n.inputs[0].inputs
        new = Expr(n.inputs[0].op, [a, Expr(n.op, [b, n.inputs[1]])])
        yield one("precedence", f"`{text(n)}`: the brackets hold too much. It should be `{text(new)}`", n, new, 1.0)
        new = Expr(n.inputs[0].op, [Expr(n.op, [a, n.inputs[1]]), b])
        yield one("precedence", f"`{text(n)}`: the brackets hold too much. It should be `{text(new)}`", n, new, 1.0)
    if n.op == "*" and n.inputs[1].op in ("+", "-"):
        a, b = n.inputs[1].inputs
        new = Expr(n.inputs[1].op, [Expr("*", [n.inputs[0], a]), b])
        yield one("precedence", f"`{text(n)}`: the brackets hold too much. It should be `{text(new)}`", n, new, 1.0)
    if n.op in ("<", ">", "<=", ">="):
        turned = Expr({"<": ">", ">": "<", "<=": ">=", ">=": "<="}[n.op], n.inputs)
        yield one("wrong condition", f"the condition `{text(n)}` is the wrong way round", n, turned, 0.6)
        if not (n.inputs[1].op == "constant" and n.inputs[1].options["value"] == 0):
            new = Expr(n.op, [n.inputs[0], constant(0)])
            yield one("wrong condition", f"the condition `{text(n)}` should compare with 0: `{text(new)}`", n, new, 0.7)


def _is_epsilon(node: Expr) -> bool:
    return node.op == "use" and str(node.options["name"]).startswith("eps")


def _held(node: Expr) -> str:
    """The text of a node, in brackets where it needs them."""
    said = text(node)
    return said if said.isidentifier() or (said.endswith(")") and "(" in said and base(node).op not in RANK) else f"({said})"


def _untwice(node: Expr) -> Expr:
    """The same without .T.T."""
    inputs = [_untwice(i) if i.source is None else i for i in node.inputs]
    if node.op == "T" and base(inputs[0]).op == "T":
        return base(inputs[0]).inputs[0]
    return Expr(node.op, inputs, node.options, node.source)


def _leaves(n: Expr, values: Mapping[int, Any], scope: Scope, locals_: Mapping[str, Expr], line: Evaluated) -> Iterator[Edit]:
    """Another name in the place of a name, or of a part."""
    leaf = n.op == "use" and "(" not in n.options["name"]
    v = values[id(n)]
    if n.op in ("constant", "tuple", "shape", "name") or np.size(v) == 0:
        return
    for other in (*scope.own, *scope.others):
        if leaf and other == n.options["name"]:
            continue
        w = line.arguments[other]
        if callable(w) or not isinstance(w, (np.ndarray, np.generic, int, float)):
            continue
        try:
            fits = np.broadcast_shapes(shape_of(v), shape_of(w)) in (shape_of(v), shape_of(w))
        except ValueError:
            continue
        if not fits:
            continue
        counts = leaf and other in scope.counts and n.options["name"] in scope.counts
        if counts:
            yield one("wrong count", f"`{other}` belongs where `{text(n)}` stands", n, name(other), 0.8)
        elif leaf:
            cost = 0.9 + 0.25 * (other not in scope.own) + 0.15 * (shape_of(v) != shape_of(w))
            cost += 0.4 * ((other in scope.counts) != (n.options["name"] in scope.counts))
            yield one("wrong operand", f"`{text(n)}` stands where `{other}` belongs", n, name(other), cost)
        elif n.op in ("len", "size", "item") and other in scope.counts:
            yield one("wrong count", f"`{text(n)}` is another number than `{other}`, which belongs there", n, name(other), 0.6)
        else:
            if alike(v, w):
                yield one("wrong value", f"`{text(n)}` stands where `{other}` belongs, and is not the same", n, name(other), 1.9)
            if np.all(np.asarray(w) != 0) and alike(v, 1.0 / np.asarray(w, "float64")):
                inverse = Expr("/", [constant(1.0), name(other)])
                yield one("wrong value", f"`{text(n)}` stands where `1 / {other}` belongs, and is not the same", n, inverse, 2.1)
    for other, node in locals_.items():
        if leaf and other != n.options["name"] and id(n) not in below(node):
            yield one("wrong operand", f"`{text(n)}` stands where `{other}` belongs", n, Expr("use", [node], {"name": other}), 0.95)


def alike(v: Any, w: Any, least: float = ALIKE) -> bool:
    """Whether two values have the same sizes, and go up and down together: one may have been meant to be the other."""
    a, b = np.asarray(v, "float64"), np.asarray(w, "float64")
    if [k for k in a.shape if k != 1] != [k for k in b.shape if k != 1] or not np.isfinite(a).all():
        return False
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return a.size < 3 or bool(abs(a @ b) >= least * np.sqrt((a @ a) * (b @ b)) > 0)


def _numbers(n: Expr, scope: Scope) -> Iterator[Edit]:
    if n.op == "constant" and isinstance(n.options["value"], (int, float)) and not isinstance(n.options["value"], bool):
        c = n.options["value"]
        for new, code in ((-c, "sign"), (2 * c, "factor"), (c / 2, "factor"), (c + 1, "factor"), (c - 1, "factor"), (0, "factor"), (1, "factor"), (2, "factor"),
                          (3, "factor"), (4, "factor"), (0.5, "factor")):
            if new != c:
                yield one(code, f"the number {c:g} should be {new:g}", n, constant(new), 0.8 if code == "sign" else 0.9)
        for count in scope.counts:
            yield one("hard-coded", f"the number {c:g} stands where `{count}` belongs: it fits one example only", n, name(count), 0.7)
        for other in (*scope.own, *scope.others):
            if other not in scope.counts and other.startswith("eps"):
                yield one("hard-coded", f"the number {c:g} stands where `{other}` belongs", n, name(other), 0.7)
    if n.op == "**" and n.inputs[1].op == "constant":
        old = n.inputs[1].options["value"]
        for p in POWERS:
            if p != old:
                raised = n.inputs[0] if p == 1 else Expr("**", [n.inputs[0], constant(p)])
                yield one("wrong power", f"`{text(n)}` should be `{text(raised)}`", n, raised, 0.8)
    if n.op == "-" and n.inputs[1].op == "constant" and n.inputs[1].options["value"] == 1:
        yield one("n - 1 for n", f"`{text(n)}` should be `{text(n.inputs[0])}`", n, n.inputs[0], 0.5)


def _reduced(n: Expr, values: Mapping[int, Any], scope: Scope) -> Iterator[Edit]:
    if n.op not in REDUCTIONS or not n.inputs:
        return
    (a, *_), options = n.inputs, n.options
    inner = shape_of(values[id(a)])
    axis, kept = options.get("axis"), bool(options.get("keepdims", False))
    what = {"sum": "sum", "mean": "mean", "norm": "norm", "var": "variance", "std": "standard deviation", "max": "maximum", "min": "minimum"}[n.op]
    for new_axis in axes_of(len(inner)):
        for keep in (kept, not kept):
            same_axis = new_axis == axis or (isinstance(axis, int) and isinstance(new_axis, int) and axis % max(1, len(inner)) == new_axis)
            if same_axis and keep == kept:
                continue
            new = Expr(n.op, n.inputs, {**options, "axis": axis if same_axis else new_axis, "keepdims": keep})
            if same_axis:
                words = (f"`{text(n)}` keeps the axis that it reduces; without keepdims it is right" if kept
                         else f"`{text(n)}` loses the axis that it reduces: keepdims=True is missing")
                yield one("keepdims", words, n, new, 0.4)
            else:
                words = f"`{text(n)}` takes the {what} over {over(axis)}; it should be over {over(new_axis)}"
                yield one("wrong axis", words + ("" if keep == kept else f", with keepdims={keep}"), n, new, 0.7 + 0.05 * (keep != kept))
    if n.op in ("sum", "mean"):
        other = "mean" if n.op == "sum" else "sum"
        new = Expr(other, n.inputs, options)
        yield one("sum for mean" if n.op == "sum" else "mean for sum", f"`{text(n)}` takes the {what} where the {other} belongs", n, new, 0.5)
    yield one("over-reduced", f"the {what} over {over(axis)} is too many in `{text(n)}`", n, a, 0.8)
    if n.op in ("var", "std"):
        if options.get("ddof"):
            yield one("n - 1 for n", f"`{text(n)}` divides by n - {options['ddof']}: ddof should be 0", n, Expr(n.op, n.inputs, {**options, "ddof": 0}), 0.5)
        new = Expr("std" if n.op == "var" else "var", n.inputs, options)
        yield one("wrong power", f"`{text(n)}` is the {what}; the {'standard deviation' if n.op == 'var' else 'variance'} belongs there", n, new, 0.7)
    if n.op == "sum" and len(inner) == 2 and inner[0] == inner[1] and axis is None:
        yield one("diagonal", f"`{text(n)}` adds all elements; only the diagonal belongs there: np.trace", n, Expr("trace", [a]), 0.7)
    if n.op in ("sum", "mean"):  # what belongs in front of it, or behind
        inside = factors(base(a))
        for k, f in enumerate(inside if len(inside) > 1 else ()):
            rest = inside[:k] + inside[k + 1:]
            product = rest[0]
            for r in rest[1:]:
                product = Expr("*", [product, r])
            apart = Expr("*", [f, Expr(n.op, [product, *n.inputs[1:]], options)])
            yield one("does not commute", f"in `{text(n)}` the factor `{text(f)}` belongs in front of the {what}, not inside", n, apart, 0.9)


def _wrapped(n: Expr, values: Mapping[int, Any], scope: Scope) -> Iterator[Edit]:
    """Something around a part: a sum, a transpose, a diagonal, a root, a power, the symmetric part."""
    v = values[id(n)]
    shape = shape_of(v)
    if n.op in ("constant", "tuple", "shape", "item", "name"):
        return
    t = text(n)
    if len(shape) >= 1 and np.size(v) > 1:
        for axis in axes_of(len(shape)):
            for keep in (True, False):
                total = Expr("sum", [n], {"axis": axis, "keepdims": keep})
                cost = 0.9 if not keep else 0.95
                yield one("not reduced", f"the sum over {over(axis)} is missing: `{t}` should be `{text(total)}`", n, total, cost)
                average = Expr("mean", [n], {"axis": axis, "keepdims": keep})
                yield one("not reduced", f"the mean over {over(axis)} is missing: `{t}` should be `{text(average)}`", n, average, cost + 0.1)
    if len(shape) == 2:
        yield one("transposed", f"`{t}` should be transposed", n, Expr("T", [n]), 0.8)
        if shape[0] == shape[1]:
            yield one("diagonal", f"of `{t}` only the diagonal belongs there", n, Expr("diag", [n]), 0.9)
            symmetric = Expr("/", [Expr("+", [n, Expr("T", [n])]), constant(2.0)])
            yield one("transposed", f"`{t}` is not symmetric: its symmetric part belongs there, (A + A.T) / 2", n, symmetric, 0.9)
            yield one("transposed", f"`{t}` counts one of two uses: A + A.T belongs there", n, Expr("+", [n, Expr("T", [n])]), 0.95)
            yield one("diagonal", f"of `{t}` only the diagonal belongs there, as a matrix", n, Expr("diag", [Expr("diag", [n])]), 1.1)
            yield one("diagonal", f"the trace of `{t}` belongs there", n, Expr("trace", [n]), 1.1)
    if len(shape) == 1:
        yield one("diagonal", f"`{t}` belongs on a diagonal: `np.diag({t})`", n, Expr("diag", [n]), 0.8)
        yield one("wrong shape", f"`{t}` needs an axis: `{t}[:, None]`", n, Expr("expand_dims", [n], {"axis": 1}), 0.7)
    if len(shape) == 2 and 1 in shape:
        yield one("wrong shape", f"`{t}` has an axis too many", n, Expr("ravel", [n]), 0.8)
    if n.op == "+" and any(base(i).op == "T" for i in n.inputs):
        plain = next((i for i in n.inputs if base(i).op != "T"), n.inputs[0])
        yield one("transposed", f"`{t}` counts it twice, with its transpose", n, plain, 1.0)
    a = np.asarray(v)
    if a.dtype.kind == "f" and a.size > 1 and (a < 0).any() and (a > 0).any():
        yield one("wrong condition", f"where `{t}` is negative it should be 0", n, Expr("maximum", [n, constant(0)]), 1.0)
        step = Expr("*", [Expr(">", [n, constant(0)]), constant(1.0)])
        yield one("wrong condition", f"`{t}` should be 1 where it is positive, and 0 elsewhere", n, step, 1.0)
    if n.op == "sqrt":
        yield one("wrong power", f"the square root is too many: `{t}` should be `{text(n.inputs[0])}`", n, n.inputs[0], 0.8)
    if n.op != "sqrt" and np.all(np.asarray(v, "float64") > 0):
        yield one("wrong power", f"a square root is missing: `{t}` should be `{text(Expr('sqrt', [n]))}`", n, Expr("sqrt", [n]), 0.85)
    if n.op in ("use", "+", "sqrt", "norm", "sum", "std", "var"):
        for p in (2.0, 3.0, 1.5, -1.0):
            new = Expr("**", [n, constant(p)])
            yield one("wrong power", f"`{t}` should be to the power {p:g}: `{text(new)}`", n, new, 0.85 if p == 2 else 0.95)
    if np.any(np.asarray(v) == 0) and not np.all(np.asarray(v) == 0):
        yield one("inverted", f"`{t}` should be its reciprocal (and 0 where it is 0)", n, Expr("recip0", [n]), 1.0)
    elif n.op in ("use", "-", "+"):
        yield one("inverted", f"`{t}` should be its reciprocal, `1 / {t}`", n, Expr("/", [constant(1.0), n]), 0.95)
    for f in ("exp", "log", "sqrt", "square", "abs", "sign", "tanh"):
        if n.op == f:
            yield one("wrong function", f"{f} is too many in `{t}`", n, n.inputs[0], 1.0)
            for g in ("exp", "log", "square", "tanh", "sign", "abs"):
                if g != f:
                    yield one("wrong function", f"`{t}` should be {g}, not {f}", n, Expr(g, n.inputs), 1.2)


def _factors(n: Expr, values: Mapping[int, Any], scope: Scope, line: Evaluated, standing: Standing) -> Iterator[Edit]:
    """A factor, a divisor or a term that is missing."""
    v = values[id(n)]
    if n.op in ("constant", "tuple", "shape", "item", "name") or isinstance(v, (bool, np.bool_)):
        return
    t = text(n)
    product = n.op in ("*", "/")
    for other in (*scope.own, *scope.others):
        w = line.arguments[other]
        if callable(w) or not isinstance(w, (np.ndarray, np.generic, int, float)):
            continue
        far = 0.3 * (other not in scope.own) + (0.0 if n.op != "use" else 0.1)
        if len(shape_of(w)) == 1 and len(shape_of(v)) == 2 and shape_of(w)[0] == shape_of(v)[0]:  # one number per row
            rows = Expr("expand_dims", [name(other)], {"axis": 1})
            for op, said in (("*", "the factor"), ("/", "the division by")):
                new = Expr(op, [n, rows])
                yield one("missing operand", f"{said} `{text(rows)}` is missing: `{t}` should be `{text(new)}`", n, new, 0.95 + far)
        try:
            np.broadcast_shapes(shape_of(v), shape_of(w))
        except ValueError:
            pass
        else:
            count = other in scope.counts
            times, divided = Expr("*", [n, name(other)]), Expr("/", [n, name(other)])
            code = "mean for sum" if count else "missing operand"
            yield one(code, f"the factor `{other}` is missing: `{t}` should be `{text(times)}`", n, times, 0.9 + far + AGAIN * (other in standing.divisors))
            code = "sum for mean" if count else "missing operand"
            cost = 0.95 + far + AGAIN * (other in standing.factors)
            yield one(code, f"the division by `{other}` is missing: `{t}` should be `{text(divided)}`", n, divided, cost)
            if not count and not product:
                for sign in ("-", "+"):
                    new = Expr(sign, [n, name(other)])
                    code = "epsilon misplaced" if other.startswith("eps") else "missing path"
                    said = "is missing" if sign == "+" else "is not subtracted"
                    cost = 1.0 + far - 0.3 * (code != "missing path") + AGAIN * (other in (standing.added if sign == "-" else standing.subtracted))
                    yield one(code, f"`{other}` {said}: `{t}` should be `{text(new)}`", n, new, cost)
            if not count and n.op in ("/", "*", "neg", "sum", "use"):
                half = Expr("/", [Expr("*", [n, name(other)]), constant(2.0)])
                yield one("other derivative", f"half the factor `{other}` is missing: `{t}` should be `{text(half)}`", n, half, 1.5 + far)
        if len(shape_of(v)) == 2 and len(shape_of(w)) == 2:
            turned = Expr("T", [name(other)])
            for new in (Expr("@", [name(other), n]), Expr("@", [turned, n]), Expr("@", [n, name(other)]), Expr("@", [n, turned])):
                yield one("missing operand", f"a matrix product is missing: `{t}` should be `{text(new)}`", n, new, 1.1 + far)
    for f in (0.5, 2.0):
        cost = 0.9 if product or n.op in REDUCTIONS else 1.1
        yield one("factor", f"`{t}` is {'twice' if f == 0.5 else 'half of'} what it should be", n, Expr("*", [constant(f), n]), cost)
    far = 0.0 if n.op in ("use", "-", "**", "square") else 0.2
    for plus in (Expr("-", [constant(1), n]), Expr("+", [n, constant(1)]), Expr("-", [n, constant(1)])):
        yield one("missing one", f"a 1 is missing: `{t}` should be `{text(plus)}`", n, plus, 1.15 + far)
    if n.op == "-" and n.inputs[0].op == "constant" and n.inputs[0].options["value"] == 1:
        yield one("missing one", f"`{t}` should be `{text(n.inputs[1])}`, without the 1", n, n.inputs[1], 1.0)


def _where(n: Expr) -> Iterator[Edit]:
    if n.op != "where" or len(n.inputs) != 3:
        return
    c, a, b = n.inputs
    yield one("branches swapped", f"the branches of `{text(n)}` are swapped: `{text(b)}` belongs where the condition holds", n, Expr("where", [c, b, a]), 0.5)
    for k, other in ((1, b), (2, a)):
        yield one("wrong condition", f"`{text(n)}` should be `{text(other)}` everywhere", n, other, 1.0)
        yield one("wrong condition", f"`{text(n)}` should be 0 where the condition {'holds' if k == 1 else 'does not hold'}", n,
                   Expr("where", [c, *(constant(0.0) if j == k else i for j, i in ((1, a), (2, b)))]), 1.0)


def _put(n: Expr, values: Mapping[int, Any]) -> Iterator[Edit]:
    """An assignment into an array that should add, that comes too late, or that an index repeats."""
    old, value, *keys = n.inputs
    yield one("wrong condition", f"`{text(n)}` should not be there", n, old, 1.0)
    if value.op == "+":
        yield one("repeated index", f"`{text(n)}` counts an index that comes twice only once; `np.add.at` adds all of them", n,
                   Expr("add.at", [old, value.inputs[1], *keys]), 0.6)
    else:
        more = Expr("put", [old, Expr("+", [Expr("take", [old, *keys]), value]), *keys])
        yield one("overwritten", f"`{text(n)}` overwrites; it should add", n, more, 0.8)
        yield one("overwritten", f"`{text(n)}` overwrites; it should add, for each time that an index comes", n, Expr("add.at", [old, value, *keys]), 0.9)
