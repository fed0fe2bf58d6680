"""Batch normalization at inference: an affine map of each channel with fixed running statistics.

    x (N, C) or (N, C, *spatial)    gamma, beta, running_mean, running_var (C,)    y like x

A function of its own with its own backward: mode never hides in an op. The running statistics are constants.
Source: bn-lecture (forward pass with the statistics held fixed: the paths through mean and variance are cut).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import named, sqrt
from minigrad import sum as sum_

from .registry import Case, register
from .shapes import per_channel


def composed(x: Any, gamma: Any, beta: Any, *, running_mean: Any, running_var: Any, eps: float) -> Any:
    """(x − running mean) / √(running variance + ε) · γ + β, as a graph of primitives."""
    _, (gamma, beta, rm, rv) = per_channel("batch_norm_eval", x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    xhat = named("xhat", (x - rm) / sqrt(rv + eps))
    return named("y", xhat * gamma + beta)


# With fixed statistics y = a·x + b for each channel, so dx = a·g with no mean and no xhat to subtract.


def no_statistics(x: Any) -> tuple[Any, ...]:
    """Nothing about the batch enters."""
    return ()


def batch_norm_eval(xp: Any, x: Any, gamma: Any, beta: Any, *, running_mean: Any, running_var: Any, eps: float) -> Any:
    """a·x + b with a = γ/√(rv + ε) and b = β − a·rm."""
    _, (gamma, beta, rm, rv) = per_channel("batch_norm_eval", x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    a = gamma / sqrt(rv + eps)
    return x * a + (beta - a * rm)


def backward(g: Any, saved: Any, x: Any, gamma: Any, *, running_mean: Any, running_var: Any, eps: float) -> tuple[Any, Any, Any]:
    """dx = g·γ/s, dγ = (Σ g·x − rm·Σ g)/s, dβ = Σ g, with s = √(rv + ε)."""
    axes, (gamma_,) = per_channel("batch_norm_eval", x, gamma=gamma)
    _, (rv_,) = per_channel("batch_norm_eval", x, running_var=running_var)
    d_beta = sum_(g, axes)
    d_gamma = (sum_(g * x, axes) - running_mean * d_beta) / sqrt(running_var + eps)
    return g * (gamma_ / sqrt(rv_ + eps)), d_gamma, d_beta


one_line = mg.by_hand(save=no_statistics, backward=backward)(batch_norm_eval)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Images and features, with statistics that are not those of the batch."""
    for name, shape, eps in (("images", (3, 4, 5, 5), 1e-5), ("features", (6, 3), 0.1), ("one element", (1, 3), 1e-5)):
        c = shape[1]
        arrays = tuple(rng.normal(size=s).astype(dtype) for s in (shape, c, c))
        yield name, arrays, {"running_mean": rng.normal(size=c).astype(dtype), "running_var": rng.uniform(0.5, 2, c).astype(dtype), "eps": eps}


register("batch_norm_eval", composed=composed, derived={"one_line": one_line}, cases=cases, source="bn-lecture, forward pass with fixed statistics")
