"""What whitening costs: decorrelated batch norm against group size, and what it gets right where eigenvalues meet.

    taskset -c 0,1 python -m benchmarks.whitening

Forward and backward of the stable form on 512 channels, in units of batch norm on the same input; all sizes interleaved
round by round, medians. dbn whitens its groups one after the other, so that small ones cost it more than large ones (table A:
707 s per epoch with groups of 8, 297 s with groups of 64); here a stack of groups is one batched product. The second table is
`layers.whitening.degenerate_whitening`, with a column for PyTorch's autograd if PyTorch is installed. Figures go to
benchmarks/results/whitening.md.
"""

from __future__ import annotations

import argparse
import gc
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import layers
import minigrad as mg
from benchmarks.overhead import processor
from layers.whitening.degenerate_whitening import as_markdown, degenerate_comparison
from minigrad.command import run_command

SHAPE = (64, 512, 8, 8)  # an inner layer of VGG-A on CIFAR images
SIZES = (8, 16, 32, 64, 128, 256, 512)
TABLE_A = {8: 707.47, 16: 466.92, 64: 297.25, 256: 440.88, 512: 1004.0, "BN": 163.68}  # dbn: seconds per epoch, all of VGG-A
RESULTS = Path(__file__).parent / "results" / "whitening.md"


def steps() -> dict[Any, Callable[[], tuple[float, float]]]:
    """Name -> a function that does one forward and backward and returns the seconds of the forward, and of both."""
    rng = np.random.default_rng(0)
    x, v = (mg.tensor(rng.normal(size=SHAPE).astype("float32"), requires_grad=i == 0) for i in range(2))
    gamma, beta = (mg.tensor(np.full(SHAPE[1], value, "float32"), requires_grad=True) for value in (1, 0))
    whiten = layers.REGISTRY["decorrelated_batch_norm"].derived["stable"]
    normalize = layers.REGISTRY["batch_norm"].derived["one_line"]

    def step(forward: Callable[[], Any], inputs: list[Any]) -> Callable[[], tuple[float, float]]:
        def run() -> tuple[float, float]:
            start = time.perf_counter()
            y = forward()
            middle = time.perf_counter()
            mg.grad(y, inputs, v)
            return middle - start, time.perf_counter() - start
        return run
    found: dict[Any, Callable[[], tuple[float, float]]] = {"BN": step(lambda: normalize(x, gamma, beta, eps=1e-5), [x, gamma, beta])}
    for size in SIZES:
        found[size] = step(lambda size=size: whiten(x, eps=1e-5, group_size=size), [x])  # type: ignore[misc]
    return found


def measure(rounds: int) -> dict[Any, tuple[float, float]]:
    """Median seconds of forward, and of forward and backward."""
    runs = steps()
    times: dict[Any, list[tuple[float, float]]] = {name: [] for name in runs}
    for i in range(1 + rounds):  # the first warms up
        for name, run in runs.items():
            gc.collect()
            seconds = run()
            if i:
                times[name].append(seconds)
    return {name: (median(t[0] for t in ts), median(t[1] for t in ts)) for name, ts in times.items()}


def through_pytorch() -> dict[str, Any]:
    """PyTorch's gradient of the forward pass, dbn eqs 1-6, for `degenerate_comparison`; nothing if it is not installed."""
    try:
        import torch
    except ImportError as e:
        print(f"PyTorch is left out: {e}")
        return {}

    def gradient(x: Any, g: Any, eps: float) -> Any:
        a = torch.tensor(x, requires_grad=True)
        xc = a - a.mean(0)
        lam, d = torch.linalg.eigh(xc.T @ xc / len(a))
        return torch.autograd.grad(((xc @ d) / torch.sqrt(lam + eps)) @ d.T, a, torch.tensor(g))[0].numpy()
    return {"PyTorch through eigh": gradient}


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    mg.tune_process(options.threads)
    times = measure(options.rounds)
    whole = {size: times[size][1] for size in SIZES}
    worst = max(whole[a] / whole[b] for a in SIZES for b in SIZES if a < b)
    lines = ["# Whitening", "",
             f"Input {SHAPE}, float32, {options.threads} threads, {processor()}, Python {platform.python_version()}, NumPy {np.__version__}. "
             f"Interleaved, median of {options.rounds}.", "",
             "| | groups | forward, ms | forward + backward, ms | times batch norm | all of VGG-A, times batch norm (dbn, table A) |",
             "|---|---|---|---|---|---|"]
    for name, (forward, both) in times.items():
        label, groups = ("batch norm", "") if name == "BN" else (f"DBN, groups of {name}", f"{SHAPE[1] // name}")
        there = f"{TABLE_A[name] / TABLE_A['BN']:.1f}" if name in TABLE_A else ""
        lines.append(f"| {label} | {groups} | {1e3 * forward:.1f} | {1e3 * both:.1f} | {both / times['BN'][1]:.1f} | {there} |")
    lines += ["", f"A smaller group takes at most {worst:.2f} times as long as a larger one.", "",
              "## Where eigenvalues meet", "", "Relative error of dx against extended precision, median of 5 batches of 32 samples in 5 channels, ε = 1e-5. "
              "Ours compute in float64 inside; PyTorch in the batch's dtype.", "", as_markdown(degenerate_comparison(more=through_pytorch())), ""]
    print("\n".join(lines))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    run_command(main)
