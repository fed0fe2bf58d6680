"""Which file is the answer to a homework, among all that a student handed in.

    02_batch_norm.py             a file named as the homework
    02_batch_norm/lines.py       a folder named as the homework, and in it lines.py, or 02_batch_norm.py, or its only Python file
                                 besides task.py; nbgrader's submitted/STUDENT/HOMEWORK is this layout
    .../02_batch_norm/lines.py   the same further down, folders before files, and what is nearest to the top first
    lines.py, anything.py        lines.py, or the only Python file: where all files are for one homework, as in a platform's download

Notebooks stand for Python files, and come after them. Capital letters, and spaces or hyphens for underscores, make no difference. What
browsers and platforms add to a copy ("lines (1).py", "lines-2.py", "lines - Copy.py") is taken off: of several copies the latest counts
where the platform says which that is, else the one with the highest number. "The only one" means: the only one with a function ``d_…`` in it,
or the only one at all. Zips are opened where nothing is found without them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from . import notebooks
from .handed_in import HandedIn, NotCopied

COPY = re.compile(r"(?:\s*\((\d+)\)|-(\d+)| - copy(?: \((\d+)\))?| copy(?: (\d+))?)$", re.IGNORECASE)
ANSWERS = (".py", ".ipynb")


class Submission(NamedTuple):
    """What one student handed in for one homework; without a file, `problem` says why there is nothing to check."""

    student: str
    homework: str
    files: HandedIn         # of this homework, copied whole before the check
    file: str | None        # the file to check
    status: str = ""        # the status of the row where there is no file: "missing", "ambiguous", "link" or "not copied"
    problem: str = ""
    remark: str = ""        # which of several files counts


def key(name: str) -> str:
    """A name as it is compared: without capital letters; spaces and hyphens are underscores."""
    return re.sub(r"[\s_-]+", "_", name.casefold()).strip("_")


def copy_of(name: str, wanted: str) -> int | None:
    """Which copy of `wanted` a name says that it is: 0 for the thing itself, None for something else.

    >>> [copy_of(name, "02_batch_norm") for name in ("02_Batch norm", "02_batch_norm (1)", "02_batch_norm-2", "02_batch_norm - Copy", "03_x")]
    [0, 1, 2, 1, None]
    """
    if key(name) == key(wanted):
        return 0
    end = COPY.search(name)
    if end is None or key(name[:end.start()]) != key(wanted):
        return None
    return next((int(number[:9]) for number in end.groups() if number), 1)


def find(student: str, homework: str, files: HandedIn, *, others: Sequence[str] = (), alone: bool = False) -> Submission:
    """The file that `student` handed in for `homework`.

    Args:
        others: the names of other homeworks, whose files are not taken for this one's.
        alone: whether everything here was handed in for this homework.

    Raises:
        NotCopied: a zip had to be opened, and could not be.
    """
    found = _find(student, homework, files, others, alone)
    archives = [name for name in files.files if name.lower().endswith(".zip") and not _hidden(name)]
    if found.status == "missing" and archives:
        opened = files.below("")
        for name in sorted(archives):
            opened.add_zip(files.files[name](), name, name[:-4] + "/")
            opened.files.pop(name)
            opened.sizes.pop(name)
            opened.order |= {inside: files.order[name] for inside in opened.files if inside.startswith(name[:-4] + "/")} if name in files.order else {}
        found = _find(student, homework, opened, others, alone)
    return found


def _find(student: str, homework: str, files: HandedIn, others: Sequence[str], alone: bool) -> Submission:
    everything = [*files.files, *files.links, *files.others]
    names = [name for name in everything if name.endswith(ANSWERS) and not _hidden(name) and name.rpartition("/")[2] != "task.py"]
    if any(copy_of(name, homework) is not None for name in files.links if "/" not in name and not name.endswith(ANSWERS)):
        return Submission(student, homework, files, None, "link", f"the folder {homework} is a symbolic link; nothing behind it was read")
    by_name: dict[int, list[str]] = {}
    by_folder: dict[int, dict[str, int]] = {}
    for name in names:
        path = PurePosixPath(name)
        if copy_of(path.stem, homework) is not None:
            by_name.setdefault(len(path.parts), []).append(name)
        if len(path.parts) > 1 and (number := copy_of(path.parts[-2], homework)) is not None:
            by_folder.setdefault(len(path.parts) - 1, {})[str(path.parent) + "/"] = number
    # Below the top, a folder of this name comes first: a tree of the whole course has a lecture named as the homework as well.
    for level, which in [(1, "both"), *((level, "folder") for level in sorted(by_folder)), *((level, "name") for level in sorted(by_name))]:
        named, folders = by_name.get(level, []) if which != "folder" else [], by_folder.get(level, {}) if which != "name" else {}
        if named and folders:
            return Submission(student, homework, files, None, "ambiguous", f"both {named[0]} and a folder {homework} were handed in")
        if folders:
            latest = max(folders.values())
            chosen = [folder for folder, number in folders.items() if number == latest]
            if len(chosen) > 1:
                return Submission(student, homework, files, None, "ambiguous", f"there are several folders {homework}: {', '.join(sorted(chosen)[:5])}")
            return _in_folder(student, homework, files.below(chosen[0]), [n.removeprefix(chosen[0]) for n in names if n.startswith(chosen[0])], others)
        if named:
            return _latest(student, homework, files, named, homework)
    if alone:
        return _in_folder(student, homework, files, names, others)
    present = sorted({name.partition("/")[0] for name in everything if not name.startswith(".")})
    return Submission(student, homework, files, None, "missing",
                      f"neither {homework}.py nor {homework}/lines.py; there " + (f"is {', '.join(present[:5])}" if present else "is nothing"))


def _in_folder(student: str, homework: str, files: HandedIn, names: Sequence[str], others: Sequence[str]) -> Submission:
    """The file in a folder that is all for this homework."""
    for wanted in ("lines", homework):
        for level in sorted({name.count("/") for name in names}):
            if same := [name for name in names if name.count("/") == level and copy_of(PurePosixPath(name).stem, wanted) is not None]:
                return _latest(student, homework, files, same, wanted)
    mine = [name for name in names if not any(copy_of(PurePosixPath(name).stem, other) is not None for other in others)]
    for candidates in ([name for name in mine if name in files.files and b"def d_" in files.files[name]()], mine):
        if len(candidates) == 1:
            return _chosen(student, homework, files, candidates[0], "")
        if candidates:  # copies of one file, whatever its name
            stems = {key(COPY.sub("", PurePosixPath(name).stem)) for name in candidates}
            if len(stems) == 1 or len({files.order.get(name) for name in candidates}) == len(candidates):
                return _latest(student, homework, files, candidates, COPY.sub("", PurePosixPath(candidates[0]).stem))
            return Submission(student, homework, files, None, "ambiguous", f"none is called lines.py: {', '.join(sorted(candidates)[:5])}")
    said = f"no lines.py in the folder {homework}" if not names else f"only files of other homeworks: {', '.join(sorted(names)[:5])}"
    return Submission(student, homework, files, None, "missing", said)


def _latest(student: str, homework: str, files: HandedIn, names: Iterable[str], wanted: str) -> Submission:
    """Of several copies, the one that counts."""
    def rank(name: str) -> tuple[int, bool, int]:
        return files.order.get(name, 0), name.endswith(".py"), copy_of(PurePosixPath(name).stem, wanted) or 0

    ranked = sorted(names, key=rank)
    if len(ranked) > 1 and rank(ranked[-1]) == rank(ranked[-2]):
        return Submission(student, homework, files, None, "ambiguous", f"which one counts? {', '.join(sorted(ranked)[:5])}")
    return _chosen(student, homework, files, ranked[-1], f"of {len(ranked)} copies {ranked[-1]} counts" if len(ranked) > 1 else "")


def _chosen(student: str, homework: str, files: HandedIn, name: str, remark: str) -> Submission:
    if name in files.links:
        return Submission(student, homework, files, None, "not copied", f"{name} is a symbolic link; it was not followed")
    if name not in files.files:
        return Submission(student, homework, files, None, "not copied", f"{name} is not a plain file")
    folder = str(PurePosixPath(name).parent)
    prefix = "" if folder == "." else folder + "/"
    return Submission(student, homework, files.below(prefix), name.removeprefix(prefix), remark=remark)


def _hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def prepared(submission: Submission) -> tuple[dict[str, bytes], str, str]:
    """The files to copy, the Python file to check among them, and what to remark: a notebook becomes Python here.

    Raises:
        NotCopied: too much, or a notebook that is none.
    """
    assert submission.file is not None
    contents, file, remark = submission.files.contents(), submission.file, submission.remark
    if file.endswith(".ipynb"):
        try:
            text, dropped = notebooks.python_of(contents[file])
        except notebooks.NotebookError as reason:
            raise NotCopied(f"{file}: {reason}") from reason
        said = f"from the notebook {file}"
        if dropped:
            more = f" and {len(dropped) - 3} more" if len(dropped) > 3 else ""
            said += f", without {len(dropped)} line{'s' if len(dropped) > 1 else ''} for IPython ({'; '.join(dropped[:3])}{more})"
        remark = "; ".join(filter(None, [remark, said]))
        file = file.removesuffix(".ipynb") + ".py"
        while file in contents:
            file = "_" + file
        contents[file] = text.encode()
    return contents, file, remark


def seed_of(seed: int, student: str, homework: str) -> int:
    """The seed of a student's probes: another one for each, and the same when graded again."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{homework}/{student}".encode("utf-8", "surrogateescape")).digest()[:4], "big") >> 1
