"""A page for each of the five documents: what it prints, what the ledger says of it, and where it lives. Made from the ledger, which measures as it is made."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from urllib.parse import quote

from lectures.equations import DOCUMENTS, measure
from lectures.equations.__main__ import number, span
from lectures.equations.homes import Homes, LectureStep, homes
from lectures.equations.ledger import Document, Entry, Result

from .docstrings import escaped, fenced

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"equation": "", "table": "Table", "figure": "Figure", "claim": "Claim"}


def pages() -> dict[str, str]:
    """{path below the site's sources: Markdown}: one for each document, and their list."""
    made = {f"documents/{short}.md": document(d) for short, d in DOCUMENTS.items()}
    rows = []
    for short, d in DOCUMENTS.items():
        results = [measure(e) for e in d.entries]
        counts = {v: sum(r.verdict == v for r in results) for v in dict.fromkeys(r.verdict for r in results)}
        rows.append(f"| [{short}]({short}.md) | {escaped(d.title)} | {', '.join(f'{n} {v}' for v, n in counts.items())} |")
    index = ["# The five documents", "A page for each of the [source documents](../guides/references.md): every equation, table, figure and claim, in "
             "its order. Of an equation you see what is printed, and what that measures: a verdict, and the relative error against the tape and central "
             "differences, measured when this page was made. Below it stands where it lives: the step of a lecture that derives it, code, tests and "
             "experiments. `python -m lectures.equations` measures and lists the same.",
             "\n".join(["| document | | lines of the ledger |", "|---|---|---|", *rows]),
             "- **right**: exact to rounding, in the document's own setting;\n- **misprint**: wrong as printed, and a corrected form is exact;\n"
             "- **approximation**: printed with ≈, and an exact form is known;\n- **text**: a wrong symbol in a sentence.",
             "```{toctree}\n:hidden:\n\n" + "\n".join(f"{short} <{short}>" for short in DOCUMENTS) + "\n```"]
    return made | {"documents/index.md": "\n\n".join(index) + "\n"}


def document(d: Document) -> str:
    """The page of one document."""
    results = {e.number: measure(e) for e in d.entries}
    made = [f"# {d.short}: {escaped(d.title)}", f"Notation: {escaped(d.notation)}."]
    for group in grouped(homes(d.short)):
        made += item(group, [results[e.number] for e in unique(group)])
    return "\n\n".join(made) + "\n"


def grouped(found: list[Homes]) -> list[list[Homes]]:
    """Items that share a line of the ledger stand together."""
    groups: list[list[Homes]] = []
    for h in found:
        if groups and {e.number for e in groups[-1][-1].entries} & {e.number for e in h.entries}:
            groups[-1].append(h)
        else:
            groups.append([h])
    return groups


def unique(group: list[Homes]) -> list[Entry]:
    """The ledger's lines of a group, once each."""
    return list({e.number: e for h in group for e in h.entries}.values())


def item(group: list[Homes], results: list[Result]) -> list[str]:
    """A heading, what is printed and measured, and where it lives."""
    first = group[0].item
    heading = " and ".join(h.item.name for h in group)
    made = [f"## {escaped(heading if first.name[0] in '(0123456789' or first.kind in ('table', 'figure') else heading[0].upper() + heading[1:])}"]
    if first.says:
        made.append(f"{KINDS[first.kind]}: {escaped(first.says)}." if KINDS[first.kind] else f"{escaped(first.says)}.")
    for result in results:
        made += printed(result, alone=len(results) == 1)
    made.append("\n".join(places(group)))
    return made


def printed(result: Result, alone: bool) -> list[str]:
    """A line of the ledger: the printed form, the verdict, the corrected form, and what else there is to say."""
    e = result.entry
    word = result.verdict if result.verdict == "right" else f"**{result.verdict}**"
    verdict = f"{word}{f', error {span(result.errors)}' if result.errors else ''}"
    made = [f"> {escaped(e.printed.strip())}", verdict if alone else f"{escaped(e.number)}: {verdict}"]
    if e.corrected:
        made[-1] += f". Corrected{f', error {number(result.corrected)}' if result.corrected is not None else ''}:"
        made.append(f"> {escaped(e.corrected.strip())}")
    if e.not_for:
        made.append("Not for " + "; ".join(f"{escaped(r)} (error {span(result.regimes[r])})" for r in e.not_for) + ".")
    if e.note:
        made.append(f"*{escaped(e.note[0].upper() + e.note[1:])}.*")
    if e.values is not None:
        made.append(folded("as code in the ledger", textwrap.dedent(inspect.getsource(e.values))))
    return made


def places(group: list[Homes]) -> list[str]:
    """Where it lives, as a list."""
    def once(kind: str) -> list[str]:
        return list(dict.fromkeys(place for h in group for place in getattr(h.item, kind)))
    steps = list(dict.fromkeys(s for h in group for s in h.steps))
    lines = [f"- Lecture {link(s)}" for s in steps]
    for kind, word in (("code", "Code"), ("tests", "Test")):
        for place in once(kind):
            file, _, name = place.partition(": ")
            lines.append(f"- {word} `{name}`, line {line_of(file, name)} of `{file}`")
    lines += [f"- Experiment `python -m experiments {name}`" for name in once("experiments")]
    lines += [f"- Nowhere: {escaped(h.item.nowhere)}" for h in group if h.item.nowhere]
    return lines


def link(step: LectureStep) -> str:
    """A link to a section of a lecture's page, which lies beside the documentation."""
    plain = not set(step.heading) & set("$`")
    anchor = f"#{quote(step.heading.replace(' ', '-'))}" if plain else ""
    return f"[{step.lecture[:2]}, {escaped(step.heading) if plain else step.heading}](here:../../{step.lecture}.html{anchor})"


def line_of(file: str, name: str) -> int:
    """The line of a function or class.

    Raises:
        ValueError: the file defines no such thing.
    """
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return node.lineno
    raise ValueError(f"{file} defines no {name}")


def folded(title: str, source: str) -> str:
    """Python that opens on a click."""
    return "\n\n".join([f"```{{raw}} html\n<details><summary>{title}</summary>\n```", fenced(source.strip(), "python"), "```{raw} html\n</details>\n```"])
