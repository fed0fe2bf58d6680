"""Somebody's lines beside a task: what each is given, and what came back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..core.backend import np
from .fixtures import RUNS, Run, filled, wanted
from .inside.worker import ArgumentError
from .names import absent
from .probe import Probe
from .report import shown
from .runner import LineRun, Runner
from .task import Task


class Attempt:
    """Line functions, run on the probes of a task.

    Args:
        runner: has the functions.
        task, probes: what fills their parameters.
    """

    def __init__(self, runner: Runner, task: Task, probes: Sequence[Probe]) -> None:
        self.runner, self.task, self.probes = runner, task, probes

    def run(self, name: str, indices: Sequence[int], runs: Sequence[Run] = RUNS) -> LineRun:
        """Call the line `name` on these probes; the results are a dict per probe, by run."""
        functions = self.runner.functions
        if name not in functions:
            text = self.runner.source(name)
            here = {n: [shown(p[0]) for p in f] for n, f in functions.items() if not isinstance(f, str)}
            return LineRun(failure="not implemented", message=shown(absent(name, here, text and text[0])))
        if isinstance(functions[name], str):
            return LineRun(failure="error", message=shown(f"{name} is {functions[name]}, not a function"))
        try:
            names = self.names(name)
            with np.errstate(all="ignore"):
                calls = [filled(self.probes[i], self.task.line(name), names, run) for i in indices for run in runs]
        except (ArgumentError, TypeError, ValueError) as e:
            return LineRun(failure="error", message=shown(str(e)))
        found = self.runner.run(name, calls)
        found.arguments = names
        n = len(runs)
        found.results = [dict(zip(runs, found.results[i:i + n], strict=True)) for i in range(0, len(found.results), n)] if found.failure is None else []
        return found

    def names(self, name: str) -> tuple[str, ...]:
        """The arguments that the line `name` is given."""
        return tuple(shown(str(n)) for n in wanted(self.runner.functions[name], self.probes[0]))

    def variants(self, name: str, sources: Sequence[tuple[str, int]], indices: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Run edited texts of a line, each on one of these probes in float64: (index of the text, result), where there is a result."""
        names = self.names(name)
        yield from self.runner.variants(name, sources, [filled(self.probes[i], self.task.line(name), names) for i in indices])
