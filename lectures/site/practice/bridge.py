"""What the browser's worker calls: the text of a file goes in, verdicts come out as JSON, with the way of each through the tape.

Student and judge share one interpreter here: this is for practice. Nothing in here needs a browser, so the tests run it as it is.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import linecache
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad.core.backend import np
from minigrad.derivation import Report, Task, TaskError, check, load_task, tape_of
from minigrad.derivation.report import GOOD
from minigrad.show import way

Working = Callable[[str], Any]
PLAYGROUND = "playground.py"
NEEDED = {  # what the playground's text defines: its type, and how to write it
    "forward": (object, "def forward(x, ...), with mg.named(...) around the values that get a line"), "inputs": (dict, 'inputs = {"x": ...}'),
    "keywords": (dict, 'keywords = {"eps": ...}')}
WIDTHS = {"wide": 1180, "narrow": 330}  # of a drawing, in pixels: for a desk and for a telephone


def no_keyboard() -> None:
    """Let `input` say what is the matter in a page."""
    def nobody(*_: Any) -> str:
        raise RuntimeError("there is no keyboard here: a line gets all that it needs as its arguments")
    builtins.input = nobody


@contextlib.contextmanager
def unharmed() -> Iterator[None]:
    """Whatever somebody's text does to NumPy, minigrad or Python's builtins (``np.sum = 3``) ends with its check."""
    watched = [m for name, m in sys.modules.items() if name.partition(".")[0] in ("numpy", "minigrad", "builtins", "math", __name__) and hasattr(m, "__dict__")]
    before = [(vars(m), dict(vars(m))) for m in watched]
    try:
        yield
    finally:
        for now, then in before:
            for name, value in then.items():
                if now.get(name, now) is not value:
                    now[name] = value
        sys.stdout.flush()  # what was printed belongs to this check
        sys.stderr.flush()


@unharmed()
def homework(folder: str, text: str, working: Working, seed: int = 0) -> str:
    """Judge the text of a lines.py; `folder` holds the task.py.

    Args:
        working: is called with the name of each line before it is judged, so that whoever waits knows which one does not end.
    """
    task = load_task(folder)
    file = Path(folder) / "lines.py"
    file.write_text(text, "utf-8", "surrogatepass")  # a browser's text may hold what is no character: then the report says so
    report = check(task, str(file), seed=seed, working=lambda name, line: working(name) if line is None else None)
    return answer(report, text, tape_of(task))


@unharmed()
def playground(text: str, working: Working, seed: int = 0) -> str:
    """Judge a file that brings its own composed function: ``forward``, ``inputs``, perhaps ``keywords``, and lines ``d_<name>``."""
    linecache.cache[PLAYGROUND] = len(text), None, text.splitlines(keepends=True), PLAYGROUND
    names: dict[str, Any] = {"__name__": "playground"}
    try:
        exec(compile(text, PLAYGROUND, "exec"), names)  # their own text, on their own machine
        forward, inputs, keywords = (needed({"keywords": {}, **names}, name) for name in NEEDED)
        lines = {n: f for n, f in names.items() if n.startswith("d_") and callable(f)}
        given = {name: value.numpy() if isinstance(value, mg.Tensor) else np.asarray(value) for name, value in inputs.items()}
        tape = tape_of(Task("playground", forward, lambda rng, dtype: iter([(given, keywords)]), {}))
        if not lines:
            return json.dumps({"status": "blank", "message": "no line yet: write d_<name> for a value that the forward names", "lines": [],
                               "drawing": drawing(tape)})
        report = check(forward, lines, inputs=inputs, keywords=keywords, seed=seed, working=lambda name, line: working(name) if line is None else None)
    except BaseException as e:  # whatever somebody's text raises is theirs to read
        return json.dumps({"status": "error", "lines": [], **where(e)})
    return answer(report, text, tape, drawing(tape))


def needed(names: dict[str, Any], name: str) -> Any:
    """What the text must define.

    Raises:
        NameError: it does not, or it is something else.
    """
    kind, what = NEEDED[name]
    if name not in names:
        raise NameError(f"{name} is missing: write {what}")
    if kind is dict and not isinstance(names[name], dict):
        raise NameError(f"{name} must be a dict: write {what}")
    return names[name]


def where(e: BaseException) -> dict[str, Any]:
    """An error in words, with the last place in the playground's text."""
    lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename == PLAYGROUND]
    line = e.lineno if isinstance(e, SyntaxError) else lines[-1] if lines else None
    named = f"{type(e).__name__}: {e}".removesuffix(": ")
    text = e.msg if isinstance(e, SyntaxError) else e.args[0] if isinstance(e, (NameError, TaskError)) and e.args else named
    return {"message": str(text) + (f" (line {line})" if line else ""), "at": {"line": line} if line else None}


def drawing(tape: Any) -> str:
    """The tape as SVG, once for each width; the page's style sheet shows one of them."""
    return "".join(f'<div class="{name}">{tape.svg(width=width, ident=name)}</div>' for name, width in WIDTHS.items())


def answer(report: Report, text: str, tape: Any, picture: str | None = None) -> str:
    """A report as JSON: with each line's whole text, and where the routes that it names lie in the drawing."""
    found = json.loads(report.json())
    for line, said in zip(found["lines"], report.lines, strict=True):
        line |= {"text": said.text(), "good": said.verdict in GOOD, "ways": [ways(tape, *route) for route in said.routes],
                 "at": line["at"] if (line["at"] or {}).get("line") else placed(text, said.line, said.message)}
    return json.dumps({**found, "printed": report.printed, "drawing": picture})


def placed(text: str, name: str, message: str) -> dict[str, Any] | None:
    """Where a line stands in the text: the line that the message names, else the last return of its function, else its def."""
    said = re.search(r"\(line (\d+)[,)]", message)
    if said:
        return {"line": int(said[1])}
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    functions = [f for f in module.body if isinstance(f, ast.FunctionDef) and f.name == name]
    returns = [line for f in functions[-1:] for line in own_returns(f)]
    return {"line": max(returns) if returns else functions[-1].lineno} if functions else None


def own_returns(node: ast.AST) -> Iterator[int]:
    """The lines with a return of this function, not of those inside it."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.Return):
            yield inner.lineno
        elif not isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from own_returns(inner)


def ways(tape: Any, names: Sequence[str], kind: str) -> dict[str, Any]:
    """A route as the numbers of boxes and arrows."""
    return {"kind": kind, **way(tape, names)._asdict()}
