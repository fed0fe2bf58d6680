"""One gradient of somebody else's backward: right, wrong in a term, or short of digits.

A wrong formula is wrong everywhere alike, and the tape says in which term. Rounding is erratic: its errors change when everything given is moved a
little. Where sums lose the digits, a cotangent of a single element has none to lose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.backend import np
from .bounds import MOST_ROUNDING, RIGHT, SAFETY, bound32
from .changes import Trial, different
from .diagnose import CLOSE, Diagnosis, diagnose, unexplained, wrong_shape
from .kernel import HALF, UNITS, Found, Kernel, KernelRun, run_kernel
from .probe import Probe, odd
from .report import LineReport

MOVES, PART = 4, 1 / 32  # ways to move the inputs, and how far: up to this part of each value
# Units of rounding to half precision that a gradient may be off by, of the size of its terms: one that is computed element by element, in half
# precision from the first step; and a sum of MANY terms in float32, for which rounded terms, too, leave 2.5 at most, whatever their number.
FEW_UNITS, SUM_UNITS, MANY = 8, 4, 16
SINGLE = 8  # cotangents of one element, to see whether it is sums that lose digits
NOISY = 4e-6  # of the size of the terms: how well those of a result in float32 can be told apart


def narrowest(found: Found) -> str:
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


def bound_of(probe: Probe, dtype: str, size: int) -> float:
    """How far a right gradient (or output) of this size may be off, of the size of its terms, when its sums are made in float32 or better."""
    return {"float64": RIGHT, "float32": bound32(probe)}.get(dtype, (SUM_UNITS if _terms(probe, size) >= MANY else FEW_UNITS) * UNITS[dtype])


def _terms(probe: Probe, size: int) -> int:
    """How many terms are added up in each element of a gradient of this size."""
    return max(a.size for a in probe.arrays.values()) // max(1, size)


class Gradient:
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
            return None if found is None else Trial.of(run.probe, self.name, [], found.value)
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
                report.verdict, report.code, report.message, report.case = "wrong shape", why.code, why.message, t.probe.where
                return
            trials.append(t)
        digits = [self._digits_of(run) for run in rows]
        bounds = [bound_of(t.probe, d if UNITS[d] > UNITS[dtype] and d not in HALF else dtype, t.right.size) for t, d in zip(trials, digits, strict=True)]
        errors = [t.off(t.found) for t in trials]
        worst = int(np.argmax([e / b for e, b in zip(errors, bounds, strict=True)]))
        if report.error is None or errors[worst] / bounds[worst] > report.error / (report.bound or 1):
            report.error, report.bound, report.case = errors[worst], bounds[worst], trials[worst].probe.where
        if errors[worst] <= bounds[worst]:
            if bounds[worst] > RIGHT and (dtype == "float64" or not self._exact):
                report.verdict = "rounding"
                report.message = report.message or f"right to {errors[worst]:.1g}; the bound of {digits[worst]} is {bounds[worst]:.1g}"
            return
        report.error, report.bound, report.case = errors[worst], bounds[worst], trials[worst].probe.where
        self._wrong(dtype, [t for t, e, b in zip(trials, errors, bounds, strict=True) if e > b], rows[worst], trials[worst], digits[worst],
                    [t for t, e, b in zip(trials, errors, bounds, strict=True) if e <= b])

    @property
    def _exact(self) -> bool:
        """Whether it runs in float64 as well, where the formula has been seen to be right."""
        return "float64" in self.runs

    def _digits_of(self, run: KernelRun) -> str:
        found = run.call.gradients.get(self.name)
        return "float64" if found is None else narrowest(found)

    def _wrong(self, dtype: str, wrong: list[Trial], run: KernelRun, worst: Trial, digits: str, right: Sequence[Trial]) -> None:
        """A wrong formula has a term that is wrong; too few bits have errors that change erratically, or that more bits do not have."""
        report, off = self.report, worst.off(worst.found)
        finite = all(np.isfinite(t.found).all() for t in wrong)
        first = dtype == min(self.runs, key=lambda d: UNITS[d])
        noise = CLOSE if dtype == digits == "float64" else NOISY  # with which the terms of a result can be told apart
        coarse = [t._replace(scale=t.scale * noise / CLOSE) for t in different(wrong)]
        why = diagnose(self.name, coarse, self._names(worst.probe)) if finite and first else None
        if why is None and finite and ((dtype in HALF and not first) or (off <= MOST_ROUNDING and self._noise(run, worst) * SAFETY >= off)):
            self._few_digits(dtype, off, run, worst, digits)
            return
        report.verdict = "wrong"
        if why is None and not first:
            what = (f"it is off by {off:.2g} of the size of its terms, and rounding explains {report.bound:.1g}" if finite else
                    f"it is {odd(worst.found)} where the derivative is finite")
            why = Diagnosis(dtype, f"right in {' and '.join(d for d in self.runs if UNITS[d] < UNITS[dtype])}, but in {dtype} {what}")
        report.code, report.message, report.routes = why or unexplained(wrong)
        for said, meant in (("the whole line", f"d_{self.name} as a whole"), ("; the line asks for", " in the place of")):
            report.message = report.message.replace(said, meant)
        if why is None and finite and dtype in HALF:
            report.message += f"; in {dtype} terms cannot be told apart: let it run in float32 or float64, too"
        if all(not t.right.any() for t in wrong):
            report.message = f"it must be 0 {_because(wrong)}: {report.message}"
        report.message += _only(wrong, right)

    def _few_digits(self, dtype: str, off: float, run: KernelRun, worst: Trial, digits: str) -> None:
        """The formula is right, and the numbers lose their digits: by cancellation in float32, or because something is done in too few bits."""
        report, probe, single = self.report, worst.probe, bound32(worst.probe)
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
        report.verdict, report.code, report.bound = "wrong", "low precision", bound_of(probe, dtype if dtype in HALF else "float32", worst.right.size)
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
            t = self._trial(run_kernel(self.kernel, Probe(probe.task, (probe.arrays, probe.keywords), None, cotangent), run.dtype))
            if t is not None:
                errors.append(t.off(t.found))
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
                t = self._trial(run_kernel(self.kernel, twin, run.dtype))
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
    return f". At {right[0].probe.where} it is right" if right and right[0].probe.where != wrong[0].probe.where else ""


def _either(numbers: set[int]) -> str:
    return " or ".join(str(n) for n in sorted(numbers))
