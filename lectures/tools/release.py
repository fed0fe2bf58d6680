"""Make the students' tree from this one: ``python -m lectures.release [DEST]``.

There is a single source, with solutions between nbgrader's markers

    ### BEGIN SOLUTION
    ### END SOLUTION

and in the students' tree ``raise NotImplementedError("d_var: your turn")`` stands in their place. The tree is made beside DEST, verified
there, and takes DEST's place only if all of this holds:

    the released folders hold the files of a list (listed.py) and no stray ones
    every marker has its partner, and every file is still Python (or a notebook)
    every stub raises NotImplementedError with its message, and the checker calls it "not implemented"
    no line of a solution is left anywhere but in the library, which is public
    no longer line of a homework's solution can be read in the course in other names, axes or order (readable.py)
    every solution passes the checker

Two runs on the same source give the same bytes. CONTENTS.sha256 lists them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from minigrad.command import run_command
from minigrad.derivation.stubs import END, BadMarker, Solution, message
from minigrad.derivation.stubs import strip as stub_of
from minigrad.files import new_folder

from . import listed, readable

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ("minigrad", "layers", "models", "datasets", "setup.cfg", "pyproject.toml", "LICENSE", "CITATION.cff")
COURSE = "lectures"
INSTRUCTORS = ("lectures/grading", "lectures/tools", "lectures/site", *(f"lectures/{name}.py" for name in ("grade", "release", "build", "study")))
README = "docs/students.md"
CONTENTS = "CONTENTS.sha256"
CHECKER = (sys.executable, "-m", "minigrad.derivation")


class NotReleased(Exception):
    """The tree is not fit for students; the text has a line ``file:line: reason`` for each problem."""


# -- the stripper ------------------------------------------------------------------------------------------------------


def strip(text: str, where: str) -> tuple[str, list[Solution]]:
    """The text with a stub in place of each solution, and the lines that are gone.

    Raises:
        NotReleased: a marker without its partner, or spelled differently.
    """
    try:
        return stub_of(text, where)
    except BadMarker as reason:
        raise NotReleased(str(reason)) from None


def strip_notebook(text: str, where: str) -> tuple[str, list[Solution]]:
    """The same for every cell of a notebook; outputs go, metadata (nbgrader's too) stays."""
    notebook, before, gone = json.loads(text), json.loads(text), []
    for number, cell in enumerate(notebook["cells"], 1):
        source, found = strip("".join(cell["source"]), f"{where}:cell {number}")
        cell["source"] = source.removesuffix("\n").splitlines(keepends=True) if found else cell["source"]
        gone += found
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return (text if notebook == before else json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"), gone


# -- the tree ----------------------------------------------------------------------------------------------------------


def files(root: Path, *names: str) -> Iterator[str]:
    """Paths below `root` of these files and of all in these folders, sorted, without Python's byte code."""
    yield from sorted(listed.lying(root, names, ()))


def make(root: Path, tree: Path) -> list[Solution]:
    """Write the students' tree of `root` into the empty folder `tree`; returns the lines of the solutions."""
    gone: list[Solution] = []
    problems = []
    for name in listed.listed(root):
        data = (root / name).read_bytes()
        if name.startswith(COURSE) and name.endswith((".py", ".ipynb")):
            try:
                if name.endswith(".py"):
                    ast.parse(data)
                text, found = (strip if name.endswith(".py") else strip_notebook)(data.decode(), name)
                if name.endswith(".py"):
                    ast.parse(text)
                data = text.encode()  # a file without solutions stays as it is, to the byte
                gone += found
            except NotReleased as reason:
                problems.append(str(reason))
            except (ValueError, KeyError, SyntaxError) as reason:
                problems.append(f"{name}:{getattr(reason, 'lineno', None) or 1}: {reason}")
        write(tree / name, data)
    write(tree / "README.md", (root / README).read_bytes())
    if problems:
        raise NotReleased("\n".join(problems))
    return gone


def write(path: Path, data: bytes) -> None:
    """A new file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as f:
        f.write(data)


def contents(tree: Path) -> str:
    """SHA-256 and name of every file, in the form that ``sha256sum -c`` reads."""
    return "".join(f"{hashlib.sha256((tree / name).read_bytes()).hexdigest()}  {name}\n"
                   for name in sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()) if name != CONTENTS)


# -- its verification --------------------------------------------------------------------------------------------------


def leaks(root: Path, tree: Path, gone: Sequence[Solution]) -> list[str]:
    """Places of the students' course where a line of a solution is still to be read, in whatever layout of blanks."""
    public = {"".join(line.split()) for name in files(tree, *LIBRARY) if name.endswith(".py") for line in (tree / name).read_text("utf-8").splitlines()}
    secret = {s.text: s.where for s in reversed(gone) if s.text not in public and telling(s.text)}
    problems = []
    for name in files(tree, *sorted(p.name for p in tree.iterdir() if p.name not in LIBRARY)):
        for where, line in lines_of(tree, name, root, gone):
            text = "".join(line.split())
            problems += [f"{name}:{where}: shows a line of the solution in {at}" for solution, at in secret.items() if solution in text]
    return problems + readable.shown(root, tree, gone, sorted(p.name for p in tree.iterdir() if p.name not in LIBRARY))


def telling(text: str) -> bool:
    """Whether a line says something: an operator or call on two names or more; ``else:`` and ``return dx`` do not."""
    return (len(set(re.findall(r"[^\W\d]\w*", text)) - {"return"}) >= 2 and bool(re.search(r"[-+*/@(]", text))) or (text.startswith("#") and len(text) > 12)


def lines_of(tree: Path, name: str, root: Path, gone: Sequence[Solution]) -> Iterator[tuple[str, str]]:
    """All text in a file with where it stands in the source: of a notebook every string, of a picture what would be text."""
    text = (tree / name).read_bytes().decode("utf-8", "replace")
    if not name.endswith(".ipynb"):
        removed, source = {s.where for s in gone}, root / (README if name == "README.md" else name)
        kept = (str(n) for n, line in enumerate(source.read_bytes().decode("utf-8", "replace").splitlines(), 1)
                if f"{name}:{n}" not in removed and line.strip() != END)
        yield from zip(kept, text.splitlines(), strict=True)
        return

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield from value.splitlines()
        elif isinstance(value, (list, dict)):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from strings(inner)
    for number, cell in enumerate(json.loads(text)["cells"], 1):
        yield from ((f"cell {number}", line) for line in strings(cell))


def functions_of(path: Path) -> dict[str, int]:
    """The functions that a file defines, and their lines."""
    return {node.name: node.lineno for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)}


def wrong_stubs(root: Path, tree: Path, homework: str, solved: Sequence[Solution]) -> list[str]:
    """Functions of a homework's lines.py that had a solution and do not raise NotImplementedError with their message."""
    name = f"{homework}/lines.py"
    text = (tree / name).read_text("utf-8")
    stubs = {f.name: f for f in ast.parse(text).body if isinstance(f, ast.FunctionDef) and message(f.name) in (ast.get_source_segment(text, f) or "")}
    if solved and not stubs:
        return [f"{name}:1: no function of it has a stub"]
    problems, functions, at = [], runpy.run_path(str(tree / name)), functions_of(root / name)
    for stub in stubs.values():
        try:
            functions[stub.name](*(MagicMock() for _ in stub.args.args))
            said = "nothing was raised"
        except NotImplementedError as raised:
            said = str(raised)
        except Exception as raised:
            said = f"{type(raised).__name__}: {raised}"
        if said != message(stub.name):
            problems.append(f"{name}:{at[stub.name]}: {stub.name} must raise NotImplementedError({message(stub.name)!r}), but: {said}")
    return problems


def judge(checker: Sequence[str], root: Path, homework: str) -> dict[str, Any]:
    """The checker's report on a homework's lines.py, with the library and the task of the same tree."""
    done = subprocess.run([*checker, str(root / homework), str(root / homework / "lines.py"), "--json"], cwd=root, capture_output=True, text=True,
                          encoding="utf-8", check=False, env=os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"})
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise NotReleased(f"{homework}/lines.py:1: the checker gave no report but: {last[0]}") from None


def misjudged(checker: Sequence[str], root: Path, tree: Path, homework: str) -> list[str]:
    """Lines whose solution the checker does not call right, or whose stub it does not call "not implemented"."""
    name = f"{homework}/lines.py"
    problems, at = [], functions_of(root / name)
    for what, where, accepted in (("solution", root, ("right", "rounding")), ("stub", tree, ("not implemented",))):
        report = judge(checker, where, homework)
        problems += [f"{name}:{at.get(line['line'], 1)}: the {what} of {line['line']} is {line['verdict']}: {line['message']}"
                     for line in report["lines"] if line["verdict"] not in accepted]
        if not report["lines"] or (what == "solution" and report["status"] != "ok"):
            problems.append(f"{name}:1: the checker says of the {what}s: {report['status']}: {report['message']}")
    return problems


def verify(root: Path, tree: Path, gone: Sequence[Solution], checker: Sequence[str]) -> list[str]:
    """All reasons not to give `tree` to students."""
    problems = leaks(root, tree, gone)
    for task in sorted((root / COURSE / "homework").glob("*/task.py")):
        homework = task.parent.relative_to(root).as_posix()
        if not (task.parent / "lines.py").is_file():
            problems.append(f"{homework}/task.py:1: there is no lines.py beside it")
            continue
        problems += wrong_stubs(root, tree, homework, [s for s in gone if s.where.startswith(f"{homework}/lines.py:")])
        problems += misjudged(checker, root, tree, homework)
    return problems


def release(dest: Path, *, root: Path = ROOT, checker: Sequence[str] = CHECKER) -> Path:
    """Make, verify, and put in place.

    Raises:
        NotReleased: with all problems found; DEST is then what it was.
    """
    dest = dest.absolute()
    if (dest.is_relative_to(root) and not dest.is_relative_to(root / "build")) or root.is_relative_to(dest):
        raise NotReleased(f"{dest}: lies in the source tree, or holds it; take another folder, or one in build/")
    if dest.exists() and not (dest / CONTENTS).is_file() and (not dest.is_dir() or any(dest.iterdir())):
        raise NotReleased(f"{dest}: exists and is no earlier release; take another folder or delete it yourself")
    try:
        if strays := listed.problems(root, (*LIBRARY, COURSE), INSTRUCTORS):
            raise NotReleased("\n".join(strays))
    except ValueError as reason:
        raise NotReleased(str(reason)) from None
    with new_folder(dest) as tree:
        gone = make(root, tree)
        if problems := verify(root, tree, gone, checker):
            raise NotReleased("\n".join(problems))
        write(tree / CONTENTS, contents(tree).encode())
    return dest


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if the release is in place, 1 if it is not."""
    parser = argparse.ArgumentParser(prog="python -m lectures.release", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dest", nargs="?", type=Path, default=ROOT / "build" / "release", help="where the tree goes (default: build/release)")
    parser.add_argument("--list", action="store_true", help=f"write {listed.LIST} anew from git, and say what changes")
    options = parser.parse_args(arguments)
    if options.list:
        try:
            new, old = listed.write_list(ROOT, (*LIBRARY, COURSE), INSTRUCTORS)
        except ValueError as reason:
            print(f"The list was not written.\n{reason}", file=sys.stderr)
            return 1
        print("\n".join([*(f"+ {name}" for name in new), *(f"- {name}" for name in old)]) or "The list is as it was.")
        return 0
    try:
        dest = release(options.dest)
    except NotReleased as reason:
        print(f"Nothing was released.\n{reason}", file=sys.stderr)
        return 1
    count = len((dest / CONTENTS).read_text("utf-8").splitlines())
    print(f"{count} files for students, verified: {dest}")
    return 0


if __name__ == "__main__":
    run_command(main)
