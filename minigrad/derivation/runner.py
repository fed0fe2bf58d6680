"""Running a student's lines: whoever judges hands over arrays and gets arrays back, or why there are none.

A file runs in a worker (workers.py), which has NumPy and nothing else: no task, no answers, no minigrad. It is loaded once, and each
line runs in a fork of it; where a system cannot fork, each line has a worker of its own. Functions that are in memory already, in a
notebook or a test, run in forks of this process, or in this process itself where it cannot fork: that is for practice, not for grades.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import tempfile
import textwrap
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.backend import Array, np
from ..files import remove_folder
from .child import CAN_FORK, Child, Limits
from .fixtures import answered
from .inside.absent import AbsentModules
from .inside.confine import CannotConfine
from .inside.messages import packed, unpacked
from .inside.worker import LoadedFile, decoded, failed, namespace, parameters, place, source_of
from .report import shown
from .task import judging
from .workers import Worker, can_start

Call = Mapping[str, Any]  # arguments by name


@dataclass
class LineRun:
    """What a line did: its arguments, a result per call, or a failure."""

    arguments: tuple[str, ...] = ()
    results: list[Any] = field(default_factory=list)
    failure: str | None = None  # "not implemented", "error", "stopped"
    message: str = ""
    at: dict[str, Any] | None = None
    printed: str = ""


@dataclass
class FileFailure:
    """Why a file cannot be used: the status of its report, words, and the place."""

    status: str
    message: str
    at: dict[str, Any] | None = None


class Runner(ABC):
    """Line functions of one submission."""

    file: str | None = None
    text: str | None = None               # of the file
    printed: str = ""                     # by the file itself
    failure: FileFailure | None = None
    sandbox: str = ""                     # "landlock", "bwrap", "none"; "" for functions in memory

    def __init__(self) -> None:
        self.functions: dict[str, Any] = {}   # name -> parameters, each (name, kind, has a default); or what it is instead of a function
        self.absent: list[str] = []           # modules that the file imports and that were not there
        self.refused: list[str] = []          # what it tried and must not do

    @abstractmethod
    def run(self, name: str, calls: Sequence[Call]) -> LineRun:
        """Call a function on each set of arguments."""

    @abstractmethod
    def variants(self, name: str, sources: Sequence[tuple[str, int]], calls: Sequence[Call]) -> Iterator[tuple[int, Array]]:
        """Run edited texts of a function, each on one of the calls; yields (index of the text, result) for those that return an array."""

    @abstractmethod
    def source(self, name: str) -> tuple[str, int] | None:
        """The text that holds the function, and the number of its first line less one; None if nobody has it."""

    @abstractmethod
    def close(self) -> None:
        """End everything that runs."""


# -- a file ----------------------------------------------------------------------------------------------------------------


class FileRunner(Runner):
    """The lines of a file, in a worker.

    Args:
        file: its path.
        limits: see `Limits`.
        sandbox: "auto" (Landlock where there is any), "landlock", "bwrap" or "none".
        folder: what the file may read besides: its own folder, by default.
        writable: whether it may write in there.
        fork: False: a worker for each line.

    Raises:
        CannotConfine: the sandbox that was asked for is not to be had here.
    """

    def __init__(self, file: str, limits: Limits, *, sandbox: str = "auto", folder: str | None = None, writable: bool = True, fork: bool = CAN_FORK) -> None:
        super().__init__()
        self.file = os.path.abspath(file)
        data = Path(file).read_bytes()
        self.text, self.limits, self.fork = decoded(data), limits, fork
        self._scratch = tempfile.mkdtemp(prefix="derivation-")
        folder = os.path.realpath(folder or os.path.dirname(self.file))
        self._ends = time.monotonic() + limits.total if limits.total is not None else float("inf")
        self._data, self._order = data, {
            "file": os.path.join(folder, os.path.relpath(os.path.realpath(self.file), folder)), "folder": folder, "writable": writable,
            "scratch": os.path.realpath(self._scratch), "sandbox": sandbox, "fork": fork, "megabytes": limits.megabytes, "seconds": limits.seconds,
            "loading": limits.loading}
        self._worker: Worker | None = None
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _seconds(self, most: float) -> float:
        return max(0.01, min(most, self._ends - time.monotonic()))

    def _load(self) -> None:
        """Start a worker with the file in it."""
        if time.monotonic() >= self._ends:
            self.failure = FileFailure("stopped", f"not finished after {self.limits.total:g} seconds")
            return
        self._worker = Worker(self._order, self._data, [self._scratch, str(self._order["folder"])] if self._order["writable"] else [self._scratch])
        messages, early, ended = self._worker.listen(self._seconds(self.limits.loading), ("confined",))
        if ended is not None:  # it has not seen a line of the student yet
            raise CannotConfine(f"a worker cannot be started with the sandbox {self._order['sandbox']!r}: {early.strip().splitlines()[-1:] or [ended]}")
        self._worker.apart = bool(messages[-1][0].get("apart"))
        self._note(messages)
        messages, printed, ended = self._worker.listen(self._seconds(self.limits.loading), ("loaded", "error", "stopped"))
        self._note(messages)
        self.printed = shown(early + printed, keep="\n\t", most=4000)  # the file may print before this side has heard that it runs
        head = messages[-1][0] if messages and ended is None else {"kind": "stopped", "text": ended}
        if head["kind"] == "loaded":
            functions, absent = head.get("functions"), head.get("absent")
            self.functions = {shown(str(n)): known(v) for n, v in functions.items()} if isinstance(functions, dict) else {}
            self.absent = [shown(str(n)) for n in absent][:20] if isinstance(absent, list) else []
            return
        self.failure = FileFailure("import error" if head["kind"] == "error" else "stopped", shown(str(head.get("text"))), place_of(head))
        self._worker.close()
        self._worker = None

    def _note(self, messages: Sequence[tuple[dict[str, Any], bytes]]) -> None:
        for head, _ in messages:
            if head.get("kind") == "refused" and len(self.refused) < 100:
                text = shown(str(head.get("text"))).replace(str(self._order["folder"]) + os.sep, "")
                self.refused += [text] if text not in self.refused else []
            elif head.get("kind") == "confined" and not self.sandbox:
                self.sandbox = str(head.get("name"))

    def _ask(self, order: dict[str, Any], calls: Sequence[Call]) -> tuple[list[Any], str, str | None]:
        """The messages that answer an order, what was printed meanwhile, and why it ended early."""
        if self._worker is None or not self._worker.alive or not self.fork:
            functions, printed = self.functions, self.printed
            self.close_worker()
            self._load()
            self.functions, self.printed = functions or self.functions, printed
            if self._worker is None:
                failure, self.failure = self.failure, None
                return [], "", failure.message if failure is not None else "the file cannot be loaded a second time"
        plain, arrays, served = encoded(calls)
        heads, body = packed(arrays)
        seconds = self._seconds(self.limits.seconds)
        self._worker.write({**order, "calls": plain, "arrays": heads, "seconds": seconds}, body, seconds)
        messages, printed, ended = self._worker.listen(self._seconds(seconds + 2.0), ("done",), served)
        self._note(messages)
        if ended is None:
            done = messages.pop()[0]
            ended = str(done["ended"]) if done.get("ended") is not None else None
        if ended is not None and time.monotonic() >= self._ends:
            ended = f"not finished after {self.limits.total:g} seconds, which is what the whole file may take"
        return messages, printed, ended

    def run(self, name: str, calls: Sequence[Call]) -> LineRun:
        """See `Runner`."""
        return outcome(name, calls, *self._ask({"do": "run", "name": name}, calls))

    def variants(self, name: str, sources: Sequence[tuple[str, int]], calls: Sequence[Call]) -> Iterator[tuple[int, Array]]:
        """See `Runner`."""
        messages, _, _ = self._ask({"do": "variants", "name": name, "variants": [list(s) for s in sources]}, calls)
        yield from variants_in(messages, len(sources))

    def source(self, name: str) -> tuple[str, int] | None:
        """See `Runner`."""
        return (self.text, 0) if self.text is not None else None

    def close_worker(self) -> None:
        """End the worker, if there is one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def close(self) -> None:
        """See `Runner`."""
        self.close_worker()
        remove_folder(self._scratch)


# -- functions in memory -----------------------------------------------------------------------------------------------------


class LiveRunner(Runner):
    """Functions that are in memory already."""

    def __init__(self, names: Mapping[str, Any], limits: Limits, *, fork: bool = CAN_FORK, text: str | None = None, file: str | None = None) -> None:
        super().__init__()
        self.names, self.limits, self.fork = names, limits, fork
        self.file, self.text = file, text
        for name, value in names.items():
            if not name.startswith("_") and not isinstance(value, (type, ModuleType)):
                try:
                    self.functions[name] = parameters(value) if callable(value) else f"a {type(value).__name__}"
                except (ValueError, TypeError):
                    self.functions[name] = f"a {type(value).__name__} whose parameters cannot be found out"

    def _ask(self, order: dict[str, Any], calls: Sequence[Call]) -> tuple[list[Any], str, str | None]:
        name = order["name"]
        space = {**getattr(self.names[name], "__globals__", {}), **self.names} if order["do"] == "variants" else dict(self.names)
        student = LoadedFile(self.file, space)
        plain, arrays, served = encoded(calls)

        def asked(name: str, args: Sequence[Any]) -> Any:
            return answered(served[name], args)

        def work(send: Any) -> None:
            with judging():
                (student.variants if order["do"] == "variants" else student.run)({**order, "calls": plain}, arrays, send, asked)
        if not self.fork:
            messages: list[Any] = []
            with contextlib.redirect_stdout(sys.stderr):
                work(lambda head, body: messages.append((head, body)))
            return messages, "", None
        child = Child(lambda send, _: work(send), self.limits.seconds, self.limits.megabytes)
        try:
            return tuple(child.listen(self.limits.seconds))  # type: ignore[return-value]
        finally:
            child.close()

    def run(self, name: str, calls: Sequence[Call]) -> LineRun:
        """See `Runner`."""
        return outcome(name, calls, *self._ask({"do": "run", "name": name}, calls))

    def variants(self, name: str, sources: Sequence[tuple[str, int]], calls: Sequence[Call]) -> Iterator[tuple[int, Array]]:
        """See `Runner`."""
        yield from variants_in(self._ask({"do": "variants", "name": name, "variants": sources}, calls)[0], len(sources))

    def source(self, name: str) -> tuple[str, int] | None:
        """See `Runner`."""
        if self.text is not None:
            return self.text, 0
        try:
            lines, first = inspect.getsourcelines(self.names[name])
        except (OSError, TypeError, KeyError):
            return None
        return textwrap.dedent("".join(lines)), first - 1

    def close(self) -> None:
        """See `Runner`."""


# -- both ----------------------------------------------------------------------------------------------------------------------


def runner(source: str | Mapping[str, Any], limits: Limits, sandbox: str = "auto", **options: Any) -> Runner:
    """The runner of a file or of functions. Where no other process can be started, a file's functions run in this one."""
    if isinstance(source, str):
        if can_start():
            return FileRunner(source, limits, sandbox=sandbox, **options)
        return _in_this_process(source, limits)
    return LiveRunner(source, limits)


def _in_this_process(file: str, limits: Limits) -> LiveRunner:
    text = source_of(file)
    found = LiveRunner({}, limits, text=text, file=file)
    try:
        with judging(), contextlib.redirect_stdout(sys.stderr), AbsentModules().found() as absent:
            names = namespace(file, text, absent)
        found = LiveRunner(names, limits, text=text, file=file)
    except BaseException as e:  # whatever a student's code raises
        head = failed(e, file)
        found.failure = FileFailure("stopped" if head["kind"] == "stopped" else "import error",
                                    shown(head["text"] if head["kind"] == "stopped" else f"{type(e).__name__}: {e}"),
                                    place_of({"at": place(e, file)}))
    return found


def encoded(calls: Sequence[Call]) -> tuple[list[dict[str, Any]], list[Array], dict[str, Callable[..., Any]]]:
    """Calls as plain data, their arrays, and the functions among their arguments."""
    arrays: list[Array] = []
    place: dict[int, int] = {}
    served: dict[str, Callable[..., Any]] = {}

    def value(name: str, v: Any) -> dict[str, Any]:
        if isinstance(v, (np.ndarray, np.generic)):
            if id(v) not in place:
                place[id(v)] = len(arrays)
                arrays.append(v)
            return {"a" if isinstance(v, np.ndarray) else "n": place[id(v)]}
        if isinstance(v, (tuple, list)):
            return {"t": [value(name, x) for x in v]}
        if callable(v):
            served[name] = v
            return {"f": name}
        return {"v": v if isinstance(v, (bool, int, float, str)) or v is None else str(v)}
    return [{name: value(name, v) for name, v in call.items()} for call in calls], arrays, served


def outcome(name: str, calls: Sequence[Call], messages: Sequence[Any], printed: str, ended: str | None) -> LineRun:
    """The messages of a run as a `LineRun`."""
    found = LineRun(printed=shown(printed, keep="\n\t", most=4000))
    for head, body in messages:
        kind = head.get("kind")
        if kind == "array":
            try:
                (a,) = unpacked([head], body)
            except (ValueError, TypeError, KeyError, OverflowError, MemoryError):
                continue
            found.results.append(float(a) if head.get("number") and a.ndim == 0 and a.dtype.kind in "fiub" else a)
        elif kind in ("missing", "other", "error", "stopped"):
            found.failure = {"missing": "not implemented", "other": "error"}.get(kind, kind)
            found.message, found.at = shown(str(head.get("text"))), place_of(head)
            if kind == "missing" and not head.get("text"):
                found.message = f"{name} is not written yet"
            return found
    if ended is not None:
        found.failure, found.message = "stopped", shown(ended)
    elif len(found.results) < len(calls):
        found.failure, found.message = "stopped", "it ended the process"
    elif len(found.results) > len(calls) or any(isinstance(a, np.ndarray) and a.dtype.kind not in "fiub" for a in found.results):
        found.failure, found.message = "error", "its process wrote answers that were not asked for"
    return found


def variants_in(messages: Sequence[Any], count: int) -> Iterator[tuple[int, Array]]:
    """The arrays among the answers of `count` edited texts."""
    for head, body in messages:
        if head.get("kind") == "array":
            with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, MemoryError):
                i, (a,) = int(head["variant"]), unpacked([head], body)
                if 0 <= i < count and a.dtype.kind in "fiub":
                    yield i, a


def known(parameters: Any) -> Any:
    """What a worker says of a function: its parameters, each (name, kind, has a default), or what it is instead of a function."""
    if isinstance(parameters, str):
        return shown(parameters)
    if isinstance(parameters, list) and all(isinstance(p, list) and [type(x) for x in p] == [str, str, bool] for p in parameters):
        return parameters
    return "something of which its process says nothing"


def place_of(head: Mapping[str, Any]) -> dict[str, Any] | None:
    """The place in the student's file that a message names, made harmless."""
    at = head.get("at")
    if not isinstance(at, dict):
        return None
    line = at.get("line")
    return {"file": shown(str(at.get("file"))), "line": line if isinstance(line, int) else None, "source": shown(str(at.get("source", "")))}


def functions(given: Any) -> Mapping[str, Any]:
    """Names of line functions: from a mapping, a module, a list of functions, or a namespace."""
    if isinstance(given, Mapping):
        return given
    if isinstance(given, (list, tuple)):
        return {f.__name__: f for f in given}
    if callable(given) and hasattr(given, "__name__"):
        return {given.__name__: given}
    return vars(given)


def syntax_of(file: str) -> dict[str, Any] | None:
    """None if the file can be compiled, else where and why not."""
    try:
        text = source_of(file)
    except (SyntaxError, UnicodeDecodeError, LookupError) as e:
        return {"file": file, "line": None, "source": "", "text": shown(f"not a text file in UTF-8, nor in an encoding that its first line names ({e})")}
    try:
        compile(text, file, "exec")
    except SyntaxError as e:
        return {"file": file, "line": e.lineno, "source": shown((e.text or "").strip()), "text": shown(str(e.msg))}
    except (ValueError, RecursionError, MemoryError) as e:
        return {"file": file, "line": None, "source": "", "text": shown(f"Python cannot read it ({type(e).__name__}: {e})")}
    return None
