"""Rows, the CSV file, and the summary: what was understood, and what to explain again."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minigrad.files import write_atomically

from .sandbox import SandboxOutcome

LONGEST_CELL = 500
RIGHT = ("right", "rounding")
# Statuses of this side. Those of the checker are minigrad.derivation's; docs/instructors.md explains all of them.
STATUSES = ("missing", "ambiguous", "link", "not copied", "stopped", "no report", "not graded", "refused")
FORMULA = "=+-@＝＋－＠"  # what a spreadsheet takes for the beginning of one


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


def row(student: str, homework: str, seed: int, outcome: SandboxOutcome, blank: dict[str, Any]) -> GradebookRow:
    """The row of a submission that was checked. `blank` is the checker's report on an empty file: the lines and points."""
    report, status, message = outcome.report, "", ""
    if report is not None and not fits(report, blank, seed):
        report, status, message = None, "no report", "the checker's report does not fit the homework"
    elif report is not None and not outcome.awake and any(line["earned"] for line in report["lines"]):
        report, status, message = None, "no report", "the code was not guarded, so its result does not count"
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
    earned = {line["line"]: line["earned"] for line in judged}
    codes = "; ".join(f"{line['line']}: {line['code']}" for line in judged if line["code"])
    return GradebookRow(student, homework, status, sum(earned.values()), blank["points"], per_line(blank, earned), codes, message, seed)


def without_file(student: str, homework: str, seed: int, status: str, message: str, blank: dict[str, Any]) -> GradebookRow:
    """The row of a submission that could not be checked at all."""
    return GradebookRow(student, homework, status, 0, blank["points"], per_line(blank, {}), "", message, seed)


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
                and all(0 <= line["earned"] <= line["points"] and {"verdict", "code", "message"} <= line.keys() for line in report["lines"]))
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


def summary(rows: Sequence[GradebookRow]) -> str:
    """A table for each homework: how it went, and how many students have each misconception, on which lines."""
    blocks = []
    for homework in dict.fromkeys(r.homework for r in rows):
        mine = [r for r in rows if r.homework == homework]
        statuses = Counter(r.status for r in mine)
        mean = sum(r.earned for r in mine) / len(mine)
        title = f"{homework}: {len(mine)} student{'s' if len(mine) != 1 else ''}, on average {mean:.1f} of {mine[0].points:g} points"
        text = [title, "  " + ", ".join(f"{n} {status}" for status, n in sorted(statuses.items(), key=lambda item: (-item[1], item[0])))]
        who: dict[str, set[str]] = defaultdict(set)
        where: dict[str, Counter[str]] = defaultdict(Counter)
        for r in mine:
            for entry in filter(None, r.codes.split("; ")):
                line, _, code = entry.partition(": ")
                who[code].add(r.student)
                where[code][line] += 1
        if who:
            text.append(f"  {'to explain again':<28} {'students':>8}  lines")
            for code in sorted(who, key=lambda code: (-len(who[code]), code)):
                lines = ", ".join(f"{line} ({n})" for line, n in sorted(where[code].items(), key=lambda item: (-item[1], item[0])))
                text.append(f"  {code:<28} {len(who[code]):>8}  {lines}")
        blocks.append("\n".join(text))
    return "\n\n".join(blocks)
