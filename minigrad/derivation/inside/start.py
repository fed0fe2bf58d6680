"""The process of a worker, from its start: one that forks a worker for each submission, or one that is a worker itself.

Starting Python and NumPy takes a tenth of a second, and a fork a millisecond. The process that forks never sees a student's
code, so the next submission finds it as new.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import Any

from . import confine, guard, worker


def main(numpy: str, way: str) -> None:
    """Serve on standard input and output.

    Args:
        numpy: the folder in which NumPy lies.
        way: "forks" where standard input is a socket over which the descriptors of workers come; "one" for a single worker.
    """
    if way == "one":
        orders, answers = os.dup(0), os.dup(1)
        work(numpy, orders, answers, 2)
        return
    connection = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
    while True:
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
        if len(descriptors) < 3:  # the other side is gone
            return
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.setsid()
                confine.end_with_parent()
                connection.close()
                work(numpy, *descriptors)
            finally:
                os._exit(0)
        for fd in descriptors:
            os.close(fd)
        connection.sendall(pid.to_bytes(8, "big"))


def work(numpy: str, orders: int, answers: int, prints: int) -> None:
    """Be a worker: standard output and error go to `prints`, standard input is empty."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(prints, 1)
    os.dup2(prints, 2)
    for fd in {null, prints} - {0, 1, 2}:
        os.close(fd)
    for name, fd in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
    sys.stdin = open(0, encoding="utf-8", closefd=False)

    def confined(order: Any, note: Any) -> tuple[str, bool]:
        order = {**order, "read": confine.readable(numpy)}
        found = confine.confine(order, (orders, answers))
        write = [order["scratch"], *([order["folder"]] if order["writable"] else [])]
        guard.watch(guard.Policy(order["folder"], write, order["read"]), note, lambda: bool(worker.at_work))
        return found
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        worker.main(orders, answers, confined)
