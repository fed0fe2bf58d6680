"""Execute the lectures and write them as web pages, with the documentation: ``python -m lectures.site [DEST] [--mathjax FILE] [--fast]``."""

from __future__ import annotations

import argparse
import html
import os
import re
import sys
from collections.abc import Sequence
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
from .check import problems
from .docs import NotBuilt
from .mathjax import NoMathJax, mathjax

HERE = Path(__file__).resolve().parent
ROOT = LECTURES.parent

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


def page(nb: Any, lectures: Sequence[Syllabus], here: Syllabus, program: str) -> str:
    """A whole web page: the lecture, and MathJax, whose text is `program`."""
    k = lectures.index(here)
    links = [(s, "previous", "← ", "") for s in lectures[:k][-1:]] + [(s, "next", "", " →") for s in lectures[k + 1:k + 2]]
    neighbours = "".join(f'<a class="{kind}" href="{s.name}.html">{before}{s.number} · {html.escape(s.title)}{after}</a>' for s, kind, before, after in links)
    exporter = HTMLExporter(template_name="basic", extra_loaders=[DictLoader({"page.html.j2": (HERE / "page.html.j2").read_text("utf-8")})])
    exporter.template_file = "page.html.j2"
    body, _ = exporter.from_notebook_node(nb, resources={
        "lecture": here, "policy": POLICY, "css": css(), "neighbours": neighbours, "mathjax_options": MATHJAX_OPTIONS,
        "mathjax": inline(program)})
    return with_contents(body)


def css() -> str:
    """The colours of Python, and our style sheet."""
    return str(HtmlFormatter(style="friendly", nobackground=True).get_style_defs(".highlight")) + "\n" + (HERE / "style.css").read_text("utf-8")


def with_contents(body: str) -> str:
    """Fill the page's table of contents with its headings of the second and third rank."""
    headings = re.findall(r'<h([23]) id="([^"]*)">(.*?)<a class="anchor-link"', body, flags=re.DOTALL)
    links = "".join(f'<a{" class=sub" * (rank == "3")} href="#{anchor}">{text}</a>' for rank, anchor, text in headings)
    return body.replace("<!-- contents -->", links, 1)


def index(lectures: Sequence[Syllabus], program: str) -> str:
    """The page that lists the lectures; `program` is MathJax, for formulas in what they promise."""
    environment = Environment(autoescape=False)
    environment.filters["prose"] = lambda text: re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    template = environment.from_string((HERE / "index.html.j2").read_text("utf-8"))
    return template.render(lectures=[s._replace(title=html.escape(s.title)) for s in lectures], css=css(), policy=POLICY, mathjax_options=MATHJAX_OPTIONS,
                           mathjax=inline(program)) + "\n"


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


def build(dest: Path, program: str, fast: bool = False) -> list[str]:
    """Execute all lectures, make the documentation, and put the site in place of `dest`, as a whole or not at all; returns the lectures' pages.

    Raises:
        NotBuilt: a lecture failed, a page would fetch something or links to what is not there, or a formula is not set.
    """
    paths = sources()
    lectures = [syllabus(path) for path in paths]
    with new_folder(dest) as tree:
        for path, lecture in zip(paths, lectures, strict=True):
            print(f"{lecture.number:2} · {lecture.title}", flush=True)
            (tree / f"{lecture.name}.html").write_text(page(executed(path, fast, solutions=False), lectures, lecture, program), "utf-8", newline="\n")
        (tree / "index.html").write_text(index(lectures, program), "utf-8", newline="\n")
        wrong = [f"{file.name} would fetch {what}" for file in tree.glob("*.html") for what in loads(file.read_text("utf-8"))]
        print("the documentation", flush=True)
        docs.build(tree / "docs", program)
        names = ["index.html", *(f"{s.name}.html" for s in lectures)]
        wrong += problems(tree, set_by_themselves=frozenset(names))
        if command := browser.browser():
            wrong += browser.problems(command, [*(tree / name for name in names), tree / "docs" / "lectures.html"])
        else:
            print("no Chromium here: formulas were not looked at as a browser sets them")
        if wrong:
            raise NotBuilt("\n".join(wrong))
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if the site is in place."""
    parser = argparse.ArgumentParser(prog="python -m lectures.site", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dest", nargs="?", type=Path, default=ROOT / "build" / "site", help="a folder that this command may replace (default: build/site)")
    parser.add_argument("--mathjax", type=Path, metavar="FILE", help="es5/tex-svg.js of MathJax, instead of downloading it")
    parser.add_argument("--fast", action="store_true", help="fewer steps in every lecture")
    options = parser.parse_args(arguments)
    dest = options.dest.absolute()
    if dest.exists() and not (dest / "index.html").is_file() and (not dest.is_dir() or any(p.name != "docs" for p in dest.iterdir())):
        print(f"{dest} exists and is no earlier site: take another folder, or delete it yourself.", file=sys.stderr)
        return 2
    try:
        pages = build(dest, mathjax(ROOT / "build" / "mathjax", options.mathjax), options.fast)
    except (NotBuilt, NoMathJax, ValueError) as reason:
        print(f"No site was built.\n{reason}", file=sys.stderr)
        return 1
    print(f"{len(pages)} pages and the documentation: open {dest / 'index.html'}")
    return 0


if __name__ == "__main__":
    run_command(main)
