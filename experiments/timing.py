"""Times of several things, taken in turns: what slows the machine for a while slows all of them.

    times = interleaved({"BN": step_of_bn, "DBN": step_of_dbn}, turns=15)
    median_ratio(times["DBN"], times["BN"])                 # experiments.statistics: turn by turn
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(things: Mapping[str, Callable[[], Any]], turns: int, *, warmup: int = 1,
                clock: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Name -> seconds of every turn; values[i] of two things are of the same turn.

    Each turn does every thing once, and begins with another one. Garbage is collected before each, and not during it.

    Args:
        things: name -> a function of nothing.
        turns: how many are measured.
        warmup: turns before them, which are not.
    """
    names = list(things)
    times: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    for turn in range(-warmup, turns):
        for k in range(len(names)):
            name = names[(turn + k) % len(names)]
            gc.collect()
            gc.disable()
            try:
                start = clock()
                things[name]()
                seconds = clock() - start
            finally:
                if collecting:
                    gc.enable()
            if turn >= 0:
                times[name].append(seconds)
    return times
