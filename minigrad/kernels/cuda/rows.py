"""Layer norm and RMS norm of whole rows on CuPy: x is read once forward (2 passes), g and x once backward (3 passes)."""

from __future__ import annotations

from typing import Any

from .launch import THREADS, TILE, launch, usable, vectors

Array = Any

_BLOCKS = 528  # that walk down the rows, each with its own sums: four for each of 132 multiprocessors


def forward(xp: Any, x: Array, w: Array, b: Array | None, eps: float, centred: bool) -> tuple[Array, Array, Array] | None:
    """w·(x − mean)/√(variance + eps) + b over the axes of w, and mean and variance (R, 1) (without `centred`: no mean, mean square)."""
    if not eps >= 0 or not _applies(xp, w, x, b) or (b is not None and b.shape != w.shape):
        return None
    L = w.size
    rows, y = x.size // L, xp.empty(x.shape, dtype=x.dtype)
    mean, variance = (xp.empty((rows, 1), dtype=x.dtype) for _ in range(2))
    launch(xp, "rows", "rows_forward", x.dtype, (rows,), x, w, b, y, mean, variance, float(eps), L, centred, vectors(x.dtype, L, x, w, b, y))
    return y, mean, variance


def backward(xp: Any, g: Array, x: Array, w: Array, mean: Array | None, variance: Array, eps: float, centred: bool) -> tuple[Array, Array, Array] | None:
    """dx, dw, db of `forward`."""
    if not _applies(xp, w, x, g, mean, variance):
        return None
    L = w.size
    rows, dx = x.size // L, xp.empty(x.shape, dtype=x.dtype)
    blocks = min(rows, _BLOCKS)
    dw, db = (xp.empty((blocks, L), dtype=x.dtype) for _ in range(2))
    launch(xp, "rows", "rows_backward", x.dtype, (blocks,), g, x, w, mean, variance, dx, dw, db, float(eps), rows, L, centred,
           vectors(x.dtype, L, g, x, w, dx))
    return dx, dw.sum(axis=0).reshape(w.shape), db.sum(axis=0).reshape(w.shape)


def _applies(xp: Any, w: Array, x: Array, *others: Any) -> bool:
    return (usable(xp, x, w, *others) and 0 < w.ndim <= x.ndim and w.size <= THREADS * TILE and x.shape[x.ndim - w.ndim:] == w.shape
            and x.size // w.size < 1 << 31)  # blocks, of which CUDA takes no more
