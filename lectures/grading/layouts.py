"""Who handed in what: one reader per way in which courses collect files. `detect` takes the first that knows its signs.

    folders     STUDENT/...                                            a folder per student; also nbgrader's submitted/STUDENT/HOMEWORK
    moodle      Full Name_123456_assignsubmission_file_/...            "Download all submissions"; also flat, the file's name behind it
    canvas      lovelaceada_LATE_123_456_lines.py                      "Download Submissions"
    gradescope  submission_123456/..., submission_metadata.yml         "Export Submissions"
    classroom   ASSIGNMENT-USERNAME/...                                GitHub Classroom: gh classroom clone student-repos
    otter       STUDENT.zip, STUDENT.ipynb, STUDENT.py                 what ``otter grade -p`` takes
    single      ...                                                    the folder is the submission of one student (--layout single only)

Where each naming comes from stands at its reader. A reader returns None where the folder is not of its kind.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .handed_in import HandedIn, NotCopied, members, read_plain
from .metadata import gradescope_metadata
from .submissions import ANSWERS, COPY, copy_of, key

MOST_BYTES, MOST_FILES = 4 << 30, 100_000  # of a whole course's zip
FILES = (*ANSWERS, ".zip")


class Part(NamedTuple):
    """A folder with files, or a single file under the name that its author gave it."""

    path: Path
    name: str = ""  # "": a folder
    order: int = 0  # larger: handed in later


class Person(NamedTuple):
    """One student, and everything that came from them."""

    student: str                # the name in the table
    parts: tuple[Part, ...] = ()
    ids: tuple[str, ...] = ()   # other names and numbers, for the roster
    late: str = ""
    remark: str = ""

    def files(self) -> HandedIn:
        """All files.

        Raises:
            NotCopied: too many, too deep, or the folder is a link.
        """
        found = HandedIn()
        for part in self.parts:
            if part.name:
                found.add_file(part.name, part.path)
                found.order[part.name] = part.order
            elif part.path.is_symlink():
                raise LinkedFolder("the folder is a symbolic link; nothing behind it was read")
            else:
                found.add_folder(part.path)
        return found


class LinkedFolder(NotCopied):
    """A student's folder is a symbolic link."""


class Collected(NamedTuple):
    """What a reader found."""

    layout: str
    people: list[Person]
    leftover: list[str]  # entries that belong to nobody
    alone: bool          # whether all of it was handed in for one homework


def _entries(root: Path) -> list[os.DirEntry[str]]:
    with os.scandir(root) as entries:
        return sorted((e for e in entries if not e.name.startswith((".", "__"))), key=lambda e: e.name)


def folders(root: Path, homeworks: Sequence[str]) -> Collected | None:
    """A folder per student; a link to a folder is a name as well: what is wrong with it is said in its row.

    nbgrader's naming: https://nbgrader.readthedocs.io/en/stable/user_guide/philosophy.html, ``submitted/{student_id}/{assignment_id}``; the
    course's folder, its ``submitted`` and its ``autograded`` will all do.
    """
    base = root / "submitted" if (root / "submitted").is_dir() and (root / "source").is_dir() else root
    entries = _entries(base)
    return Collected("folders", [Person(e.name, (Part(base / e.name),)) for e in entries if e.is_dir()], [e.name for e in entries if not e.is_dir()], False)


MOODLE = re.compile(r"(?P<name>.+)_(?P<id>\d+)_assignsubmission_(?P<kind>file|onlinetext)_?(?P<file>.*)", re.DOTALL)


def moodle(root: Path, homeworks: Sequence[str]) -> Collected | None:
    """Moodle's "Download all submissions", with "Download submissions in folders" or without.

    Naming: https://docs.moodle.org/en/Assignment_activity, and `mod/assign/locallib.php`: the full name, the participant's number, the plugin.
    """
    found: dict[tuple[str, str], list[Part]] = {}
    leftover = []
    for e in _entries(root):
        match = MOODLE.fullmatch(e.name)
        if match is None:
            leftover.append(e.name)
            continue
        parts = found.setdefault((match["name"], match["id"]), [])
        if match["kind"] == "file" and (e.is_dir() or match["file"]):
            parts.append(Part(root / e.name, "" if e.is_dir() else match["file"]))
    people = [Person(name, tuple(parts), (name, number)) for (name, number), parts in found.items()]
    return Collected("moodle", _distinct(people), leftover, True) if people else None


CANVAS = re.compile(r"(?P<name>.+?)(?P<late>_LATE)?_(?P<user>\d+)_(?:(?P<file>\d+)_(?P<original>.+)|(?:text|link)\.html)", re.DOTALL)
CANVAS_ANONYMOUS = re.compile(r"(?P<late>LATE_)?anon_(?P<user>[^_]+)_(?:(?P<file>\d+)_(?P<original>.+)|(?:text|link)\.html)", re.DOTALL)


def canvas(root: Path, homeworks: Sequence[str]) -> Collected | None:
    """Canvas's "Download Submissions": the sortable name in small letters, LATE, the user's number, the file's number, the file's name.

    Naming: https://community.canvaslms.com, "How do I download all student submissions for an assignment?", and `lib/content_zipper.rb`. A
    file handed in again is called ``lines-1.py``; the file with the highest number is the latest, and counts.
    """
    found: dict[str, tuple[str, list[Part], str]] = {}
    leftover = []
    for e in _entries(root):
        match = CANVAS_ANONYMOUS.fullmatch(e.name) or CANVAS.fullmatch(e.name)
        if match is None or e.is_dir():
            leftover.append(e.name)
            continue
        groups = match.groupdict()
        user = groups["user"]
        name, parts, late = found.get(user, (groups.get("name") or f"anon_{user}", [], ""))
        if groups["original"]:
            parts.append(Part(root / e.name, f"{groups['file']}/{groups['original']}", int(groups["file"])))
        found[user] = name, parts, late or ("late" if groups["late"] else "")
    people = [Person(name, _canvas_parts(parts), (name, user), late) for user, (name, parts, late) in found.items()]
    return Collected("canvas", _distinct(people), leftover, True) if people and len(people) >= len(leftover) else None


def _canvas_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Files under their own names; where two have the same, the later one."""
    named: dict[str, Part] = {}
    for part in sorted(parts, key=lambda part: part.order):
        own = part.name.partition("/")[2]
        named[own] = part._replace(name=own)
    return tuple(named.values())


def gradescope(root: Path, homeworks: Sequence[str]) -> Collected | None:
    """Gradescope's "Export Submissions": a folder per submission, and `submission_metadata.yml`, which says whose they are.

    Naming: https://help.gradescope.com, "Exporting submissions". A group's submission is graded for each of its members.
    Of two submissions by one student the later ``:created_at:`` counts.
    """
    inner = [e for e in _entries(root) if e.is_dir()]
    bases = [root, *(root / e.name for e in inner[:1] if len(inner) == 1)]
    base = next((b for b in bases if (b / "submission_metadata.yml").is_file()), None)
    if base is None:
        return None
    found: dict[tuple[str, ...], tuple[str, Person]] = {}
    entries = {e.name for e in _entries(base)} - {"submission_metadata.yml"}
    known = gradescope_metadata(read_plain(base / "submission_metadata.yml").decode("utf-8", "replace"))
    for folder, (created, submitters) in known.items():
        for name, sid, email in submitters:
            ids = tuple(filter(None, (name, sid, email)))
            before = found.get(ids)
            person = Person(name or email or sid, (Part(base / folder),) if folder in entries else (), ids)
            if before is not None:
                person = person._replace(remark="the latest of several submissions")
            if before is None or created >= before[0]:
                found[ids] = created, person
            else:
                found[ids] = before[0], before[1]._replace(remark="the latest of several submissions")
    return Collected("gradescope", _distinct([person for _, person in found.values()]), sorted(entries - set(known)), True)


def classroom(root: Path, homeworks: Sequence[str]) -> Collected | None:
    """GitHub Classroom: a repository per student, ASSIGNMENT-USERNAME, in the folder ASSIGNMENT-submissions that its command makes.

    Naming: https://docs.github.com/en/education/manage-coursework-with-github-classroom, "Using GitHub Classroom with GitHub CLI". The
    assignment's name is taken from the root folder, else from a homework's name, else it is what all names have in common.
    """
    entries = [e for e in _entries(root) if e.is_dir()]
    repositories = [e.name for e in entries if (root / e.name / ".git").exists()]
    slug = root.name.removesuffix("-submissions")
    prefix = slug + "-" if slug != root.name and entries and all(e.name.startswith(slug + "-") for e in entries) else ""
    if not prefix and not (repositories and len(repositories) == len(entries)):
        return None
    names = [e.name for e in entries]
    if not prefix:
        for homework in homeworks:
            slug = key(homework).replace("_", "-") + "-"
            if all(key(name).replace("_", "-").startswith(slug) and len(name) > len(slug) for name in names):
                prefix = names[0][:len(slug)]
    if not prefix and len(names) > 1:
        first, last = min(names), max(names)  # what these two have in common, all have
        same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        prefix = first[:first.rfind("-", 0, same) + 1]
    if not prefix:
        return None
    people = [Person(name[len(prefix):], (Part(root / name),), (name[len(prefix):],)) for name in names]
    return Collected("classroom", _distinct(people), sorted({e.name for e in _entries(root)} - set(names)), True)


def otter(root: Path, homeworks: Sequence[str]) -> Collected | None:
    """Files without folders, each named as its student: what Otter-Grader takes from a folder of zips or of notebooks.

    Naming: https://otter-grader.readthedocs.io, "Grading Locally". Of ``ada.zip`` and ``ada (1).zip`` the copy with the highest number counts.
    """
    entries = _entries(root)
    files = [e.name for e in entries if e.name.lower().endswith(FILES)]
    if not files or any(e.is_dir() for e in entries):
        return None
    stems = {name: name.rpartition(".")[0] for name in files}
    found: dict[str, list[tuple[int, str]]] = {}
    for name, stem in stems.items():
        end = COPY.search(stem)
        whose = stem[:end.start()] if end and "(" in end[0] and stem[:end.start()] in stems.values() else stem
        found.setdefault(whose, []).append((copy_of(stem, whose) or 0, name))
    people = []
    for student, copies in found.items():
        number = max(n for n, _ in copies)
        latest = [name for n, name in copies if n == number]
        people.append(Person(student, tuple(Part(root / name, name) for name in latest), (student,), "",
                             f"of {len(copies)} copies {latest[0]} counts" if len(copies) > len(latest) else ""))
    return Collected("otter", people, [e.name for e in entries if e.name not in files], True)


def single(root: Path, homeworks: Sequence[str]) -> Collected | None:
    """The folder itself is one student's submission, as in Gradescope's autograder, which has it in its folder ``submission``."""
    return Collected("single", [Person(root.name or "submission", (Part(root),))], [], True)


READERS: dict[str, Callable[[Path, Sequence[str]], Collected | None]] = {
    "gradescope": gradescope, "moodle": moodle, "canvas": canvas, "classroom": classroom, "otter": otter, "folders": folders, "single": single}


def detect(root: Path, homeworks: Sequence[str] = (), layout: str = "auto") -> Collected:
    """Read a folder of submissions.

    Args:
        homeworks: the names of all homeworks, by which some names are understood.
        layout: one of READERS, or ``"auto"``.

    Raises:
        ValueError: the folder has no signs of that layout.
    """
    names = READERS if layout == "auto" else [layout]
    for name in names:
        found = READERS[name](root, homeworks)
        if found is not None:
            return found
    first = "\n".join((READERS[layout].__doc__ or "").splitlines()[:1])
    raise ValueError(f"{root} is not the layout {layout} ({first}): leave --layout out, or name one of {', '.join(READERS)}")


def _distinct(people: Iterable[Person]) -> list[Person]:
    """Two people of the same name are told apart by their numbers."""
    people = list(people)
    names = [p.student for p in people]
    return sorted((p._replace(student=f"{p.student} ({p.ids[-1]})") if names.count(p.student) > 1 and p.ids else p for p in people), key=lambda p: p.student)


def unpack(archive: Path, into: Path, homeworks: Sequence[str] = ()) -> Path:
    """The contents of a platform's zip in the empty folder `into`, and the folder in which the submissions are.

    Raises:
        NotCopied: it is no zip, or one that a platform would not make.
    """
    try:
        for name, read, _ in members(archive, archive.name, most_bytes=MOST_BYTES, most_files=MOST_FILES, nested=True):
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read())
    except OSError as e:
        raise NotCopied(f"{archive.name} cannot be unpacked: {e.strerror or e}. Unpack it yourself, and give the folder") from e
    inner = list(into.iterdir())
    if len(inner) != 1 or not inner[0].is_dir() or MOODLE.fullmatch(inner[0].name):
        return into
    names = [e.name for e in _entries(inner[0])]
    answers = any(copy_of(Path(name).stem, homework) is not None for name in names for homework in homeworks)
    return into if answers or "lines.py" in names else inner[0]  # the only folder is a student's, or the submissions' own
