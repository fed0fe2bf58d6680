"""One process at a time in a folder, by a lock of the operating system: it ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

NAME = ".lock"


def _acquire(file: IO[Any]) -> None:
    """Lock the open file, or raise BlockingIOError if another process (or another open file of this one) has locked it."""
    if sys.platform == "win32":
        import msvcrt
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as e:
            raise BlockingIOError(e.errno, e.strerror) from e
    else:
        import fcntl
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that exists. A lock file that a killed process left behind is no lock.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the lock file cannot be made.
    """
    path = folder / NAME
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(path, "a+b"))
            try:
                _acquire(file)
            except BlockingIOError:
                raise
            except OSError as e:  # some network file systems have no locks
                print(f"{folder} cannot be locked ({e.strerror or e}): start no second run that writes there", file=sys.stderr)
                break
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    break
            file.close()  # whoever had it removed it between our opening and our locking: it locks nothing
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows does not remove an open file
                path.unlink(missing_ok=True)  # while it is locked: who opens it now finds out, as above
