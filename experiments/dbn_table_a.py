"""dbn, table A: what an epoch of VGG-A costs with DBN, by the size of its groups.

An epoch is the same number of steps for each network, so ratios of epochs are ratios of steps. All networks take turns with one batch. The document's code
whitens one group after the other; ours takes all groups of a layer as one stack of matrices. A second set of arms, "one by one", is the same
mathematics in their order, on one thread. What their clock says about that can be read from the table itself: see `line_through`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

import models
from layers.whitening import channel_groups

from .registry import Row, Runs, experiment
from .statistics import exact, mean, median_ratio, near
from .timing import inference, interleaved, random_batch, training_step

TRAINING = {"BN": 163.68, "G8": 707.47, "G16": 466.92, "G64": 297.25, "G256": 440.88, "G512": 1004.0}  # seconds per epoch
INFERENCE = {"BN": 11.47, "G8": 15.50, "G16": 14.41, "G64": 13.70, "G256": 13.64, "G512": 13.68}
CHANNELS = (64, 128, 256, 256, 512, 512, 512, 512)


def network(name: str, width: float, size: int) -> Any:
    """VGG-A with batch norm, or with DBN in groups, as the document has it: without scale and shift."""
    if name == "BN":
        return models.build("vgg_a", width=width, size=size)
    options = {"affine": False, "group_size": max(1, round(int(name[1:]) * width))}
    return models.build("vgg_a", norm="decorrelated_batch_norm", norm_options=options, width=width, size=size)


def one_by_one(step: Callable[[], None]) -> Callable[[], None]:
    """The same step with each group of channels as a stack of its own, and no two of them at a time."""
    def run() -> None:
        with mock.patch.multiple(channel_groups, _STACK_BYTES=1, _shared=lambda x, work, count: [work(0, count)]):
            step()
    return run


@experiment("dbn_table_a", document="dbn, table A",
            claim="an epoch of VGG-A takes 4.3 times as long with DBN as with BN for groups of 8, 1.8 times for groups of 64",
            arms=("training", "inference"), timing=True, seconds=(4, 170),
            quick={"seeds": 1, "turns": 2, "batch": 4, "size": 8, "width": 0.125, "groups": ("G8", "G64"), "threads": 2},
            default={"seeds": 2, "turns": 8, "batch": 32, "size": 32, "width": 1.0, "groups": ("G8", "G16", "G64", "G256", "G512"), "threads": 2},
            full={"seeds": 4, "turns": 10, "batch": 256, "size": 32, "width": 1.0, "groups": ("G8", "G16", "G64", "G256", "G512"), "threads": 2})
def dbn_table_a(arm: str, seed: int, turns: int, batch: int, size: int, width: float, groups: list[str], threads: int) -> dict[str, Any]:
    """Network -> seconds of each turn: of a training step, or of a batch in evaluation."""
    x, t = random_batch(seed, batch, size)
    things: dict[str, Callable[[], None]] = {}
    for name in ("BN", *groups):
        model = network(name, width, size)
        step = training_step(model, x, t)
        if arm == "inference":
            step()  # running statistics of something
            things[name] = inference(model, x)
            continue
        things[name] = step
        if name != "BN" and int(name[1:]) <= 64:
            things[f"{name}, one by one"] = one_by_one(step)
    return interleaved(things, turns if arm == "training" else 3 * turns)


def groups_of(size: int) -> int:
    """How many groups all eight layers have."""
    return sum(c // min(size, c) for c in CHANNELS)


def line_through(times: dict[str, float]) -> float:
    """The time of G8, if it were a straight line in the number of groups through G16 and G64: what one group costs costs every group."""
    n8, n16, n64 = (groups_of(k) for k in (8, 16, 64))
    return times["G16"] + (times["G16"] - times["G64"]) / (n16 - n64) * (n8 - n16)


def per_group(g8: float, g64: float, bn: float) -> float:
    """Time of G8 − G64 for each group that G8 has more, in units of batch norm's."""
    return (g8 - g64) / (groups_of(8) - groups_of(64)) / bn


@dbn_table_a.table
def rows(runs: Runs) -> Iterator[Row]:
    """Ratios turn by turn. "One by one" has one thread for the groups, all of them for the rest of the network. The document's times are of a GPU that
    was busy for 20 to 40 % of the time with DBN, it says, and for 95 % and more with BN."""
    groups = runs.sizes["groups"]
    for arm, document in (("training", TRAINING), ("inference", INFERENCE)):
        base = runs.pooled(arm, "BN")
        for name in groups:
            number = document[name] / document["BN"]
            yield Row(f"{arm}, DBN-{name} / BN", number, median_ratio(runs.pooled(arm, name), base), near(number, factor=1.25),
                      headline=name in ("G8", "G64") and arm == "training")
    base = runs.pooled("training", "BN")
    for name in (g for g in groups if int(g[1:]) <= 64):
        number = TRAINING[name] / TRAINING["BN"]
        yield Row(f"training, groups one by one, DBN-{name} / BN", number, median_ratio(runs.pooled("training", f"{name}, one by one"), base),
                  near(number, factor=1.25))
    if {"G8", "G64"} <= set(groups):
        number = TRAINING["G8"] / TRAINING["G64"]
        for words in ("", ", one by one"):
            yield Row(f"training{words}, DBN-G8 / DBN-G64", number, median_ratio(runs.pooled("training", f"G8{words}"), runs.pooled("training", f"G64{words}")),
                      near(number, factor=1.25))
        number = per_group(TRAINING["G8"], TRAINING["G64"], TRAINING["BN"])
        turns = zip(*(runs.pooled("training", name) for name in ("G8, one by one", "G64, one by one", "BN")), strict=True)
        yield Row("training, one by one: what a group more costs, G64 to G8, over BN", number, mean([per_group(*turn) for turn in turns], unit="turns"),
                  near(number, factor=1.25))
    yield Row("the document's G8 by a line in the number of groups through its G16 and G64, s", TRAINING["G8"], exact(line_through(TRAINING)),
              near(TRAINING["G8"], factor=1.05), headline=True,
              note=f"{groups_of(8)}, {groups_of(16)} and {groups_of(64)} groups in eight layers: so its 707 s are "
                   f"{(TRAINING['G16'] - TRAINING['G64']) / (groups_of(16) - groups_of(64)):.2f} s per epoch for each group, whatever is in it")


@dbn_table_a.figure
def draw(fig: Any, runs: Runs) -> None:
    """Times over batch norm's against group size: the document's, ours in stacks, ours one by one."""
    fig.set_size_inches(10, 3.6)
    groups = runs.sizes["groups"]
    for ax, (arm, document) in zip(fig.subplots(1, 2), (("training", TRAINING), ("inference", INFERENCE)), strict=True):
        sizes = [int(name[1:]) for name in groups]
        ax.plot(sizes, [document[name] / document["BN"] for name in groups], color="C1", marker="D", label="document (GPU)")
        base = runs.pooled(arm, "BN")
        for suffix, color in (("", "C0"), (", one by one", "C2")):
            there = [name for name in groups if name + suffix in runs.of(arm)[0].result]
            if there:
                found = [median_ratio(runs.pooled(arm, name + suffix), base) for name in there]
                ends = [[f.estimate - (f.low or f.estimate) for f in found], [f.high - f.estimate if np.isfinite(f.high) else 0 for f in found]]
                ax.errorbar([int(name[1:]) for name in there], [f.estimate for f in found], yerr=ends, color=color, marker="o", capsize=3,
                            label=f"ours{suffix or ', all groups of a layer at once'}")
        ax.axhline(1, color="k", lw=0.7, ls=":")
        ax.set(xscale="log", xlabel="channels in a group", title=f"{arm}: time / time with batch norm", ylim=(0, None))
        ax.set_xticks(sizes, [str(s) for s in sizes])
        ax.set_xticks([], minor=True)
        ax.legend(fontsize=8)
