"""The command's options, and its course: collect, match with the roster, go on where the journal ends, grade, write."""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigrad.files import write_atomically

from . import gradebook, handback, journal, layouts, roster, stopping
from .gradebook import GradebookRow
from .journal import GradingJournal, JournalError
from .layouts import Collected, Person
from .sandbox import SANDBOXES, SandboxLimits
from .scratch import scratch_folder

if TYPE_CHECKING:
    from .grade import Grader


def parser(description: str, *, jobs: int, limits: SandboxLimits) -> argparse.ArgumentParser:
    """What the command takes."""
    found = argparse.ArgumentParser(prog="python -m lectures.grade", description=description)
    found.add_argument("submissions", type=Path, help="the folder of submissions, or a platform's zip of it")
    found.add_argument("--csv", type=Path, required=True, help="where the table goes; finished rows are kept beside it, in a .jsonl")
    found.add_argument("--homework", action="extend", nargs="+", metavar="NAME", help="grade only these (default: all)")
    found.add_argument("--student", action="extend", nargs="+", metavar="NAME", help="grade only these; the other rows stay")
    found.add_argument("--regrade", action="store_true", help="check also what is finished: all, or only what --student and --homework name")
    found.add_argument("--layout", choices=["auto", *layouts.READERS], default="auto", help="how they were collected (default: seen from their names)")
    found.add_argument("--roster", type=Path, metavar="CSV", help="everybody on this list gets a row")
    found.add_argument("--strict", action="store_true", help="a line with a flag, such as a numerical derivative, earns nothing")
    found.add_argument("--sandbox", choices=SANDBOXES, default="auto",
                       help="what keeps students' code apart: landlock (default where there is any), bwrap (the package bubblewrap), none")
    found.add_argument("--html", type=Path, metavar="FOLDER", help="write a page per student, and index.html of the class")
    found.add_argument("--gradescope", type=Path, metavar="JSON", help="write results.json for Gradescope's autograder (one student)")
    found.add_argument("--jobs", type=int, default=jobs, help="files checked at the same time (default: half the cores)")
    found.add_argument("--seed", type=int, help="each student's probes are drawn from this and the name (default: random, or the journal's)")
    found.add_argument("--seconds", type=float, default=limits.seconds, help="for one file (default: %(default)g)")
    found.add_argument("--memory", type=int, default=limits.megabytes, metavar="MB", help="for one file (default: %(default)d)")
    return found


def validate(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What can be said before anything is read.

    Raises:
        SystemExit: something does not fit.
    """
    if not options.submissions.is_dir() and not (options.submissions.is_file() and options.submissions.suffix.lower() == ".zip"):
        parser.error(f"{options.submissions} is not a folder, nor a .zip of one")
    for path in filter(None, (options.csv, options.gradescope)):
        if not path.absolute().parent.is_dir():
            parser.error(f"the folder of {path} does not exist")
    if options.jobs < 1 or options.seconds <= 0 or options.memory < 256:
        parser.error("--jobs must be at least 1, --seconds positive, and --memory at least 256")
    if options.roster is not None and not options.roster.is_file():
        parser.error(f"the roster {options.roster} is not a file")
    if options.csv.suffix == ".jsonl":
        parser.error(f"the journal is {options.csv}: give the table another ending, such as .csv")


def journal_of(table: Path) -> Path:
    """Where a table's journal lies."""
    return table.with_suffix(".jsonl")


def run(options: argparse.Namespace, grader: Callable[[int, Collected], Grader], homeworks: Sequence[str]) -> list[GradebookRow]:
    """Grade.

    Raises:
        ValueError: something does not fit; nothing was graded, and the table is as it was.
        SystemExit: the grading was stopped; finished rows are in the table.
    """
    try:
        with stopping.stoppable(), scratch_folder() as scratch:
            return _run(options, grader, homeworks, scratch)
    except (stopping.Stopped, KeyboardInterrupt) as reason:
        print(f"\nstopped: the finished rows are in {options.csv} and its journal; the same command does the rest", file=sys.stderr)
        sys.exit(getattr(reason, "status", 130))


def _run(options: argparse.Namespace, grader: Callable[[int, Collected], Grader], homeworks: Sequence[str], scratch: Path) -> list[GradebookRow]:
    root = options.submissions.resolve()
    if root.is_file():
        (scratch / root.stem).mkdir()
        root = layouts.unpack(root, scratch / root.stem, homeworks)
    collected = layouts.detect(root, homeworks, options.layout)
    people, unknown = collected.people, list[str]()
    if options.roster is not None:
        people, unknown = roster.matched(people, roster.read(options.roster))
    if not people:
        raise ValueError(f"{options.submissions} holds no folder of a student")
    everybody = {p.student for p in people}
    people = selected(people, options.student)
    if options.gradescope is not None and len(people) != 1:
        raise ValueError(f"--gradescope writes the results of one student, and here are {len(people)}: in the autograder say --layout single, "
                         "else --student NAME")
    settings = {"strict": options.strict, "seconds": options.seconds, "memory": options.memory, "sandbox": options.sandbox}
    fresh = {"seed": options.seed if options.seed is not None else secrets.randbelow(2**31), "options": settings}
    with journal.opened(journal_of(options.csv), fresh) as book:
        again = options.regrade
        if again and not options.student and not options.homework:
            book.restart({"journal": journal.FORMAT, **fresh, "environment": journal.environment()})
            again = False
        reconcile(book, options, settings)
        seed = book.header["seed"]
        found = f"layout {collected.layout}: {len(collected.people)} student{'s' if len(collected.people) != 1 else ''}"
        print(f"{found}, seed {seed}; --seed {seed} grades with the same probes again")

        def table() -> None:
            with contextlib.suppress(OSError):  # on Windows a table that a spreadsheet shows cannot be replaced; later perhaps
                if book.finished:
                    gradebook.write(options.csv, book.rows())

        with contextlib.closing(grader(seed, collected)) as judge:
            try:
                kept, said = judge.grade(people, book, options.jobs, again=again, every_so_often=table)
            except OSError as e:
                raise JournalError(f"cannot write {e.filename or book.path}: {e.strerror or e}. The finished rows are whole: make room, and the same "
                                   "command does the rest") from e
            except BaseException:
                table()
                raise
        rows = book.rows()
        try:
            gradebook.write(options.csv, rows)
        except OSError as e:
            raise JournalError(f"cannot write {options.csv}: {e.strerror or e}. All rows are in {book.path}: close the table where it is open, or make room, "
                               "and the same command writes it") from e
        finished = [book.finished[r.student, r.homework] for r in rows]
    pages = handback.write_pages(options.html, finished, strict=options.strict) if options.html is not None else 0
    if options.gradescope is not None:
        mine = [done for done in finished if done.row.student == people[0].student]
        write_atomically(options.gradescope, json.dumps(handback.gradescope_results(mine, strict=options.strict), indent=1))
    gone = sorted({r.student for r in rows} - everybody)
    remarks = [*book.remarks, *said, *named("not understood, and nobody's", collected.leftover), *named("not on the roster", unknown),
               *named("in the table, but no longer among the submissions", gone)]
    print("\n" + gradebook.summary(rows))
    print("\n" + "\n".join([*remarks, f"{len(rows)} rows: {options.csv}" + (f" ({kept} were finished before)" if kept else ""),
                            *([f"{pages} pages: {options.html}"] if pages else [])]))
    return rows


def selected(people: Sequence[Person], names: Sequence[str] | None) -> list[Person]:
    """The people of these names, or of these other names of theirs.

    Raises:
        ValueError: a name that nobody has.
    """
    if not names:
        return list(people)
    found = [p for p in people if any(name in (p.student, *p.ids) for name in names)]
    missing = [name for name in names if not any(name in (p.student, *p.ids) for p in found)]
    if missing:
        some = ", ".join(p.student for p in people[:10]) + (" ..." if len(people) > 10 else "")
        raise ValueError(f"there is no student {', '.join(missing)}; there is {some}")
    return found


def reconcile(book: GradingJournal, options: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Whether this grading can go on with the journal's.

    Raises:
        JournalError: its seed or options are others, so that rows could not be compared.
    """
    if not book.begun:
        return
    before = {"seed": book.header.get("seed"), **book.header.get("options", {})}
    now = {"seed": before["seed"] if options.seed is None else options.seed, **settings}
    differ = [f"{name} was {before.get(name)} and is now {value}" for name, value in now.items() if before.get(name) != value]
    if differ:
        raise JournalError(f"{book.path} has rows of another grading: {'; '.join(differ)}. Give the former options, or begin anew with --regrade (without "
                           "--student and --homework), or with another --csv")
    old, new = book.header.get("environment", {}), journal.environment()
    changed = [f"{name} {old.get(name)} is now {new.get(name)}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if changed:
        book.remarks.append(f"the rows come from two environments: {'; '.join(changed)}. --regrade makes them one")


def named(what: str, names: Sequence[str]) -> list[str]:
    """A line that names some, and counts the rest."""
    if not names:
        return []
    shown = [gradebook.cell(name) for name in names[:10]]
    return [f"{what}: {', '.join(shown)}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")]
