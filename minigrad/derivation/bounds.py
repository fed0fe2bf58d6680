"""How far a right result may be off. Errors are of the size of the terms, `Trial.off`.

Equivalent formulas agree far better than these in float64, and wrong ones do not.
"""

from __future__ import annotations

from ..core.backend import np
from .probe import Probe

RIGHT = 1e-10
FLOAT32 = 64 * float(np.finfo("float32").eps)  # times √n, as n roundings add up: "right" in float32
MOST_ROUNDING = 1 / 16  # above it a float32 result is wrong whatever the reason: a factor n/(n − 1) is told from rounding up to n = 16
SAFETY = 4.0  # times what the error changes by when the arguments are moved a little: rounding changes, a mistake stays what it is


def bound32(probe: Probe) -> float:
    """How far a right line may be off in float32."""
    return min(MOST_ROUNDING, FLOAT32 * max(1, max((a.size for a in probe.arrays.values()), default=1)) ** 0.5)
