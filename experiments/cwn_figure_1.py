"""cwn, figure 1: a GoogLeNet with plain filters, with weight normalization, and with centered weight normalization.

All three have batch norm behind each convolution, as in the document, and begin with the same random filters for each seed; CWN takes their means away.
Behind a batch norm the length of a filter changes nothing that the network computes. One learning rate for the three.

Differences are paired by seed. The document's is 0.36 points between one training each; `seeds_for` says how many would tell it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import models
from scripts.options import Options

from .images import Images
from .registry import Row, Runs, experiment
from .statistics import MOST, Interval, below, exact, mean, paired_difference, ratio, same_sign, student_t
from .training import fit

ARMS = {"plain": None, "WN": "weight_norm", "CWN": "centered_weight_norm"}
ERRORS = {"plain": 6.00, "WN": 6.01, "CWN": 5.64}  # the document's, in %
THEIR_IMAGES = 10_000  # CIFAR-10's test images


@experiment("cwn_figure_1", document="cwn, figure 1", claim="CWN has the lowest test error, 5.64 % (plain 6.00 %, WN 6.01 %), and a marginal speedup",
            arms=ARMS, datasets=("synthetic", "digits", "cifar10"), seconds=(4, 140),
            quick={"seeds": 1, "train": 100, "test": 50, "pixels": 8, "classes": 10, "width": 0.0625, "epochs": 1},
            default={"seeds": 5, "train": 1000, "test": 1000, "pixels": 12, "classes": 10, "width": 0.0625, "epochs": 6},
            full={"seeds": 10, "train": 50000, "test": 10000, "pixels": 32, "classes": 10, "width": 1.0, "epochs": 80},
            default_digits={"train": 1437, "test": 360, "pixels": 8}, full_digits={"pixels": 8}, default_cifar10={"pixels": 16})
def cwn_figure_1(arm: str, seed: int, images: Images, width: float, epochs: int) -> dict[str, Any]:
    """Training loss and test error, in %, of each epoch."""
    model = models.build("googlenet", weight=ARMS[arm], width=width, classes=images.classes, in_channels=images.channels)
    history = fit(model, images, Options(epochs=epochs, batch_size=50, lr=0.05, seed=seed))
    return {name: history[name] for name in ("loss", "error", "diverged")}


def last(runs: Runs, arm: str, name: str) -> list[float]:
    """Of the last epoch, by seed."""
    return [float(values[-1]) for values in runs.values(arm, name)]


def early(runs: Runs, arm: str) -> list[float]:
    """The mean training loss of the first half of the epochs, by seed: low where a training is fast."""
    return [float(np.mean(values[:max(1, len(values) // 2)])) for values in runs.values(arm, "loss")]


def deviation(found: Interval) -> float:
    """The standard deviation of the differences behind an interval; NaN where there is none."""
    return (found.high - found.estimate) * math.sqrt(found.n) / student_t(found.n - 1) if found.n > 1 and not found.problem else math.nan


def seeds_for(difference: float, scatter: float) -> float:
    """How many pairs of trainings would tell this difference from none: as many as make the half width t·scatter/√n of the interval as small."""
    return float(next((n for n in range(2, MOST) if student_t(n - 1) * scatter <= difference * math.sqrt(n)), math.nan))


@cwn_figure_1.table
def rows(runs: Runs) -> Iterator[Row]:
    """Test errors here are far from the document's 6 %: its network is larger, and it trained on 50,000 images for many epochs. So "agrees" asks for the sign
    of its differences. It trained each network once; of a network that errs in 6 % of 10,000 test images, the choice of these images alone makes the error
    uncertain by ± 0.47 points (95 %)."""
    for other in ("plain", "WN"):
        yield Row(f"test error, {other} − CWN (percentage points)", round(ERRORS[other] - ERRORS["CWN"], 2),
                  paired_difference(last(runs, other, "error"), last(runs, "CWN", "error")), same_sign(ERRORS[other] - ERRORS["CWN"]), headline=True)
    for arm in ARMS:
        yield Row(f"test error, {arm} (%)", ERRORS[arm], mean(last(runs, arm, "error")))
    for other in ("plain", "WN"):
        yield Row(f"training loss, mean of the first half of the epochs, CWN / {other}", None, ratio(early(runs, "CWN"), early(runs, other)), below(1.0),
                  headline=other == "plain", note="below 1: CWN is faster")
        yield Row(f"training loss of the last epoch, CWN / {other}", None, ratio(last(runs, "CWN", "loss"), last(runs, other, "loss")), below(1.0))
    difference = ERRORS["plain"] - ERRORS["CWN"]
    found = paired_difference(last(runs, "plain", "error"), last(runs, "CWN", "error"))
    yield Row("seeds that would tell 5.64 % from 6.00 %, with the deviation measured here", None,
              exact(seeds_for(difference, deviation(found)), "from the deviation"),
              note=f"of differences between two trainings with one seed; a standard deviation of {deviation(found):.2g} points here. Errors that are rarer "
              "scatter less")
    p = ERRORS["plain"] / 100
    scatter = 100 * math.sqrt(2 * p * (1 - p) / THEIR_IMAGES)
    yield Row("standard deviation of the difference of two such errors that 10,000 test images alone make (points)", None, exact(scatter),
              note="of networks that err at 6 % of them, independently of each other")


@cwn_figure_1.figure
def draw(fig: Any, runs: Runs) -> None:
    """Loss and error with the 95 % interval of their means as a band, and the paired differences."""
    fig.set_size_inches(13, 4)
    axes = fig.subplots(1, 3)
    for k, arm in enumerate(ARMS):
        for ax, name in ((axes[0], "loss"), (axes[1], "error")):
            curves = np.array(runs.values(arm, name), float)
            n, epochs = curves.shape
            at = np.arange(1, epochs + 1)
            half = student_t(n - 1) * curves.std(0, ddof=1) / math.sqrt(n) if n > 1 else np.zeros(epochs)
            ax.plot(at, curves.T, color=f"C{k}", lw=0.5, alpha=0.35)
            ax.plot(at, curves.mean(0), color=f"C{k}", lw=2, label=arm)
            ax.fill_between(at, np.maximum(curves.mean(0) - half, 0), curves.mean(0) + half, color=f"C{k}", alpha=0.2, lw=0)
    axes[0].set(title="Training loss", xlabel="epoch")
    axes[1].set(title="Test error, %", xlabel="epoch")
    axes[0].legend()
    for i, other in enumerate(("plain", "WN")):
        values = np.subtract(last(runs, other, "error"), last(runs, "CWN", "error"))
        found = paired_difference(last(runs, other, "error"), last(runs, "CWN", "error"))
        axes[2].plot([i - 0.12] * len(values), values, "o", ms=4, color="0.5", alpha=0.7, label="a seed" if not i else None)
        if math.isfinite(found.high):
            axes[2].errorbar([i], [found.estimate], [[found.estimate - found.low], [found.high - found.estimate]], fmt="o", capsize=4, color="C0",
                             label="mean, 95 %" if not i else None)
        axes[2].plot([i + 0.12], [ERRORS[other] - ERRORS["CWN"]], "D", color="C1", label="the document" if not i else None)
    axes[2].axhline(0, color="0.5", lw=1)
    axes[2].set(title="Test error, other − CWN, points", xticks=(0, 1), xlim=(-0.5, 1.5))
    axes[2].set_xticklabels(["plain − CWN", "WN − CWN"])
    axes[2].legend(fontsize=8)
