"""The folder try/ of the site: a page for each homework, the playground, their list, and everything that they fetch but Pyodide itself."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from lectures.site.story import rendered, story, title
from lectures.tools.build import HERE as LECTURES
from minigrad.derivation import Task, load_task, tape_of
from minigrad.derivation.stubs import strip

from . import engine
from .bridge import drawing
from .editor import Bundle
from .pyodide import PyodideFiles

WEB = Path(__file__).resolve().parent / "web"
SCRIPTS = ("engine.js", "formulas.js", "homework.js", "index.js", "page.js", "plain.js", "playground.js", "practice.css",
           "store.js", "verdicts.js", "worker.js")
MEGABYTES = 1024  # for everything in a worker
MATHJAX = "mathjax.js"


class Homework(NamedTuple):
    """A homework as its page needs it."""

    name: str
    title: str
    task: Task
    stub: str
    story: str

    @property
    def points(self) -> int:
        """What all its lines are worth."""
        return sum(self.task.line(line).points for line in self.task.lines)


def homeworks(folder: Path = LECTURES / "homework") -> list[Homework]:
    """All homework of the course, in its order."""
    found = []
    for path in sorted(p.parent for p in folder.glob("*/task.py")):
        stub, _ = strip((path / "lines.py").read_text("utf-8"), f"{path.name}/lines.py")
        found.append(Homework(path.name, title(path), load_task(path), stub, rendered(story(path).partition("\n")[2])))
    return found


def policy(source: PyodideFiles) -> str:
    """What a page may do: use the files beside it, and Pyodide. WebAssembly counts as evaluated code."""
    more = source.policy
    return (f"default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'{more}; worker-src 'self' blob:; connect-src 'self'{more}; "
            "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'")


def data(value: Any) -> Markup:
    """A value as the text of a <script type="application/json">, which its first "</script" would end."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def examples() -> dict[str, str]:
    """The playground's texts, by what they are called: the first line of each."""
    texts = [path.read_text("utf-8") for path in sorted((WEB / "examples").glob("*.py"))]
    return {text.splitlines()[0].strip('"# ').rstrip("."): text for text in texts}


def build(dest: Path, source: PyodideFiles, mathjax: str, editor: Bundle | None, lectures: Mapping[str, str] | None = None) -> list[str]:
    """Write all files into the folder `dest`, which holds at most Pyodide so far; returns the names of the pages.

    Args:
        source: where Pyodide comes from.
        mathjax: the program that sets formulas.
        editor: the bundled editor; None: a plain text area.
        lectures: homework -> name of the lecture's page, which lies one folder up; None: there are no such pages.
    """
    dest.mkdir(parents=True, exist_ok=True)
    for name in SCRIPTS:
        shutil.copyfile(WEB / name, dest / name)
    (dest / MATHJAX).write_text(mathjax, "utf-8")
    code = engine.archive()
    zipped = f"course-{hashlib.sha256(code).hexdigest()[:12]}.zip"
    (dest / zipped).write_bytes(code)
    if editor is not None:
        (dest / "editor.js").write_text(editor.program, "utf-8")
        (dest / "licences.txt").write_text(editor.licences, "utf-8")
    settings = data({"editor": editor is not None, "engine": {"pyodide": source.address, "engine": zipped, "megabytes": MEGABYTES}})
    environment = Environment(loader=FileSystemLoader(WEB), autoescape=True)
    shared = {"policy": policy(source), "pyodide": source, "settings": settings, "mathjax": MATHJAX, "lectures": lectures, "licences": editor is not None}
    course = homeworks()
    pages = {"index.html": environment.get_template("index.html.j2").render(homeworks=course, **shared),
             "playground.html": environment.get_template("playground.html.j2").render(
                 examples=data(examples()), style=Markup("".join(re.findall(r"<style>.*?</style>", drawing(tape_of(course[0].task)), re.DOTALL))), **shared)}
    for h in course:
        pages[f"{h.name}.html"] = environment.get_template("homework.html.j2").render(
            name=h.name, title=h.title, points=h.points, story=Markup(h.story), svg=Markup(drawing(tape_of(h.task))), task=data(described(h)),
            lecture=(lectures or {}).get(h.name), **shared)
    for name, text in pages.items():
        (dest / name).write_text(re.sub(r"[ \t]+\n", "\n", text) + "\n", "utf-8", newline="\n")
    (dest / "sw.js").write_text(service_worker(dest, source), "utf-8")
    return list(pages)


def described(h: Homework) -> dict[str, Any]:
    """What the page's script knows of a homework: no answer is in it."""
    lines = [{"name": name, "points": (line := h.task.line(name)).points, "hints": list(line.hints), "target": line.target} for name in h.task.lines]
    return {"name": h.name, "stub": h.stub, "lines": lines}


def service_worker(dest: Path, source: PyodideFiles) -> str:
    """The script that keeps the pages for a visit without a network: all files of `dest` now, Pyodide's when they are first used."""
    files = sorted(p.relative_to(dest).as_posix() for p in dest.rglob("*") if p.is_file() and "pyodide" not in p.relative_to(dest).parts)
    version = hashlib.sha256("".join(f"{name} {hashlib.sha256((dest / name).read_bytes()).hexdigest()}\n" for name in files).encode()).hexdigest()[:12]
    settings = {"VERSION": version, "PYTHON": source.version, "FILES": files, "ADDRESS": source.address, "INTEGRITY": source.integrity}
    return (WEB / "sw.js").read_text("utf-8").replace("SETTINGS;", json.dumps(settings) + ";", 1)
