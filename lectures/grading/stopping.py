"""How a grading stops before its end: Ctrl-C, a closed terminal or SIGTERM once, in order, and with everything that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """Somebody asked this program to end. `status` is what a shell expects of it then."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Signals that end programs raise `Stopped` in the main thread, once: while that is being dealt with, they are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    try:
        for number, old in before.items():
            if old is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, stop)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old if old is not None else signal.SIG_DFL)


def children() -> set[int]:
    """The processes that this one started and that still run."""
    me = os.getpid()
    if os.path.isdir("/proc/self"):
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]  # after the name, which may hold anything
                    if int(parent) == me and state != b"Z":
                        found.add(int(entry.name))
        return found
    if os.name == "nt":
        return set()
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=False).stdout.splitlines()
    return {int(line.split()[0]) for line in listed if line.split()[1] == str(me) and not line.endswith("ps")}


def end_children(but: set[int]) -> None:
    """End the processes that this one started since `but` was taken, each with its group if it leads one."""
    for pid in children() - but:
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
