"""The whole examination of a homework, for its author: ``python -m minigrad.derivation NAME --validate``.

Beyond what `validate` sees, the cases are drawn with several seeds, the forward pass is run, every line is asked whether it can be judged, and
the instructor's file is read, checked and looked through for its markers.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..core.backend import np
from ..core.tensor import Tensor
from ..show import record
from .judge import check, fit_to_judge
from .probe import Probe
from .stubs import BEGIN, END
from .task import Task, TaskError, nearest
from .validate import fill_given, mistakes, run, wrong

SEEDS = (0, 1, 2)
CASES = 3  # shapes that are asked of one call


def examine(task: Task, file: Path | None = None) -> list[str]:
    """All that is wrong with a task, and with the instructor's file of its lines; empty if nothing is.

    Args:
        file: ``lines.py``; None: it is not looked at.
    """
    found = [str(e) for e in mistakes(task)]
    if found:
        return found
    drawn: list[Any] = []
    for step in (lambda: drawn.extend(_drawn(task)), lambda: _forward(task, drawn), lambda: _lines(task, drawn)):
        try:
            found += [str(e) for e in step() or ()]
        except TaskError as e:
            found.append(str(e))
        if found:
            break  # what follows from a mistake is not another one
    return found + [str(e) for e in (_solution(task, file, judged=not found) if file is not None else ())]


# -- cases -------------------------------------------------------------------------------------------------------------


def _drawn(task: Task) -> list[Any]:
    """The cases of the first seed in float64, after a look at all."""
    by_seed = []
    for seed in SEEDS:
        for dtype in ("float32", "float64"):
            cases = run(task, "cases", partial(_listed, task, seed, dtype), "call it as cases(numpy.random.default_rng(0), 'float32')")
            if not cases:
                raise wrong(task, "cases that yield nothing", "arrays and keywords", 'yield {"x": array}, {"eps": 0.1}')
            for case in cases:
                _case(task, case, dtype)
        by_seed.append(cases)
    first, again = by_seed[0], by_seed[1]
    if _numbers(first) == _numbers(again):
        raise wrong(task, "cases that are the same for every seed", "numbers that are drawn from rng", "draw them: rng.normal(size=(m, n))")
    shapes = [{k: a.shape for k, a in arrays.items()} for arrays, _ in first]
    if len(shapes) < CASES:
        raise wrong(task, f"{len(shapes)} case" + "s" * (len(shapes) > 1), f"at least {CASES}, of different shapes",
                    "yield one for each of random_sizes(rng, (5, 12), (2, 6))")
    varying = {k for k in shapes[0] if any(s.get(k) != shapes[0][k] for s in shapes)}
    if not varying:
        raise wrong(task, f"the same shapes in every case, {_shapes(shapes[0])}", "other sizes in every case: a mistake may fit one shape by accident",
                    "draw them: for m, n in random_sizes(rng, (5, 12), (2, 6))")
    totals = {k: [int(np.prod(s[k])) for s in shapes] for k in varying}
    largest = max(totals, key=lambda k: max(totals[k]))
    if len({*totals[largest]}) < len(totals[largest]):
        raise wrong(task, f"cases in which {largest} has {_and(totals[largest])} elements",
                    "another number of elements in every case: else a factor that depends on it looks like a constant",
                    "draw them: for m, n in random_sizes(rng, (5, 12), (2, 6))")
    if all([{k: a.shape for k, a in arrays.items()} for arrays, _ in cases] == shapes for cases in by_seed):
        raise wrong(task, f"the same shapes for every seed, {' and '.join(_shapes(s) for s in shapes)}",
                    "sizes that are drawn from rng: else a table of answers, made at home, may fit",
                    "draw them: for m, n in random_sizes(rng, (5, 12), (2, 6))")
    return list(first)


def _listed(task: Task, seed: int, dtype: str) -> list[Any]:
    cases: Any = task.cases(np.random.default_rng(seed), dtype)
    return [] if cases is None else list(cases)


def _case(task: Task, case: Any, dtype: str) -> None:
    if not isinstance(case, tuple) or len(case) != 2 or not all(isinstance(part, Mapping) for part in case):
        got = "a tuple of " + ", ".join(type(part).__name__ for part in case) if isinstance(case, tuple) else f"a {type(case).__name__}"
        raise wrong(task, f"a case that is {got}", "a pair: arrays by name, keywords", 'yield {"x": array}, {}')
    for name, a in case[0].items():
        if not isinstance(a, (np.ndarray, np.floating)):
            raise wrong(task, f"{name} that is a {type(a).__name__}", "an array", f"write numpy.asarray({name}, dtype), or give it as a keyword")
        if a.dtype.kind == "f" and a.dtype != dtype:
            raise wrong(task, f"{name} in {a.dtype} where cases(rng, {dtype!r}) was called", dtype, f"write {name}.astype(dtype)")
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise wrong(task, f"{name} with NaN or infinity", "finite numbers", "draw others")


def _numbers(cases: Any) -> list[Any]:
    return [{k: np.asarray(a).tolist() for k, a in arrays.items()} for arrays, _ in cases]


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{k} {s}" for k, s in shapes.items())


def _and(numbers: list[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


# -- the forward pass --------------------------------------------------------------------------------------------------


def _forward(task: Task, drawn: list[Any]) -> Iterator[TaskError]:
    for arrays, keywords in drawn:
        inputs = [Tensor(a.copy(), None) if a.dtype.kind == "f" else a for a in map(np.asarray, arrays.values())]
        with record() as seen, np.errstate(all="ignore"):
            y = run(task, f"a forward of ({', '.join(arrays)}; {', '.join(keywords)})", partial(task.forward, *inputs, **keywords),
                    "arrays are passed by position, in the order of the case, then keywords by name")
        if not isinstance(y, Tensor):
            raise wrong(task, f"a forward that returns {'None' if y is None else f'a {type(y).__name__}'}", "one Tensor", "return the result of minigrad's ops")
        names = Counter(entry.name for entry in seen if entry.name is not None)
        if not names:
            raise wrong(task, "a forward that names nothing", "a name for every value that a line may use, the result too", 'write return mg.named("y", ...)')
        twice = [name for name, times in names.items() if times > 1 or name in arrays or name in keywords]
        if twice:
            raise wrong(task, f"a forward with two values called {twice[0]}", "names that mean one thing", "call one of them otherwise")
        hidden = [name for name in task.given if name in names or name in arrays or name in keywords]
        if hidden:
            raise wrong(task, f"given[{hidden[0]!r}], which hides the value {hidden[0]} of the forward pass", "another name",
                        "call it otherwise, or take it out")
    return iter(())


# -- lines -------------------------------------------------------------------------------------------------------------


def _lines(task: Task, drawn: list[Any]) -> Iterator[TaskError]:
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        probes = [run(task, "a forward", partial(Probe, task, case, rng), "call it with arrays of float64, and look at the traceback") for case in drawn]
    fill_given(task, probes)
    for name in task.lines:
        try:
            fit_to_judge(task, name, probes)
            if name not in task.measured:
                _adjoints(task, name, probes[0])
        except TaskError as e:
            yield e


def _adjoints(task: Task, name: str, probe: Probe) -> None:
    line, target = task.line(name), str(task.line(name).target)
    below = probe.downstream(target) | ({target} if target == probe.output else set())
    for adjoint in line.adjoints or ():
        if adjoint not in probe.adjoints:
            raise wrong(task, f"the adjoint {adjoint!r} for {name}, but no value called that{nearest(adjoint, probe.adjoints)}",
                        f"one of {', '.join(sorted(below))}",
                        "correct the name")
        if adjoint == target and target != probe.output:
            raise wrong(task, f"the adjoint {adjoint!r} for {name}, which is what the line is to compute", f"one of {', '.join(sorted(below))}", "leave it out")
        if target in probe.downstream(adjoint):
            raise wrong(task, f"the adjoint {adjoint!r} for {name}, but {target} is computed from {adjoint}, not the other way round",
                        f"one of {', '.join(sorted(below))}", "leave it out: it comes after this line")
    if line.adjoints is not None and not below & {*line.adjoints}:  # beside one of these, others may help: d_gamma is a sum of d_y
        raise wrong(task, f"the adjoints {', '.join(line.adjoints) or '()'} for {name}, none of which is computed from {target}",
                    f"one of {', '.join(sorted(below))}",
                    "give one of these")


# -- the instructor's file ---------------------------------------------------------------------------------------------


def _solution(task: Task, file: Path, judged: bool) -> Iterator[TaskError]:
    if not file.is_file():
        yield wrong(task, f"no {file.name} beside its task.py", "the instructor's solution, with markers",
                    "write a function for each line; docs/homework.md shows one")
        return
    if file.name == "lines.py" and (file.parent / "task.py").is_file() and file.parent.name != task.name:
        yield wrong(task, f"a task called {task.name} in the folder {file.parent.name}", "one name for both: it stands in reports and grades",
                    f'write Task("{file.parent.name}", ...)')
    try:
        text = file.read_text("utf-8")
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError) as e:
        yield wrong(task, f"a {file.name} that Python cannot read ({e})", "a program in UTF-8", "correct it")
        return
    markers = list(_markers(task, text, file.name))
    yield from markers
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for name, times in Counter(f.name for f in functions).items():
        if times > 1:
            yield wrong(task, f"{times} functions called {name} in {file.name}", "one", "Python takes the last one: delete the others")
    missing = [name for name in task.lines if name not in {f.name for f in functions}]
    for name in missing:
        others = [f.name for f in functions if f.name not in task.lines]
        yield wrong(task, f"no function {name} in {file.name}{nearest(name, others)}", "a solution for every line",
                    f"write def {name}(...), or take the line out of task.py")
    for f in functions:
        if f.name.startswith("d_") and f.name not in task.lines:
            yield wrong(task, f"the function {f.name} in {file.name}, which is no line{nearest(f.name, missing)}", f"one of {', '.join(task.lines)}",
                        "give it points in task.py, or delete it: students would write it for nothing")
        elif f.name in task.lines and not markers and BEGIN not in (ast.get_source_segment(text, f) or ""):
            yield wrong(task, f"{f.name} in {file.name} without markers", f"{BEGIN} and {END} around its solution", "else students get the solution")
    if judged and not missing:
        report = check(task, str(file))
        for line in report.lines:
            if line.verdict not in ("right", "rounding"):
                yield wrong(task, f"{file.name}, whose {line.line} is {line.verdict}: {line.text()}", "a solution that is right",
                            "correct it, or the forward pass")


def _markers(task: Task, text: str, name: str) -> Iterator[TaskError]:
    begun = 0
    for number, line in enumerate(text.splitlines(), 1):
        marker = line.strip()
        if marker in (BEGIN, END):
            if (marker == END) != bool(begun):
                place = "without its beginning" if marker == END else f"inside the solution begun in line {begun}"
                yield wrong(task,
                            f"{marker} in line {number} of {name} {place}",
                            "markers in pairs", f"write {BEGIN} before a solution and {END} after it")
            begun = number if marker == BEGIN else 0
        elif re.search(r"#\s*(BEGIN|END)\s+SOLUTION", line, re.IGNORECASE):
            yield wrong(task, f"the marker {marker!r} in line {number} of {name}", f"{BEGIN} or {END}, as a line of its own",
                        "write it in capital letters, with three #")
    if begun:
        yield wrong(task, f"{BEGIN} in line {begun} of {name} without its end", "markers in pairs", f"write {END} after the solution")
