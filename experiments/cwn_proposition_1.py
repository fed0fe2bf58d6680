"""cwn, proposition 1: with centred filters of length 1, has z = wᵀh mean 0 and the variance σ² of its inputs?

The proposition is for inputs h with one mean, one variance and no correlation, and it is exact there. Of the inputs of a real layer none
of the three holds. What is left follows from the covariance C of h. For centred filters in random directions

    E var(z) = (tr C − 1ᵀC1/d)/(d − 1) = σ²(1 − ρ),     σ² = tr C/d,  ρ = the mean of C's elements off the diagonal, over σ²

so filters that know nothing of the data see less variance than σ², as soon as neighbours resemble each other; trained ones see what they learned.
E z = wᵀ E h is 0 where all components of h have one mean, and small where their means differ less than they have in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import minigrad as mg
import models
from minigrad import nn
from minigrad.core.backend import Array
from scripts.options import Options

from .images import Images
from .registry import Row, Runs, experiment
from .statistics import mean, near
from .training import fit, inputs_of

ARMS = ("Gaussian", "correlated", "activations")
FILTERS = ("trained", "centred", "not centred")  # the last two are random; all have length 1


def unit(w: Array) -> Array:
    """Rows of length 1."""
    return w / np.linalg.norm(w, axis=1, keepdims=True)


def moments(h: Array, w: Array) -> dict[str, float]:
    """For inputs h (samples, d) and filters w (filters, d): the mean over filters of var(z)/σ², and the root mean square of E z/σ."""
    z, variance = h @ w.T, float(h.var(0).mean())
    return {"var": float(z.var(0).mean() / variance), "mean": float(np.sqrt((z.mean(0) ** 2).mean() / variance))}


def resemblance(h: Array) -> float:
    """ρ of the text above, of inputs (samples, d)."""
    d, variances = h.shape[1], h.var(0)
    return float((h.sum(1).var() - variances.sum()) / ((d - 1) * variances.sum()))


@experiment("cwn_proposition_1", document="cwn, proposition 1", claim="var(z) = σ² and E z = 0 for centred filters of length 1 and h ~ N(μ1, σ²I)",
            arms=ARMS, datasets=("synthetic", "digits", "cifar10"), seconds=(3, 60),
            quick={"seeds": 2, "train": 128, "test": 64, "pixels": 8, "width": 0.125, "epochs": 1, "samples": 2000, "filters": 32},
            default={"seeds": 5, "train": 1000, "test": 200, "pixels": 16, "width": 0.25, "epochs": 6, "samples": 20000, "filters": 256},
            full={"seeds": 10, "train": 50000, "test": 10000, "pixels": 32, "width": 1.0, "epochs": 80, "samples": 20000, "filters": 256})
def cwn_proposition_1(arm: str, seed: int, images: Images, width: float, epochs: int, samples: int, filters: int) -> dict[str, Any]:
    """{kind of filters: [{"var", "mean"} of each layer]}, "rho" and "d" of each layer, and the trained network's test error."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {"rho": [], "d": [], "error": None, **{kind: [] for kind in FILTERS}}
    if arm == "activations":
        inputs, found["error"] = trained(images, width, epochs, samples, seed)
    else:
        inputs = [(drawn(rng, samples, d, 0.5 * (arm == "correlated")), None) for d in (27, 144, 576)]
    for h, w in inputs:
        d = h.shape[1]
        random = rng.normal(size=(filters, d))
        kinds = {"trained": w, "centred": unit(random - random.mean(1, keepdims=True)), "not centred": unit(random)}
        for kind, matrix in kinds.items():
            if matrix is not None:
                found[kind].append(moments(h, matrix))
        found["rho"].append(resemblance(h))
        found["d"].append(d)
    return found


def drawn(rng: Any, samples: int, d: int, rho: float) -> Array:
    """h ~ N(2·1, σ²((1 − ρ)I + ρ11ᵀ)) with σ² = 2.25: (samples, d)."""
    return 2 + 1.5 * (np.sqrt(1 - rho) * rng.normal(size=(samples, d)) + np.sqrt(rho) * rng.normal(size=(samples, 1)))


def trained(images: Images, width: float, epochs: int, samples: int, seed: int) -> tuple[list[tuple[Array, Array]], float]:
    """VGG-A as cwn has it, trained: what its convolutions see, (samples, d) float64, and their filters (filters, d); its test error in %."""
    mg.seed(seed)
    model: Any = models.build("vgg_a", norm="none", weight="centered_weight_norm", classifier_norm=True, width=width, size=images.pixels,
                              classes=images.classes, in_channels=images.channels)
    history = fit(model, images, Options(epochs=epochs, batch_size=32, lr=0.05, seed=seed))
    rng, found = np.random.default_rng(seed), []
    for _, conv, x in inputs_of(model.features, mg.tensor(images.train[0][:512]), (nn.Conv2d,)):
        padded = np.pad(x.astype("float64"), ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = sliding_window_view(padded, (3, 3), (2, 3)).transpose(0, 2, 3, 1, 4, 5)  # (N, H, W, C, 3, 3)
        n, height, breadth = windows.shape[:3]
        inside = height > 2  # small images have no window without padding
        at = np.stack([rng.integers(n, size=samples), *(rng.integers(inside, size - inside, size=samples) for size in (height, breadth))])
        w = conv.weight.numpy().astype("float64")
        found.append((windows[tuple(at)].reshape(samples, -1), unit(w.reshape(len(w), -1))))
    return found, history["error"][-1]


def over_layers(runs: Runs, arm: str, kind: str, name: str) -> list[float]:
    """The mean over layers, by seed."""
    return [float(np.mean([layer[name] for layer in layers])) for layers in runs.values(arm, kind)]


@cwn_proposition_1.table
def rows(runs: Runs) -> Iterator[Row]:
    """σ² is the mean variance of the inputs' components; each number is a mean over filters and layers, then over seeds. The network is VGG-A
    with centred filters and no norm but one behind its first linear layer, as cwn has it. Windows that
    reach over the edge are left out where there are others."""
    gaussian, real = "inputs N(2·1, 2.25·I)", "inputs of a trained VGG-A's convolutions"
    yield Row(f"var(z)/σ², {gaussian}", 1.0, mean(over_layers(runs, "Gaussian", "centred", "var")), near(1.0, absolute=0.05), headline=True)
    yield Row(f"root mean square of E z/σ, {gaussian}", 0.0, mean(over_layers(runs, "Gaussian", "centred", "mean")), near(0.0, absolute=0.05))
    yield Row("var(z)/σ², Gaussian inputs with correlation 1/2", 1.0, mean(over_layers(runs, "correlated", "centred", "var")), near(1.0, absolute=0.05),
              note="cov(h) is not σ²I: what all components share does not get through, and 1 − ρ is left")
    yield Row(f"var(z)/σ², {real}, its own filters", 1.0, mean(over_layers(runs, "activations", "trained", "var")), near(1.0, absolute=0.05), headline=True)
    yield Row(f"the same, random centred filters, {real}", 1.0, mean(over_layers(runs, "activations", "centred", "var")), near(1.0, absolute=0.05))
    ratios = [float(np.mean([v["var"] / (1 - rho) for v, rho in zip(run.result["centred"], run.result["rho"], strict=True)])) for run in runs.of("activations")]
    yield Row("the same over 1 − ρ, which the covariance predicts", None, mean(ratios), near(1.0, absolute=0.05))
    for kind, words in (("trained", "its own filters"), ("centred", "random centred filters")):
        yield Row(f"root mean square of E z/σ, {real}, {words}", 0.0, mean(over_layers(runs, "activations", kind, "mean")), near(0.0, absolute=0.05))
    yield Row("the same, random filters that are not centred", None, mean(over_layers(runs, "activations", "not centred", "mean")),
              note="what centring takes away is the difference to the line above")


@cwn_proposition_1.figure
def draw(fig: Any, runs: Runs) -> None:
    """Variance and mean of z in each layer of the trained network, and in Gaussian inputs of as many components."""
    fig.set_size_inches(10, 3.6)
    left, right = fig.subplots(1, 2)
    labels = {"trained": "its own filters", "centred": "random, centred", "not centred": "random, not centred"}
    for ax, name in ((left, "var"), (right, "mean")):
        for k, kind in enumerate(FILTERS):
            values = np.array([[layer[name] for layer in layers] for layers in runs.values("activations", kind)])  # (seeds, layers)
            depth = np.arange(1, values.shape[1] + 1)
            ax.plot(depth, values.T, color=f"C{k}", alpha=0.3, lw=0.7)
            ax.plot(depth, values.mean(0), color=f"C{k}", marker="o", ms=3, label=labels[kind])
        gaussian = np.array([[layer[name] for layer in layers] for layers in runs.values("Gaussian", "centred")]).mean()
        ax.axhline(gaussian, color="k", lw=1, ls=":", label="centred, Gaussian inputs")
        ax.set(xlabel="convolution of VGG-A")
    left.plot(depth, 1 - np.mean(runs.values("activations", "rho"), 0), color="0.5", ls="--", label="1 − ρ")
    left.set_ylim(0, None)
    right.set_yscale("log")
    left.set_title("var(z)/σ²: the proposition says 1")
    right.set_title("root mean square of E z/σ: it says 0")
    left.legend(fontsize=7)
    right.legend(fontsize=7)
