"""Which files were handed in: one folder a student, in one of the layouts that learning platforms and nbgrader make.

    STUDENT/02_batch_norm.py             a file named as the homework
    STUDENT/02_batch_norm/lines.py       a folder named as the homework, and in it lines.py or 02_batch_norm.py, or its only
                                         Python file besides task.py; nbgrader's submitted/STUDENT/HOMEWORK is this layout
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

MOST_BYTES, MOST_FILES = 32 << 20, 2000
NOT_COPIED = ("__pycache__", "node_modules", "venv", "env")  # besides hidden folders and anything that holds a pyvenv.cfg


class Submission(NamedTuple):
    """What one student handed in for one homework; without a file, `problem` says why there is nothing to check."""

    student: str
    homework: str
    folder: Path            # the student's files for this homework, copied whole before the check
    file: str | None        # the file to check, in `folder`
    status: str = ""        # the status of the row where there is no file: "missing" or "ambiguous"
    problem: str = ""


class NotCopied(Exception):
    """The folder cannot be checked: its file is not a plain file of its own, or there is far too much in it."""


def students(root: Path) -> list[str]:
    """The names of the students: the folders in `root`, hidden ones apart, in order.

    A link to a folder is a name as well: what is wrong with it is said in its row.
    """
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith((".", "__")))


def find(root: Path, student: str, homework: str) -> Submission:
    """The file that `student` handed in for `homework`."""
    mine = root / student
    folder, file = mine / homework, mine / f"{homework}.py"
    if mine.is_symlink() or folder.is_symlink():
        return Submission(student, homework, mine, None, "link", "the folder is a symbolic link; nothing behind it was read")
    if os.path.lexists(file) and folder.is_dir() and any(folder.glob("*.py")):
        return Submission(student, homework, mine, None, "ambiguous", f"both {file.name} and a folder {homework} were handed in")
    if os.path.lexists(file):
        return Submission(student, homework, mine, file.name)
    if not folder.is_dir():
        present = sorted(entry.name for entry in os.scandir(mine) if not entry.name.startswith("."))
        return Submission(student, homework, mine, None, "missing",
                          f"neither {homework}.py nor {homework}/lines.py; there " + (f"is {', '.join(present[:5])}" if present else "is nothing"))
    candidates = sorted(p.name for p in folder.iterdir() if p.suffix == ".py" and p.name != "task.py")
    for name in ("lines.py", f"{homework}.py"):
        if name in candidates:
            return Submission(student, homework, folder, name)
    if len(candidates) == 1:
        return Submission(student, homework, folder, candidates[0])
    if candidates:
        return Submission(student, homework, folder, None, "ambiguous", f"none is called lines.py: {', '.join(candidates[:5])}")
    return Submission(student, homework, folder, None, "missing", f"no lines.py in the folder {homework}")


def copy(submission: Submission, to: Path) -> None:
    """A copy of the student's folder without links, special files and virtual environments.

    Raises:
        NotCopied: the file to check is a link out of the folder or no plain file, or the folder is too large.
    """
    source = submission.folder
    assert submission.file is not None
    main = source / submission.file
    root = source.resolve()
    if not main.resolve().is_relative_to(root):
        raise NotCopied(f"{submission.file} is a symbolic link out of the student's folder; it was not followed")
    if not main.is_file():
        raise NotCopied(f"{submission.file} is not a plain file")
    count = size = 0
    for folder, folders, files in os.walk(source):  # does not follow links
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in NOT_COPIED
                            and not Path(folder, f).is_symlink() and not Path(folder, f, "pyvenv.cfg").exists())
        target = to / Path(folder).relative_to(source)
        target.mkdir(parents=True, exist_ok=True)
        for name in sorted(files):
            path = Path(folder, name)
            if not path.resolve().is_relative_to(root) or not stat.S_ISREG(path.stat().st_mode):
                continue
            count, size = count + 1, size + path.stat().st_size
            if count > MOST_FILES or size > MOST_BYTES:
                raise NotCopied(f"the folder holds more than {MOST_FILES} files or {MOST_BYTES >> 20} MB; hand in only what the homework needs")
            shutil.copyfile(path, target / name)


def seed_of(seed: int, student: str, homework: str) -> int:
    """The seed of a student's probes: another one for each, and the same when graded again."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{homework}/{student}".encode("utf-8", "surrogateescape")).digest()[:4], "big") >> 1
