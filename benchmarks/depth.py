"""How gradients grow or shrink through networks without shortcuts, and what helps: ``python -m benchmarks.depth [--fast]``

Plain networks of 20, 44 and 110 layers with batch norm (models: plain20, plain44, plain110) on synthetic images. For one batch, the
root mean square of the loss's gradient at the output of every convolution is recorded, for four networks:

    Gaussian      He et al.'s [he2015] initial weights
    orthonormal   rows of every filter matrix orthonormal at the start
    penalty       orthonormal, then some steps of SGD with the orthonormality penalty: are the filters still orthonormal, and gradients still alike?
    modulation    orthonormal, and the gradient-magnitude modulation around every block (which is not a gradient: see layers.Modulated)

The growth per layer is the geometric mean of the ratio of neighbouring convolutions, from the last to the first. Lines are medians over
seeds, bands go from the smallest to the largest. Figures go to benchmarks/results/depth.md and depth.png.
"""

from __future__ import annotations

import argparse
import math
import platform
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import layers
import minigrad as mg
import models
from minigrad import data, nn, optim
from minigrad.command import run_command

from .overhead import processor

RESULTS = Path(__file__).parent / "results"
DEPTHS = (20, 44, 110)
KINDS = ("Gaussian", "orthonormal", "penalty", "modulation")


def network(depth: int, kind: str, seed: int, width: float) -> nn.Module:
    """A plain network, prepared as `kind` says."""
    mg.seed(seed)
    model = models.build(f"plain{depth}", width=width, modulation=1.0 if kind == "modulation" else 0.0)
    if kind != "Gaussian":
        layers.orthonormal_init(model)
    return model


def gradients(model: nn.Module, x: Any, t: Any) -> list[float]:
    """Root mean square of the gradient at the output of each convolution, first to last."""
    found: dict[int, float] = {}
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]

    def watch(i: int, conv: nn.Conv2d) -> Any:
        forward = type(conv).forward

        def watched(image: Any) -> Any:
            y = forward(conv, image)

            def note(g: Any) -> None:
                found[i] = float(np.sqrt(np.mean(np.square(g.numpy(), dtype="float64"))))
            y.register_hook(note)
            return y
        return watched
    for i, conv in enumerate(convolutions):
        object.__setattr__(conv, "forward", watch(i, conv))
    mg.cross_entropy(model(x), t).backward()
    for conv in convolutions:
        object.__delattr__(conv, "forward")
    return [found[i] for i in range(len(convolutions))]


def train_with_penalty(model: nn.Module, images: Any, labels: Any, steps: int) -> float:
    """Some steps of SGD with the penalty; returns the mean distance of the filter matrices from orthonormality, ‖WWᵀ − I‖/√n.

    The gradient is clipped at norm 1: through 110 layers it is millions of times too large, and the first step would be the last.
    """
    penalty = layers.REGISTRY["orthonormality_penalty"].form("derived")
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step, (x, t) in enumerate(data.batches(images, labels, 32, shuffle=True, seed=0)):
        if step == steps:
            break
        loss = mg.cross_entropy(model(x), t)
        for w in weights:
            loss = loss + 0.1 * penalty(mg.reshape(w, (w.shape[0], -1)))
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    optimizer.zero_grad()
    return float(np.mean([math.sqrt(penalty(mg.reshape(w, (w.shape[0], -1))).item() / min(w.shape[0], w.size // w.shape[0])) for w in weights]))


def measure(depth: int, seeds: int, width: float, size: int, steps: int) -> dict[str, np.ndarray]:
    """kind -> gradients (seeds, convolutions)."""
    images, labels = data.synthetic(32 * (steps + 1), size=size, seed=3)
    x, t = mg.tensor(images[:32]), mg.tensor(labels[:32])
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for seed in range(seeds):
        for kind in KINDS:
            model = network(depth, kind, seed, width)
            if kind == "penalty":
                train_with_penalty(model, images[32:], labels[32:], steps)
            found[kind].append(gradients(model, x, t))
    return {kind: np.array(values) for kind, values in found.items()}


def growth(values: np.ndarray) -> float:
    """Geometric mean factor per layer, from the last convolution to the first; median over seeds."""
    return median(float((row[0] / row[-1]) ** (1 / (len(row) - 1))) for row in values)


def figure(found: dict[int, dict[str, np.ndarray]], path: Path) -> None:
    """Gradient magnitude against depth, relative to the last layer."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    with plt.style.context(str(Path(mg.__file__).with_name("minigrad.mplstyle"))):
        fig, axes = plt.subplots(1, len(found), figsize=(12, 4), sharey=True, layout="constrained")
        for ax, (depth, kinds) in zip(axes, found.items(), strict=True):
            for i, (kind, values) in enumerate(kinds.items()):
                relative = values / values[:, -1:]
                number = np.arange(1, values.shape[1] + 1)
                ax.semilogy(number, np.median(relative, 0), color=f"C{i}", label=kind)
                ax.fill_between(number, relative.min(0), relative.max(0), color=f"C{i}", alpha=0.2, lw=0)
            ax.set(title=f"{depth} layers", xlabel="convolution, first to last")
        axes[0].set_ylabel("gradient, relative to the last layer")
        axes[-1].legend(loc="upper right")
        fig.savefig(path, dpi=150)
        plt.close(fig)


def main(arguments: list[str] | None = None) -> dict[int, dict[str, float]]:
    """Measure, print, draw and write; returns the growth per layer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.depth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="20 layers, one seed, small images, nothing written")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    mg.tune_process()
    depths, seeds, width, size, steps = ((20,), 1, 0.25, 8, 2) if options.fast else (DEPTHS, options.seeds, 0.5, 16, 20)
    found = {depth: measure(depth, seeds, width, size, steps) for depth in depths}
    rates = {depth: {kind: growth(values) for kind, values in kinds.items()} for depth, kinds in found.items()}
    lines = ["# Gradients through plain networks", "",
             f"Batch norm, width {width}, images 3 x {size} x {size}, batch 32, float32; {processor()}, Python {platform.python_version()}. "
             f"Ratio of the gradient's root mean square at the first convolution to that at the last, and growth per layer (median of {seeds} seeds); "
             f"for the penalty after {steps} steps of SGD with clipped gradients.", "",
             "| layers | " + " | ".join(KINDS) + " |", "|---|" + "---|" * len(KINDS)]
    for depth, kinds in found.items():
        cells = [f"{float(np.median(v[:, 0] / v[:, -1])):.3g} ({rates[depth][kind]:.3f} per layer)" for kind, v in kinds.items()]
        lines.append(f"| {depth} | {' | '.join(cells)} |")
    lines += ["", "![Gradient magnitude against depth](depth.png)", ""]
    print("\n".join(lines))
    if not options.fast:
        (RESULTS / "depth.md").write_text("\n".join(lines), encoding="utf-8")
        figure(found, RESULTS / "depth.png")
    return rates


if __name__ == "__main__":
    run_command(main)
