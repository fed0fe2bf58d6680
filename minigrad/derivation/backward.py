"""Somebody else's backward: all gradients of one function at once, each judged like a line of a derivation.

The composed forward's tape is the answer key. Every gradient is compared with it in float64, float32 and the dtypes of the inputs,
always at the very numbers that the backward saw. A wrong one gets the term that is wrong; one whose formula is right and
whose sums are made in too few bits is told apart by its errors: they change erratically when the inputs are moved a little.
"""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.backend import Array, np
from ..core.errors import error
from .changes import Trial
from .diagnose import CLOSE, Diagnosis, diagnose, unexplained, wrong_shape
from .inputs import in_order, on_host, own_cases
from .judge import MOST_ROUNDING, RIGHT, SAFETY, _bound32, _case, _different, _error, _finite_at, _odd, _trial
from .kernel import HALF, UNITS, Call, Found, Kernel
from .probe import Probe
from .report import LineReport, Report, shown
from .task import Task, TaskError, is_judged

MOVES, PART = 4, 1 / 32  # ways to move the inputs, and how far: up to this part of each value
# Units of rounding to half precision that a gradient may be off by, of the size of its terms: one that is computed element by element, in half
# precision from the first step; and a sum of MANY terms in float32, for which rounded terms, too, leave 2.5 at most, whatever their number.
FEW_UNITS, SUM_UNITS, MANY = 8, 4, 16
SINGLE = 8  # cotangents of one element, to see whether it is sums that lose digits
NOISY = 4e-6  # of the size of the terms: how well those of a result in float32 can be told apart


class KernelRun(NamedTuple):
    """The backward on one probe in one dtype: the truth at the numbers that it saw, and what it returned there."""

    probe: Probe
    dtype: str
    call: Call


def check_backward(forward: Callable[..., Any], backward: Any, *, inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
                   keywords: Mapping[str, Any] | None = None, seed: int | None = 0, names: Sequence[str | None] | None = None) -> Report:
    """Judge a backward that was written elsewhere against the tape of a composed function, gradient by gradient.

    Args:
        forward: composed function of minigrad, ``forward(*arrays, **keywords)``, that names its values with `named`. It returns one
            Tensor or several.
        backward: ``backward(dy, x, gamma, eps)`` on NumPy, CuPy or PyTorch, that returns the gradients of all inputs in their order,
            or a dict; or a torch.autograd.Function, whose output is compared too. Its arguments are found by name (inputs, keywords and
            named values of the forward), else by their order. Where there are several outputs, dy is a tuple. It runs in this process.
        inputs: arrays by argument name, or a list of several such mappings: other shapes, other numbers of axes. They are used as they are,
            and beside them fresh ones in their range and in other sizes; zeros alone stand for normal numbers. The backward gets arrays of the
            same library, on the same device. Integers and booleans have no gradient: None is accepted, and anything else ignored.
        keywords: of the forward, arrays among them too.
        seed: of the random numbers; None: new ones.
        names: of the inputs whose gradients are returned, in that order, where it is not theirs; None in the place of anything else.

    Returns:
        A `Report` with a line d_<name> for each input of floats: true if all are right.

    Raises:
        TaskError: the forward's derivative is NaN or Inf at the inputs.
        TypeError, ValueError: something else than a function, or names that are not inputs.

    >>> import numpy as np
    >>> import minigrad as mg
    >>> def forward(x, w):
    ...     return mg.named("y", mg.tanh(mg.named("z", x * w)))
    >>> def backward(dy, x, w):
    ...     dz = dy * (1 - np.tanh(x * w) ** 2)
    ...     return dz * w, (dz * x).mean(0)
    >>> print(mg.derivation.check_backward(forward, backward, inputs={"x": np.zeros((4, 3)), "w": np.zeros(3)}))
    backward: 1 of 2 points
      d_x  right
      d_w  wrong (mean for sum): d_w as a whole is divided by the number of elements of x along axis 0: a mean where a sum is needed [at x (6, 5), w (5,)]
    """
    name = getattr(backward, "__name__", "backward")
    if is_judged():
        return Report(name, None, -1, status="not checked", message="this file is being judged, so it does not judge itself")
    groups = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    if not groups or not all(isinstance(g, Mapping) and g for g in groups):
        raise error(ValueError, "check_backward", got="no inputs", needs="arrays by argument name", fix="inputs={'x': array, 'gamma': array}")
    groups, keywords = [in_order(forward, g) for g in groups], dict(keywords or {})
    kernel = Kernel(backward, groups[0], keywords, names)
    task = Task(getattr(forward, "__name__", "forward"), forward, lambda rng, dtype: iter(()), {})
    rng = np.random.default_rng(seed)
    probes = [probe for group in groups for probe in _probes(task, group, keywords, rng)]
    given = kernel.given
    report = Report(name, None, -1 if seed is None else seed)
    runs, failed = _all_runs(kernel, probes, given)
    variables = [n for n, a in probes[0].arrays.items() if a.dtype.kind == "f" and (names is None or n in names)]
    if not any(runs.values()) or given in failed:
        message, at = failed.get(given) or next(iter(failed.values()))
        report.lines = [LineReport(f"d_{n}", "error", 1, message=f"in {given}: {message}" if any(runs.values()) else message, at=at) for n in variables]
        return report
    if kernel.is_function:
        report.lines = _outputs(probes[0], runs)
    remarks = [f"judged without {dtype}, where it raises {message}" for dtype, (message, _) in failed.items()]
    changed = sorted({n for rows in runs.values() for run in rows for n in run.call.changed})
    remarks += [f"it writes into {', '.join(changed)}"] if changed else []
    other = any(line.verdict == "wrong" for line in report.lines)
    for n in variables:
        report.lines.append(_Gradient(n, runs, kernel).judged())
        if other and report.lines[-1].code == "unexplained":
            report.lines[-1].message = "its forward is another function, so this is the gradient of something else"
        if report.lines[-1].verdict in ("right", "rounding"):
            report.lines[-1].message = "; ".join([*filter(None, [report.lines[-1].message]), *remarks])
    return report


def check_backward_file(file: str, *, seed: int | None = 0) -> Report:
    """`check_backward` of what a Python file defines: ``forward``, ``backward`` and ``inputs``, and if need be ``keywords`` and ``names``.

    The file is run in this process, as a script that is imported would be.

    Raises:
        FileNotFoundError, ValueError: there is no such file, it cannot be run, or it lacks one of the three.
    """
    if not Path(file).is_file():
        raise error(FileNotFoundError, "derivation", got=f"no file {file}", needs="a Python file with forward, backward and inputs", fix="check its name")
    sys.path.insert(0, str(Path(file).resolve().parent))
    try:
        defined = runpy.run_path(file)
    except Exception as e:  # whatever somebody else's file raises
        at = _place(e)
        raise error(ValueError, "derivation", got=f"{file}, which raises {type(e).__name__}: {e}", needs="a file that can be run",
                    fix=f"look at line {at['line']}: {at['source']}" if at else "run it with python first") from e
    finally:
        sys.path.pop(0)
    missing = [n for n in ("forward", "backward", "inputs") if n not in defined]
    if missing:
        raise error(ValueError, "derivation", got=f"{file} without {' and '.join(missing)}", needs="forward, backward and inputs",
                    fix="forward: a composed function of minigrad; backward: the one to check; inputs = {'x': array, ...}")
    report = check_backward(defined["forward"], defined["backward"], inputs=defined["inputs"], keywords=defined.get("keywords"),
                            names=defined.get("names"), seed=seed)
    report.file = file
    return report


# -- probes and runs ------------------------------------------------------------------------------------------------------


def _probes(task: Task, inputs: Mapping[str, Any], keywords: Mapping[str, Any], rng: Any) -> Iterator[Probe]:
    """The given inputs, and fresh ones beside them."""
    host = {n: on_host(a) for n, a in inputs.items()}
    cases = own_cases(host, keywords, lambda case: _finite_at(task, case))
    with np.errstate(all="ignore"):
        for case in cases(rng, "float64"):
            probe = Probe(task, case, rng)
            odd = next((n for n in host if n in probe.adjoints and not np.isfinite(probe.adjoints[n]).all()), None)
            if odd is not None:
                raise error(TaskError, f"forward {task.name}", got=f"a derivative d_{odd} that is {_odd(probe.adjoints[odd])} at {_case(probe)}",
                            needs="inputs at which it is finite", fix="keep them away from roots and logarithms of 0 or less, and from divisions by 0")
            if probe.undefined is not None:
                raise error(TaskError, f"forward {task.name}", got=f"a value {probe.undefined} that is NaN at {_case(probe)}",
                            needs="inputs at which it is defined",
                            fix="keep them away from roots and logarithms of what is negative, and from 0/0; an array of zeros stands for normal numbers")
            yield probe


def _all_runs(kernel: Kernel, probes: Sequence[Probe], given: str) -> tuple[dict[str, list[KernelRun]], dict[str, tuple[str, Any]]]:
    """The backward in each dtype on all probes, and why it failed in a dtype."""
    runs: dict[str, list[KernelRun]] = {}
    failed: dict[str, tuple[str, Any]] = {}
    for dtype in dict.fromkeys(("float64", "float32", given)):
        try:
            runs[dtype] = [_run(kernel, probe, dtype) for probe in probes]
        except Exception as e:  # whatever somebody else's code raises
            runs[dtype], failed[dtype] = [], (_said(e), _place(e))
    return runs, failed


def _run(kernel: Kernel, probe: Probe, dtype: str) -> KernelRun:
    twin = probe
    if dtype != "float64":  # the truth at the numbers that the backward gets, which are rounded
        def rounded(a: Any, name: str = "") -> Any:
            where = kernel.dtype(name, dtype)
            return kernel.library.back(kernel.library.put(a, where)).value if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
        case = {n: rounded(a, n) for n, a in probe.arrays.items()}, {n: rounded(v) for n, v in probe.keywords.items()}
        twin = Probe(probe.task, case, None, np.asarray(rounded(np.asarray(probe.adjoints[probe.output]))))
    with np.errstate(all="ignore"):
        return KernelRun(twin, dtype, kernel.call(twin, dtype, _cotangents(twin)))


def _cotangents(probe: Probe) -> list[Array]:
    """What comes from above, for each output."""
    if len(probe.outputs) < 2:
        return [probe.adjoints[probe.output]]
    return [probe.adjoints[n] for n in probe.outputs]


def _said(e: BaseException) -> str:
    """An exception in one line."""
    lines = [" ".join(line.split()) for line in str(e).splitlines()]
    return shown(": ".join(filter(None, (type(e).__name__, "; ".join(filter(None, lines))))))


def _place(e: BaseException) -> dict[str, Any] | None:
    """Where in the user's code an exception came from."""
    here = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(e.__traceback__) if not f.filename.startswith(here) and "site-packages" not in f.filename]
    return {"file": frames[-1].filename, "line": frames[-1].lineno, "source": shown(frames[-1].line or "")} if frames else None


def _outputs(probe: Probe, runs: Mapping[str, Sequence[KernelRun]]) -> list[LineReport]:
    """Whether the other forward computes the same outputs: gradients of another function could only be wrong."""
    found = []
    for k, name in enumerate(probe.outputs):
        line = LineReport(name, "right", 1)
        for run in next(rows for rows in runs.values() if rows):
            assert run.call.output is not None
            value, right = run.call.output[k], run.probe.values[name]
            size = float(np.abs(right).max(initial=0)) or 1.0
            off = float(np.abs(value.value - right).max(initial=0)) / size if value.value.shape == right.shape else float("inf")
            bound = RIGHT if _digits(value) == "float64" else _bound(run.probe, _digits(value), value.value.size)
            if not off <= bound and line.verdict == "right":
                shape = f"it has the shape {value.value.shape}, and the composed forward {right.shape}"
                line.verdict, line.code, line.error, line.bound, line.case = "wrong", "forward", off, bound, _case(run.probe)
                line.message = shape if value.value.shape != right.shape else f"its forward is another function: it is off by {off:.2g} of the largest element"
        found.append(line)
    return found


# -- precision ----------------------------------------------------------------------------------------------------------------


def _digits(found: Found) -> str:
    """The narrowest dtype that holds every number of a result exactly: what it was computed in at the end, whatever array holds it."""
    values = found.value[np.isfinite(found.value) & (found.value != 0)]
    if found.dtype in HALF or len(values) < 2 or (values == np.rint(values)).all():
        return found.dtype if found.dtype in UNITS else "float64"
    narrow = values.astype("float32")
    if not np.array_equal(narrow, values):
        return found.dtype if found.dtype in UNITS else "float64"
    if np.array_equal(narrow.view("uint32") & 0xFFFF, np.zeros(len(values))):
        return "bfloat16"
    with np.errstate(all="ignore"):
        return "float16" if np.array_equal(narrow.astype("float16"), narrow) else "float32"


def _bound(probe: Probe, dtype: str, size: int) -> float:
    """How far a right gradient (or output) of this size may be off, of the size of its terms, when its sums are made in float32 or better."""
    return {"float64": RIGHT, "float32": _bound32(probe)}.get(dtype, (SUM_UNITS if _terms(probe, size) >= MANY else FEW_UNITS) * UNITS[dtype])


def _terms(probe: Probe, size: int) -> int:
    """How many terms are added up in each element of a gradient of this size."""
    return max(a.size for a in probe.arrays.values()) // max(1, size)


class _Gradient:
    """The gradient with respect to one input, in all runs."""

    def __init__(self, name: str, runs: Mapping[str, Sequence[KernelRun]], kernel: Kernel) -> None:
        self.name, self.kernel = name, kernel
        self.runs = {dtype: rows for dtype, rows in runs.items() if rows}
        self.report = LineReport(f"d_{name}", "right", 1)

    def judged(self) -> LineReport:
        """The verdict, from the most exact dtype down: where that is wrong, the others would only show the same."""
        for dtype in sorted(self.runs, key=lambda d: UNITS[d]):
            self._in(dtype)
            if self.report.verdict not in ("right", "rounding"):
                break
        return self.report

    def _trial(self, run: KernelRun) -> Trial | None:
        """What was found beside what is right; None: no gradient was returned."""
        found = run.call.gradients.get(self.name)
        if self.name in run.probe.adjoints:
            return None if found is None else _trial(run.probe, self.name, [], found.value)
        zero = np.zeros(run.probe.arrays[self.name].shape)  # the output does not depend on it
        return Trial(run.probe, zero if found is None else found.value, zero, [], 1.0)

    def _in(self, dtype: str) -> None:
        report, rows = self.report, self.runs[dtype]
        trials: list[Trial] = []
        for run in rows:
            t = self._trial(run)
            if t is None:
                report.verdict, report.code, report.message = "wrong", "missing path", f"no gradient was returned for {self.name}, and it has one"
                return
            if t.found.shape != t.right.shape:
                why = wrong_shape(self.name, t)
                report.verdict, report.code, report.message, report.case = "wrong shape", why.code, why.message, _case(t.probe)
                return
            trials.append(t)
        digits = [self._digits_of(run) for run in rows]
        bounds = [_bound(t.probe, d if UNITS[d] > UNITS[dtype] and d not in HALF else dtype, t.right.size) for t, d in zip(trials, digits, strict=True)]
        errors = [_error(t.found, t) for t in trials]
        worst = int(np.argmax([e / b for e, b in zip(errors, bounds, strict=True)]))
        if report.error is None or errors[worst] / bounds[worst] > report.error / (report.bound or 1):
            report.error, report.bound, report.case = errors[worst], bounds[worst], _case(trials[worst].probe)
        if errors[worst] <= bounds[worst]:
            if bounds[worst] > RIGHT and (dtype == "float64" or not self._exact):
                report.verdict = "rounding"
                report.message = report.message or f"right to {errors[worst]:.1g}; the bound of {digits[worst]} is {bounds[worst]:.1g}"
            return
        report.error, report.bound, report.case = errors[worst], bounds[worst], _case(trials[worst].probe)
        self._wrong(dtype, [t for t, e, b in zip(trials, errors, bounds, strict=True) if e > b], rows[worst], trials[worst], digits[worst],
                    [t for t, e, b in zip(trials, errors, bounds, strict=True) if e <= b])

    @property
    def _exact(self) -> bool:
        """Whether it runs in float64 as well, where the formula has been seen to be right."""
        return "float64" in self.runs

    def _digits_of(self, run: KernelRun) -> str:
        found = run.call.gradients.get(self.name)
        return "float64" if found is None else _digits(found)

    def _wrong(self, dtype: str, wrong: list[Trial], run: KernelRun, worst: Trial, digits: str, right: Sequence[Trial]) -> None:
        """A wrong formula has a term that is wrong; too few bits have errors that change erratically, or that more bits do not have."""
        report, off = self.report, _error(worst.found, worst)
        finite = all(np.isfinite(t.found).all() for t in wrong)
        first = dtype == min(self.runs, key=lambda d: UNITS[d])
        noise = CLOSE if dtype == digits == "float64" else NOISY  # with which the terms of a result can be told apart
        coarse = [t._replace(scale=t.scale * noise / CLOSE) for t in _different(wrong)]
        why = diagnose(self.name, coarse, self._names(worst.probe)) if finite and first else None
        if why is None and finite and ((dtype in HALF and not first) or (off <= MOST_ROUNDING and self._noise(run, worst) * SAFETY >= off)):
            self._few_digits(dtype, off, run, worst, digits)
            return
        report.verdict = "wrong"
        if why is None and not first:
            what = (f"it is off by {off:.2g} of the size of its terms, and rounding explains {report.bound:.1g}" if finite else
                    f"it is {_odd(worst.found)} where the derivative is finite")
            why = Diagnosis(dtype, f"right in {' and '.join(d for d in self.runs if UNITS[d] < UNITS[dtype])}, but in {dtype} {what}")
        report.code, report.message = why or unexplained(wrong)
        for said, meant in (("the whole line", f"d_{self.name} as a whole"), ("; the line asks for", " in the place of")):
            report.message = report.message.replace(said, meant)
        if why is None and finite and dtype in HALF:
            report.message += f"; in {dtype} terms cannot be told apart: let it run in float32 or float64, too"
        if all(not t.right.any() for t in wrong):
            report.message = f"it must be 0 {_because(wrong)}: {report.message}"
        report.message += _only(wrong, right)

    def _few_digits(self, dtype: str, off: float, run: KernelRun, worst: Trial, digits: str) -> None:
        """The formula is right, and the numbers lose their digits: by cancellation in float32, or because something is done in too few bits."""
        report, probe, single = self.report, worst.probe, _bound32(worst.probe)
        terms = _terms(probe, worst.right.size)
        sums = terms > 1 and self._single_terms(run) <= off / 2
        if dtype == "float64" and off <= single:
            report.verdict, report.bound = "rounding", single
            report.message = f"right to {off:.1g}, also in float64: something inside is computed in float32, whose bound is {single:.1g}"
            return
        if dtype == "float32" and not (sums and digits in HALF):
            report.verdict, report.bound = "rounding", max(min(MOST_ROUNDING, SAFETY * self._noise(run, worst)), single)
            report.message = ("right, but in float32 its sums lose digits: add them up in parts, or pairwise" if sums else
                              "right, but in float32 this formula loses digits: a difference of large numbers is the usual reason")
            return
        inside = digits if digits in HALF else dtype if dtype in HALF else "float16"
        report.verdict, report.code, report.bound = "wrong", "low precision", _bound(probe, dtype if dtype in HALF else "float32", worst.right.size)
        report.message = (f"the formula is right, and it is off by {off:.2g} of the size of its terms; with float32 inside it would be "
                          f"at most {report.bound:.2g}. ")
        if sums:
            report.message += (f"It is accumulated in low precision: a single term is right, and a sum of {terms:,} terms in {inside} is off by about "
                               f"√{terms:,} · {UNITS[inside]:.2g} = {terms**0.5 * UNITS[inside]:.2g}")
        else:
            report.message += f"It is computed in low precision: a single term is off already, as when statistics or differences are kept in {inside}"

    def _single_terms(self, run: KernelRun) -> float:
        """The largest error of the size of its terms where the cotangent is 0 except for one element: there is nothing to add up."""
        probe, errors = run.probe, [0.0]
        rng = np.random.default_rng(0)
        for _ in range(SINGLE):
            cotangent = np.zeros(probe.adjoints[probe.output].shape)
            at = np.unravel_index(int(rng.integers(cotangent.size)), cotangent.shape)
            cotangent[at] = probe.adjoints[probe.output][at]
            t = self._trial(_run(self.kernel, Probe(probe.task, (probe.arrays, probe.keywords), None, cotangent), run.dtype))
            if t is not None:
                errors.append(_error(t.found, t))
        return max(errors)

    def _noise(self, run: KernelRun, worst: Trial) -> float:
        """How much the error changes, of the size of the terms, when everything given is moved a little: rounding changes, a mistake stays what it is."""
        def moved(a: Any, rng: Any) -> Any:
            return a * (1 + PART * rng.uniform(-1, 1, a.shape)) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
        probe, changes = run.probe, [0.0]
        first = worst.found - worst.right
        for way in range(1, MOVES + 1):
            rng = np.random.default_rng(way)
            case = {n: moved(a, rng) for n, a in probe.arrays.items()}, {n: moved(v, rng) for n, v in probe.keywords.items()}
            try:
                twin = Probe(probe.task, case, None, np.asarray(moved(probe.adjoints[probe.output], rng)))
                t = self._trial(_run(self.kernel, twin, run.dtype))
            except Exception:  # moved inputs that a forward does not take say nothing
                continue
            if t is not None and t.found.shape == worst.found.shape:
                changes.append(float(np.abs(t.found - t.right - first).max(initial=0)) / worst.scale)
        return max(c for c in changes if np.isfinite(c))

    def _names(self, probe: Probe) -> list[str]:
        """What a backward may use: the cotangent, all inputs, keywords and named values."""
        return [f"d_{probe.output}", *probe.arrays, *probe.keywords, *(n for n in probe.values if n not in probe.arrays and n != probe.output)]


def _because(wrong: Sequence[Trial]) -> str:
    """Which named values vanish, whatever the inputs are."""
    named = [n for n in wrong[0].probe.values if n not in wrong[0].probe.arrays]
    zero = [n for n in named if not any(np.any(t.probe.values[n]) for t in wrong)]
    return f"here, where {' and '.join(zero)} {'is' if len(zero) == 1 else 'are'} 0" if zero else "here"


def _only(wrong: Sequence[Trial], right: Sequence[Trial]) -> str:
    """What all cases in which it is wrong have in common, and no case in which it is right has."""
    names: list[str] = list(wrong[0].probe.arrays) if right else []
    for n in names:
        here, there = ({t.probe.arrays[n].ndim for t in trials} for trials in (wrong, right))
        if not here & there:
            return f". It is wrong where {n} has {_either(here)} axes, and right where it has {_either(there)}"
        for axis in range(-1, -min(here | there) - 1, -1):
            long, short = ({t.probe.arrays[n].shape[axis] for t in trials} for trials in (wrong, right))
            if (long == {1}) != (short == {1}) and not long & short:
                return f". It is wrong only where {n} has {'one element' if long == {1} else 'more than one element'} along axis {axis}"
    return f". At {_case(right[0].probe)} it is right" if right and _case(right[0].probe) != _case(wrong[0].probe) else ""


def _either(numbers: set[int]) -> str:
    return " or ".join(str(n) for n in sorted(numbers))
