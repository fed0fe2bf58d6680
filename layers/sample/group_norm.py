"""Group normalization: groups of neighbouring channels of each sample share one mean and variance.

    x (N, C) or (N, C, *spatial)    gamma, beta (C,)    y like x        m = C/groups · spatial: elements of one group

One group is layer norm over (C, *spatial) with γ, β by channel; C groups are instance norm.
Source: bn-lecture's derivatives with one mean for each (sample, group); h = γ·g because γ varies inside a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import minigrad as mg
from minigrad import mean, named, reshape, sqrt
from minigrad import sum as sum_
from minigrad.core.errors import error, integer

from ..registry import Case, register
from ..shapes import exact_mean, per_channel, refuse_constant_channels


def grouped(x: Any, groups: int) -> tuple[int, int, int, int]:
    """The shape (N, groups, C/groups, spatial) of x with its groups as an axis."""
    per_channel("group_norm", x)
    n, c, *spatial = x.shape
    groups = integer("group_norm", "groups", groups, 1)
    if c % groups:
        raise error(ValueError, "group_norm", got=f"{groups} groups for {c} channels", needs="groups of equal size",
                    fix="choose a divisor of the number of channels")
    return n, groups, c // groups, prod(spatial)


# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, gamma: Any, beta: Any, *, groups: int, eps: float) -> Any:
    """Group norm as a graph of primitives; the tape derives the backward."""
    _, (gamma, beta) = per_channel("group_norm", x, gamma=gamma, beta=beta)
    xg = reshape(x, grouped(x, groups))                                # (N, G, C/G, L)
    mu = named("mu", exact_mean(xg, axes=(2, 3)))                      # (N, G, 1, 1)
    xc = named("xc", xg - mu)                                          # (N, G, C/G, L)
    var = named("var", mean(xc * xc, (2, 3), keepdims=True))           # (N, G, 1, 1)
    refuse_constant_channels("group_norm", var, eps, "a constant group", xg, (2, 3))
    rstd = named("rstd", 1.0 / sqrt(var + eps))                        # (N, G, 1, 1)
    xhat = named("xhat", reshape(xc * rstd, x.shape))                  # like x
    return named("y", xhat * gamma + beta)                             # like x


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# As layer norm for each (sample, group): dx = (h − mean h − xhat·mean(h·xhat))/s with h = γ·g. But γ only varies from
# channel to channel, so Σ h is a sum over the group's channels of γ·Σ g, and Σ h·xhat likewise. The sums over space,
# Σ g and Σ g·xhat, are all that is needed: weighted and added within a group they give dx, added over samples dβ and dγ.


def statistics(x: Any, *, groups: int) -> tuple[Any, Any]:
    """Mean and (biased) variance of each group of each sample, (N, G, 1, 1)."""
    return mg.moments(reshape(x, grouped(x, groups)), (2, 3))


def group_norm(xp: Any, x: Any, gamma: Any, beta: Any, *, groups: int, eps: float, saved: Any) -> Any:
    """γ·(x − μ)/s + β in one pass, with s = √(var + ε)."""
    _, (gamma, beta) = per_channel("group_norm", x, gamma=gamma, beta=beta)
    mu, var = saved
    xg, gamma, beta = reshape(x, grouped(x, groups)), reshape(gamma, (1, groups, -1, 1)), reshape(beta, (1, groups, -1, 1))
    refuse_constant_channels("group_norm", var, eps, "a constant group", xg, (2, 3))
    return reshape(mg.scale_shift(xg, mu, gamma / sqrt(var + eps), beta), x.shape)


def backward(g: Any, saved: Any, x: Any, gamma: Any, *, groups: int, eps: float) -> tuple[Any, Any, Any]:
    """dx = (h − mean h − xhat·mean(h·xhat))/s for each (sample, group), with h = γ·g."""
    _, (gamma_,) = per_channel("group_norm", x, gamma=gamma)
    mu, var = saved
    shape = grouped(x, groups)
    m = shape[2] * shape[3]
    g, xg, gamma_ = reshape(g, shape), reshape(x, shape), reshape(gamma_, (1, groups, -1, 1))
    rstd = 1.0 / sqrt(var + eps)                                       # (N, G, 1, 1)
    sum_g, sum_gx = mg.paired_sums(g, xg, mu, 3, r=rstd)               # Σ g, Σ g·xhat over space: (N, G, C/G, 1)
    mean_h = sum_(gamma_ * sum_g, 2, keepdims=True) / m                # (N, G, 1, 1)
    mean_hx = sum_(gamma_ * sum_gx, 2, keepdims=True) / m              # (N, G, 1, 1)
    dx = mg.combine(g, xg, mu, a=gamma_ * rstd, b=-rstd * rstd * mean_hx, c=-rstd * mean_h)
    return reshape(dx, x.shape), reshape(sum_(sum_gx, 0), gamma.shape), reshape(sum_(sum_g, 0), gamma.shape)


one_line = mg.by_hand(save=statistics, backward=backward)(group_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and groups on which it is hard to be right."""
    def case(name: str, groups: int, *shape: int, mean: float = 0.0, eps: float = 1e-5) -> Case:
        c = shape[1]
        arrays = rng.normal(mean, 1.5, shape), rng.normal(1, 0.5, c), rng.normal(size=c)
        return name, tuple(a.astype(dtype) for a in arrays), {"groups": groups, "eps": eps}

    yield case("images", 2, 3, 4, 2, 3)
    yield case("features", 3, 4, 6)
    yield case("sequences", 2, 2, 4, 5)
    yield case("one group", 1, 3, 4, 2, 2)
    yield case("a group for each channel", 3, 3, 3, 2, 3)
    yield case("one sample", 2, 1, 4, 3, 3)
    yield case("eps = 0", 2, 3, 4, 2, 2, eps=0.0)
    yield case("large eps", 2, 3, 4, 2, 2, eps=0.3)
    yield case("one spatial element", 2, 3, 6, 1, 1)
    yield case("one element", 3, 4, 3, eps=0.1)
    yield case("mean 1e4", 2, 2, 4, 4, 4, mean=1e4)
    name, (x, gamma, beta), kw = case("gamma 0 and negative", 2, 3, 6, 2, 2)
    gamma[0], gamma[1], gamma[3:] = 0, -1.3, 0
    yield name, (x, gamma, beta), kw
    name, (x, gamma, beta), kw = case("constant group", 2, 3, 4, 2, 2)
    x[1, 2:] = 0.7
    yield name, (x, gamma, beta), kw


register("group_norm", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="bn-lecture, mean over each sample's groups; Wu and He [wu2018]")
