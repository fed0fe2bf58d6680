"""Judging a derivation: each line alone, on several probes, against the tape of the composed form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.backend import np
from ..core.errors import error
from .attempt import Attempt
from .bounds import MOST_ROUNDING, RIGHT, SAFETY, bound32
from .changes import Trial, different
from .child import Limits
from .diagnose import CLOSE, Diagnosis, not_exact, unexplained, wrong_shape
from .explain import explained, explained_edit, explained_error
from .fixtures import MOVES
from .flags import flags
from .inputs import in_order, own_cases
from .names import OTHERS, with_targets
from .predict import judged, measured
from .probe import Probe, finite_at, odd
from .report import LineReport, Report
from .runner import LineRun, Runner, runner, syntax_of
from .runner import functions as names_of
from .task import LineSpec, Task, TaskError, is_judged, nearest
from .validate import fill_given, validate

TRIES = 12  # cases that are drawn
POWER = 1e-3  # of the size of the terms: a probe whose answer nearly vanishes tells nothing


def check(task: Task | Callable[..., Any], functions: Any, *, inputs: Mapping[str, Any] | None = None, cases: Any = None,
          keywords: Mapping[str, Any] | None = None,
          lines: Sequence[str] | None = None, seed: int | None = 0, limits: Limits | None = None, sandbox: str = "auto",
          working: Callable[[str, LineReport | None], None] | None = None, **options: Any) -> Report:
    """Judge line functions ``d_<name>`` against the tape of a composed function.

    Args:
        task: a `Task`, or any composed function of minigrad that names its values with `named`; then `inputs` or `cases`.
        functions: one function, several, a mapping, a module, or the path of a file.
        inputs: arrays by argument name; `keywords` go with them. They are used as they are, and beside them fresh floats in their
            range and in other sizes. Zeros alone only say a shape: they stand for normal numbers. Integers and booleans stay.
        cases: ``cases(rng, dtype)``, as in a `Task`.
        lines: only these lines.
        seed: of the random numbers; None: new ones.
        limits: of time and memory.
        sandbox: for a file: "auto" (Landlock where there is any), "landlock", "bwrap" or "none".
        working: is told which line is judged, ``working(name, None)``, and that it has been, ``working(name, report)``.
        options: for a file, of `minigrad.derivation.runner.FileRunner`.

    Returns:
        A `Report`: true if every line is right; prints as a table, shows coloured in a notebook. A file may end with a check of
        itself: while it is being judged, that call looks at nothing, and its report is true.

    Raises:
        ValueError: no line to judge, or neither inputs nor cases for a bare function; as `TaskError`, a task that no line can
            be judged by: its derivative is 0, NaN or Inf.
        TypeError: the composed function does not return a Tensor.
        CannotConfine: the sandbox is not to be had here.

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
    if is_judged():
        return Report(getattr(task, "name", "function"), None, -1, status="not checked", message="this file is being judged, so it does not judge itself")
    if not isinstance(functions, (str, os.PathLike)):
        functions = names_of(functions)
    if not isinstance(task, Task):
        task = _bare_task(task, functions, inputs, cases, keywords or {}, lines)
    validate(task)
    names = list(task.lines) if lines is None else list(lines)
    for name in names:
        task.line(name)
    file = str(functions) if isinstance(functions, (str, os.PathLike)) else None
    report = Report(task.name, file, -1 if seed is None else seed)
    if file is not None:
        if not Path(file).is_file():
            raise error(FileNotFoundError, "derivation", got=f"no file {file}", needs="the Python file with the line functions", fix="check its name")
        broken = syntax_of(file)
        if broken is not None:
            report.status = "syntax error"
            report.message = f"line {broken['line']}: {broken['text']}" if broken["line"] else broken["text"]
            report.lines = [LineReport(n, "error", task.line(n).points, message=f"the file cannot be read: {report.message}", at=broken) for n in names]
            return report
    probes = list(_probes(task, np.random.default_rng(seed)))
    fill_given(task, probes)
    for name in names:
        fit_to_judge(task, name, probes)
    source = runner(file or functions, limits or Limits(), sandbox, **options)
    try:
        _judge_all(report, task, names, probes, source, working)
    finally:
        source.close()
    return report


def _judge_all(report: Report, task: Task, names: Sequence[str], probes: Sequence[Probe], lines: Runner,
               working: Callable[[str, LineReport | None], None] | None = None) -> None:
    """Fill a report. A line is judged before any line further up, which is given its true adjoint."""
    report.printed, report.sandbox = lines.printed, lines.sandbox
    if lines.failure is not None:
        report.status, report.message, at = lines.failure.status, lines.failure.message, lines.failure.at
        verdict = "stopped" if report.status == "stopped" else "error"
        report.lines = [LineReport(n, verdict, task.line(n).points, message=f"the file cannot be loaded: {report.message}", at=at) for n in names]
        report.message += f" (line {at['line']}: {at['source']})" if at else ""
        report.refused = list(lines.refused)
        return
    found: dict[str, LineReport] = {}
    for name in sorted(names, key=lambda n: -_depth(task, n, probes[0])):
        if working is not None:
            working(name, None)
        line = found[name] = _judge(task, name, Attempt(lines, task, probes))
        if working is not None:
            working(name, line)
        guess = line.message.rpartition("; did you mean ")[2].strip("'?")
        if line.verdict == "not implemented" and guess in task.lines:  # another line, not a slip of the pen
            line.message = line.message.rpartition(";")[0]
    report.lines = [found[name] for name in names]
    report.refused = list(lines.refused)
    if report.lines and all(x.verdict == "not implemented" and OTHERS not in x.message for x in report.lines):
        report.status, report.message = "blank", "no line is written yet"


def _depth(task: Task, name: str, probe: Probe) -> int:
    """How far down the forward pass the value of a line is computed."""
    line = probe.lines.get(str(task.line(name).target))
    return line.index if line is not None else -1


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
    bare = Task(getattr(forward, "__name__", "function"), forward, cases, dict.fromkeys(lines or found, 1))
    if inputs is not None:
        bare = replace(bare, cases=own_cases(in_order(forward, inputs), keywords, lambda case: finite_at(bare, case)))
    return with_targets(bare)


def _probes(task: Task, rng: Any) -> Iterator[Probe]:
    """Some cases as probes, different shapes first."""
    drawn: list[Any] = []
    while len(drawn) < TRIES:
        before = len(drawn)
        drawn += list(task.cases(rng, "float64"))
        if len(drawn) == before:
            raise error(TaskError, f"task {task.name}", got="cases that yield nothing", needs="arrays and keywords", fix="yield ({'x': array}, {'eps': 1e-3})")
    with np.errstate(all="ignore"):
        yield from (Probe(task, case, rng) for case in drawn[:TRIES])


def fit_to_judge(task: Task, name: str, probes: Sequence[Probe]) -> None:
    """Refuse a task whose derivative cannot tell right from wrong: the student is not to blame."""
    target = str(task.line(name).target)
    for probe in probes if name not in task.measured else ():
        if target in probe.arrays and target not in probe.lines:
            raise error(TaskError, f"task {task.name}", got=f"the line {name}, but {target} holds {probe.arrays[target].dtype}: it has no derivative",
                        needs="an array of floats", fix=f"leave this line out, or give {target} as floats")
        if target not in probe.adjoints:
            raise error(TaskError, f"task {task.name}",
                        got=f"the line {name}, but no value called {target}{nearest(target, probe.adjoints)} on which the result depends",
                        needs=f"one of {', '.join(probe.adjoints)}", fix=f"call mg.named({target!r}, ...) in the forward")
        probe.refuse_undefined([target])
    if name in task.measured:
        for probe in probes:
            measured(task, name, probe)
    elif all(_vanishes(probe, target) for probe in probes):
        raise error(TaskError, f"task {task.name}", got=f"d_{target} that is 0 up to rounding in every case",
                    needs="a derivative that a wrong line can miss",
                    fix="leave this line out, or let the result depend on more than what it is orthogonal to")


def _vanishes(probe: Probe, target: str) -> bool:
    """Whether the derivative is 0 up to rounding, compared with the others, and with them in units of their values too."""
    sizes = {n: float(np.abs(a).max(initial=0)) for n, a in probe.adjoints.items()}
    in_units = {n: size * float(np.abs(probe.values[n]).max(initial=0)) for n, size in sizes.items()}
    return all(size[target] < 1e-9 * max(size.values()) or not size[target] for size in (sizes, in_units))


def _judge(task: Task, name: str, attempt: Attempt) -> LineReport:
    line = task.line(name)
    outcome = attempt.run(name, range(len(attempt.probes)))
    report = LineReport(name, "right", line.points, message="", at=outcome.at, printed=outcome.printed)
    if outcome.failure is not None:
        report.verdict, report.message = outcome.failure, outcome.message
        if outcome.failure == "error" and outcome.message.startswith("ValueError") and name not in task.measured:
            more = explained_error(attempt, name)
            report.message += f". {more.message}" if more is not None else ""
        return report
    if name in task.measured:
        return judged(report, task, outcome, attempt.probes, [probe.where for probe in attempt.probes])
    return _compare(report, name, line, outcome, attempt)


def _compare(report: LineReport, name: str, line: LineSpec, outcome: LineRun, attempt: Attempt) -> LineReport:
    target, probes = str(line.target), attempt.probes
    sources = [a[2:] for a in outcome.arguments if a.startswith("d_") and a[2:] in probes[0].adjoints and a[2:] != target]
    trials: list[Trial] = []
    weak = 0
    bounds: list[float] = []
    for probe, results in zip(probes, outcome.results, strict=True):
        found = np.asarray(results["float64", 0])
        right = probe.adjoints[target]
        trial = Trial.of(probe, target, sources, found.astype("float64"))
        if found.shape != right.shape:
            verdict, more = wrong_shape(target, trial), explained_edit(attempt, name, [trial], pairs=True)
            report.verdict, report.code = "wrong shape", verdict.code
            report.message = verdict.message if more is None else f"{verdict.message.split('. ')[0]}. In the line, {more.message}"
            report.case = probe.where
            return report
        if float(np.abs(right).max(initial=0)) < POWER * trial.scale and len(trials) + len(probes) - weak > 1:
            weak += 1
        trials.append(trial)
        few_digits = found.dtype.kind == "f" and found.dtype.itemsize < 8
        bounds.append(bound32(probe) if few_digits else RIGHT)
    strong = [t for t in trials if float(np.abs(t.right).max(initial=0)) >= POWER * t.scale] or trials
    errors = [t.off(t.found) for t in trials]
    worst = int(np.argmax([e / b for e, b in zip(errors, bounds, strict=True)]))
    report.error, report.bound, report.case = errors[worst], bounds[worst], trials[worst].probe.where
    if errors[worst] > bounds[worst]:
        wrong = [t for t, e, b in zip(trials, errors, bounds, strict=True) if e > b and t in strong] or [trials[worst]]
        why = _why(target, different(wrong), name, outcome, attempt)
        report.verdict = "not the derivative asked for" if why.code == "other derivative" else "wrong"
        report.code, report.message, report.routes = why
        return report
    _in_float32(report, name, target, outcome, trials, attempt)
    if report.verdict == "right" and max(bounds) > RIGHT:
        report.verdict = "rounding"
    if report.verdict in ("right", "rounding"):
        report.flags = flags(attempt, name, trials[0])
        report.message = "; ".join(filter(None, (report.message, _other_dtype(outcome), *report.flags)))
    return report


def _why(target: str, wrong: list[Trial], name: str, outcome: LineRun, attempt: Attempt) -> Diagnosis:
    if all(np.isfinite(t.found).all() for t in wrong):
        if all(t.off(t.found) <= CLOSE for t in wrong):  # as near as any explanation could come
            return not_exact(wrong)
        found = explained(target, wrong, name, outcome.arguments, attempt)
        if found is not None:
            return found
    else:  # the numbers tell nothing, but an edit of the line may
        edit = explained_edit(attempt, name, wrong)
        if edit is not None:
            return Diagnosis(edit.code, f"{unexplained(wrong).message.split(':')[0]}. {edit.message}")
    return unexplained(wrong)


def _other_dtype(outcome: LineRun) -> str:
    """A remark on a right line whose result is in another dtype than its arguments. It is judged by its values all the same."""
    for (dtype, _), result in ((run, r) for results in outcome.results for run, r in results.items()):
        if isinstance(result, np.ndarray) and result.dtype != dtype:
            why = ": np.zeros, np.ones, np.eye, np.arange and Python's own numbers in np.where are float64. np.zeros_like or dtype= keep it"
            return f"it returns {result.dtype} for {dtype} arguments{why if result.dtype == 'float64' else ''}"
    return ""


def _in_float32(report: LineReport, name: str, target: str, outcome: LineRun, trials: Sequence[Trial], attempt: Attempt) -> None:
    """Right in float64. Is it in float32? If it is off by more than a right line may be, is that rounding, or a mistake?"""
    doubtful = [(i, e) for i, (t, results) in enumerate(zip(trials, outcome.results, strict=True))
                if (e := t.off(np.asarray(results["float32", 0]))) > bound32(t.probe)]
    telling = [(i, e) for i, e in doubtful if _holds_in_float32(trials[i], target)]
    if not telling:
        if doubtful:
            report.message = "right, judged in float64 only: in float32 the forward pass itself loses its digits"
        return
    worst, off = max(telling, key=lambda found: found[1])
    report.error, report.case = off, trials[worst].probe.where
    noise = _noise(name, worst, trials[worst], attempt) if off <= MOST_ROUNDING else MOST_ROUNDING
    report.bound = max(min(MOST_ROUNDING, SAFETY * noise), bound32(trials[worst].probe))
    if off > report.bound:
        result = np.asarray(outcome.results[worst]["float32", 0])
        what = (f"it returns the shape {result.shape}" if result.shape != trials[worst].right.shape else
                f"it returns {odd(result)} where the derivative is finite" if not np.isfinite(result).all() else
                f"it is off by {off:.2g} of the size of its terms, and rounding explains {report.bound:.1g}")
        report.verdict, report.code, report.message = "wrong", "float32", f"right in float64, but in float32 {what}"
        return
    report.verdict = "rounding"
    report.message = "right, but in float32 this formula loses digits: a difference of large numbers is the usual reason"


def _holds_in_float32(t: Trial, target: str) -> bool:
    """Whether the tape itself has a derivative in float32 at this probe; what does not fit into it is not the student's fault."""
    truth = t.probe.in_float32(target)
    return truth is None or t.off(truth) <= MOST_ROUNDING


def _noise(name: str, worst: int, t: Trial, attempt: Attempt) -> float:
    """How much the line's error in float32 changes, of the size of its terms, when its arguments are moved."""
    outcome = attempt.run(name, [worst], [(dtype, moved) for moved in range(MOVES + 1) for dtype in ("float64", "float32")])
    if outcome.failure is not None:
        return 0.0
    found = {run: np.asarray(result, "float64") for run, result in outcome.results[0].items()}
    if any(a.shape != t.right.shape for a in found.values()):
        return 0.0
    first, *others = (found["float32", moved] - found["float64", moved] for moved in range(MOVES + 1))
    changes = [float(np.abs(e - first).max(initial=0)) / t.scale for e in others]
    return max((c for c in changes if np.isfinite(c)), default=0.0)
