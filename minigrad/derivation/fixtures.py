"""What the parameters of a line are filled with: inputs, keywords and named values of the forward pass, adjoints further down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.backend import Array, np
from ..core.tensor import Tensor
from .inside.worker import ArgumentError
from .names import meant
from .probe import Probe
from .task import LineSpec

Run = tuple[str, int]  # dtype of the arguments; 0, or the number of the way in which they are moved
RUNS: tuple[Run, ...] = (("float64", 0), ("float32", 0))
MOVES, PART = 4, 1 / 32  # ways to move arguments, and how far: up to this part of each value


def wanted(parameters: Sequence[Sequence[Any]], probe: Probe) -> tuple[str, ...]:
    """The names of the parameters that the task fills: those without a default, and those that it knows.

    Args:
        parameters: (name, kind, whether there is a default) of each, as `inspect` has them.

    Raises:
        ArgumentError: one that has no name to look up.
    """
    odd = [name for name, kind, _ in parameters if kind in ("VAR_POSITIONAL", "VAR_KEYWORD", "POSITIONAL_ONLY")]
    if odd:
        raise ArgumentError(f"the parameter {odd[0]!r} has no name to look up: write each argument by its name")
    return tuple(name for name, _, default in parameters if not default or knows(probe, name))


def knows(probe: Probe, name: str) -> bool:
    """Whether the task has something of this name."""
    return (name.startswith("d_") and name[2:] in probe.lines) or any(name in source for source in (probe.given, probe.values, probe.keywords))


def fixture(probe: Probe, line: LineSpec, name: str) -> Any:
    """The value of the argument `name` of a line function.

    Raises:
        ArgumentError: there is none, or this line may not use it.
    """
    target = str(line.target)
    if name.startswith("d_") and name[2:] in probe.lines:
        value = name[2:]
        if target not in probe.lines:
            raise ArgumentError(f"{name} cannot be used: this line predicts a number, from sizes alone")
        below = probe.downstream(target)
        allowed = below if line.adjoints is None else set(line.adjoints)
        if value == target and target != probe.output:
            raise ArgumentError(f"{name} is what this line is to compute: start from adjoints further down, {_listed(allowed)}")
        if value not in allowed:
            why = f"is not computed from {target}" if value not in below else "is not given here"
            raise ArgumentError(f"{name} cannot be used: {value} {why}. Adjoints for this line: {_listed(allowed)}")
        return probe.adjoints[value]
    for source in (probe.given, probe.values, probe.keywords):
        if name in source:
            value = source[name]
            return value.numpy() if isinstance(value, Tensor) else value
    names = [*probe.values, *probe.keywords, *probe.given, *(f"d_{n}" for n in probe.adjoints)]
    raise ArgumentError(f"there is nothing called {name!r}{meant(name, probe, names)}. There are: {', '.join(sorted(names))}")


def _listed(names: Any) -> str:
    return ", ".join(f"d_{n}" for n in sorted(names)) or "none"


def filled(probe: Probe, line: LineSpec, names: Sequence[str], run: Run = RUNS[0]) -> dict[str, Any]:
    """The arguments of a line: floats in the dtype of the run, everything else as the task has it."""
    dtype, way = run
    rng = np.random.default_rng(way)

    def cast(a: Any) -> Any:
        if not isinstance(a, (np.ndarray, np.floating)) or a.dtype.kind != "f":
            return a
        moved = a * (1 + PART * rng.uniform(-1, 1, a.shape)) if way else a
        return np.array(moved, dtype) if isinstance(a, np.ndarray) else np.dtype(dtype).type(moved)
    return {n: cast(fixture(probe, line, n)) for n in names}


def answered(function: Any, args: Sequence[Any]) -> Array:
    """What a function among the arguments, such as a solver that the task lends, answers to a line."""
    with np.errstate(all="ignore"):
        found = function(*args)
    return np.asarray(found.numpy() if isinstance(found, Tensor) else found)
