"""Difference quotients that know their own error.

Let Δₖ = φ(x + khd) − φ(x − khd) and Sₖ = φ(x + khd) − 2φ(x) + φ(x − khd) along a direction d. Then

    D₆ = (45Δ₁ − 9Δ₂ + Δ₃) / 60h     has the error h⁶φ⁽⁷⁾/140;  D₄ = (8Δ₁ − Δ₂) / 12h  has h⁴φ⁽⁵⁾/30;
    |D₆ − D₄| = |5Δ₁ − 4Δ₂ + Δ₃| / 60h   and   |S₃ − 6S₂ + 15S₁| / 6h   are fifth and sixth differences.

The last two vanish for polynomials of degree 4 and 5, so they measure what is *not* derivative: truncation, rounding
noise (as Moré and Wild do) and kinks. At a kink φ = J|t|/2 the second is J/2, the distance from D₆ to either one-sided
derivative, for every h. The first h is ε^(1/5) of the input's spread, which balances D₄'s truncation with the rounding
ε/h; where the estimate is too large other h are tried. Small inputs are probed element by element, large ones along
random directions (all elements take part) and at some elements.

Sources: Fornberg [fornberg1988], table 1, for the quotients; Moré and Wild [more2011] for the noise; Press et al. [press2007], 5.7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.backend import np

Vector = Any  # a flat float64 NumPy array

SAFETY = 4.0  # how much the quotient's error may exceed its estimate
RUNGS = (1.0, 2.0**-5, 2.0**-10, 2.0**5, 2.0**-20)  # steps to try, in units of ε^(1/5)


@dataclass
class Quotients:
    """D₆ along each direction, in units of the input's spread, and what is known about its error."""

    along: list[int | Vector]  # an element's number, or a direction
    value: Vector
    error: Vector
    noise: Vector  # in φ itself: at most this
    h: Vector

    def project(self, gradient: Vector) -> Vector:
        return np.array([gradient[d] if isinstance(d, int) else gradient @ d for d in self.along])


def spread(x: Any) -> float:
    """The unit of length of an input: a power of two, so that adding multiples of it is exact."""
    size = float(np.sqrt(np.mean(x * x))) if x.size else 0.0
    unit = max(float(np.std(x)), size / 1024) if x.size > 1 else size
    return float(2.0 ** np.round(np.log2(unit))) if 0 < unit < np.inf else 1.0


def directions(size: int, limit: int, rng: Any) -> list[int | Vector]:
    """Those in which an input of this size is probed: up to `limit` all its elements, else a quarter as many and 8 random ones."""
    if size <= limit:
        return list(range(size))
    elements: list[int | Vector] = sorted(int(i) for i in rng.choice(size, max(1, limit // 4), replace=False))
    return elements + [np.rint(16 * rng.standard_normal(size)) / 16 for _ in range(8)]  # sixteenths: x + hd is exact


def _quotient(values: list[Vector], h: float, v: Vector, eps: float, moved: Vector) -> tuple[float, float]:
    """D₆ and its error from f at x − 3hd, …, x + 3hd; notes in `moved` which outputs move.

    Differences are taken output by output before they are summed, so that what does not move adds no rounding.
    """
    m3, m2, m1, centre, p1, p2, p3 = values
    odd = p1 - m1, p2 - m2, p3 - m3
    even = p1 - centre + (m1 - centre), p2 - centre + (m2 - centre), p3 - centre + (m3 - centre)
    moved |= np.logical_or.reduce([part != 0 for part in odd + even])
    # 8·|D₆ − D₄|: enough for a kink anywhere between the points, where the sixth difference may vanish
    residues = v * (5 * odd[0] - 4 * odd[1] + odd[2]) * (8 / 60), v * (even[2] - 6 * even[1] + 15 * even[0]) / 6
    # |Σ r| sees truncation, whose terms may add up; ‖r‖ sees rounding, whose terms are independent
    parts = [part for r in residues for part in (np.sum(r), np.linalg.norm(r))]
    parts.append(eps * np.linalg.norm((v * centre)[moved]))
    return float(v @ (45 * odd[0] - 9 * odd[1] + odd[2])) / (60 * h), float(np.linalg.norm(parts)) / h


def measure(value: Callable[[Any], Vector], x: Any, v: Vector, along: list[int | Vector], eps: float,
             target: float) -> Quotients:
    """Quotients of Σ v·value at `x` along each direction, with the best of several h for each."""
    centre, unit, count, first = value(x), spread(x), len(along), 2.0 ** round(np.log2(eps) / 5)
    best, steps, errors, noise = np.zeros(count), np.ones(count), np.full(count, np.inf), np.full(count, np.inf)
    moved = np.zeros((count, v.size), bool)
    for rung in (*RUNGS, None):  # None: in units of the element's own size
        typical = float(np.linalg.norm(best)) / count**0.5
        for p in np.flatnonzero(~(errors <= target * typical / (10 * SAFETY))):
            d = along[p]
            direction = np.eye(1, x.size, d) if isinstance(d, int) else d
            reach = float(np.abs(x.ravel()[direction.ravel() != 0]).max(initial=0.0)) / unit
            h = first * (rung or (reach if isinstance(d, int) else 0.0))
            if h < 64 * eps * reach or h == 0:
                continue  # x + hd would be rounded
            step = h * unit * direction.reshape(x.shape)
            try:
                values = [value(x + k * step) if k else centre for k in range(-3, 4)]
            except (ValueError, ArithmeticError):  # outside f's domain, for example no longer positive definite
                continue
            q, e = _quotient(values, h, v, eps, moved[p])
            if np.isfinite(q) and np.isfinite(e):
                noise[p] = min(noise[p], e * h)
                if e < 0.5 * errors[p]:
                    best[p], errors[p], steps[p] = q, e, h
    # somewhere in a large input a random direction may well meet a kink: the better resolved half of them is enough
    random = sorted((p for p, d in enumerate(along) if not isinstance(d, int)), key=lambda p: errors[p])
    kept = [p for p in range(count) if p not in random[len(random) // 2:]]
    return Quotients([along[p] for p in kept], best[kept], errors[kept], noise[kept], steps[kept])
