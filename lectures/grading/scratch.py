"""A temporary folder that is always removed: whatever a student's code built in it, and whatever ends the grading.

`remove_tree` needs no recursion and no long paths: a folder's subfolders are moved up to the top before the folder goes, so a tree of
5,000 levels is as easy as one of two. Links are deleted, never followed; permissions that were taken away are given back first.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
                os.rename(lock.name, base / LOCK)  # so that there is no moment at which it is there and free
            yield base
    finally:
        tempfile.tempdir = before
        try:
            remove_tree(base)
        except BaseException:  # Ctrl-C just now
            remove_tree(base)
            raise


def _remove_leftovers(where: Path) -> None:
    for base in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if fcntl is None or base.is_symlink() or base.stat().st_uid != os.getuid():
                continue
            handle = os.open(base / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(base)
            finally:
                os.close(handle)


def remove_tree(base: Path) -> bool:
    """Delete the folder `base` and everything below it. True if nothing is left; an entry that cannot be deleted stops no other."""
    if os.unlink not in os.supports_dir_fd or os.rename not in os.supports_dir_fd:  # Windows
        shutil.rmtree(base, ignore_errors=True)
        return not base.exists()
    with contextlib.suppress(OSError):
        os.chmod(base, 0o700)
    try:
        top = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return not os.path.lexists(base)
    try:
        kept: set[str] = set()  # what cannot be deleted
        while names := [name for name in os.listdir(top) if name not in kept]:
            kept.update(name for name in names if not _removed(name, top))
    finally:
        os.close(top)
    with contextlib.suppress(OSError):
        os.rmdir(base)
    return not os.path.lexists(base)


def _removed(name: str, top: int) -> bool:
    """Delete one entry of the folder `top`; the subfolders of a folder are moved to `top`, where their turn comes later."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
            os.unlink(name, dir_fd=top)
            return True
        os.chmod(name, 0o700, dir_fd=top)
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    except OSError:
        return False
    try:
        for child in os.listdir(folder):
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.lstat(child, dir_fd=folder).st_mode):
                    os.chmod(child, 0o700, dir_fd=folder)  # else it may not be moved
                    os.rename(child, f".{secrets.token_hex(8)}", src_dir_fd=folder, dst_dir_fd=top)
                else:
                    os.unlink(child, dir_fd=folder)
    except OSError:
        return False
    finally:
        os.close(folder)
    try:
        os.rmdir(name, dir_fd=top)
    except OSError:
        return False
    return True
