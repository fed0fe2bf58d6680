"""The Python of a notebook: its code cells, one after the other, as a file that the checker can read.

Notebooks are JSON (https://nbformat.readthedocs.io/en/latest/format_description.html): `cells` with `cell_type` and `source`, a text or a
list of lines; in the third format the cells stand in `worksheets`, and a code cell's text is its `input`.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

MOST_BYTES = 8 << 20
ASSIGNED = re.compile(r"\s*[\w, ]+=\s*[!%]\s*\w")


class NotebookError(ValueError):
    """The file is no notebook."""


def python_of(content: bytes) -> tuple[str, list[str]]:
    """The text of the code cells, and the lines that are not Python and were left out.

    A cell that is Python is kept as it is. In any other, lines of IPython (``%magic``, ``!command``, ``name?``) become ``pass``, so that the
    blocks in which they stand stay whole; a cell that begins with ``%%`` is left out, except for ``%%time`` and ``%%capture``, which run it.

    Raises:
        NotebookError: it cannot be read.
    """
    if len(content) > MOST_BYTES:
        raise NotebookError(f"a notebook of more than {MOST_BYTES >> 20} MB: clear its outputs")
    try:
        book = json.loads(content.decode("utf-8-sig"))
        cells = [cell for sheet in book["worksheets"] for cell in sheet["cells"]] if "worksheets" in book else book["cells"]
        sources = [_source(cell) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise NotebookError(f"it cannot be read as a notebook ({type(e).__name__}: {str(e)[:100]})") from e
    dropped: list[str] = []
    kept = [f"# cell {i}\n{_python(source, dropped)}\n" for i, source in enumerate(sources, 1)]
    return "\n".join(kept), dropped


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"] if "source" in cell else cell["input"]
    text = source if isinstance(source, str) else "".join(source)
    return text.replace("\r\n", "\n").encode("utf-8", "replace").decode()


def _python(cell: str, dropped: list[str]) -> str:
    """A cell without what only IPython understands."""
    first, _, rest = cell.lstrip("\n").partition("\n")
    if first.startswith("%%"):
        dropped.append(first.strip())
        return _python(rest, dropped) if first.split()[0] in ("%%time", "%%timeit", "%%capture") else ""
    try:
        ast.parse(cell)
        return cell
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    lines = []
    for line in cell.split("\n"):
        bare = line.strip()
        if bare.startswith(("%", "!", "?")) or bare.endswith("?") or ASSIGNED.match(line):
            dropped.append(bare)
            line = line[:len(line) - len(line.lstrip())] + "pass"
        lines.append(line)
    return "\n".join(lines)
