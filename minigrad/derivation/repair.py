"""The last resort of a diagnosis: which single edit of the student's own line makes it right?

Where no change of one term explains a result, one change of the *code* may: another name, a sign, a transpose, a power, an axis.
The edits are made on the syntax tree, and run where the line itself runs, on the same probes.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence

from ..core.backend import np
from .attempt import Attempt
from .diagnose import Diagnosis, same
from .probe import Probe
from .trees import Put

Edit = tuple[str, ast.AST, ast.AST]  # code, node of the tree, what to put there


def repair(attempt: Attempt, name: str, probes: Sequence[Probe], scales: Sequence[float]) -> Diagnosis | None:
    """The edit of the function `name` that makes it right on all probes; None if there is none, or no source to edit."""
    found = _tree(attempt, name)
    if found is None:
        return None
    tree, first = found
    edits = _edits(tree, probes[0])
    trees = [tree, *(Put(node, new).visit(copy.deepcopy(tree)) for _, node, new in edits)]  # the line itself first: it must be wrong
    texts = [ast.unparse(ast.fix_missing_locations(t)) for t in trees]
    target = str(attempt.task.line(name).target)
    right = range(len(texts))
    for probe, scale in zip(probes, scales, strict=True):
        answer, wanted = probe.adjoints[target], set(right)
        results = attempt.variants(name, [(texts[i], 0) for i in sorted(wanted)], [attempt.probes.index(probe)])
        order = sorted(wanted)
        right = [order[k] for k, result in results if 0 <= k < len(order) and same(np.asarray(result), answer, scale)]  # type: ignore[assignment]
    if not right or min(right) == 0:
        return None
    code, node, new = edits[min(right) - 1]
    where = first + getattr(node, "lineno", 1)
    return Diagnosis(code, f"with `{ast.unparse(new)}` in the place of `{ast.unparse(node)}` in line {where} it would be right")


def _tree(attempt: Attempt, name: str) -> tuple[ast.FunctionDef, int] | None:
    """The function's syntax tree, and the number of its first line less that of the tree."""
    found = attempt.runner.source(name)
    if found is None:
        return None
    try:
        tree = ast.parse(found[0])
    except (SyntaxError, ValueError):
        return None
    known = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    functions = [n for n in known if n.name == name] or (known if len(known) == 1 else [])  # a function may go by another name in a notebook
    return (functions[-1], found[1]) if functions else None


def _edits(tree: ast.FunctionDef, probe: Probe) -> list[Edit]:
    """All single edits that change something, likely ones first."""
    arguments = [a.arg for a in (*tree.args.args, *tree.args.kwonlyargs)]
    numbers = {a for a in arguments if isinstance(probe.given.get(a), (int, np.integer))}  # those that count elements
    return [(code, node, new) for code, node, new in _candidates(tree, arguments, numbers) if ast.unparse(new) != ast.unparse(node)]


def _candidates(tree: ast.FunctionDef, arguments: Sequence[str], numbers: set[str]) -> Iterator[Edit]:
    def is_count(n: ast.AST) -> bool:
        return isinstance(n, ast.Name) and n.id in numbers
    nodes = [n for statement in tree.body for n in ast.walk(statement)]
    for n in nodes:
        if isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Add, ast.Sub)):
            yield "sign", n, ast.BinOp(n.left, ast.Sub() if isinstance(n.op, ast.Add) else ast.Add(), n.right)
        if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
            yield "sign", n, n.operand
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add) and isinstance(n.right, ast.Name) and n.right.id.startswith("eps"):
            if isinstance(n.left, ast.BinOp) and isinstance(n.left.op, ast.Pow):  # a**p + ε
                yield "epsilon misplaced", n, ast.BinOp(ast.BinOp(n.left.left, ast.Add(), n.right), ast.Pow(), n.left.right)
            if isinstance(n.left, ast.Call) and len(n.left.args) == 1:  # sqrt(a) + ε
                yield "epsilon misplaced", n, ast.Call(n.left.func, [ast.BinOp(n.left.args[0], ast.Add(), n.right)], n.left.keywords)
        if isinstance(n, ast.Attribute) and n.attr in ("sum", "mean"):
            yield ("mean for sum", n, ast.Attribute(n.value, "sum", n.ctx)) if n.attr == "mean" else ("sum for mean", n, ast.Attribute(n.value, "mean", n.ctx))
    for n in nodes:
        if isinstance(n, (ast.For, ast.While)):  # what a loop collects adds up
            for a in (x for statement in n.body for x in ast.walk(statement)):
                if isinstance(a, ast.Assign) and len(a.targets) == 1 and isinstance(a.targets[0], (ast.Name, ast.Subscript)):
                    yield "overwritten", a, ast.AugAssign(a.targets[0], ast.Add(), a.value)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id in arguments:
            for other in arguments:
                if other != n.id:
                    yield "wrong operand", n, ast.Name(other, ast.Load())
        if isinstance(n, ast.Attribute) and n.attr == "T":
            yield "transposed", n, n.value
        elif isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
            yield "transposed", n, ast.Attribute(n, "T", ast.Load())
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.MatMult):
            yield "transposed", n, ast.BinOp(n.right, n.op, n.left)
        if isinstance(n, ast.keyword) and n.arg == "axis" and isinstance(n.value, ast.Constant):
            for axis in (0, 1, -1):
                yield "wrong axis", n, ast.keyword("axis", ast.Constant(axis))
    for n in nodes:
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow):
            for power in (-3.0, -2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 3.0):
                yield "wrong power", n, ast.BinOp(n.left, n.op, ast.Constant(power))
        if isinstance(n, ast.Constant) and isinstance(n.value, (int, float)) and not isinstance(n.value, bool):
            for factor in (-1.0, 2.0, 0.5):
                yield "sign" if factor < 0 else "factor", n, ast.Constant(n.value * factor)
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Sub) and is_count(n.left) and isinstance(n.right, ast.Constant):
            yield "n - 1 for n", n, n.left
        if isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Mult, ast.Div)):
            yield "extra operand" if not is_count(n.right) else "mean for sum" if isinstance(n.op, ast.Div) else "sum for mean", n, n.left
            if isinstance(n.op, ast.Mult):
                yield "extra operand", n, n.right
        if isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Add, ast.Sub)):
            yield "extra path", n, n.left
    for n in nodes:
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id in arguments:
            for other in arguments:
                yield "epsilon misplaced" if other.startswith("eps") else "missing path", n, ast.BinOp(n, ast.Add(), ast.Name(other, ast.Load()))
        if isinstance(n, (ast.Name, ast.BinOp, ast.Call)) and isinstance(getattr(n, "ctx", ast.Load()), ast.Load):
            for other in arguments:
                count = other in numbers
                yield "mean for sum" if count else "missing operand", n, ast.BinOp(n, ast.Mult(), ast.Name(other, ast.Load()))
                yield "sum for mean" if count else "missing operand", n, ast.BinOp(n, ast.Div(), ast.Name(other, ast.Load()))

