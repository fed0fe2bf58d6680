"""Weight standardization: each filter is centred, then divided by its standard deviation.

    v (out, in, *kernel)    w like v        a filter is a row: d = in · kernel elements, biased variance

It is centred weight normalization times √d (exactly so at ε = 0), with an ε that lets constant filters pass as zeros.

Source: Qiao et al. [qiao2019]. The gradient is bn-lecture's, with filters for channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import mean, named, sqrt

from ..registry import Case, register
from ..shapes import exact_mean
from .filters import per_filter, refuse_flat_filters

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(v: Any, *, eps: float) -> Any:
    """(v − mean v)/√(var v + ε) as a graph of primitives; the tape derives the backward."""
    axes, _, _ = per_filter("weight_standardization", v)
    refuse_flat_filters("weight_standardization", v, eps=eps)
    mu = named("mu", exact_mean(v, axes=axes))                         # (out, 1, ...)
    vc = named("vc", v - mu)                                           # like v
    var = named("var", mean(vc * vc, axes, keepdims=True))             # (out, 1, ...)
    rstd = named("rstd", 1.0 / sqrt(var + eps))                        # (out, 1, ...)
    return named("w", vc * rstd)                                       # like v


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# A filter here is what a channel is for batch norm, with γ = 1 and β = 0: the same two sums, and the same one line. The
# ε keeps a small part of g along w alive: Σ w·dv = (ε/(var + ε))·Σ g·w / s, which is 0 for centred weight normalization.


def statistics(v: Any) -> tuple[Any, Any]:
    """Mean and biased variance of each filter, (out, 1, ...): the cache."""
    axes, _, _ = per_filter("weight_standardization", v)
    return mg.moments(v, axes)


def weight_standardization(xp: Any, v: Any, *, eps: float, saved: Any) -> Any:
    """(v − μ)/s in one pass, with s = √(var + ε)."""
    refuse_flat_filters("weight_standardization", v, eps=eps)
    mu, var = saved
    return mg.scale_shift(v, mu, 1.0 / sqrt(var + eps))


def backward(g: Any, saved: Any, v: Any, *, eps: float) -> tuple[Any]:
    """dv = (g − mean g − w·mean(g·w))/s:  a·g + b·(v − μ) + c  with one coefficient of each kind per filter."""
    axes, d, _ = per_filter("weight_standardization", v)
    mu, var = saved
    rstd = 1.0 / sqrt(var + eps)                                       # (out, 1, ...)
    sum_g, sum_gw = mg.paired_sums(g, v, mu, axes, r=rstd)             # Σ g and Σ g·w: (out, 1, ...)
    return (mg.combine(g, v, mu, a=rstd, b=-rstd * rstd * sum_gw / d, c=-rstd * sum_g / d),)


one_line = mg.by_hand(save=statistics, backward=backward)(weight_standardization)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and filters on which it is hard to be right."""
    def case(name: str, *shape: int, mean: float = 0.0, eps: float = 1e-5) -> Case:
        return name, (rng.normal(mean, 0.5, shape).astype(dtype),), {"eps": eps}

    yield case("linear", 4, 6)
    yield case("convolution", 3, 2, 3, 3)
    yield case("more rows than columns", 7, 3)
    yield case("one filter", 1, 5)
    yield case("one element in a filter", 3, 1, eps=0.1)
    yield case("two elements in a filter", 3, 2)
    yield case("eps = 0", 4, 6, eps=0.0)
    yield case("large eps", 4, 6, eps=0.3)
    yield case("mean 1e4", 3, 8, mean=1e4)
    name, (v,), kw = case("a constant filter, and one of zeros", 4, 3, 2, eps=1e-3)
    v[1], v[2] = 0.7, 0
    yield name, (v,), kw


register("weight_standardization", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="Qiao et al. [qiao2019]; gradient as bn-lecture's")
