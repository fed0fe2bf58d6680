"""dbn, table B: DBN in place of the first batch norm of residual networks, and the constant that it adds whatever the depth.

DBN-scale is whitening with a scale and a shift. One layer of 16 channels is exchanged, so the difference to batch norm should not
depend on the number of layers. All networks take turns with one batch; ratios of steps are ratios of epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import models

from .registry import Row, Runs, experiment
from .statistics import mean, median_ratio, near
from .timing import inference, interleaved, random_batch, training_step

TRAINING = {"Res-20": (25.97, 42.87), "Res-32": (40.36, 57.47), "Res-44": (55.03, 72.06), "Res-56": (69.53, 86.80),  # BN, DBN-scale: seconds per epoch
            "WideRes-28": (440.0, 457.0), "WideRes-40": (643.94, 659.55)}
INFERENCE = {"Res-20": (1.94, 2.44), "Res-32": (2.80, 3.33), "Res-44": (3.65, 4.36), "Res-56": (4.57, 5.12),
             "WideRes-28": (36.56, 38.10), "WideRes-40": (25.69, 26.08)}
DBN = "DBN-scale"


def network(name: str, norm: str, width: float, k: int) -> Any:
    """Res-DEPTH or WideRes-DEPTH; DBN takes the place of the first norm alone, as is `models.build`'s rule for networks with shortcuts."""
    kind, _, depth = name.partition("-")
    options = {"norm": "batch_norm" if norm == "BN" else "decorrelated_batch_norm", "depth": int(depth), "width": width}
    return models.build("resnet", **options) if kind == "Res" else models.build("wide_resnet", k=k, **options)


@experiment("dbn_table_b", document="dbn, table B", claim="DBN-scale as the first norm adds 17 s to an epoch of ResNet-20 and of ResNet-56 alike",
            arms=("training", "inference"), timing=True, seconds=(5, 215),
            quick={"seeds": 1, "turns": 2, "batch": 4, "size": 8, "width": 0.5, "k": 1, "nets": ("Res-20", "Res-32", "WideRes-28"), "threads": 2},
            default={"seeds": 2, "turns": 8, "batch": 32, "size": 32, "width": 1.0, "k": 2, "nets": tuple(TRAINING), "threads": 2},
            full={"seeds": 4, "turns": 10, "batch": 128, "size": 32, "width": 1.0, "k": 10, "nets": tuple(TRAINING), "threads": 2})
def dbn_table_b(arm: str, seed: int, turns: int, batch: int, size: int, width: float, k: int, nets: list[str], threads: int) -> dict[str, Any]:
    """"NET, NORM" -> seconds of each turn: of a training step, or of a batch in evaluation."""
    x, t = random_batch(seed, batch, size)
    things: dict[str, Callable[[], None]] = {}
    for name in nets:
        for norm in ("BN", DBN):
            model = network(name, norm, width, k)
            step = training_step(model, x, t)
            if arm == "inference":
                step()
            things[f"{name}, {norm}"] = step if arm == "training" else inference(model, x)
    return interleaved(things, turns if arm == "training" else 2 * turns)


def growth(depths: list[int], bn: list[float], dbn: list[float]) -> float:
    """Seconds a layer by which the difference DBN − BN grows, over those by which BN does: 0 for a constant, 1 if each layer paid."""
    return float(np.polyfit(depths, np.subtract(dbn, bn), 1)[0] / np.polyfit(depths, bn, 1)[0])


def plain(nets: list[str]) -> list[str]:
    """The ResNets that are not wide."""
    return [name for name in nets if name.startswith("Res-")]


def adds(runs: Runs, name: str) -> list[float]:
    """What whitening adds to a training step of this network in each turn, in units of the smallest ResNet with batch norm."""
    names = f"{name}, {DBN}", f"{name}, BN", f"{plain(runs.sizes['nets'])[0]}, BN"
    return [(dbn - bn) / unit for dbn, bn, unit in zip(*(runs.pooled("training", n) for n in names), strict=True)]


@dbn_table_b.table
def rows(runs: Runs) -> Iterator[Row]:
    """Ratios turn by turn. The document does not give the width of its wide networks; k is among the sizes below, and the wider a network, the nearer its
    ratio is to 1. Growth: the slope of DBN − BN against depth over the slope of BN against depth, of the four ResNets in each turn."""
    nets = runs.sizes["nets"]
    for arm, document in (("training", TRAINING), ("inference", INFERENCE)):
        for name in nets:
            bn, dbn = document[name]
            yield Row(f"{arm}, {name}, DBN-scale / BN", dbn / bn, median_ratio(runs.pooled(arm, f"{name}, {DBN}"), runs.pooled(arm, f"{name}, BN")),
                      near(dbn / bn, factor=1.25), headline=arm == "training" and name in ("Res-20", "Res-56"))
    for name in plain(nets):
        number = (TRAINING[name][1] - TRAINING[name][0]) / TRAINING[plain(nets)[0]][0]
        yield Row(f"training, what DBN-scale adds to {name}, over {plain(nets)[0]} with BN", number, mean(adds(runs, name), unit="turns"),
                  near(number, factor=1.25))
    for arm, document in (("training", TRAINING), ("inference", INFERENCE)):
        depths = [int(name.split("-")[1]) for name in plain(nets)]
        number = growth(depths, *map(list, zip(*(document[name] for name in plain(nets)), strict=True)))
        turns = zip(*(zip(runs.pooled(arm, f"{name}, BN"), runs.pooled(arm, f"{name}, {DBN}"), strict=True) for name in plain(nets)), strict=True)
        found = [growth(depths, [bn for bn, _ in turn], [dbn for _, dbn in turn]) for turn in turns]
        yield Row(f"{arm}, ResNets: growth of what DBN adds, a layer, over BN's growth a layer", number, mean(found, unit="turns"), near(0.0, absolute=0.05),
                  headline=arm == "training", note="agreement is with a constant, 0; the document's own numbers grow by as much as stands here")


@dbn_table_b.figure
def draw(fig: Any, runs: Runs) -> None:
    """Time against depth with and without DBN, document and ours, in units of batch norm at the first depth; and what DBN adds."""
    fig.set_size_inches(11, 3.6)
    nets = plain(runs.sizes["nets"])
    depths = [int(name.split("-")[1]) for name in nets]
    whole, added = fig.subplots(1, 2)
    ours = {norm: [float(np.median(runs.pooled("training", f"{name}, {norm}"))) for name in nets] for norm in ("BN", DBN)}
    theirs = {norm: [TRAINING[name][i] for name in nets] for i, norm in enumerate(("BN", DBN))}
    for times, color, who in ((theirs, "C1", "document"), (ours, "C0", "ours")):
        for norm, style in (("BN", "--"), (DBN, "-")):
            whole.plot(depths, np.divide(times[norm], times["BN"][0]), color=color, ls=style, marker="o", ms=4, label=f"{who}, {norm}")
    added.plot(depths, np.subtract(theirs[DBN], theirs["BN"]) / theirs["BN"][0], color="C1", marker="o", label="document")
    found = [mean(adds(runs, name), unit="turns") for name in nets]
    added.errorbar(depths, [f.estimate for f in found], yerr=[f.high - f.estimate if np.isfinite(f.high) else 0 for f in found], color="C0", marker="o",
                   capsize=3, label="ours")
    whole.set(title=f"a training step, BN at depth {depths[0]} is 1", xlabel="layers of a ResNet", ylim=(0, None))
    added.axhline(0, color="k", lw=0.7)
    added.set(title="what DBN-scale adds, in the same unit", xlabel="layers of a ResNet")
    for ax in (whole, added):
        ax.set_xticks(depths)
        ax.legend(fontsize=8, handlelength=4)
