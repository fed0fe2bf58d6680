"""Is a task written as it was meant? What can be told from the task alone, before anything is computed; `examine` runs it as well.

`load_task` and `check` refuse a task with a mistake in it, so that no student is judged by it, or blamed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import error
from .task import LineSpec, Task, TaskError, nearest

if TYPE_CHECKING:
    from .probe import Probe


def wrong(task: Task, got: str, needs: str, fix: str) -> TaskError:
    """The error for a mistake in a task."""
    return error(TaskError, f"task {task.name}", got=got, needs=needs, fix=fix)


def validate(task: Task) -> None:
    """Refuse a task whose parts do not fit together. Nothing is run.

    Raises:
        TaskError: the first mistake; it names the task, what is wrong, and how to mend it.
    """
    for mistake in mistakes(task):
        raise mistake


def mistakes(task: Task) -> Iterator[TaskError]:
    """All mistakes that can be seen without running anything."""
    if not isinstance(task.name, str) or not task.name.strip():
        yield wrong(task, f"the name {task.name!r}", "the name of its folder", 'write Task("12_my_layer", ...)')
    for part in ("forward", "cases"):
        if not callable(getattr(task, part)):
            yield wrong(task, f"{part} that is {_a(getattr(task, part))}", "a function",
                        f"pass the function itself: Task(name, forward, cases, ...), not {part}(...)")
    if not isinstance(task.lines, Mapping) or not task.lines:
        yield wrong(task, f"lines that are {_a(task.lines) if task.lines else 'empty'}", "at least one line with its points", 'write lines={"d_x": 2}')
        return
    broken = [part for part in ("given", "hints", "measured") if not isinstance(getattr(task, part), Mapping)]
    for part in broken:
        yield wrong(task, f"{part} that is {_a(getattr(task, part))}", "a mapping from names", f'write {part}={{"name": ...}}')
    if not broken:
        for name, line in task.lines.items():
            yield from _line(task, name, line)
        yield from _parts(task)


def _line(task: Task, name: Any, line: Any) -> Iterator[TaskError]:
    if not isinstance(name, str) or not name.isidentifier():
        yield wrong(task, f"the line {name!r}", "the name of a function",
                    f"call it d_x, or {str(name).replace(' ', '_')} without what Python does not allow in names")
        return
    if not isinstance(line, (int, float, LineSpec)):
        yield wrong(task, f"the line {name} with {_a(line)}", "its points, or a LineSpec", f'write "{name}": 2 or "{name}": LineSpec(points=2)')
        return
    points = line.points if isinstance(line, LineSpec) else line
    if isinstance(points, bool) or not isinstance(points, int) or points < 1:
        halves = isinstance(points, float) and points > 0
        yield wrong(task, f"{points!r} points for {name}", "a positive whole number",
                    "give 1 or more; for half points double all others" if halves else "give 1 or more, or take the line out of `lines`")
    if name not in task.measured and (not name.startswith("d_") or name == "d_"):
        yield wrong(task, f"the line {name}, whose name does not say of what it is the derivative", "d_<name of a value>",
                    f"call it d_{name.removeprefix('d_') or 'x'}; or, if it predicts a number, say in measured={{{name!r}: ...}} how that is measured")
    if not isinstance(line, LineSpec):
        return
    if line.target is not None and (not isinstance(line.target, str) or line.target.startswith("d_")):
        bare = str(line.target).removeprefix("d_")
        yield wrong(task, f"the target {line.target!r} of {name}", "the name of a value, without d_", f"write target={bare!r}")
    if isinstance(line.adjoints, str) or (line.adjoints is not None and not isinstance(line.adjoints, Sequence)):
        yield wrong(task, f"adjoints={line.adjoints!r} of {name}", "a tuple of names",
                    f"write adjoints=({str(line.adjoints).removeprefix('d_')!r},), with the comma")
    elif line.adjoints is not None:
        for adjoint in line.adjoints:
            if not isinstance(adjoint, str) or adjoint.startswith("d_"):
                yield wrong(task, f"{adjoint!r} among the adjoints of {name}", "names of values, without d_", f"write {str(adjoint).removeprefix('d_')!r}")
    yield from _hints(task, name, line.hints)


def _parts(task: Task) -> Iterator[TaskError]:
    for name, hints in task.hints.items():
        if name not in task.lines:
            yield wrong(task, f"hints for {name!r}, which is no line{nearest(str(name), task.lines)}", f"hints for {', '.join(task.lines)}",
                        "correct the name, or take them out")
        yield from _hints(task, name, hints)
    for name, f in task.measured.items():
        if name not in task.lines:
            yield wrong(task, f"a measurement of {name!r}, which is no line{nearest(str(name), task.lines)}", f"one of {', '.join(task.lines)}",
                        "correct the name, or give the line points")
        yield from _function(task, "measured", name, f)
    for name, f in task.given.items():
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("d_"):
            yield wrong(task, f"given[{name!r}]", "the name of an argument, not that of a derivative",
                        "call it m, for example: derivatives are given by the tape")
        yield from _function(task, "given", name, f)


def _function(task: Task, part: str, name: Any, f: Any) -> Iterator[TaskError]:
    if not callable(f):
        yield wrong(task, f"{part}[{name!r}] that is {_a(f)}", "a function of all values", f"write {part}={{{name!r}: lambda values: ...}}")


def _hints(task: Task, name: Any, hints: Any) -> Iterator[TaskError]:
    if isinstance(hints, str) or not isinstance(hints, Sequence) or not all(isinstance(h, str) for h in hints):
        yield wrong(task, f"hints for {name} that are {_a(hints)}", "a list of texts, from weak to strong", f'write "{name}": ["weak", "strong"]')


def _a(value: Any) -> str:
    if value is None or isinstance(value, str):
        return "None" if value is None else f"the text {value!r}"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}: {value!r}"[:80]


def fill_given(task: Task, probes: Sequence[Probe]) -> None:
    """Compute what the task gives beside the values: a mistake there is the task's, not that of the line that asks for it.

    Raises:
        TaskError: a function of `Task.given` raises an error.
    """
    for probe in probes:
        everything = {**probe.values, **probe.keywords}
        for name, f in task.given.items():
            run(task, f"given[{name!r}]", lambda f=f, values=everything: f(values), f"values has: {', '.join(everything)}")  # type: ignore[misc]


def run(task: Task, what: str, f: Callable[[], Any], fix: str) -> Any:
    """What a function of the task returns; an error in it becomes the task's.

    Raises:
        TaskError: it raised one.
    """
    try:
        return f()
    except TaskError:
        raise
    except Exception as e:  # whatever an author's code raises
        raise wrong(task, f"{what} that raises {type(e).__name__}: {e}", "a function that runs on every case", fix) from e
