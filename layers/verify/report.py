"""The table of all layers: do their forms agree, how closely, and what does a hand-derived backward save?

    python -m layers.report [--layer NAME] [--derivation NAME] [--dtype float32|float64] [--order 1|2]
                            [--backend cupy] [--cases] [--json]

For every layer, derivation, case, dtype and order it compares derived with composed, at random cotangents, and derived
with central differences (`mg.gradcheck`, constants for the derivative frozen). In float64 the number is the worst
relative error; in float32 the reference is float64, and the number is the error in units of its bound (see
`agreement.float32_errors`). Time and kept bytes, composed / derived, are those of one forward and backward at a
mid-size input. Exit status 1 if anything disagrees.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import minigrad as mg
from minigrad import backend
from minigrad.command import run_command
from minigrad.core.backend import np
from minigrad.core.errors import BackendError

from ..registry import REGISTRY, Case, Layer
from ..whitening.degenerate_whitening import MedianError, degenerate_comparison
from .agreement import (
    bound,
    derivatives,
    differences,
    float32_errors,
    on_backend,
    relative_errors,
    seeded,
    why_not_held,
    worst,
)

WIDTH = 120
ELEMENTS = 1 << 18  # of the largest array at which time and kept bytes are measured
ROUNDS = 5
SHARPEST = ["right", "rounding", "no power", "none"]  # gradcheck's verdicts, except "wrong"

# -- what is found -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One derivation in one case, dtype and order. `quotient` is gradcheck's verdict, "none" where there is none."""

    layer: str
    derivation: str
    case: str
    dtype: str
    backend: str
    order: int
    error: float  # derived against composed, relative, the worst of all results
    of_bound: float  # the same, in units of its bound
    not_held: str  # why the bounds do not apply here; empty if they do
    quotient: str
    quotient_error: float
    reason: str  # gradcheck's words, or those of an exception

    @property
    def agrees(self) -> bool:
        """Within its bound, and not contradicted by central differences. NaN is not within a bound."""
        return bool(self.not_held) or (self.of_bound <= 1 and self.quotient != "wrong")


@dataclass(frozen=True)
class Cost:
    """Forward and backward at one size: seconds, and bytes kept by the tape, where inputs are results of other ops."""

    layer: str
    derivation: str
    dtype: str
    backend: str
    shapes: tuple[tuple[int, ...], ...]
    seconds_composed: float
    seconds_derived: float
    kept_composed: int
    kept_derived: int

    @property
    def time_ratio(self) -> float:
        """composed / derived."""
        return self.seconds_composed / self.seconds_derived

    @property
    def kept_ratio(self) -> float:
        """composed / derived; infinite where the derived backward keeps nothing."""
        return self.kept_composed / self.kept_derived if self.kept_derived else math.inf


def findings(layer: Layer, derivation: str, dtypes: Sequence[str], orders: Sequence[int],
             device: str) -> Iterator[Finding]:
    """Everything that is known about the agreement of one derivation."""
    for dtype in dtypes:
        for case in layer.cases(dtype, seeded(layer.name, "cases")):
            quotients = _quotients(layer, derivation, case, dtype, orders, device)
            for order in orders:
                why = why_not_held(layer.name, derivation, case[0], dtype, order)
                error, of_bound, reason = _compared(layer, derivation, case, dtype, order, device)
                verdict, off, words = ("none", math.nan, "") if why else quotients[order]
                yield Finding(layer.name, derivation, case[0], dtype, device, order, error, of_bound, why, verdict, off,
                              reason or words)


def _compared(layer: Layer, derivation: str, case: Case, dtype: str, order: int,
              device: str) -> tuple[float, float, str]:
    """Derived against composed: the worst error, the worst in units of its bound, the exception that prevented it."""
    forms = layer.derived[derivation], layer.composed
    try:
        with np.errstate(all="ignore"):
            if dtype == "float32":
                pairs = float32_errors(layer, derivation, case, device, order)
            else:
                found, expected = (derivatives(form, case[1], case[2], device, order, order) for form in forms)
                pairs = [(error, bound(layer.name, order)) for error in relative_errors(found, expected)]
        return worst([e for e, _ in pairs]), worst([e / b if b else math.inf if e else 0.0 for e, b in pairs]), ""
    except Exception as e:
        return math.nan, math.nan, _headline(e)


def _quotients(layer: Layer, derivation: str, case: Case, dtype: str, orders: Sequence[int],
               device: str) -> dict[int, tuple[str, float, str]]:
    """Derived against central differences: order -> verdict, the worst error that it is about, gradcheck's words.

    The verdict is the best of an order's inputs, because one may well have no power somewhere; but "wrong" prevails.
    """
    if all(why_not_held(layer.name, derivation, case[0], dtype, order) for order in orders):
        return {}
    try:
        report = differences(layer, derivation, case, device, max(orders))
    except Exception as e:
        return {order: ("wrong", math.nan, _headline(e)) for order in orders}
    found: dict[int, tuple[str, float, str]] = {}
    for order in orders:
        rows = [row for row in report.rows if row.order == order] if report is not None else []
        verdicts = {row.verdict for row in rows} or {"none"}
        verdict = "wrong" if "wrong" in verdicts else min(verdicts, key=SHARPEST.index)
        told = [row for row in rows if row.verdict == verdict]
        words = next((row.reason for row in told if row.reason), "")
        found[order] = verdict, worst([row.error for row in told]) if told else math.nan, words
    return found


def _headline(e: Exception) -> str:
    return f"{type(e).__name__}: {str(e).partition(chr(10))[0]}"


# -- time and memory ---------------------------------------------------------------------------------------------------


def enlarged(layer: Layer, dtype: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The layer's first case with every axis of every array longer by one factor, so that they still fit each other.

    Values are drawn from the case's own, so that what was positive stays so.
    """
    rng = seeded(layer.name, "size")
    _, arrays, keywords = next(iter(layer.cases(dtype, seeded(layer.name, "cases"))))
    largest = max(arrays, key=lambda a: a.size)
    factor = max(1, int((ELEMENTS / largest.size) ** (1 / largest.ndim)))

    def grown(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return rng.choice(value.ravel(), tuple(n * factor for n in value.shape)).astype(value.dtype)
    return tuple(grown(a) for a in arrays), {k: grown(v) for k, v in keywords.items()}


def cost(layer: Layer, derivation: str, dtype: str, device: str) -> Cost:
    """Composed and derived in turns, each alone on its input; medians."""
    arrays, keywords = enlarged(layer, dtype)
    constants = on_backend(keywords, device)
    xs = [mg.tensor(a, requires_grad=True, backend=device) for a in arrays]
    forms = layer.composed, layer.derived[derivation]
    seconds: tuple[list[float], list[float]] = [], []
    v = None
    for _ in range(1 + ROUNDS):
        for form, times in zip(forms, seconds, strict=True):
            start = time.perf_counter()
            y = form(*xs, **constants)
            if v is None:
                v = mg.tensor(seeded("v").normal(size=y.shape).astype(y.dtype), backend=device)
            gradient: Any = mg.grad(y, xs, v)[0]
            backend.to_numpy(gradient._data.reshape(-1)[:1])  # waits for a device
            times.append(time.perf_counter() - start)
            del y, gradient
    kept = [mg.tape(form(*(1.0 * x for x in xs), **constants)).kept_bytes for form in forms]
    composed, derived = (median(times[1:]) for times in seconds)
    return Cost(layer.name, derivation, dtype, device, tuple(a.shape for a in arrays), composed, derived, *kept)


# -- whitening where eigenvalues meet ----------------------------------------------------------------------------------

WHITENING = "decorrelated_batch_norm"
PYTORCH = "PyTorch autograd"


@dataclass(frozen=True)
class Degenerate:
    """A row of `degenerate_comparison`, and its bound, if it has one. No error: the library is not installed."""

    batch: str
    dtype: str
    method: str
    error: float | None
    bound: float | None

    @property
    def agrees(self) -> bool:
        """Within the bound, if there is one."""
        return self.bound is None or (self.error is not None and self.error <= self.bound)


def degenerate(dtypes: Sequence[str]) -> list[Degenerate]:
    """The errors of all methods where eigenvalues are close or equal, PyTorch's autograd through `eigh` among them."""
    torch = _torch()
    rows = degenerate_comparison(more={PYTORCH: _through(torch)} if torch else None)
    if not torch:
        rows += [MedianError(*key, PYTORCH, math.nan) for key in dict.fromkeys((row.batch, row.dtype) for row in rows)]
    allowed = {"float64": bound(WHITENING, 1), "float32": 64 * float(np.finfo("float32").eps)}
    held = REGISTRY[WHITENING].default
    return [Degenerate(row.batch, row.dtype, row.method, None if row.method == PYTORCH and not torch else row.error,
                       allowed[row.dtype] if row.method == held else None) for row in rows if row.dtype in dtypes]


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def _through(torch: Any) -> Callable[[Any, Any, float], Any]:
    """The gradient that PyTorch derives from dbn's forward pass, eqs 1-6."""
    def gradient(x: Any, g: Any, eps: float) -> Any:
        variable = torch.tensor(x, requires_grad=True)
        xc = variable - variable.mean(0)
        lam, basis = torch.linalg.eigh(xc.T @ xc / len(x) + eps * torch.eye(x.shape[1], dtype=variable.dtype))
        y = ((xc @ basis) / lam.sqrt()) @ basis.T
        return torch.autograd.grad(y, variable, torch.tensor(g))[0].numpy()
    return gradient


# -- for a person ------------------------------------------------------------------------------------------------------

HEAD = ("layer", "derivation", "order 1", "order 2", "float32", "quotient", "time", "kept", "verdict",
        "closest to its bound")
CELLS = "{:23} {:10}  {:>7}  {:>7}  {:>7}  {:>8}  {:>6} {:>6}  {:9}  {}"
CASE_HEAD = ("case", "dtype", "order 1", "of bound", "quotient", "order 2", "of bound", "quotient", "verdict")
CASE_CELLS = "  {:38} {:8} {:>8} {:>8}  {:8} {:>8} {:>8}  {:8}  {}"
LEGEND = """\
order 1, 2   worst relative error of derived against composed in float64, over all cases, at random cotangents
float32      worst error of all orders in units of what rounding allows; more than 1 is too much
quotient     worst error against central differences, where these are sharp enough to tell
time, kept   composed / derived: forward + backward, and bytes kept by the tape, at a mid-size input, in {dtype}
*            not held to the bound in some cases, for the reason below
"""


def _number(x: float | None, form: str = ".1e") -> str:
    return "–" if x is None else "NaN" if math.isnan(x) else "∞" if math.isinf(x) else format(x, form)


def _line(text: str) -> str:
    text = text.rstrip()
    return text if len(text) <= WIDTH else text[:WIDTH - 1] + "…"


def _note(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _worst(values: Sequence[float]) -> str:
    return _number(worst(values)) if values else "–"


def _verdict(found: Sequence[Finding]) -> str:
    if not all(f.agrees for f in found):
        return "DISAGREE"
    return "agree*" if any(f.not_held for f in found) else "agree"


def row(found: Sequence[Finding], costs: Cost) -> str:
    """One derivation as one line of the table, and lines below it for what is not held, or wrong."""
    held = [f for f in found if not f.not_held]
    double, single = ([f for f in held if f.dtype == dtype] for dtype in ("float64", "float32"))
    told = [f for f in double or single if f.quotient in ("right", "wrong")]
    wrong = any(f.quotient == "wrong" for f in held)
    closest = max(held, key=lambda f: math.inf if math.isnan(f.of_bound) else f.of_bound, default=None)
    lines = [_line(CELLS.format(
        costs.layer, costs.derivation,
        *(_worst([f.error for f in double if f.order == order]) for order in (1, 2)),
        _number(worst([f.of_bound for f in single]), ".2f") if single else "–",
        "WRONG" if wrong else _worst([f.quotient_error for f in told]),
        _number(costs.time_ratio, ".1f"), _number(costs.kept_ratio, ".1f"),
        _verdict(found), closest.case if closest else ""))]
    for why in dict.fromkeys(f.not_held for f in found if f.not_held):
        cases = list(dict.fromkeys(f.case for f in found if f.not_held == why))
        lines += _note(f"* {why}: not held in {len(cases)} case{'s' if len(cases) > 1 else ''} ({'; '.join(cases)})")
    bad = [f for f in found if not f.agrees]
    for f in bad[:4]:
        lines += _note(f"! {f.case}, {f.dtype}, order {f.order}: error {_number(f.error)}, {_number(f.of_bound)} "
                       f"of its bound, quotient {f.quotient} {f.reason}")
    if len(bad) > 4:
        lines.append(f"  ! and {len(bad) - 4} more: --cases shows them")
    return "\n".join(lines)


def case_rows(found: Sequence[Finding]) -> str:
    """One derivation with a line for each case and dtype."""
    lines = []
    for dtype, case in dict.fromkeys((f.dtype, f.case) for f in found):
        both = [f for f in found if (f.dtype, f.case) == (dtype, case)]
        cells: list[str] = []
        for order in (1, 2):
            f = next((f for f in both if f.order == order), None)
            verdict = "–" if f is None or f.quotient == "none" else f.quotient
            error, of_bound = (f.error, f.of_bound) if f else (None, None)
            cells += [_number(error), _number(of_bound, ".2g"), verdict]
        verdict = "not held*" if any(f.not_held for f in both) else _verdict(both)
        lines.append(_line(CASE_CELLS.format(case[:38], dtype, *cells, verdict)))
    for why in dict.fromkeys(f.not_held for f in found if f.not_held):
        lines += _note(f"* not held: {why}")
    for f in found:
        if not f.agrees and f.reason:
            lines += _note(f"! {f.case}, {f.dtype}, order {f.order}: {f.reason}")
    return "\n".join(lines)


def degenerate_table(rows: Sequence[Degenerate]) -> str:
    """The methods side by side, one line for each batch and dtype."""
    widths = {method: max(9, len(method) + 2) for method in dict.fromkeys(r.method for r in rows)}
    lines = [f"{WHITENING} where eigenvalues meet: relative error of dx, median of some batches",
             _line(f"  {'batch':24}{'dtype':9}" + "".join(f"{method:{width}}" for method, width in widths.items()))]
    for batch, dtype in dict.fromkeys((r.batch, r.dtype) for r in rows):
        errors = {r.method: r for r in rows if (r.batch, r.dtype) == (batch, dtype)}
        words = {m: "no torch" if r.error is None else _number(r.error) for m, r in errors.items()}
        cells = "".join(f"{words[m]:{width}}" for m, width in widths.items())
        verdict = "" if all(r.agrees for r in errors.values()) else "DISAGREE"
        lines.append(_line(f"  {batch:24}{dtype:9}{cells}{verdict}"))
    if any(r.error is None for r in rows):
        lines.append("  no torch: torch is not installed")
    return "\n".join(lines)


# -- for a program -----------------------------------------------------------------------------------------------------


def _plain(record: Finding | Cost | Degenerate) -> dict[str, Any]:
    """A record for JSON, which knows neither NaN nor infinity: null, as for "no number"."""
    if isinstance(record, Cost):
        more: dict[str, Any] = {"time_ratio": record.time_ratio, "kept_ratio": record.kept_ratio}
    else:
        more = {"agrees": record.agrees}
    values = {**asdict(record), **more}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; 1 if anything disagrees."""
    parser = argparse.ArgumentParser(prog="python -m layers.report",
                                     description="Composed, derived and central differences of every layer.")
    add = parser.add_argument
    add("--layer", action="append", choices=sorted(REGISTRY), metavar="NAME", help="only this layer; may be repeated")
    add("--derivation", metavar="NAME", help="only the derivation of this name")
    add("--dtype", choices=("float32", "float64"), help="only this dtype (default: both)")
    add("--order", type=int, choices=(1, 2), help="only first, or only second derivatives (default: both)")
    add("--backend", default="numpy", help="where the layers run (default: numpy); comparisons are made on the host")
    add("--cases", action="store_true", help="a line for each case")
    add("--json", action="store_true", help="all numbers, for programs")
    options = parser.parse_args(arguments)
    chosen = [layer for layer in REGISTRY.values() if not options.layer or layer.name in options.layer]
    pairs = [(layer, d) for layer in chosen for d in layer.derived if options.derivation in (None, d)]
    if not pairs:
        there = sorted({d for layer in chosen for d in layer.derived})
        parser.error(f"no derivation {options.derivation!r} there: {there}")
    try:
        backend.get(options.backend)
    except BackendError as e:
        parser.error(str(e))
    mg.tune_process()
    dtypes = [options.dtype] if options.dtype else ["float64", "float32"]
    orders = [options.order] if options.order else [1, 2]
    say = print if not options.json else lambda *_: None
    say(LEGEND.format(dtype=dtypes[-1]) if not options.cases else "of bound: error / what is allowed; 1 is too much\n")
    say(_line(CASE_CELLS.format(*CASE_HEAD) if options.cases else CELLS.format(*HEAD)))
    everything: list[Finding] = []
    costs: list[Cost] = []
    for layer, derivation in pairs:
        found = list(findings(layer, derivation, dtypes, orders, options.backend))
        costs.append(cost(layer, derivation, dtypes[-1], options.backend))
        everything += found
        say(f"{layer.name}, {derivation}\n{case_rows(found)}" if options.cases else row(found, costs[-1]))
        sys.stdout.flush()
    rows = degenerate(dtypes) if REGISTRY[WHITENING] in chosen else []
    if rows:
        say(f"\n{degenerate_table(rows)}")
    wrong = sum(not f.agrees for f in everything) + sum(not r.agrees for r in rows)
    say(f"\nderivations: {len(pairs)}, comparisons: {len(everything)}, {f'{wrong} DISAGREE' if wrong else 'all agree'}")
    if options.json:
        print(json.dumps({"agree": not wrong, "minigrad": mg.__version__, "findings": list(map(_plain, everything)),
                          "costs": list(map(_plain, costs)), "degenerate": list(map(_plain, rows))}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    run_command(main)
