"""The documentation as a web site: ``python -m lectures.site.docs [DEST] [--mathjax FILE]`` (``make docs``; ``make site`` builds the lectures too).

Sphinx makes it from the Markdown in this repository, and from pages that are written here: the API reference from the docstrings, the
homework, the source documents as the ledger measures them now, and the catalogue of errors. It works from a folder, with search, and needs no network.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lectures.build import HERE as LECTURES
from lectures.build import sources, syllabus
from lectures.release import strip
from minigrad.command import run_command
from minigrad.files import new_folder

from . import reading
from .check import is_foreign, problems
from .docstrings import code, escaped, fenced
from .mathjax import NAME as MATHJAX_FILE
from .mathjax import NoMathJax, mathjax

HERE = Path(__file__).resolve().parent
ROOT = LECTURES.parent
ERRORS = ROOT / "tests" / "snapshots" / "errors.txt"
# What a browser may do with a page: use files of this folder. It refuses everything else, so what looks right needs no network.
POLICY = ("default-src 'none'; img-src 'self' file: data:; font-src 'self' file:; connect-src 'self' file:; "
          "style-src 'self' file: 'unsafe-inline'; script-src 'self' file: 'unsafe-inline'")

# Page of the site -> file of the repository. Guides in the order in which they are read; docs/ must be here as a whole.
PAGES = {
    "index.md": "README.md",
    "guides/students.md": "docs/students.md",
    "guides/layers.md": "docs/layers.md",
    "guides/check_a_backward.md": "docs/check_a_backward.md",
    "guides/conventions.md": "docs/conventions.md",
    "guides/invariants.md": "docs/invariants.md",
    "guides/gpu.md": "docs/gpu.md",
    "guides/instructors.md": "docs/instructors.md",
    "guides/homework.md": "docs/homework.md",
    "guides/misconceptions.md": "docs/misconceptions.md",
    "guides/references.md": "docs/references.md",
    "guides/contributing.md": "CONTRIBUTING.md",
    "guides/changelog.md": "CHANGELOG.md",
    "lectures.md": "lectures/README.md",
    "datasets/digits.md": "datasets/digits.md",
}

CODE = re.compile(r"(^```[\s\S]*?^```|^(?: {4}[^\n]*\n)+|`[^`\n]+`)", re.MULTILINE)  # stays as it is
KEY = re.compile(r"\[([a-z]+(?:19|20)\d\d[a-z]*)\](?!\()")  # of a work, if it is no link already


class NotBuilt(Exception):
    """The documentation was not built; the text says why."""


# -- Markdown of the repository ----------------------------------------------------------------------------------------


def pages(root: Path = ROOT) -> dict[str, str]:
    """{page of the site: file of the repository} of all Markdown that becomes a page as it is."""
    more = {f"guides/{p.name}": f"docs/{p.name}" for p in sorted((root / "docs").glob("*.md"))}
    more |= {f"benchmarks/{p.name}": f"benchmarks/results/{p.name}" for p in sorted((root / "benchmarks" / "results").glob("*.md"))}
    results = root / "experiments" / "results"
    more |= {f"experiments/{p.parent.name}-{p.name}": p.relative_to(root).as_posix() for p in sorted(results.glob("*/*.md"))}
    return PAGES | {page: file for page, file in more.items() if page not in PAGES}


def moved(text: str, page: str, made: dict[str, str], root: Path = ROOT) -> str:
    """The text of a file of the repository with its links as they are on the site.

    A notebook is the lecture's web page, a folder its page or index; a link to any other file that is on no page becomes plain text.
    """
    file = made[page]
    places = {source: place for place, source in made.items()} | {"datasets": "datasets/digits.md", "benchmarks/results": "benchmarks/index.md",
                                                                  "benchmarks": "benchmarks/index.md", "experiments": "experiments/index.md"}

    def link(m: re.Match[str]) -> str:
        mark, label, target, anchor = m.groups()
        if re.match(r"[a-z]+:", target):
            return m[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        if mark:
            return f"![{label}]({posixpath.relpath(image(path), posixpath.dirname(page) or '.')})"
        if path in places:
            return f"[{label}]({posixpath.relpath(places[path], posixpath.dirname(page) or '.')}{anchor or ''})"
        if path.startswith("lectures/") and path.endswith(".ipynb"):
            return f"[{label}](here:{'../' * (page.count('/') + 1)}{Path(path).stem}.html)"
        if not (root / path).exists():
            raise NotBuilt(f"{file} links to {target}, which is not there")
        return label

    text = "".join(part if i % 2 else re.sub(r"(!?)\[([^\]\n]*)\]\(([^)\s#]+)(#[^)\s]*)?\)", link, part) for i, part in enumerate(CODE.split(text)))
    return cited(text, posixpath.relpath("guides/references.md", posixpath.dirname(page) or "."))


def cited(text: str, references: str) -> str:
    """Keys of works as links, outside of code."""
    return "".join(part if i % 2 else KEY.sub(rf"[[\1]]({references}#\1)", part) for i, part in enumerate(CODE.split(text)))


def image(path: str) -> str:
    """Where an image of the repository lies among the sources. Figures of experiments have the names of their data: the experiment's comes before."""
    place = posixpath.relpath(path, "experiments/results")
    return f"images/{posixpath.basename(path) if place.startswith('..') else place.replace('/', '-')}"


# -- pages that are written here ---------------------------------------------------------------------------------------


def homework(folder: Path) -> str:
    """A homework: what is derived, for how many points, and the file to fill in."""
    spec = importlib.util.spec_from_file_location(f"homework_{folder.name}", folder / "task.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task: Any = module.TASK
    title = (module.__doc__ or folder.name).strip().splitlines()[0].split(". The composed form")[0].rstrip(".")
    rows = [f"| {code(name)} | {getattr(line, 'points', line)} |" for name, line in task.lines.items()]
    stub, _ = strip((folder / "lines.py").read_text("utf-8"), "lines.py")
    return "\n\n".join([
        f"# {title}", f"Source: {cited(task.source, '../guides/references.md')}.", "\n".join(["| line | points |", "|---|---|", *rows]),
        f"Check your file, as often as you like; `--hint LINE` helps with a line:\n\n    python -m minigrad.derivation {folder.name} lines.py",
        "## lines.py", fenced(stub.strip(), "python")]) + "\n"


def homeworks(folder: Path = LECTURES / "homework") -> dict[str, str]:
    """A page for each homework, and their list."""
    made = {f"homework/{f.name}.md": homework(f) for f in sorted(folder.iterdir()) if (f / "task.py").is_file()}
    text = ("# Homework\n\nEach is a file of small functions to fill in, one for each line of a derivation, which `python -m minigrad.derivation` checks and "
            "explains. [For students](../guides/students.md), [how to write one](../guides/homework.md).")
    return made | {"homework/index.md": listed(text, [Path(page).stem for page in made])}


def errors(text: str) -> str:
    """The catalogue of mistakes, from the snapshot of their texts."""
    made = ["# What errors say", "Every text says what the op got, what it needs, and the usual fix. These are mistakes that people make, and what minigrad "
            "answers; the tests hold the texts, and try the fixes."]
    for entry in re.split(r"(?m)^## ", text)[1:]:
        title, _, body = entry.partition("\n")
        made += [f"## {escaped(title[0].upper() + title[1:])}", fenced(body.strip(), "text")]
    return "\n\n".join(made) + "\n"


def listed(text: str, names: Sequence[str]) -> str:
    """A page with links to those in its folder."""
    return f"{text}\n\n```{{toctree}}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"


def contents(made: dict[str, str]) -> str:
    """The tree of the site, for the end of its first page."""
    titles = {"guides/students": "For students"}  # their README has the title that it needs by itself
    guides = [f"{titles[name]} <{name}>" if name in titles else name for name in (page.removesuffix(".md") for page in made if page.startswith("guides/"))]
    trees = {"Guides": guides, "Course": ["lectures", "homework/index", "documents/index"], "Reference": ["api/index", "errors"],
             "Measured": ["experiments/index", "benchmarks/index", "datasets/digits"]}
    return "\n\n".join("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"]) for caption, names in trees.items()) + "\n"


def written(root: Path = ROOT) -> dict[str, str]:
    """All pages: {path below the sources' folder: Markdown}."""
    from .api import DeadName, Reference
    made = pages(root)
    texts = {page: moved((root / file).read_text("utf-8"), page, made, root) for page, file in made.items()}
    texts["index.md"] += "\n" + contents(made)
    try:
        texts |= {f"api/{name}": text for name, text in Reference().pages().items()}
    except DeadName as names:
        raise NotBuilt(str(names)) from None
    texts |= homeworks() | reading.pages() | {"errors.md": errors(ERRORS.read_text("utf-8"))}
    texts["experiments/index.md"] = listed("# Experiments\n\nThe documents' tables, figures and claims, measured; `python -m experiments NAME` measures again.",
                                           [Path(page).stem for page in made if page.startswith("experiments/")])
    texts["benchmarks/index.md"] = listed("# Benchmarks\n\nWhat was measured, on which machine; `make bench` measures again.",
                                          [Path(page).stem for page in made if page.startswith("benchmarks/")])
    return texts


# -- the site ----------------------------------------------------------------------------------------------------------


def build(dest: Path, program: str, root: Path = ROOT) -> int:
    """Make the documentation in the folder `dest`, new or empty; returns the number of pages.

    Raises:
        NotBuilt: a page names or links to what is not there, or Sphinx complains.
    """
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_parser") is None or importlib.util.find_spec("furo") is None:
        raise NotBuilt('Sphinx is missing: pip install -e ".[docs]"')
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for page, text in written(root).items():
            (source / page).parent.mkdir(parents=True, exist_ok=True)
            (source / page).write_text(text, "utf-8")
        figures = ("docs/*.png", "benchmarks/results/*.png", "experiments/results/*/*.png")
        for file in (file for pattern in figures for file in root.glob(pattern)):
            (source / "images").mkdir(exist_ok=True)
            shutil.copy(file, source / image(file.relative_to(root).as_posix()))
        (source / "_static").mkdir()
        (source / "_static" / MATHJAX_FILE).write_text(program, "utf-8")
        shutil.copy(HERE / "sphinx" / "docs.css", source / "_static")
        command = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--jobs", "auto",
                   "--conf-dir", str(HERE / "sphinx"), "--doctree-dir", str(source / ".doctrees"), str(source), str(dest)]
        config = [f"--define=html_static_path={source / '_static'}"]
        done = subprocess.run([*command, *config], capture_output=True, text=True, cwd=root)
        if done.returncode:
            raise NotBuilt(f"Sphinx says:\n{done.stdout}{done.stderr}".replace(folder + os.sep, ""))
    (dest / ".buildinfo").unlink(missing_ok=True)
    made = sorted(dest.rglob("*.html"))
    for file in made:
        text = file.read_text("utf-8")
        file.write_text(text.replace("<head>", f'<head>\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">', 1), "utf-8")
    return len(made)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if the documentation is in place."""
    parser = argparse.ArgumentParser(prog="python -m lectures.site.docs", description=(__doc__ or "").splitlines()[0].split(":")[0])
    parser.add_argument("dest", nargs="?", type=Path, default=ROOT / "build" / "site" / "docs", help="a folder that this command may replace (build/site/docs)")
    parser.add_argument("--mathjax", type=Path, metavar="FILE", help="es5/tex-svg.js of MathJax, instead of downloading it")
    options = parser.parse_args(arguments)
    dest = options.dest.absolute()
    if is_foreign(dest, "searchindex.js"):
        print(f"{dest} exists and is no earlier documentation: take another folder, or delete it yourself.", file=sys.stderr)
        return 2
    try:
        with new_folder(dest) as tree:
            count = build(tree, mathjax(ROOT / "build" / "mathjax", options.mathjax))
            # The lectures' pages lie beside the documentation once `make site` has made them.
            lectures = frozenset((tree.parent / f"{syllabus(path).name}.html").resolve() for path in sources())
            if wrong := list(problems(tree, elsewhere=lectures)):
                raise NotBuilt("\n".join(wrong))
    except (NotBuilt, NoMathJax, ValueError) as reason:
        print(f"No documentation was built.\n{reason}", file=sys.stderr)
        return 1
    print(f"{count} pages: open {dest / 'index.html'}")
    return 0


if __name__ == "__main__":
    run_command(main)
