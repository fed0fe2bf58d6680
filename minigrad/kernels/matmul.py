"""Matrix products. With NumPy the large ones are shared between threads, where BLAS is held at one (see threads.py)."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .threads import num_threads, share

Array = Any

_FEW, _LARGE = 32, 2**16  # matrices, and elements of one, that go to a device's BLAS one by one
_SMALL = 2**22  # multiplications that one thread does in less time than it takes to share them well (about 0.1 ms)


def matmul(xp: Any, a: Array, b: Array) -> Array:
    """a (..., m, k) @ b (..., k, n) -> (..., m, n), and a vector on either side, as ``xp.matmul``."""
    if min(a.ndim, b.ndim) < 2:
        return xp.matmul(a, b)
    if xp is not np:
        return _one_by_one(xp, a, b) if a.ndim == b.ndim == 3 and a.shape[0] == b.shape[0] else xp.matmul(a, b)
    if num_threads() == 1:
        return np.matmul(a, b)
    (m, k), n = a.shape[-2:], b.shape[-1]
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) if a.ndim > 2 or b.ndim > 2 else ()
    if b.shape[-2] != k or prod(stack) * m * k * n < _SMALL:
        return np.matmul(a, b)
    if k >= 8 * max(m, n) and not stack:  # a covariance, a weight's gradient: sum the products of parts
        return sum(share(lambda i, j: np.matmul(a[:, i:j], b[i:j]), k, 1))
    y = np.empty((*stack, m, n), dtype=np.result_type(a, b))
    if stack and stack[0] >= num_threads():
        a, b = np.broadcast_to(a, (*stack, m, k)), np.broadcast_to(b, (*stack, k, n))
        share(lambda i, j: np.matmul(a[i:j], b[i:j], out=y[i:j]), stack[0], 1)
    elif m >= n:
        share(lambda i, j: np.matmul(a[..., i:j, :], b, out=y[..., i:j, :]), m, 1)
    else:
        share(lambda i, j: np.matmul(a, b[..., i:j], out=y[..., i:j]), n, 1)
    return y


def _one_by_one(xp: Any, a: Array, b: Array) -> Array:
    """A stack's products as 2-D ones, where that spares a copy: CuPy copies a large operand of three axes that is transposed."""
    few = 0 < a.shape[0] <= _FEW and max(a.shape[1] * a.shape[2], b.shape[1] * b.shape[2]) >= _LARGE
    if not few or (a.flags.c_contiguous and b.flags.c_contiguous) or a.shape[2] != b.shape[1]:
        return xp.matmul(a, b)
    y = xp.empty((a.shape[0], a.shape[1], b.shape[2]), dtype=xp.result_type(a, b))
    for i in range(a.shape[0]):
        y[i] = xp.matmul(a[i], b[i])
    return y
