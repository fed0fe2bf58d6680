"""Instance normalization: each channel of each sample is centred and scaled by its own mean and variance.

    x (N, C, *spatial)    gamma, beta (C,)    y like x        m = spatial elements: those that one mean is over

Source: bn-lecture's derivatives with the mean over the spatial axes only; batch norm of (1, N·C, *spatial).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import minigrad as mg
from minigrad import mean, named, reshape, sqrt
from minigrad import sum as sum_

from ..registry import Case, register
from ..shapes import exact_mean, per_channel, refuse_constant_channels

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    """Instance norm as a graph of primitives; the tape derives the backward."""
    _, (gamma, beta) = per_channel("instance_norm", x, spatial=1, gamma=gamma, beta=beta)
    axes = tuple(range(2, x.ndim))
    mu = named("mu", exact_mean(x, axes=axes))                         # (N, C, 1, 1)
    xc = named("xc", x - mu)                                           # like x
    var = named("var", mean(xc * xc, axes, keepdims=True))             # (N, C, 1, 1)
    refuse_constant_channels("instance_norm", var, eps, x=x, axes=axes)
    rstd = named("rstd", 1.0 / sqrt(var + eps))                        # (N, C, 1, 1)
    xhat = named("xhat", xc * rstd)                                    # like x
    return named("y", xhat * gamma + beta)                             # like x


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# γ is one number for each (sample, channel), so it stays in front, as in batch norm:
# dx = (γ/s)(g − mean g − xhat·mean(g·xhat)), with s and the means of one sample's channel. The sums over space that this
# needs, Σ g and Σ g·xhat, have shape (N, C); added over samples they are dβ and dγ: one reading of g and x serves both.


def statistics(x: Any) -> tuple[Any, Any]:
    """Mean and (biased) variance of each channel of each sample, (N, C, 1, 1)."""
    return mg.moments(x, tuple(range(2, x.ndim)))


def instance_norm(xp: Any, x: Any, gamma: Any, beta: Any, *, eps: float, saved: Any) -> Any:
    """(γ/s)·(x − μ) + β in one pass, with s = √(var + ε)."""
    _, (gamma, beta) = per_channel("instance_norm", x, spatial=1, gamma=gamma, beta=beta)
    mu, var = saved
    refuse_constant_channels("instance_norm", var, eps, x=x, axes=tuple(range(2, x.ndim)))
    return mg.scale_shift(x, mu, gamma / sqrt(var + eps), beta)


def backward(g: Any, saved: Any, x: Any, gamma: Any, *, eps: float) -> tuple[Any, Any, Any]:
    """dx = (γ/s)(g − mean g − xhat·mean(g·xhat)) for each (sample, channel); dγ, dβ add its two sums over samples."""
    _, (gamma_,) = per_channel("instance_norm", x, spatial=1, gamma=gamma)
    mu, var = saved
    axes, m = tuple(range(2, x.ndim)), prod(x.shape[2:])
    rstd = 1.0 / sqrt(var + eps)                                       # (N, C, 1, 1)
    sum_g, sum_gx = mg.paired_sums(g, x, mu, axes, r=rstd)             # Σ g, Σ g·xhat over space: (N, C, 1, 1)
    a = gamma_ * rstd                                                  # (N, C, 1, 1)
    dx = mg.combine(g, x, mu, a=a, b=-a * rstd * sum_gx / m, c=-a * sum_g / m)
    return dx, reshape(sum_(sum_gx, 0), (-1,)), reshape(sum_(sum_g, 0), (-1,))


one_line = mg.by_hand(save=statistics, backward=backward)(instance_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and channels on which it is hard to be right."""
    def case(name: str, *shape: int, mean: float = 0.0, eps: float = 1e-5) -> Case:
        c = shape[1]
        arrays = rng.normal(mean, 1.5, shape), rng.normal(1, 0.5, c), rng.normal(size=c)
        return name, tuple(a.astype(dtype) for a in arrays), {"eps": eps}

    yield case("images", 3, 2, 4, 5)
    yield case("sequences", 2, 3, 6)
    yield case("volumes", 2, 2, 2, 3, 2)
    yield case("one sample", 1, 3, 3, 3)
    yield case("eps = 0", 3, 2, 3, 3, eps=0.0)
    yield case("large eps", 3, 2, 3, 3, eps=0.3)
    yield case("one element", 3, 2, 1, 1, eps=0.1)
    yield case("mean 1e4", 2, 3, 4, 4, mean=1e4)
    name, (x, gamma, beta), kw = case("gamma 0 and negative", 2, 3, 3, 3)
    gamma[0], gamma[1] = 0, -1.3
    yield name, (x, gamma, beta), kw
    name, (x, gamma, beta), kw = case("constant channel", 3, 3, 2, 2)
    x[1, 2] = 0.7
    yield name, (x, gamma, beta), kw


register("instance_norm", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="bn-lecture, mean over the spatial axes; Ulyanov et al. [ulyanov2016]")
