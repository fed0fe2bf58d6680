"""A child process with limits: what it is asked, what it answers, what it prints, and why it ended.

Each answer is a line of JSON and raw bytes, in a pipe for answers alone. What the child prints goes into another pipe: the
beginning is kept, the rest is read and dropped, so that it never fills a disk or blocks the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .inside.messages import written

CAN_FORK = hasattr(os, "fork") and sys.platform not in ("win32", "emscripten", "wasi")  # the last two have the function, and no processes
MOST_PRINTED = 4000  # bytes that are kept
LAST = ("missing", "error", "stopped", "end")  # nothing comes after one of these

_held: list[int] = []  # in a child: its own ends of pipes, which a grandchild must not have

Message = tuple[dict[str, Any], bytes]
Send = Callable[[dict[str, Any], bytes], None]


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Args:
        seconds: for one line on all probes.
        megabytes: of memory beyond what is in use.
        loading: seconds for loading the file.
        total: seconds for the whole file; None: no limit but those for each part.
    """

    seconds: float = 10.0
    megabytes: int = 1024
    loading: float = 60.0
    total: float | None = None


class Answer(NamedTuple):
    """Messages, what was printed, and why it ended early (None if it did not)."""

    messages: list[Message]
    printed: str
    ended: str | None


class Child:
    """A fork of this process that runs ``work(send, orders)``.

    Args:
        work: in the child; `send` writes a message, `orders` reads the lines that `ask` writes.
        seconds, megabytes: limits of processor time and of memory beyond what this process uses.
        final: it cannot raise its limits again.
    """

    def __init__(self, work: Callable[[Send, Any], None], seconds: float, megabytes: int, *, final: bool = True) -> None:
        answers, answer = os.pipe()
        prints, printing = os.pipe()
        ordering, orders = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = _fork()
        if self.pid == 0:
            try:
                for fd in (answers, prints, orders, *_held):
                    os.close(fd)
                _held[:] = answer, ordering
                for fd, place in ((os.open(os.devnull, os.O_RDONLY), 0), (printing, 1), (printing, 2)):
                    os.dup2(fd, place)
                sys.stdout, sys.stderr = (os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False) for fd in (1, 2))
                limit(seconds, megabytes, final)

                def send(head: dict[str, Any], body: bytes) -> None:
                    with contextlib.suppress(Exception):  # what was printed before comes first; a student may have put anything here
                        sys.stdout.flush()
                    written(answer, head, body)
                work(send, os.fdopen(ordering, "rb", closefd=False))
                send({"kind": "end"}, b"")
            finally:
                os._exit(0)
        for fd in (answer, printing, ordering):
            os.close(fd)
        self._answers, self._prints, self._orders = answers, prints, orders
        self._data, self._printed, self._ended = b"", b"", False
        self.status, self.alive = 0, True

    def ask(self, order: dict[str, Any]) -> None:
        """Write an order for the child; one that is gone does not get it."""
        with contextlib.suppress(OSError):
            os.write(self._orders, json.dumps(order).encode() + b"\n")

    def listen(self, seconds: float, until: Sequence[str] = LAST) -> Answer:
        """All messages up to one whose kind is in `until`, or to its end, or for so long."""
        deadline, messages = time.monotonic() + seconds, list[Message]()
        while True:
            while (message := self._message()) is not None:
                messages.append(message)
                if message[0].get("kind") in until:
                    return Answer(messages, self._said, None)
            ready, _, _ = select.select([fd for fd in (self._answers, self._prints) if fd >= 0], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.close()
                return Answer(messages, self._said, f"it ran for more than {seconds:g} seconds: is there a loop without end?")
            part = os.read(self._answers, 1 << 20) if self._answers in ready else b""
            self._hear()
            self._data += part
            if self._answers in ready and not part:
                self._wait(max(0.1, min(1.0, deadline - time.monotonic())))
                self.close()
                how = f"signal {os.WTERMSIG(self.status)}" if os.WIFSIGNALED(self.status) else "the process ended itself"
                return Answer(messages, self._said, f"it ended the process ({how})")

    def close(self) -> None:
        """End the child, if it has not ended."""
        if not self.alive:
            return
        if not self._wait(0.0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitpid(self.pid, 0)[1]
        self.alive = False
        self._hear()
        for fd in (self._answers, self._prints, self._orders):
            if fd >= 0:
                os.close(fd)
        self._answers = self._prints = self._orders = -1

    def _wait(self, seconds: float) -> bool:
        """Whether it ends by itself within this time."""
        deadline = time.monotonic() + seconds
        while not self._ended:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended, self.status = True, status
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(0.002)
        return True

    def _message(self) -> Message | None:
        """The next message, if it is complete. What is not a message, because the child wrote into every descriptor, is left out."""
        while True:
            line, found, rest = self._data.partition(b"\n")
            if not found:
                return None
            try:
                head = json.loads(line)
                size = int(head.get("bytes", 0))
            except (ValueError, TypeError, AttributeError):
                self._data = rest
                continue
            if len(rest) < size:
                return None
            self._data = rest[size:]
            return head, rest[:size]

    def _hear(self) -> None:
        """Read what it has printed so far, or a good part of it; keep the beginning."""
        for _ in range(64):
            if self._prints < 0 or not select.select([self._prints], [], [], 0)[0]:
                return
            part = os.read(self._prints, 1 << 16)
            if not part:  # nobody is left who could print
                os.close(self._prints)
                self._prints = -1
            self._printed += part[:MOST_PRINTED - len(self._printed)]

    @property
    def _said(self) -> str:
        self._hear()
        said, self._printed = self._printed, b""
        return said.decode("utf-8", "replace")


def _fork() -> int:
    """Fork, without the warning of Python 3.12 that a child may wait forever, for a lock that another thread held.

    `Child.listen` expects that of every child: it ends one that does not answer in time, and says so.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        return os.fork()


def in_child(work: Callable[[Send], None], limits: Limits) -> Answer:
    """What ``work(send)`` says in a new child."""
    child = Child(lambda send, _: work(send), limits.seconds, limits.megabytes)
    try:
        return child.listen(limits.seconds)
    finally:
        child.close()


def limit(seconds: float, megabytes: int, final: bool) -> None:
    """Bound this process, where the platform can; never above what bounds it already."""
    import resource
    for what, amount in ((resource.RLIMIT_AS, own_bytes() + (megabytes << 20)), (resource.RLIMIT_CPU, int(seconds) + 2), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            _, hard = resource.getrlimit(what)
            amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
            resource.setrlimit(what, (amount, amount if final else hard))


def own_bytes() -> int:
    """How much address space this process has."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30
