"""Running a student's line: in a child process with limits, so that no loop, crash or allocation reaches the checker.

The child inherits the probes by `fork`, reads the student's file (or has the functions already), calls the line, and writes
arrays and remarks into a pipe as JSON and raw bytes. Where a system cannot fork, lines run in this process without limits.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import linecache
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backend import Array, np
from .probe import Probe
from .task import Line, nearest

CAN_FORK = hasattr(os, "fork") and sys.platform != "win32"


@dataclass(frozen=True)
class Limits:
    """For one line on all probes: seconds of time, and megabytes of memory beyond what the checker itself has."""

    seconds: float = 10.0
    megabytes: int = 1024


@dataclass
class Outcome:
    """What a line did: its arguments, a result for each probe and dtype, or a failure."""

    arguments: tuple[str, ...] = ()
    results: list[dict[str, Any]] = field(default_factory=list)  # a dict a probe: dtype -> array
    failure: str | None = None  # "not implemented", "error", "stopped"
    message: str = ""
    at: dict[str, Any] | None = None
    printed: str = ""


class ArgumentError(Exception):
    """A parameter of a line function that cannot be filled."""


def arguments(f: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the parameters of a line function."""
    kinds = inspect.Parameter
    found = inspect.signature(f).parameters.values()
    odd = [p.name for p in found if p.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD, kinds.POSITIONAL_ONLY)]
    if odd:
        raise ArgumentError(f"the parameter {odd[0]!r} has no name to look up: write each argument by its name")
    return tuple(p.name for p in found if p.default is p.empty)


def fixture(probe: Probe, line: Line, name: str) -> Any:
    """The value of the argument `name` of a line function."""
    target = str(line.target)
    if name.startswith("d_") and name[2:] in probe.lines:
        value = name[2:]
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
            return source[name]
    names = [*probe.values, *probe.keywords, *probe.given, *(f"d_{n}" for n in probe.adjoints)]
    raise ArgumentError(f"there is nothing called {name!r}{nearest(name, names)}. There are: {', '.join(sorted(names))}")


def _listed(names: Any) -> str:
    return ", ".join(f"d_{n}" for n in sorted(names)) or "none"


# -- in the child -------------------------------------------------------------------------------------------------------


def _call(f: Callable[..., Any], probe: Probe, line: Line, dtype: str) -> Any:
    def cast(a: Any) -> Any:
        return np.array(a, dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
    names = arguments(f)
    given = {n: cast(fixture(probe, line, n)) for n in names}
    before = {n: a.copy() for n, a in given.items() if isinstance(a, np.ndarray)}
    result = f(**given)
    for n, a in before.items():
        if not np.array_equal(a, given[n], equal_nan=True):
            raise ArgumentError(f"the line changes its argument {n} in place; others use it too: write {n} = {n} * ... rather than {n} *= ...")
    return result


def _describe(result: Any) -> tuple[dict[str, Any], bytes]:
    a = np.asarray(result) if isinstance(result, (np.ndarray, np.generic, float, int)) else None
    if a is None or a.dtype.kind not in "fiub":
        return {"kind": "other", "text": "nothing (is a return missing?)" if result is None else f"a {type(result).__name__}"}, b""
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


def namespace(file: str) -> dict[str, Any]:
    """Run a student's file and return its names."""
    path = Path(file)
    text = path.read_bytes().decode("utf-8")
    found: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    sys.path.insert(0, str(path.resolve().parent))
    linecache.checkcache(file)
    exec(compile(text, file, "exec"), found)
    return found


def _work(source: Any, name: str, line: Line, probes: Sequence[Probe], dtypes: Sequence[str], send: Callable[[dict[str, Any], bytes], None]) -> None:
    file = source if isinstance(source, str) else None
    try:
        names = namespace(file) if file is not None else source
        f = names.get(name)
        if f is None:
            others = [n for n, v in names.items() if n.startswith("d_") and callable(v)]
            send({"kind": "missing", "text": f"there is no function {name}{nearest(name, others)}"}, b"")
            return
        if not callable(f):
            raise ArgumentError(f"{name} is a {type(f).__name__}, not a function")
        send({"kind": "arguments", "names": arguments(f)}, b"")
        with np.errstate(all="ignore"):
            for probe in probes:
                for dtype in dtypes:
                    send(*_describe(_call(f, probe, line, dtype)))
    except NotImplementedError as e:
        send({"kind": "missing", "text": str(e) or f"{name} is not written yet"}, b"")
    except MemoryError:
        send({"kind": "stopped", "text": "it asked for more memory than a line may use"}, b"")
    except ArgumentError as e:
        send({"kind": "error", "text": str(e)}, b"")
    except BaseException as e:  # whatever a student's code raises, SystemExit and KeyboardInterrupt among it
        send({"kind": "error", "text": f"{type(e).__name__}: {e}", "at": _place(e, file), "syntax": isinstance(e, SyntaxError)}, b"")


def run(source: Any, name: str, line: Line, probes: Sequence[Probe], limits: Limits, dtypes: Sequence[str] = ("float64", "float32")) -> Outcome:
    """Call the line function `name` of `source` (a file's path, or a mapping of names) on all probes."""
    messages: list[tuple[dict[str, Any], bytes]] = []
    printed, ended = "", None
    if CAN_FORK:
        messages, printed, ended = in_child(lambda send: _work(source, name, line, probes, dtypes, send), limits)
    else:
        with contextlib.redirect_stdout(sys.stderr):
            _work(source, name, line, probes, dtypes, lambda head, body: messages.append((head, body)))
    outcome = Outcome(printed=printed)
    flat: list[Any] = []
    for head, body in messages:
        kind = head["kind"]
        if kind == "arguments":
            outcome.arguments = tuple(head["names"])
        elif kind == "array":
            a = np.frombuffer(body, head["dtype"]).reshape(head["shape"])
            flat.append(float(a) if head["number"] and a.ndim == 0 else a)
        elif kind == "other":
            outcome.failure, outcome.message = "error", f"it returned {head['text']}; needed: one array"
            return outcome
        else:
            outcome.failure = "not implemented" if kind == "missing" else kind
            outcome.message, outcome.at = head["text"], head.get("at")
            if head.get("syntax"):
                outcome.failure = "syntax"
            return outcome
    if ended is not None:
        outcome.failure, outcome.message = "stopped", ended
        return outcome
    n = len(dtypes)
    outcome.results = [dict(zip(dtypes, flat[i:i + n], strict=True)) for i in range(0, len(flat), n)]
    return outcome


# -- the pipe -----------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[Callable[[dict[str, Any], bytes], None]], None], limits: Limits) -> tuple[list[tuple[dict[str, Any], bytes]], str, str | None]:
    """Messages of a forked child, what it printed, and why it ended early (None if it did not)."""
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            try:
                os.close(read)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.stdout, sys.stderr = (os.fdopen(fd, "w", closefd=False) for fd in (1, 2))
                _limit(limits)

                def send(head: dict[str, Any], body: bytes) -> None:
                    data = json.dumps(head).encode() + b"\n" + body
                    while data:
                        data = data[os.write(write, data):]
                work(send)
                os.write(write, b'{"kind": "end"}\n')
                sys.stdout.flush()
            finally:
                os._exit(0)
        os.close(write)
        data, late = _read_until(read, time.monotonic() + limits.seconds)
        os.close(read)
        if late:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        printed = output.read(4000).decode("utf-8", "replace")
    messages = _parse(data)
    if messages and messages[-1][0].get("kind") == "end":
        return messages[:-1], printed, None
    if messages and messages[-1][0]["kind"] in ("missing", "error", "stopped"):
        return messages, printed, None
    if late:
        return messages, printed, f"it ran for more than {limits.seconds:g} seconds: is there a loop without end?"
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "the process ended itself"
    return messages, printed, f"it ended the process ({how})"


def _limit(limits: Limits) -> None:
    import resource
    used = _own_bytes()
    for what, amount in ((resource.RLIMIT_AS, used + (limits.megabytes << 20)), (resource.RLIMIT_CPU, int(limits.seconds) + 2), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (amount, amount))


def _own_bytes() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30


def _read_until(fd: int, deadline: float) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return b"".join(parts), True
        part = os.read(fd, 1 << 20)
        if not part:
            return b"".join(parts), False
        parts.append(part)


def _parse(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    messages = []
    while data:
        head, found, rest = data.partition(b"\n")
        if not found:
            break
        try:
            parsed = json.loads(head)
        except ValueError:
            break
        size = parsed.get("bytes", 0)
        if len(rest) < size:
            break
        messages.append((parsed, rest[:size]))
        data = rest[size:]
    return messages


def syntax_of(file: str) -> dict[str, Any] | None:
    """None if the file can be compiled, else where and why not."""
    try:
        compile(Path(file).read_bytes().decode("utf-8"), file, "exec")
    except SyntaxError as e:
        return {"file": file, "line": e.lineno, "source": (e.text or "").strip(), "text": str(e.msg)}
    except (UnicodeDecodeError, ValueError) as e:
        return {"file": file, "line": None, "source": "", "text": f"not a text file in UTF-8 ({e})"}
    return None


def functions(given: Any) -> Mapping[str, Any]:
    """Names of line functions: from a mapping, a module, a list of functions, or a namespace."""
    if isinstance(given, Mapping):
        return given
    if isinstance(given, (list, tuple)):
        return {f.__name__: f for f in given}
    if callable(given) and hasattr(given, "__name__"):
        return {given.__name__: given}
    return vars(given)


__all__ = ["Array", "Limits", "Outcome", "fixture", "functions", "in_child", "namespace", "run", "syntax_of"]
