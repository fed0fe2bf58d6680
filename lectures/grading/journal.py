"""The finished rows of a grading, one JSON object per line beside the table: grades.csv has its grades.jsonl.

The first line is the header: seed, options, and the packages of the grading environment. Each further line is a finished row with the
checker's report and a hash of what was handed in; a later line replaces an earlier one of the same student and homework. A line is on the disk
before the next row is finished, so a process that is killed leaves at most a torn last line, which is dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import minigrad
from minigrad.files import LineFile

from .gradebook import GradebookRow

try:
    import fcntl
except ImportError:  # Windows: two gradings into one table at a time are not noticed there
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
HEAD = b'{"journal"'  # how each begins


class JournalError(ValueError):
    """The journal belongs to another grading, cannot be read, or is in use."""


class Finished(NamedTuple):
    """A row, and what made it."""

    row: GradebookRow
    digest: str                     # of the submitted files and of the homework
    report: dict[str, Any] | None   # the checker's, where there is one


def environment() -> dict[str, str]:
    """The packages that judge, and the platform."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "minigrad": minigrad.__version__}
    for name in ("numpy",):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class GradingJournal:
    """The finished rows of one table. Make one with `opened`.

    Attributes:
        header: seed, options and packages, as they were when the grading began.
        finished: (student, homework) -> what is finished.
        remarks: what to tell whoever grades.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header, self.finished, self.remarks = path, dict(header), dict[tuple[str, str], Finished](), list[str]()
        self._lock, self._file = threading.Lock(), LineFile(path)
        lines, torn = self._file.lines, self._file.torn
        first = next(iter(lines), torn)
        ours = first.startswith(HEAD[:len(first)])
        if ours and lines:
            self.header = self._parsed(1, lines[0])
            ours = self.header.get("journal") == FORMAT
        if not ours:
            raise JournalError(f"{path} is no journal of this grader's; move it away, or give --csv another name")
        if torn:
            self.remarks.append(f"the last line of {path.name} is torn (a grading was killed while it wrote): its row is done again")
        for i, line in enumerate(lines[1:], 2):
            entry = self._parsed(i, line)
            try:
                row = GradebookRow(**entry["row"])
                self.finished[row.student, row.homework] = Finished(row, str(entry["digest"]), entry["report"])
            except (KeyError, TypeError) as e:
                raise JournalError(f"{path}, line {i}, is not a finished row ({e}): delete that line, and its row is done again") from e

    def _parsed(self, i: int, line: bytes) -> dict[str, Any]:
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError) as e:
            raise JournalError(f"{self.path}, line {i}, is damaged ({e}): delete that line, and its row is done again") from e

    @property
    def begun(self) -> bool:
        """Whether there was a grading before this one."""
        return self._file.size > 0

    def restart(self, header: Mapping[str, Any]) -> None:
        """Forget all rows, and begin with another header."""
        self.header, self.finished = dict(header), {}
        self._file.restart()

    def append(self, done: Finished) -> None:
        """A finished row, on the disk when this returns. From any thread.

        Raises:
            OSError: it cannot be written; the earlier ones are all there.
        """
        line = {"row": done.row._asdict(), "digest": done.digest, "report": done.report}
        with self._lock:
            self._file.append(*(json.dumps(entry).encode() for entry in ([line] if self.begun else [self.header, line])))
            self.finished[done.row.student, done.row.homework] = done

    def rows(self) -> list[GradebookRow]:
        """All rows, by student and homework."""
        with self._lock:
            return [self.finished[k].row for k in sorted(self.finished)]


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other gradings out of this table, until the block or the process ends, however it ends. An empty journal is not left behind."""
    try:
        file = open(path, "ab")
    except OSError as e:
        raise JournalError(f"cannot write {path}: {e.strerror or e}. Nothing was graded; give --csv another place") from e
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise JournalError(f"another grading writes {path} now: wait for it, or give --csv another name") from e
        try:
            yield
        finally:
            if path.stat().st_size == 0 and os.name != "nt":
                path.unlink()


@contextlib.contextmanager
def opened(path: Path, header: Mapping[str, Any]) -> Iterator[GradingJournal]:
    """The journal at `path`, held against other processes; `header` is its first line if it begins now.

    Raises:
        JournalError: it is in use or damaged.
    """
    with _held(path):
        yield GradingJournal(path, {"journal": FORMAT, **header, "environment": environment()})


__all__ = ["Finished", "GradingJournal", "JournalError", "environment", "opened"]
