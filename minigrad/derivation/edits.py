"""The shortest edit of a student's own line that makes it right: every change that somebody may have got wrong, tried in turn.

`edits` proposes replacements of single nodes of the line's graph (expression.py), likely ones first; some change the same thing everywhere,
or exchange two. `single` and `pair` compute them and keep those that give the right answer in all cases. There is no list for each task: the
operations of NumPy, the names that the line may use, and the shapes are all that is known here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from ..core.backend import Array, np
from .expression import RANK, Evaluated, Node, Unknown, text, walk

POWERS = (2.0, -1.0, 0.5, 3.0, -0.5, -2.0, 1.5, -1.5, -3.0, 1.0)
REDUCTIONS = ("sum", "mean", "var", "std", "norm", "max", "min")
SECONDS = 0.8  # for pairs of edits
ALIKE = 0.7  # correlation
NEARER = 0.6  # what one of two edits gains by coming nearer to the right answer alone
INSERTED = frozenset({"missing operand", "missing path", "missing one", "other derivative", "not reduced"})
MOST_PAIRED = 260  # edits that are tried in pairs


class Edit(NamedTuple):
    """One change, at one place or at several that belong together."""

    code: str                    # of the misconception
    words: str                   # what stands in the line, and what belongs there
    at: tuple[Node, ...]
    new: tuple[Node, ...]
    cost: float

    @property
    def line(self) -> int:
        """Of the student's file; 0 if nobody knows."""
        return next((n.source.line for n in self.at if n.source is not None), 0)


class Scope(NamedTuple):
    """What a line may use.

    Args:
        own: its arguments.
        others: further names that the task would give it.
        counts: names among them that count elements.
        shape: of the right answer.
    """

    own: Sequence[str]
    others: Sequence[str]
    counts: frozenset[str]
    shape: tuple[int, ...]


def name(n: str) -> Node:
    """A name of the task."""
    return Node("name", (), {"name": n})


def constant(v: float) -> Node:
    """A number."""
    return Node("constant", (), {"value": v})


def base(node: Node) -> Node:
    """What a local name stands for."""
    while node.op == "use":
        node = node.inputs[0]
    return node


def factors(node: Node) -> list[Node]:
    """The factors of a product."""
    return [f for n in node.inputs for f in factors(n)] if node.op == "*" else [node]


# -- proposals ---------------------------------------------------------------------------------------------------------------


def edits(line: Evaluated, scope: Scope) -> Iterator[Edit]:
    """All edits, in no particular order; `Edit.cost` says how likely they are."""
    nodes = [n for n in line.kept if n.source is not None or n.op not in ("name", "constant")]
    locals_ = {n.options["name"]: n.inputs[0] for n in nodes if n.op == "use" and n.inputs[0].op not in ("name",) and "(" not in n.options["name"]}
    values = {id(n): line.value(n) for n in line.kept}
    for n in nodes:
        v = values[id(n)]
        if not isinstance(v, (np.ndarray, np.generic, int, float)) or isinstance(v, bool):
            if n.op in ("where",):
                yield from _where(n)
            continue
        yield from _operators(n, values)
        yield from _leaves(n, values, scope, locals_, line)
        yield from _numbers(n, scope)
        yield from _reduced(n, values, scope)
        yield from _wrapped(n, values, scope)
        yield from _factors(n, values, scope, line)
        yield from _where(n)
        if n.op == "put":
            yield from _put(n, values)
    yield from _everywhere(nodes, values, scope)
    yield from _exchanged(nodes, values)


def _one(code: str, words: str, at: Node, new: Node, cost: float) -> Edit:
    return Edit(code, words, (at,), (new,), cost)


def _kind(v: Any) -> tuple[int, ...]:
    return tuple(np.shape(v))


def _operators(n: Node, values: Mapping[int, Any]) -> Iterator[Edit]:
    if n.op in ("+", "-"):
        other = Node("-" if n.op == "+" else "+", n.inputs)
        yield _one("sign", f"`{text(n)}` should be `{text(other)}`", n, other, 0.5)
        for k in (0, 1):
            kept = n.inputs[k] if k == 0 or n.op == "+" else Node("neg", [n.inputs[1]])
            yield _one("extra path", f"the term `{text(n.inputs[1 - k])}` is too many in `{text(n)}`", n, kept, 1.1)
    if n.op == "-":
        swapped = Node("-", n.inputs[::-1])
        yield _one("sign", f"`{text(n)}` should be `{text(swapped)}`", n, swapped, 0.6)
    if n.op == "neg":
        yield _one("sign", f"the minus of `{text(n)}` is too many", n, n.inputs[0], 0.5)
    elif n.op not in ("name", "use", "constant", "tuple", "shape", "item", "index"):
        yield _one("sign", f"`{text(n)}` needs a minus", n, Node("neg", [n]), 0.7)
    if n.op in ("*", "/"):
        other = Node("/" if n.op == "*" else "*", n.inputs)
        does, belongs = ("multiplies", "divide") if n.op == "*" else ("divides", "multiply")
        yield _one("inverted", f"`{text(n)}` {does} by `{text(n.inputs[1])}` where it should {belongs} by it", n, other, 0.6)
        if n.op == "*":
            yield _one("inverted", f"`{text(n)}` multiplies by `{text(n.inputs[0])}` where it should divide by it", n, Node("/", n.inputs[::-1]), 0.7)
        else:
            yield _one("inverted", f"`{text(n)}` is upside down: it should be `{text(Node('/', n.inputs[::-1]))}`", n, Node("/", n.inputs[::-1]), 0.9)
        for k in (0, 1):
            if n.op == "*":
                yield _one("extra operand", f"the factor `{text(n.inputs[1 - k])}` is too many in `{text(n)}`", n, n.inputs[k], 0.9)
        if n.op == "/":
            yield _one("extra operand", f"`{text(n)}` is divided by `{text(n.inputs[1])}`, which is too many", n, n.inputs[0], 0.9)
    if n.op == "*" and all(len(_kind(values[id(i)])) == 2 for i in n.inputs):
        yield _one("product", f"`{text(n)}` multiplies element by element; it should be the matrix product `{text(Node('@', n.inputs))}`", n,
                   Node("@", n.inputs), 0.8)
    if n.op in ("@", "dot"):
        a, b = n.inputs
        for new in (Node("@", [b, a]), Node("@", [Node("T", [a]), b]), Node("@", [a, Node("T", [b])]), Node("@", [Node("T", [b]), Node("T", [a])]),
                    Node("@", [b, Node("T", [a])]), Node("@", [Node("T", [b]), a])):
            yield _one("transposed", f"`{text(n)}` should be `{text(_untwice(new))}`", n, _untwice(new), 0.9)
        left, right = base(a), base(b)
        if left.op in ("@", "dot"):  # A.T @ X @ A for A @ X @ A.T
            turned = _untwice(Node("@", [Node("@", [Node("T", [left.inputs[0]]), left.inputs[1]]), Node("T", [b])]))
            yield _one("transposed", f"`{text(n)}` is turned the wrong way: it should be `{text(turned)}`", n, turned, 0.9)
        if right.op in ("@", "dot"):
            turned = _untwice(Node("@", [Node("T", [a]), Node("@", [right.inputs[0], Node("T", [right.inputs[1]])])]))
            yield _one("transposed", f"`{text(n)}` is turned the wrong way: it should be `{text(turned)}`", n, turned, 0.9)
        yield _one("product", f"`{text(n)}` is a matrix product; it should multiply element by element", n, Node("*", [a, b]), 0.9)
        yield _one("extra operand", f"the factor `{text(a)}` is too many in `{text(n)}`", n, b, 1.0)
        yield _one("extra operand", f"the factor `{text(b)}` is too many in `{text(n)}`", n, a, 1.0)
    if n.op in ("T", "mT"):
        yield _one("transposed", f"`{text(n)}` should not be transposed", n, n.inputs[0], 0.7)
    if n.op in ("/", "*") and n.inputs[0].op == "**" and n.inputs[0].inputs[1].op == "constant" and n.inputs[1].op == "constant" and n.op == "/":
        power, by = n.inputs[0].inputs[1].options["value"], n.inputs[1].options["value"]
        if by:
            new = Node("**", [n.inputs[0].inputs[0], constant(power / by)])
            yield _one("precedence", f"`{text(n)}` is `({text(n.inputs[0])}) / {by:g}`: ** comes before /. It should be "
                       f"`{_held(n.inputs[0].inputs[0])} ** ({power:g}/{by:g})`", n, new, 0.5)
    if n.op == "/" and n.inputs[1].op == "constant" and n.inputs[0].op == "*" and n.inputs[0].inputs[1].op == "**":
        front, tower = n.inputs[0].inputs
        if tower.inputs[1].op == "constant" and n.inputs[1].options["value"]:
            power, by = tower.inputs[1].options["value"], n.inputs[1].options["value"]
            new = Node("*", [front, Node("**", [tower.inputs[0], constant(power / by)])])
            yield _one("precedence", f"`{text(tower)}/{by:g}` divides the power by {by:g}, not the exponent: ** comes before /. It should be "
                       f"`{_held(tower.inputs[0])} ** ({power:g}/{by:g})`", n, new, 0.5)
    if n.op in ("*", "/", "+", "-") and n.inputs[0].op in ("*", "/", "+", "-"):  # (a . b) . c for a . (b . c)
        a, b, c = *n.inputs[0].inputs, n.inputs[1]
        if (n.inputs[0].op, n.op) not in (("+", "+"), ("*", "*"), ("+", "-"), ("*", "/")):
            new = Node(n.inputs[0].op, [a, Node(n.op, [b, c])])
            yield _one("precedence", f"`{text(n)}` lacks brackets: it should be `{text(new)}`", n, new, 0.8)
            if n.op in ("+", "-") and n.inputs[0].op == "/":
                new = Node("/", [Node(n.op, [a, c]), b])
                yield _one("precedence", f"`{text(n)}` lacks brackets: it should be `{text(new)}`", n, new, 0.8)
            if n.op in ("+", "-") and n.inputs[0].op == "*":
                new = Node("*", [b, Node(n.op, [a, c])])
                yield _one("precedence", f"`{text(n)}` lacks brackets: it should be `{text(new)}`", n, new, 0.9)
    if n.op in ("+", "-") and n.inputs[1].op == "/":
        a, (b, c) = n.inputs[0], n.inputs[1].inputs
        new = Node("/", [Node(n.op, [a, b]), c])
        yield _one("precedence", f"`{text(n)}` divides the last term only: it should be `{text(new)}`", n, new, 0.8)
    if n.op == "+" and any(_is_epsilon(i) for i in n.inputs):
        tower, eps = n.inputs if _is_epsilon(n.inputs[1]) else n.inputs[::-1]
        inner = base(tower)
        if inner.op == "sqrt" or (inner.op == "**" and inner.inputs[1].op == "constant"):
            new = Node(inner.op, [Node("+", [inner.inputs[0], eps]), *inner.inputs[1:]])
            yield _one("epsilon misplaced", f"`{text(n)}` has ε outside of the {'root' if inner.op == 'sqrt' else 'power'}: it should be `{text(new)}`", n, new, 0.5)
    if n.op in ("*", "/") and n.inputs[0].op in ("+", "-"):
        a, b = n.inputs[0].inputs
        new = Node(n.inputs[0].op, [a, Node(n.op, [b, n.inputs[1]])])
        yield _one("precedence", f"`{text(n)}`: the brackets hold too much. It should be `{text(new)}`", n, new, 1.0)
        new = Node(n.inputs[0].op, [Node(n.op, [a, n.inputs[1]]), b])
        yield _one("precedence", f"`{text(n)}`: the brackets hold too much. It should be `{text(new)}`", n, new, 1.0)
    if n.op == "*" and n.inputs[1].op in ("+", "-"):
        a, b = n.inputs[1].inputs
        new = Node(n.inputs[1].op, [Node("*", [n.inputs[0], a]), b])
        yield _one("precedence", f"`{text(n)}`: the brackets hold too much. It should be `{text(new)}`", n, new, 1.0)
    if n.op in ("<", ">", "<=", ">="):
        turned = Node({"<": ">", ">": "<", "<=": ">=", ">=": "<="}[n.op], n.inputs)
        yield _one("wrong condition", f"the condition `{text(n)}` is the wrong way round", n, turned, 0.6)
        if not (n.inputs[1].op == "constant" and n.inputs[1].options["value"] == 0):
            new = Node(n.op, [n.inputs[0], constant(0)])
            yield _one("wrong condition", f"the condition `{text(n)}` should compare with 0: `{text(new)}`", n, new, 0.7)


def _is_epsilon(node: Node) -> bool:
    return node.op == "use" and str(node.options["name"]).startswith("eps")


def _held(node: Node) -> str:
    """The text of a node, in brackets where it needs them."""
    said = text(node)
    return said if said.isidentifier() or said.endswith(")") and "(" in said and base(node).op not in RANK else f"({said})"


def _untwice(node: Node) -> Node:
    """The same without .T.T."""
    inputs = [_untwice(i) if i.source is None else i for i in node.inputs]
    if node.op == "T" and base(inputs[0]).op == "T":
        return base(inputs[0]).inputs[0]
    return Node(node.op, inputs, node.options, node.source)


def _leaves(n: Node, values: Mapping[int, Any], scope: Scope, locals_: Mapping[str, Node], line: Evaluated) -> Iterator[Edit]:
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
            fits = np.broadcast_shapes(_kind(v), _kind(w)) in (_kind(v), _kind(w))
        except ValueError:
            continue
        if not fits:
            continue
        counts = leaf and other in scope.counts and n.options["name"] in scope.counts
        if counts:
            yield _one("wrong count", f"`{other}` belongs where `{text(n)}` stands", n, name(other), 0.8)
        elif leaf:
            cost = 0.9 + 0.25 * (other not in scope.own) + 0.15 * (_kind(v) != _kind(w)) + 0.4 * ((other in scope.counts) != (n.options["name"] in scope.counts))
            yield _one("wrong operand", f"`{text(n)}` stands where `{other}` belongs", n, name(other), cost)
        elif n.op in ("len", "size", "item") and other in scope.counts:
            yield _one("wrong count", f"`{text(n)}` is another number than `{other}`, which belongs there", n, name(other), 0.6)
        elif alike(v, w):
            yield _one("wrong value", f"`{text(n)}` stands where `{other}` belongs, and is not the same", n, name(other), 1.9)
        elif np.all(np.asarray(w) != 0) and alike(v, 1.0 / np.asarray(w, "float64")):
            yield _one("wrong value", f"`{text(n)}` stands where `1 / {other}` belongs, and is not the same", n, Node("/", [constant(1.0), name(other)]), 2.1)
    for other, node in locals_.items():
        if leaf and other != n.options["name"] and id(n) not in _below(node):
            yield _one("wrong operand", f"`{text(n)}` stands where `{other}` belongs", n, Node("use", [node], {"name": other}), 0.95)


def alike(v: Any, w: Any, least: float = ALIKE) -> bool:
    """Whether two values have the same sizes, and go up and down together: one may have been meant to be the other."""
    a, b = np.asarray(v, "float64"), np.asarray(w, "float64")
    if [k for k in a.shape if k != 1] != [k for k in b.shape if k != 1] or not np.isfinite(a).all():
        return False
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return a.size < 3 or bool(abs(a @ b) >= least * np.sqrt((a @ a) * (b @ b)) > 0)


def _below(node: Node) -> set[int]:
    return {id(n) for n in walk(node)}


def _numbers(n: Node, scope: Scope) -> Iterator[Edit]:
    if n.op == "constant" and isinstance(n.options["value"], (int, float)) and not isinstance(n.options["value"], bool):
        c = n.options["value"]
        for new, code in ((-c, "sign"), (2 * c, "factor"), (c / 2, "factor"), (c + 1, "factor"), (c - 1, "factor"), (0, "factor"), (1, "factor"), (2, "factor"),
                          (3, "factor"), (4, "factor"), (0.5, "factor")):
            if new != c:
                yield _one(code, f"the number {c:g} should be {new:g}", n, constant(new), 0.8 if code == "sign" else 0.9)
        for count in scope.counts:
            yield _one("hard-coded", f"the number {c:g} stands where `{count}` belongs: it fits one example only", n, name(count), 0.7)
        for other in (*scope.own, *scope.others):
            if other not in scope.counts and other.startswith("eps"):
                yield _one("hard-coded", f"the number {c:g} stands where `{other}` belongs", n, name(other), 0.7)
    if n.op == "**" and n.inputs[1].op == "constant":
        old = n.inputs[1].options["value"]
        for p in POWERS:
            if p != old:
                new = n.inputs[0] if p == 1 else Node("**", [n.inputs[0], constant(p)])
                yield _one("wrong power", f"`{text(n)}` should be `{text(new)}`", n, new, 0.8)
    if n.op == "-" and n.inputs[1].op == "constant" and n.inputs[1].options["value"] == 1:
        yield _one("n - 1 for n", f"`{text(n)}` should be `{text(n.inputs[0])}`", n, n.inputs[0], 0.5)


def _axes(ndim: int) -> list[Any]:
    return [None, *range(ndim), *(a for k in range(2, ndim) for a in combinations(range(ndim), k))]


def _over(axis: Any) -> str:
    return "everything" if axis is None else f"axis {axis}" if isinstance(axis, int) else f"axes {axis}"


def _reduced(n: Node, values: Mapping[int, Any], scope: Scope) -> Iterator[Edit]:
    if n.op not in REDUCTIONS or not n.inputs:
        return
    (a, *_), options = n.inputs, n.options
    inner = _kind(values[id(a)])
    axis, kept = options.get("axis"), bool(options.get("keepdims", False))
    what = {"sum": "sum", "mean": "mean", "norm": "norm", "var": "variance", "std": "standard deviation", "max": "maximum", "min": "minimum"}[n.op]
    for new_axis in _axes(len(inner)):
        for keep in (kept, not kept):
            same_axis = new_axis == axis or (isinstance(axis, int) and isinstance(new_axis, int) and axis % max(1, len(inner)) == new_axis)
            if same_axis and keep == kept:
                continue
            new = Node(n.op, n.inputs, {**options, "axis": axis if same_axis else new_axis, "keepdims": keep})
            if same_axis:
                words = (f"`{text(n)}` keeps the axis that it reduces; without keepdims it is right" if kept
                         else f"`{text(n)}` loses the axis that it reduces: keepdims=True is missing")
                yield _one("keepdims", words, n, new, 0.4)
            else:
                words = f"`{text(n)}` takes the {what} over {_over(axis)}; it should be over {_over(new_axis)}"
                yield _one("wrong axis", words + ("" if keep == kept else f", with keepdims={keep}"), n, new, 0.7 + 0.05 * (keep != kept))
    if n.op in ("sum", "mean"):
        other = "mean" if n.op == "sum" else "sum"
        new = Node(other, n.inputs, options)
        yield _one("sum for mean" if n.op == "sum" else "mean for sum", f"`{text(n)}` takes the {what} where the {other} belongs", n, new, 0.5)
    yield _one("over-reduced", f"the {what} over {_over(axis)} is too many in `{text(n)}`", n, a, 0.8)
    if n.op in ("var", "std"):
        if options.get("ddof"):
            yield _one("n - 1 for n", f"`{text(n)}` divides by n - {options['ddof']}: ddof should be 0", n, Node(n.op, n.inputs, {**options, "ddof": 0}), 0.5)
        new = Node("std" if n.op == "var" else "var", n.inputs, options)
        yield _one("wrong power", f"`{text(n)}` is the {what}; the {'standard deviation' if n.op == 'var' else 'variance'} belongs there", n, new, 0.7)
    if n.op == "sum" and len(inner) == 2 and inner[0] == inner[1] and axis is None:
        yield _one("diagonal", f"`{text(n)}` adds all elements; only the diagonal belongs there: np.trace", n, Node("trace", [a]), 0.7)
    if n.op in ("sum", "mean"):  # what belongs in front of it, or behind
        inside = factors(base(a))
        for k, f in enumerate(inside if len(inside) > 1 else ()):
            rest = inside[:k] + inside[k + 1:]
            product = rest[0]
            for r in rest[1:]:
                product = Node("*", [product, r])
            keep = Node(n.op, [product, *n.inputs[1:]], options)
            yield _one("does not commute", f"in `{text(n)}` the factor `{text(f)}` belongs in front of the {what}, not inside", n, Node("*", [f, keep]), 0.9)


def _wrapped(n: Node, values: Mapping[int, Any], scope: Scope) -> Iterator[Edit]:
    """Something around a part: a sum, a transpose, a diagonal, a root, a power, the symmetric part."""
    v = values[id(n)]
    shape = _kind(v)
    if n.op in ("constant", "tuple", "shape", "item", "name"):
        return
    t = text(n)
    if len(shape) >= 1 and np.size(v) > 1:
        for axis in _axes(len(shape)):
            for keep in (True, False):
                total = Node("sum", [n], {"axis": axis, "keepdims": keep})
                cost = 0.9 if not keep else 0.95
                yield _one("not reduced", f"the sum over {_over(axis)} is missing: `{t}` should be `{text(total)}`", n, total, cost)
                average = Node("mean", [n], {"axis": axis, "keepdims": keep})
                yield _one("not reduced", f"the mean over {_over(axis)} is missing: `{t}` should be `{text(average)}`", n, average, cost + 0.1)
    if len(shape) == 2:
        yield _one("transposed", f"`{t}` should be transposed", n, Node("T", [n]), 0.8)
        if shape[0] == shape[1]:
            yield _one("diagonal", f"of `{t}` only the diagonal belongs there", n, Node("diag", [n]), 0.9)
            symmetric = Node("/", [Node("+", [n, Node("T", [n])]), constant(2.0)])
            yield _one("transposed", f"`{t}` is not symmetric: its symmetric part belongs there, (A + A.T) / 2", n, symmetric, 0.9)
            yield _one("transposed", f"`{t}` counts one of two uses: A + A.T belongs there", n, Node("+", [n, Node("T", [n])]), 0.95)
            yield _one("diagonal", f"of `{t}` only the diagonal belongs there, as a matrix", n, Node("diag", [Node("diag", [n])]), 1.1)
            yield _one("diagonal", f"the trace of `{t}` belongs there", n, Node("trace", [n]), 1.1)
    if len(shape) == 1:
        yield _one("diagonal", f"`{t}` belongs on a diagonal: `np.diag({t})`", n, Node("diag", [n]), 0.8)
        yield _one("wrong shape", f"`{t}` needs an axis: `{t}[:, None]`", n, Node("expand_dims", [n], {"axis": 1}), 0.7)
    if len(shape) == 2 and 1 in shape:
        yield _one("wrong shape", f"`{t}` has an axis too many", n, Node("ravel", [n]), 0.8)
    if n.op == "+" and any(base(i).op == "T" for i in n.inputs):
        plain = next((i for i in n.inputs if base(i).op != "T"), n.inputs[0])
        yield _one("transposed", f"`{t}` counts it twice, with its transpose", n, plain, 1.0)
    a = np.asarray(v)
    if a.dtype.kind == "f" and a.size > 1 and (a < 0).any() and (a > 0).any():
        yield _one("wrong condition", f"where `{t}` is negative it should be 0", n, Node("maximum", [n, constant(0)]), 1.0)
        yield _one("wrong condition", f"`{t}` should be 1 where it is positive, and 0 elsewhere", n, Node("*", [Node(">", [n, constant(0)]), constant(1.0)]), 1.0)
    if n.op == "sqrt":
        yield _one("wrong power", f"the square root is too many: `{t}` should be `{text(n.inputs[0])}`", n, n.inputs[0], 0.8)
    if n.op != "sqrt" and np.all(np.asarray(v, "float64") > 0):
        yield _one("wrong power", f"a square root is missing: `{t}` should be `{text(Node('sqrt', [n]))}`", n, Node("sqrt", [n]), 0.85)
    if n.op in ("use", "+", "sqrt", "norm", "sum", "std", "var"):
        for p in (2.0, 3.0, 1.5, -1.0):
            new = Node("**", [n, constant(p)])
            yield _one("wrong power", f"`{t}` should be to the power {p:g}: `{text(new)}`", n, new, 0.85 if p == 2 else 0.95)
    if np.any(np.asarray(v) == 0) and not np.all(np.asarray(v) == 0):
        yield _one("inverted", f"`{t}` should be its reciprocal (and 0 where it is 0)", n, Node("recip0", [n]), 1.0)
    elif n.op in ("use", "-", "+"):
        yield _one("inverted", f"`{t}` should be its reciprocal, `1 / {t}`", n, Node("/", [constant(1.0), n]), 0.95)
    for f in ("exp", "log", "sqrt", "square", "abs", "sign", "tanh"):
        if n.op == f:
            yield _one("wrong function", f"{f} is too many in `{t}`", n, n.inputs[0], 1.0)
            for g in ("exp", "log", "square", "tanh", "sign", "abs"):
                if g != f:
                    yield _one("wrong function", f"`{t}` should be {g}, not {f}", n, Node(g, n.inputs), 1.2)


def _factors(n: Node, values: Mapping[int, Any], scope: Scope, line: Evaluated) -> Iterator[Edit]:
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
        if len(_kind(w)) == 1 and len(_kind(v)) == 2 and _kind(w)[0] == _kind(v)[0]:  # one number per row
            rows = Node("expand_dims", [name(other)], {"axis": 1})
            for op, said in (("*", "the factor"), ("/", "the division by")):
                new = Node(op, [n, rows])
                yield _one("missing operand", f"{said} `{text(rows)}` is missing: `{t}` should be `{text(new)}`", n, new, 0.95 + far)
        try:
            np.broadcast_shapes(_kind(v), _kind(w))
        except ValueError:
            pass
        else:
            count = other in scope.counts
            times, over = Node("*", [n, name(other)]), Node("/", [n, name(other)])
            yield _one("mean for sum" if count else "missing operand", f"the factor `{other}` is missing: `{t}` should be `{text(times)}`", n, times, 0.9 + far)
            yield _one("sum for mean" if count else "missing operand", f"the division by `{other}` is missing: `{t}` should be `{text(over)}`", n, over, 0.95 + far)
            if not count and not product:
                for sign in ("-", "+"):
                    new = Node(sign, [n, name(other)])
                    code = "epsilon misplaced" if other.startswith("eps") else "missing path"
                    said = "is missing" if sign == "+" else "is not subtracted"
                    yield _one(code, f"`{other}` {said}: `{t}` should be `{text(new)}`", n, new, 1.0 + far - 0.3 * (code != "missing path"))
            if not count and n.op in ("/", "*", "neg", "sum", "use"):
                half = Node("/", [Node("*", [n, name(other)]), constant(2.0)])
                yield _one("other derivative", f"half the factor `{other}` is missing: `{t}` should be `{text(half)}`", n, half, 1.5 + far)
        if len(_kind(v)) == 2 and len(_kind(w)) == 2:
            for new in (Node("@", [name(other), n]), Node("@", [Node("T", [name(other)]), n]), Node("@", [n, name(other)]), Node("@", [n, Node("T", [name(other)])])):
                yield _one("missing operand", f"a matrix product is missing: `{t}` should be `{text(new)}`", n, new, 1.1 + far)
    for f in (0.5, 2.0):
        yield _one("factor", f"`{t}` is {'twice' if f == 0.5 else 'half of'} what it should be", n, Node("*", [constant(f), n]), 0.9 if product or n.op in REDUCTIONS else 1.1)
    far = 0.0 if n.op in ("use", "-", "**", "square") else 0.2
    for one in (Node("-", [constant(1), n]), Node("+", [n, constant(1)]), Node("-", [n, constant(1)])):
        yield _one("missing one", f"a 1 is missing: `{t}` should be `{text(one)}`", n, one, 1.15 + far)
    if n.op == "-" and n.inputs[0].op == "constant" and n.inputs[0].options["value"] == 1:
        yield _one("missing one", f"`{t}` should be `{text(n.inputs[1])}`, without the 1", n, n.inputs[1], 1.0)


def _put(n: Node, values: Mapping[int, Any]) -> Iterator[Edit]:
    """An assignment into an array that should add, that comes too late, or that an index repeats."""
    old, value, *keys = n.inputs
    yield _one("wrong condition", f"`{text(n)}` should not be there", n, old, 1.0)
    if value.op == "+":
        yield _one("repeated index", f"`{text(n)}` counts an index that comes twice only once; `np.add.at` adds all of them", n,
                   Node("add.at", [old, value.inputs[1], *keys]), 0.6)
    else:
        more = Node("put", [old, Node("+", [Node("take", [old, *keys]), value]), *keys])
        yield _one("overwritten", f"`{text(n)}` overwrites; it should add", n, more, 0.8)
        yield _one("overwritten", f"`{text(n)}` overwrites; it should add, for each time that an index comes", n, Node("add.at", [old, value, *keys]), 0.9)


def _where(n: Node) -> Iterator[Edit]:
    if n.op != "where" or len(n.inputs) != 3:
        return
    c, a, b = n.inputs
    yield _one("branches swapped", f"the branches of `{text(n)}` are swapped: `{text(b)}` belongs where the condition holds", n, Node("where", [c, b, a]), 0.5)
    for k, other in ((1, b), (2, a)):
        yield _one("wrong condition", f"`{text(n)}` should be `{text(other)}` everywhere", n, other, 1.0)
        yield _one("wrong condition", f"`{text(n)}` should be 0 where the condition {'holds' if k == 1 else 'does not hold'}", n,
                   Node("where", [c, *(constant(0.0) if j == k else i for j, i in ((1, a), (2, b)))]), 1.0)


def _everywhere(nodes: Sequence[Node], values: Mapping[int, Any], scope: Scope) -> Iterator[Edit]:
    """The same change at all places: one name for another, one axis for another."""
    uses: dict[str, list[Node]] = {}
    for n in nodes:
        if n.op == "use" and "(" not in n.options["name"]:
            uses.setdefault(n.options["name"], []).append(n)
    for old, places in uses.items():
        if len(places) > 1:
            for other in (*scope.own, *scope.others):
                if other != old:
                    yield Edit("wrong operand", f"`{old}` stands where `{other}` belongs, in all {len(places)} places", tuple(places),
                               tuple(name(other) for _ in places), 1.2 + 0.25 * (other not in scope.own))
    numbers: dict[float, list[Node]] = {}
    for n in nodes:
        if n.op == "constant" and isinstance(n.options["value"], int) and n.options["value"] > 1:
            numbers.setdefault(n.options["value"], []).append(n)
    for c, places in numbers.items():
        if len(places) > 1:
            for count in scope.counts:
                yield Edit("hard-coded", f"the number {c} stands where `{count}` belongs, in all {len(places)} places: it fits one example only", tuple(places),
                           tuple(name(count) for _ in places), 0.8)
    reductions = [n for n in nodes if n.op in REDUCTIONS and n.inputs]
    for axis in {repr(n.options.get("axis")) for n in reductions}:
        places = [n for n in reductions if repr(n.options.get("axis")) == axis]
        ndim = max((len(_kind(values[id(n.inputs[0])])) for n in places), default=0)
        for new in _axes(ndim):
            for keep in (None, True, False):
                if len(places) > 1 and repr(new) != axis:
                    changed = tuple(Node(n.op, n.inputs, {**n.options, "axis": new, **({} if keep is None else {"keepdims": keep})}) for n in places)
                    what = "statistics are taken" if any(n.op in ("var", "std") for n in places) else "sums and means are taken"
                    yield Edit("wrong axis", f"all {what} over {_over(places[0].options.get('axis'))} (`{text(places[0])}`, …); they should be over {_over(new)}",
                               tuple(places), changed, 1.0)
    # a factor that belongs inside of a bracket, because what is in there does not commute with it
    for n in nodes:
        if n.op == "*":
            for k in (0, 1):
                outside, inside = factors(n.inputs[k]), n.inputs[1 - k]
                if base(inside).op not in ("+", "-"):
                    continue
                below = _below(inside)
                for j, f in enumerate(outside):
                    rest = outside[:j] + outside[j + 1:]
                    leaf = text(f)
                    for source, places in uses.items():
                        here = [u for u in places if id(u) in below]
                        if not here or source == leaf:
                            continue
                        whole = inside
                        for r in rest:
                            whole = Node("*", [r, whole])
                        yield Edit("does not commute", f"`{leaf}` stands in front of the bracket of `{text(n)}`; it belongs inside, at every `{source}`: it does not commute "
                                   "with the mean", (n, *here), (whole, *(Node("*", [f, Node("use", u.inputs, u.options)]) for u in here)), 1.1)
    for n in nodes:  # a product of sums where a sum of products belongs
        if n.op == "*":
            a, b = (base(i) for i in n.inputs)
            if a.op in ("sum", "mean") and b.op in ("sum", "mean"):
                new = Node(a.op, [Node("*", [a.inputs[0], b.inputs[0]])], a.options)
                yield _one("does not commute", f"`{text(n)}` multiplies two {a.op}s; the {a.op} of the products belongs there: `{text(new)}`", n, new, 0.6)


def _exchanged(nodes: Sequence[Node], values: Mapping[int, Any]) -> Iterator[Edit]:
    """Two names that have changed places."""
    uses = [n for n in nodes if n.op == "use" and "(" not in n.options["name"]]
    seen = set()
    for a, b in combinations(uses, 2):
        x, y = a.options["name"], b.options["name"]
        if x == y:
            continue
        new = (Node("use", b.inputs, b.options), Node("use", a.inputs, a.options))
        yield Edit("swapped", f"`{x}` and `{y}` have changed places", (a, b), new, 1.1)
        if (x, y) not in seen:
            seen.add((x, y))
            places = [n for n in uses if n.options["name"] in (x, y)]
            if len(places) > 2:
                yield Edit("swapped", f"`{x}` and `{y}` have changed places", tuple(places),
                           tuple(Node("use", (b if n.options["name"] == x else a).inputs, (b if n.options["name"] == x else a).options) for n in places), 1.15)


# -- the search -------------------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """The line on one probe, and what it should give."""

    line: Evaluated
    right: Array
    scale: float


def gives(case: Case, chosen: Sequence[Edit], tolerance: float = 1e-9) -> bool:
    """Whether the line gives the right answer with these edits."""
    found = _changed(case, chosen)
    return (found is not None and np.shape(found) == np.shape(case.right)
            and bool(np.abs(np.asarray(found, "float64") - case.right).max(initial=0) <= tolerance * case.scale))


def _changed(case: Case, chosen: Sequence[Edit]) -> Any:
    replaced: dict[int, Node] = {}
    for edit in chosen:
        for at, new in zip(edit.at, edit.new, strict=True):
            if id(at) in replaced:
                return None
            replaced[id(at)] = new
    try:
        with np.errstate(all="ignore"):
            return case.line.changed(replaced)
    except (Unknown, RecursionError):
        return None


def single(first: Case, more: Sequence[Case], scope: Scope) -> list[Edit]:
    """The edits of which each makes the line right in all cases, the likeliest first.

    Args:
        first: the case that is tried first; the smallest.
        more: further cases, of other shapes and another ε. They hold the same graph.
        scope: what the line may use.
    """
    proposals = sorted(edits(first.line, scope), key=lambda e: (e.cost, -e.line))
    return [e for e in proposals if gives(first, [e]) and all(gives(c, [e]) for c in more) and (e.code == "extra path" or not _vanishes(first, e))]


def pair(first: Case, more: Sequence[Case], scope: Scope, seconds: float = SECONDS) -> list[Edit]:
    """Two edits that together make the line right in all cases; none if there are none, or not within this time."""
    deadline = time.process_time() + seconds
    proposals = sorted(edits(first.line, scope), key=lambda e: (e.cost, -e.line))
    ranked = []
    for e in proposals:
        alone = _changed(first, [e])
        if alone is not None and not _vanishes(first, e):
            ranked.append((e.cost + NEARER * _distance(first, alone), len(ranked), e))
    ranked.sort()
    possible = [e for _, _, e in ranked]
    for likely in (possible[:MOST_PAIRED], [e for e in possible if e.code == "wrong value"][:MOST_PAIRED // 2]):
        order = {id(e): ranking for ranking, _, e in ranked}
        pairs = sorted(((order[id(a)] + order[id(b)], i, j) for (i, a), (j, b) in combinations(enumerate(likely), 2)))
        for k, (_, i, j) in enumerate(pairs):
            if k % 64 == 0 and time.process_time() > deadline:
                break
            both = [likely[i], likely[j]]
            if both[0].code in INSERTED and both[1].code in INSERTED:
                continue  # two things that are not in the line: anything can be made of anything
            if gives(first, both) and all(gives(c, both) for c in more):
                return both
        deadline += seconds / 2
    return []


def _distance(case: Case, found: Any) -> float:
    """How far an answer is from the right one, compared with the line's own; 1, where it has another shape."""
    own = case.line.value(case.line.root)
    if np.shape(found) != np.shape(case.right) or np.shape(own) != np.shape(case.right):
        return 1.0
    before = float(np.abs(np.asarray(own, "float64") - case.right).sum())
    after = float(np.abs(np.asarray(found, "float64") - case.right).sum())
    return min(1.5, after / before) if before and np.isfinite(after) else 1.5


def _vanishes(case: Case, edit: Edit) -> bool:
    """Whether all that is left of a part is 0, up to rounding: that leaves it out, and explains no more than that."""
    try:
        with np.errstate(all="ignore"):
            sizes = [(float(np.abs(case.line.of(new)).max(initial=0)), float(np.abs(case.line.value(at)).max(initial=0)))
                     for at, new in zip(edit.at, edit.new, strict=True)]
    except (Unknown, TypeError):
        return False
    return any(new <= 1e-9 * old for new, old in sizes)
