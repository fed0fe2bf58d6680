"""A docstring of this project as Markdown for the documentation.

Docstrings are written to be read in a terminal: paragraphs, `names`, sections (Args, Returns, Raises, Attributes), examples, and indented
blocks whose columns mean something. Blocks and examples stay as they are; names become links where they name something.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

SECTION = re.compile(r"(Args|Returns|Raises|Attributes):\s*")
ITEM = re.compile(r"(\*{0,2}\w[\w.*]*(?:, \*{0,2}\w[\w.*]*)*): +(.*)")  # "lr, betas: as above"
TOKEN = re.compile(r"""
    ``(?P<literal>.+?)``
    | `(?P<name>[^`\n]+)`
    | \[(?P<key>[a-z]+(?:19|20)\d\d[a-z]*)\]
    | (?P<strong>(?<![\w*])\*{1,2}(?=[^\s*])[^*\n`]*?[^\s*`]\*{1,2}(?![\w*]))""", re.DOTALL | re.VERBOSE)
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#$|~^])")

Link = Callable[[str], str]  # what stands for the code `name`, in Markdown


def markdown(text: str, link: Link, references: str) -> str:
    """The whole docstring; `references` is where works are listed, as a link from the page."""
    return "\n\n".join(_blocks(inspect.cleandoc(text).splitlines(), link, references)) + "\n"


def prose(text: str, link: Link, references: str) -> str:
    """A paragraph: code, emphasis and keys of works; all else is plain text."""
    made, end = [], 0
    for m in TOKEN.finditer(text):
        made.append(_plain(text[end:m.start()]))
        if m["literal"] is not None:
            made.append(code(" ".join(m["literal"].split())))
        elif m["name"] is not None:
            made.append(link(m["name"]))
        elif m["key"] is not None:
            made.append(f"[[{m['key']}]]({references}#{m['key']})")
        else:
            stars = re.match(r"\*+", m[0])
            assert stars is not None
            made.append(stars[0] + _plain(m[0].strip("*")) + stars[0])
        end = m.end()
    made.append(_plain(text[end:]))
    return "".join(made)


def code(text: str) -> str:
    """Code in a line of Markdown, also where it has backticks."""
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{text}{ticks}"


def fenced(text: str, language: str) -> str:
    """A block of code."""
    return f"```{language}\n{text}\n```"


def escaped(text: str) -> str:
    """Plain text, in a cell of a table too; a word of TeX, which is named and not meant, is code."""
    return "".join(code(part) if i % 2 else re.sub(r"([\\`*_{}\[\]<>#$|~^])", r"\\\1", part) for i, part in enumerate(re.split(r"(\\[a-z]+)", text)))


def _plain(text: str) -> str:
    return re.sub(r"(?m)^(\s*)([-+]|\d+[.)])(?=\s)", r"\1\\\2", SPECIAL.sub(r"\\\1", text))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _blocks(lines: list[str], link: Link, references: str) -> list[str]:
    """The paragraphs, sections, lists, examples and blocks that these lines are, each as Markdown."""
    made: list[str] = []
    while lines:
        if not lines[0].strip():
            lines = lines[1:]
        elif lines[0].lstrip().startswith(">>>"):
            block, lines = _until(lines, lambda line: not line.strip())
            made.append(fenced(inspect.cleandoc("\n".join(block)), "pycon"))
        elif SECTION.fullmatch(lines[0]):
            name, (block, lines) = lines[0].strip().rstrip(":"), _until(lines[1:], lambda line: bool(line.strip()) and not line.startswith(" "))
            made += [f"**{name}**", _section(inspect.cleandoc("\n".join(["", *block])).splitlines(), link, references)]
        elif lines[0].startswith("  "):
            block, lines = _until(lines, lambda line: bool(line.strip()) and not line.startswith("  "))
            made.append(fenced(inspect.cleandoc("\n".join(["", *block])), "text"))
        else:
            block, lines = _until(lines, lambda line: not line.strip() or line.lstrip().startswith(">>>"))
            made.append(_paragraph(block, link, references))
    return made


def _until(lines: list[str], ends: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """The lines before the first one that ends the block (never before the first), and the rest."""
    end = next((i for i, line in enumerate(lines) if i and ends(line)), len(lines))
    return lines[:end], lines[end:]


def _paragraph(lines: list[str], link: Link, references: str) -> str:
    """Running text, a list ("- ..."), or items ("name: what it is") where there are two or more."""
    if sum(line.startswith("- ") for line in lines):
        head, items = _split(lines, lambda line: line.startswith("- "))
        listed = "\n".join("- " + prose(" ".join(" ".join(item)[2:].split()), link, references) for item in items)
        return (prose(" ".join(head), link, references) + "\n\n" if head else "") + listed
    if sum(bool(ITEM.match(line)) for line in lines) > 1 and all(ITEM.match(line) or line.startswith("  ") for line in lines):
        return _section(lines, link, references)
    return prose(" ".join(line.strip() for line in lines), link, references)


def _section(lines: list[str], link: Link, references: str) -> str:
    """Items, each with what is indented below it; text that is no item stays a paragraph."""
    head, items = _split([line for line in lines if line.strip()], lambda line: bool(ITEM.match(line)))
    made = []
    for item in items:
        m = ITEM.match(item[0])
        assert m is not None
        text = " ".join([m[2], *(line.strip() for line in item[1:])])
        made.append(f"- {', '.join(code(name.strip()) for name in m[1].split(','))}: {prose(text, link, references)}")
    return "\n\n".join(filter(None, [prose(" ".join(line.strip() for line in head), link, references), "\n".join(made)]))


def _split(lines: list[str], begins: Callable[[str], bool]) -> tuple[list[str], list[list[str]]]:
    """Lines before the first item, and the lines of each item; indented lines, and others after an item, go with it."""
    head: list[str] = []
    items: list[list[str]] = []
    for line in lines:
        if begins(line):
            items.append([line])
        else:
            (items[-1] if items else head).append(line)
    return head, items
