"""How far are two results apart? One answer for layers, lectures, scripts, benchmarks and tests."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..core.backend import np, to_numpy
from ..core.errors import error
from ..core.tensor import Tensor


def relative_error(found: Any, reference: Any, size: float | None = None) -> float:
    """‖found − reference‖ / ‖reference‖: lengths of all elements together, in float64 at least.

    Elements are scaled by powers of two, so that squares neither overflow nor vanish.

    Args:
        found, reference: Tensors, arrays of any backend, lists or numbers, of one shape. Those of a device are copied to the host.
        size: what to divide by instead of ‖reference‖, for a reference that is 0 or made by cancellation.

    Returns:
        0 only where all elements are equal, or the quotient is below the smallest float; infinity where the reference (or `size`) is 0
        and `found` is not. NaN where either has a NaN, or the reference an infinity; NaN is below no bound.

    Raises:
        ValueError: two shapes.

    >>> relative_error([3.0, 4.5], [3.0, 4.0])
    0.1
    """
    a, b = _on_the_host(found), _on_the_host(reference)
    if a.shape != b.shape:
        raise error(ValueError, "relative_error", got=f"the shapes {a.shape} and {b.shape}", needs="two arrays of one shape",
                    fix="minigrad.reshape or broadcast_to, if they mean the same")
    with np.errstate(all="ignore"):
        scale = max(_power(a), _power(b))  # of the larger one: the scaled difference is finite where both are
        off, more = _length(np.ldexp(a, -scale) - np.ldexp(b, -scale))
        length, less = _length(b if size is None else np.asarray(float(size)))
        if off == 0 or math.isnan(off):
            return off
        return float(np.ldexp(off / length, more + scale - less)) if length else math.inf


def worst(errors: Iterable[float]) -> float:
    """The largest; NaN, which no bound allows, if there is one (Python's `max` can lose it); 0 of none."""
    return float(np.max(list(errors), initial=0.0))


def _length(array: np.ndarray) -> tuple[float, int]:
    """m and p with ‖array‖ = m·2ᵖ, for elements whose squares may overflow or vanish."""
    power = _power(array)
    return float(np.linalg.norm(np.ldexp(array, -power))), power


def _power(array: np.ndarray) -> int:
    """p such that the largest element divided by 2ᵖ is between ½ and 1; 0 for zeros, infinities and NaN."""
    largest = float(np.max(np.abs(array), initial=0))
    return math.frexp(largest)[1] if math.isfinite(largest) else 0


def _on_the_host(value: Any) -> np.ndarray:
    array = np.asarray(to_numpy(value._data if isinstance(value, Tensor) else value))
    return array.astype(np.result_type(array.dtype, "float64"), copy=False)


__all__ = ["relative_error", "worst"]
