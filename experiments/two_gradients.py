"""The project's own claim: of every layer the composed and the derived form have one gradient, to rounding, as long as a network trains.

Every normalization of `models` in every network, trained twice from one seed: with composed and with derived layers. At each step the
derived form's gradient is also taken at the composed network's parameters: see layers/verify/training.py, which the demo, the lectures and
scripts/compare.py use, too. In float64, where rounding is 1e-16, a mistake in a derivation cannot hide; in float32 rounding shows.

Biases begin at small random numbers instead of 0: where all pixels are equal, a centred filter or a norm gives 0, and rounding would decide whether
the ReLU behind it lets a gradient through. In GoogLeNet a digit of 8 pixels ends as a single one, in which instance norm has
no variance, and before as 2 × 2 pixels, which the 3 × 3 average pooling makes equal: of the gradient of a group norm of one channel rounding is left. Both
get images of 16 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

import minigrad as mg
import models
from layers.modules.parametrizations import RULES
from layers.verify.training import trained_side_by_side
from minigrad import nn, optim
from minigrad.check.relative import worst
from models.parts import NORMS

from .images import Images
from .registry import Row, Runs, experiment
from .statistics import Interval, below, exact

# name -> the smallest of its kind, with `width` for a few channels
NETWORKS: dict[str, dict[str, Any]] = {
    "tiny_cnn": {"name": "tiny_cnn", "width": 0.5}, "VGG-A": {"name": "vgg_a", "width": 1 / 16}, "GoogLeNet": {"name": "googlenet", "width": 1 / 16},
    "ResNet": {"name": "resnet", "depth": 8, "width": 0.5}, "plain": {"name": "plain", "depth": 8, "width": 0.5},
    "WideResNet": {"name": "wide_resnet", "depth": 10, "k": 1, "width": 0.5}, "ResNeXt": {"name": "resnext", "depth": 11, "cardinality": 2, "base_width": 16,
                                                                                     "width": 1 / 8}}
# what is normalized how: a norm between layers, or weights (weight standardization needs a norm behind it)
LAYERS: dict[str, dict[str, Any]] = {**{name: {"norm": name} for name in NORMS if name != "none"},
                                     **{name: {"norm": "batch_norm" if name == "weight_standardization" else "none", "weight": name} for name in RULES}}
LAYERS["inplace_abn"]["slope"] = 0.01
for _name in ("decorrelated_batch_norm", "iter_norm"):
    LAYERS[_name]["norm_options"] = {"group_size": 4}
ARMS: dict[str, dict[str, Any]] = {f"{layer}, {network}": {"layer": layer, "network": network} for layer in LAYERS for network in NETWORKS}
for _name in ("instance_norm", "group_norm"):
    ARMS[f"{_name}, GoogLeNet"]["pixels"] = 16  # at least
FEW = [f"{layer}, tiny_cnn" for layer in LAYERS] + [f"batch_norm, {network}" for network in NETWORKS if network != "tiny_cnn"]
WITHIN = {"float64": 1e-9, "float32": 0.05}


def network(arm: str, form: str, images: Images, seed: int, dtype: str) -> nn.Module:
    """One network, in one of its two forms."""
    options = ARMS[arm]
    keywords = dict(NETWORKS[options["network"]])
    if keywords["name"] in ("tiny_cnn", "vgg_a"):
        keywords["size"] = images.pixels
    mg.seed(seed)
    model = models.build(keywords.pop("name"), form=form, in_channels=images.channels, **keywords, **LAYERS[options["layer"]])
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0.0, 0.1)
    return model.astype(dtype)


@experiment("two_gradients", document="minigrad", claim="the derived gradient of every layer is the composed one, to rounding, at every step of a training",
            arms=ARMS, datasets=("digits", "synthetic", "cifar10"), seconds=(5, 120),
            quick={"arms": FEW, "seeds": 1, "train": 48, "test": 10, "steps": 1, "batch_size": 16},
            default={"seeds": 1, "train": 480, "test": 10, "steps": 6, "batch_size": 32},
            full={"seeds": 3, "train": 1437, "test": 10, "steps": 132, "batch_size": 32})
def two_gradients(arm: str, seed: int, images: Images, steps: int, batch_size: int) -> dict[str, Any]:
    """By dtype: the worst parameter's relative difference at each step, and the two losses."""
    found: dict[str, Any] = {}
    by = -(-ARMS[arm].get("pixels", 1) // images.pixels)
    if by > 1:
        x, t = images.train
        images = Images((x.repeat(by, 2).repeat(by, 3), t), images.test, images.name)
    for dtype in WITHIN:
        networks = {form: network(arm, form, images, seed, dtype) for form in ("composed", "derived")}
        optimizers = {form: optim.SGD(model.parameters(), lr=0.01, momentum=0.9) for form, model in networks.items()}
        batches = ((x.astype(dtype), t) for epoch in range(steps) for x, t in images.batches(batch_size, seed=seed, epoch=epoch))
        taken = list(trained_side_by_side(networks, network(arm, "derived", images, seed, dtype), islice(batches, steps), optimizers))
        found[dtype] = [worst(step.differences) for step in taken]
        found[f"{dtype} loss"] = {form: [step.loss[form] for step in taken] for form in networks}
    return found


def largest(runs: Runs, dtype: str, **chosen: str) -> Interval:
    """The largest difference of any step, seed and parameter, of the arms with this layer or network."""
    values = [worst(run.result[dtype]) for run in runs if all(run.settings["options"][k] == v for k, v in chosen.items())]
    return exact(worst(values), "the largest of all steps, seeds and parameters")


@two_gradients.table
def rows(runs: Runs) -> Iterator[Row]:
    """Differences are ‖derived − composed‖ / ‖composed‖ of a parameter's gradient. A bound of 1e-9 in float64 leaves room for rounding through ten and
    more layers, and none for a mistake: a term that is lost or doubled is off by 1e-3 and more. In float32 both forms round, and where few pixels are
    normalized, so that a variance may be tiny, it shows: there the number says what to expect, and the bound only that it is a gradient. Whitening
    and orthogonal weight norm compute in float64 whatever the images are: 0 where a network has no other norm beside them."""
    done = {run.settings["options"]["layer"]: None for run in runs}
    yield Row("worst relative difference of the two gradients, float64, all layers and networks", 0.0, largest(runs, "float64"), below(WITHIN["float64"]),
              headline=True)
    for layer in done:
        yield Row(f"{layer}, all networks, float64", 0.0, largest(runs, "float64", layer=layer), below(WITHIN["float64"]))
    yield Row("worst relative difference, float32, all layers and networks", 0.0, largest(runs, "float32"), below(WITHIN["float32"]))


@two_gradients.figure
def draw(fig: Any, runs: Runs) -> None:
    """A cell for each layer and network: the worst difference of all steps."""
    fig.set_size_inches(13, 6.2)
    kinds = list(dict.fromkeys(run.settings["options"]["layer"] for run in runs))
    nets = list(dict.fromkeys(run.settings["options"]["network"] for run in runs))
    for ax, dtype in zip(fig.subplots(1, 2, sharey=True), WITHIN, strict=True):
        cells = np.full((len(kinds), len(nets)), np.nan)
        for run in runs:
            at = kinds.index(run.settings["options"]["layer"]), nets.index(run.settings["options"]["network"])
            cells[at] = np.nanmax([cells[at], np.log10(worst(run.result[dtype]) or 1e-18)])
        low = -16 if dtype == "float64" else -8
        shown = ax.imshow(cells, cmap="viridis_r", vmin=low, vmax=low + 7, aspect="auto")
        for (i, j), value in np.ndenumerate(cells):
            if np.isfinite(value):
                shown_as, color = f"{10 ** value:.0e}" if value > -18 else "0", "white" if value > low + 3.5 else "black"
                ax.text(j, i, shown_as, ha="center", va="center", fontsize=7.5, color=color)
        ax.grid(False)
        ax.set(title=f"{dtype}: worst difference", xticks=range(len(nets)), yticks=range(len(kinds)), yticklabels=kinds)
        ax.set_xticklabels(nets, rotation=30, ha="right")
        fig.colorbar(shown, ax=ax, label="log10 of the relative difference", shrink=0.7)
