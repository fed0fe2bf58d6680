"""What a homework asks for: a composed function with named intermediate values, and the lines of its derivation."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.errors import error

Case = tuple[Mapping[str, Any], Mapping[str, Any]]  # arrays by argument name, keywords


class TaskError(ValueError):
    """The task itself is wrong, whatever a student writes: its author has to fix it."""


# -- a file that checks itself --------------------------------------------------------------------------------------------

_judging = False


@contextlib.contextmanager
def judging() -> Iterator[None]:
    """While a student's code runs. A file may end with a check of itself: in here it is quiet, or it would run forever."""
    global _judging
    before, _judging = _judging, True
    try:
        yield
    finally:
        _judging = before


def is_judged() -> bool:
    """Whether the code that asks is being judged."""
    return _judging


@dataclass(frozen=True)
class LineSpec:
    """One line function of a derivation, ``d_<something>``.

    Args:
        target: the value whose adjoint the line returns; None: what follows ``d_`` in its name.
        points: what it is worth.
        adjoints: the adjoints that it may use, by the names of their values; None: all further down the forward pass.
        hints: from weak to strong.
    """

    target: str | None = None
    points: int = 1
    adjoints: Sequence[str] | None = None
    hints: Sequence[str] = ()


Line = LineSpec  # its former name


@dataclass(frozen=True)
class Task:
    """A derivation to be done line by line.

    Args:
        name: of the homework.
        forward: composed function of minigrad, ``forward(*arrays, **keywords)``, that names its values with `named`.
        cases: ``cases(rng, dtype)`` yields (arrays by argument name, keywords): fresh random values, several shapes.
        lines: name of a line function -> `LineSpec` or its points, in the order of writing.
        given: further arguments for the lines: name -> function of all values by name, for example the number of elements.
        hints: name of a line -> hints, from weak to strong.
        source: document and equations.
        measured: for lines that predict a number instead of an adjoint: name of the line -> function of all values by name that measures it.
    """

    name: str
    forward: Callable[..., Any]
    cases: Callable[[Any, str], Iterator[Case]]
    lines: Mapping[str, LineSpec | int]
    given: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    hints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    source: str = ""
    measured: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)

    def line(self, name: str) -> LineSpec:
        """The line of this name, complete."""
        if name not in self.lines:
            raise error(KeyError, f"task {self.name}", got=f"no line {name!r}{nearest(name, self.lines)}", needs=f"one of {', '.join(self.lines)}",
                        fix="look at the list of lines above each stub")
        found = self.lines[name]
        if isinstance(found, int):
            found = LineSpec(points=found)
        return LineSpec(found.target or name.removeprefix("d_"), found.points, found.adjoints, tuple(found.hints) or tuple(self.hints.get(name, ())))


def nearest(name: str, names: Any) -> str:
    """'; did you mean ...?' or nothing."""
    close = difflib.get_close_matches(name, [str(n) for n in names], 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


# -- finding a homework -------------------------------------------------------------------------------------------------


def folders() -> list[Path]:
    """Where homework is looked for, in this order."""
    checkout = Path(__file__).resolve().parents[2]
    found = [Path("homework"), Path("lectures/homework"), checkout / "lectures" / "homework", checkout / "homework"]
    return [p for p in dict.fromkeys(found) if p.is_dir()]


def available() -> list[str]:
    """The names of all homework that can be found; none in a file that is being judged."""
    return [] if is_judged() else sorted({p.parent.name for folder in folders() for p in folder.glob("*/task.py")})


def load_task(name: str | os.PathLike[str]) -> Task:
    """The `TASK` of a homework: a folder's name, a path to its folder or to a ``task.py``, or a dotted module.

    In a file that is being judged, an empty task that `check` does not look at.

    Raises:
        FileNotFoundError: there is no such homework; the message lists what there is.
        TaskError: the task has a mistake in it, which the message names.
    """
    if is_judged():
        return Task(str(name), lambda: None, lambda rng, dtype: iter(()), {})
    path = Path(name)
    candidates = [path, path / "task.py", *(folder / name / "task.py" for folder in folders())]
    for candidate in candidates:
        if candidate.is_file() and candidate.suffix == ".py":
            return _task_in(_module_from(candidate), str(name))
    text = str(name)
    if all(part.isidentifier() for part in text.split(".")) and "." in text:
        try:
            return _task_in(importlib.import_module(text), text)
        except ModuleNotFoundError as e:
            if not f"{text}.".startswith(f"{e.name}."):  # the module is there, and misses something itself
                raise
    known = available()
    raise error(FileNotFoundError, "derivation", got=f"no homework {text!r}{nearest(text, known)}",
                needs="one of " + ", ".join(known) if known else "a folder homework/NAME with a task.py in it",
                fix="run it in the folder that holds homework/, or give the path to the homework's folder")


def _module_from(path: Path) -> ModuleType:
    name = f"minigrad_homework_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _task_in(module: ModuleType, name: str) -> Task:
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise error(TypeError, "derivation", got=f"{name} without a TASK", needs="TASK = minigrad.derivation.Task(...) in its task.py",
                    fix="see how a homework is written in docs/homework.md")
    from .validate import validate  # which needs Task

    validate(task)
    return task
