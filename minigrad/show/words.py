"""Words for a tape line, and the tape as a graph: what print, picture and SVG have in common. Needs no drawing library."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from ..core.plan import is_output
from ..core.tensor import Line

SYMBOLS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "negative": "−a", "square": "a²", "sqrt": "√",
           "abs": "|a|", "log": "ln", "sigmoid": "σ", "sum": "Σ", "matmul": "@", "transpose": "aᵀ", "getitem": "a[i]",
           "identity": "=", "leaky_relu": "leaky relu", "log_softmax": "log softmax"}


def op_name(line: Line) -> str:
    """The op as its user knows it: public functions that check their arguments call a primitive with an underscore."""
    return line.op.lstrip("_")


def shape_text(line: Line) -> str:
    """``(64, 32)``; of an op with several outputs all their shapes."""
    shapes = [line.shape] if line.dtype is not None else [shape for shape, _ in line.shape]
    return " and ".join(str(tuple(shape)) for shape in shapes)


def short_shape(line: Line) -> str:
    """``(64,32)``, as it stands in a box; nothing for a scalar."""
    if not line.shape:
        return ""
    return shape_text(line).replace(" ", "") if line.dtype is not None else f"{len(line.shape)} outputs"


def kept_of_kind(line: Line, kind: str) -> dict[Any, Any]:
    """Rule parameters that a live line keeps: of kind "array" by input position, of kind "meta" by keyword."""
    if line.is_leaf or line.freed:
        return {}
    return {key: value for (_, k, key), value in zip(line.plan.slots, line.saved, strict=True) if k == kind}


def constant_text(line: Line, position: int) -> str:
    """The Python number at an input position, if the line keeps it; else a dot."""
    value = kept_of_kind(line, "array").get(position)
    return f"{value:g}" if type(value) in (float, int) else "·"


def symbol(line: Line) -> str:
    """What stands in a box for the op: ``÷``, ``√``, ``a²``, or its name."""
    if is_output(line):
        return f"[{line.plan.position}]"
    op = op_name(line)
    if op == "power_number":
        exponent = kept_of_kind(line, "meta").get("exponent", "n")  # a freed line no longer knows it
        return f"a{'⁰¹²³⁴⁵⁶⁷⁸⁹'[int(exponent)]}" if exponent in range(10) else f"a^{exponent}"
    return SYMBOLS.get(op, op)


def has_rule(line: Line, position: int) -> bool:
    """Could a gradient flow to this input if it were not a constant? (Not to indices and masks.)"""
    p = line.plan.primitive
    return p.joint is not None or (p.inputs[position] if position < len(p.inputs) else p.variadic) in p.rules


# -- the graph ---------------------------------------------------------------------------------------------------------


class Vertex(NamedTuple):
    """What gets a place in a picture: a line, or a constant that one uses.

    `key` is the line's number, "12"; of a constant "12.1", with the position at which line 12 takes it. `arrows` are the
    vertices it is computed from, by key, each with "through a broadcast or not". `constant` is a constant's text.
    """

    key: str
    line: Line
    arrows: list[tuple[str, bool]]
    constant: str | None = None


def is_folded(line: Line, roots: Collection[Line | None]) -> bool:
    """Whether a picture shows this line as a dashed arrow: a broadcast without a name that somebody uses."""
    return line.op == "broadcast_to" and line.name is None and line not in roots


def vertices(lines: Sequence[Line], roots: Collection[Line | None], fold: bool) -> Iterator[Vertex]:
    """The tape as a graph, inputs before users; constants to which no gradient could flow are left out."""
    sources: dict[Line, tuple[str, bool]] = {}
    for number, line in enumerate(lines):
        if fold and is_folded(line, roots):
            sources[line] = sources[line.inputs[0]][0], True
            continue
        arrows: list[tuple[str, bool]] = []
        for position, parent in enumerate(line.parents):
            if parent is not None:
                arrows.append(sources[parent])
            elif has_rule(line, position):
                key = f"{number}.{position}"
                yield Vertex(key, line, [], constant_text(line, position))
                arrows.append((key, False))
        yield Vertex(str(number), line, arrows)
        sources[line] = str(number), False
