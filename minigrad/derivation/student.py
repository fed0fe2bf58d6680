"""Running a student's lines: the file is loaded once, in its own process, and each line runs in a fork of that process.

So no loop, crash or allocation of a line reaches the checker or another line, and a slow import at the top of the file takes
no line's time. Functions that are in memory already run in forks of this process. Where a system cannot fork, everything runs
in this process without limits.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import linecache
import os
import sys
import tokenize
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.backend import Array, np
from ..core.tensor import Tensor
from .child import CAN_FORK, Answer, Child, Limits, Send, in_child
from .names import absent, meant
from .probe import Probe
from .report import shown
from .task import LineSpec, Task, judging

Run = tuple[str, int]  # dtype of the arguments; 0, or the number of the way in which they are moved
RUNS: tuple[Run, ...] = (("float64", 0), ("float32", 0))
MOVES, PART = 4, 1 / 32  # ways to move arguments, and how far: up to this part of each value


@dataclass
class LineRun:
    """What a line did: its arguments, a result for each probe and run, or a failure."""

    arguments: tuple[str, ...] = ()
    results: list[dict[Run, Any]] = field(default_factory=list)  # a dict per probe
    failure: str | None = None  # "not implemented", "error", "stopped"
    message: str = ""
    at: dict[str, Any] | None = None
    printed: str = ""


class ArgumentError(Exception):
    """A parameter of a line function that cannot be filled."""


def arguments(f: Callable[..., Any], probe: Probe) -> tuple[str, ...]:
    """The names of the parameters that the task fills: those without a default, and those that it knows."""
    kinds = inspect.Parameter
    found = inspect.signature(f).parameters.values()
    odd = [p.name for p in found if p.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD, kinds.POSITIONAL_ONLY)]
    if odd:
        raise ArgumentError(f"the parameter {odd[0]!r} has no name to look up: write each argument by its name")
    return tuple(p.name for p in found if p.default is p.empty or knows(probe, p.name))


def knows(probe: Probe, name: str) -> bool:
    """Whether the task has something of this name."""
    return (name.startswith("d_") and name[2:] in probe.lines) or any(name in source for source in (probe.given, probe.values, probe.keywords))


def fixture(probe: Probe, line: LineSpec, name: str) -> Any:
    """The value of the argument `name` of a line function."""
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


# -- in the child -------------------------------------------------------------------------------------------------------


def call(f: Callable[..., Any], probe: Probe, line: LineSpec, run: Run = RUNS[0]) -> Any:
    """The line's result with the arguments that it asks for: floats in the dtype of the run, everything else as the task has it."""
    dtype, way = run
    rng = np.random.default_rng(way)

    def cast(a: Any) -> Any:
        if not isinstance(a, (np.ndarray, np.floating)):
            return a
        if a.dtype.kind != "f":
            return a.copy()
        moved = a * (1 + PART * rng.uniform(-1, 1, a.shape)) if way else a
        return np.array(moved, dtype) if isinstance(a, np.ndarray) else np.dtype(dtype).type(moved)
    given = {n: cast(fixture(probe, line, n)) for n in arguments(f, probe)}
    before = {n: a.copy() for n, a in given.items() if isinstance(a, np.ndarray)}
    result = f(**given)
    for n, a in before.items():
        if not np.array_equal(a, given[n], equal_nan=a.dtype.kind == "f"):
            raise ArgumentError(f"the line changes its argument {n} in place; others use it too: write {n} = {n} * ... rather than {n} *= ...")
    return result


def _describe(result: Any) -> tuple[dict[str, Any], bytes]:
    a = np.asarray(result) if isinstance(result, (np.ndarray, np.generic, float, int)) else None
    if a is None or a.dtype.kind not in "fiub":
        what = "nothing (is a return missing?)" if result is None else f"a {type(result).__name__}" if a is None else f"an array of {a.dtype}"
        return {"kind": "other", "text": f"it returned {what}; needed: one array of real numbers"}, b""
    a = np.ascontiguousarray(a).reshape(a.shape)
    return {"kind": "array", "dtype": a.dtype.str, "shape": list(a.shape), "bytes": a.nbytes,
            "number": not isinstance(result, np.ndarray) and not isinstance(result, np.generic)}, a.tobytes()


def _place(e: BaseException, file: str | None) -> dict[str, Any] | None:
    """Where in the student's code an exception came from: the innermost frame outside of libraries."""
    frames = traceback.extract_tb(e.__traceback__)
    library = str(Path(__file__).resolve().parents[1])
    mine = [f for f in frames if (f.filename == file if file is not None else not f.filename.startswith(library) and "site-packages" not in f.filename)]
    if isinstance(e, SyntaxError) and e.filename == file:
        return {"file": e.filename, "line": e.lineno, "source": (e.text or "").strip()}
    if not mine:
        return None
    return {"file": mine[-1].filename, "line": mine[-1].lineno, "source": (mine[-1].line or "").strip()}


def _shown(at: dict[str, Any] | None) -> dict[str, Any] | None:
    return at and {**at, "source": shown(str(at["source"]))}


def source_of(file: str) -> str:
    """The text of a Python file, in the encoding that Python would read it in.

    Raises:
        SyntaxError, UnicodeDecodeError: it is none.
    """
    with tokenize.open(file) as f:
        return f.read()


def syntax_of(file: str) -> dict[str, Any] | None:
    """None if the file can be compiled, else where and why not."""
    try:
        text = source_of(file)
    except (SyntaxError, UnicodeDecodeError) as e:
        return {"file": file, "line": None, "source": "", "text": shown(f"not a text file in UTF-8, nor in an encoding that its first line names ({e})")}
    try:
        compile(text, file, "exec")
    except SyntaxError as e:
        return {"file": file, "line": e.lineno, "source": shown((e.text or "").strip()), "text": shown(str(e.msg))}
    except (ValueError, RecursionError, MemoryError) as e:
        return {"file": file, "line": None, "source": "", "text": shown(f"Python cannot read it ({type(e).__name__}: {e})")}
    return None


def namespace(file: str) -> dict[str, Any]:
    """Run a student's file, as an import would, and return its names."""
    path, text = Path(file), source_of(file)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.resolve().parent))
    linecache.cache[file] = len(text), None, text.splitlines(True), file  # the lines that run, whatever becomes of the file
    try:
        exec(compile(text, file, "exec"), vars(module))
    except SystemExit as e:
        if e.code:
            raise
    return vars(module)  # sys.exit() at its end says that all went well


def functions(given: Any) -> Mapping[str, Any]:
    """Names of line functions: from a mapping, a module, a list of functions, or a namespace."""
    if isinstance(given, Mapping):
        return given
    if isinstance(given, (list, tuple)):
        return {f.__name__: f for f in given}
    if callable(given) and hasattr(given, "__name__"):
        return {given.__name__: given}
    return vars(given)


# -- orders -------------------------------------------------------------------------------------------------------------

Work = Callable[["LineFunctions", Mapping[str, Any], Mapping[str, Any], Send], None]  # submission, names, order, send
WORK: dict[str, Work] = {}  # what a child can be asked to do


class LineFunctions:
    """Line functions, and the processes that run them.

    Args:
        source: a file's path, or a mapping of names.
        task, probes: what the lines are run on.
    """

    def __init__(self, source: str | Mapping[str, Any], task: Task, probes: Sequence[Probe], limits: Limits) -> None:
        self.source, self.task, self.probes, self.limits = source, task, probes, limits
        self.file = source if isinstance(source, str) else None
        self.text = source_of(self.file) if self.file is not None else None
        self.printed = ""  # by the file itself
        self.failure: tuple[str, str, dict[str, Any] | None] | None = None  # why the file cannot be loaded: status, text, place
        self._host: Child | None = None
        self._names: Mapping[str, Any] = {} if isinstance(source, str) else source
        if self.file is not None:
            self._load()

    def __enter__(self) -> LineFunctions:
        return self

    def __exit__(self, *_: object) -> None:
        if self._host is not None:
            self._host.close()

    def ask(self, do: str, **order: Any) -> Answer:
        """What ``WORK[do]`` answers to the order (plain data), in a new process."""
        order["do"] = do
        if not CAN_FORK:
            messages: list[Any] = []
            with contextlib.redirect_stdout(sys.stderr):
                self._work(order, lambda head, body: messages.append((head, body)))
            return Answer(messages, "", None)
        if self.file is None:
            return in_child(lambda send: self._work(order, send), self.limits)
        if self._host is not None and not self._host.alive:  # a line has ended it, or it ended itself
            self._load()
        if self._host is None:
            assert self.failure is not None
            return Answer([], "", self.failure[1])
        self._host.ask(order)
        heard = self._host.listen(self.limits.seconds + 30.0, ("done",))
        if heard.ended is not None:
            return heard
        done = heard.messages[-1][0]
        return Answer(heard.messages[:-1], str(done["printed"]), done["ended"])

    def _load(self) -> None:
        """Run the file, in a process that then waits for orders."""
        assert self.file is not None
        if not CAN_FORK:
            answers: list[Any] = []
            with contextlib.redirect_stdout(sys.stderr):
                self._names = self._loaded(lambda head, body: answers.append((head, body))) or {}
            said = Answer(answers, "", None)
        else:
            self._host = Child(self._serve, max(self.limits.loading, self.limits.seconds), self.limits.megabytes, final=False)
            said = self._host.listen(self.limits.loading, ("loaded", "error", "stopped"))
        self.printed = shown(said.printed, keep="\n\t", most=4000)
        head: dict[str, Any] = said.messages[-1][0] if said.messages and said.ended is None else {"kind": "stopped", "text": said.ended}
        if head["kind"] != "loaded":
            self.failure = "import error" if head["kind"] == "error" else "stopped", shown(str(head["text"])), _shown(head.get("at"))
            if self._host is not None:
                self._host.close()
                self._host = None

    def _loaded(self, send: Send) -> dict[str, Any] | None:
        assert self.file is not None
        try:
            with judging():
                names = namespace(self.file)
        except MemoryError:
            send({"kind": "stopped", "text": "it asked for more memory than a line may use"}, b"")
        except BaseException as e:  # whatever a student's code raises, also SystemExit and KeyboardInterrupt
            send({"kind": "error", "text": f"{type(e).__name__}: {e}", "at": _place(e, self.file)}, b"")
        else:
            send({"kind": "loaded"}, b"")
            return names
        return None

    def _serve(self, send: Send, orders: Any) -> None:
        """The host's side: load the file, then a fork for each order."""
        names = self._loaded(send)
        if names is None:
            return
        self._names = names
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        for order in orders:
            answer = in_child(partial(self._work, json.loads(order)), self.limits)
            for message in answer.messages:
                send(*message)
            send({"kind": "done", "printed": answer.printed, "ended": answer.ended}, b"")

    def _work(self, order: Mapping[str, Any], send: Send) -> None:
        with judging():
            WORK[order["do"]](self, self._names, order, send)


def _run(submission: LineFunctions, names: Mapping[str, Any], order: Mapping[str, Any], send: Send) -> None:
    """In the child: call a line on all probes."""
    name, probes = order["name"], [submission.probes[i] for i in order["probes"]]
    line = submission.task.line(name)
    try:
        f = names.get(name)
        if f is None:
            send({"kind": "missing", "text": absent(name, {n: list(inspect.signature(v).parameters) for n, v in names.items() if inspect.isfunction(v)},
                                                           submission.text)}, b"")
            return
        if not callable(f):
            raise ArgumentError(f"{name} is a {type(f).__name__}, not a function")
        send({"kind": "arguments", "names": arguments(f, submission.probes[0])}, b"")
        with np.errstate(all="ignore"):
            for probe in probes:
                for run in order["runs"]:
                    send(*_describe(call(f, probe, line, tuple(run))))
    except NotImplementedError as e:
        send({"kind": "missing", "text": str(e) or f"{name} is not written yet"}, b"")
    except MemoryError:
        send({"kind": "stopped", "text": "it asked for more memory than a line may use"}, b"")
    except ArgumentError as e:
        send({"kind": "error", "text": str(e)}, b"")
    except BaseException as e:  # whatever a student's code raises, also SystemExit and KeyboardInterrupt
        send({"kind": "error", "text": f"{type(e).__name__}: {e}", "at": _place(e, submission.file)}, b"")


WORK["run"] = _run


def run(submission: LineFunctions, name: str, probes: Sequence[int], runs: Sequence[Run] = RUNS) -> LineRun:
    """Call the line function `name` on these of the submission's probes."""
    messages, printed, ended = submission.ask("run", name=name, probes=list(probes), runs=list(runs))
    outcome = LineRun(printed=shown(printed, keep="\n\t", most=4000))
    flat: list[Any] = []
    for head, body in messages:
        kind = head.get("kind")
        if kind == "arguments":
            outcome.arguments = tuple(shown(str(n)) for n in head["names"])
        elif kind == "array":
            a = np.frombuffer(body, head["dtype"]).reshape(head["shape"])
            flat.append(float(a) if head["number"] and a.ndim == 0 else a)
        elif kind in ("missing", "other", "error", "stopped"):
            outcome.failure = {"missing": "not implemented", "other": "error"}.get(kind, kind)
            outcome.message, outcome.at = shown(str(head["text"])), _shown(head.get("at"))
            return outcome
    if ended is not None:
        outcome.failure, outcome.message = "stopped", ended
        return outcome
    n = len(runs)
    if len(flat) != n * len(probes):
        outcome.failure, outcome.message = "error", "its process wrote answers that were not asked for"
        return outcome
    outcome.results = [dict(zip(runs, flat[i:i + n], strict=True)) for i in range(0, len(flat), n)]
    return outcome


__all__ = ["Array", "Limits", "LineFunctions", "LineRun", "call", "fixture", "functions", "namespace", "run", "source_of", "syntax_of"]
