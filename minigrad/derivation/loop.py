"""The loop of deriving: write a line, save, read what is wrong with it.

    python -m minigrad.derivation 02_batch_norm --start mine.py     the stub of a homework, to fill in
    python -m minigrad.derivation 02_batch_norm mine.py --watch     checks at every save
    python -m minigrad.derivation 02_batch_norm --hint d_var        a hint, the weak one first; --hint d_var 2 the next

While a line is judged its name stands in the last row of the terminal. In a pipe there are no colours and no such row.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..core.errors import error
from ..files import write_atomically
from .report import GOOD, LineReport, Report
from .stubs import strip
from .task import Task, folders, load_task

EVERY = 0.3  # seconds between two looks at the file
COLOURS = {"right": "32", "rounding": "36", "not implemented": "90"}  # everything else: red


# -- what is shown -----------------------------------------------------------------------------------------------------------


def coloured(text: str, report: Report) -> str:
    """A report's text for a terminal: verdicts in colours."""
    rows = text.split("\n")
    for x in report.lines:
        for i, row in enumerate(rows):
            if re.match(rf"  {re.escape(x.line)}\s+{re.escape(x.verdict)}", row):
                rows[i] = row.replace(x.verdict, f"\x1b[1;{COLOURS.get(x.verdict, '31')}m{x.verdict}\x1b[0m", 1)
                break
    return "\n".join(rows)


def has_colours(stream: TextIO) -> bool:
    """Whether a stream shows colours: a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Working:
    """Shows which line is being judged, in one row that is overwritten; nothing where the stream is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.shown = 0

    def __call__(self, name: str, done: LineReport | None) -> None:
        """`name` begins, or is done."""
        if self.stream.isatty():
            row = "" if done is not None else f"  {name} …"
            self.stream.write("\r" + row + " " * (self.shown - len(row)) + ("\r" if done is not None else ""))
            self.stream.flush()
            self.shown = len(row)


def shown(report: Report, stream: TextIO | None = None) -> str:
    """The report as it is printed to this stream."""
    return coloured(str(report), report) if has_colours(stream or sys.stdout) else str(report)


def next_line(report: Report) -> str | None:
    """The line to go on with: the first wrong one, else the first that is not written; None if all are right."""
    wrong = [x.line for x in report.lines if x.verdict not in (*GOOD, "not implemented")]
    return next(iter([*wrong, *(x.line for x in report.lines if x.verdict not in GOOD)]), None)


def advice(task: Task, report: Report) -> str:
    """What to do next, in a sentence."""
    line = next_line(report)
    if report.status not in ("ok", "blank"):
        return "next: make the file run"
    if line is None:
        return "all lines are right"
    right = sum(x.verdict in GOOD for x in report.lines)
    hint = f"; a hint: --hint {line}" if task.line(line).hints else ""
    return f"next: {line} ({right} of {len(report.lines)} lines are right{hint})"


def hint(task: Task, line: str, step: int) -> str:
    """The hint of this number for a line, and how to get the next one.

    Raises:
        ValueError: there is no such hint.
        KeyError: there is no such line.
    """
    hints = task.line(line).hints
    if not hints:
        return f"there is no hint for {line}"
    if not 1 <= step <= len(hints):
        raise error(ValueError, f"--hint {line}", got=f"step {step}", needs=f"1 to {len(hints)}, from weak to strong", fix=f"--hint {line} {len(hints)}")
    more = f"\nThe next one: --hint {line} {step + 1}" if step < len(hints) else ""
    return f"{step} of {len(hints)}: {hints[step - 1]}{more}"


# -- the stub ----------------------------------------------------------------------------------------------------------------


def start(homework: str, file: str) -> str:
    """Write the stub of a homework to a new file; returns what to do with it.

    Raises:
        FileNotFoundError: there is no such homework, or it has no lines.py.
        FileExistsError: the file is there already.
    """
    task = load_task(homework)
    path, source = Path(file), _folder(homework, task) / "lines.py"
    if not source.is_file():
        raise error(FileNotFoundError, "--start", got=f"no lines.py beside the task {task.name}", needs="the homework's folder with its lines.py",
                    fix="write the functions into a file of your own, named as --hint and the report name them")
    if path.exists():
        raise error(FileExistsError, "--start", got=f"{file}, which is there already", needs="the name of a new file", fix="choose another name")
    write_atomically(path, strip(source.read_text("utf-8"), source.name)[0])
    return f"{file}: {len(task.lines)} lines to derive. Then: python -m minigrad.derivation {homework} {file} --watch"


def _folder(homework: str, task: Task) -> Path:
    path = Path(homework)
    candidates = [path, path.parent, *(folder / homework for folder in folders())]
    return next((p for p in candidates if (p / "task.py").is_file()), path)


# -- watching ----------------------------------------------------------------------------------------------------------------


def saves(files: list[Path], look: Callable[[], Any] | None = None) -> Iterator[Path]:
    """The files as they are saved, the ones that are there first, the latest last. Ends only with an interrupt.

    Args:
        files: may come and go.
        look: waits between two looks.
    """
    wait = look or (lambda: time.sleep(EVERY))
    known: dict[Path, tuple[int, int]] = {}
    while True:
        changed = []
        for file in files:
            try:
                state = file.stat()
            except OSError:  # an editor that saves by renaming takes it away for a moment
                continue
            mark = state.st_mtime_ns, state.st_size
            if known.get(file) != mark:
                known[file] = mark
                changed.append((state.st_mtime_ns, str(file), file))
        yield from (file for _, _, file in sorted(changed))
        wait()


def watch(homeworks: dict[Path, str], judge: Callable[[Task, str], Report], *, out: Callable[[str], Any] = print,
          look: Callable[[], Any] | None = None) -> None:
    """Judge files as they are saved, and say how far each homework is.

    Args:
        homeworks: from a file to its homework.
        judge: makes a report of a task and a file.
        out: is given what is to be shown.
        look: waits between two looks.
    """
    progress: dict[Path, tuple[str, int, int]] = {}
    tasks = {file: load_task(homework) for file, homework in homeworks.items()}
    out(f"watching {', '.join(map(str, homeworks))}: save it to have it checked, end with Ctrl-C")
    for file in saves(list(homeworks), look):
        report = judge(tasks[file], str(file))
        progress[file] = tasks[file].name, report.earned, sum(tasks[file].line(n).points for n in tasks[file].lines)
        out(f"\n{time.strftime('%H:%M:%S')}  {shown(report)}\n{advice(tasks[file], report)}")
        if len(homeworks) > 1:
            out("  ".join(f"{name} {earned}/{points}" for name, earned, points in progress.values()))
