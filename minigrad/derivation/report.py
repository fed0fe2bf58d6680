"""What a check has found: for a person, for a notebook, for a program."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

GOOD = ("right", "rounding")
STATUSES = ("ok", "blank", "syntax error", "import error", "stopped", "not graded", "not checked")  # docs/instructors.md says what they mean
FILE_FAILED = ("syntax error", "import error", "stopped")  # the same for every line
COLOURS = {"right": "#00735C", "rounding": "#0072B2", "not implemented": "#6B6B6B"}  # to be read on white; everything else: #B34D00


def shown(text: str, keep: str = "", most: int = 2000) -> str:
    """A text that a student's code may have made, cut, and without what would act on a terminal: what does not print is an escape.

    >>> print(shown("red: \x1b[31m"), shown("x" * 5, most=3))
    red: \\x1b[31m xxx…
    """
    end = "…" if len(text) > most else ""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text[:most]) + end


class Route(NamedTuple):
    """A path through the composed form that a line's message names, as data for a picture.

    `names` run from the target of the line to the value whose adjoint it uses, with every named value in between; `kind` is "missing" or
    "wrong". `minigrad.show.way` finds the boxes and arrows.
    """

    names: tuple[str, ...]
    kind: str


@dataclass
class LineReport:
    """The verdict on one line."""

    line: str
    verdict: str
    points: int
    code: str | None = None
    message: str = ""
    at: dict[str, Any] | None = None
    error: float | None = None
    bound: float | None = None
    case: str = ""
    printed: str = ""
    flags: list[str] = field(default_factory=list)  # why a right line may be no derivation
    routes: tuple[Route, ...] = ()  # the paths that the message names

    @property
    def earned(self) -> int:
        """Points for this verdict."""
        return self.points if self.verdict in GOOD else 0

    def text(self) -> str:
        """The message with the place in the student's file."""
        place = f" (line {self.at['line']}: {self.at['source']})" if self.at and self.at.get("line") else ""
        case = f" [at {self.case}]" if self.case and self.verdict in ("wrong", "wrong shape") else ""
        return f"{self.message}{place}{case}"


@dataclass
class Report:
    """All verdicts; true if every line is right (and in a file that is being judged, where nothing is checked)."""

    task: str
    file: str | None
    seed: int
    lines: list[LineReport] = field(default_factory=list)
    status: str = "ok"  # one of STATUSES
    message: str = ""
    printed: str = ""  # by the file itself, while it was loaded
    sandbox: str = ""  # "landlock", "bwrap", "none"; "" for functions in memory
    refused: list[str] = field(default_factory=list)  # what the file tried and must not do

    def __bool__(self) -> bool:
        return self.status == "not checked" or (bool(self.lines) and all(x.verdict in GOOD for x in self.lines))

    @property
    def points(self) -> int:
        """What all lines are worth together."""
        return sum(x.points for x in self.lines)

    @property
    def earned(self) -> int:
        """What the right lines are worth."""
        return sum(x.earned for x in self.lines)

    def __str__(self) -> str:
        wide = max((len(x.line) for x in self.lines), default=4)
        rows = [f"{self.task}: {self.earned} of {self.points} points" + (f"  ({self.status}: {self.message})" if self.status != "ok" else "")]
        rows += _printed(self.printed, "  | ")
        if self.status in FILE_FAILED:
            return "\n".join(rows)
        for x in self.lines:
            head = f"  {x.line:<{wide}}  {x.verdict}" + (f" ({x.code})" if x.code else "")
            rows.append(head + (f": {x.text()}" if x.message else ""))
            rows += _printed(x.printed, f"  {'':<{wide}}  | ")
        return "\n".join(rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for x in self.lines:
            verdict = f"<b style='color:{COLOURS.get(x.verdict, '#B34D00')}'>{html.escape(x.verdict)}</b>"
            code = f"<br><small>{html.escape(x.code)}</small>" if x.code else ""
            cells = (f"<code>{html.escape(x.line)}</code>", verdict + code, f"{x.earned}/{x.points}", html.escape(x.text()))
            rows.append("".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells))
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in ("line", "verdict", "points", ""))
        title = f"<p><b>{html.escape(self.task)}</b>: {self.earned} of {self.points} points {html.escape(self.message)}</p>"
        return f"{title}<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        lines = [{"line": x.line, "verdict": x.verdict, "points": x.points, "earned": x.earned, "code": x.code, "message": x.message, "at": x.at,
                  "error": x.error, "bound": x.bound, "case": x.case, "flags": x.flags,
                  "routes": [{"names": list(r.names), "kind": r.kind} for r in x.routes]} for x in self.lines]
        return {"task": self.task, "file": self.file, "seed": self.seed, "status": self.status, "message": self.message, "points": self.points,
                "earned": self.earned, "sandbox": self.sandbox, "refused": self.refused, "lines": lines}

    def json(self) -> str:
        """`as_dict` as JSON (numbers that are not finite as text)."""
        return json.dumps(_finite(self.as_dict()))


def _printed(text: str, margin: str) -> list[str]:
    """The first lines of what was printed, none of them endless."""
    return [margin + (line if len(line) <= 160 else line[:159] + "…") for line in text.splitlines()[:10]]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value
