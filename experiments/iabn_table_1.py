"""inplace-abn, table 1: a ResNeXt is trained with ReLU or with leaky ReLU, and tested with both.

In-place ABN needs an activation that can be inverted, so a leaky ReLU stands where networks have a ReLU. The table asks whether that costs
accuracy. Here a reduced ResNeXt for small images is trained three times from each seed: with batch norm and ReLU, with batch norm and leaky ReLU,
and with in-place ABN and the same leaky ReLU; and each is tested in the table's three ways, in the table's proportions:

    the table              here, for images of 16 pixels
    trained on 224²        random crops of 14 pixels, mirrored or not (digits are not mirrored)
    224² centre            the middle 14 pixels
    224² 10-crops          middle, corners and their mirror images, probabilities averaged
    320² centre            images enlarged to 23 pixels, of which the middle 20
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import minigrad as mg
import models
from layers.batch.inplace_abn import away_from_zero
from minigrad import nn
from scripts.evaluate import Views, evaluated
from scripts.options import Options

from .images import Images
from .registry import Row, Runs, experiment
from .statistics import Band, mean, near, paired_difference
from .training import fit

SLOPE = 0.01  # the package's own default
ARMS: dict[str, dict[str, Any]] = {"ReLU": {"norm": "batch_norm", "slope": 0.0}, "leaky ReLU": {"norm": "batch_norm", "slope": SLOPE},
                                   "in-place ABN": {"norm": "inplace_abn", "slope": SLOPE}}
TESTED = ("ReLU", "leaky ReLU")
WAYS = ("centre", "10 crops", "larger")
# (trained, tested) -> top-1 and top-5 in %, for each way
TABLE = {("ReLU", "ReLU"): ((77.74, 93.86), (79.21, 94.67), (79.17, 94.67)), ("ReLU", "leaky ReLU"): ((76.88, 93.42), (78.74, 94.46), (78.37, 94.25)),
         ("leaky ReLU", "leaky ReLU"): ((77.04, 93.50), (78.72, 94.47), (77.92, 94.28)),
         ("leaky ReLU", "ReLU"): ((76.81, 93.53), (78.46, 94.38), (77.84, 94.20))}


class Crops(Images):
    """Training images that are larger than the test images: each epoch sees a random part of each, of their size."""

    def batches(self, batch_size: int, *, seed: int, epoch: int, augment: Any = None) -> Iterator[tuple[Any, Any]]:
        """Batches of random crops, mirrored with probability 1/2 where that keeps the class."""
        size, rng = self.test[0].shape[-1], np.random.default_rng([30, seed, epoch])
        for x, t in super().batches(batch_size, seed=seed, epoch=epoch):
            windows = np.lib.stride_tricks.sliding_window_view(x.numpy(), (size, size), (2, 3))       # (N, C, places, places, size, size)
            down, right = rng.integers(0, windows.shape[2], (2, len(windows)))
            crops = windows[np.arange(len(windows)), :, down, right].copy()
            mirrored = rng.random(len(crops)) < (0.0 if self.name == "digits" else 0.5)
            crops[mirrored] = crops[mirrored, ..., ::-1]
            yield mg.tensor(crops), t


def ways(pixels: int) -> dict[str, Views]:
    """The three ways to test, for images of this many pixels: the table's 224 of 256, and 320 of its 366."""
    crop = pixels * 7 // 8
    return {"centre": Views(crop), "10 crops": Views(crop, True), "larger": Views(crop * 10 // 7, enlarge=pixels * 10 // 7)}


def network(norm: str, slope: float, images: Images, width: float) -> nn.Module:
    """The reduced ResNeXt."""
    return models.build("resnext", depth=11, cardinality=4, base_width=16, norm=norm, slope=slope, width=width, classes=images.classes,
                        in_channels=images.channels)


def tested_with(activation: str, model: nn.Module, norm: str, images: Images, width: float) -> nn.Module:
    """The trained network, with this activation. In-place ABN cannot invert a ReLU, so then it is tested as batch norm and ReLU: the same function."""
    if activation == "leaky ReLU":
        found = network(norm, SLOPE, images, width)
        found.load_state_dict(model.state_dict())
        return found
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    if norm == "inplace_abn":
        for name, module in model.named_modules():
            if hasattr(module, "running_var"):
                with mg.no_grad():
                    state[f"{name}.weight"] = away_from_zero(mg.tensor(state[f"{name}.weight"])).numpy()
    found = network("batch_norm", 0.0, images, width)
    found.load_state_dict(state)
    return found


@experiment("iabn_table_1", document="inplace-abn, table 1", claim="a network trained with ReLU or leaky ReLU is at most a point worse with the other",
            arms=ARMS, datasets=("synthetic", "digits", "cifar10"), seconds=(4, 110),
            quick={"seeds": 1, "train": 128, "test": 60, "pixels": 16, "classes": 20, "width": 0.125, "epochs": 1},
            default={"seeds": 5, "train": 1000, "test": 1000, "pixels": 16, "classes": 20, "width": 0.125, "epochs": 6},
            full={"seeds": 10, "train": 50000, "test": 10000, "pixels": 32, "classes": 10, "width": 1.0, "epochs": 100},
            quick_digits={"pixels": 8, "classes": 10}, default_digits={"train": 1437, "test": 360, "pixels": 8, "classes": 10},
            full_digits={"pixels": 8}, quick_cifar10={"classes": 10}, default_cifar10={"classes": 10})
def iabn_table_1(arm: str, seed: int, images: Images, width: float, epochs: int) -> dict[str, Any]:
    """Training loss of each epoch, and top-1 and top-5 in % for each activation and way to test."""
    options = ARMS[arm]
    x, t = images.test
    centre = next(ways(images.pixels)["centre"](x))
    model = network(options["norm"], options["slope"], images, width)
    history = fit(model, Crops(images.train, (centre, t), images.name), Options(epochs=epochs, batch_size=50, lr=0.1, seed=seed))
    found: dict[str, Any] = {"loss": history["loss"], "diverged": history["diverged"]}
    for activation in TESTED:
        other = tested_with(activation, model, options["norm"], images, width)
        for way, views in ways(images.pixels).items():
            result = evaluated(other, x, t, views)
            found[f"{activation}, {way}"] = [100 * result.top1, 100 * result.top5]
    return found


def accuracies(runs: Runs, trained: str, tested: str, way: str, top: int) -> list[float]:
    """In %, by seed; top 1 or 5."""
    return [float(v[top // 5]) for v in runs.values(trained, f"{tested}, {way}")]


@iabn_table_1.table
def rows(runs: Runs) -> Iterator[Row]:
    """The document trained each network once, so differences below its "single point" are what it can tell: "agrees" means no more than a point apart from
    its difference. Its images are ImageNet's, of 1000 classes, and its ResNeXt has 101 layers; only differences can be compared. Exchanged activations are
    compared in one and the same trained network, and networks with the same seed and batches."""
    for trained in TESTED:
        other = TESTED[1 - TESTED.index(trained)]
        for i, way in enumerate(WAYS):
            for top in (1, 5):
                theirs = TABLE[trained, other][i][top // 5] - TABLE[trained, trained][i][top // 5]
                yield Row(f"top-{top}, trained with {trained}: tested with {other} − with its own, {way} (points)", round(theirs, 2),
                          paired_difference(accuracies(runs, trained, other, way, top), accuracies(runs, trained, trained, way, top)),
                          near(theirs, absolute=1.0), headline=way == "centre" and top == 1)
    for i, way in enumerate(WAYS):
        theirs = TABLE["leaky ReLU", "leaky ReLU"][i][0] - TABLE["ReLU", "ReLU"][i][0]
        yield Row(f"top-1, leaky ReLU − ReLU, each trained and tested with it, {way} (points)", round(theirs, 2),
                  paired_difference(accuracies(runs, "leaky ReLU", "leaky ReLU", way, 1), accuracies(runs, "ReLU", "ReLU", way, 1)), near(theirs, absolute=1.0),
                  headline=way == "centre")
    same = Band(-1.0, 1.0, "within ± 1 point")
    yield Row("top-1, in-place ABN − batch norm, both with leaky ReLU, centre (points)", None,
              paired_difference(accuracies(runs, "in-place ABN", "leaky ReLU", "centre", 1), accuracies(runs, "leaky ReLU", "leaky ReLU", "centre", 1)), same,
              headline=True, note="one function and one gradient, up to rounding, which a training amplifies")
    yield Row("top-1, in-place ABN: tested with ReLU − with its own, centre (points)", None,
              paired_difference(accuracies(runs, "in-place ABN", "ReLU", "centre", 1), accuracies(runs, "in-place ABN", "leaky ReLU", "centre", 1)), same)
    for trained in ARMS:
        own = "ReLU" if trained == "ReLU" else "leaky ReLU"
        for way in WAYS:
            theirs = f", the document's {TABLE[own, own][WAYS.index(way)][0]} on ImageNet" if trained != "in-place ABN" else ""
            yield Row(f"top-1 of {trained}, {way} (%)", None, mean(accuracies(runs, trained, own, way, 1)),
                      note=f"top-5 {np.mean(accuracies(runs, trained, own, way, 5)):.1f} %{theirs}")


@iabn_table_1.figure
def draw(fig: Any, runs: Runs) -> None:
    """Top-1 by way, and what the exchange costs, each seed a dot, the document a diamond."""
    fig.set_size_inches(12, 4.2)
    left, right = fig.subplots(1, 2, width_ratios=(3, 2))
    pairs = [(trained, tested) for trained in ARMS for tested in TESTED]
    for k, (trained, tested) in enumerate(pairs):
        for i, way in enumerate(WAYS):
            values = accuracies(runs, trained, tested, way, 1)
            at = i + (k - 2.5) * 0.13
            own = tested == ("ReLU" if trained == "ReLU" else "leaky ReLU")
            left.plot([at] * len(values), values, "o", ms=3.5, color=f"C{k // 2}", alpha=0.7, mfc=f"C{k // 2}" if own else "white")
            left.plot([at - 0.05, at + 0.05], [np.mean(values)] * 2, color=f"C{k // 2}", lw=2, ls="-" if own else ":",
                      label=f"{trained}, tested with {tested}" if not i else None)
    left.set(xticks=range(len(WAYS)), ylabel="top-1, %", title="Trained and tested")
    left.set_xticklabels(["centre crop", "ten crops", "larger image, centre"])
    left.legend(fontsize=7.5, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    for k, trained in enumerate(ARMS):
        own, other = ("ReLU", "leaky ReLU") if trained == "ReLU" else ("leaky ReLU", "ReLU")
        for i, way in enumerate(WAYS):
            costs = np.subtract(accuracies(runs, trained, other, way, 1), accuracies(runs, trained, own, way, 1))
            at = i + (k - 1) * 0.22
            right.plot([at] * len(costs), costs, "o", ms=3.5, color=f"C{k}", alpha=0.7)
            right.plot([at - 0.08, at + 0.08], [costs.mean()] * 2, color=f"C{k}", lw=2, label=trained if not i else None)
            if trained in TESTED:
                right.plot([at], [TABLE[trained, other][i][0] - TABLE[trained, trained][i][0]], "D", ms=6, mfc="none", color="black",
                           label="the document" if not i and not k else None)
    right.axhline(0, color="0.5", lw=1)
    right.set(xticks=range(len(WAYS)), ylabel="points of top-1", title="The other activation − its own")
    right.set_xticklabels(["centre", "ten crops", "larger"])
    right.legend(fontsize=7.5, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1))
