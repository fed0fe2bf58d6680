"""bn-lecture, "Benefits" and "Internal covariate shift": five small experiments with and without batch norm.

    learning rate      a plain network of eight layers is trained with seven learning rates: which are the largest that still learn?
    initialization     the same with the initial weights multiplied by five factors: with how many does it learn?
    regularization     a network that sees few images, in three: without norm; with batch norm whose statistics are of the whole batch of 64; and of
                       parts of 16 of the same batch, which makes them noisier and changes nothing else. How far is the test loss from the training loss?
    saturation         the same network with tanh and with sigmoid, and initial weights five times as large: which share of activations lies where the
                       slope is below a tenth of its largest?
    covariate shift    how far do mean and scale of what reaches the fourth convolution move between looks, in its standard deviations?

"Learns" means a mean loss of the last epoch below two thirds of chance, 2/3 ln 10. Each measures what it says and no more: a smaller shift, say,
is no proof that the shift is why batch norm trains faster (Santurkar et al. [santurkar2018] found shift without harm).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import minigrad as mg
import models
from minigrad import nn
from scripts.options import Options

from .images import Images
from .registry import Row, Runs, experiment
from .statistics import above, below, mean, paired_difference, ratio
from .training import evaluate, fit

NORMS = {"with BN": "batch_norm", "without": "none"}
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SCALES = (0.03, 0.3, 1.0, 3.0, 30.0)
ARMS: dict[str, dict[str, Any]] = {
    **{f"learning rate {lr:g}, {how}": {"part": "learning rate", "norm": norm, "lr": lr} for lr in RATES for how, norm in NORMS.items()},
    **{f"initial weights × {s:g}, {how}": {"part": "initialization", "norm": norm, "scale": s} for s in SCALES for how, norm in NORMS.items()},
    **{f"regularization, {how}": {"part": "regularization", "norm": norm, "parts": parts}
       for how, norm, parts in (("without", "none", 1), ("with BN", "batch_norm", 1), ("with BN, statistics of 16", "batch_norm", 4))},
    **{f"{activation}, {how}": {"part": "saturation", "norm": norm, "activation": activation, "scale": 5.0}
       for activation in ("tanh", "sigmoid") for how, norm in NORMS.items()},
    **{f"covariate shift, {how}": {"part": "shift", "norm": norm} for how, norm in NORMS.items()}}
CHANCE = math.log(10)
LEARNT = 2 / 3 * CHANCE


class InParts(nn.Module):
    """A network that sees a batch in parts while it trains: the statistics of its norms are those of a part."""

    def __init__(self, inner: nn.Module, parts: int) -> None:
        super().__init__()
        self.inner, self.parts = inner, parts

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> scores (N, classes)."""
        if not self.training or self.parts == 1:
            return self.inner(x)
        return mg.concatenate([self.inner(part) for part in mg.split(x, self.parts)])


@experiment("bn_benefits", document="bn-lecture, Benefits; Internal Covariate Shift",
            claim="higher learning rates, less care for initial weights, some regularization, less saturation; and the shift of activations is reduced",
            arms=ARMS, datasets=("digits", "synthetic", "cifar10"), seconds=(7, 120),
            quick={"seeds": 1, "train": 256, "test": 50, "epochs": 1, "few": 128},
            default={"seeds": 5, "train": 1024, "test": 360, "epochs": 4, "few": 128},
            full={"seeds": 20, "train": 1437, "test": 360, "epochs": 30, "few": 256})
def bn_benefits(arm: str, seed: int, images: Images, epochs: int, few: int) -> dict[str, Any]:
    """Losses of each epoch and the test error, and what the arm's part measures."""
    choice = ARMS[arm]
    part, activation = choice["part"], choice.get("activation", "relu")
    options = Options(lr=choice.get("lr", 0.1 if part == "saturation" else 0.03), epochs=epochs, seed=seed, weight_decay=0.0, lr_schedule="constant")
    mg.seed(seed)
    model = models.build("plain", depth=8, width=0.5, norm=choice["norm"], activation=activation, in_channels=images.channels)
    with mg.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight[...] = module.weight * choice.get("scale", 1.0)
    found: dict[str, Any] = {}
    if part == "regularization":
        model = InParts(model, choice["parts"])
        images = Images((images.train[0][:few], images.train[1][:few]), images.test, images.name)
        options = Options(lr=0.03, epochs=10 * epochs, seed=seed, weight_decay=0.0, lr_schedule="constant")
    watch: Any = None
    if part == "saturation":
        found["saturated"] = []
        watch = lambda step, model, x, t: found["saturated"].append(saturated(model, x)) if step % 2 == 0 else None
    if part == "shift":
        looks: list[tuple[Any, Any]] = []
        watch = lambda step, model, x, t: looks.append(moments(model, images)) if step % 2 == 0 else None
    history = fit(model, images, options, watch=watch)
    if part == "shift":
        found["shift"] = [moved(before, after) for before, after in pairwise(looks)]
    if part == "regularization":
        found["train_loss"] = evaluate(model, *images.train)["loss"]
    return {"loss": history["loss"], "test_loss": history["test_loss"][-1], "error": history["error"][-1], "diverged": history["diverged"], **found}


def outputs(model: nn.Module, x: Any, kinds: tuple[type, ...]) -> list[Any]:
    """What leaves each module of these kinds, host arrays, while the network computes as in training; running statistics stay."""
    found: list[Any] = []
    state = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    chosen = [m for m in model.modules() if isinstance(m, kinds)]
    for module in chosen:
        def observed(x: Any, module: nn.Module = module) -> Any:
            y = type(module).forward(module, x)  # type: ignore[attr-defined]
            found.append(y.numpy())
            return y
        object.__setattr__(module, "forward", observed)
    try:
        with mg.no_grad():
            model(x)
    finally:
        for module in chosen:
            object.__delattr__(module, "forward")
        model.load_state_dict(state)
    return found


def saturated(model: nn.Module, x: Any) -> float:
    """The share of activations at which the slope is below a tenth of its largest: tanh'(z) = 1 − y², σ'(z) = y(1 − y)."""
    ys = outputs(model, x, (nn.Tanh, nn.Sigmoid))
    tanh = any(isinstance(m, nn.Tanh) for m in model.modules())
    slopes = [1 - y**2 if tanh else 4 * y * (1 - y) for y in ys]
    return float(np.mean([np.mean(s < 0.1) for s in slopes]))


def moments(model: nn.Module, images: Images) -> tuple[Any, Any]:
    """Mean and standard deviation of each channel that reaches the fourth convolution, over the same 64 images at each look."""
    y = outputs(model, mg.tensor(images.train[0][:64]), (nn.ReLU,))[2]
    return y.mean((0, 2, 3), dtype="float64"), y.std((0, 2, 3), dtype="float64")


def moved(before: tuple[Any, Any], after: tuple[Any, Any]) -> float:
    """By how many of its standard deviations a channel's mean moved, and by what factor its scale, as a logarithm: the root of the mean square."""
    alive = (before[1] > 1e-6) & (after[1] > 1e-6)
    if not alive.any():
        return 0.0
    shift = (after[0] - before[0])[alive] / before[1][alive]
    scale = np.log(after[1][alive] / before[1][alive])
    return float(np.sqrt(np.mean(shift**2 + scale**2)))


def learns(run: Any) -> bool:
    """Is the last epoch's loss below two thirds of chance?"""
    return bool(run.result["loss"][-1] < LEARNT)


def largest_rate(runs: Runs, how: str) -> list[float]:
    """By seed: the largest rate with which it learns; half of the smallest where there is none."""
    by_rate = {lr: runs.of(f"learning rate {lr:g}, {how}") for lr in RATES}
    seeds = range(len(by_rate[RATES[0]]))
    return [max([lr for lr in RATES if learns(by_rate[lr][s])], default=RATES[0] / 2) for s in seeds]


def scales_that_learn(runs: Runs, how: str) -> list[float]:
    """By seed: with how many factors of the initial weights it learns."""
    by_scale = {s: runs.of(f"initial weights × {s:g}, {how}") for s in SCALES}
    return [float(sum(learns(by_scale[s][seed]) for s in SCALES)) for seed in range(len(by_scale[SCALES[0]]))]


def gaps(runs: Runs, how: str) -> list[float]:
    """By seed: test loss minus training loss, both with running statistics."""
    return [run.result["test_loss"] - run.result["train_loss"] for run in runs.of(f"regularization, {how}")]


def shares(runs: Runs, activation: str, how: str) -> list[float]:
    """By seed: the mean share of saturated activations over the looks."""
    return [float(np.mean(v)) for v in runs.values(f"{activation}, {how}", "saturated")]


@bn_benefits.table
def rows(runs: Runs) -> Iterator[Row]:
    """The lecture names directions and no numbers. Ratios and differences are paired by seed."""
    rates = {how: largest_rate(runs, how) for how in NORMS}
    yield Row("largest learning rate that learns, with BN / without", None, ratio(rates["with BN"], rates["without"]), above(1.0), headline=True,
              note=f"geometric means {geometric(rates['with BN'])} and {geometric(rates['without'])}, of the rates {', '.join(f'{r:g}' for r in RATES)}")
    counts = {how: scales_that_learn(runs, how) for how in NORMS}
    yield Row(f"of {len(SCALES)} scales of the initial weights, how many more learn with BN", None, paired_difference(counts["with BN"], counts["without"]),
              above(0.0), headline=True, note=f"{np.mean(counts['with BN']):.1f} with BN, {np.mean(counts['without']):.1f} without, of the factors "
              f"{', '.join(f'{s:g}' for s in SCALES)}")
    yield Row("regularization: gap of test and training loss, without − with BN", None,
              paired_difference(gaps(runs, "without"), gaps(runs, "with BN")), above(0.0), headline=True, note="above 0: batch norm narrows the gap")
    yield Row("the same, statistics of 64 − of 16: noisier statistics alone", None,
              paired_difference(gaps(runs, "with BN"), gaps(runs, "with BN, statistics of 16")), above(0.0),
              note="above 0: the noise of small batches narrows it, too")
    for activation in ("tanh", "sigmoid"):
        pair = shares(runs, activation, "without"), shares(runs, activation, "with BN")
        yield Row(f"saturation with {activation}: share of activations, without − with BN", None, paired_difference(*pair), above(0.0),
                  headline=activation == "tanh", note=f"{np.mean(pair[0]):.1%} without, {np.mean(pair[1]):.1%} with; test error "
                       f"{np.mean(runs.values(f'{activation}, without', 'error')):.0f} % and {np.mean(runs.values(f'{activation}, with BN', 'error')):.0f} %")
    moves = [[float(np.mean(v)) for v in runs.values(f"covariate shift, {how}", "shift")] for how in ("with BN", "without")]
    yield Row("covariate shift between looks, with BN / without", None, ratio(*moves), below(1.0), headline=True,
              note="what reaches the fourth convolution, behind norm and ReLU; both networks with learning rate 0.03")
    yield Row("covariate shift between looks, with BN, in standard deviations", None, mean(moves[0]))


def geometric(values: list[float]) -> str:
    """The geometric mean, short."""
    return f"{math.exp(float(np.mean(np.log(values)))):.2g}"


@bn_benefits.figure
def draw(fig: Any, runs: Runs) -> None:
    """A panel for each of the five."""
    fig.set_size_inches(14, 7.5)
    axes = fig.subplots(2, 3).ravel()
    for k, how in enumerate(NORMS):
        for ax, values, pattern, what in ((axes[0], RATES, "learning rate {:g}, {}", "learning rate"),
                                          (axes[1], SCALES, "initial weights × {:g}, {}", "initial weights, factor")):
            losses = np.minimum(np.array([[r.result["loss"][-1] for r in runs.of(pattern.format(v, how))] for v in values], float), 4 * CHANCE)
            ax.plot(values, losses.mean(1), color=f"C{k}", marker="o", ms=4, lw=2, label=how)
            ax.plot(values, losses, color=f"C{k}", lw=0.5, alpha=0.5)
            ax.set(xscale="log", xlabel=what, ylabel="loss of the last epoch", ylim=(0, 1.6 * CHANCE))
        moves = np.array(runs.values(f"covariate shift, {how}", "shift"), float)
        axes[5].plot(2 * np.arange(1, moves.shape[1] + 1), moves.mean(0), color=f"C{k}", lw=2, label=how)
        axes[5].plot(2 * np.arange(1, moves.shape[1] + 1), moves.T, color=f"C{k}", lw=0.5, alpha=0.5)
        for activation, ax in (("tanh", axes[3]), ("sigmoid", axes[4])):
            found = np.array(runs.values(f"{activation}, {how}", "saturated"), float)
            ax.plot(2 * np.arange(found.shape[1]), found.mean(0), color=f"C{k}", lw=2, label=how)
            ax.plot(2 * np.arange(found.shape[1]), found.T, color=f"C{k}", lw=0.5, alpha=0.5)
            ax.set(title=f"Saturation, {activation}", xlabel="step", ylabel="share of activations", ylim=(-0.02, 1.02))
    for ax in axes[:2]:
        ax.axhline(CHANCE, color="0.5", ls=":")
        ax.annotate("chance", (1, CHANCE), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.4", fontsize=8)
    kinds = ("without", "with BN", "with BN, statistics of 16")
    for i, how in enumerate(kinds):
        axes[2].plot([i] * len(gaps(runs, how)), gaps(runs, how), "o", ms=4, alpha=0.6, color=f"C{(1, 0, 2)[i]}")
        axes[2].plot([i - 0.2, i + 0.2], [np.mean(gaps(runs, how))] * 2, color=f"C{(1, 0, 2)[i]}", lw=2)
    axes[2].set(title="Regularization", xticks=range(3), xlim=(-0.5, 2.5), ylabel="test loss − training loss")
    axes[2].set_xticklabels(["without", "with BN", "with BN,\nstatistics of 16"])
    axes[0].set(title="Learning rate")
    axes[1].set(title="Initial weights")
    axes[5].set(title="Covariate shift", xlabel="step", ylabel="per look, in standard deviations", yscale="log")
    axes[0].legend(loc="upper left")
