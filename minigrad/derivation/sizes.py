"""Sizes of the arrays on which a derivation is checked: new ones for every seed, and none that hides a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from ..core.errors import error

ATTEMPTS = 1000


def random_sizes(rng: Any, *ranges: tuple[int, int], count: int = 3) -> Iterator[tuple[int, ...]]:
    """`count` tuples of sizes, one size for each range (lowest, highest), both included.

    Within a tuple no two sizes are equal, so that a sum over the wrong axis does not fit by accident. No two tuples have an axis of the same
    length or the same number of elements, so that a factor that depends on them does not look like a constant. For use in the `cases` of a task:
    sizes that differ from seed to seed make a table of answers useless.

    Args:
        rng: a NumPy generator.
        ranges: lowest and highest size of each axis.
        count: how many tuples.

    Raises:
        ValueError: the ranges have no such sizes.

    >>> import numpy as np
    >>> list(random_sizes(np.random.default_rng(0), (5, 12), (2, 6)))
    [(7, 6), (9, 3), (8, 4)]
    """
    for _ in range(ATTEMPTS if all(0 < low <= high and high - low + 1 >= count for low, high in ranges) else 0):
        drawn = [low + rng.permutation(high - low + 1)[:count] for low, high in ranges]
        found = [tuple(int(n) for n in sizes) for sizes in zip(*drawn, strict=True)]
        if all(len({*sizes}) == len(sizes) for sizes in found) and len({prod(sizes) for sizes in found}) == count:
            yield from found
            return
    raise error(ValueError, "random_sizes", got=f"the ranges {', '.join(map(str, ranges))}",
                needs=f"{count} tuples of sizes that differ in every axis, without equal ones",
                fix="give wider ranges, such as (5, 12) and (2, 6)")
