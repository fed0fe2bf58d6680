"""The inside of a worker: the process in which a student's file runs, with NumPy and nothing else.

A worker is asked and answers; it knows no task, no answer and nothing of minigrad, which cannot even be imported there. This
file and confine.py reach it as text (runner.py sends them), so they need no place that it could read. From the moment when
the student's file is loaded the whole process is the student's: whoever listens to it takes every byte for an answer of theirs.

Orders: "load" a file, "run" a function on several sets of
arguments, "variants": run edited texts of a function on one set each. A line runs in a fork, so that nothing is left of it;
where there is no fork, the worker answers once and is started anew.
"""

from __future__ import annotations

import builtins
import contextlib
import copy
import inspect
import io
import linecache
import os
import select
import signal
import sys
import time
import tokenize
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .absent import REMARK, AbsentModules, AbsentName
from .confine import end_with_parent
from .messages import MOST_ANSWER, Reader, Send, packed, unpacked, written

MOST_ABSENT = 20  # modules that a file may miss
at_work = False  # the worker itself forks or ends a fork, which is not the student's doing


# -- calling a line --------------------------------------------------------------------------------------------------------


class ArgumentError(Exception):
    """A parameter of a line function that cannot be filled, or an argument that it changed."""


def described(result: Any) -> tuple[dict[str, Any], bytes]:
    """A line's result as a message."""
    if isinstance(result, AbsentName):
        return {"kind": "other", "text": f"{result} {REMARK}"}, b""
    a = np.asarray(result) if isinstance(result, (np.ndarray, np.generic, float, int)) else None
    if a is None or a.dtype.kind not in "fiub":
        what = "nothing (is a return missing?)" if result is None else f"a {type(result).__name__}" if a is None else f"an array of {a.dtype}"
        return {"kind": "other", "text": f"it returned {what}; needed: one array of real numbers"}, b""
    heads, body = packed([a])
    return {"kind": "array", **heads[0], "number": not isinstance(result, (np.ndarray, np.generic))}, body


def invoked(f: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """The result of a line, which must leave its arguments as they are."""
    before = {n: a.copy() for n, a in given.items() if isinstance(a, np.ndarray)}
    result = f(**given)
    for n, a in before.items():
        if not np.array_equal(a, given[n], equal_nan=a.dtype.kind in "fc"):
            raise ArgumentError(f"the line changes its argument {n} in place; others use it too: write {n} = {n} * ... rather than {n} *= ...")
    return result


def failed(e: BaseException, file: str | None) -> dict[str, Any]:
    """An exception of a student's code as a message."""
    if isinstance(e, NotImplementedError):
        return {"kind": "missing", "text": str(e)}
    if isinstance(e, MemoryError):
        return {"kind": "stopped", "text": "it asked for more memory than a line may use"}
    if isinstance(e, ArgumentError):
        return {"kind": "error", "text": str(e)}
    return {"kind": "error", "text": f"{type(e).__name__}: {e}", "at": place(e, file)}


def place(e: BaseException, file: str | None) -> dict[str, Any] | None:
    """Where in the student's code an exception came from: the innermost frame in the file, or outside of libraries."""
    if isinstance(e, SyntaxError) and e.filename == file:
        return {"file": e.filename, "line": e.lineno, "source": (e.text or "").strip()}
    library = str(Path(__file__).resolve().parents[2]) if "__file__" in globals() else None
    frames = traceback.extract_tb(e.__traceback__)
    mine = [f for f in frames if (f.filename == file if file is not None else
                                  not (library and f.filename.startswith(library)) and "site-packages" not in f.filename)]
    return {"file": mine[-1].filename, "line": mine[-1].lineno, "source": (mine[-1].line or "").strip()} if mine else None


def parameters(f: Callable[..., Any]) -> list[list[Any]]:
    """Name, kind and whether there is a default, of each parameter."""
    return [[p.name, p.kind.name, p.default is not p.empty] for p in inspect.signature(f).parameters.values()]


# -- a student's file ----------------------------------------------------------------------------------------------------------


def source_of(file: str) -> str:
    """The text of a Python file, in the encoding that Python would read it in.

    Raises:
        SyntaxError, UnicodeDecodeError: it is none.
    """
    with tokenize.open(file) as f:
        return f.read()


def decoded(data: bytes) -> str:
    """The text of a Python file's bytes, as `source_of`."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding, line_buffering=True).read()


def namespace(file: str, text: str | None = None, absent: AbsentModules | None = None) -> dict[str, Any]:
    """Run a student's file, as an import would, and return its names.

    With `absent`, a module that is not there is no reason to stop: the file runs once more, with a stand-in for it.
    """
    path, text = Path(file), source_of(file) if text is None else text
    sys.path.insert(0, str(path.parent))
    linecache.cache[file] = len(text), None, text.splitlines(True), file  # the lines that run, whatever becomes of the file
    code, before = compile(text, file, "exec"), list[ModuleType]()
    for _ in range(MOST_ABSENT + 1):
        module = ModuleType(path.stem)
        module.__file__ = str(path)
        if sys.modules.setdefault(path.stem, module) in before:
            sys.modules[path.stem] = module
        before.append(module)
        try:
            exec(code, vars(module))
        except SystemExit as e:
            if e.code and not isinstance(e.code, AbsentName):
                raise
        except ModuleNotFoundError as e:
            root = str(e.name or "").partition(".")[0]
            if absent is None or not root or root in absent.roots or root in sys.modules:
                raise
            absent.roots.add(root)
            continue
        return vars(module)  # sys.exit() at its end says that all went well
    raise ImportError(f"it imports more than {MOST_ABSENT} modules that are not there")


class LoadedFile:
    """A loaded file, and the orders that it can be given."""

    def __init__(self, file: str | None, names: dict[str, Any], absent: Sequence[str] = ()) -> None:
        self.file, self.names, self.absent = file, names, list(absent)

    def functions(self) -> dict[str, Any]:
        """Name -> parameters of each function of the file, or the type of what else is called like a line."""
        found: dict[str, Any] = {}
        for name, value in list(self.names.items()):
            if name.startswith("_") or isinstance(value, (type, ModuleType)):
                continue
            if inspect.isroutine(value) or (callable(value) and not isinstance(value, AbsentName)):
                with contextlib.suppress(ValueError, TypeError):
                    found[name] = parameters(value)
            elif name.startswith("d_"):
                found[name] = str(value) if isinstance(value, AbsentName) else f"a {type(value).__name__}"
        return found

    def run(self, order: Mapping[str, Any], arrays: Sequence[Any], send: Send, ask: Callable[[str, Sequence[Any]], Any]) -> None:
        """Call a function on each set of arguments."""
        try:
            f = self.names[order["name"]]
            with np.errstate(all="ignore"):
                for call in order["calls"]:
                    send(*described(invoked(f, arguments(call, arrays, ask))))
        except BaseException as e:  # whatever a student's code raises, also SystemExit and KeyboardInterrupt
            send(failed(e, self.file), b"")

    def variants(self, order: Mapping[str, Any], arrays: Sequence[Any], send: Send, ask: Callable[[str, Sequence[Any]], Any]) -> None:
        """Call edited texts of a function, each on the sets of arguments that are named for it; one that raises answers "other"."""
        with np.errstate(all="ignore"):
            for i, (source, call) in enumerate(order["variants"]):
                try:
                    space = dict(self.names)
                    exec(compile(source, "<edited>", "exec"), space)
                    head, body = described(invoked(space[order["name"]], arguments(order["calls"][call], arrays, ask)))
                except Exception as e:
                    head, body = {"kind": "other", "text": type(e).__name__}, b""
                send({**head, "variant": i}, body)


def arguments(call: Mapping[str, Any], arrays: Sequence[Any], ask: Callable[[str, Sequence[Any]], Any]) -> dict[str, Any]:
    """The arguments of a call: {"a": i} is array i, {"n": i} its only number, {"f": name} a function that is asked for; else plain data."""
    def value(v: Any) -> Any:
        if "a" in v:
            return arrays[v["a"]].copy()
        if "n" in v:
            return arrays[v["n"]][()]
        if "f" in v:
            return lambda *args: ask(v["f"], args)
        return tuple(map(value, v["t"])) if "t" in v else copy.copy(v["v"])
    return {name: value(v) for name, v in call.items()}


# -- the process ---------------------------------------------------------------------------------------------------------------


class Asking:
    """Functions of the task that a line may call: served by whoever gave the order."""

    def __init__(self, send: Send, orders: Reader) -> None:
        self.send, self.orders = send, orders

    def __call__(self, name: str, args: Sequence[Any]) -> Any:
        heads, body = packed([np.asarray(a, dtype=None if np.asarray(a).dtype.kind in "fiub" else "float64") for a in args])
        self.send({"kind": "request", "name": name, "arrays": heads}, body)
        found = self.orders.read()
        if found is None:
            raise SystemExit("nobody answers")
        if "error" in found[0]:
            raise ValueError(found[0]["error"])
        return unpacked(found[0]["arrays"], found[1])[0]


def loaded(head: Mapping[str, Any], body: bytes, send: Send) -> LoadedFile | None:
    """Run the file of a "load" order."""
    absent = AbsentModules()
    sys.meta_path.append(absent)
    file = head["file"]
    try:
        text = decoded(body)
        names = namespace(file, text, absent)
        student = LoadedFile(file, names, sorted(absent.roots))
        send({"kind": "loaded", "functions": student.functions(), "absent": student.absent}, b"")
        return student
    except BaseException as e:  # whatever a student's code raises
        found = failed(e, file)
        send({**found, "kind": "stopped"} if found["kind"] == "stopped" else
             {**found, "kind": "error", "at": place(e, file), "text": f"{type(e).__name__}: {e}"}, b"")
        return None


def served(student: LoadedFile, orders: Reader, answers: int, fork: bool) -> None:
    """Answer orders until there are no more; without fork, one."""
    while (message := orders.read()) is not None:
        head, body = message
        if fork:
            ended = _in_fork(student, head, body, orders, answers)
        else:
            ended = None
            _work(student, head, body, lambda h, b: written(answers, h, b), orders)
        written(answers, {"kind": "done", "ended": ended})


def _work(student: LoadedFile, head: Mapping[str, Any], body: bytes, send: Send, orders: Reader) -> None:
    def flushed(head: dict[str, Any], body: bytes) -> None:
        with contextlib.suppress(Exception):  # what was printed before comes first; a student may have put anything here
            sys.stdout.flush()
        send(head, body)
    arrays = unpacked(head["arrays"], body)
    work = student.variants if head["do"] == "variants" else student.run
    work(head, arrays, flushed, Asking(flushed, orders))


def _in_fork(student: LoadedFile, head: Mapping[str, Any], body: bytes, orders: Reader, answers: int) -> str | None:
    """Run an order in a fork; its messages are passed on as they come. Returns why it ended early, or None."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    global at_work
    at_work = True
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _bound(head)
            at_work = False
            _work(student, head, body, lambda h, b: written(writing, h, b), orders)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(0)
    at_work = False
    os.close(writing)
    deadline, total, ended, gone = time.monotonic() + float(head["seconds"]), 0, None, False
    status = 0
    while True:
        ready = select.select([reading], [], [], 0.0 if gone else min(0.02, max(0.0, deadline - time.monotonic())))[0]
        part = os.read(reading, 1 << 20) if ready else None
        if part:
            total += len(part)
            written(answers, {"kind": "part"}, part)
        if part == b"" or (gone and not ready):
            break
        if not gone:
            found, status = os.waitpid(pid, os.WNOHANG)
            gone = bool(found)
        if not gone and (time.monotonic() > deadline or total > MOST_ANSWER):
            ended = (f"it ran for more than {head['seconds']:g} seconds: is there a loop without end?" if total <= MOST_ANSWER
                     else f"it returned more than {MOST_ANSWER >> 20} MB")
            break
    os.close(reading)
    if not gone and ended is None:
        for _ in range(50):  # it has closed its pipe and is about to end
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                gone = True
                break
            time.sleep(0.002)
    if not gone:
        at_work = True
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        at_work = False
        _, status = os.waitpid(pid, 0)
    if ended is None and os.WIFSIGNALED(status):
        seconds = f"it used {head['seconds']:g} seconds of processor time: is there a loop without end?"
        ended = seconds if os.WTERMSIG(status) == signal.SIGXCPU else f"it ended the process (signal {os.WTERMSIG(status)})"
    return ended


def _bound(head: Mapping[str, Any]) -> None:
    end_with_parent()
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource
        seconds = int(head["seconds"]) + 1
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1 if hard == resource.RLIM_INFINITY else min(hard, seconds + 1)))


def main(orders: int, answers: int, confine: Callable[[Mapping[str, Any], Callable[[str], None]], tuple[str, bool]]) -> None:
    """Load the file of the first order, confined, and serve the others."""
    def send(head: dict[str, Any], body: bytes) -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        written(answers, head, body)
    reader = Reader(orders)
    message = reader.read()
    if message is None:
        return
    head, body = message
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # Python without site has neither
    sys.argv = [head["file"]]
    name, apart = confine(head, lambda text: written(answers, {"kind": "refused", "text": text}))
    written(answers, {"kind": "confined", "name": name, "apart": apart})
    student = loaded(head, body, send)
    if student is not None:
        served(student, reader, answers, bool(head["fork"]))

