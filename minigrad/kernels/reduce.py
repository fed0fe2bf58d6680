"""Sums over several axes, of which no long one is added term by term.

NumPy adds pairwise only along the axis that lies closest in memory; elsewhere it adds row after row, and each tenfold of rows
costs up to a digit: the float32 mean of (10⁷, 2) times 0.1 would be 0.1088. And on a device a sum over N, H and W gets
one block of threads per channel, 64 for 64 channels, where thousands could run.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

Array = Any

_FEW = 1 << 12  # terms that may be added one after the other: 4e-5 of their sum at worst (equal terms), 3e-6 usually
_RUN = 1 << 8  # terms of a run, where there are more


def sum_over(xp: Any, a: Array, axes: tuple[int, ...], keepdims: bool = False, dtype: Any = None) -> Array:
    """``xp.add.reduce(a, axes, dtype)``; where many terms would be added one by one, first the last axes, then axis by axis in runs."""
    if a.size <= _FEW and xp is np:
        return xp.add.reduce(a, axis=axes, keepdims=keepdims, dtype=dtype)
    count, one_by_one, last, others = _axes(a.shape, axes)
    if (count <= _FEW or (one_by_one <= _FEW and a.flags.c_contiguous)) if xp is np else (count <= _FEW and not (last and others)):
        return xp.add.reduce(a, axis=axes, keepdims=keepdims, dtype=dtype)
    if xp is np and not a.flags.c_contiguous:
        order = sorted(range(a.ndim), key=lambda i: -abs(a.strides[i]))  # "last" is meant in memory
        if order != [*range(a.ndim)]:
            part = sum_over(xp, a.transpose(order), tuple(i for i, k in enumerate(order) if k in axes), True, dtype)
            part = part.transpose([order.index(i) for i in range(a.ndim)])
            return part if keepdims else part.reshape([n for i, n in enumerate(a.shape) if i not in axes])
    part = xp.add.reduce(a, axis=last, keepdims=True, dtype=dtype) if last else a
    for i in reversed(others):
        part = _in_runs(xp, part, i, dtype)
    return part if keepdims else part.reshape([n for i, n in enumerate(a.shape) if i not in axes])


@lru_cache(maxsize=4096)
def _axes(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """The number of terms of a sum over `axes`, of those along all but the last axes; the last axes among `axes`, and the others."""
    last = tuple(i for i in axes if {*range(i, len(shape))} <= {*axes})
    others = tuple(i for i in sorted(axes) if i not in last)
    return prod(shape[i] for i in axes), prod(shape[i] for i in others), last, others


def _in_runs(xp: Any, a: Array, axis: int, dtype: Any) -> Array:
    """The sum over one axis, kept as size 1: of runs first, and then of their sums."""
    n, before = a.shape[axis], (slice(None),) * axis
    if n <= 2 * _RUN:
        return xp.add.reduce(a, axis=axis, keepdims=True, dtype=dtype)
    whole = n - n % _RUN
    runs = (a if whole == n else a[*before, :whole]).reshape(*a.shape[:axis], n // _RUN, _RUN, *a.shape[axis + 1:])
    part = xp.add.reduce(runs, axis=axis + 1, dtype=dtype)
    if whole < n:
        part = xp.concatenate([part, xp.add.reduce(a[*before, whole:], axis=axis, keepdims=True, dtype=dtype)], axis)
    return _in_runs(xp, part, axis, dtype)
