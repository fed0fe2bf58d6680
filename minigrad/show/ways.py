"""Where a path through named values runs on the tape: the boxes and arrows of a picture that belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from ..core.tensor import Line
from .words import is_folded

if TYPE_CHECKING:
    from .print import Tape


class Way(NamedTuple):
    """Numbers of lines, in the tape's order (so the first and the last are the ends), and pairs (from, to) of them.

    In an SVG they are ``data-line`` of a box, and ``data-from`` and ``data-to`` of an arrow. `marked` are the lines whose
    boxes bear the sign of the route: those with a name in between, else all in between, else the last one.
    """

    lines: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    marked: tuple[int, ...]


def way(tape: Tape, names: Sequence[str], fold: bool = True) -> Way:
    """What lies on the paths from each named value to the next that pass through no other named value.

    Args:
        tape: the tape.
        names: of values along a route, from inputs to results; where several lines have a name, it means the last one.
        fold: leave out the broadcasts that a picture shows as dashed arrows, and join their ends.

    Returns:
        The way; an empty one if there is no path between two of the names.

    Raises:
        UnknownNameError: no line of the tape has this name. (It is a KeyError.)

    >>> import minigrad as mg
    >>> from minigrad.show import way
    >>> x = mg.named("x", mg.tensor([1.0, 2.0], requires_grad=True))
    >>> xc = mg.named("xc", x - x.mean())
    >>> y = mg.named("y", mg.tanh(xc) * xc)
    >>> way(mg.tape(y), ["x", "xc"])
    Way(lines=(0, 1, 3), edges=((0, 1), (0, 3), (1, 3)), marked=(1,))
    >>> way(mg.tape(y), ["x", "y"])  # every path from x to y passes through xc
    Way(lines=(), edges=(), marked=())
    """
    number = {line: k for k, line in enumerate(tape)}
    last = {line.name: line for line in tape if line.name is not None}
    stops = {*last.values()}
    users: dict[Line, list[Line]] = {line: [] for line in tape}
    for line in tape:
        for parent in line.inputs:
            users[parent].append(line)
    ends = [tape[name] for name in names]
    lines: set[Line] = {*ends[:1]} if len(ends) == 1 else set()
    edges: set[tuple[Line, Line]] = set()
    for a, b in pairwise(ends):
        before, after = {a}, {b}  # what a reaches, and what reaches b, through lines without a name
        for line in tape.lines[number[a] + 1:number[b]]:
            if line not in stops and any(p in before for p in line.inputs):
                before.add(line)
        for line in reversed(tape.lines[number[a] + 1:number[b]]):
            if line not in stops and any(u in after for u in users[line]):
                after.add(line)
        leg = {(p, line) for line in after for p in line.inputs if p in before}
        if not leg:
            return Way((), (), ())
        edges |= leg
        lines |= {line for edge in leg for line in edge}
    hidden = {line for line in lines if fold and is_folded(line, {y._line for y in tape.ys})}

    def seen(line: Line) -> Line:
        return seen(line.inputs[0]) if line in hidden else line
    shown = tuple(sorted(number[line] for line in lines - hidden))
    between = shown[1:-1]
    return Way(shown, tuple(sorted({(number[seen(p)], number[line]) for p, line in edges if line not in hidden})),
               tuple(k for k in between if tape[k] in stops) or between or shown[-1:])
