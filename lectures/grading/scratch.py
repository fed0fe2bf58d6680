"""A temporary folder that is always removed: whatever a student's code built in it, and whatever ends the grading."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from minigrad.files import remove_folder

try:
    import fcntl
except ImportError:  # Windows: what a killed grading left there, the system's own cleaning removes
    fcntl = None  # type: ignore[assignment]


PREFIX, LOCK = "minigrad-grading-", ".lock"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, which Python's `tempfile` uses as well until the block ends; then everything in it is deleted.

    What a grading that was killed left behind is deleted now: its lock is free.
    """
    _remove_leftovers(Path(tempfile.gettempdir()))
    base = Path(os.path.realpath(tempfile.mkdtemp(prefix=PREFIX)))
    before, tempfile.tempdir = tempfile.tempdir, str(base)
    try:
        with open(base / (LOCK + ".new"), "wb") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
                Path(lock.name).rename(base / LOCK)  # so that there is no moment at which it is there and free
            yield base
    finally:
        tempfile.tempdir = before
        try:
            remove_folder(base)
        except BaseException:  # Ctrl-C just now
            remove_folder(base)
            raise


def _remove_leftovers(where: Path) -> None:
    for base in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if fcntl is None or base.is_symlink() or base.stat().st_uid != os.getuid():
                continue
            handle = os.open(base / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(base)
            finally:
                os.close(handle)
