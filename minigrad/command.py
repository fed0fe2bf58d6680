"""How a program ends: with a status, and quietly where the reader of its output has left, as in ``python -m layers.report | head``.

    if __name__ == "__main__":
        run_command(main)
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

NOBODY_READS = 128 + 13  # what a shell reports of a program that SIGPIPE, signal 13, has ended


def run_command(main: Callable[[], Any]) -> NoReturn:
    """Call ``main()`` and end the program.

    The exit status is main's result if that is an integer, 0 if it is anything else, and 141 if the output's reader has left.
    A signal handler would be shorter, but it would also end a program whose child has died.

    Raises:
        SystemExit: always, except for errors of `main`, which pass through.
    """
    try:
        try:
            result = main()
        finally:
            if sys.stdout is not None:  # None: the program was started without one
                sys.stdout.flush()
    except BrokenPipeError:
        closed = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _nobody_reads(stream)]
        if not closed:  # it was another pipe
            raise
        for stream in closed:
            _to_nowhere(stream)
        sys.exit(NOBODY_READS)
    sys.exit(result if isinstance(result, int) else 0)


def _nobody_reads(stream: TextIO) -> bool:
    """Whether a write would fail. A flush alone does not tell: a long write that has failed leaves nothing to flush."""
    try:
        stream.flush()
        poll = select.poll()
        poll.register(stream, select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except BrokenPipeError:
        return True
    except (AttributeError, OSError):  # a system without poll; a stream that is no file
        return False


def _to_nowhere(stream: TextIO) -> None:
    """What is still in the stream's buffer is written when Python ends; it must not fail once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    with contextlib.suppress(BrokenPipeError):
        stream.flush()


__all__ = ["run_command"]
