"""A judge: a process that checks one submission after another, as it is told on standard input.

    {"homework": folder, "file": path, "folder": path, "seed": 7, "seconds": 120, "megabytes": 4096, "sandbox": "auto"}

Each answer is a line of JSON: the report, or why there is none. Student code never runs in here, but in workers (minigrad/derivation/workers.py).
When whoever gives the orders has ended, this process ends too, and the workers with it.
"""

from __future__ import annotations

import json
import os
import queue
import re
import sys
import tempfile
import threading
from functools import cache
from typing import Any

from minigrad.command import run_command
from minigrad.derivation import Limits, Report, Task, TaskError, check, load_task
from minigrad.derivation.inside.confine import CannotConfine, no_peeking


@cache
def task_of(folder: str) -> Task:
    """The task of a homework, loaded once."""
    return load_task(folder)


def judged(order: dict[str, Any]) -> dict[str, Any]:
    """The report on a submission, as plain data: {"report": ...}, or {"failure": ..., "fatal": whether every submission would fail}."""
    seconds = float(order["seconds"])
    limits = Limits(min(Limits.seconds, seconds), int(order["megabytes"]), min(Limits.loading, seconds), seconds)
    try:
        task = task_of(order["homework"])
        report = check(task, order["file"], seed=order["seed"], limits=limits, sandbox=order["sandbox"], folder=order["folder"])
    except TaskError as e:
        report = Report(task.name, order["file"], order["seed"], status="not graded", message=str(e))
    except CannotConfine as e:
        return {"failure": str(e), "fatal": True}
    except Exception as e:  # a task that does not load, a full disk: the row says so
        return {"failure": f"{type(e).__name__}: {e}", "fatal": False}
    text = report.json().replace(json.dumps(str(order["folder"]) + os.sep)[1:-1], "")  # names that are made up each time: two gradings would differ
    text = re.sub(re.escape(json.dumps(os.path.realpath(tempfile.gettempdir()) + os.sep)[1:-1]) + r"(derivation|grading)-\w{8}", "(temporary)", text)
    return {"report": json.loads(text)}


def listen(lines: queue.SimpleQueue[bytes]) -> None:
    """Put what is ordered into the queue; end this process when nobody is left who could."""
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)


def main() -> None:
    """Answer orders until there are no more."""
    no_peeking()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a task prints is no answer
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(lines,), daemon=True).start()
    while True:
        order = json.loads(lines.get())
        answers.write(json.dumps({"id": order["id"], **judged(order)}) + "\n")
        answers.flush()


if __name__ == "__main__":
    run_command(main)
