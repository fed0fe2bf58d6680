"""One elementwise function on large arrays, shared between threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .threads import share

Array = Any

_THREAD_BYTES = 1 << 19  # of the result; below this a second thread costs more than it brings


def spread(xp: Any, ufunc: Callable[..., Array], a: Array, b: Array) -> Array:
    """``ufunc(a, b)``, on NumPy with several threads where one of a, b has the shape of a large result and the other does too
    or is a number."""
    big = a if isinstance(a, np.ndarray) else b
    if xp is not np or not isinstance(big, np.ndarray) or big.nbytes < 2 * _THREAD_BYTES:
        return ufunc(a, b)
    arrays = [x for x in (a, b) if isinstance(x, np.ndarray)]
    if any(x.shape != big.shape or x.dtype != big.dtype for x in arrays):
        return ufunc(a, b)
    out = np.empty(big.shape, np.result_type(a, b))

    def work(start: int, stop: int) -> None:
        ufunc(*(x[start:stop] if isinstance(x, np.ndarray) else x for x in (a, b)), out=out[start:stop])
    share(work, len(big), -(-_THREAD_BYTES * len(big) // big.nbytes))
    return out
