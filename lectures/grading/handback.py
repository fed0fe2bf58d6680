"""What goes back: a page per student, the class in one page, and Gradescope's results.json.

The pages need nothing from elsewhere and run nothing: no script, no link outside, and a policy that says so to the browser. Every text is escaped.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minigrad.derivation.report import COLOURS, shown
from minigrad.files import write_atomically

from . import gradebook
from .gradebook import GradebookRow
from .journal import Finished

STYLE = ("body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}"
         "table{border-collapse:collapse;margin:1rem 0}th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ddd}"
         "code,pre{font-family:ui-monospace,monospace;font-size:.9em}td code{white-space:pre-wrap;overflow-wrap:anywhere}.note{color:#555}")
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def text(value: object) -> str:
    """A text in a page: escaped, and without what does not print."""
    return html.escape(shown(str(value).encode("utf-8", "replace").decode(), most=2000), quote=True)


def page_name(student: str) -> str:
    """The file name of a student's page: the name where it is plain, else what is plain in it and a hash, so that no two students share a file.

    >>> page_name("ada-1"), page_name("../Ada & Zoë")
    ('ada-1.html', 'Ada-Zo-bef26169.html')
    """
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", student).strip("-")[:60]
    if plain == student and plain.casefold() != "index" and plain == plain.lower():
        return f"{plain}.html"
    return f"{plain or 'student'}-{hashlib.sha256(student.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}.html"


def _page(title: str, body: Sequence[str]) -> str:
    return PAGE.format(title=text(title), style=STYLE, body="\n".join(body))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are HTML already."""
    lines = ["<table>", "<tr>" + "".join(f"<th>{text(name)}</th>" for name in head) + "</tr>"]
    return "\n".join([*lines, *("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows), "</table>"])


def student_page(finished: Sequence[Finished], *, strict: bool = False) -> str:
    """Everything about one student: for each homework its lines, with verdict, points, message, and the student's own line."""
    student = finished[0].row.student
    earned, points = sum(done.row.earned for done in finished), sum(done.row.points for done in finished)
    body = [f"<h1>{text(student)}</h1>", f"<p>{earned:g} of {points:g} points</p>"]
    for done in finished:
        row = done.row
        body.append(f"<h2>{text(row.homework)}: {row.earned:g} of {row.points:g} points</h2>")
        notes = [f"status: {row.status}"] * (row.status != "ok") + [row.message] * bool(row.message) + [f"handed in {row.late}"] * bool(row.late)
        body += [f'<p class="note">{text("; ".join(notes))}</p>'] if notes else []
        if done.report is not None and done.report["lines"]:
            body.append(_table(("line", "verdict", "points", "", "your line"), [_line(line, strict) for line in done.report["lines"]]))
            body.append(f'<p class="note">Repeat this check: <code>python -m minigrad.derivation {text(row.homework)} FILE --seed {row.seed}</code></p>')
    return _page(student, body)


def _line(line: Mapping[str, Any], strict: bool) -> list[str]:
    at = line.get("at") or {}
    verdict = f"<b style='color:{COLOURS.get(line['verdict'], '#B34D00')}'>{text(line['verdict'])}</b>"
    said = [text(part) for part in (line["code"], *(line.get("flags") or ())) if part]
    source = f"{text(at['line'])}: <code>{text(str(at.get('source', '')).strip())}</code>" if at.get("line") else ""
    return [f"<code>{text(line['line'])}</code>", "<br>".join([verdict, *(f"<small>{part}</small>" for part in said)]),
            f"{gradebook.earned_of(dict(line), strict):g}/{line['points']:g}", text(line["message"]), source]


def class_page(rows: Sequence[GradebookRow]) -> str:
    """The class: for each homework a histogram and what to explain again; all rows at the end, with links to the students' pages."""
    body = ["<h1>All students</h1>", '<p class="note">For instructors only: it names everybody\'s points.</p>']
    for mine in gradebook.by_homework(rows):
        body += [f"<h2>{text(gradebook.title(mine))}</h2>", f"<p>{text(gradebook.statuses(mine))}</p>",
                 "<pre>" + "\n".join(gradebook.histogram(mine)) + "</pre>"]
        for column, head in (("codes", "to explain again"), ("flags", "flagged")):
            found = gradebook.tallies(mine, column)
            if found:
                entries = [(text(t.what), str(t.students), text(", ".join(f"{line} ({n})" for line, n in t.lines))) for t in found]
                body.append(_table((head, "students", "lines"), entries))
    body += ["<h2>Rows</h2>", _table(("student", "homework", "points", "status", "flags", "late", ""), [
        (f'<a href="{page_name(r.student)}">{text(r.student)}</a>', text(r.homework), f"{r.earned:g}/{r.points:g}", text(r.status), text(r.flags), text(r.late),
         text(r.message)) for r in rows])]
    return _page("All students", body)


def write_pages(folder: Path, finished: Sequence[Finished], *, strict: bool = False) -> int:
    """A page per student and the class's index.html, in a folder that is made where it is missing; their number.

    Other files in the folder stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    students: dict[str, list[Finished]] = {}
    for done in finished:
        students.setdefault(done.row.student, []).append(done)
    for student, mine in students.items():
        write_atomically(folder / page_name(student), student_page(mine, strict=strict))
    write_atomically(folder / "index.html", class_page([done.row for done in finished]))
    return len(students) + 1


def gradescope_results(finished: Sequence[Finished], *, strict: bool = False) -> dict[str, Any]:
    """One student's grades as Gradescope's autograder reads them: a test per line.

    Format: https://gradescope-autograders.readthedocs.io/en/latest/specs/. A homework without a report is one failed test with its message.
    """
    tests = []
    for done in finished:
        row, several = done.row, len(finished) > 1
        for line in (done.report or {}).get("lines") or [{"line": row.status, "earned": row.earned, "points": row.points, "verdict": row.status,
                                                          "message": row.message, "code": None}]:
            earned = gradebook.earned_of(dict(line), strict)
            verdict = line["verdict"] + (f" ({line['code']})" if line["code"] else "")
            said = [verdict, *(line.get("flags") or ()), line["message"]]
            tests.append({"name": f"{row.homework}: {line['line']}" if several else line["line"], "score": earned, "max_score": line["points"],
                          "status": "passed" if earned == line["points"] else "failed", "output": shown(": ".join(filter(None, said))), "output_format": "text",
                          "visibility": "visible"})
    message = "\n".join(f"{done.row.homework}: {done.row.earned:g} of {done.row.points:g} points. {done.row.message}" for done in finished)
    return {"score": sum(test["score"] for test in tests), "output": shown(message, keep="\n"), "output_format": "text", "visibility": "visible",
            "stdout_visibility": "hidden", "tests": tests, "extra_data": {"seeds": {done.row.homework: done.row.seed for done in finished}}}
