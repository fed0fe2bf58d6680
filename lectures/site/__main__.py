"""Execute the lectures and write them as web pages, with the documentation: ``python -m lectures.site [DEST] [--mathjax FILE] [--fast]``."""

from __future__ import annotations

import argparse
import html
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import DictLoader, Environment
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from lectures.tools.build import HERE as LECTURES
from lectures.tools.build import Syllabus, notebook, sources, syllabus
from lectures.tools.release import strip_notebook
from minigrad.command import run_command
from minigrad.files import new_folder

from . import browser, docs
from .check import is_foreign, problems
from .docs import NotBuilt
from .mathjax import NoMathJax, mathjax
from .practice import pyodide
from .story import title

HERE = Path(__file__).resolve().parent
ROOT = LECTURES.parent
HOMEWORK = LECTURES / "homework"
TRIES = "try"  # the folder, beside the lectures' pages, of those on which homework can be done

CODE_STYLES = ("xcode", "monokai")  # of Pygments, by day and by night: those with contrast enough, as a test says
LEAST_SCALE = 0.66  # of a figure: text of 9 points, at 110 dots per inch, is 9 pixels high then; narrower windows scroll it

# What a page may do: use what it contains. A browser refuses everything else, so a page that looks right needs no network.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

# No menu and no extensions: MathJax would load those while the page is read.
MATHJAX_OPTIONS = r"""MathJax = {
  tex: {inlineMath: [["$", "$"], ["\\(", "\\)"]], displayMath: [["$$", "$$"], ["\\[", "\\]"]], packages: {"[-]": ["autoload", "require"]}},
  options: {enableMenu: false}, svg: {fontCache: "global"}}"""


# -- one page ----------------------------------------------------------------------------------------------------------


def executed(path: Path, fast: bool = False, solutions: bool = True) -> Any:
    """The notebook of a lecture with its outputs, run in the lectures' folder; with the solutions of its homework, or stubs.

    Raises:
        NotBuilt: a cell raised.
    """
    text = notebook(path)
    nb = nbformat.reads(text if solutions else strip_notebook(text, path.name)[0], as_version=4)
    environment = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "MINIGRAD_LECTURE")}  # figures go into the notebook
    client = NotebookClient(nb, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}},
                            extra_arguments=["--log-level=ERROR"])
    try:
        client.execute(env=environment | ({"MINIGRAD_LECTURE": "fast"} if fast else {}))
    except CellExecutionError as failed:
        raise NotBuilt(f"lectures/{path.name}: {failed.ename}: {failed.evalue}\n{failed.traceback}") from None
    return nb


def page(nb: Any, lectures: Sequence[Syllabus], here: Syllabus, program: str, tries: Sequence[str] = ()) -> str:
    """A whole web page: the lecture, MathJax, whose text is `program`, and links to the pages `tries` on which its homework can be done."""
    k = lectures.index(here)
    links = [(s, "previous", "← ", "") for s in lectures[:k][-1:]] + [(s, "next", "", " →") for s in lectures[k + 1:k + 2]]
    neighbours = "".join(f'<a class="{kind}" href="{s.name}.html">{before}{s.number} · {html.escape(s.title)}{after}</a>' for s, kind, before, after in links)
    exporter = HTMLExporter(template_name="basic", extra_loaders=[DictLoader({"page.html.j2": (HERE / "page.html.j2").read_text("utf-8")})])
    exporter.template_file = "page.html.j2"
    body, _ = exporter.from_notebook_node(nb, resources={
        "lecture": here, "policy": POLICY, "css": css(), "neighbours": neighbours, "mathjax_options": MATHJAX_OPTIONS,
        "mathjax": "<!-- mathjax -->", "wide": (HERE / "wide.js").read_text("utf-8"), "homework": homework_box(tries), "least_scale": LEAST_SCALE})
    body = with_homework(with_tables(with_contents(body)), homework_box(tries))
    return body.replace("<!-- mathjax -->", inline(program), 1)  # at last: nothing is changed in a program


def css() -> str:
    """The colours of Python, by day and by night, and our style sheet."""
    light, dark = (str(HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight")) for style in CODE_STYLES)
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n" + (HERE / "style.css").read_text("utf-8")


def with_contents(body: str) -> str:
    """Fill the page's tables of contents, beside the text and above it, with its headings of the second and third rank."""
    headings = re.findall(r'<h([23]) id="([^"]*)">(.*?)<a class="anchor-link"', body, flags=re.DOTALL)
    links = "".join(f'<a{" class=sub" * (rank == "3")} href="#{anchor}">{text}</a>' for rank, anchor, text in headings)
    return body.replace("<!-- contents -->", links, 2)


def with_tables(body: str) -> str:
    """Every table in a box that scrolls by itself."""
    return re.sub(r"<table\b.*?</table>", lambda m: f'<div class="scrolls">{m[0]}</div>', body, flags=re.DOTALL)


def with_homework(body: str, box: str) -> str:
    """The box once more, below the heading of the homework."""
    return re.sub(r'<h2 id="Homework">.*?</h2>', lambda m: m[0] + box, body, count=1, flags=re.DOTALL)


def homework_of(lecture: Path, tries: Sequence[str]) -> list[str]:
    """Those of these homeworks that a lecture asks for: it judges them."""
    asked = re.findall(r'check_homework\("(\w+)"', lecture.read_text("utf-8"))
    return [name for name in tries if name in asked]


def homework_links(tries: Sequence[str], separator: str = ", ") -> str:
    """Links to the pages on which these homeworks can be done, by the homeworks' titles."""
    return separator.join(f'<a href="{TRIES}/{name}.html">{html.escape(title(HOMEWORK / name))}</a>' for name in tries)


def homework_box(tries: Sequence[str]) -> str:
    """The same in a box; nothing where there is nothing to link to."""
    return f'<p class="homework"><b>Homework: do it in the browser</b> {homework_links(tries, " ")}</p>' if tries else ""


def index(lectures: Sequence[Syllabus], program: str, homework: Mapping[str, Sequence[str]] | None = None) -> str:
    """The page that lists the lectures, with links to the pages of their `homework`; `program` is MathJax, for formulas in what they promise."""
    environment = Environment(autoescape=False)
    environment.filters["prose"] = prose
    template = environment.from_string((HERE / "index.html.j2").read_text("utf-8"))
    return template.render(lectures=[s._replace(title=html.escape(s.title)) for s in lectures], css=css(), policy=POLICY, mathjax_options=MATHJAX_OPTIONS,
                           mathjax=inline(program), homework={name: homework_links(tries) for name, tries in (homework or {}).items()}) + "\n"


def prose(text: str) -> str:
    """A line of a lecture's first cell as HTML: code and emphasis."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"(?<![\w*$])\*([^*\s$][^*$]*)\*(?![\w*])", r"<em>\1</em>", text)


def inline(program: str) -> str:
    """A program as the text of a <script> element, which its first "</script" would end."""
    return program.replace("</script", "<\\/script")


# -- what a page may not do --------------------------------------------------------------------------------------------


class Loads(HTMLParser):
    """Everything that a browser would fetch to show a page: all but data in the page itself, and links to click on."""

    ATTRIBUTES = ("src", "srcset", "poster", "data", "background", "action", "formaction")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.in_style = tag == "style"
        for name, value in attributes:
            value = value or ""
            if (name in self.ATTRIBUTES or (name in ("href", "xlink:href") and tag != "a" and not value.startswith("#"))) and not value.startswith("data:"):
                self.found.append(f"<{tag} {name}={value}>")
            if name == "style":
                self.look_at_css(value)

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.look_at_css(data)

    def look_at_css(self, text: str) -> None:
        self.found += re.findall(r"@import[^;]*|url\(\s*[\"']?(?!data:|[\"']?#)[^)]*\)", text)


def loads(text: str) -> list[str]:
    """What the page would fetch; empty for a page that is complete in itself."""
    parser = Loads()
    parser.feed(text)
    return parser.found


# -- the site ----------------------------------------------------------------------------------------------------------


def build(dest: Path, program: str, fast: bool = False, tries: Callable[[Path], Sequence[str]] | None = None) -> list[str]:
    """Execute all lectures, make the documentation, and put the site in place of `dest`, as a whole or not at all; returns the lectures' pages.

    `tries` writes the pages on which homework can be done into the folder that it is given, NAME.html for the homework NAME, and returns the
    names; lectures link to these pages and no others.

    Raises:
        NotBuilt: a lecture failed, a page would fetch something or links to what is not there, a formula is not set, or a page is too wide for a phone.
    """
    paths = sources()
    lectures = [syllabus(path) for path in paths]
    with new_folder(dest) as tree:
        tried = try_pages(tree / TRIES, tries)
        homework = {path.stem: homework_of(path, tried) for path in paths}
        for path, lecture in zip(paths, lectures, strict=True):
            print(f"{lecture.number:2} · {lecture.title}", flush=True)
            made = page(executed(path, fast, solutions=False), lectures, lecture, program, homework[path.stem])
            (tree / f"{lecture.name}.html").write_text(made, "utf-8", newline="\n")
        (tree / "index.html").write_text(index(lectures, program, homework), "utf-8", newline="\n")
        wrong = [f"{file.name} would fetch {what}" for file in tree.glob("*.html") for what in loads(file.read_text("utf-8"))]
        print("the documentation", flush=True)
        docs.build(tree / "docs", program)
        names = ["index.html", *(f"{s.name}.html" for s in lectures)]
        wrong += problems(tree, set_by_themselves=frozenset(names))
        if command := browser.browser():
            wrong += browser.problems(command, [*(tree / name for name in names), tree / "docs" / "lectures.html"])
            wrong += browser.sideways(command, sorted(tree.rglob("*.html")))
        else:
            print("no Chromium here: formulas were not looked at as a browser sets them, and widths not measured")
        if wrong:
            raise NotBuilt("\n".join(wrong))
    return names


def try_pages(folder: Path, tries: Callable[[Path], Sequence[str]] | None) -> list[str]:
    """Let `tries` write its pages; their names, in order."""
    if tries is None:
        return []
    folder.mkdir()
    return sorted(tries(folder))


def practise(folder: Path, given: str | None, program: str) -> list[str]:
    """Write the pages on which homework can be done; their names.

    Raises:
        NoPyodide: `given` is no version, nor a folder with Pyodide.
    """
    from .practice.__main__ import bundled
    from .practice.build import build, homeworks
    names = [h.name for h in homeworks()]
    lectures = {name: f"{syllabus(path).name}" for path in sources() for name in homework_of(path, names)}
    build(folder, pyodide.source(given, folder), program, bundled(plain=False), lectures)
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if the site is in place."""
    parser = argparse.ArgumentParser(prog="python -m lectures.site", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dest", nargs="?", type=Path, default=ROOT / "build" / "site", help="a folder that this command may replace (default: build/site)")
    parser.add_argument("--mathjax", type=Path, metavar="FILE", help="es5/tex-svg.js of MathJax, instead of downloading it")
    parser.add_argument("--pyodide", metavar="FOLDER", help=pyodide.HELP)
    parser.add_argument("--fast", action="store_true", help="fewer steps in every lecture")
    options = parser.parse_args(arguments)
    dest = options.dest.absolute()
    if is_foreign(dest, "index.html", beside=("docs", TRIES)):
        print(f"{dest} exists and is no earlier site: take another folder, or delete it yourself.", file=sys.stderr)
        return 2
    try:
        program = mathjax(ROOT / "build" / "mathjax", options.mathjax)
        pages = build(dest, program, options.fast, partial(practise, given=options.pyodide, program=program))
    except (NotBuilt, NoMathJax, pyodide.NoPyodide, ValueError) as reason:
        print(f"No site was built.\n{reason}", file=sys.stderr)
        return 1
    print(f"{len(pages)} pages, the documentation and homework in the browser: open {dest / 'index.html'}, or make site-serve, which the homework needs")
    return 0


if __name__ == "__main__":
    run_command(main)
