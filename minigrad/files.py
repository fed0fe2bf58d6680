"""Write files and folders whole or not at all: made beside their destination, brought to the disk, and renamed into place.

    write_atomically("table.csv", text)

    with new_folder("build/site") as folder:
        (folder / "index.html").write_text(page)

A file that grows line by line, such as a journal of finished work, is a `LineFile`.

Whatever happens on the way (an exception, a full disk, a power cut), a reader finds the old content or the new one. Only a program that is
killed leaves its unfinished file behind, under a hidden name that ends in ``.tmp``; `remove_leftovers` deletes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

StrPath = str | os.PathLike[str]


def write_atomically(path: StrPath, *parts: Any) -> None:
    """Replace the file by one that holds `parts`, in their order.

    Args:
        path: the file. Through a symbolic link the file that it names changes, not the link. An old file's permissions stay; a new
            file has those that the process gives to all its files.
        parts: str, which is written as UTF-8 with its line ends as they are, or anything with bytes.

    Raises:
        OSError: it cannot be written. The last of its notes (``__notes__``) says what is at `path` now.
    """
    path = Path(os.path.realpath(path))
    temporary = _beside(path, "tmp")
    try:
        mode: int | None = os.stat(path).st_mode & 0o7777
        outcome = "the file that was there is untouched"
    except OSError:
        mode, outcome = None, "no file was made"
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o666 if mode is None else mode & 0o777)) as file:
            for part in parts:
                file.write(part.encode("utf-8") if isinstance(part, str) else part)
            file.flush()
            if mode is not None:
                os.chmod(temporary, mode)
            os.fsync(file.fileno())  # the content is on the disk before it has its name
        os.replace(temporary, path)
        outcome = "the new file is there, but a power cut may still undo that"
        _sync(path.parent)
    except OSError as e:
        e.add_note(outcome)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(dest: StrPath) -> Iterator[Path]:
    """Give an empty folder beside `dest`; if all goes well, it takes the place of `dest` at the end, with everything in it.

    If the block raises, or the folder cannot take its place, `dest` stays as it was. The old folder is moved aside before the new
    one is renamed: a program that is killed between these two steps leaves the old one as ``.NAME.….old``.

    Args:
        dest: the folder, which need not exist. Through a symbolic link the folder that it names changes, not the link.

    Raises:
        OSError: the folder cannot be made, or cannot take its place.
    """
    dest = Path(os.path.realpath(dest))
    tree, old = _beside(dest, "tmp"), _beside(dest, "old")
    tree.mkdir(parents=True)
    try:
        yield tree
        for path in [*tree.rglob("*"), tree]:
            if path.is_dir() or path.is_file():
                _sync(path)
        if dest.exists():
            os.replace(dest, old)
        try:
            os.replace(tree, dest)
        except BaseException:
            if old.exists():
                os.replace(old, dest)
            raise
        _sync(dest.parent)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
        if dest.exists():  # else the old folder is all there is
            shutil.rmtree(old, ignore_errors=True)


class LineFile:
    """A file that grows by whole lines, each of which is on the disk when `append` returns.

    A program that is killed leaves at most a torn last line, which the next `append` overwrites.

    Attributes:
        lines: the whole lines that the file had, without their ends.
        torn: what stood behind them.

    Raises:
        OSError: the file is there and cannot be read.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        content = self.path.read_bytes() if self.path.exists() else b""
        self.size = content.rfind(b"\n") + 1  # of the whole lines, in bytes
        self.lines, self.torn = content[:self.size].splitlines(), content[self.size:]

    def append(self, *lines: bytes) -> None:
        """Add lines, given without their ends: all of them, or after an error none.

        Raises:
            OSError: they cannot be written; the earlier lines are all there.
        """
        content = b"".join(line + b"\n" for line in lines)
        with open(self.path, "r+b", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666)) as file:
            file.truncate(self.size)
            file.seek(self.size)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest):]
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(self.size)
                raise
        self.size += len(content)

    def restart(self) -> None:
        """Let the next `append` begin the file anew."""
        self.size, self.lines, self.torn = 0, [], b""


def remove_leftovers(path: StrPath) -> list[Path]:
    """Delete the unfinished files that killed programs left beside `path`, and return their names.

    Only when no other process is writing to `path` now.
    """
    path = Path(os.path.realpath(path))
    found = [p for p in path.parent.glob("*.tmp") if p.name.startswith(f".{path.name}.")]
    for leftover in found:
        leftover.unlink(missing_ok=True)
    return found


def remove_folder(base: StrPath) -> bool:
    """Delete a folder and everything below it, however deep, and whatever permissions its owner took away. Links are not followed.

    Needs no recursion and no long paths: a folder's subfolders are moved up to the top before the folder goes, so a tree of 5,000 levels is
    as easy as one of two. An entry that cannot be deleted stops no other, and no error is raised.

    Returns:
        Whether nothing is left.
    """
    if os.unlink not in os.supports_dir_fd or os.rename not in os.supports_dir_fd:  # Windows
        shutil.rmtree(base, ignore_errors=True)
        return not os.path.lexists(base)
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


def _beside(path: Path, end: str) -> Path:
    """A name in the same folder, and so in the same file system, that no other writer has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{end}")


def _sync(path: Path) -> None:
    """Bring a closed file, or the list of names in a folder, to the disk. Windows has no way to do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that have no such thing
            raise
    finally:
        os.close(handle)


__all__ = ["LineFile", "new_folder", "remove_folder", "remove_leftovers", "write_atomically"]
