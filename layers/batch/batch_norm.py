"""Batch normalization: each channel is centred and scaled by its own mean and variance over the batch.

    x (N, C) or (N, C, *spatial)    gamma, beta (C,)    y like x        m = N · spatial elements per channel

In float32 a channel's deviation σ may go up to 10¹⁹/√m: beyond that Σ(x − μ)² overflows, and y = β with dx = 0.

Source: bn-lecture ("A closer look at the math inside batch normalization"), forward pass and its six derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import mean, named, sqrt
from minigrad import sum as sum_

from ..registry import Case, register
from ..shapes import exact_mean, per_channel, refuse_constant_channels

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    """Batch norm as a graph of primitives; the tape derives the backward."""
    axes, (gamma, beta) = per_channel("batch_norm", x, gamma=gamma, beta=beta)
    mu = named("mu", exact_mean(x, axes=axes))                         # (1, C, 1, 1)
    xc = named("xc", x - mu)                                           # like x
    var = named("var", mean(xc * xc, axes, keepdims=True))             # (1, C, 1, 1)
    refuse_constant_channels("batch_norm", var, eps, x=x, axes=axes)
    rstd = named("rstd", 1.0 / sqrt(var + eps))                        # (1, C, 1, 1)
    xhat = named("xhat", xc * rstd)                                    # like x
    return named("y", xhat * gamma + beta)                             # like x


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# x reaches y along three paths: directly through xhat, through the variance, and through the mean. bn-lecture takes them
# one after the other ("staged"). Adding them up, the mean's own path through the variance vanishes, because Σ(x − μ) = 0,
# and what is left is a projection: g without its mean and without its component along xhat ("one line").


def statistics(x: Any) -> tuple[Any, Any]:
    """Mean and (biased) variance of each channel: the cache of both derivations."""
    return mg.moments(x, (0, *range(2, x.ndim)))


def batch_norm(xp: Any, x: Any, gamma: Any, beta: Any, *, eps: float, saved: Any) -> Any:
    """(γ/s)·(x − μ) + β in one pass, with s = √(var + ε)."""
    axes, (gamma, beta) = per_channel("batch_norm", x, gamma=gamma, beta=beta)
    mu, var = saved
    refuse_constant_channels("batch_norm", var, eps, x=x, axes=axes)
    return mg.scale_shift(x, mu, gamma / sqrt(var + eps), beta)


def staged_backward(g: Any, saved: Any, x: Any, gamma: Any, *, eps: float) -> tuple[Any, Any, Any]:
    """The six derivatives of bn-lecture, in its order."""
    axes, (gamma_,) = per_channel("batch_norm", x, gamma=gamma)
    mu, var = saved
    m = x.size // x.shape[1]
    xhat = (x - mu) / sqrt(var + eps)
    d_gamma = sum_(g * xhat, axes)
    d_beta = sum_(g, axes)
    d_xhat = g * gamma_
    d_var = sum_(d_xhat * xhat, axes, keepdims=True) * -0.5 / (var + eps)    # xhat/s² is (x − μ)/s³, which underflows first
    d_mu = d_var * mean(-2.0 * (x - mu), axes, keepdims=True) - sum_(d_xhat, axes, keepdims=True) / sqrt(var + eps)
    dx = d_xhat / sqrt(var + eps) + d_var * (2.0 / m) * (x - mu) + d_mu / m
    return dx, d_gamma, d_beta


def one_line_backward(g: Any, saved: Any, x: Any, gamma: Any, *, eps: float) -> tuple[Any, Any, Any]:
    """dx = (γ/s)·(g − mean g − xhat·mean(g·xhat)):  a·g + b·(x − μ) + c  with one coefficient of each kind per channel."""
    axes, (gamma_,) = per_channel("batch_norm", x, gamma=gamma)
    mu, var = saved
    m = x.size // x.shape[1]
    rstd = 1.0 / sqrt(var + eps)                                       # (1, C, 1, 1)
    sum_g, sum_gx = mg.paired_sums(g, x, mu, axes, r=rstd)             # Σ g, Σ g·xhat: one pass over g and x
    a = gamma_ * rstd
    dx = mg.combine(g, x, mu, a=a, b=-a * rstd * sum_gx / m, c=-a * sum_g / m)
    return dx, mg.reshape(sum_gx, (-1,)), mg.reshape(sum_g, (-1,))


staged = mg.by_hand(save=statistics, backward=staged_backward)(batch_norm)
one_line = mg.by_hand(save=statistics, backward=one_line_backward)(batch_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and the places where implementations of batch norm have been wrong."""
    def case(name: str, *shape: int, mean: float = 0.0, eps: float = 1e-5) -> Case:
        c = shape[1]
        arrays = (rng.normal(mean, 1.5, shape).astype(dtype), rng.normal(1, 0.5, c).astype(dtype), rng.normal(size=c).astype(dtype))
        return name, arrays, {"eps": eps}

    yield case("images", 4, 3, 5, 6)
    yield case("features", 8, 5)
    yield case("eps = 0", 6, 4, 3, 3, eps=0.0)
    yield case("large eps", 6, 4, 3, 3, eps=0.3)
    yield case("n = 2", 2, 3)
    yield case("mean 1e4", 8, 3, 4, 4, mean=1e4)
    name, (x, gamma, beta), kw = case("gamma 0 and negative", 5, 4, 3, 3)
    gamma[0], gamma[1] = 0, -1.3
    yield name, (x, gamma, beta), kw
    name, (x, gamma, beta), kw = case("constant channel", 5, 3, 2, 2)
    x[:, 1] = 0.7
    yield name, (x, gamma, beta), kw


register("batch_norm", composed=composed, derived={"staged": staged, "one_line": one_line}, default="one_line", cases=cases,
         source="bn-lecture: forward pass, backward pass summary; 'further simplify (on board)' is the one line")
