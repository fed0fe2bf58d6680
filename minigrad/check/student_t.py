"""Student's t, for the intervals of results that were measured with several seeds.

Source: the closed form of its distribution and the expansion of its quantiles are Abramowitz and Stegun's [abramowitz1964], 26.7.3 to 26.7.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist


@cache
def student_t(df: int, level: float = 0.95) -> float:
    """t such that |T| ≤ t with probability `level`, for Student's T with `df` ≥ 1 degrees of freedom.

    >>> round(student_t(4), 3), round(student_t(100), 3)
    (2.776, 1.984)
    """
    if df > 100:  # its expansion in 1/df (26.7.5), to 1e-7
        z = NormalDist().inv_cdf((1 + level) / 2)
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2) + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)

    def within(t: float) -> float:
        theta = math.atan(t / math.sqrt(df))
        term, total, c2 = (math.cos(theta), 0.0, math.cos(theta) ** 2) if df % 2 else (1.0, 0.0, math.cos(theta) ** 2)
        for k in range(2 if df % 2 else 1, df, 2):  # the k-th power series of 26.7.3 (odd df) and 26.7.4 (even df)
            total += term
            term *= c2 * k / (k + 1)
        if df % 2:
            return (theta + math.sin(theta) * total) * 2 / math.pi
        return math.sin(theta) * total
    return bisect(within, level, 0.0, 20.0 if df > 1 else 1e3)


def bisect(f: Callable[[float], float], value: float, low: float, high: float) -> float:
    """x with f(x) = value, for f that rises from `low` to `high`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) < value else (low, middle)
    return high


__all__ = ["bisect", "student_t"]
