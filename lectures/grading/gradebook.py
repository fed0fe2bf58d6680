"""Rows, the CSV file, and the summary: what was understood, and what to explain again."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from minigrad.files import write_atomically

LONGEST_CELL = 500
RIGHT = ("right", "rounding")
# Statuses of this side. Those of the checker are minigrad.derivation's; docs/instructors.md explains all of them.
STATUSES = ("missing", "ambiguous", "link", "not copied", "stopped", "no report", "not graded", "refused")
FORMULA = "=+-@＝＋－＠"  # what a spreadsheet takes for the beginning of one


class CheckOutcome(Protocol):
    """What the rows need to know of a check."""

    @property
    def report(self) -> dict[str, Any] | None: ...
    @property
    def failure(self) -> str: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def refused(self) -> list[str]: ...
    @property
    def sandbox(self) -> str: ...


class GradebookRow(NamedTuple):
    """One student and one homework. The fields are the columns of the CSV file, in order."""

    student: str
    homework: str
    status: str    # see docs/instructors.md
    earned: float
    points: float
    lines: str     # "d_xhat 1/1; d_var 0/2": earned of points, a line each
    codes: str     # "d_var: sign; d_mu: missing path": the misconceptions
    message: str   # one sentence for a person
    seed: int      # python -m minigrad.derivation HOMEWORK FILE --seed SEED repeats the check
    flags: str = ""    # "d_var: numerical derivative": right answers that may not have been derived
    late: str = ""     # what the platform says of the time
    sandbox: str = ""  # what kept the student's code apart


def row(student: str, homework: str, seed: int, outcome: CheckOutcome, blank: dict[str, Any], *, strict: bool = False, late: str = "",
        remark: str = "") -> GradebookRow:
    """The row of a submission that was checked.

    Args:
        blank: the checker's report on an empty file: the lines and points.
        strict: whether a line with a flag earns nothing.
        remark: what else there is to say, at the end of the message.
    """
    report, status, message = outcome.report, "", ""
    if report is not None and not fits(report, blank, seed):
        report, status, message = None, "no report", "the checker's report does not fit the homework"
    elif report is None:
        status, message = ("stopped" if outcome.timed_out else "no report"), outcome.failure
    else:
        status, message = report["status"], problem(report)
    if outcome.refused:
        status, tried = "refused", outcome.refused[:3]
        tried += [f"and {len(outcome.refused) - 3} more"] if len(outcome.refused) > 3 else []
        message = "; ".join([*tried, *([message] if message and "a submission must not" not in message else [])])  # else it says so twice
    message = re.sub(r"\b0x[0-9a-f]{6,}", "0x…", message)  # addresses of objects: two gradings would differ
    judged = report["lines"] if report is not None else []
    earned = {line["line"]: earned_of(line, strict) for line in judged}
    codes = "; ".join(f"{line['line']}: {line['code']}" for line in judged if line["code"])
    flags = "; ".join(f"{line['line']}: {flag}" for line in judged for flag in _flags(line))
    message = "; ".join(filter(None, [message, remark]))
    return GradebookRow(student, homework, status, sum(earned.values()), blank["points"], per_line(blank, earned), codes, message, seed, flags, late,
                        outcome.sandbox)


def _flags(line: dict[str, Any]) -> list[str]:
    """A line's flags, as the column separates them."""
    return [flag.replace(";", ",") for flag in line.get("flags", [])]


def earned_of(line: dict[str, Any], strict: bool) -> float:
    """The points of a line of a report; under `strict` a flag costs them."""
    return 0 if strict and line.get("flags") else line["earned"]


def without_file(student: str, homework: str, seed: int, status: str, message: str, *, blank: dict[str, Any], late: str = "") -> GradebookRow:
    """The row of a submission that could not be checked at all."""
    return GradebookRow(student, homework, status, 0, blank["points"], per_line(blank, {}), "", message, seed, "", late)


def per_line(blank: dict[str, Any], earned: dict[str, float]) -> str:
    """Earned of points for every line of the homework, in its order."""
    return "; ".join(f"{line['line']} {earned.get(line['line'], 0):g}/{line['points']:g}" for line in blank["lines"])


def fits(report: dict[str, Any], blank: dict[str, Any], seed: int) -> bool:
    """Whether a report is about this homework's lines and this seed, with points that can be earned.

    A report on a file that could not be loaded may leave out the lines.
    """
    try:
        expected = [(line["line"], line["points"]) for line in blank["lines"]]
        found = [(line["line"], line["points"]) for line in report["lines"]]
        return (report["task"] == blank["task"] and report["seed"] == seed and isinstance(report["status"], str)
                and (found == expected or (not found and report["status"] != "ok"))
                and all(0 <= line["earned"] <= line["points"] and {"verdict", "code", "message"} <= line.keys()
                        and isinstance(flags := line.get("flags", []), list) and all(isinstance(flag, str) for flag in flags) for line in report["lines"]))
    except (KeyError, TypeError, AttributeError):
        return False


def problem(report: dict[str, Any]) -> str:
    """The first thing to say about a report: what is wrong with the file, else with its first wrong line."""
    wrong = [line for line in report["lines"] if line["verdict"] not in RIGHT]
    if report["status"] != "ok":
        return str(report["message"])
    if not wrong:
        remarks = [f"{line['line']}: {line['message']}" for line in report["lines"] if line["message"]]
        return "; ".join(["all right", *remarks])
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    at = wrong[0].get("at") or {}
    place = f" (line {at['line']})" if "line" in at else ""
    return f"{wrong[0]['line']}: {wrong[0]['verdict']}: {wrong[0]['message']}{place}{more}"


# -- the CSV file ------------------------------------------------------------------------------------------------------


def cell(value: object) -> str:
    """A value as one line of text that no spreadsheet takes for a formula, nor a part of it, where semicolons end a cell.

    >>> cell("=HYPERLINK(1)"), cell("right; =1+1"), cell("two\\nlines"), cell(3.0)
    ("'=HYPERLINK(1)", "right; '=1+1", 'two lines', '3')
    """
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    # A name that is no Unicode is shown with ? in place of its bytes; other control characters would break the table.
    text = str(value).encode("utf-8", "replace").decode()
    text = "".join(c if c.isprintable() else " " for c in text)
    text = text if len(text) <= LONGEST_CELL else text[:LONGEST_CELL - 1] + "…"
    return re.sub(rf"(^|;)(\s*)(?=[{re.escape(FORMULA)}])", lambda at: f"{at[1]}'{at[2]}" if not at[1] else f"{at[1]}{at[2]}'", text)


def write(path: Path, rows: Sequence[GradebookRow]) -> None:
    """Write the table in one step: whoever reads `path` sees the old file or the whole new one."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(GradebookRow._fields)
    writer.writerows([[cell(value) for value in r] for r in rows])
    write_atomically(path, text.getvalue().encode("utf-8-sig"))  # with the mark by which spreadsheets know UTF-8


# -- the summary -------------------------------------------------------------------------------------------------------


class Tally(NamedTuple):
    """Something that was found in some students' lines."""

    what: str
    students: int
    lines: list[tuple[str, int]]  # the most frequent first


def tallies(rows: Sequence[GradebookRow], column: str) -> list[Tally]:
    """How many students have each misconception (`codes`) or flag (`flags`), and on which lines; the most frequent first."""
    who: dict[str, set[str]] = defaultdict(set)
    where: dict[str, Counter[str]] = defaultdict(Counter)
    for r in rows:
        for entry in filter(None, getattr(r, column).split("; ")):
            line, _, what = entry.partition(": ")
            who[what].add(r.student)
            where[what][line] += 1
    return [Tally(what, len(who[what]), sorted(where[what].items(), key=lambda item: (-item[1], item[0])))
            for what in sorted(who, key=lambda what: (-len(who[what]), what))]


def histogram(rows: Sequence[GradebookRow], widest: int = 40) -> list[str]:
    """Students by their share of the points, in tenths; a bar is as long as there are students, or scaled where there are many.

    >>> full = GradebookRow("a", "01", "ok", 3, 3, "", "", "", 0)
    >>> print("\\n".join(histogram([full, full._replace(earned=1)])[-7:]))
     30- 39 %      1  #
     40- 49 %      0
     50- 59 %      0
     60- 69 %      0
     70- 79 %      0
     80- 89 %      0
     90-100 %      1  #
    """
    counts = [0] * 10
    for r in rows:
        counts[min(9, int(10 * r.earned / r.points + 1e-9)) if r.points else 9] += 1
    scale = max(1, *(-(-n // widest) for n in counts))
    return [f"{10 * i:>3}-{10 * i + 9 + (i == 9):>3} % {n:>6}  {'#' * -(-n // scale)}".rstrip() for i, n in enumerate(counts)]


def title(rows: Sequence[GradebookRow]) -> str:
    """One homework in one line."""
    mean = sum(r.earned for r in rows) / len(rows)
    return f"{rows[0].homework}: {len(rows)} student{'s' if len(rows) != 1 else ''}, on average {mean:.1f} of {rows[0].points:g} points"


def statuses(rows: Sequence[GradebookRow]) -> str:
    """How many rows have each status."""
    found = Counter(r.status for r in rows)
    return ", ".join(f"{n} {status}" for status, n in sorted(found.items(), key=lambda item: (-item[1], item[0])))


def by_homework(rows: Sequence[GradebookRow]) -> list[list[GradebookRow]]:
    """The rows of each homework."""
    return [[r for r in rows if r.homework == homework] for homework in dict.fromkeys(r.homework for r in rows)]


def summary(rows: Sequence[GradebookRow]) -> str:
    """A table for each homework: how it went, what to explain again, and which right answers may not have been derived."""
    blocks = []
    for mine in by_homework(rows):
        text = [title(mine), "  " + statuses(mine), *(f"  {bar}" for bar in histogram(mine))]
        late = sum(bool(r.late) for r in mine)
        text += [f"  {late} late"] if late else []
        for column, head in (("codes", "to explain again"), ("flags", "flagged")):
            found = tallies(mine, column)
            if found:
                wide = max(28, *(len(entry.what) for entry in found))
                text.append(f"  {head:<{wide}} {'students':>8}  lines")
                text += [f"  {entry.what:<{wide}} {entry.students:>8}  " + ", ".join(f"{line} ({n})" for line, n in entry.lines) for entry in found]
        blocks.append("\n".join(text))
    return "\n\n".join(blocks)
