"""bn-jacobian, below eq 10: is U² ≈ mU because the batch is large?

U = e eᵀ + x̂ x̂ᵀ of one channel with m values. The document replaces Σ x̂ and Σ x̂² by the moments of N(0, 1), "for relatively large
mini-batch". If that made U² ≈ mU, its relative error would fall as m^(−1/2), as means of independent draws do. But x̂ is
normalized by the batch's own statistics: Σ x̂ = 0 and Σ x̂² = m·var/(var + ε) for any data and any m, so the error is that of ε alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import layers
import minigrad as mg
import models
from minigrad.check.relative import relative_error
from minigrad.core.backend import Array
from scripts.options import Options

from .images import Images
from .registry import Row, Runs, experiment
from .statistics import mean, near
from .training import fit, inputs_of

ARMS = ("Gaussian", "exponential", "activations", "independent")  # the last: x̂ drawn from N(0, 1) itself, as the text reads


def error(x: Array, eps: float, *, normalized: bool = True) -> tuple[float, float]:
    """‖U² − mU‖/‖mU‖ and |1 − λ₂/m| of one channel (m,), in closed form: U lives on the plane of e and x̂, so 2×2 matrices do."""
    m = len(x)
    xhat = (x - x.mean()) / np.sqrt(x.var() + eps) if normalized else x
    gram = np.array([[m, xhat.sum()], [xhat.sum(), xhat @ xhat]])                        # of e and x̂; U = B Bᵀ, gram = BᵀB
    lam = np.maximum(np.linalg.eigvalsh(gram), 0)                                        # U's two eigenvalues, λ₂ first
    other = min(lam, key=lambda v: abs(v - xhat @ xhat)) if normalized else lam[0]       # the one of x̂
    return relative_error(lam * lam, m * lam), float(abs(1 - other / m))


@experiment("jacobian_batch_size", document="bn-jacobian, eq 10", claim="U² ≈ mU for relatively large batches of Gaussian data: the error falls with m",
            arms=ARMS, datasets=("digits", "synthetic", "cifar10"), seconds=(3, 20),
            quick={"seeds": 2, "train": 256, "test": 64, "batches": (8, 32, 128), "epsilons": (0.0, 1e-5), "channels": 8, "epochs": 1},
            default={"seeds": 8, "train": 1437, "test": 360, "batches": (8, 16, 32, 64, 128, 256, 512), "epsilons": (0.0, 1e-5, 1e-3, 1e-1),
                     "channels": 48, "epochs": 3},
            full={"seeds": 32, "train": 1437, "test": 360, "batches": (8, 16, 32, 64, 128, 256, 512, 1024), "epsilons": (0.0, 1e-5, 1e-3, 1e-1),
                  "channels": 48, "epochs": 20})
def jacobian_batch_size(arm: str, seed: int, images: Images, batches: list[int], epsilons: list[float], channels: int, epochs: int) -> dict[str, Any]:
    """Errors of U² ≈ mU, and of λ₂ ≈ m: [epsilon][batch], each the mean over channels; and the worst channel's."""
    rng = np.random.default_rng(seed)
    if arm == "activations":
        pool = activations(images, epochs, seed)                                         # (channels, samples)
    else:
        size = (channels, 4 * max(batches))
        pool = rng.exponential(size=size) if arm == "exponential" else rng.normal(size=size)
    pool = pool[rng.permutation(len(pool))[:channels]]
    found: dict[str, Any] = {"U": [], "lambda": [], "worst": []}
    for eps in epsilons:
        errors = np.array([[error(rng.choice(x, m, replace=False), eps, normalized=arm != "independent") for x in pool if x.std() > 0] for m in batches])
        for name, value in (("U", errors[..., 0].mean(1)), ("lambda", errors[..., 1].mean(1)), ("worst", errors[..., 1].max(1))):
            found[name].append(value.tolist())
    return found


def activations(images: Images, epochs: int, seed: int) -> Array:
    """What reaches the batch norms of a trained network, one row per channel: float64 (channels, samples). Each sample is a pixel of an image."""
    model = models.build("tiny_cnn", in_channels=images.channels, size=images.pixels)
    fit(model, images, Options(epochs=epochs, seed=seed))
    found = [x.swapaxes(0, 1).reshape(x.shape[1], -1).astype("float64")
             for _, _, x in inputs_of(model, mg.tensor(images.train[0][:256]), (layers.BatchNorm2d,))]
    samples = min(x.shape[1] for x in found)
    rng = np.random.default_rng(seed)
    return np.concatenate([x[:, rng.permutation(x.shape[1])[:samples]] for x in found])


def slope(values: list[float], batches: list[int]) -> float:
    """Of log error against log m."""
    return float(np.polyfit(np.log(batches), np.log(values), 1)[0])


@jacobian_batch_size.table
def rows(runs: Runs) -> Iterator[Row]:
    """Each number is a mean over seeds; a seed draws the data, and trains its own network. The document gives no number for the speed of the fall:
    −0.5 is that of the moments by which it argues, and the arm of independent draws has it."""
    batches, epsilons = runs.sizes["batches"], runs.sizes["epsilons"]
    at = epsilons.index(1e-5)
    yield Row("slope of log ‖U² − mU‖ against log m, x̂ independent N(0, 1), as the text reads", -0.5,
              mean([slope(v[at], batches) for v in runs.values("independent", "U")]), near(-0.5, absolute=0.1))
    for arm in ARMS[:3]:
        yield Row(f"slope of log ‖U² − mU‖ against log m, batch norm's x̂, ε = 1e-5, {arm}", -0.5, mean([slope(v[at], batches) for v in runs.values(arm, "U")]),
                  near(-0.5, absolute=0.1), headline=arm == "Gaussian", note="the error is that of ε, which no batch size lessens")
    for arm in ARMS[:3]:
        yield Row(f"1 − λ₂/m at m = {batches[0]}, ε = 1e-5, {arm}", 0.0, mean([v[at][0] for v in runs.values(arm, "lambda")]), near(0.0, absolute=0.01),
                  note="as small as the document says, for a small batch and without Gaussian data, too" if arm == "exponential" else "")
    yield Row("largest ‖U² − mU‖/‖mU‖ at ε = 0, any arm, any m", 0.0,
              mean([max(max(runs.of(arm)[seed].result["U"][epsilons.index(0.0)]) for arm in ARMS[:3]) for seed in range(len(runs.of(ARMS[0])))]),
              near(0.0, absolute=1e-6))


@jacobian_batch_size.figure
def draw(fig: Any, runs: Runs) -> None:
    """Error against batch size: one panel per kind of data, one line per ε."""
    fig.set_size_inches(11, 3.4)
    batches = runs.sizes["batches"]
    for ax, arm in zip(fig.subplots(1, len(ARMS), sharey=True), ARMS, strict=True):
        for k, eps in enumerate(runs.sizes["epsilons"]):
            if arm == "independent" and k:
                break
            values = np.maximum([v[k] for v in runs.values(arm, "U")], 1e-17)            # (seeds, batches)
            ax.plot(batches, values.mean(0), marker="o", ms=3, label="no ε: moments" if arm == "independent" else f"ε = {eps:g}")
        ax.set(title=arm, xlabel="batch size m", xscale="log", yscale="log")
        ax.legend(fontsize=7)
    fig.axes[0].set_ylabel("‖U² − mU‖ / ‖mU‖")
