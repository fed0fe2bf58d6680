"""Starting workers, and talking with them: every byte from a worker is a student's, so all of it is bounded and none of it believed.

A worker is forked from a process that this one starts once (inside/start.py): Python and NumPy, nothing else, an environment made
from nothing. With bubblewrap, and where there is no fork, each worker is a process that is started for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.backend import np
from ..core.errors import error
from .child import CAN_FORK, MOST_PRINTED
from .fixtures import answered
from .inside import confine
from .inside.messages import MOST_ANSWER, Reader, packed, unpacked

MOST_DISK = 64 << 20     # bytes that a submission may hold on the disk
MOST_FILES = 4000
MOST_REQUESTS = 100_000  # calls of a task's functions by one line
INSIDE = ("confine", "guard", "messages", "absent", "worker", "start")  # each after those that it imports
BOOT = """
import os, sys, types, json
def read(n):
    data = b""
    while len(data) < n:
        part = os.read(0, n - len(data))
        if not part: sys.exit("no sources came")
        data += part
    return data
sources = json.loads(read(int(read(12))))
sys.path.append(sys.argv[1])
package = sys.modules["inside"] = types.ModuleType("inside")
package.__path__ = []
for name, text in sources.items():
    module = sys.modules["inside." + name] = types.ModuleType("inside." + name)
    module.__package__ = "inside"
    setattr(package, name, module)
    exec(compile(text, "<" + name + ">", "exec"), vars(module))
sys.path.remove(sys.argv[1])
sys.modules["inside.start"].main(sys.argv[1], sys.argv[2])
"""
Message = tuple[dict[str, Any], bytes]


def can_start() -> bool:
    """Whether this system can start processes at all; a browser cannot."""
    return sys.platform not in ("emscripten", "wasi") and bool(sys.executable)


def numpy_folder() -> str:
    """The folder in which NumPy lies."""
    return str(Path(np.__file__).resolve().parents[1])


def sources() -> bytes:
    """What a worker is made of, for `BOOT`."""
    folder = Path(__file__).with_name("inside")
    data = json.dumps({name: (folder / f"{name}.py").read_text("utf-8") for name in INSIDE}).encode()
    return b"%012d" % len(data) + data


def environment() -> dict[str, str]:
    """The variables of a worker, made from nothing: no tokens, proxies or paths of whoever judges."""
    found = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    kept = ("SYSTEMROOT", "SYSTEMDRIVE", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE")  # Windows' Python needs the first two; the last decides about bits
    return found | {name: os.environ[name] for name in kept if name in os.environ}


def command(way: str) -> list[str]:
    """How to start a worker, or the process that forks workers."""
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)  # not that of a virtual environment
    return [python if os.path.exists(python) else sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", BOOT, numpy_folder(), way]


def bubblewrap(order: Mapping[str, Any]) -> list[str]:
    """bubblewrap's command line for a worker: the files that it may read, a temporary file system of a bounded size, nothing else.

    Raises:
        CannotConfine: bubblewrap is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise confine.CannotConfine(error(ValueError, "sandbox", got="no program bwrap", needs="bubblewrap (Linux)",
                                          fix="install the package bubblewrap, or choose another sandbox: auto, landlock or none").args[0])
    python = Path(command("one")[0])
    library = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    found = [program, "--unshare-all", "--die-with-parent", "--new-session", "--dev", "/dev"]
    for root in ("/lib", "/lib64", "/lib32"):
        if os.path.islink(root):
            found += ["--symlink", os.readlink(root), root]
    numpys = [f"{numpy_folder()}/{name}" for name in ("numpy", "numpy.libs")]
    for path in [str(python), *map(str, python.parents[1].glob("lib/libpython*")), *confine.libraries(), *numpys]:
        if os.path.exists(path) and not path.startswith("/dev"):
            found += ["--ro-bind", os.path.realpath(path), os.path.realpath(path)]
    found += ["--ro-bind", str(library), str(library)]
    for name in ("site-packages", "dist-packages"):
        if (library / name).is_dir() and not Path(numpy_folder()).is_relative_to(library / name):
            found += ["--tmpfs", str(library / name)]
    if Path(numpy_folder()).is_relative_to(library):
        folder = numpy_folder()
        found += ["--tmpfs", folder, *(part for path in numpys if os.path.exists(path) for part in ("--ro-bind", path, path))]
    found += ["--bind" if order["writable"] else "--ro-bind", order["folder"], order["folder"]]
    return [*found, "--size", str(MOST_DISK), "--tmpfs", order["scratch"], "--chdir", order["folder"]]


# -- the process that forks ----------------------------------------------------------------------------------------------------


class Forker:
    """The process from which workers are forked; one for this process, started when it is first needed."""

    _one: Forker | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        mine, its = socket.socketpair()
        self.owner, self.connection, self.token = os.getpid(), mine, secrets.token_hex(16)
        self.process = subprocess.Popen(command("forks"), stdin=its.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                                        env={**environment(), "MINIGRAD_WORKER": self.token}, start_new_session=True)
        its.close()
        self.connection.sendall(sources())

    @classmethod
    def fork(cls, descriptors: Sequence[int]) -> tuple[int, str]:
        """A new worker that uses these descriptors for orders, answers and prints: its process number and the token of its environment."""
        with cls._lock:
            for attempt in range(2):
                if cls._one is None or cls._one.owner != os.getpid() or cls._one.process.poll() is not None:
                    cls._one = cls()
                try:
                    socket.send_fds(cls._one.connection, [b"w"], list(descriptors))
                    answer = b""
                    while len(answer) < 8:
                        part = cls._one.connection.recv(8 - len(answer))
                        if not part:
                            raise ConnectionError("the process that forks workers has ended")
                        answer += part
                    return int.from_bytes(answer, "big"), cls._one.token
                except OSError:
                    cls._one = None
                    if attempt:
                        raise
        raise AssertionError


# -- a worker ------------------------------------------------------------------------------------------------------------------


class Worker:
    """A worker that has been told to load a file.

    Args:
        order: the "load" order (inside/worker.py, inside/confine.py).
        body: the file's bytes.
        watched: folders whose size is bounded.
    """

    def __init__(self, order: Mapping[str, Any], body: bytes, watched: Sequence[str] = ()) -> None:
        self.watched, self.alive, self._printed, self._token = watched, True, bytearray(), ""
        self._hearing = True
        self._heard: Any = threading.Lock() if os.name != "nt" else contextlib.nullcontext()  # there a read waits for what is printed next
        self.apart = False  # whether its process numbers are its own, so that all of them end with the first
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None
        if order["sandbox"] == "bwrap" or not (CAN_FORK and hasattr(socket, "send_fds")):
            self._start(order)
        else:
            theirs_orders, self._orders = os.pipe()
            self._answers, theirs_answers = os.pipe()
            self._prints, theirs_prints = os.pipe()
            try:
                self.pid, self._token = Forker.fork((theirs_orders, theirs_answers, theirs_prints))
            finally:
                for fd in (theirs_orders, theirs_answers, theirs_prints):
                    os.close(fd)
        if os.name != "nt":
            os.set_blocking(self._orders, False)
        for target in (self._read_answers, self._read_prints):
            threading.Thread(target=target, daemon=True).start()
        self.write({**order, "do": "load"}, body, float(order["loading"]))

    def _start(self, order: Mapping[str, Any]) -> None:
        start = [*bubblewrap(order), *command("one")] if order["sandbox"] == "bwrap" else command("one")
        self._token = secrets.token_hex(16)
        self._process = subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                                         env={**environment(), "MINIGRAD_WORKER": self._token})
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._orders, self._answers, self._prints = (os.dup(f.fileno()) for f in (self._process.stdin, self._process.stdout, self._process.stderr))
        for f in (self._process.stdin, self._process.stdout, self._process.stderr):
            f.close()
        self.pid = self._process.pid
        with contextlib.suppress(BrokenPipeError):
            data = memoryview(sources())
            while data:
                data = data[os.write(self._orders, data):]

    def _read_answers(self) -> None:
        reader, total = Reader(self._answers, bounded=True), 0
        with contextlib.suppress(OSError):
            while (message := reader.read()) is not None:
                total += len(message[1]) + 200
                if total > 2 * MOST_ANSWER:
                    break
                self._messages.put(message)
        self._messages.put(None)
        os.close(self._answers)

    def _read_prints(self) -> None:
        part = b"first"
        while part:
            if os.name != "nt":
                select.select([self._prints], [], [])
            with self._heard, contextlib.suppress(OSError):
                part = b""
                part = os.read(self._prints, 1 << 16)
                self._printed += part[:max(0, MOST_PRINTED - len(self._printed))]
        with self._heard:
            self._hearing = False
            os.close(self._prints)

    def write(self, head: Mapping[str, Any], body: bytes, seconds: float) -> None:
        """Write an order; one that the worker does not take in time, or that nobody reads, is lost with it."""
        data = memoryview(json.dumps({**head, "bytes": len(body)}).encode() + b"\n" + body)
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while data and time.monotonic() < deadline:
                if os.name == "nt" or select.select([], [self._orders], [], 0.1)[1]:
                    with contextlib.suppress(BlockingIOError):
                        data = data[os.write(self._orders, data[:1 << 16]):]

    def listen(self, seconds: float, until: Sequence[str],
               served: Mapping[str, Callable[..., Any]] | None = None) -> tuple[list[Message], str, str | None]:
        """All messages up to one whose kind is in `until`, what was printed, and why it ended before that.

        Args:
            seconds: to wait at most. Then the worker is ended.
            until: kinds of the last message.
            served: functions that a line may ask for.
        """
        deadline, found, inner, requests = time.monotonic() + seconds, list[Message](), Reader(-1, bounded=True), 0
        while True:
            try:
                message = self._messages.get(timeout=max(0.0, min(0.2, deadline - time.monotonic())))
            except queue.Empty:
                why = self._too_much()
                if why is None and time.monotonic() < deadline:
                    continue
                self.close()
                return found, self._said(), why or f"it ran for more than {seconds:g} seconds: is there a loop without end?"
            if message is None:
                self.close()
                return found, self._said(), "it ended the process"
            if message[0].get("kind") == "part":
                inner.data += message[1]
                while (part := inner.parsed()) is not None:
                    requests += part[0].get("kind") == "request"
                    if part[0].get("kind") == "request":
                        self._serve(part, served or {}, deadline if requests <= MOST_REQUESTS else 0.0)
                    else:
                        found.append(part)
                continue
            if message[0].get("kind") == "request":
                continue
            found.append(message)
            if message[0].get("kind") in until:
                return found, self._said(), None

    def _serve(self, message: Message, served: Mapping[str, Callable[..., Any]], deadline: float) -> None:
        head, body = message
        try:
            heads, data = packed([answered(served[str(head.get("name"))], unpacked(head["arrays"], body))])
            self.write({"arrays": heads}, data, deadline - time.monotonic())
        except Exception as e:  # what a task's function says to a student's arguments
            self.write({"error": f"{type(e).__name__}: {e}"[:1000]}, b"", deadline - time.monotonic())

    def _said(self) -> str:
        """What was printed until now. It is in the pipe before the answer is; a thread of a student's that prints on is not waited for."""
        deadline = time.monotonic() + 0.5
        while True:
            with self._heard:
                if not self._hearing or os.name == "nt" or time.monotonic() > deadline or not select.select([self._prints], [], [], 0.0)[0]:
                    said, self._printed = bytes(self._printed), bytearray()
                    return said.decode("utf-8", "replace")
            time.sleep(0.0005)

    def _too_much(self) -> str | None:
        """Whether it holds too much on the disk."""
        size = count = 0
        stack = list(self.watched)
        while stack:
            with contextlib.suppress(OSError):
                for entry in os.scandir(stack.pop()):
                    count += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512 if hasattr(os.stat_result, "st_blocks") else 0
                    if size > MOST_DISK or count > MOST_FILES:
                        return f"it holds more than {MOST_DISK >> 20} MB or {MOST_FILES} files on the disk"
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
        return None

    def close(self) -> None:
        """End the worker and all that it started."""
        if not self.alive:
            return
        self.alive = False
        if os.name == "nt":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(self.pid)], capture_output=True, check=False)
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            if not self.apart:
                self._end_escaped()
        if self._process is not None:
            self._process.wait()
        os.close(self._orders)

    def _end_escaped(self) -> None:
        """End what has left the process group; only where process numbers are shared can there be any."""
        forker = Forker._one.process.pid if Forker._one is not None else -1
        for entry in os.scandir("/proc") if os.path.isdir("/proc") else ():
            if entry.name.isdigit() and int(entry.name) not in (forker, os.getpid()):
                with contextlib.suppress(OSError):
                    if self._token.encode() in Path(entry.path, "environ").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)
