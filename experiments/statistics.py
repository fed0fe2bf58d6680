"""Intervals, and the verdict that follows from an interval and a document's number.

    interval = paired_difference(errors_of_a, errors_of_b)        # 95 %, Student's t
    verdict(interval, near(0.36, absolute=0.3))                   # "agrees", "differs", "cannot tell: about 14 seeds would be needed"

A verdict compares the interval with a `Band`, which is what "agrees" means for this number: all values that one would call the same
result. The interval lies inside: "agrees". It lies outside: "differs". It does neither: "cannot tell", and how many runs would
make it narrow enough, if their mean stayed where it is. So an interval that is so wide that it holds the document's number, and
many others, proves nothing, and nothing is called different by an accident of the estimate alone.

The method of each interval:

    mean, paired_difference    Student's t of the values, or of the differences seed by seed. Exact for Gaussian values.
    ratio                      Student's t of the logarithms of the ratios seed by seed: the geometric mean. Exact for log-normal ratios.
    median_ratio               the median of the ratios turn by turn, between two order statistics whose ranks the binomial distribution
                               gives. At least 95 % for independent turns, whatever their distribution: for times, which have outliers.
    share                      Clopper and Pearson's [clopper1934] interval of a share of successes. At least 95 %.
    exact                      a computed number, without chance

Source: these intervals are textbook matter; for Student's t see `minigrad.check.student_t`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from minigrad.check.student_t import bisect, student_t

LEVEL = 0.95
MOST = 10_000  # more runs than anybody does


@dataclass(frozen=True)
class Interval:
    """A number, and the interval in which 95 % of such intervals hold the true one.

    Attributes:
        estimate, low, high: without ends (±infinity) where there are too few values for an interval.
        n: how many values it is made of.
        method: its name, for the table.
        unit: what to have more of: seeds, or turns.
        scale: "linear", or "log" for ratios: where it is (nearly) symmetric.
        least: the smallest n that gives an interval at all.
        problem: why there is no number.
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str
    unit: str = "seeds"
    scale: str = "linear"
    least: int = 2
    problem: str = ""


@dataclass(frozen=True)
class Band:
    """The values that agree with a document's number, from low to high, and how the table says so."""

    low: float
    high: float
    words: str

    def holds(self, value: float) -> bool:
        """Is this value one of them?"""
        return self.low <= value <= self.high


def near(number: float, *, absolute: float | None = None, factor: float | None = None) -> Band:
    """The band number ± absolute, or from number / factor to number · factor (for a positive number).

    >>> near(2.0, factor=1.25).words
    'within a factor of 1.25'
    """
    if (absolute is None) == (factor is None) or (absolute is not None and absolute <= 0) or (factor is not None and (factor <= 1 or number <= 0)):
        raise ValueError(f"near({number}, absolute={absolute}, factor={factor}): it takes absolute > 0, or factor > 1 and a positive number")
    if factor is not None:
        return Band(number / factor, number * factor, f"within a factor of {factor:g}")
    assert absolute is not None
    return Band(number - absolute, number + absolute, f"within ± {absolute:g}")


def above(limit: float) -> Band:
    """All values from this one on: the document says that there is more, or a larger one, and not how much."""
    return Band(limit, math.inf, f"above {limit:g}")


def below(limit: float) -> Band:
    """All values up to this one."""
    return Band(-math.inf, limit, f"below {limit:g}")


def same_sign(number: float, *, at: float = 0.0) -> Band:
    """The values on the document's side of 0 (of 1, for a ratio): it names a direction, and the size depends on much else."""
    if number == at:
        raise ValueError(f"same_sign({number}, at={at}): the number has no sign; use near(...)")
    return above(at) if number > at else below(at)


# -- intervals ----------------------------------------------------------------------------------------------------------


def mean(values: Sequence[float], *, unit: str = "seeds") -> Interval:
    """The mean of independent values."""
    return _student(values, "Student's t", unit)


def paired_difference(a: Sequence[float], b: Sequence[float], *, unit: str = "seeds") -> Interval:
    """The mean of a − b, where a[i] and b[i] have the same seed."""
    return _student([x - y for x, y in _pairs(a, b)], "Student's t of paired differences", unit)


def ratio(a: Sequence[float], b: Sequence[float], *, unit: str = "seeds") -> Interval:
    """The geometric mean of a / b, where a[i] and b[i] have the same seed, all positive."""
    pairs = _pairs(a, b)
    method = "Student's t of paired log ratios"
    if any(not (x > 0 and y > 0) for x, y in pairs):
        return _without(len(pairs), method, unit, "some numbers are not positive", "log")
    found = _student([math.log(x / y) for x, y in pairs], method, unit)
    return Interval(*(math.exp(min(v, 700.0)) if math.isfinite(v) else 0.0 if v < 0 else v for v in (found.estimate, found.low, found.high)),
                    found.n, method, unit, "log", 2, found.problem)


def median_ratio(a: Sequence[float], b: Sequence[float], *, unit: str = "turns") -> Interval:
    """The median of a / b, where a[i] and b[i] were measured in the same turn, all positive."""
    pairs = _pairs(a, b)
    method = "order statistics around the median of the turns' ratios"
    if any(not (x > 0 and y > 0 and math.isfinite(x / y)) for x, y in pairs):
        return _without(len(pairs), method, unit, "some times are not positive", "log")
    ratios, rank = sorted(x / y for x, y in pairs), _rank(len(pairs))
    low, high = (ratios[rank], ratios[-1 - rank]) if rank is not None else (0.0, math.inf)
    return Interval(median(ratios), low, high, len(ratios), method, unit, "log", 6)


def share(successes: int, n: int, *, unit: str = "seeds") -> Interval:
    """The probability of success, of which there were `successes` among n."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"share({successes}, {n}): it takes 1 or more runs, and no more successes than runs")
    tail = (1 - LEVEL) / 2
    low = bisect(lambda p: _at_most(n - successes, n, 1 - p), tail, 0.0, 1.0) if successes else 0.0
    high = bisect(lambda p: 1 - _at_most(successes, n, p), 1 - tail, 0.0, 1.0) if successes < n else 1.0
    return Interval(successes / n, low, high, n, "Clopper and Pearson", unit, least=1)


def exact(value: float, method: str = "computed") -> Interval:
    """A number without chance: a formula, or a count."""
    return Interval(value, value, value, 1, method, least=1)


def _student(values: Sequence[float], method: str, unit: str) -> Interval:
    n = len(values)
    if not n or not all(math.isfinite(v) for v in values):
        return _without(n, method, unit, f"{sum(not math.isfinite(v) for v in values)} of {n} are not finite" if n else "there are no runs")
    centre = math.fsum(values) / n
    if n == 1:
        return Interval(centre, -math.inf, math.inf, 1, method, unit)
    half = student_t(n - 1) * math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (n - 1) / n)
    return Interval(centre, centre - half, centre + half, n, method, unit)


def _without(n: int, method: str, unit: str, problem: str, scale: str = "linear") -> Interval:
    return Interval(math.nan, -math.inf, math.inf, n, method, unit, scale, problem=problem)


def _pairs(a: Sequence[float], b: Sequence[float]) -> list[tuple[float, float]]:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are not pairs: it takes one of each for every seed")
    return list(zip(a, b, strict=True))


# -- the verdict --------------------------------------------------------------------------------------------------------


def verdict(interval: Interval, band: Band) -> str:
    """"agrees", "differs", or "cannot tell: ..."; see the top of this file."""
    if interval.problem:
        return f"cannot tell: {interval.problem}"
    if band.low <= interval.low and interval.high <= band.high:
        return "agrees"
    if interval.high < band.low or interval.low > band.high:
        return "differs"
    needed = runs_needed(interval, band)
    return f"cannot tell: about {needed:,} {interval.unit} would be needed" if needed else f"cannot tell: more than {MOST:,} {interval.unit} would be needed"


def runs_needed(interval: Interval, band: Band) -> int | None:
    """How many runs would give an interval that leaves no doubt, if the estimate stays and half widths fall as t/√n; None: too many.

    Without an interval yet, the smallest number that gives one.
    """
    into: Callable[[float], float] = (lambda v: math.log(v) if v > 0 else -math.inf) if interval.scale == "log" else float
    centre = into(interval.estimate)
    half = max(into(interval.high) - centre, centre - into(interval.low))
    if not math.isfinite(half):
        return interval.least
    distance = min(abs(into(edge) - centre) for edge in (band.low, band.high))
    now = half * math.sqrt(interval.n) / student_t(max(interval.n - 1, 1))  # a standard deviation, for what is Gaussian

    def enough(n: int) -> bool:
        return student_t(n - 1) * now <= distance * math.sqrt(n)
    few, many = max(2, interval.least), MOST
    if not enough(many):
        return None
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle + 1, many)
    return max(few, interval.n + 1)


# -- distributions ------------------------------------------------------------------------------------------------------


@cache
def _rank(n: int) -> int | None:
    """The largest r such that the median lies between the r-th smallest (from 0) and r-th largest of n values with 95 %."""
    found = None
    for r in range(n // 2):
        if 1 - 2 * _at_most(r, n, 0.5) >= LEVEL:
            found = r
    return found


def _at_most(k: int, n: int, p: float) -> float:
    """The probability of at most k successes in n."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
