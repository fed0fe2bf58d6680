"""Where each thing that the documents print lives: in which step of a lecture, in which code, test and experiment.

Steps are found, not declared. A lecture that takes a step of a document cites it in this form, in text or in a comment:

    dbn (14)        dbn (8)-(13)        cwn (4) and (5)        bn-jacobian (1)-(3), (10)        dbn table A        bn-lecture "Benefits"

and the step is the section in which that stands. A citation of something that the document has not is an error: see `wrong_citations`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from .ledger import Entry
from .printed import ITEMS, PrintedItem

LECTURES = Path(__file__).resolve().parents[1]
_REF = r'(?:\(\d+\)(?:-\(\d+\))?|(?:table|figure|proposition) [A-Z\d]\b|section \d|"[^"\n]{2,60}")'
CITATION = re.compile(rf"\b(dbn|bn-lecture|bn-jacobian|inplace-abn|cwn),? ({_REF}(?:(?:, and|,| and) {_REF})*)")
INFORMAL = re.compile(r"\b(?:dbn|bn-lecture|bn-jacobian|inplace-abn|cwn)\b[^.;:`]{0,20}\b(?:eqs?\.?|equations?) \(?\d")
SECTIONS = {"dbn": 2, "bn-lecture": 0, "bn-jacobian": 1, "inplace-abn": 2, "cwn": 3}  # numbered sections that each document has


class LectureStep(NamedTuple):
    """A section of a lecture."""

    lecture: str  # 05_whitening
    heading: str

    def __str__(self) -> str:
        return f"{self.lecture[:2]} {self.heading}"


class Homes(NamedTuple):
    """All places of an item."""

    item: PrintedItem
    entries: tuple[Entry, ...]
    steps: tuple[LectureStep, ...]

    @property
    def missing(self) -> str:
        """What an item of its kind needs and this one does not have; empty if it lives."""
        item = self.item
        if item.nowhere:
            return ""
        if item.kind == "equation" and (item.name.startswith("(") or not item.experiments):
            lacks = {"an entry of the ledger": self.entries, "a step of a lecture": self.steps, "code": item.code, "a test": item.tests}
        else:
            lacks = {"an experiment, or code with a test": item.experiments or (item.code and item.tests)}
        return ", ".join(what for what, there in lacks.items() if not there)


# -- citations ----------------------------------------------------------------------------------------------------------


def sections(text: str) -> Iterator[tuple[str, str]]:
    """(heading, all that stands below it, without marks of comments) of a lecture's source; headings of the ranks 1 to 3."""
    heading, lines, prose = "", [], False
    for line in text.splitlines():
        if line.startswith("# %%"):
            prose = line.startswith("# %% [markdown]")
            continue
        found = re.match(r"# #{1,3} (.+)", line) if prose else None
        if found:
            yield heading, " ".join(lines)
            heading, lines = found[1].strip(), []
        lines.append(re.sub(r"^\s*# ?", "", line).strip())
    yield heading, " ".join(lines)


def citations(text: str) -> Iterator[tuple[str, str]]:
    """(document, name) of everything that a text cites; ranges are written out."""
    for document, refs in CITATION.findall(text):
        for first, last, words, quoted in re.findall(r'\((\d+)\)(?:-\((\d+)\))?|((?:table|figure|proposition|section) \w)|"([^"]+)"', refs):
            yield from ((document, f"({k})") for k in range(int(first or 1), int(last or first or 0) + 1))
            if words or quoted:
                yield document, words or quoted


def is_part(name: str, whole: str) -> bool:
    """Does `name` begin with `whole`, as "(18) line 4" with "(18)"? One of the names where ";" separates them."""
    return any(part == whole or part.startswith((f"{whole} ", f"{whole},")) for part in name.split("; "))


def cited(document: str, name: str) -> list[PrintedItem]:
    """The items that a citation names."""
    return [item for item in ITEMS if item.document == document and is_part(item.name, name)]


@cache
def steps(folder: Path = LECTURES) -> dict[tuple[str, str], tuple[LectureStep, ...]]:
    """(document, item) -> the sections of the lectures that cite it; the first cell, which lists a lecture's sources, does not count."""
    found: dict[tuple[str, str], list[LectureStep]] = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.py")):
        for heading, text in list(sections(path.read_text("utf-8")))[2:]:  # before the title, and below it
            for document, name in citations(text):
                for item in cited(document, name):
                    places = found.setdefault((item.document, item.name), [])
                    if LectureStep(path.stem, heading) not in places:
                        places.append(LectureStep(path.stem, heading))
    return {key: tuple(places) for key, places in found.items()}


def wrong_citations(name: str, text: str) -> list[str]:
    """Citations in a lecture that lead nowhere, or are not in the form that is found."""
    whole = " ".join(re.sub(r"^\s*# ?", "", line).strip() for line in text.splitlines())
    wrong = [f"{name} cites {document} {ref}, which that document has not" for document, ref in citations(whole)
             if not cited(document, ref) and not (ref.startswith("section ") and int(ref[8:]) in range(1, SECTIONS[document] + 1))]
    return wrong + [f"{name}: write {found!r} as a citation, with numbers in parentheses" for found in INFORMAL.findall(whole)]


# -- homes --------------------------------------------------------------------------------------------------------------


def belongs(entry: Entry, item: PrintedItem) -> bool:
    """Is this line of the ledger about the item?"""
    return entry.document.short == item.document and (is_part(entry.number, item.name) or any(is_part(entry.number, e) for e in item.entries))


def homes(document: str | None = None, folder: Path = LECTURES) -> list[Homes]:
    """Every item of all documents, or of one, with its homes."""
    from . import DOCUMENTS
    found = steps(folder)
    return [Homes(item, tuple(e for e in DOCUMENTS[item.document].entries if belongs(e, item)), found.get((item.document, item.name), ()))
            for item in ITEMS if document in (None, item.document)]


def plain(h: Homes) -> dict[str, object]:
    """An item and its homes, for JSON."""
    item = h.item
    return {"document": item.document, "name": item.name, "kind": item.kind, "says": item.says, "ledger": [e.number for e in h.entries],
            "lectures": [{"lecture": s.lecture, "section": s.heading} for s in h.steps], "code": list(item.code), "tests": list(item.tests),
            "experiments": list(item.experiments), "nowhere": item.nowhere, "missing": h.missing}


def listing(found: Sequence[Homes]) -> str:
    """For each item what it is, and below it the places where it lives; items that follow each other and share all places stand together."""
    lines: list[str] = []
    for same, group in groupby(found, key=lambda h: (h.item.kind, h.item.says, _places(h))):
        kind, says, below = same
        lines.append(f"{found[0].item.document} {', '.join(h.item.name for h in group)}: {kind}{f', {says}' if says else ''}")
        lines += below
    return "\n".join(lines)


def _places(h: Homes) -> list[str]:
    item = h.item
    places: dict[str, Sequence[str]] = {"lecture": [str(s) for s in h.steps], "code": item.code, "test": item.tests, "experiment": item.experiments}
    lines = [f"    {kind:<11}{place}" for kind, all_ in places.items() for place in all_]
    return lines + [f"    nowhere    {item.nowhere}"] * bool(item.nowhere) + [f"    MISSING    {h.missing}"] * bool(h.missing)
