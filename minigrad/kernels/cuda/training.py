"""Activations and optimizer steps on CuPy: one pass over memory, and one launch for up to 48 parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .launch import BLOCKS, THREADS, launch, usable, vectors

Array = Any

MANY, CHUNK = 48, 4096  # as in training.cu
TABLE = np.dtype([("p", np.uint64, MANY), ("g", np.uint64, MANY), ("first", np.uint64, MANY), ("second", np.uint64, MANY),
                  ("size", np.int64, MANY), ("block", np.int64, MANY + 1)])


def leaky(xp: Any, x: Array, slope: float) -> Array | None:
    """x where x > 0, else slope·x."""
    if not usable(xp, x):
        return None
    y = xp.empty(x.shape, dtype=x.dtype)
    vector = vectors(x.dtype, x.size, x, y)
    launch(xp, "training", "leaky_forward", x.dtype, _grid(x, vector), x, y, float(slope), x.size, vector)
    return y


def gate(xp: Any, g: Array, y: Array, slope: float) -> Array | None:
    """g where y > 0, else slope·g."""
    if not usable(xp, g, y) or g.shape != y.shape:
        return None
    dx = xp.empty(g.shape, dtype=g.dtype)
    vector = vectors(g.dtype, g.size, g, y, dx)
    launch(xp, "training", "gate", g.dtype, _grid(g, vector), g, y, dx, float(slope), g.size, vector)
    return dx


def _grid(x: Array, vector: bool) -> tuple[int]:
    return (min(-(-x.size // (THREADS * (16 // x.dtype.itemsize if vector else 1))), 8 * BLOCKS),)


def updatable(xp: Any, todo: Sequence[tuple[Any, Array, Array]]) -> bool:
    """Can `update` do all of these (state, parameter, gradient): buffers like their parameter, all of one dtype, and no parameter twice?"""
    def fits(state: Any, p: Array, g: Array) -> bool:
        others = [g, *(a for a in state.values() if hasattr(a, "dtype"))]
        return usable(xp, p, *others) and p.dtype == todo[0][1].dtype and all(a.shape == p.shape for a in others)
    return all(fits(*one) for one in todo) and len({p.data.ptr for _, p, _ in todo}) == len(todo)


def update(xp: Any, kernel: str, arrays: Sequence[tuple[Array, ...]], *numbers: Any) -> None:
    """Run "sgd" or "adam" on tuples (parameter, gradient, buffers ...)."""
    for table, count, blocks in _tables(arrays):
        launch(xp, "training", kernel, arrays[0][0].dtype, (blocks,), table, count, *numbers)


def _tables(arrays: Sequence[tuple[Array, ...]]) -> Iterator[tuple[np.ndarray, int, int]]:
    for start in range(0, len(arrays), MANY):
        some = arrays[start:start + MANY]
        table = np.zeros(1, TABLE)
        for i, tensors in enumerate(some):
            for name, a in zip(("p", "g", "first", "second"), tensors):
                table[name][0, i] = a.data.ptr
            table["size"][0, i] = tensors[0].size
            table["block"][0, i + 1] = table["block"][0, i] - (-tensors[0].size // CHUNK)
        yield table, len(some), int(table["block"][0, len(some)])
