"""An edit of a student's line: what is replaced by what, and what that means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from ..core.backend import np
from .expression import Expr, walk

POWERS = (2.0, -1.0, 0.5, 3.0, -0.5, -2.0, 1.5, -1.5, -3.0, 1.0)  # that a line may have, or need
REDUCTIONS = ("sum", "mean", "var", "std", "norm", "max", "min")


class Edit(NamedTuple):
    """One change, at one place or at several that belong together."""

    code: str                    # of the misconception
    words: str                   # what stands in the line, and what belongs there
    at: tuple[Expr, ...]
    new: tuple[Expr, ...]
    cost: float

    @property
    def line(self) -> int:
        """Of the student's file; 0 if nobody knows."""
        return next((n.source.line for n in self.at if n.source is not None), 0)


class Scope(NamedTuple):
    """What a line may use.

    Args:
        own: its arguments.
        others: further names that the task would give it.
        counts: names among them that count elements.
        shape: of the right answer.
    """

    own: Sequence[str]
    others: Sequence[str]
    counts: frozenset[str]
    shape: tuple[int, ...]


def name(n: str) -> Expr:
    """A name of the task."""
    return Expr("name", (), {"name": n})


def constant(v: float) -> Expr:
    """A number."""
    return Expr("constant", (), {"value": v})


def base(node: Expr) -> Expr:
    """What a local name stands for."""
    while node.op == "use":
        node = node.inputs[0]
    return node


def factors(node: Expr) -> list[Expr]:
    """The factors of a product."""
    return [f for n in node.inputs for f in factors(n)] if node.op == "*" else [node]


def one(code: str, words: str, at: Expr, new: Expr, cost: float) -> Edit:
    """An edit of one place."""
    return Edit(code, words, (at,), (new,), cost)


def shape_of(v: Any) -> tuple[int, ...]:
    """The shape of a value."""
    return tuple(np.shape(v))


def axes_of(ndim: int) -> list[Any]:
    """What a reduction of this many axes may go over: everything, one axis, several."""
    return [None, *range(ndim), *(a for k in range(2, ndim) for a in combinations(range(ndim), k))]


def over(axis: Any) -> str:
    """An axis in words."""
    return "everything" if axis is None else f"axis {axis}" if isinstance(axis, int) else f"axes {axis}"


def below(node: Expr) -> set[int]:
    """A node and all that it is computed from, by identity."""
    return {id(n) for n in walk(node)}
