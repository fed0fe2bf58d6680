"""A line that counts its own element alone, where all elements share a sum: softmax without its second term, a norm without its projection.

The right answer is then what the line returns, and a value of the forward pass times a sum over what it returns:
right = found + c · v · Σ(found · w), with v and w among the task's values (or 1), and c one number in all cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, combinations

from ..core.backend import Array, np
from .changes import Trial, axes_text
from .diagnose import NICE, Diagnosis, coefficient

MOST_AXES = 4
NUMBERS = (-1.0, 1.0, *(x for x in NICE if x != -1.0))
ONE = "1"


def forgotten_sum(target: str, trials: Sequence[Trial]) -> Diagnosis | None:
    """What a line lacks that has taken a shared sum for a constant; None if that is not it."""
    if any(t.found.shape != t.right.shape for t in trials) or not 0 < trials[0].right.ndim <= MOST_AXES:
        return None
    dims = range(trials[0].right.ndim)
    tables = [dict(_usable(t)) for t in trials]
    names = [n for n in tables[0] if all(n in table for table in tables)]
    for axes in chain.from_iterable(combinations(dims, k) for k in range(1, len(dims) + 1)):
        for w in names:
            sums = [(t.found * table[w]).sum(axes, keepdims=True) for t, table in zip(trials, tables, strict=True)]
            for v in names:
                factors = [coefficient(t.right - t.found, np.broadcast_to(table[v] * total, t.right.shape), t.scale)
                           for t, table, total in zip(trials, tables, sums, strict=True)]
                c = next((c for c in NUMBERS if all(f is not None and abs(f - c) < 1e-6 for f in factors)), None)
                if c is not None:
                    return _said(target, c, v, w, axes)
    return None


def _usable(trial: Trial) -> Iterator[tuple[str, Array]]:
    """1, and the values of the forward pass that can be multiplied with the line's result without changing its shape."""
    yield ONE, np.ones((1,) * trial.right.ndim)
    for name, value in trial.probe.values.items():
        a = np.asarray(value)
        if a.dtype.kind == "f" and 0 < a.ndim <= trial.right.ndim and all(m in (1, n) for m, n in zip(a.shape[::-1], trial.right.shape[::-1], strict=False)):
            yield name, a


def _said(target: str, c: float, v: str, w: str, axes: Sequence[int]) -> Diagnosis:
    sign = "minus" if c < 0 else "plus"
    number = "" if abs(c) == 1 else f"{abs(c):g} times "
    result = "what the line returns" if w == ONE else f"what the line returns times {w}"
    term = f"{number}the sum over {axes_text(axes)} of {result}" if v == ONE else f"{number}{v} times the sum over {axes_text(axes)} of {result}"
    return Diagnosis("missing path", f"it counts each element of {target} for its own element alone, but all along {axes_text(axes)} share a sum: "
                     f"{sign} {term} is missing")
