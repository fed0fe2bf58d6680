"""What a right line may be besides a derivation: a difference quotient, a complex step, somebody else's autodiff, a table.

A flag is no verdict. The line returns the right numbers; whoever grades decides what that is worth (``python -m lectures.grade --strict``).
Imports and names are read from the syntax tree of the line and of the helpers that it calls. A difference quotient is found by what it
does: change a small constant, and the answer stays near the right one, but no longer is it.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from ..core.backend import np
from .attempt import Attempt
from .changes import Trial
from .trees import Put

PLAIN = frozenset({"__future__", "abc", "collections", "contextlib", "copy", "dataclasses", "enum", "functools", "itertools", "logging", "math", "numbers",
                   "numpy", "operator", "pprint", "re", "string", "sys", "textwrap", "time", "typing", "warnings"})
COMPLEX = frozenset({"complex", "complex64", "complex128", "complex256", "csingle", "cdouble", "clongdouble", "imag"})
STEPS = frozenset({"finfo", "spacing", "nextafter", "longdouble", "float128", "float96"})
FROM_TEXT = frozenset({"exec", "eval", "compile", "__import__", "globals", "_getframe", "__globals__", "__code__", "__subclasses__", "f_back"})
TOO_LONG = "too long to be looked through"
MOST_NODES = 3000  # of the syntax tree of a line and its helpers
SMALL, OTHERS = 0.05, (16.0, 1 / 4096)  # constants that may be steps, and times what: too large a step bends, too small a one loses digits
OPERATIONS: dict[type[ast.operator], Any] = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
                                             ast.Pow: operator.pow}
CHANGED, NEAR = 1e-10, 1e-2  # of the size of the terms: another step is seen, and the answer still near


def flags(attempt: Attempt, name: str, trial: Trial) -> list[str]:
    """What is odd about a right line, in words; an empty list, or where nobody has its text, nothing is known."""
    found = attempt.runner.source(name)
    if found is None:
        return []
    try:
        return _flags(attempt, name, trial, ast.parse(found[0]))
    except (SyntaxError, ValueError):
        return []
    except RecursionError:
        return [TOO_LONG]


def _flags(attempt: Attempt, name: str, trial: Trial, module: ast.Module) -> list[str]:
    nodes = reachable(module, name)
    seen = [n for node in nodes for n in ast.walk(node)]
    if len(seen) > MOST_NODES:
        return [TOO_LONG]
    if not nodes and attempt.runner.file is not None:
        return [*_hidden(module), "its text is not in this file"]
    said = [*_hidden(module), *_imports(module, seen, attempt.runner.absent), *_names(seen)]
    line = next((n for n in nodes if isinstance(n, ast.FunctionDef)), None)
    if line is not None and line.name == name:
        given = {a.arg for a in (*line.args.posonlyargs, *line.args.args, *line.args.kwonlyargs)}
        if not any(isinstance(n, ast.Name) and n.id in given for statement in line.body for n in ast.walk(statement)):
            said.append("it uses none of its arguments")
    if not any(text.startswith(("numerical", "complex")) for text in said) and _is_difference(attempt, name, trial, nodes):
        said.append("numerical derivative: with another step it is off")
    return said


def _hidden(module: ast.Module) -> Iterator[str]:
    """What hides the file's text from this look at it."""
    for n in ast.walk(module):
        if isinstance(n, ast.ImportFrom) and any(a.name == "*" for a in n.names) and (n.module or "").partition(".")[0] not in ("numpy", "math"):
            yield f"it imports all names of {n.module or '.'}"
    inside = {id(n) for f in ast.walk(module) if isinstance(f, (ast.FunctionDef, ast.Lambda)) for n in ast.walk(f)}
    called = {n.func.id for n in ast.walk(module) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and id(n) not in inside}
    if called & {"exec", "eval", "compile", "__import__"}:
        yield "the file runs code made from text"


def reachable(module: ast.Module, name: str) -> list[ast.stmt]:
    """The statements of a file that define the function and what it uses: helpers, constants, and theirs. The function comes first."""
    defined: dict[str, ast.stmt] = {}
    for statement in module.body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            defined[statement.name] = statement
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for n in (n for target in targets for n in ast.walk(target)):
                if isinstance(n, ast.Name):
                    defined[n.id] = statement
    found: list[ast.stmt] = []
    stack = [name]
    while stack:
        statement = defined.get(stack.pop())  # type: ignore[assignment]
        if statement is not None and statement not in found:
            found.append(statement)
            own = {a.arg for a in ast.walk(statement) if isinstance(a, ast.arg)}  # a parameter d_var is not the function d_var
            own |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            stack += [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id not in own]
    return found


def _imports(module: ast.Module, seen: Sequence[ast.AST], absent: Sequence[str]) -> Iterator[str]:
    bound: dict[str, str] = {}
    for n in [*ast.walk(module)]:
        if isinstance(n, ast.Import):
            bound |= {(a.asname or a.name.partition(".")[0]): a.name for a in n.names}
        elif isinstance(n, ast.ImportFrom):
            bound |= {(a.asname or a.name): n.module or "." for a in n.names}
    used = {bound[n.id] for n in seen if isinstance(n, ast.Name) and n.id in bound}
    used |= {a.name for n in seen if isinstance(n, ast.Import) for a in n.names} | {n.module or "." for n in seen if isinstance(n, ast.ImportFrom)}
    for name in sorted(used):
        root = name.partition(".")[0]
        if root not in PLAIN:
            yield f"it uses {name}" + (", which was not there" if root in absent else "")


def _names(seen: Sequence[ast.AST]) -> Iterator[str]:
    names = {n.id if isinstance(n, ast.Name) else n.attr for n in seen if isinstance(n, (ast.Name, ast.Attribute))}
    if names & COMPLEX or any(isinstance(n, ast.Constant) and isinstance(n.value, complex) for n in seen):
        yield "complex numbers: a complex step is no derivation"
    local: dict[str, ast.expr] = {}
    for n in seen:
        if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.targets[0], ast.Name):
            local.setdefault(n.targets[0].id, n.value)
    if any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Sub) and _is_step(_written_out(n.left, local), _written_out(n.right, local)) for n in seen):
        yield "numerical derivative: it subtracts the same expression at two neighbouring places"
    if names & STEPS:
        yield f"numerical derivative? It asks for {', '.join(sorted(names & STEPS))}, as one does for the size of a step"
    if names & FROM_TEXT:
        yield f"it uses {', '.join(sorted(names & FROM_TEXT))}"


def _written_out(node: ast.expr, local: dict[str, ast.expr], depth: int = 3) -> ast.expr:
    """An expression whose names are replaced by what was assigned to them first, some steps deep."""
    class Put(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.AST:
            found = local.get(name.id)
            return name if found is None or not depth else _written_out(found, {k: v for k, v in local.items() if k != name.id}, depth - 1)
    return Put().visit(copy.deepcopy(node))


def _is_step(a: ast.AST, b: ast.AST, inside: bool = False) -> bool:
    """Whether two expressions differ only where one has x + h and the other x, or x - h, inside of a call or a power."""
    if ast.dump(a) == ast.dump(b):
        return False
    if inside:
        for x, y in ((a, b), (b, a)):
            if isinstance(x, ast.BinOp) and isinstance(x.op, (ast.Add, ast.Sub)):
                if ast.dump(x.left) == ast.dump(y):
                    return True
                if isinstance(y, ast.BinOp) and isinstance(y.op, (ast.Add, ast.Sub)) and type(x.op) is not type(y.op) and (
                        ast.dump(x.left), ast.dump(x.right)) == (ast.dump(y.left), ast.dump(y.right)):
                    return True
    if type(a) is not type(b):
        return False
    inside = inside or isinstance(a, ast.Call) or (isinstance(a, ast.BinOp) and isinstance(a.op, (ast.Pow, ast.Mult, ast.Div)))
    pairs = list(zip(ast.iter_child_nodes(a), ast.iter_child_nodes(b), strict=False))
    different = [(x, y) for x, y in pairs if ast.dump(x) != ast.dump(y)]
    return len(list(ast.iter_child_nodes(a))) == len(list(ast.iter_child_nodes(b))) and bool(different) and all(_is_step(x, y, inside) for x, y in different)


def _is_difference(attempt: Attempt, name: str, trial: Trial, nodes: Sequence[ast.stmt]) -> bool:
    """Whether a small constant in the line, or in what it uses, is the step of a difference quotient."""
    constants = [n for node in nodes for n in _numbers(node) if 0 < abs(_value(n)) <= SMALL][:8]
    texts = []
    for n, factor in product(constants, OTHERS):
        edited = [Put(n, ast.Constant(_value(n) * factor)).visit(copy.deepcopy(node)) for node in reversed(nodes)]
        texts.append(("\n".join(ast.unparse(ast.fix_missing_locations(node)) for node in edited), 0))
    if not texts:
        return False
    probe = attempt.probes.index(trial.probe)
    for _, result in attempt.variants(name, texts, [probe]):
        a = np.asarray(result)
        if a.shape == trial.right.shape and CHANGED < float(np.abs(a - trial.right).max(initial=0)) / trial.scale < NEAR:
            return True
    return False


def _value(n: ast.AST) -> float:
    """The number that an expression of constants stands for; 0 if it is none."""
    if isinstance(n, ast.Constant) and isinstance(n.value, (int, float)) and not isinstance(n.value, bool):
        return float(n.value)
    if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
        return -_value(n.operand)
    if isinstance(n, ast.BinOp) and _is_number(n):
        try:
            return float(OPERATIONS[type(n.op)](_value(n.left), _value(n.right)))  # in floats, which cannot grow without end
        except (ArithmeticError, ValueError, TypeError):
            return 0.0
    return 0.0


def _is_number(n: ast.AST) -> bool:
    """Whether it is made of small constants alone, so that its value is soon found."""
    if isinstance(n, ast.BinOp):
        return type(n.op) in OPERATIONS and _is_number(n.left) and _is_number(n.right)
    if isinstance(n, ast.UnaryOp):
        return _is_number(n.operand)
    return isinstance(n, ast.Constant) and isinstance(n.value, (int, float)) and abs(n.value) < 1000


def _numbers(n: ast.AST) -> Iterator[ast.AST]:
    """The largest constant expressions in a tree."""
    if _is_number(n) and _value(n):
        yield n
        return
    for child in ast.iter_child_nodes(n):
        yield from _numbers(child)
