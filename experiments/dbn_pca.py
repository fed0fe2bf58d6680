"""dbn, section 1: "PCA whitening hardly works for deep networks". How much worse is it, and do the axes swap?

Three networks from one seed: batch norm, ZCA whitening (dbn's layer), and PCA whitening, which is ZCA before it turns back. Then, with the
weights as they are, what the norms get is whitened by one batch after another. The axes of two batches are matched by their angles:
an axis has swapped, if the one that is most like it has another number in the next batch; it has flipped, if it points the other way.
Last, the same images are whitened with the statistics of both batches: how much does the output change that the next layer sees?
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import layers
import minigrad as mg
import models
from layers.whitening.channel_groups import matrices, stacks
from layers.whitening.pca_whitening import principal_axes
from minigrad.check.relative import relative_error
from minigrad.core.backend import Array
from scripts.options import Options

from .images import Images
from .registry import Row, Runs, experiment
from .statistics import above, mean, paired_difference, ratio, share
from .training import fit, inputs_of

ARMS = ("BN", "ZCA", "PCA")
NORMS = {"BN": layers.BatchNorm2d, "ZCA": layers.DecorrelatedBatchNorm2d, "PCA": layers.PCAWhitening2d}


@experiment("dbn_pca", document="dbn, section 1", claim="PCA whitening hardly works for deep networks", arms=ARMS,
            datasets=("synthetic", "digits", "cifar10"), seconds=(4, 50),
            quick={"seeds": 2, "train": 200, "test": 100, "pixels": 8, "classes": 10, "group": 8, "epochs": 2},
            default={"seeds": 6, "train": 1000, "test": 500, "pixels": 16, "classes": 20, "group": 16, "epochs": 6},
            full={"seeds": 10, "train": 50000, "test": 10000, "pixels": 32, "classes": 10, "group": 16, "epochs": 80},
            default_digits={"train": 1437, "test": 360, "pixels": 8, "classes": 10, "group": 8}, full_digits={"pixels": 8, "group": 8},
            default_cifar10={"train": 2000, "classes": 10})
def dbn_pca(arm: str, seed: int, images: Images, group: int, epochs: int) -> dict[str, Any]:
    """Loss and test error of each epoch; the final error by the batches' own statistics; and what `between_batches` finds."""
    model: Any = models.build("tiny_cnn", in_channels=images.channels, size=images.pixels, classes=images.classes)
    for name, module in list(model._modules.items()):
        if isinstance(module, layers.BatchNorm2d) and arm != "BN":
            model._modules[name] = NORMS[arm](module.num_features, group, affine=True)
    history = trained(model, images, Options(epochs=epochs, batch_size=50, lr=0.05, seed=seed))
    if history["diverged"]:
        return {"loss": history["loss"], "error": history["error"], "own": history["error"][-1], "diverged": True}
    found = between_batches(model, NORMS[arm], images, group, seed)
    x, t = images.test
    wrong = 0
    with mg.no_grad():
        for start in range(0, len(x), 50):
            wrong += int((model(mg.tensor(x[start:start + 50])).numpy().argmax(1) != t[start:start + 50]).sum())
    return {"loss": history["loss"], "error": history["error"], "own": 100.0 * wrong / len(t), "diverged": False, **found}


def trained(model: Any, images: Images, options: Options) -> dict[str, Any]:
    """`fit`, where a gradient of NaN is a divergence, too: PCA has no other one where eigenvalues are equal, and the next batch has no axes then."""
    try:
        return fit(model, images, options)
    except np.linalg.LinAlgError:
        if all(np.isfinite(p.numpy()).all() for p in model.parameters()):
            raise
        return {"loss": [math.inf] * options.epochs, "error": [100.0 * (1 - 1 / images.classes)] * options.epochs, "diverged": True}


def between_batches(model: Any, kind: type, images: Images, group: int, seed: int, batches: int = 8) -> dict[str, Any]:
    """Means over the norms, their groups, and pairs of batches of 50 that follow each other: shares of axes, and relative changes of the output."""
    rows = np.random.default_rng(seed).permutation(len(images.train[0]))
    found: dict[str, list[float]] = {"swapped": [], "flipped": [], "PCA_change": [], "ZCA_change": []}
    parts = [images.train[0][rows[i::batches]][:50] for i in range(batches)]
    inputs = [[x for _, _, x in inputs_of(model, mg.tensor(part), (kind,))] for part in parts]  # [batch][norm]
    for one, other in pairwise(inputs):
        for a, b in zip(one, other, strict=True):
            for s in stacks("dbn_pca", a, group):
                compared(found, *(np.atleast_3d(matrices(v, s)).reshape(-1, s.d, v.shape[0] * v.shape[2] * v.shape[3]) for v in (a, b)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def compared(found: dict[str, list[float]], a: Array, b: Array) -> None:
    """Append to `found` what two batches (G, d, m) make of the axes, and of the output for the first of them."""
    (la, da), (lb, db) = (principal_axes(np.stack([np.cov(g, bias=True) for g in v]), eps=1e-5) for v in (a, b))
    cosines = da.swapaxes(1, 2) @ db                                                     # (G, d, d)
    nearest, own = np.abs(cosines).argmax(2), np.diagonal(cosines, 0, 1, 2)
    stays = nearest == np.arange(nearest.shape[1])
    found["swapped"].append(float(1 - stays.mean()))
    found["flipped"].append(float((own < 0)[stays].mean()) if stays.any() else 0.0)
    xc = a - a.mean(2, keepdims=True)
    pca = [d.swapaxes(1, 2) @ xc / np.sqrt(lam)[:, :, None] for lam, d in ((la, da), (lb, db))]
    zca = [d @ y for d, y in zip((da, db), pca, strict=True)]
    for name, (first, second) in (("PCA_change", pca), ("ZCA_change", zca)):
        found[name].append(relative_error(second, first))


def last(runs: Runs, arm: str, name: str) -> list[float]:
    """Of the last epoch, by seed."""
    return [values[-1] for values in runs.values(arm, name)]


@dbn_pca.table
def rows(runs: Runs) -> Iterator[Row]:
    """The document gives no number; "hardly works" is read as: worse than ZCA. One network in three versions, from the same weights and with the same
    batches for each seed. Axes and outputs are compared between batches of 50 images, with the trained weights held fixed."""
    for other in ("ZCA", "BN"):
        yield Row(f"test error, PCA − {other} (percentage points)", None, paired_difference(last(runs, "PCA", "error"), last(runs, other, "error")), above(0.0),
                  headline=other == "ZCA")
    yield Row("the same, PCA − ZCA, each test batch by its own statistics", None, paired_difference(runs.values("PCA", "own"), runs.values("ZCA", "own")),
              above(0.0), note="so it is not the running statistics, whose axes are those of no batch")
    yield Row("training loss of the last epoch, PCA / ZCA", None, ratio(last(runs, "PCA", "loss"), last(runs, "ZCA", "loss")), above(1.0))
    for arm in ARMS:
        yield Row(f"test error, {arm} (%)", None, mean(last(runs, arm, "error")))
    there = [run for run in runs.of("PCA") if "swapped" in run.result]
    yield Row("share of the trainings with PCA that end in NaN", None, share(len(runs.of("PCA")) - len(there), len(runs.of("PCA"))))
    yield Row("share of principal axes that swap from batch to batch (network with PCA)", None, mean([r.result["swapped"] for r in there]))
    yield Row("share of the others that flip", None, mean([r.result["flipped"] for r in there]))
    yield Row("change of the output for the same images, statistics of the next batch, PCA / ZCA", None,
              ratio([r.result["PCA_change"] for r in there], [r.result["ZCA_change"] for r in there]), above(1.0), headline=True,
              note="a relative norm; √2 would be no resemblance at all")
    yield Row("that change, PCA", None, mean([r.result["PCA_change"] for r in there]))


@dbn_pca.figure
def draw(fig: Any, runs: Runs) -> None:
    """Training loss and test error over epochs; how much the output changes with the batch."""
    fig.set_size_inches(11, 3.4)
    first, second, third = fig.subplots(1, 3)
    for k, arm in enumerate(ARMS):
        for ax, name in ((first, "loss"), (second, "error")):
            curves = np.array(runs.values(arm, name))                                    # (seeds, epochs)
            epochs = np.arange(1, curves.shape[1] + 1)
            ax.plot(epochs, curves.T, color=f"C{k}", lw=0.7, alpha=0.35)
            ax.plot(epochs, curves.mean(0), color=f"C{k}", lw=2, label=arm)
    first.set(title="training loss", xlabel="epoch", yscale="log")
    second.set(title="test error, %", xlabel="epoch", ylim=(0, None))
    first.legend()
    there = [run for run in runs.of("PCA") if "swapped" in run.result]
    bars = {"axes that\nswap": "swapped", "others\nthat flip": "flipped", "change of\nPCA output": "PCA_change", "change of\nZCA output": "ZCA_change"}
    for i, name in enumerate(bars.values()):
        values = [run.result[name] for run in there]
        third.bar(i, np.mean(values), color=f"C{2 if i < 3 else 1}", alpha=0.6)
        third.plot([i] * len(values), values, "k.", ms=4)
    third.set_xticks(range(len(bars)), list(bars), fontsize=8)
    third.set_title("from one batch to the next, same weights")
