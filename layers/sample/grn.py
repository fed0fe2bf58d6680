"""Global response normalization: each channel of a sample is scaled by its share of the sample's response; nothing is centred.

    x (N, C, *spatial)    gamma, beta (C,)    y like x        G (N, C, 1, ...): norm of a channel over space

Source: Woo et al. [woo2023], section 4, with channels on axis 1. γ = β = 0, where they start, gives y = x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import mean, named, reshape, where
from minigrad import sum as sum_

from ..registry import Case, register
from ..shapes import per_channel, refuse_constant_channels

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    """GRN as a graph of primitives; the tape derives the backward."""
    axes, (gamma, beta) = per_channel("grn", x, spatial=1, gamma=gamma, beta=beta)
    response = named("response", mg.norm(x, axis=axes[1:], keepdims=True))  # G: (N, C, 1, 1)
    average = named("average", mean(response, 1, keepdims=True))       # (N, 1, 1, 1)
    refuse_constant_channels("grn", average, eps, "a sample of zeros")
    share = named("share", response / (average + eps))                 # (N, C, 1, 1)
    scaled = named("scaled", x * share)                                # like x
    return named("y", gamma * scaled + beta + x)                       # like x


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# y = x·(1 + γN) + β with N = G/s, s = mean G + ε over the C channels, G = ‖x‖ over space. Straight from y to x goes
# g·(1 + γN). By N, which is one number for each (sample, channel), goes t = γ·Σ g·x. A channel's G is in its own N, and
# through s in the N of all channels: dG = t/s − mean(t·G)/s² with the mean over channels. Then dx gains dG·x/G, in the
# direction of x alone, and 0 where a channel is 0. Σ g·x over space is all that dγ needs, too: dγ = Σ N·Σ g·x over samples.


def statistics(x: Any) -> tuple[Any]:
    """The response G of each channel of each sample, (N, C, 1, 1)."""
    return (mg.norm(x, axis=tuple(range(2, x.ndim)), keepdims=True),)


def grn(xp: Any, x: Any, gamma: Any, beta: Any, *, eps: float, saved: Any) -> Any:
    """(1 + γN)·x + β in one pass."""
    _, (gamma, beta) = per_channel("grn", x, spatial=1, gamma=gamma, beta=beta)
    (response,) = saved
    average = mean(response, 1, keepdims=True)
    refuse_constant_channels("grn", average, eps, "a sample of zeros")
    return mg.scale_shift(x, None, 1.0 + gamma * (response / (average + eps)), beta)


def backward(g: Any, saved: Any, x: Any, gamma: Any, *, eps: float) -> tuple[Any, Any, Any]:
    """dx = (1 + γN)·g + (t − mean(t·N))/s · x/G with t = γ·Σ g·x; dγ, dβ add N·Σ g·x and Σ g over samples."""
    axes, (gamma_,) = per_channel("grn", x, spatial=1, gamma=gamma)
    (response,) = saved
    s = mean(response, 1, keepdims=True) + eps                         # (N, 1, 1, 1)
    share = response / s                                               # N: (N, C, 1, 1)
    sum_g, sum_gx = mg.paired_sums(g, x, None, axes[1:])               # Σ g, Σ g·x over space: (N, C, 1, 1)
    t = gamma_ * sum_gx                                                # (N, C, 1, 1)
    d_response = (t - mean(t * share, 1, keepdims=True)) / s           # (N, C, 1, 1)
    silent = response == 0
    along = where(silent, 0.0, d_response) / where(silent, 1.0, response)
    dx = mg.combine(g, x, None, a=1.0 + gamma_ * share, b=along)       # like x
    return dx, reshape(sum_(share * sum_gx, 0), (-1,)), reshape(sum_(sum_g, 0), (-1,))


one_line = mg.by_hand(save=statistics, backward=backward)(grn)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and responses on which it is hard to be right."""
    def case(name: str, *shape: int, mean: float = 0.0, eps: float = 1e-6) -> Case:
        c = shape[1]
        arrays = rng.normal(mean, 1.5, shape), rng.normal(0.5, 0.5, c), rng.normal(size=c)
        return name, tuple(a.astype(dtype) for a in arrays), {"eps": eps}

    yield case("images", 3, 4, 4, 5)
    yield case("sequences", 2, 3, 6)
    yield case("volumes", 2, 2, 2, 3, 2)
    yield case("one sample", 1, 3, 3, 3)
    yield case("one channel", 3, 1, 2, 4)
    yield case("eps = 0", 3, 2, 3, 3, eps=0.0)
    yield case("large eps", 3, 2, 3, 3, eps=0.7)
    yield case("one element", 3, 4, 1, 1)
    yield case("mean 1e4", 2, 3, 4, 4, mean=1e4)
    name, (x, gamma, beta), kw = case("gamma 0 and negative", 2, 3, 3, 3)
    gamma[0], gamma[1] = 0, -1.3
    yield name, (x, gamma, beta), kw
    name, (x, gamma, beta), kw = case("a silent channel, and a loud one", 3, 4, 2, 2)
    x[1, 2], x[2, 0] = 0, 50 * x[2, 0]
    yield name, (x, gamma, beta), kw
    name, (x, gamma, beta), kw = case("a sample of zeros", 2, 3, 2, 2, eps=0.2)
    x[1] = 0
    yield name, (x, gamma, beta), kw


register("grn", composed=composed, derived={"one_line": one_line}, cases=cases, source="Woo et al. [woo2023], section 4")
