"""Grade a folder of submissions: ``python -m lectures.grade SUBMISSIONS --csv grades.csv``.

One folder a student (layouts: lectures/grading/submissions.py), one row a student and homework, a table of misconceptions at the
end. Each file is checked in a process of its own, under limits and guards; none stops the others. See docs/instructors.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minigrad.command import run_command

from . import gradebook, sandbox, submissions
from .gradebook import GradebookRow
from .sandbox import ROOT, SandboxLimits

CHECKER = "minigrad.derivation"
HOMEWORKS = ROOT / "lectures" / "homework"


class CheckerFailed(RuntimeError):
    """The checker itself does not work here, so that nobody can be judged by it."""


class Grader:
    """Checks submissions of some homeworks.

    Args:
        root: the folder of submissions.
        homeworks: from a homework's name to its folder.
        checker: a module or program that takes ``HOMEWORK FILE --json --seed N`` and prints a report.
        also_hidden: more that student code must not read.
    """

    def __init__(self, root: Path, homeworks: dict[str, Path], *, seed: int, limits: SandboxLimits, checker: str = CHECKER,
                 also_hidden: Sequence[Path] = ()) -> None:
        self.root, self.homeworks, self.seed, self.limits, self.checker = root, homeworks, seed, limits, checker
        self.hidden = [root, ROOT / "lectures", *homeworks.values(), *also_hidden]
        self.shown = [ROOT / "lectures" / "grading", *(folder / "task.py" for folder in homeworks.values())]
        self.blank = {name: self._blank(name) for name in homeworks}

    def _check(self, homework: str, file: str, seed: int, fill: Any) -> sandbox.SandboxOutcome:
        return sandbox.check(self.checker, lambda folder: [str(self.homeworks[homework]), str(folder / file), "--json", "--seed", str(seed)], fill,
                             limits=self.limits, hidden=self.hidden, shown=self.shown)

    def _blank(self, homework: str) -> dict[str, Any]:
        """The report on an empty file. It tells lines and points, and that the checker works before anybody is judged by it."""
        outcome = self._check(homework, "lines.py", self.seed, lambda folder: (folder / "lines.py").touch())
        if outcome.report is None or not gradebook.fits(outcome.report, outcome.report, self.seed) or not outcome.report["lines"]:
            why = outcome.failure or (outcome.report or {}).get("message") or "its report is not understood"
            raise CheckerFailed(f"{homework}: the checker cannot judge an empty file: {why}\n{outcome.output}".rstrip())
        return outcome.report

    def grade(self, student: str, homework: str) -> GradebookRow:
        """The row of one student and homework; whatever was handed in, there is one."""
        seed, blank = submissions.seed_of(self.seed, student, homework), self.blank[homework]
        without_file = partial(gradebook.without_file, student, homework, seed, blank=blank)
        try:
            handed_in = submissions.find(self.root, student, homework)
            if handed_in.file is None:
                return without_file(handed_in.status, handed_in.problem)
            outcome = self._check(homework, handed_in.file, seed, partial(submissions.copy, handed_in))
        except submissions.NotCopied as reason:
            return without_file("not copied", str(reason))
        except Exception as reason:  # a file that cannot be read, a full disk: this row says so, and the others are graded
            return without_file("not graded", f"{type(reason).__name__}: {reason}")
        return gradebook.row(student, homework, seed, outcome, blank)

    def rows(self, jobs: int) -> list[GradebookRow]:
        """All rows, by student and homework, whatever order they are finished in."""
        pairs = [(student, homework) for student in submissions.students(self.root) for homework in self.homeworks]
        with ThreadPoolExecutor(jobs) as pool:
            try:
                return list(tqdm(pool.map(lambda pair: self.grade(*pair), pairs), total=len(pairs), unit="file", disable=None))
            except BaseException:  # Ctrl-C: do not begin those that wait
                pool.shutdown(wait=False, cancel_futures=True)
                raise


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


def main(arguments: Sequence[str] | None = None, *, checker: str = CHECKER, below: Path = HOMEWORKS) -> list[GradebookRow]:
    """Grade, write the table, print the summary."""
    parser = argparse.ArgumentParser(prog="python -m lectures.grade", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("submissions", type=Path, help="the folder with one folder a student")
    parser.add_argument("--csv", type=Path, required=True, help="where the table goes")
    parser.add_argument("--homework", action="extend", nargs="+", metavar="NAME", help="grade only these (default: all)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="files checked at the same time (default: half the cores)")
    parser.add_argument("--seed", type=int, default=0, help="each student's probes are drawn from this and the name (default: 0)")
    parser.add_argument("--seconds", type=float, default=SandboxLimits().seconds, help="for one file (default: %(default)g)")
    parser.add_argument("--memory", type=int, default=SandboxLimits().megabytes, metavar="MB", help="for one file (default: %(default)d)")
    options = parser.parse_args(arguments)
    if not options.submissions.is_dir():
        parser.error(f"{options.submissions} is not a folder")
    if not options.csv.absolute().parent.is_dir():
        parser.error(f"the folder of {options.csv} does not exist")
    if options.jobs < 1 or options.seconds <= 0 or options.memory < 256:
        parser.error("--jobs must be at least 1, --seconds positive, and --memory at least 256")
    root = options.submissions.resolve()
    try:
        grader = Grader(root, homeworks(options.homework, below), seed=options.seed, limits=SandboxLimits(options.seconds, options.memory),
                        checker=checker, also_hidden=[options.csv.absolute()])
    except (ValueError, CheckerFailed) as reason:
        parser.error(str(reason))
    rows = grader.rows(options.jobs)
    if not rows:
        parser.error(f"{options.submissions} holds no folder of a student")
    gradebook.write(options.csv, rows)
    print(gradebook.summary(rows))
    print(f"\n{len(rows)} rows: {options.csv}")
    return rows


if __name__ == "__main__":
    run_command(main)
