"""The shortest edit of a student's own line that makes it right: what proposals.py proposes, computed on small cases.

`Edits` computes each edit on the line's graph (expression.py) and keeps those that give the right answer in all cases; then pairs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, islice
from typing import Any, NamedTuple

from ..core.backend import Array, np
from .edit import Edit, Scope
from .expression import Evaluated, Expr
from .operations import Unknown
from .proposals import edits

NEARER = 0.6  # what one of two edits gains by coming nearer to the right answer alone
INSERTED = frozenset({"missing operand", "missing path", "missing one", "other derivative", "not reduced"})
MOST_PROPOSED, MOST_PROPOSALS = 20_000, 8_000  # edits that are written down, and the likeliest of them, which are computed
MOST_PAIRS = 6_000
MOST_WORK = 40_000_000  # proposals times elements of all values of the line
MOST_PAIRED = 260  # edits that are tried in pairs


class EditCase(NamedTuple):
    """The line on one probe, and what it should give."""

    line: Evaluated
    right: Array
    scale: float


class Computed(NamedTuple):
    """An edit, and what it makes of the first case."""

    edit: Edit
    right: bool
    distance: float  # 0: right; 1: as far as the line itself


def gives(case: EditCase, chosen: Sequence[Edit], tolerance: float = 1e-9) -> bool:
    """Whether the line gives the right answer with these edits."""
    found = _changed(case, chosen)
    return found is not None and fits(case, found, tolerance)


def fits(case: EditCase, found: Any, tolerance: float = 1e-9) -> bool:
    """Whether it is the right answer."""
    return (np.shape(found) == np.shape(case.right)
            and bool(np.abs(np.asarray(found, "float64") - case.right).max(initial=0) <= tolerance * case.scale))


def _changed(case: EditCase, chosen: Sequence[Edit]) -> Any:
    replaced: dict[int, Expr] = {}
    for edit in chosen:
        for at, new in zip(edit.at, edit.new, strict=True):
            if id(at) in replaced:
                return None
            replaced[id(at)] = new
    try:
        with np.errstate(all="ignore"):
            return case.line.changed(replaced)
    except (Unknown, RecursionError):
        return None


class Edits:
    """All edits of a line, with what each of them makes of it.

    Args:
        first: the case that is tried first; the smallest.
        more: further cases, of other shapes and another ε. They hold the same graph.
        scope: what the line may use.
    """

    def __init__(self, first: EditCase, more: Sequence[EditCase], scope: Scope) -> None:
        self.first, self.more = first, more
        self.proposed = sorted(islice(edits(first.line, scope), MOST_PROPOSED), key=lambda e: (e.cost, -e.line))
        elements = sum(int(np.size(v)) for v in first.line.known.values() if not isinstance(v, tuple))
        self.most = MOST_WORK // max(1, elements)  # lines that are computed in each search
        self.computed = [Computed(e, fits(first, found), _distance(first, found)) for e in self.proposed[:min(MOST_PROPOSALS, self.most)]
                         if (found := _changed(first, [e])) is not None]

    def single(self) -> list[Edit]:
        """The edits of which each makes the line right in all cases, the likeliest first."""
        return [e for e, right, _ in self.computed if right and all(gives(c, [e]) for c in self.more)
                and (e.code == "extra path" or not _vanishes(self.first, e))]

    def pair(self) -> list[Edit]:
        """Two edits that together make the line right in all cases; none if there are none, or not among the likeliest pairs."""
        ranked = sorted((e.cost + NEARER * distance, k, e) for k, (e, _, distance) in enumerate(self.computed))
        possible = [(cost, e) for cost, _, e in ranked[:2 * MOST_PAIRED] if not _vanishes(self.first, e)]
        values = [(cost, e) for cost, e in possible if e.code == "wrong value"]
        for likely, most in ((possible[:MOST_PAIRED], MOST_PAIRS), (values[:MOST_PAIRED // 2], MOST_PAIRS // 2)):
            pairs = sorted((a[0] + b[0], i, j) for (i, a), (j, b) in combinations(enumerate(likely), 2))
            for _, i, j in pairs[:min(most, self.most)]:
                both = [likely[i][1], likely[j][1]]
                if both[0].code in INSERTED and both[1].code in INSERTED:
                    continue  # two things that are not in the line: anything can be made of anything
                if gives(self.first, both) and all(gives(c, both) for c in self.more):
                    return both
        return []


def _distance(case: EditCase, found: Any) -> float:
    """How far an answer is from the right one, compared with the line's own; 1, where it has another shape."""
    own = case.line.value(case.line.root)
    if np.shape(found) != np.shape(case.right) or np.shape(own) != np.shape(case.right):
        return 1.0
    before = float(np.abs(np.asarray(own, "float64") - case.right).sum())
    after = float(np.abs(np.asarray(found, "float64") - case.right).sum())
    return min(1.5, after / before) if before and np.isfinite(after) else 1.5


def _vanishes(case: EditCase, edit: Edit) -> bool:
    """Whether all that is left of a part is 0, up to rounding: that leaves it out, and explains no more than that."""
    try:
        with np.errstate(all="ignore"):
            sizes = [(float(np.abs(case.line.of(new)).max(initial=0)), float(np.abs(case.line.value(at)).max(initial=0)))
                     for at, new in zip(edit.at, edit.new, strict=True)]
    except (Unknown, TypeError):
        return False
    return any(new <= 1e-9 * old for new, old in sizes)
