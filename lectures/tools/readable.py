"""Which lines of a solution can be read in the released course, in whatever names, axes and order.

A line is compared as a syntax tree: names are placeholders, the operands of + and * have no order, dividing is multiplying (by another name),
and what says only over which axis is left out, so that the two lines of

    np.sum(d_y * xhat, axis=0) / len(x)
    inverse * (hat * g).sum(1, keepdims=True)

are the same. Looked at are programs, the code cells of notebooks, and code in Markdown and docstrings (indented or fenced).
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

SMALLEST = 3  # operations without signs; shorter lines, such as the sum of a product, stand in every lecture on derivatives
LAYOUT = frozenset({"expand_dims", "reshape", "asarray", "array", "broadcast_to"})  # calls that say how an array lies
MODULES = frozenset({"np", "mg", "numpy", "minigrad", "xp", "math"})

Tree = Any  # a name as a str, a number as a float, or (operation, parts in order) or (operation, parts without order)


class Gone(Protocol):
    """A line of a solution: where it stands, as ``file:line``."""

    @property
    def where(self) -> str: ...


# -- one expression ----------------------------------------------------------------------------------------------------


def normalized(node: ast.AST) -> Tree:
    """The expression with sums and products flattened, and without axes.

    Names are str; numbers are ("number", value); an operation is (its name, [parts], whether their order counts).
    """
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant):
        return ("number", float(node.value)) if isinstance(node.value, (int, float)) and not isinstance(node.value, bool) else ("constant", repr(node.value))
    if (isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd))) or (isinstance(node, ast.BinOp) and isinstance(
            node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div))):
        return _sum(node) if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)) else _product(node)
    if isinstance(node, ast.BinOp):
        return (type(node.op).__name__, [normalized(node.left), normalized(node.right)], True)
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in MODULES:
            return ("constant", node.attr)
        return ("T", [normalized(node.value)], True) if node.attr in ("T", "mT") else (f".{node.attr}", [normalized(node.value)], True)
    if isinstance(node, ast.Subscript) and _is_layout(node.slice):
        return normalized(node.value)
    if isinstance(node, ast.Call):
        return _call(node)
    kind = "".join(type(op).__name__ for op in getattr(node, "ops", [getattr(node, "op", node)]))  # Gt of a comparison, Not, or the kind of the node
    signs = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
    return (kind, [normalized(child) for child in ast.iter_child_nodes(node) if not isinstance(child, signs)], True)


def _is_layout(index: ast.AST) -> bool:
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    return all((isinstance(p, ast.Slice) and p.lower is p.upper is p.step is None) or (isinstance(p, ast.Constant) and p.value in (None, ...)) for p in parts)


def _call(node: ast.Call) -> Tree:
    """np.sum(a, axis=0), a.sum(0) and mg.sum(a, 0) are one thing; a layout is none."""
    f, arguments = node.func, list(node.args)
    if isinstance(f, ast.Attribute):
        name = f.attr
        if not ((isinstance(f.value, ast.Name) and f.value.id in MODULES) or isinstance(f.value, ast.Attribute)):
            arguments.insert(0, f.value)
    elif isinstance(f, ast.Name):
        name = f.id
    else:
        return ("call", [normalized(child) for child in (f, *arguments)], True)
    if name in ("sum", "mean", "var", "std", "max", "min"):
        arguments = arguments[:1]  # without the axis
    if name in LAYOUT and arguments:
        return normalized(arguments[0])
    return (f"{name}()", [normalized(a) for a in arguments], True)


def _sum(node: ast.AST) -> Tree:
    terms: list[Tree] = []

    def gather(n: ast.AST, sign: int) -> None:
        if isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Add, ast.Sub)):
            gather(n.left, sign)
            gather(n.right, sign if isinstance(n.op, ast.Add) else -sign)
        elif isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
            gather(n.operand, -sign)
        else:
            terms.append(_signed(normalized(n), sign))
    gather(node, 1)
    return ("sum", terms, False)


def _product(node: ast.AST) -> Tree:
    factors: list[Tree] = []
    number = 1.0

    def gather(n: ast.AST, up: bool) -> None:
        nonlocal number
        if isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Mult, ast.Div)):
            gather(n.left, up)
            gather(n.right, up is isinstance(n.op, ast.Mult))
        elif isinstance(n, ast.UnaryOp) and isinstance(n.op, (ast.USub, ast.UAdd)):
            number = -number if isinstance(n.op, ast.USub) else number
            gather(n.operand, up)
        elif isinstance(n, ast.Constant) and isinstance(n.value, (int, float)) and n.value:
            number = number * n.value if up else number / n.value
        else:
            factors.append(normalized(n))  # a / s is a * rstd
    gather(node, True)
    return _factors(number, factors)


def _factors(number: float, factors: list[Tree]) -> Tree:
    if number == 1 and len(factors) == 1:
        return factors[0]
    if not factors:
        return ("number", number)
    return ("product", [("number", number), ("factors", factors, False)], True)


def _signed(tree: Tree, sign: int) -> Tree:
    if sign > 0:
        return tree
    if tree[0] == "number":
        return ("number", -tree[1])
    if tree[0] == "product":
        (_, number), *rest = tree[1]
        return ("product", [("number", -number), *rest], True)
    return _factors(-1.0, [tree])


def size(node: ast.AST) -> int:
    """How many operations an expression has: operators and calls, without signs and layouts."""
    return sum(isinstance(n, (ast.BinOp, ast.Compare)) or (isinstance(n, ast.Call) and getattr(n.func, "attr", "") not in LAYOUT) for n in ast.walk(node))


def fingerprint(node: ast.AST) -> str:
    """A text that is the same for expressions that differ in names, axes and order only.

    >>> a, b = (ast.parse(t, mode="eval").body for t in ("np.sum(d_y * xhat, axis=0) / n", "(hat * g).sum(1, keepdims=True) * inverse"))
    >>> fingerprint(a) == fingerprint(b), fingerprint(a) == fingerprint(ast.parse("np.sum(d_y * d_y, axis=0) / n", mode="eval").body)
    (True, False)
    """
    tree = normalized(node)
    colours: dict[str, str] = defaultdict(lambda: "name")
    for _ in range(3):  # a name is what it is used for, and beside which others
        seen: dict[str, list[str]] = defaultdict(list)
        _places(tree, "", colours, seen)
        colours = defaultdict(lambda: "name", {name: _digest("|".join(sorted(places))) for name, places in seen.items()})
    return _text(tree, colours)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(tree: Tree, colours: dict[str, str]) -> str:
    if isinstance(tree, str):
        return colours[tree]
    if len(tree) == 2:
        return f"{tree[0]} {tree[1]:g}" if isinstance(tree[1], float) else f"{tree[0]} {tree[1]}"
    parts = [_text(part, colours) for part in tree[1]]
    return f"{tree[0]}({', '.join(parts if tree[2] else sorted(parts))})"


def _places(tree: Tree, path: str, colours: dict[str, str], seen: dict[str, list[str]]) -> None:
    """For each name, where it stands: the operations above it, and what stands beside it."""
    if isinstance(tree, str):
        seen[tree].append(path + colours[tree])
    elif len(tree) == 3:
        beside = _digest(_text(tree, colours))
        for k, part in enumerate(tree[1]):
            _places(part, f"{path}/{tree[0]}{k if tree[2] else ''}:{beside}", colours, seen)


# -- files -------------------------------------------------------------------------------------------------------------


def code_in(name: str, text: str) -> Iterator[tuple[str, int, ast.Module]]:
    """(place, first line, syntax tree) of all code in a file: programs, cells, and blocks in Markdown, comments and docstrings."""
    if name.endswith(".ipynb"):
        for number, cell in enumerate(json.loads(text)["cells"], 1):
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                yield from ((f"{name}:cell {number}", 0, tree) for tree in [_parsed(source)] if tree)
            yield from ((f"{name}:cell {number}", 0, tree) for _, tree in blocks(source))
    elif name.endswith(".py"):
        if tree := _parsed(text):
            yield name, 1, tree
            yield from ((name, node.lineno, code) for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
                        for code in sentences(node.value))
        yield from ((name, at, tree) for at, tree in blocks(re.sub(r"^# ?", "", text, flags=re.MULTILINE)))
    elif name.endswith((".md", ".txt", ".rst", ".html", ".tex")):
        yield from ((name, at, tree) for at, tree in blocks(text))


def blocks(text: str) -> Iterator[tuple[int, ast.Module]]:
    """Code in prose: fenced, indented, or between backticks; each with its first line."""
    for found in re.finditer(r"^```[^\n]*\n(.*?)^```|((?:^(?: {4}|\t)[^\n]*\n?)+)|`([^`\n]+)`", text, re.MULTILINE | re.DOTALL):
        source = textwrap.dedent(next(g for g in found.groups() if g is not None))
        at = text.count("\n", 0, found.start()) + 1
        whole = _parsed(source)
        for k, line in enumerate([source] if whole else source.splitlines()):
            if tree := whole or _parsed(line.strip()):
                yield at + (0 if whole else k), tree


def sentences(text: str) -> Iterator[ast.Module]:
    """What in a text, such as a hint, is code from one stop to the next."""
    for part in re.split(r"[:;,.!?](?:\s+|$)", text):
        if len(part) > 4 and re.search(r"[-+*/@(]", part) and (tree := _parsed(part.strip())):
            yield tree


def _parsed(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(textwrap.dedent("".join(line for line in source.splitlines(keepends=True) if not line.lstrip().startswith(("%", "!")))))
        except (SyntaxError, ValueError):
            return None


def expressions(tree: ast.Module) -> Iterator[ast.expr]:
    """All expressions of at least SMALLEST operations, inner ones too."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Call)) and size(node) >= SMALLEST:
            yield node


def statements(tree: ast.AST) -> Iterator[tuple[int, ast.expr]]:
    """What each statement computes, with its line."""
    for node in ast.walk(tree):
        value = getattr(node, "value", None)
        if isinstance(node, (ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr)) and isinstance(value, ast.expr):
            yield node.lineno, value


def solutions(root: Path, gone: Sequence[Gone]) -> dict[str, tuple[str, str]]:
    """Of all lines of solutions in programs that are long enough: fingerprint -> (where, text)."""
    lines: dict[str, set[int]] = defaultdict(set)
    for s in gone:
        name, _, number = s.where.rpartition(":")
        if name.endswith(".py"):
            lines[name].add(int(number))
    found: dict[str, tuple[str, str]] = {}
    for name, numbers in lines.items():
        for at, value in statements(ast.parse((root / name).read_bytes())):
            if at in numbers and size(value) >= SMALLEST:
                found.setdefault(fingerprint(value), (f"{name}:{at}", ast.unparse(value)))
    return found


def shown(root: Path, tree: Path, gone: Sequence[Gone], names: Sequence[str]) -> list[str]:
    """Where in these files and folders of the students' `tree` a solution can be read; line numbers are those of the released file."""
    secret = solutions(root, gone)
    problems = []
    for path in sorted(p for name in names for p in ([tree / name] if (tree / name).is_file() else (tree / name).rglob("*"))):
        if path.suffix not in (".py", ".ipynb", ".md"):
            continue
        name, said = path.relative_to(tree).as_posix(), set()
        for where, first, code in code_in(name, path.read_text("utf-8")):
            for expression in expressions(code):
                at, solution = secret.get(fingerprint(expression), ("", ""))
                place = f"{where}:{first + expression.lineno - 1}" if first else where
                if at and (place, at) not in said:
                    said.add((place, at))
                    problems.append(f"{place}: {ast.unparse(expression)} is the solution in {at}, {solution}, in other names")
    return problems
