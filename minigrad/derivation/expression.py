"""A student's line as an expression that can be changed and computed again: for explanations, never for verdicts.

The body of a line function, its local names and the helpers that it calls become one graph of the operations that NumPy code is made
of. It is interpreted here, not executed: only what is in `operations.FUNCTIONS` exists, on small arrays, so that it needs no process of its
own and thousands of changed lines take a second. A line with loops, conditions or anything else that is not known here has no such graph.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.backend import np
from .fixtures import answered
from .operations import FUNCTIONS, IGNORED, METHODS, OPERATORS, SAME_AS, Unknown, Value, applied

MOST_NODES, MOST_DEPTH = 400, 12
LARGEST = 1e100  # of a number


class Expr:
    """An operation on other nodes.

    Args:
        op: a key of `FUNCTIONS`, an operator, "name", "constant" or "use" (of a local name).
        inputs: what it works on.
        options: plain keywords: axis, keepdims; the name or the constant.
        source: the text that it stands for, None for one that an edit has made.
    """

    __slots__ = ("inputs", "op", "options", "said", "source")

    def __init__(self, op: str, inputs: Sequence[Expr] = (), options: Mapping[str, Any] | None = None, source: Origin | None = None) -> None:
        self.op, self.inputs, self.options, self.source = op, tuple(inputs), dict(options or {}), source
        self.said: str | None = None  # its text, once somebody has asked for it

    def __repr__(self) -> str:
        return text(self)


class Origin(NamedTuple):
    """Where a node stands in the student's file."""

    tree: ast.AST
    function: str  # the line's own, or a helper's
    line: int


# -- from text to a graph ------------------------------------------------------------------------------------------------------


class _GraphOf:
    """Reads functions of one file."""

    def __init__(self, module: ast.Module, opaque: Mapping[str, Callable[..., Any]]) -> None:
        self.functions = {n.name: n for n in module.body if isinstance(n, ast.FunctionDef)}
        self.constants = {t.id: n.value for n in module.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
        self.opaque, self.count, self.depth = opaque, 0, 0

    def node(self, op: str, inputs: Sequence[Expr] = (), options: Mapping[str, Any] | None = None, tree: ast.AST | None = None, where: str = "") -> Expr:
        self.count += 1
        if self.count > MOST_NODES:
            raise Unknown
        return Expr(op, inputs, options, None if tree is None else Origin(tree, where, getattr(tree, "lineno", 0)))

    def function(self, name: str, given: Mapping[str, Expr]) -> Expr:
        """What a function returns, for these arguments."""
        if self.depth > MOST_DEPTH:
            raise Unknown
        self.depth += 1
        scope = dict(given)
        try:
            for statement in self.functions[name].body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    continue  # a docstring
                if isinstance(statement, ast.Return) and statement.value is not None:
                    return self.read(statement.value, scope, name)
                if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and not isinstance(statement.targets[0], ast.Subscript):
                    self.assign(statement.targets[0], statement.value, scope, name)
                elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
                    left = self.read(ast.copy_location(ast.Name(statement.target.id, ast.Load()), statement.target), scope, name)
                    scope[statement.target.id] = self.node(OPERATORS.get(type(statement.op), "?"), [left, self.read(statement.value, scope, name)], {},
                                                           statement, name)
                elif isinstance(statement, (ast.Assign, ast.AugAssign)) and isinstance(_target(statement), ast.Subscript):
                    self.put(statement, scope, name)
                elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value is not None:
                    scope[statement.target.id] = self.read(statement.value, scope, name)
                else:
                    raise Unknown
            raise Unknown
        finally:
            self.depth -= 1

    def assign(self, target: ast.expr, value: ast.expr, scope: dict[str, Expr], where: str) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = self.read(value, scope, where)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            found = [self.read(v, scope, where) for v in value.elts]
            for t, node in zip(target.elts, found, strict=True):
                if not isinstance(t, ast.Name):
                    raise Unknown
                scope[t.id] = node
        elif isinstance(target, ast.Tuple) and all(isinstance(t, ast.Name) for t in target.elts):
            found = [self.read(value, scope, where)]
            for i, t in enumerate(target.elts):
                scope[t.id] = self.node("item", [found[0], self.node("constant", (), {"value": i})])  # type: ignore[attr-defined]
        else:
            raise Unknown

    def put(self, statement: ast.Assign | ast.AugAssign, scope: dict[str, Expr], where: str) -> None:
        """``a[key] = value`` and ``a[key] += value``: from here on a name stands for the changed array."""
        target = _target(statement)
        if not (isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and target.value.id in scope):
            raise Unknown
        old = self.read(ast.copy_location(ast.Name(target.value.id, ast.Load()), target), scope, where)
        keys = [self.key_node(k, scope, where) for k in (target.slice.elts if isinstance(target.slice, ast.Tuple) else [target.slice])]
        value = self.read(statement.value, scope, where)
        if isinstance(statement, ast.AugAssign):
            value = self.node(OPERATORS.get(type(statement.op), "?"), [self.node("take", [old, *keys], {}, target, where), value], {}, statement, where)
        scope[target.value.id] = self.node("put", [old, value, *keys], {}, statement, where)

    def key_node(self, tree: ast.expr, scope: Mapping[str, Expr], where: str) -> Expr:
        """A part of an index: plain, or computed."""
        try:
            return self.node("key", (), {"value": self.key(tree)})
        except Unknown:
            return self.read(tree, scope, where)

    def read(self, tree: ast.expr, scope: Mapping[str, Expr], where: str) -> Expr:
        """The node of an expression."""
        def sub(t: ast.expr) -> Expr:
            return self.read(t, scope, where)

        def made(op: str, inputs: Sequence[Expr] = (), **options: Any) -> Expr:
            return self.node(op, inputs, options, tree, where)
        if isinstance(tree, ast.Name):
            if tree.id in scope:
                found = scope[tree.id]
                return made("use", [found], name=tree.id)
            if tree.id in self.constants:
                return made("use", [self.read(self.constants[tree.id], {}, "")], name=tree.id)
            raise Unknown
        if isinstance(tree, ast.Constant):
            if (isinstance(tree.value, (bool, int, float)) and abs(tree.value) < LARGEST) or tree.value is None:
                return made("constant", value=tree.value)
            raise Unknown
        if isinstance(tree, ast.BinOp) and type(tree.op) in OPERATORS:
            return made(OPERATORS[type(tree.op)], [sub(tree.left), sub(tree.right)])
        if isinstance(tree, ast.UnaryOp):
            if isinstance(tree.op, ast.UAdd):
                return sub(tree.operand)
            if isinstance(tree.operand, ast.Constant) and isinstance(tree.op, ast.USub) and isinstance(tree.operand.value, (int, float)):
                return made("constant", value=-tree.operand.value)
            return made("neg" if isinstance(tree.op, ast.USub) else "~", [sub(tree.operand)])
        if isinstance(tree, ast.Compare) and len(tree.ops) == 1 and type(tree.ops[0]) in OPERATORS:
            return made(OPERATORS[type(tree.ops[0])], [sub(tree.left), sub(tree.comparators[0])])
        if isinstance(tree, ast.Tuple):
            return made("tuple", [sub(t) for t in tree.elts])
        if isinstance(tree, ast.List):
            return made("tuple", [sub(t) for t in tree.elts])
        if isinstance(tree, ast.Attribute) and tree.attr in ("T", "mT", "shape", "size", "ndim"):
            return made(tree.attr, [sub(tree.value)])
        if isinstance(tree, ast.Attribute) and isinstance(tree.value, ast.Name) and tree.value.id in ("np", "numpy"):
            if tree.attr in ("newaxis", "inf", "pi", "e"):
                return made("constant", value=getattr(np, tree.attr))
            raise Unknown
        if isinstance(tree, ast.Subscript):
            base = sub(tree.value)
            if base.op == "shape" or (base.op == "use" and base.inputs[0].op in ("shape", "tuple")):
                return made("item", [base, sub(tree.slice)])
            try:
                return made("index", [base], key=self.key(tree.slice))
            except Unknown:
                keys = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
                return made("take", [base, *(self.key_node(k, scope, where) for k in keys)])
        if isinstance(tree, ast.Call):
            return self.call(tree, scope, where)
        raise Unknown

    def key(self, tree: ast.expr) -> Any:
        """An index of plain numbers, slices, None and ..."""
        if isinstance(tree, ast.Tuple):
            return tuple(self.key(t) for t in tree.elts)
        if isinstance(tree, ast.Slice):
            return slice(*(None if t is None else self.key(t) for t in (tree.lower, tree.upper, tree.step)))
        if isinstance(tree, ast.Attribute) and tree.attr == "newaxis":
            return None
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub) and isinstance(tree.operand, ast.Constant):
            return -tree.operand.value  # type: ignore[operator]
        if isinstance(tree, ast.Constant) and (tree.value is None or tree.value is Ellipsis or isinstance(tree.value, int)):
            return tree.value
        raise Unknown

    def call(self, tree: ast.Call, scope: Mapping[str, Expr], where: str) -> Expr:
        name = getattr(tree.func, "attr", "")
        if name == "einsum":
            return self.einsum(tree, scope, where)
        args = [self.read(a, scope, where) for a in tree.args]
        named = {k.arg: k.value for k in tree.keywords if k.arg is not None}
        options: dict[str, Any] = {}
        if any(k.arg is None for k in tree.keywords):
            raise Unknown
        if isinstance(tree.func, ast.Name):
            name = tree.func.id
            if name in self.functions:
                return self.helper(name, args, {k: self.read(v, scope, where) for k, v in named.items()}, tree, where)
            if name in scope and name in self.opaque:
                return self.node("opaque", args, {"name": name}, tree, where)
            if name not in ("float", "len", "abs", "sum", "max", "min", "int", "pow", "range"):
                raise Unknown
            if name in ("max", "min") and len(args) == 2:
                name += "imum"
            elif name in ("sum", "max", "min"):
                if len(args) != 1 or named:
                    raise Unknown
                options["axis"] = 0  # Python's own goes over the first axis
        elif isinstance(tree.func, ast.Attribute):
            name, owner = tree.func.attr, tree.func.value
            module = _dotted(owner)
            if module not in ("np", "numpy", "np.linalg", "numpy.linalg", "math"):
                if name not in METHODS:
                    raise Unknown
                args = [self.read(owner, scope, where), *args]
                if name == "astype":
                    args = args[:1]
        else:
            raise Unknown
        name = SAME_AS.get(name, name)
        if name in ("zeros", "ones", "eye", "copy", "float", "zeros_like", "ones_like", "arange"):
            if name == "arange" and len(args) > 1:
                raise Unknown
            args = args[:1]
        if name == "norm" and len(args) == 2:
            args, options["ord"] = args[:1], _plain(args[1])
        positional = {"sum": ("axis",), "mean": ("axis",), "var": ("axis",), "std": ("axis",), "max": ("axis",), "min": ("axis",), "prod": ("axis",),
                      "expand_dims": ("axis",), "squeeze": ("axis",), "transpose": ("axes",)}.get(name, ())
        for key, extra in zip(positional, args[1:], strict=False):
            options[key] = _plain(extra)
        if positional:
            args = args[:1]
        for k, v in named.items():
            if k in IGNORED:
                continue
            if k in ("axis", "keepdims", "ddof", "axes", "k", "ord"):
                options[k] = _plain(self.read(v, scope, where))
            elif k in ("a", "x"):
                args = [self.read(v, scope, where), *args]
            else:
                raise Unknown
        if name not in FUNCTIONS:
            raise Unknown
        return self.node(name, args, options, tree, where)

    def einsum(self, tree: ast.Call, scope: Mapping[str, Expr], where: str) -> Expr:
        """Its first argument is a text, which nothing else has."""
        subscripts = tree.args[0] if tree.args else None
        if not (isinstance(subscripts, ast.Constant) and isinstance(subscripts.value, str) and all(k.arg == "optimize" for k in tree.keywords)):
            raise Unknown
        return self.node("einsum", [self.read(a, scope, where) for a in tree.args[1:]], {"subscripts": subscripts.value}, tree, where)

    def helper(self, name: str, args: Sequence[Expr], named: Mapping[str, Expr], tree: ast.Call, where: str) -> Expr:
        declared = self.functions[name].args
        names = [a.arg for a in (*declared.posonlyargs, *declared.args, *declared.kwonlyargs)]
        given = dict(zip(names, args, strict=False)) | dict(named)
        positional = [a.arg for a in (*declared.posonlyargs, *declared.args)]
        for n, default in zip(positional[len(positional) - len(declared.defaults):], declared.defaults, strict=True):
            given.setdefault(n, self.read(default, {}, name))
        for a, kw in zip(declared.kwonlyargs, declared.kw_defaults, strict=True):
            if kw is not None:
                given.setdefault(a.arg, self.read(kw, {}, name))
        if set(names) - set(given):
            raise Unknown
        return self.node("use", [self.function(name, given)], {"name": f"{name}()"}, tree, where)


def _target(statement: ast.stmt) -> ast.expr | None:
    """The only target of an assignment."""
    if isinstance(statement, ast.AugAssign):
        return statement.target
    return statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None


def _dotted(tree: ast.expr) -> str:
    if isinstance(tree, ast.Name):
        return tree.id
    return f"{_dotted(tree.value)}.{tree.attr}" if isinstance(tree, ast.Attribute) else ""


def _plain(node: Expr) -> Any:
    """A keyword's plain value."""
    if node.op == "use":
        return _plain(node.inputs[0])
    if node.op == "constant":
        return node.options["value"]
    if node.op == "tuple":
        return tuple(map(_plain, node.inputs))
    raise Unknown


def expression(module: ast.Module, name: str, arguments: Sequence[str], opaque: Mapping[str, Callable[..., Any]] | None = None) -> Expr | None:
    """The graph of what the function `name` returns; None where it holds something that is not known here.

    Args:
        module: the file.
        arguments: names of the parameters that are filled.
        opaque: functions that come as arguments.
    """
    reader = _GraphOf(module, opaque or {})
    if name not in reader.functions:
        return None
    declared = reader.functions[name].args
    try:
        given = {n: Expr("name", (), {"name": n}) for n in arguments}
        defaults = dict(zip([a.arg for a in declared.args][len(declared.args) - len(declared.defaults):], declared.defaults, strict=True))
        for n, tree in defaults.items():
            if n not in given:
                given[n] = reader.read(tree, {}, name)
        return reader.function(name, given)
    except (Unknown, RecursionError):
        return None


# -- values ---------------------------------------------------------------------------------------------------------------------


def walk(root: Expr) -> Iterator[Expr]:
    """All nodes of a graph, each once, inputs before what uses them."""
    seen: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(n, False) for n in node.inputs]


FAILED = object()  # the value of a node that cannot be computed


class Evaluated:
    """A graph with the values of all its nodes for one set of arguments; changed graphs compute only what differs.

    Args:
        root: the graph.
        arguments: values by name; also those that no node uses yet.
        tolerant: what cannot be computed is `FAILED`: an edit may mend it.

    Raises:
        Unknown: a node cannot be computed.
    """

    def __init__(self, root: Expr, arguments: Mapping[str, Value], tolerant: bool = False) -> None:
        self.root, self.arguments = root, arguments
        self.known: dict[int, Value] = {}
        self.above: dict[int, set[int]] = {}  # node -> all that depend on it
        self.kept: list[Expr] = list(walk(root))
        for node in self.kept:
            inputs = [self.known[id(n)] for n in node.inputs]
            try:
                self.known[id(node)] = FAILED if any(v is FAILED for v in inputs) else self._one(node, inputs)
            except Unknown:
                if not tolerant:
                    raise
                self.known[id(node)] = FAILED
            self.above.setdefault(id(node), set())
        for node in reversed(self.kept):
            for n in node.inputs:
                self.above[id(n)] |= {id(node)} | self.above[id(node)]

    def _one(self, node: Expr, inputs: Sequence[Value]) -> Value:
        if node.op == "name":
            return self.arguments[node.options["name"]]
        if node.op in ("constant", "key"):
            return node.options["value"]
        if node.op == "use":
            return inputs[0]
        if node.op == "opaque":
            try:
                return answered(self.arguments[node.options["name"]], inputs)
            except Exception:  # what a task's function says to odd arguments
                raise Unknown from None
        return applied(node.op, inputs, node.options)

    def value(self, node: Expr) -> Value:
        """The value of one of the graph's nodes."""
        return self.known[id(node)]

    def changed(self, edits: Mapping[int, Expr]) -> Value:
        """The root's value with some nodes, by identity, replaced. A replacement may use the nodes of the graph as they are.

        Raises:
            Unknown: it cannot be computed.
        """
        above = set[int]().union(*(self.above[i] for i in edits))
        new: dict[tuple[int, frozenset[int]], Value] = {}

        def find(node: Expr, inside: frozenset[int]) -> Value:
            """The value of a node in the replacement of those in `inside`, where they stand for themselves."""
            i = id(node)
            if i in edits and i not in inside:
                return find(edits[i], inside | {i})
            if i in self.known and i not in above:
                if self.known[i] is FAILED:
                    raise Unknown
                return self.known[i]
            if (i, inside) not in new:
                new[i, inside] = self._one(node, [find(n, inside) for n in node.inputs])
            return new[i, inside]
        return find(self.root, frozenset())

    def of(self, node: Expr) -> Value:
        """The value of a new node that may use the nodes of the graph.

        Raises:
            Unknown: it cannot be computed.
        """
        return self.known[id(node)] if id(node) in self.known else self._one(node, [self.of(n) for n in node.inputs])


# -- back to text ----------------------------------------------------------------------------------------------------------------

RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "@": 2, "neg": 3, "**": 4}


def text(node: Expr) -> str:
    """The node as NumPy code: as the student wrote it, where it is theirs."""
    if node.said is None:
        node.said = _text(node)
    return node.said


def _text(node: Expr) -> str:
    if node.source is not None and isinstance(node.source.tree, ast.expr):
        return ast.unparse(node.source.tree)
    if node.op == "name":
        return str(node.options["name"])
    if node.source is not None and isinstance(node.source.tree, (ast.Assign, ast.AugAssign)):
        return ast.unparse(node.source.tree)
    if node.op == "constant":
        v = node.options["value"]
        return f"{v:g}" if isinstance(v, float) else str(v)
    if node.op == "use":
        return str(node.options["name"])
    parts = [text(n) for n in node.inputs]
    if node.op in RANK and len(parts) == 2:
        wrapped = []
        for n, part, right in zip(node.inputs, parts, (False, True), strict=True):
            rank = _rank(n)
            loose = rank < RANK[node.op] or (rank == RANK[node.op] and (right or node.op == "**") and not (node.op in "+*" and n.op == node.op))
            wrapped.append(f"({part})" if loose else part)
        return f" {node.op} ".join(wrapped)
    if node.op == "neg":
        return f"-({parts[0]})" if _rank(node.inputs[0]) < 3 else f"-{parts[0]}"
    if node.op in ("<", ">", "<=", ">=", "==", "!="):
        return f"{parts[0]} {node.op} {parts[1]}"
    if node.op in ("T", "mT", "shape", "size"):
        return f"({parts[0]}).{node.op}" if _rank(node.inputs[0]) < 9 else f"{parts[0]}.{node.op}"
    if node.op == "expand_dims" and node.options.get("axis") == 1:
        return f"{parts[0]}[:, None]"
    if node.op in ("index", "take"):
        return f"{parts[0]}[…]"
    if node.op == "item":
        return f"{parts[0]}[{parts[1]}]"
    options = [f"{k}={v}" for k, v in node.options.items() if not (k == "axis" and v is None) and not (k == "keepdims" and not v)]
    return f"np.{'linalg.' if node.op in ('inv', 'norm') else ''}{node.op}({', '.join([*parts, *options])})"


def _rank(node: Expr) -> int:
    """How tightly the text of a node holds together."""
    if node.source is not None and isinstance(node.source.tree, ast.expr):
        tree = node.source.tree
        if isinstance(tree, ast.BinOp):
            return RANK.get(OPERATORS.get(type(tree.op), ""), 0)
        return 3 if isinstance(tree, ast.UnaryOp) or (isinstance(tree, ast.Constant) and isinstance(tree.value, (int, float)) and tree.value < 0) else (
            0 if isinstance(tree, ast.Compare) else 9)
    if node.op == "constant" and isinstance(node.options["value"], (int, float)) and node.options["value"] < 0:
        return 3
    return RANK.get(node.op, 0 if node.op in ("<", ">", "<=", ">=", "==", "!=") else 9)
