"""bn-jacobian's paper: networks without shortcuts of 44 and 110 layers, trained with orthonormality and modulation.

The supplement that we have proves that batch norm is a quasi-isometry; the paper that it belongs to claims what follows for training: plain
networks with batch norm stay trainable at a hundred layers when filters are orthonormal, are kept so by a penalty, and the magnitudes of gradients
are modulated from block to block. Here the four are switched on one after the other:

    Gaussian        He et al.'s [he2015] weights at the start
    orthonormal     rows of every filter matrix orthonormal at the start
    + penalty       and the orthonormality penalty on all filters
    + modulation    and the gradient-magnitude modulation around every block

The networks are those of the command line: python -m scripts.train --model plain110 --init orthonormal --penalty 1e-3 --modulation 1.

Each of the twelve tries the same three learning rates, with a seed that is none of the results', and is trained with the one whose last epoch had the
lowest loss: a short trial, which a good rate that starts slowly can lose.

A network "trains" where the training loss of its last epoch is below chance, ln 10, by a margin of 0.05. "Growth per layer" is that of the
gradient's root mean square at the outputs of convolutions, from the last to the first, before the first step (benchmarks/depth.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import layers
import minigrad as mg
from benchmarks.depth import gradients
from minigrad import nn
from scripts.options import Options
from scripts.trainer import build_model

from .images import Images
from .registry import Row, Runs, experiment
from .statistics import Interval, above, below, mean, paired_difference, share
from .training import evaluate, fit

KINDS: dict[str, dict[str, Any]] = {
    "Gaussian": {}, "orthonormal": {"init": "orthonormal"}, "+ penalty": {"init": "orthonormal", "penalty": 1e-3},
    "+ modulation": {"init": "orthonormal", "penalty": 1e-3, "modulation": 1.0}}
DEPTHS = (20, 44, 110)
ARMS = {f"{kind}, {depth} layers": {"kind": kind, "depth": depth, **options} for depth in DEPTHS for kind, options in KINDS.items()}
CHANCE, MARGIN = math.log(10), 0.05
RATES, TRIAL = (0.05, 0.2, 0.8), 1000  # learning rates that are tried, and the seed


def options_of(arm: str, seed: int, lr: float, batch_size: int, epochs: int) -> Options:
    """The command line's options for this arm."""
    more = {k: v for k, v in ARMS[arm].items() if k not in ("kind", "depth")}
    return Options(model=f"plain{ARMS[arm]['depth']}", width=0.25, lr=lr, batch_size=batch_size, epochs=epochs, seed=seed, clip=1.0, weight_decay=0.0, **more)


@experiment("deep_plain", document="bn-jacobian, title (the paper)", claim="with orthonormality and modulation, plain networks of 44 and 110 layers train",
            arms=ARMS, datasets=("digits", "synthetic", "cifar10"), seconds=(4, 500),
            quick={"arms": [a for a, o in ARMS.items() if o["depth"] == 20], "seeds": 1, "train": 128, "test": 50, "epochs": 1, "trial": 1, "batch_size": 32},
            default={"seeds": 8, "train": 1437, "test": 360, "epochs": 3, "trial": 1, "batch_size": 64},
            full={"seeds": 5, "train": 50000, "test": 10000, "epochs": 100, "trial": 10, "batch_size": 128})
def deep_plain(arm: str, seed: int, images: Images, epochs: int, trial: int, batch_size: int) -> dict[str, Any]:
    """Loss of each epoch, test error in %, gradients at the start, how far the filters are from orthonormal at the end, and the learning rates tried."""
    tried = rates_tried(arm, images, trial, batch_size)
    options = options_of(arm, seed, min(tried, key=lambda lr: tried[lr]), batch_size, epochs)
    mg.seed(seed)
    model = build_model(options, images.channels, images.pixels)
    x, t = next(images.batches(batch_size, seed=seed, epoch=epochs))  # of an epoch that is not trained
    state = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    before = gradients(model, x, t)
    model.load_state_dict(state)  # running statistics, too, as they were
    for p in model.parameters():
        p.grad = None
    history = fitted(model, images, options)
    found = evaluate(model, *images.test)
    return {"loss": history["loss"], "diverged": history["diverged"], "error": found["error"], "gradients": before, "distance": distance(model),
            "lr": options.lr, "tried": {f"{lr:g}": loss for lr, loss in tried.items()}}


_tried: dict[Any, dict[float, float]] = {}  # of this process: five seeds need one trial


def rates_tried(arm: str, images: Images, epochs: int, batch_size: int) -> dict[float, float]:
    """Learning rate -> loss of the last epoch, in a short training with the trial's own seed."""
    key = arm, images.name, images.train[0].shape, epochs, batch_size
    if key not in _tried:
        _tried[key] = {}
        for lr in RATES:
            options = options_of(arm, TRIAL, lr, batch_size, epochs)
            mg.seed(TRIAL)
            _tried[key][lr] = fitted(build_model(options, images.channels, images.pixels), images, options)["loss"][-1]
    return _tried[key]


def fitted(model: nn.Module, images: Images, options: Options) -> dict[str, Any]:
    """The training, with its penalty."""
    return fit(model, images, options, watch=lambda step, model, x, t: add_penalty(model, options.penalty))


def add_penalty(model: nn.Module, weight: float) -> None:
    """Add the gradient of the trainer's orthonormality penalty to that of the loss, behind the backward pass."""
    penalty = layers.REGISTRY["orthonormality_penalty"].form("derived")
    for p in model.parameters() if weight else ():
        if p.ndim > 1:
            (found,) = mg.grad(weight * penalty(mg.reshape(p, (p.shape[0], -1))), [p])
            p.grad = p.grad + found


def distance(model: nn.Module) -> float:
    """Of filter matrices from orthonormal ones, ‖WWᵀ − I‖/√n on the smaller side, the mean of all."""
    penalty = layers.REGISTRY["orthonormality_penalty"].form("derived")
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    return float(np.mean([math.sqrt(penalty(mg.reshape(w, (w.shape[0], -1))).item() / min(w.shape[0], w.size // w.shape[0])) for w in weights]))


def growth(found: list[float]) -> float:
    """Factor per layer, from the last convolution to the first."""
    return float((found[0] / found[-1]) ** (1 / (len(found) - 1)))


def trains(run: Any) -> bool:
    """Is its loss below chance?"""
    return bool(run.result["loss"][-1] < CHANCE - MARGIN)


@deep_plain.table
def rows(runs: Runs) -> Iterator[Row]:
    """The document has no number for networks of this size: it says that they train, so the number is 1, and "agrees" means that more than half of
    all seeds do. Loss is the mean of the last epoch, without the penalty; chance is 2.303."""
    done = {run.settings["options"]["depth"]: None for run in runs}
    for depth in done:
        for kind in KINDS:
            of = runs.of(f"{kind}, {depth} layers")
            yield Row(f"share of seeds that train, {depth} layers, {kind}", 1.0 if kind == "+ modulation" else None, share(sum(map(trains, of)), len(of)),
                      above(0.5) if kind == "+ modulation" else None, headline=depth > 20 and kind == "+ modulation",
                      note=f"learning rate {of[0].result['lr']:g}; loss {finite([r.result['loss'][-1] for r in of])}, "
                           f"test error {finite([r.result['error'] for r in of])} %")
    for depth in done:
        yield Row(f"gradient growth per layer, {depth} layers, + modulation", 1.0, growths(runs, "+ modulation", depth), below(1.05), headline=depth == 110)
        for kind in ("Gaussian", "orthonormal"):
            yield Row(f"gradient growth per layer, {depth} layers, {kind}", None, growths(runs, kind, depth))
    for depth in done:
        pair = [[min(v[-1], 10.0) for v in runs.values(f"{kind}, {depth} layers", "loss")] for kind in ("Gaussian", "+ modulation")]
        trained = any(trains(r) for kind in ("Gaussian", "+ modulation") for r in runs.of(f"{kind}, {depth} layers"))
        yield Row(f"loss, Gaussian − all three, {depth} layers", None, paired_difference(*pair), above(0.0) if trained else None,
                  note="above 0: the three help" if trained else "no verdict: none of them has left chance, and a difference there is none of training")
    for kind in ("orthonormal", "+ penalty"):
        yield Row(f"‖WWᵀ − I‖/√n at the end, {max(done)} layers, {kind}", None, mean(runs.values(f"{kind}, {max(done)} layers", "distance")))


def growths(runs: Runs, kind: str, depth: int) -> Interval:
    """The mean growth of an arm."""
    return mean([growth(v) for v in runs.values(f"{kind}, {depth} layers", "gradients")])


def finite(values: list[float]) -> str:
    """Least to largest."""
    return f"{min(values):.3g} to {max(values):.3g}"


@deep_plain.figure
def draw(fig: Any, runs: Runs) -> None:
    """A column for each depth: loss by epoch, and gradients by layer."""
    depths = list(dict.fromkeys(run.settings["options"]["depth"] for run in runs))
    fig.set_size_inches(4.2 * max(len(depths), 2), 7)
    for column, depth in zip(fig.subplots(2, len(depths), sharey="row", squeeze=False).T, depths, strict=True):
        for k, kind in enumerate(KINDS):
            arm = f"{kind}, {depth} layers"
            losses = np.minimum(np.array(runs.values(arm, "loss"), float), 10)
            epochs = np.arange(1, losses.shape[1] + 1)
            column[0].plot(epochs, losses.mean(0), color=f"C{k}", marker="o", ms=3, lw=2, label=kind)
            for line in losses:
                column[0].plot(epochs, line, color=f"C{k}", lw=0.6, alpha=0.5)
            values = np.array(runs.values(arm, "gradients"))
            relative = np.median(values / values[:, -1:], 0)
            column[1].semilogy(np.arange(1, len(relative) + 1), relative, color=f"C{k}", label=kind)
        column[0].axhline(CHANCE, color="0.5", ls=":")
        column[0].set(title=f"{depth} layers", xlabel="epoch", xticks=epochs[:: max(1, len(epochs) // 6)])
        column[1].set(xlabel="convolution, first to last", xticks=range(0, values.shape[1] + 1, 5 if depth < 40 else 10 if depth < 60 else 20))
    fig.axes[0].set_ylabel("training loss")
    fig.axes[len(depths)].set_ylabel("gradient, relative to the last layer")
    for ax in fig.axes:
        if ax.get_ylabel().startswith("training"):
            ax.annotate("chance", (1, CHANCE), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.4", fontsize=8)
    fig.axes[-1].legend(fontsize=8)
