"""What a comparison of the tape's gradient with difference quotients proves.

The error of an input is ‖tape − quotient‖ / ‖quotient‖. The verdict on it:

    right      error ≤ tolerance, and the comparison is sure to 1e-3
    wrong      error > bound = tolerance + 4·(the quotient's own error): whatever rounding did, the tape is wrong
    rounding   neither: at this point (a kink, cancellation) the quotient or the dtype cannot tell
    no power   the true gradient is zero or lost in rounding noise: a backward that returns zeros would pass too

At order 2 an exactly zero derivative is "right": the first-order gradient, which order 1 has checked, does not move at
all with that input, because f is (piecewise) linear in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.backend import np
from .quotients import SAFETY, Quotients, Vector

Verdict = tuple[float, float, str, str]  # error, bound, verdict, reason

BASE = {1: 1e-7, 2: 1e-5}  # relative tolerance of each order, where dtype and conditioning allow it
SHAKEN = 16.0  # rounding error of the tape's gradient, in units of its change when all inputs move by one ulp
COARSE = 1e-3  # a coarser comparison shows nothing


@dataclass
class Judge:
    """What decides on all gradients of one input at one order."""

    q: Quotients
    shape: tuple[int, ...]
    order: int
    tolerance: float | None
    eps: float  # of the dtype that is checked
    fine_eps: float  # of the dtype of the quotients
    shaken: float  # how far the tape's gradient moves when everything moves by one ulp
    drift: float  # how far it is from the same rules' gradient in float64
    scale: float  # size of φ's terms and of the input in them

    def at(self, p: Any) -> str:
        d = self.q.along[int(p)]
        return f"at {tuple(map(int, np.unravel_index(d, self.shape)))}" if isinstance(d, int) else "in a random direction"

    def __call__(self, tape: Vector) -> Verdict:
        q, ulps = self.q, 1e3 * self.eps * self.scale
        resolved = np.isfinite(q.error)
        a = np.where(resolved, tape, 0.0)
        gap = np.abs(a - q.value)
        size, off = float(np.linalg.norm(q.value)), float(np.linalg.norm(gap))
        unsure = SAFETY * float(np.linalg.norm(q.error))
        rounding = SHAKEN * (self.shaken + self.eps * size)
        allowed = max(BASE[self.order] * size, rounding) if self.tolerance is None else self.tolerance * size
        lost = rounding + min(2 * self.drift, ulps)  # rules that are right in float64 may lose digits, up to a point
        # unlike the estimate, what one ulp of intermediate values does to a quotient cannot be small by luck
        grain = SAFETY * self.fine_eps * self.scale * float(np.linalg.norm(1 / q.h))
        limit = max(allowed, lost) + unsure + grain + (0.0 if size else ulps)
        coarse = max(COARSE, 128 * self.eps, self.tolerance or 0.0) * size
        error, bound = (off / size, limit / size) if size else (0.0 if off <= limit else np.inf, 0.0)
        error = np.inf if np.isnan(error) else error
        if not off <= limit:
            p = np.argmax(np.where(np.isfinite(gap), gap - SAFETY * q.error, np.inf))
            factor = float(a @ q.value) / size**2 if size else 0.0
            multiple = a.any() and np.linalg.norm(a - factor * q.value) <= 1e-2 * off
            where = f"{self.at(p)}: tape {a[p]:.6g}, quotient {q.value[p]:.6g}"
            return error, bound, "wrong", f"tape = {factor:.6g} × truth; {where}" if multiple else where
        if not resolved.all():
            verdict = "rounding" if resolved.any() else "no power"
            return error, bound, verdict, f"{self.at(np.argmin(resolved))}: f is not finite around this point"
        if size == 0 and self.order == 2 and off <= ulps and unsure <= BASE[2] * self.scale:
            return error, bound, "right", "exactly zero: the gradient does not move with it"
        if size == 0 and unsure == 0:
            return error, bound, "no power", "exactly zero: f does not move with it, so a backward of zeros would pass"
        jump = q.noise.max() > self.fine_eps**0.5 * self.scale  # too much for rounding
        if size <= 10 * np.linalg.norm(q.noise / q.h) and not jump:
            return error, bound, "no power", "the true gradient is lost in rounding, so a backward of zeros would pass"
        if off <= min(allowed, coarse) and unsure <= coarse:
            return error, bound, "right", ""
        if lost > unsure:
            where = self.at(np.argmax(gap))
            return error, bound, "rounding", f"{where}: rounding in the tape's gradient may reach {lost / size:.1e}"
        where = self.at(np.argmax(q.error))
        return error, bound, "rounding", f"{where}: the quotient is only sure to {unsure / size:.1e}: a kink, or cancellation"
