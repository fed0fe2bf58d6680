"""Make the notebooks and the table of lectures from their sources, ``lectures/NN_name.py``: ``python -m lectures.build [--check]``.

A source is Python with cells marked by ``# %%`` (jupytext's percent format). Its first cell says what `Syllabus` holds. Notebooks
have no outputs, and cells are numbered in their order, so that two builds give the same bytes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minigrad.command import run_command
from minigrad.files import write_atomically

HERE = Path(__file__).resolve().parents[1]  # lectures/
BEGIN, END = "<!-- lectures: python -m lectures.build -->", "<!-- end of lectures -->"


class Syllabus(NamedTuple):
    """The first cell of a lecture.

        # 2 · Title
        **After this lecture you can**
        - do this;
        - and that.
        You need lecture 01: ...
        *Sources:* bn-lecture, ...
    """

    name: str  # 02_batch_norm
    number: int
    title: str
    abilities: list[str]
    needs: str
    sources: str


def sources(folder: Path = HERE) -> list[Path]:
    """The lectures, in their order."""
    return sorted(folder.glob("[0-9][0-9]_*.py"))


def cells(path: Path) -> list[Any]:
    """The cells of a lecture, each with `source`, `cell_type` and `metadata`."""
    import jupytext  # here, because a lecture runs, and most of this file works, without it
    return list(jupytext.read(path, fmt="py:percent").cells)


def syllabus(path: Path) -> Syllabus:
    """What a lecture's first cell says.

    Raises:
        ValueError: a part is missing; the text says which.
    """
    text = cells(path)[0].source
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    title = re.match(r"# (\d+) · (.+)", text)
    needs = [p.removeprefix("You need ").rstrip(".") for p in paragraphs if p.startswith("You need ")]
    documents = [p.removeprefix("*Sources:* ").rstrip(".") for p in paragraphs if p.startswith("*Sources:* ")]
    if title is None or int(title[1]) != int(path.name[:2]):
        raise ValueError(f"{path.name}: the first cell must begin with '# {int(path.name[:2])} · Title'")
    if "**After this lecture you can**" not in paragraphs or not needs or not documents:
        raise ValueError(f"{path.name}: the first cell needs the paragraphs '**After this lecture you can**', 'You need ...' and '*Sources:* ...'")
    items = " ".join(text.split("**After this lecture you can**")[1].split("\n\n")[1].split())
    return Syllabus(path.stem, int(title[1]), title[2].strip(), [i.strip(" ;.") for i in re.split(r"(?:^|\s)- ", items) if i], needs[0], documents[0])


def notebook(path: Path) -> str:
    """The notebook of a lecture, as the text of an .ipynb file."""
    import nbformat
    made_cells: list[Any] = []
    for number, cell in enumerate(cells(path), 1):
        make = nbformat.v4.new_markdown_cell if cell.cell_type == "markdown" else nbformat.v4.new_code_cell
        made_cells.append(make(cell.source, id=f"cell-{number:02}", metadata=cell.metadata))
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    made = nbformat.v4.new_notebook(cells=made_cells, metadata=metadata)
    made.nbformat_minor = 5
    nbformat.validate(made)
    return nbformat.writes(made).rstrip("\n") + "\n"


def readme(folder: Path = HERE) -> str:
    """lectures/README.md with the table of lectures brought up to date."""
    text = (folder / "README.md").read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = ["| | lecture | after it you can | you need |", "|---|---|---|---|"]
    for s in map(syllabus, sources(folder)):
        rows.append(f"| {s.number} | [{s.title}]({s.name}.ipynb) | {'; '.join(s.abilities)} | {s.needs} |")
    return f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{after}"


def built(folder: Path = HERE) -> dict[Path, str]:
    """Every generated file, and its text."""
    return {path.with_suffix(".ipynb"): notebook(path) for path in sources(folder)} | {folder / "README.md": readme(folder)}


def drifted(folder: Path = HERE) -> list[str]:
    """Names of generated files that are not what their sources make, and of notebooks without a source."""
    wrong = [path.name for path, text in built(folder).items() if not path.is_file() or path.read_text("utf-8") != text]
    return wrong + [path.name for path in sorted(folder.glob("*.ipynb")) if not path.with_suffix(".py").is_file()]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; with --check, 1 if something would change."""
    parser = argparse.ArgumentParser(prog="python -m lectures.build", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say which files are out of date")
    if parser.parse_args(arguments).check:
        wrong = drifted()
        if wrong:
            print(f"Out of date: {', '.join(wrong)}. Run: python -m lectures.build", file=sys.stderr)
        return 1 if wrong else 0
    for path, text in built().items():
        if not path.is_file() or path.read_text("utf-8") != text:
            write_atomically(path, text)
            print(f"lectures/{path.name}")
    return 0


if __name__ == "__main__":
    run_command(main)
