"""Print the ledger, and where everything lives: ``python -m lectures.equations [--document NAME] [--homes] [--json]``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any
from unicodedata import combining

from minigrad.command import run_command

from . import DOCUMENTS, Document, Result, measure
from .homes import homes, listing
from .homes import plain as plain_homes
from .ledger import EXACT, Range

HEAD = ("equation", "verdict", "error", "form")


def number(error: float | None) -> str:
    """An error in two digits."""
    return "" if error is None else f"{error:.1e}" if math.isfinite(error) else "not finite"


def span(errors: Range | None) -> str:
    """The errors of some probes: the largest where all are roundings, else from the smallest to the largest."""
    if errors is None:
        return ""
    low, high = (number(e) for e in errors)
    return high if low == high or errors[1] <= EXACT else f"{low} … {high}"


def padded(cell: str, width: int) -> str:
    """`cell` and spaces; an accent such as that of x̂ takes no room."""
    return cell + " " * (width - length(cell))


def length(cell: str) -> int:
    """Columns on a terminal."""
    return sum(not combining(c) for c in cell)


def rows(result: Result) -> list[tuple[str, str, str, str]]:
    """The cells of an entry: its line, then what there is to say about it."""
    e = result.entry
    found = [(e.number, result.verdict if result.as_expected else f"{result.verdict} (!)", span(result.errors), e.printed)]
    if e.corrected:
        found.append(("", "corrected", number(result.corrected), e.corrected))
    found += [("", "not for", span(result.regimes[r]), r) for r in e.not_for if r in result.regimes]
    found += [("", "right for", number(result.regimes[r][1]), r) for r in e.right_for if r in result.regimes]
    found += [("", "reading", span(errors), words) for words, errors in result.readings.items()]
    if e.note:
        found.append(("", "note", "", e.note))
    if not result.as_expected:
        found.append(("", "expected", "", f"{e.verdict}. {result.reason}".strip()))
    return found


def table(document: Document, results: Sequence[Result]) -> str:
    """The ledger of one document."""
    cells = [HEAD, *(row for result in results for row in rows(result))]
    widths = [max(length(row[k]) for row in cells) for k in range(3)]
    lines = ["  ".join([*map(padded, row, widths), row[3]]).rstrip() for row in cells]
    counts = {v: sum(r.verdict == v for r in results) for v in dict.fromkeys(r.verdict for r in results)}
    return "\n".join([f"{document.short}: {document.title}", document.notation,
                      f"setting: {', '.join(document.setting)}; beyond it: {', '.join(r for r in document.regimes if r not in document.setting)}; "
                      f"tape and central differences agree to {document.disagreement():.0e}", "", *lines, "",
                      ", ".join(f"{n} {v}" for v, n in counts.items())])


def plain(result: Result) -> dict[str, Any]:
    """An entry for JSON, which knows no infinity: there an error is "not finite"."""
    def safe(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: safe(v) for k, v in x.items()}
        return [safe(v) for v in x] if isinstance(x, tuple) else x if x is None or math.isfinite(x) else "not finite"
    e = result.entry
    return {"document": e.document.short, "equation": e.number, "printed": e.printed.strip(), "verdict": result.verdict, "expected": e.verdict,
            "error": safe(result.error), "error_range": safe(result.errors),
            "corrected": e.corrected.strip() or None, "corrected_error": safe(result.corrected),
            "not_for": list(e.not_for), "right_for": list(e.right_for), "errors": safe(result.regimes), "readings": safe(result.readings),
            "note": e.note, "reason": result.reason}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 if every verdict is the expected one, and every item has a home."""
    parser = argparse.ArgumentParser(prog="python -m lectures.equations",
                                     description="Every gradient equation of the five documents, as printed, and its error; and where each equation, table, "
                                                 "figure and claim lives: in lectures, code, tests and experiments.")
    parser.add_argument("--document", choices=list(DOCUMENTS), help="only this one")
    parser.add_argument("--homes", action="store_true", help="measure nothing: only where everything lives")
    parser.add_argument("--json", action="store_true", help="a list of entries, or with --homes of items, for programs")
    options = parser.parse_args(arguments)
    documents = [DOCUMENTS[options.document]] if options.document else list(DOCUMENTS.values())
    found = {d.short: homes(d.short) for d in documents}
    results = {d.short: [] if options.homes else [measure(e) for e in d.entries] for d in documents}
    every = [r for measured in results.values() for r in measured]
    if options.json:
        listed = [plain_homes(h) for all_ in found.values() for h in all_] if options.homes else [plain(r) for r in every]
        print(json.dumps(listed, indent=1, ensure_ascii=False))
    else:
        parts = []
        for d in documents:
            parts += [] if options.homes else [table(d, results[d.short])]
            parts += [f"{d.short}: where it lives\n\n{listing(found[d.short])}"]
        print("\n\n".join(parts))
    return 0 if all(r.as_expected for r in every) and not any(h.missing for all_ in found.values() for h in all_) else 1


if __name__ == "__main__":
    run_command(main)
