"""Batch normalization at inference: an affine map of each channel with fixed running statistics.

    x (N, C) or (N, C, *spatial)    gamma, beta, running_mean, running_var (C,)    y like x

A separate function with its own backward: mode never hides in an op. The running statistics are constants.
Source: bn-lecture (forward pass with the statistics held fixed: the paths through mean and variance are cut).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import named, reshape, sqrt

from ..registry import Case, register
from ..shapes import per_channel


def composed(x: Any, gamma: Any, beta: Any, *, running_mean: Any, running_var: Any, eps: float) -> Any:
    """(x − running mean) / √(running variance + ε) · γ + β, as a graph of primitives."""
    _, (gamma, beta, rm, rv) = per_channel("batch_norm_eval", x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    xhat = named("xhat", (x - rm) / sqrt(rv + eps))
    return named("y", xhat * gamma + beta)


# With fixed statistics y = a·(x − rm) + β for each channel, so dx = a·g with no mean and no xhat to subtract. (a·x + b, with
# b = β − a·rm, would be the same but lose digits: both terms are large where rm is large beside s. So would Σ g·x − rm·Σ g.)


def no_statistics(x: Any) -> tuple[Any, ...]:
    """Nothing about the batch enters."""
    return ()


def batch_norm_eval(xp: Any, x: Any, gamma: Any, beta: Any, *, running_mean: Any, running_var: Any, eps: float) -> Any:
    """a·(x − rm) + β in one pass, with a = γ/√(rv + ε)."""
    _, (gamma, beta, rm, rv) = per_channel("batch_norm_eval", x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    return mg.scale_shift(x, rm, gamma / sqrt(rv + eps), beta)


def backward(g: Any, saved: Any, x: Any, gamma: Any, *, running_mean: Any, running_var: Any, eps: float) -> tuple[Any, Any, Any]:
    """dx = g·γ/s, dγ = Σ g·(x − rm)/s, dβ = Σ g, with s = √(rv + ε)."""
    axes, (gamma_, rm, rv) = per_channel("batch_norm_eval", x, gamma=gamma, running_mean=running_mean, running_var=running_var)
    rstd = 1.0 / sqrt(rv + eps)                                        # (1, C, 1, 1)
    d_beta, d_gamma = mg.paired_sums(g, x, rm, axes, r=rstd)           # Σ g, Σ g·xhat: (1, C, 1, 1)
    return g * (gamma_ * rstd), reshape(d_gamma, gamma.shape), reshape(d_beta, gamma.shape)


one_line = mg.by_hand(save=no_statistics, backward=backward)(batch_norm_eval)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Images and features, with statistics that are not those of the batch."""
    def case(name: str, *shape: int, mean: float = 0.0, eps: float = 1e-5) -> Case:
        c = shape[1]
        arrays = rng.normal(mean, 1, shape), rng.normal(size=c), rng.normal(size=c)
        running = {"running_mean": rng.normal(mean, 1, c).astype(dtype), "running_var": rng.uniform(0.5, 2, c).astype(dtype)}
        return name, tuple(a.astype(dtype) for a in arrays), {**running, "eps": eps}

    yield case("images", 3, 4, 5, 5)
    yield case("features", 6, 3, eps=0.1)
    yield case("one element", 1, 3)
    yield case("mean 1e4", 8, 3, 4, 4, mean=1e4)


register("batch_norm_eval", composed=composed, derived={"one_line": one_line}, cases=cases, source="bn-lecture, forward pass with fixed statistics")
