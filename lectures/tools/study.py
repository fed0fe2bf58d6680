"""How good is the checker? ``python -m lectures.study [--homework NAME] [--seeds N] [--jobs N] [--json FILE]``

Three measurements over all homework solutions, or over those of one homework (less than a minute on two cores):

1. Mutants. Every line is changed in one place by the operators of `OPERATORS`, and must be refused; no other line may be. The table
   says which diagnoses are right for an operator.
2. Equivalent rewrites. Every line is rewritten by the rules of algebra, and must be accepted.
3. Seeds. The solutions are checked with many seeds: no false alarm.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import multiprocessing
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

import minigrad as mg
from minigrad import derivation
from minigrad.command import run_command
from minigrad.derivation import predict

HOMEWORK = Path(__file__).resolve().parents[1] / "homework"
SHAPE = frozenset({"wrong axis", "not reduced", "over-reduced", "wrong shape"})
OPERAND = frozenset({"wrong operand", "missing operand", "extra operand", "wrong power"})
COUNT = frozenset({"mean for sum", "sum for mean"})

# Operator -> the codes that are a right first answer. A line that raises, or returns another shape, is always named rightly: Python
# or the shapes say what is wrong. A name that is a number of elements belongs to the means, ε to its own code.
OPERATORS: dict[str, frozenset[str]] = {
    "sign flipped": frozenset({"sign"}),
    "term dropped": frozenset({"missing path", "eval formula"}),
    "constant dropped": frozenset({"factor", "sign", "counted twice"}),  # without 1/2 it counts twice
    "constant doubled": frozenset({"factor", "sign", "counted twice"}),
    # Without a factor, d_gamma becomes d_beta. Where a whole divisor, (D - 1) * std, is dropped from one term, that term is named, and its path.
    "operand dropped": OPERAND | {"other derivative", "missing path", "wrong term"},
    "operand squared": OPERAND,
    "count dropped or squared": COUNT,
    "sum becomes mean": frozenset({"mean for sum"}),
    "mean becomes sum": frozenset({"sum for mean"}),
    "n becomes n - 1": frozenset({"n - 1 for n"}),
    "n - 1 becomes n": frozenset({"n for n - 1"}),
    "another axis": SHAPE,
    "keepdims dropped": SHAPE,
    "operand exchanged": OPERAND | {"other derivative", "missing path"},  # two equal factors: sum of xc * xc-hat vanishes
    "epsilon dropped": frozenset({"epsilon misplaced"}),
    "epsilon moved": frozenset({"epsilon misplaced"}),
    "transposed": frozenset({"transposed", "sign", "missing path"}),  # in a sum of A and its transpose it doubles one of them
    "power changed": OPERAND | {"factor"},
}


class Variant(NamedTuple):
    """A changed line: which operator, and the whole file's text."""

    homework: str
    line: str
    operator: str
    text: str
    body: str
    also: frozenset[str]  # codes that are right for this place too


# -- solutions ----------------------------------------------------------------------------------------------------------


def solutions(names: Sequence[str] = ()) -> dict[str, ast.Module]:
    """Homework -> syntax tree of its instructor's file; of all homework, unless some are named."""
    return {path.parent.name: ast.parse(path.read_text("utf-8")) for path in sorted(HOMEWORK.glob("*/lines.py")) if not names or path.parent.name in names}


def _function(tree: ast.Module, name: str) -> ast.FunctionDef:
    return next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)


def _places(tree: ast.Module, name: str) -> list[ast.AST]:
    body = _function(tree, name).body
    start = 1 if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else 0
    return [n for statement in body[start:] for n in ast.walk(statement)]


def _edited(tree: ast.Module, name: str, index: int, edit: Callable[[ast.AST], ast.AST]) -> str:
    """The file's text with the index-th place of a function replaced."""
    changed = copy.deepcopy(tree)
    target = _places(changed, name)[index]

    class Put(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return edit(node) if node is target else self.generic_visit(node)
    return ast.unparse(ast.fix_missing_locations(Put().visit(changed)))


# -- mutants ------------------------------------------------------------------------------------------------------------


def _kind(node: ast.AST, numbers: set[str]) -> str:
    """What a factor is: a constant, a number of elements, ε, or an operand."""
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    if isinstance(node, ast.Constant):
        return "constant"
    if isinstance(node, ast.Name) and node.id in numbers:
        return "count"
    return "operand"


def _is_less_one(node: ast.AST, numbers: set[str]) -> bool:
    """m - 1, for a number of elements."""
    return (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Name) and node.left.id in numbers
            and isinstance(node.right, ast.Constant) and node.right.value == 1)


def _mutations(node: ast.AST, arguments: list[str], numbers: set[str]) -> Iterator[tuple[str, Callable[[Any], ast.AST], frozenset[str]]]:
    """(operator, edit of the node, codes that are right here too)."""
    none: frozenset[str] = frozenset()
    if _is_less_one(node, numbers):
        yield "n - 1 becomes n", lambda n: n.left, none
        return
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        eps = any(isinstance(n, ast.Name) and n.id == "eps" for n in (node.left, node.right))
        twins = any(isinstance(n, ast.Attribute) and n.attr == "T" for side in (node.left, node.right) for n in ast.walk(side))
        also = frozenset({"epsilon misplaced"} if eps else set()) | frozenset({"transposed", "factor", "missing operand"} if twins else set())
        yield "sign flipped", lambda n: ast.BinOp(n.left, ast.Sub() if isinstance(n.op, ast.Add) else ast.Add(), n.right), also
        if eps:
            yield "epsilon dropped", lambda n: n.left, none
        else:
            yield "term dropped", lambda n: n.left, also
            yield "term dropped", lambda n: n.right if isinstance(n.op, ast.Add) else ast.UnaryOp(ast.USub(), n.right), also
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "sign flipped", lambda n: n.operand, none
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        names = {"constant": "constant dropped", "count": "count dropped or squared", "operand": "operand dropped"}
        yield names[_kind(node.right, numbers)], lambda n: n.left, none
        if isinstance(node.op, ast.Mult):
            yield names[_kind(node.left, numbers)], lambda n: n.right, none
        names = {"constant": "constant doubled", "count": "count dropped or squared", "operand": "operand squared"}
        if _kind(node.right, numbers) == "constant":
            yield names["constant"], lambda n: ast.BinOp(n.left, n.op, ast.BinOp(ast.Constant(2.0), ast.Mult(), n.right)), none
        elif isinstance(node.right, ast.Name):
            yield names[_kind(node.right, numbers)], lambda n: ast.BinOp(n.left, n.op, ast.BinOp(n.right, ast.Mult(), n.right)), none
    if isinstance(node, ast.Attribute) and node.attr in ("sum", "mean") and isinstance(node.value, ast.Name) and node.value.id == "np":
        other = "mean" if node.attr == "sum" else "sum"
        yield f"{node.attr} becomes {other}", lambda n: ast.Attribute(n.value, other, n.ctx), none
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id in numbers:
            yield "n becomes n - 1", lambda n: ast.BinOp(n, ast.Sub(), ast.Constant(1)), none
        elif node.id in arguments and node.id != "eps":
            for new in arguments:
                if new not in (node.id, "eps") and new not in numbers:
                    yield "operand exchanged", lambda n, new=new: ast.Name(new, ast.Load()), none
    if isinstance(node, ast.keyword) and node.arg == "axis" and isinstance(node.value, ast.Constant):
        yield "another axis", lambda n: ast.keyword("axis", ast.Constant(1 - n.value.value)), none
    if isinstance(node, ast.Call) and any(k.arg == "keepdims" for k in node.keywords):
        yield "keepdims dropped", lambda n: ast.Call(n.func, n.args, [k for k in n.keywords if k.arg != "keepdims"]), none
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield "transposed", lambda n: n.value, none
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and isinstance(node.left, ast.Name):
        yield "transposed", lambda n: ast.BinOp(ast.Attribute(n.left, "T", ast.Load()), n.op, n.right), none
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        inner = node.left
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Add) and isinstance(inner.right, ast.Name) and inner.right.id == "eps":
            yield "epsilon moved", lambda n: ast.BinOp(ast.BinOp(n.left.left, n.op, n.right), ast.Add(), n.left.right), none
        yield "power changed", lambda n: ast.BinOp(n.left, n.op, ast.BinOp(n.right, ast.Add(), ast.Constant(1))), none


def mutants(names: Sequence[str] = ()) -> list[Variant]:
    """Every mutant of every line of every homework, or of these."""
    found = []
    for homework, tree in solutions(names).items():
        task = derivation.load_task(HOMEWORK / homework)
        numbers = {n for n in task.given if len(n) == 1 and n not in "RW"}
        for name in task.lines:
            arguments = [a.arg for a in _function(tree, name).args.args]
            seen = set()
            places = _places(tree, name)
            inside = {id(n) for place in places if _is_less_one(place, numbers) for n in ast.iter_child_nodes(place)}  # m of m - 1
            for i, node in ((i, node) for i, node in enumerate(places) if id(node) not in inside):
                for operator, edit, also in _mutations(node, arguments, numbers):
                    also = frozenset({predict.CODE}) if name in task.measured else also  # a count is a count, whatever was changed
                    text = _edited(tree, name, i, edit)
                    if text not in seen:
                        seen.add(text)
                        found.append(Variant(homework, name, operator, text, _body(text, name), also))
    return found


def _body(text: str, name: str) -> str:
    body = _function(ast.parse(text), name).body
    return "; ".join(ast.unparse(s) for s in body[1:])


# -- rewrites -----------------------------------------------------------------------------------------------------------


def _rewrites(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], ast.AST]]]:
    """Rules of algebra, and other ways to say the same in NumPy."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Mult, ast.Add)):
            yield "commuted", lambda n: ast.BinOp(n.right, n.op, n.left)
        if isinstance(node.op, ast.Div):
            yield "quotient as product", lambda n: ast.BinOp(n.left, ast.Mult(), ast.BinOp(ast.Constant(1.0), ast.Div(), n.right))
        if isinstance(node.op, ast.Sub):
            yield "difference as sum", lambda n: ast.BinOp(ast.UnaryOp(ast.USub(), n.right), ast.Add(), n.left)
        if isinstance(node.op, ast.Mult) and isinstance(node.right, ast.BinOp) and isinstance(node.right.op, (ast.Add, ast.Sub)):
            yield "multiplied out", lambda n: ast.BinOp(ast.BinOp(n.left, ast.Mult(), n.right.left), n.right.op, ast.BinOp(n.left, ast.Mult(), n.right.right))
        if isinstance(node.op, ast.Mult) and isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Mult):
            yield "associated", lambda n: ast.BinOp(n.left.left, ast.Mult(), ast.BinOp(n.left.right, ast.Mult(), n.right))
        if isinstance(node.op, ast.MatMult):
            yield "product of transposes", lambda n: ast.Attribute(ast.BinOp(ast.Attribute(n.right, "T", ast.Load()), ast.MatMult(),
                                                                            ast.Attribute(n.left, "T", ast.Load())), "T", ast.Load())
        if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant) and node.right.value in (2, 3):
            yield "power as product", lambda n: ast.BinOp(n.left, ast.Mult(), n.left if n.right.value == 2 else ast.BinOp(n.left, ast.Mult(), n.left))
        if isinstance(node.op, ast.Pow):
            yield "half powers", lambda n: ast.BinOp(ast.BinOp(n.left, ast.Pow(), ast.BinOp(n.right, ast.Div(), ast.Constant(2.0))), ast.Pow(), ast.Constant(2))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == "np":
        if node.func.attr in ("sum", "mean"):
            yield "as a method", lambda n: ast.Call(ast.Attribute(n.args[0], n.func.attr, ast.Load()), [], n.keywords)
        if node.func.attr == "sum":
            yield "as a ufunc", lambda n: ast.Call(ast.Attribute(ast.Attribute(ast.Name("np", ast.Load()), "add", ast.Load()), "reduce", ast.Load()),
                                                   n.args, n.keywords or [ast.keyword("axis", ast.Constant(None))])
    if isinstance(node, ast.Return) and node.value is not None:
        yield "negated twice", lambda n: ast.Return(ast.UnaryOp(ast.USub(), ast.UnaryOp(ast.USub(), n.value)))


def rewrites(names: Sequence[str] = ()) -> list[Variant]:
    """Every rewrite of every line of every homework, or of these."""
    found = []
    for homework, tree in solutions(names).items():
        for name in derivation.load_task(HOMEWORK / homework).lines:
            for i, node in enumerate(_places(tree, name)):
                for rule, edit in _rewrites(node):
                    text = _edited(tree, name, i, edit)
                    found.append(Variant(homework, name, rule, text, _body(text, name), frozenset()))
    return found


# -- judging ------------------------------------------------------------------------------------------------------------


def judged(variant: Variant, seed: int = 0, alone: bool = False) -> dict[str, Any]:
    """What the checker says of a variant: the changed line's verdict, and which other lines it refuses (unless the line is judged alone)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.py"
        file.write_text(variant.text, "utf-8")
        report = derivation.check(derivation.load_task(HOMEWORK / variant.homework), str(file), seed=seed, lines=[variant.line] if alone else None)
    mine = next(x for x in report.lines if x.line == variant.line)
    return {"verdict": mine.verdict, "code": mine.code, "message": mine.message,
            "others": [x.line for x in report.lines if x.line != variant.line and x.verdict not in ("right", "rounding")]}


def is_right(variant: Variant, found: dict[str, Any]) -> bool:
    """Is the first answer right for this mutant?"""
    return found["verdict"] in ("error", "wrong shape", "wrong dtype") or found["code"] in OPERATORS[variant.operator] | variant.also


def clean(arguments: tuple[str, int]) -> list[str]:
    """Lines of a correct solution that are not right with this seed."""
    homework, seed = arguments
    report = derivation.check(derivation.load_task(HOMEWORK / homework), str(HOMEWORK / homework / "lines.py"), seed=seed)
    return [f"{homework} {x.line} seed {seed}: {x.verdict}" for x in report.lines if x.verdict not in ("right", "rounding")]


def _start() -> None:
    mg.tune_process(1)


def study(seeds: int, jobs: int, part: int = 1, homework: Sequence[str] = (), seconds: float | None = None, quiet: bool = True) -> dict[str, Any]:
    """All three measurements; of the mutants and rewrites every `part`-th only.

    Args:
        seeds: checks of correct solutions.
        jobs: processes.
        homework: only these; then a changed line is judged alone, without the lines beside it.
        seconds: about how long it may take. What is left is not tried: the order is random, and the same each time.
        quiet: no progress bar.
    """
    changed, same = mutants(homework)[::part], rewrites(homework)[::part]
    names = list(solutions(homework))
    if seconds is not None:
        random.Random(0).shuffle(changed)
        random.Random(0).shuffle(same)
    start, look = time.monotonic(), partial(judged, alone=bool(homework))

    def answers(pool: ProcessPoolExecutor, f: Callable[[Any], Any], items: Sequence[Any], what: str, share: float) -> list[Any]:
        if seconds is None:
            return list(tqdm(pool.map(f, items, chunksize=4), what, len(items), disable=quiet, leave=False))
        found: list[Future[Any]] = []
        running: set[Future[Any]] = set()
        with tqdm(total=len(items), desc=what, disable=quiet, leave=False) as bar:
            while running or (len(found) < len(items) and time.monotonic() < start + share * seconds):
                while len(running) < 2 * jobs and len(found) < len(items) and time.monotonic() < start + share * seconds:
                    found.append(pool.submit(f, items[len(found)]))
                    running.add(found[-1])
                done, running = wait(running, return_when=FIRST_COMPLETED)
                bar.update(len(done))
        return [answer.result() for answer in found]
    lean = multiprocessing.get_context("spawn")  # judging forks for each line, which takes long where the process is large
    with ProcessPoolExecutor(jobs, lean, _start) as pool:
        checked = answers(pool, clean, [(names[i % len(names)], i) for i in range(seeds)], "correct solutions", 0.2)
        accepted = answers(pool, look, same, "equivalent rewrites", 0.5)
        verdicts = answers(pool, look, changed, "wrong versions", 0.9)
    alarms = [a for found in checked for a in found]
    untried = len(changed) - len(verdicts), len(same) - len(accepted)
    changed, same, seeds = changed[:len(verdicts)], same[:len(accepted)], len(checked)
    live = [(v, f) for v, f in zip(changed, verdicts, strict=True) if f["verdict"] not in ("right", "rounding")]
    table: dict[str, Counter[str]] = {operator: Counter() for operator in OPERATORS}
    failures = []
    for v, f in live:
        good = is_right(v, f)
        table[v.operator]["mutants"] += 1
        table[v.operator]["diagnosed"] += good
        if not good:
            failures.append(f"{v.homework} {v.line}, {v.operator}: {f['code']}: {f['message'][:90]}  |  {v.body[:110]}")
    # A mutant that the checker accepts must be an equivalent one: with other seeds it must be accepted as well.
    passed = [v for v, f in zip(changed, verdicts, strict=True) if f["verdict"] in ("right", "rounding")]
    missed = [f"{v.homework} {v.line}, {v.operator}: {v.body}" for v in passed
              if any(look(v, seed)["verdict"] not in ("right", "rounding") for seed in (1, 2))]
    rejected = [f"{v.homework} {v.line}, {v.operator}: {f['verdict']}: {f['message'][:90]}  |  {v.body[:110]}"
                for v, f in zip(same, accepted, strict=True) if f["verdict"] not in ("right", "rounding")]
    diagnosed = sum(c["diagnosed"] for c in table.values())
    return {"homework": len(names), "lines": sum(len(derivation.load_task(HOMEWORK / n).lines) for n in names), "mutants": len(live), "equivalent": len(passed),
            "missed": missed, "other lines accused": sum(bool(f["others"]) for _, f in live), "diagnosed": diagnosed, "rate": diagnosed / max(1, len(live)),
            "table": {k: dict(c) for k, c in table.items() if c}, "failures": failures, "rewrites": len(same), "rejected": rejected,
            "seeds": seeds, "false alarms": alarms, "untried": untried}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 0 if every figure is what is asked of it."""
    parser = argparse.ArgumentParser(prog="python -m lectures.study", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=None, help="checks of correct solutions (default: 10,000; with --homework 20)")
    parser.add_argument("--homework", metavar="NAME", help="only this one")
    parser.add_argument("--seconds", type=float, default=None, help="about how long it may take (default: no limit; with --homework 55)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--part", type=int, default=1, help="only every N-th mutant and rewrite")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    options = parser.parse_args(arguments)
    known = list(solutions())
    if options.homework is not None and options.homework not in known:
        parser.error(f"no homework {options.homework!r} with a lines.py in {HOMEWORK}; there are: {', '.join(known)}")
    seeds = options.seeds if options.seeds is not None else 10_000 if options.homework is None else 20
    limit = options.seconds if options.seconds is not None else None if options.homework is None else 55.0
    result = study(seeds, options.jobs, options.part, (options.homework,) if options.homework is not None else (), limit, quiet=False)
    print(f"{result['homework']} homework task{'s' * (result['homework'] > 1)}, {result['lines']} lines\n")
    print(f"{'mutants':<28}{'changed':>8}{'rightly diagnosed':>20}")
    for operator, counts in result["table"].items():
        print(f"{operator:<28}{counts['mutants']:>8}{counts['diagnosed']:>14} {counts['diagnosed'] / counts['mutants']:>5.0%}")
    print(f"{'all':<28}{result['mutants']:>8}{result['diagnosed']:>14} {result['rate']:>5.1%}")
    print(f"\n{len(result['missed'])} of {result['mutants'] + len(result['missed'])} mutants that change the value missed "
          f"({result['equivalent'] - len(result['missed'])} others change nothing); another line accused: {result['other lines accused']} times")
    print(f"{len(result['rejected'])} of {result['rewrites']} equivalent rewrites rejected")
    if any(result["untried"]):
        print(f"not tried for lack of time: {result['untried'][0]} mutants, {result['untried'][1]} rewrites (--seconds)")
    print(f"{len(result['false alarms'])} false alarms in {result['seeds']:,} checks of correct solutions")
    for title in ("missed", "rejected", "false alarms", "failures"):
        if result[title]:
            print(f"\n{title}:", *result[title][:60], sep="\n  ")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), "utf-8")
    good = not result["missed"] and not result["other lines accused"] and result["rate"] >= 0.9 and not result["rejected"] and not result["false alarms"]
    return 0 if good else 1


if __name__ == "__main__":
    run_command(main)
