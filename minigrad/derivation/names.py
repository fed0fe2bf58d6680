"""Names that people write and that a task does not have: which of its own is meant.

Other courses and libraries call the cotangent ``dout``, an adjoint ``dx``, a size ``N``, and a whole backward ``batchnorm_backward(dout, cache)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..core.backend import np
from .probe import Probe
from .task import LineSpec, Task, nearest

COTANGENTS = ("dy", "dout", "d_out", "grad_output", "grad_outputs", "grad_out", "grad", "g", "dO", "dY", "upstream", "upstream_grad", "dl_dy", "output_grad")
CACHES = ("cache", "ctx", "saved", "saved_tensors", "context")
# What is one thing under several names; sizes are told by their values.
SYNONYMS = (
    ("mu", "mean", "sample_mean", "batch_mean", "x_mean", "xmean", "avg"),
    ("var", "variance", "sample_var", "batch_var", "sigma2", "sigma_sq", "x_var", "xvar"),
    ("rstd", "inv_std", "invstd", "istd", "ivar", "inv_var", "invvar", "inv_sigma", "rsigma"),
    ("s", "std", "sigma", "sqrtvar", "stddev"),
    ("xhat", "x_hat", "x_norm", "xnorm", "x_normalized", "normalized"),
    ("xc", "xmu", "x_mu", "x_centered", "x_centred", "xcentered", "centered", "centred"),
    ("eps", "epsilon", "e"), ("gamma", "weight", "scale", "gain"), ("beta", "bias", "shift", "offset"), ("y", "out", "output"), ("x", "inp", "input", "X"))
OTHERS = "your file has"  # in the message on a line that is absent from a file with other functions


def meant(name: str, probe: Probe, known: Sequence[str]) -> str:
    """What a parameter that the task does not have is called here: "; here it is called 'd_y'", or the nearest name, or nothing.

    Args:
        name: the parameter.
        probe: has the values, keywords and sizes of the task.
        known: everything that a line may ask for.
    """
    if name in CACHES:
        return f"; there is no {name}: write each value that you need as an argument of its own, by its name"
    if name in COTANGENTS:
        return _called([f"d_{n}" for n in probe.outputs] or [f"d_{probe.output}"])
    stem = _adjoint(name, [n[2:] for n in known if n.startswith("d_")])
    if stem is not None:
        return _called([f"d_{stem}"])
    same = [n for n in _synonyms(name) if n in known]
    if same:
        return _called(same[:1])
    return _size(name, probe) or nearest(name, known)


def _called(names: Sequence[str]) -> str:
    return f"; here it is called {' and '.join(map(repr, names))}"


def _adjoint(name: str, values: Sequence[str]) -> str | None:
    """The value whose adjoint is meant by dx, d_X, grad_x, x_grad, dL_dx, dLdx, or by a synonym of it: dmean."""
    for pattern in (r"d_?L_?/?d_?(\w+)", r"d_?loss_?d_?(\w+)", r"grad_?(\w+)", r"d_?(\w+)", r"(\w+?)_?grad", r"(\w+?)_?bar"):
        if (found := re.fullmatch(pattern, name)) is not None:
            stem = found[1].strip("_")
            for n in (stem, stem.lower(), stem.replace("_", ""), *_synonyms(stem), *_synonyms(stem.lower())):
                if n in values:
                    return n
    return None


def _synonyms(name: str) -> list[str]:
    return [n for group in SYNONYMS if name in group for n in group if n != name]


def _size(name: str, probe: Probe) -> str:
    """The argument that counts what N, D, C, m or batch_size counts, or how to take it from a shape."""
    if not re.fullmatch(r"[A-Zmnkdbc]|[Nnm]um_?\w*|\w*_?(size|dim|len|count)|n_\w+|(?:height|width|channels|features|batch|groups?)", name):
        return ""
    counts = {n: int(v) for source in (probe.keywords, probe.given) for n, v in source.items()
              if isinstance(v, (int, np.integer)) and not isinstance(v, bool) and n != name}
    first = next((n for n, a in probe.arrays.items() if a.ndim), None)
    if first is None:
        return _called([*counts][:1]) if counts else ""
    rows = name in ("N", "n", "m", "M", "B", "b", "K", "batch", "batch_size", "num_samples")
    axis = 0 if rows or probe.arrays[first].ndim < 2 else 1
    size = probe.arrays[first].shape[axis]
    fitting = [n for n, v in counts.items() if v == size] or ([*counts] if len(counts) == 1 and rows else [])
    return _called(fitting[:1]) if fitting else f"; take it from a shape, {first}.shape[{axis}]"


def absent(line: str, functions: Mapping[str, Sequence[str]], text: str | None = None) -> str:
    """Why there is no line of this name, in the words of the file that was handed in.

    Args:
        line: its name, ``d_x``.
        functions: what the file has instead: parameters by the name of the function.
        text: the file's; functions that it imports are not its own.
    """
    if text is not None:
        functions = {n: f for n, f in functions.items() if re.search(rf"^(async )?def {re.escape(n)}\b", text, re.MULTILINE)}
    say = f"there is no function {line}"
    written = [n for n in functions if n.startswith("d_")]
    other = next((n for n in functions if n != line and n not in written and _adjoint(n, [line.removeprefix("d_")]) is not None), None)
    if other is not None:
        return f"{say}; {OTHERS} {other}: call it {line}"
    public = [n for n in functions if not n.startswith("_")]
    if written or not public:
        return say + nearest(line, written)
    shown = ", ".join(f"{n}({', '.join(functions[n])})" for n in public[:3]) + (", ..." if len(public) > 3 else "")
    return f"{say}; {OTHERS} {shown}: each line of the derivation is a function of its own"


def with_targets(task: Task) -> Task:
    """A task whose lines ``d_x_one_line`` and ``d_x_2`` are about the value x: the longest name of a value that a line's name begins with."""
    case = next(iter(task.cases(np.random.default_rng(0), "float64")), None)
    if case is None or all(not isinstance(spec, int) for spec in task.lines.values()):
        return task
    with np.errstate(all="ignore"):
        values = [*Probe(task, case, np.random.default_rng(0)).values]
    lines: dict[str, LineSpec | int] = {}
    for name, spec in task.lines.items():
        asked = name.removeprefix("d_")
        fits = [v for v in values if asked.startswith(f"{v}_")]
        lines[name] = LineSpec(target=max(fits, key=len), points=spec) if isinstance(spec, int) and fits and asked not in values else spec
    return replace(task, lines=lines)
