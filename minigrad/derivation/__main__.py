"""``python -m minigrad.derivation HOMEWORK FILE.py``: check a file of line functions; ``--backward FILE.py``: somebody else's backward. See --help."""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path

from ..command import run_command
from . import Limits, Report, Task, TaskError, available, check, load_task
from .backward import check_backward_file
from .examine import examine
from .loop import Working, hint, shown, start, watch


def main(arguments: list[str] | None = None) -> int:
    """0: all right; 1: something is not; 2: usage."""
    parser = argparse.ArgumentParser(prog="python -m minigrad.derivation", description="Check a derivation line by line.",
                                     epilog=f"Homework found here: {', '.join(available()) or 'none'}.")
    parser.add_argument("homework", nargs="?", help="its name, its folder, or a dotted module")
    parser.add_argument("file", nargs="*", help="your file with the functions d_<name>; with --watch also several, HOMEWORK FILE HOMEWORK FILE ...")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0); -1: new ones")
    parser.add_argument("--line", action="append", metavar="NAME", help="only this line; may be repeated")
    parser.add_argument("--hint", nargs="+", metavar=("NAME", "STEP"), help="print a hint for a line instead: the weakest, or the one of this number")
    parser.add_argument("--start", metavar="FILE.py", help="write the homework's stub to a new file, to fill in")
    parser.add_argument("--watch", action="store_true", help="check at every save, until Ctrl-C")
    parser.add_argument("--backward", metavar="FILE.py", help="check a whole backward instead: the file defines forward, backward, inputs, and if "
                        "need be keywords and names; it runs in this process")
    parser.add_argument("--seconds", type=float, default=Limits.seconds, help="time for each line (default: %(default)s)")
    parser.add_argument("--memory", type=int, default=Limits.megabytes, help="megabytes for each line (default: %(default)s)")
    parser.add_argument("--validate", action="store_true", help="for the author of a homework: examine the task and its lines.py (or FILE.py) instead")
    options = parser.parse_args(arguments)
    if options.backward is not None:
        return _backward(options.backward, None if options.seed < 0 else options.seed, options.json)
    if options.homework is None:
        parser.error("the homework is missing, or --backward FILE.py")
    name = Path(options.homework).name
    try:
        if options.validate:
            return _validate(options.homework, options.file[0] if options.file else None)
        task = load_task(options.homework)
        name = task.name
        if options.hint:
            line, *steps = options.hint
            if len(steps) > 1 or not all(step.isdecimal() for step in steps):
                parser.error("--hint takes the name of a line, and the number of the hint: --hint d_var 2")
            print(hint(task, line, int(steps[0]) if steps else 1))
            return 0
        if options.start:
            print(start(options.homework, options.start))
            return 0
        if not options.file:
            parser.error("the file with your functions is missing; --start FILE.py makes one")
        if len(options.file) > 1 and not options.watch:
            parser.error("one file at a time, or --watch")

        def judge(task: Task, file: str) -> Report:
            working = Working() if not options.json else None
            return check(task, file, seed=None if options.seed < 0 else options.seed, lines=options.line,
                         limits=Limits(options.seconds, options.memory), working=working)
        if options.watch:
            names = [options.homework, *options.file]
            if len(names) % 2:
                parser.error("--watch takes pairs: HOMEWORK FILE HOMEWORK FILE ...")
            try:
                watch({Path(file): homework for homework, file in zip(names[::2], names[1::2], strict=True)}, judge)
            except KeyboardInterrupt:
                print()
            return 0
        report = judge(task, options.file[0])
    except TaskError as e:
        report = Report(name, options.file[0] if options.file else None, options.seed, status="not graded", message=str(e))
        print(report.json() if options.json else e, file=sys.stdout if options.json else sys.stderr)
        return 2
    except (OSError, TypeError, ValueError, KeyError) as e:
        print(e.args[0] if isinstance(e, KeyError) else e, file=sys.stderr)
        return 2
    print(report.json() if options.json else shown(report))
    return 0 if report else 1


def _backward(file: str, seed: int | None, as_json: bool) -> int:
    try:
        report = check_backward_file(file, seed=seed)
    except (OSError, TypeError, ValueError, KeyError) as e:
        print(e, file=sys.stderr)
        return 2
    print(report.json() if as_json else report)
    return 0 if report else 1


def _validate(homework: str, file: str | None) -> int:
    task = load_task(homework)
    lines = Path(file) if file else Path(inspect.getfile(task.cases)).with_name("lines.py")
    found = examine(task, lines)
    lines_of, points = len(task.lines), sum(task.line(name).points for name in task.lines)
    print("\n".join(found) if found else f"{task.name}: {lines_of} line{'s' * (lines_of > 1)}, {points} points. Nothing is wrong with it.")
    return 1 if found else 0


if __name__ == "__main__":
    run_command(main)
