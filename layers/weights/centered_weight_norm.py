"""Centered weight normalization: each filter is centred, then scaled to length 1.

    v (out, in, *kernel)    w like v        a filter is a row: d = in · kernel elements, Σ w = 0 and ‖w‖ = 1

A gain for each filter, where one is wanted, is a factor outside (`layers.parametrize`, ``scale=True``); cwn calls it without
one "NS". Such filters pass on the variance of inputs that share one mean: cwn, proposition 1.

Source: cwn (supplement of "Centered Weight Normalization"), eq 3, whose two properties are eqs 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import named, sqrt
from minigrad import sum as sum_

from ..registry import Case, register
from ..shapes import exact_mean
from .filters import per_filter, refuse_flat_filters

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(v: Any) -> Any:
    """(v − mean v)/‖v − mean v‖ as a graph of primitives; the tape derives the backward."""
    axes, _, _ = per_filter("centered_weight_norm", v)
    refuse_flat_filters("centered_weight_norm", v)
    mu = named("mu", exact_mean(v, axes=axes))                         # (out, 1, ...)
    vc = named("vc", v - mu)                                           # like v    cwn's v with a hat
    norm = named("norm", sqrt(sum_(vc * vc, axes, keepdims=True)))     # (out, 1, ...)
    return named("w", vc / norm)                                       # like v


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# Two projections follow each other: v → vc takes out the component along 1, vc → w the one along w (see weight_norm.py).
# Both are symmetric, and 1 and w are orthogonal, so the cotangent loses both components at once:
#
#     dv = (g − w (g·w) − 1 (g·1)/d) / ‖vc‖                           cwn eq 3
#
# What is left has Σ dv = 0 (eq 4) and dv·w = 0 (eq 5), and so dv·v = 0: v = ‖vc‖ w + μ 1.


def statistics(v: Any) -> tuple[Any, Any]:
    """Mean of each filter, and 1/‖vc‖: (out, 1, ...)."""
    axes, d, _ = per_filter("centered_weight_norm", v)
    refuse_flat_filters("centered_weight_norm", v)
    mu, var = mg.moments(v, axes)
    return mu, 1.0 / sqrt(d * var)


def centered_weight_norm(xp: Any, v: Any, *, saved: Any) -> Any:
    """(v − μ)·(1/‖vc‖) in one pass."""
    mu, rnorm = saved
    return mg.scale_shift(v, mu, rnorm)


def backward(g: Any, saved: Any, v: Any) -> tuple[Any]:
    """cwn eq 3:  a·g + b·(v − μ) + c  with one coefficient of each kind per filter."""
    axes, d, _ = per_filter("centered_weight_norm", v)
    mu, rnorm = saved
    sum_g, sum_gw = mg.paired_sums(g, v, mu, axes, r=rnorm)            # g·1 and g·w: (out, 1, ...)
    return (mg.combine(g, v, mu, a=rnorm, b=-rnorm * rnorm * sum_gw, c=-rnorm * sum_g / d),)


one_line = mg.by_hand(save=statistics, backward=backward)(centered_weight_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and weights on which centring loses digits."""
    def case(name: str, *shape: int, mean: float = 0.0, scale: float = 0.5) -> Case:
        return name, (rng.normal(mean, scale, shape).astype(dtype),), {}

    yield case("linear", 4, 6)
    yield case("convolution", 3, 2, 3, 3)
    yield case("more rows than columns", 7, 3)
    yield case("one filter", 1, 5)
    yield case("one input, kernel 1 x 3", 4, 1, 1, 3)
    yield case("small weights", 3, 6, scale=1e-4)
    yield case("mean 1e4", 3, 8, mean=1e4)
    name, (v,), kw = case("equal filters, and one turned round", 4, 3, 2)
    v[1], v[2] = v[0], -v[0]
    yield name, (v,), kw


register("centered_weight_norm", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="cwn: eq 3, properties eqs 4 and 5")
