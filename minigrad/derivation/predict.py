"""Lines that predict a number instead of deriving: what a backward keeps, how often memory is read. The number is measured, never written down.

A task says how in `Task.measured`. A prediction is judged by its value in every case; where it is off by whole multiples of
its own arguments, the report says so: "one x_bytes too few".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from numbers import Real
from typing import Any

from ..core.errors import error
from .probe import Probe
from .report import LineReport
from .runner import LineRun
from .task import Task, TaskError

CODE = "miscounted"
MOST = 4  # multiples of an argument that are looked for


def measured(task: Task, name: str, probe: Probe) -> float:
    """What the line `name` should have predicted for this probe.

    Raises:
        TaskError: the task measures something that is no number.
    """
    found = task.measured[name]({**probe.values, **probe.keywords, **probe.given})
    if isinstance(found, bool) or not isinstance(found, Real) or not math.isfinite(found):
        raise error(TaskError, f"task {task.name}", got=f"a measurement of {name} that is {found!r}", needs="a finite number", fix="return an int or a float")
    return float(found)


def judged(report: LineReport, task: Task, outcome: LineRun, probes: Sequence[Probe], cases: Sequence[str]) -> LineReport:
    """The verdict on a prediction, from its results in float64."""
    found, right = [], [measured(task, report.line, probe) for probe in probes]
    for results, case in zip(outcome.results, cases, strict=True):
        a = results["float64", 0]
        if getattr(a, "shape", ()) != ():
            report.verdict, report.code, report.case = "wrong shape", "wrong shape", case
            report.message = f"it has the shape {a.shape}; needed: one number"
            return report
        found.append(float(a))
    wrong = [k for k, (a, b) in enumerate(zip(found, right, strict=True)) if not a == b]  # NaN, too
    if wrong:
        k = wrong[0]
        report.verdict, report.code, report.case = "wrong", CODE, cases[k]
        given = [{n: probe.given[n] for n in outcome.arguments if n in probe.given} for probe in probes]
        report.error, report.message = abs(found[k] - right[k]), f"predicted {found[k]:,.10g}, measured {right[k]:,.10g}{explained(found, right, given)}"
    return report


def explained(found: Sequence[float], right: Sequence[float], given: Sequence[Mapping[str, Any]]) -> str:
    """By which whole multiples of its arguments a prediction is off in every case, in words; or nothing."""
    names = [n for n in (given[0] if given else {}) if all(isinstance(g[n], Real) and g[n] for g in given)]
    for many in sorted(product(range(-MOST, MOST + 1), repeat=len(names)), key=lambda ks: sum(map(abs, ks))):
        if any(many) and all(a - b == sum(k * g[n] for k, n in zip(many, names, strict=True)) for a, b, g in zip(found, right, given, strict=True)):
            return ": " + ", ".join(f"{abs(k)} · {n} too {'many' if k > 0 else 'few'}" for k, n in zip(many, names, strict=True) if k)
    return ""
