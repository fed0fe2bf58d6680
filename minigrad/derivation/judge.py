"""Judging a derivation: each line alone, on several probes, against the tape of the composed form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..backend import Array, np
from ..errors import error
from . import student
from .changes import Trial
from .diagnose import diagnose, unexplained, wrong_shape
from .probe import Probe
from .repair import repair
from .report import LineReport, Report
from .student import Limits, Outcome
from .task import Line, Task, nearest

PROBES, TRIES = 3, 12  # probes wanted, and cases drawn at most to find them
RIGHT = 1e-10  # of the size of the terms, float64: equivalent formulas agree far better, wrong ones do not
POWER = 1e-3  # of the size of the terms: a probe whose answer nearly vanishes tells nothing


def check(task: Task | Callable[..., Any], functions: Any, *, inputs: Mapping[str, Any] | None = None, cases: Any = None,
          keywords: Mapping[str, Any] | None = None,
          lines: Sequence[str] | None = None, seed: int | None = 0, limits: Limits | None = None) -> Report:
    """Judge line functions ``d_<name>`` against the tape of a composed function.

    Args:
        task: a `Task`, or any composed function of minigrad that names its values with `named`; then `inputs` or `cases`.
        functions: one function, several, a mapping, a module, or the path of a file.
        inputs: arrays by argument name: their shapes are taken, with fresh random values; `keywords` go with them.
        cases: ``cases(rng, dtype)``, as in a `Task`.
        lines: only these lines.
        seed: of the random numbers; None: new ones.
        limits: for each line.

    Returns:
        A `Report`: true if every line is right; prints as a table, shows coloured in a notebook.

    Raises:
        ValueError: no line to judge, or neither inputs nor cases for a bare function.
        TypeError: the composed function does not return a Tensor.

    >>> import minigrad as mg
    >>> def f(x, w):
    ...     z = mg.named("z", x * w)
    ...     return mg.named("y", mg.tanh(z))
    >>> def d_z(d_y, y): return d_y * (1 - y * y)
    >>> def d_w(d_z, x): return d_z * x
    >>> report = mg.derivation.check(f, [d_z, d_w], inputs={"x": mg.tensor([[0.0] * 2] * 3), "w": mg.tensor([0.0] * 2)})
    >>> [line.verdict for line in report.lines]
    ['right', 'wrong shape']
    """
    if not isinstance(functions, (str, os.PathLike)):
        functions = student.functions(functions)
    if not isinstance(task, Task):
        task = _bare_task(task, functions, inputs, cases, keywords or {}, lines)
    names = list(task.lines) if lines is None else list(lines)
    for name in names:
        task.line(name)
    file = str(functions) if isinstance(functions, (str, os.PathLike)) else None
    report = Report(task.name, file, -1 if seed is None else seed)
    if file is not None:
        if not Path(file).is_file():
            raise error(FileNotFoundError, "derivation", got=f"no file {file}", needs="the Python file with the line functions", fix="check its name")
        broken = student.syntax_of(file)
        if broken is not None:
            report.status = "syntax error"
            report.message = f"line {broken['line']}: {broken['text']}" if broken["line"] else broken["text"]
    rng = np.random.default_rng(seed)
    probes = list(_probes(task, rng))
    for name in names:
        line = task.line(name)
        if report.status == "syntax error":
            report.lines.append(LineReport(name, "error", line.points, message=f"the file cannot be read: {report.message}", at=broken))
            continue
        report.lines.append(_judge(task, name, line, probes, file or functions, limits or Limits()))
        guess = report.lines[-1].message.rpartition("; did you mean ")[2].strip("'?")
        if report.lines[-1].verdict == "not implemented" and guess in task.lines:  # another line, not a slip of the pen
            report.lines[-1].message = report.lines[-1].message.rpartition(";")[0]
    if report.lines and all(x.verdict == "not implemented" for x in report.lines) and report.status == "ok":
        report.status, report.message = "blank", "no line is written yet"
    return report


def _bare_task(forward: Callable[..., Any], functions: Mapping[str, Any], inputs: Any, cases: Any, keywords: Mapping[str, Any], lines: Any) -> Task:
    if not callable(forward):
        raise error(TypeError, "derivation.check", got=f"a {type(forward).__name__}", needs="a Task, or a composed function",
                    fix="check(forward, [d_x], inputs={...})")
    if (inputs is None) == (cases is None):
        raise error(ValueError, "derivation.check", got="both inputs and cases" if inputs is not None else "neither inputs nor cases",
                    needs="one of them, to know which shapes to try", fix="pass inputs={'x': array, ...}: their shapes are used, with fresh random values")
    if not isinstance(functions, Mapping):
        raise error(ValueError, "derivation.check", got="a file for a bare function", needs="functions", fix="pass the functions, or write a Task")
    found = [n for n, f in functions.items() if n.startswith("d_") and callable(f)]
    if not found and not lines:
        raise error(ValueError, "derivation.check", got="no function called d_<name>", needs="a function for each value whose adjoint you derived",
                    fix="def d_x(d_y, x): ...")
    if inputs is not None:
        shapes = {k: np.shape(v.numpy() if hasattr(v, "numpy") else v) for k, v in inputs.items()}

        def cases(rng: Any, dtype: str) -> Iterator[Any]:
            longest = {n for s in shapes.values() for n in s if n > 1}
            for extra in range(3):  # other sizes too, the same ones where they were equal, so that no accident of a shape hides a mistake
                grown = {n: n + extra for n in longest}
                yield {k: rng.normal(size=tuple(grown.get(n, n) for n in s)) for k, s in shapes.items()}, dict(keywords)
    return Task(getattr(forward, "__name__", "function"), forward, cases, dict.fromkeys(lines or found, 1))


def _probes(task: Task, rng: Any) -> Iterator[Probe]:
    """Some cases as probes, different shapes first."""
    drawn: list[Any] = []
    while len(drawn) < TRIES:
        before = len(drawn)
        drawn += list(task.cases(rng, "float64"))
        if len(drawn) == before:
            raise error(ValueError, f"task {task.name}", got="cases that yield nothing", needs="arrays and keywords", fix="yield ({'x': array}, {'eps': 1e-3})")
    yield from (Probe(task, case, rng) for case in drawn[:TRIES])


def _judge(task: Task, name: str, line: Line, probes: Sequence[Probe], source: Any, limits: Limits) -> LineReport:
    target = str(line.target)
    for probe in probes:
        if target not in probe.adjoints:
            raise error(ValueError, f"task {task.name}",
                        got=f"the line {name}, but no value called {target}{nearest(target, probe.adjoints)} on which the result depends",
                        needs=f"one of {', '.join(probe.adjoints)}", fix=f"call mg.named({target!r}, ...) in the forward")
    if all(float(np.abs(p.adjoints[target]).max(initial=0)) < 1e-9 * max(float(np.abs(a).max(initial=0)) for a in p.adjoints.values()) for p in probes):
        raise error(ValueError, f"task {task.name}", got=f"d_{target} that is 0 but for rounding in every case",
                    needs="a derivative that a wrong line can miss",
                    fix="leave this line out, or let the result depend on more than what it is orthogonal to")
    outcome = student.run(source, name, line, probes, limits)
    report = LineReport(name, "right", line.points, message="", at=outcome.at, printed=outcome.printed)
    if outcome.failure is not None:
        report.verdict = {"syntax": "error"}.get(outcome.failure, outcome.failure)
        report.message = outcome.message
        return report
    return _compare(report, name, line, probes, outcome, source, limits)


def _trial(probe: Probe, target: str, sources: Sequence[str], found: Array) -> Trial:
    terms = probe.terms(target, sources) if target != probe.output else []
    right = probe.adjoints[target]
    scale = max([float(np.abs(t.value).max(initial=0)) for t in terms], default=0.0) or float(np.abs(right).max(initial=0)) or 1.0
    return Trial(probe, found, right, terms, scale)


def _compare(report: LineReport, name: str, line: Line, probes: Sequence[Probe], outcome: Outcome, source: Any, limits: Limits) -> LineReport:
    target = str(line.target)
    sources = [a[2:] for a in outcome.arguments if a.startswith("d_") and a[2:] in probes[0].adjoints and a[2:] != target]
    trials: list[Trial] = []
    weak = 0
    for probe, results in zip(probes, outcome.results, strict=True):
        found = np.asarray(results["float64"])
        right = probe.adjoints[target]
        if found.shape != right.shape:
            verdict = wrong_shape(target, _trial(probe, target, sources, found.astype("float64")))
            report.verdict, report.code, report.message = "wrong shape", verdict.code, verdict.message
            report.case = _case(probe)
            return report
        if found.dtype != np.float64 and not (right.ndim == 0 and isinstance(results["float64"], float)):
            report.verdict, report.message = "wrong dtype", f"it returned {found.dtype} for float64 arguments"
            return report
        trial = _trial(probe, target, sources, found)
        if float(np.abs(right).max(initial=0)) < POWER * trial.scale and len(trials) + len(probes) - weak > 1:
            weak += 1
        trials.append(trial)
    strong = [t for t in trials if float(np.abs(t.right).max(initial=0)) >= POWER * t.scale] or trials
    errors = [float(np.abs(t.found - t.right).max(initial=0)) / t.scale for t in trials]
    errors = [e if np.isfinite(e) else float("inf") for e in errors]
    report.error, report.bound = max(errors), RIGHT
    worst = trials[int(np.argmax(errors))]
    report.case = _case(worst.probe)
    if max(errors) > RIGHT:
        report.verdict = "wrong"
        wrong = [t for t, e in zip(trials, errors, strict=True) if e > RIGHT and t in strong] or [worst]
        wrong = _different(wrong)
        finite = all(np.isfinite(t.found).all() for t in wrong)
        why = diagnose(target, wrong, outcome.arguments) if finite else None
        why = why or repair(source, name, line, [t.probe for t in wrong], [t.scale for t in wrong], limits) or unexplained(wrong)
        report.verdict = "not the derivative asked for" if why.code == "other derivative" else "wrong"
        report.code, report.message = why
        return report
    return _in_float32(report, target, probes, outcome, trials)


def _different(trials: list[Trial]) -> list[Trial]:
    """At most PROBES trials, of different shapes as far as there are."""
    chosen: list[Trial] = []
    for t in trials:
        if len(chosen) < PROBES and all(t.right.shape != c.right.shape or t.probe.keywords != c.probe.keywords or _shapes(t) != _shapes(c) for c in chosen):
            chosen.append(t)
    return chosen or trials[:1]


def _shapes(t: Trial) -> Any:
    return {k: a.shape for k, a in t.probe.arrays.items()}


def _case(probe: Probe) -> str:
    shapes = ", ".join(f"{k} {a.shape}" for k, a in probe.arrays.items())
    keywords = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in probe.keywords.items() if not isinstance(v, np.ndarray))
    return f"{shapes}{'; ' if keywords else ''}{keywords}"


def _in_float32(report: LineReport, target: str, probes: Sequence[Probe], outcome: Outcome, trials: Sequence[Trial]) -> LineReport:
    """Right in float64. In float32: does it keep the dtype, and does it keep the digits?"""
    worst = 0.0
    for probe, results, trial in zip(probes, outcome.results, trials, strict=True):
        found = results["float32"]
        if isinstance(found, float):
            found = np.float32(found)
        if found.dtype != np.float32:
            report.verdict = "wrong dtype"
            report.message = (f"it returns {found.dtype} for float32 arguments: an array made with np.zeros, np.ones, np.eye or np.arange is float64, "
                              "and so is everything computed with it. Use np.zeros_like, or pass dtype=")
            return report
        size = max(1, max((a.size for a in probe.arrays.values()), default=1))
        bound = 64 * float(np.finfo("float32").eps) * size**0.5
        worst = max(worst, float(np.abs(found.astype("float64") - trial.right).max(initial=0)) / trial.scale / bound)
    if worst > 1 or not np.isfinite(worst):
        report.verdict = "rounding"
        report.message = "right, but in float32 this formula loses digits: a difference of large numbers is the usual reason"
    return report

