"""What a folder of web pages must be: complete in itself, without dead links, with every formula set, and a text for every figure.

A page may use files of the folder. It may fetch nothing from a network; what a reader clicks on may lie there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

# Attributes that a browser fetches without being asked, beside src and its like.
FETCHED = ("src", "srcset", "poster", "data", "background", "action", "formaction")
FORMULA = re.compile(r"\$[^$\s\0][^$\0]*\$|\\\(|\\\[|\\(?:frac|sqrt|hat|bar|sum|partial|mathbf|lVert|Sigma|varepsilon|quad)\b")
# Of a page that sets its formulas itself: whole ones, each in one piece of text, and what is left of others, up to the end of their piece.
WHOLE = re.compile(r"\$\$[^$\0]+\$\$|\$[^$\0]+\$|\\\([^\0]+?\\\)|\\\[[^\0]+?\\\]")
TORN = re.compile(r"(?:\$|\\(?:[a-zA-Z]{2}|[()\[\]]))[^\0]*")


class Page(NamedTuple):
    """What a page refers to, and what of it looks like a formula that nothing sets."""

    links: list[str]  # where a reader can go
    loads: list[str]  # what the browser fetches
    anchors: set[str]
    unset: list[str]
    torn: list[str]  # what looks like a part of a formula, and would not be set even by a page that sets those in its text
    bare: list[str]  # what a reader who does not see it cannot use: figures without a text, tables without a head, a page without a language


class _Reader(HTMLParser):
    """Formulas may stand in elements of the class "math", which MathJax sets; code and scripts are not read for them."""

    SILENT = ("script", "style", "code", "pre", "title")

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.text: list[str] = []
        self.pieces: list[str] = []  # the same, apart at every tag but a line break
        self.inside: list[tuple[str, bool]] = []  # open elements, and whether text in them is left alone
        self.in_style = False
        self.bare: list[str] = []
        self.headless = False  # in a table that has had no <th> so far

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        for name, value in given.items():
            if name in ("href", "xlink:href"):
                is_link = tag == "a" or (tag == "link" and given.get("rel") not in ("stylesheet", "icon", "preload", "prefetch"))
                (self.links if is_link else self.loads).append(value)
            elif name in FETCHED and value:
                self.loads.append(value)
            elif name == "style":
                self.loads += fetched_by_css(value)
        if tag == "img" and not given.get("alt", "").strip():
            self.bare.append("a figure without a text (alt)")
        if tag == "html" and not given.get("lang"):
            self.bare.append("no language (lang)")
        layout = {"indextable", "domainindex-table"} & set(given.get("class", "").split())  # Sphinx's indices: links in columns
        self.headless = (tag == "table" and not layout) or (self.headless and tag != "th")
        self.in_style = tag == "style"
        if tag not in ("br", "wbr"):
            self.pieces.append("\0")
        if tag not in ("meta", "link", "img", "br", "hr", "input", "source", "wbr", "path", "use", "line", "circle"):
            self.inside.append((tag, tag in self.SILENT or "math" in given.get("class", "").split()))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False
        if tag == "table" and self.headless:
            self.bare.append("a table without a head (th)")
        self.pieces.append("\0")
        for i in range(len(self.inside) - 1, -1, -1):
            if self.inside[i][0] == tag:
                del self.inside[i:]
                return

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.loads += fetched_by_css(data)
        if not any(silent for _, silent in self.inside):
            self.text.append(data)
            self.pieces.append(data)
        elif self.text and self.text[-1] != "\0":
            self.text.append("\0")  # no formula goes on beyond code


def fetched_by_css(text: str) -> list[str]:
    """What a style sheet makes a browser fetch."""
    return re.findall(r"@import\s+[\"']([^\"']+)", text) + re.findall(r"url\(\s*[\"']?(?!data:|#|%23)([^\"')]+)", text)


def read(text: str) -> Page:
    """A page, from its HTML."""
    reader = _Reader()
    reader.feed(text)
    loads = [a for a in reader.loads if not a.startswith(("data:", "#"))]
    torn = TORN.findall(WHOLE.sub("", "".join(reader.pieces)))
    return Page(reader.links, loads, reader.anchors, FORMULA.findall("".join(reader.text)), torn, reader.bare)


def problems(folder: Path, set_by_themselves: frozenset[str] = frozenset(), elsewhere: frozenset[Path] = frozenset()) -> Iterator[str]:
    """Dead links and anchors, fetches from a network, figures without a text, and formulas that nothing sets, in all pages below `folder`.

    `set_by_themselves` names pages (below `folder`) whose formulas MathJax finds in the text, if each is in one piece; files in
    `elsewhere` count as being there.
    """
    pages = {file: read(file.read_text("utf-8")) for file in sorted(folder.rglob("*.html"))}
    for file, page in pages.items():
        name = file.relative_to(folder).as_posix()
        for address in page.loads:
            if is_outside(address):
                yield f"{name} would fetch {address}"
            elif not (target := target_of(file, address)).is_file() and target not in elsewhere:
                yield f"{name} needs {address}, which is not there"
        for address in page.links:
            if is_outside(address):
                continue
            target, anchor = target_of(file, address), urlsplit(address).fragment
            if target in elsewhere:
                continue
            if not target.is_file():
                yield f"{name} links to {address}, which is not there"
            elif anchor and target in pages and not {anchor, unquote(anchor)} & pages[target].anchors:  # browsers try it as it stands first
                yield f"{name} links to {address}, but that page has no such place"
        yield from (f"{name} has {what}" for what in page.bare)
        yield from (f"{name}: the formula {formula!r} is not set" for formula in (page.torn if name in set_by_themselves else page.unset))
    for file in sorted(folder.rglob("*.css")):
        yield from (f"{file.relative_to(folder).as_posix()} would fetch {a}" for a in fetched_by_css(file.read_text("utf-8")) if is_outside(a))


def is_foreign(dest: Path, mark: str, beside: Collection[str] = ()) -> bool:
    """Whether a folder that is to be replaced is something else than an earlier run made: that has the file `mark`, or nothing but `beside`."""
    return dest.exists() and not (dest / mark).is_file() and (not dest.is_dir() or any(p.name not in beside for p in dest.iterdir()))


def is_outside(address: str) -> bool:
    """Does it name another machine, a mail address and the like?"""
    return bool(urlsplit(address).scheme or urlsplit(address).netloc)


def target_of(file: Path, address: str) -> Path:
    """The file that an address in `file` names."""
    path = unquote(urlsplit(address).path)
    return Path(file.parent, path).resolve() if path else file.resolve()
