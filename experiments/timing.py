"""Times of several things, taken in turns: what slows the machine for a while slows all of them.

    times = interleaved({"BN": step_of_bn, "DBN": step_of_dbn}, turns=15)
    median_ratio(times["DBN"], times["BN"])                 # experiments.statistics: turn by turn
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim


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


def training_step(model: nn.Module, x: Any, t: Any) -> Callable[[], None]:
    """A function that trains `model` with one batch: forward, backward, and a step of SGD with momentum, so small that nothing diverges.

    Args:
        x: Tensor (N, C, H, W).
        t: labels (N,), integer.
    """
    optimizer = optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        loss = mg.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def inference(model: nn.Module, x: Any) -> Callable[[], None]:
    """A function that gives the scores of one batch, without a tape; `model` stays in eval mode."""
    model.eval()

    def scores() -> None:
        with mg.no_grad():
            model(x)
    return scores


def random_batch(seed: int, n: int, pixels: int, classes: int = 10) -> tuple[Any, Any]:
    """What a clock needs: a Tensor N(0, 1) of float32 (n, 3, pixels, pixels), and labels (n,)."""
    rng = np.random.default_rng(seed)
    return mg.tensor(rng.normal(size=(n, 3, pixels, pixels)).astype(np.float32)), mg.tensor(rng.integers(classes, size=n))
