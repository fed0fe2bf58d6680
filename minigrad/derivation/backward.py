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
from typing import Any

from ..core.backend import np
from ..core.errors import error
from .bounds import RIGHT
from .gradient import Gradient, bound_of, narrowest
from .inputs import in_order, on_host, own_cases
from .kernel import Kernel, KernelRun, run_kernel
from .probe import Probe, finite_at
from .report import LineReport, Report, shown
from .task import Task, is_judged


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
        report.lines.append(Gradient(n, runs, kernel).judged())
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
    cases = own_cases(host, keywords, lambda case: finite_at(task, case))
    with np.errstate(all="ignore"):
        for case in cases(rng, "float64"):
            probe = Probe(task, case, rng)
            probe.refuse_undefined([n for n in host if n in probe.adjoints], op="check_backward")
            yield probe


def _all_runs(kernel: Kernel, probes: Sequence[Probe], given: str) -> tuple[dict[str, list[KernelRun]], dict[str, tuple[str, Any]]]:
    """The backward in each dtype on all probes, and why it failed in a dtype."""
    runs: dict[str, list[KernelRun]] = {}
    failed: dict[str, tuple[str, Any]] = {}
    for dtype in dict.fromkeys(("float64", "float32", given)):
        try:
            runs[dtype] = [run_kernel(kernel, probe, dtype) for probe in probes]
        except Exception as e:  # whatever somebody else's code raises
            runs[dtype], failed[dtype] = [], (_said(e), _place(e))
    return runs, failed


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
            bound = RIGHT if narrowest(value) == "float64" else bound_of(run.probe, narrowest(value), value.value.size)
            if not off <= bound and line.verdict == "right":
                shape = f"it has the shape {value.value.shape}, and the composed forward {right.shape}"
                line.verdict, line.code, line.error, line.bound, line.case = "wrong", "forward", off, bound, run.probe.where
                line.message = shape if value.value.shape != right.shape else f"its forward is another function: it is off by {off:.2g} of the largest element"
        found.append(line)
    return found
