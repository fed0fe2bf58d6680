"""Grade a folder of submissions: ``python -m lectures.grade SUBMISSIONS --csv grades.csv``.

One row per student and homework, whatever was handed in and however it was collected (layouts.py). Finished rows are kept in grades.jsonl: a
grading that is stopped goes on with the same command. Each file is checked apart, under limits. See docs/instructors.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from minigrad.command import run_command

from . import command, gradebook, submissions
from .gradebook import GradebookRow
from .handed_in import NotCopied, digest, write_files
from .journal import Finished, GradingJournal
from .layouts import Collected, LinkedFolder, Person
from .sandbox import ROOT, CannotJudge, Judges, SandboxLimits, SandboxOutcome

HOMEWORKS = ROOT / "lectures" / "homework"
SECONDS_BETWEEN_TABLES = 5.0


class CheckerFailed(RuntimeError):
    """The checker itself does not work here, so that nobody can be judged by it."""


class Looked(NamedTuple):
    """What there is to check for one row, before anything is run; without a file, why there is nothing."""

    digest: str
    contents: dict[str, bytes]
    file: str | None
    status: str = ""
    problem: str = ""
    remark: str = ""


class Grader:
    """Checks submissions of some homeworks.

    Args:
        homeworks: from a homework's name to its folder.
        seed: from which each student's is drawn.
        limits: of each submission.
        box: the sandbox, one of `lectures.grading.sandbox.SANDBOXES`.
        others: the names of homeworks that are not graded now.
        alone: whether everything was handed in for the one homework.
        strict: whether a line with a flag earns nothing.

    Raises:
        CheckerFailed, CannotJudge: nobody can be judged here.
    """

    def __init__(self, homeworks: dict[str, Path], *, seed: int, limits: SandboxLimits, box: str = "auto", others: Sequence[str] = (), alone: bool = False,
                 strict: bool = False) -> None:
        self.homeworks, self.seed, self.judges = homeworks, seed, Judges(limits, box)
        self.others, self.alone, self.strict = others, alone, strict
        self.tasks = {name: hashlib.sha256((folder / "task.py").read_bytes()).hexdigest()[:16] for name, folder in homeworks.items()}
        self._stop = threading.Event()
        try:
            self.blank = {name: self._blank(name) for name in homeworks}
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the judges."""
        self.judges.close()

    def _check(self, homework: str, file: str, seed: int, fill: Callable[[Path], None]) -> SandboxOutcome:
        return self.judges.check(self.homeworks[homework], fill, file, seed)

    def _blank(self, homework: str) -> dict[str, Any]:
        """The report on an empty file. It tells lines and points, and that the checker works before anybody is judged by it."""
        outcome = self._check(homework, "lines.py", self.seed, lambda folder: (folder / "lines.py").touch())
        if outcome.report is None or not gradebook.fits(outcome.report, outcome.report, self.seed) or not outcome.report["lines"]:
            why = outcome.failure or (outcome.report or {}).get("message") or "its report is not understood"
            raise CheckerFailed(f"{homework}: the checker cannot judge an empty file: {why}")
        return outcome.report

    def look(self, person: Person, homework: str) -> Looked:
        """Find and read what was handed in."""
        more = (self.tasks[homework], person.late)

        def nothing(status: str, problem: str) -> Looked:
            return Looked(f"{self.tasks[homework]}-{digest({}, [status, problem, *more])}", {}, None, status, problem)

        try:
            found = submissions.find(person.student, homework, person.files(), others=[o for o in (*self.homeworks, *self.others) if o != homework],
                                     alone=self.alone and len(self.homeworks) == 1)
            if found.file is None:
                hint = "; it is not known for which homework these files are: grade with --homework NAME"
                return nothing(found.status, found.problem + (hint if self.alone and len(self.homeworks) > 1 and found.files.files else ""))
            contents, file, remark = submissions.prepared(found)
        except LinkedFolder as reason:
            return nothing("link", str(reason))
        except NotCopied as reason:
            return nothing("not copied", str(reason))
        except Exception as reason:  # a file that cannot be read: this row says so, and the others are graded
            return nothing("not graded", f"{type(reason).__name__}: {reason}")
        return Looked(f"{self.tasks[homework]}-{digest(contents, [file, *more])}", contents, file, remark="; ".join(filter(None, [remark, person.remark])))

    def judge(self, person: Person, homework: str, looked: Looked) -> Finished:
        """The row of one student and homework; whatever was handed in, there is one."""
        student, seed, blank = person.student, submissions.seed_of(self.seed, person.student, homework), self.blank[homework]
        without_file = partial(gradebook.without_file, student, homework, seed, blank=blank, late=person.late)
        if looked.file is None:
            return Finished(without_file(looked.status, looked.problem), looked.digest, None)
        try:
            outcome = self._check(homework, looked.file, seed, partial(write_files, looked.contents))
            row = gradebook.row(student, homework, seed, outcome, blank, strict=self.strict, late=person.late, remark=looked.remark)
        except CannotJudge:
            raise
        except Exception as reason:  # a full disk, a folder that cannot be made: this row says so
            return Finished(without_file("not graded", f"{type(reason).__name__}: {reason}"), looked.digest, None)
        fit = outcome.report is not None and row.status != "no report" and gradebook.fits(outcome.report, blank, seed)
        return Finished(row, looked.digest, outcome.report if fit else None)

    def grade(self, people: Sequence[Person], journal: GradingJournal, jobs: int, *, again: bool = False,
              every_so_often: Callable[[], None] = lambda: None) -> tuple[int, list[str]]:
        """Put a row of each person and homework into the journal, except for those that are there.

        Args:
            again: check also what is finished.
            every_so_often: called in between, a few seconds apart.

        Returns:
            How many rows were taken from the journal, and what to say of those that were done again.
        """
        kept, said = 0, list[str]()

        def one(person: Person, homework: str) -> str | None:
            """What to say; "" where there is nothing, and None of a row that is finished."""
            if self._stop.is_set():
                return ""
            looked, before = self.look(person, homework), journal.finished.get((person.student, homework))
            if before is not None and not again and before.digest == looked.digest and before.row.status != "not graded":
                return None
            done = self.judge(person, homework, looked)
            if self._stop.is_set():  # it was ended, not judged
                return ""
            try:
                journal.append(done)
            except OSError:
                self._stop.set()  # before this thread takes the next row
                raise
            if before is None or before.digest == looked.digest:
                return ""
            what = "handed in again" if before.digest[:16] == looked.digest[:16] else "the homework changed"
            return f"{person.student}, {homework}: {what} since it was graded; graded again"

        pool = ThreadPoolExecutor(jobs)
        try:
            done: queue.SimpleQueue[Future[str | None]] = queue.SimpleQueue()
            futures = [pool.submit(one, person, homework) for person in people for homework in self.homeworks]
            for future in futures:
                future.add_done_callback(done.put)
            latest = time.monotonic()
            for _ in tqdm(futures, unit="file", disable=None):
                remark = _next(done).result()
                kept += remark is None
                said += [remark] if remark else []
                if time.monotonic() - latest > SECONDS_BETWEEN_TABLES:
                    every_so_often()
                    latest = time.monotonic()
        except BaseException:  # Ctrl-C, or the journal cannot be written: begin no more, and end what runs
            self._stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            while any(thread.is_alive() for thread in pool._threads):
                self.close()
                for thread in pool._threads:
                    thread.join(0.05)
            raise
        pool.shutdown()
        return kept, sorted(said)


def _next(done: queue.SimpleQueue[Future[str | None]]) -> Future[str | None]:
    """What is finished next. A signal that comes just before a wait without end begins would be dealt with after it."""
    while True:
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=0.2)


def homeworks(names: Sequence[str] | None, below: Path = HOMEWORKS) -> dict[str, Path]:
    """The folders of these homeworks; of all that there are without names.

    Raises:
        ValueError: a name that is no homework, or no homework at all.
    """
    found = {p.parent.name: p.parent for p in sorted(below.glob("*/task.py"))}
    unknown = [name for name in names or () if name not in found]
    if unknown or not found:
        raise ValueError(f"there is no homework {', '.join(unknown)}; there is {', '.join(found) or 'none'}" if unknown else f"there is no homework in {below}")
    return {name: found[name] for name in dict.fromkeys(names)} if names else found


def main(arguments: Sequence[str] | None = None, *, below: Path = HOMEWORKS) -> list[GradebookRow]:
    """Grade, write the table, print the summary."""
    parser = command.parser((__doc__ or "").splitlines()[0], jobs=max(1, (os.cpu_count() or 2) // 2), limits=SandboxLimits())
    options = parser.parse_args(arguments)
    command.validate(parser, options)
    try:
        chosen = homeworks(options.homework, below)
        others = [name for name in homeworks(None, below) if name not in chosen]
    except ValueError as reason:
        parser.error(str(reason))

    def grader(seed: int, collected: Collected) -> Grader:
        return Grader(chosen, seed=seed, limits=SandboxLimits(options.seconds, options.memory), box=options.sandbox, others=others,
                      alone=collected.alone, strict=options.strict)

    try:
        return command.run(options, grader, [*chosen, *others])
    except (ValueError, CheckerFailed, CannotJudge, NotCopied) as reason:  # wrong usage, said before anybody was graded
        parser.error(str(reason))


if __name__ == "__main__":
    run_command(main)
