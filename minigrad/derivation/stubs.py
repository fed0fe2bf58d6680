"""Solutions between markers, and the stubs that stand in their place:

    ### BEGIN SOLUTION
    ### END SOLUTION
"""

from __future__ import annotations

import re
from typing import NamedTuple

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


class BadMarker(ValueError):
    """A marker without its partner, or spelled differently; the text is ``file:line: reason``."""


class Solution(NamedTuple):
    """A line of a solution: where it stands, and its text without blanks."""

    where: str
    text: str


def strip(text: str, where: str) -> tuple[str, list[Solution]]:
    """The text with a stub in place of each solution, and the lines that are gone.

    >>> print(strip("def d_x(g):\\n    ### BEGIN SOLUTION\\n    return 2 * g\\n    ### END SOLUTION\\n", "lines.py")[0], end="")
    def d_x(g):
        raise NotImplementedError("d_x: your turn")

    Raises:
        BadMarker: a marker without its partner, or spelled differently.
    """
    kept: list[str] = []
    gone: list[Solution] = []
    defs: list[tuple[int, str]] = []  # depth and name
    begun = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        marker, indent = line.strip(), line[:len(line) - len(line.lstrip())]
        if marker in (BEGIN, END) and (marker == END) != bool(begun):
            raise BadMarker(f"{where}:{number}: {marker} " + ("without its beginning" if marker == END else f"inside the solution begun in line {begun}"))
        if marker == BEGIN:
            name = next((name for depth, name in reversed(defs) if depth < len(indent)), "")
            kept.append(f'{indent}raise NotImplementedError("{message(name)}")\n')
            begun = number
        elif marker == END:
            begun = 0
        elif re.search(r"#\s*(BEGIN|END)\s+SOLUTION", line, re.IGNORECASE):
            raise BadMarker(f"{where}:{number}: a marker must be a line of its own, spelled {BEGIN} or {END}")
        elif begun:
            gone.append(Solution(f"{where}:{number}", "".join(line.split())))
        else:
            kept.append(line)
            defs += [(len(indent), found[1]) for found in [re.match(r"\s*def\s+(\w+)", line)] if found]
    if begun:
        raise BadMarker(f"{where}:{begun}: {BEGIN} without its end")
    return "".join(kept), gone


def message(name: str) -> str:
    """What a stub says."""
    return f"{name}: your turn" if name else "your turn"
