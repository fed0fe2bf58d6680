"""Weight normalization: each filter has a direction, that of v, and a separate length, the gain.

    v (out, in, *kernel)    gain (out,)    w like v        a filter is a row: d = in · kernel elements

Source: Salimans and Kingma [salimans2016], eq 2 (forward) and eq 3 (gradients); cwn starts from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import named, reshape, sqrt
from minigrad import sum as sum_

from ..registry import Case, register
from .filters import per_filter, refuse_flat_filters

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(v: Any, gain: Any) -> Any:
    """gain · v/‖v‖ as a graph of primitives; the tape derives the backward."""
    axes, _, (gain_,) = per_filter("weight_norm", v, gain=gain)
    refuse_flat_filters("weight_norm", v, centred=False)
    norm = named("norm", sqrt(sum_(v * v, axes, keepdims=True)))       # (out, 1, ...)
    u = named("u", v / norm)                                           # like v
    return named("w", u * gain_)                                       # like v    eq 2


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# u = v/‖v‖ lies on the unit sphere, so it can only turn: d‖v‖ = u·dv, hence du = (dv − u (u·dv))/‖v‖, what is left of dv
# after its component along u is taken out. This map is symmetric, so the cotangent goes back through the same projection:
# dv is orthogonal to v, a step along it can only make v longer, and the gain alone decides the length of w.


def inverse_norm(v: Any) -> tuple[Any]:
    """1/‖v‖ of each filter, (out, 1, ...): the cache."""
    axes, _, _ = per_filter("weight_norm", v)
    refuse_flat_filters("weight_norm", v, centred=False)
    return (1.0 / sqrt(mg.paired_sums(v, v, None, axes)[1]),)


def weight_norm(xp: Any, v: Any, gain: Any, *, saved: Any) -> Any:
    """(gain/‖v‖)·v in one pass."""
    _, _, (gain_,) = per_filter("weight_norm", v, gain=gain)
    (rnorm,) = saved
    return mg.scale_shift(v, None, gain_ * rnorm)


def backward(g: Any, saved: Any, v: Any, gain: Any) -> tuple[Any, Any]:
    """dv = (gain/‖v‖)·(g − u·(u·g)), dgain = u·g."""
    axes, _, (gain_,) = per_filter("weight_norm", v, gain=gain)
    (rnorm,) = saved
    _, along = mg.paired_sums(g, v, None, axes, r=rnorm)               # u·g: (out, 1, ...)
    a = gain_ * rnorm
    dv = mg.combine(g, v, None, a=a, b=-a * rnorm * along)             # like v    eq 3
    return dv, reshape(along, (-1,))


one_line = mg.by_hand(save=inverse_norm, backward=backward)(weight_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and gains that other implementations divide by."""
    def case(name: str, *shape: int, scale: float = 0.5) -> Case:
        return name, ((scale * rng.normal(size=shape)).astype(dtype), rng.normal(1, 0.5, shape[0]).astype(dtype)), {}

    yield case("linear", 4, 6)
    yield case("convolution", 3, 2, 3, 3)
    yield case("more rows than columns", 7, 3)
    yield case("one filter", 1, 5)
    yield case("one input, kernel 1 x 3", 4, 1, 1, 3)
    yield case("small weights", 3, 6, scale=1e-4)
    name, (v, gain), kw = case("gain 0 and negative", 4, 5)
    gain[0], gain[1] = 0, -1.3
    yield name, (v, gain), kw
    name, (v, gain), kw = case("filters of equal elements, and equal filters", 4, 3, 2)
    v[1], v[2] = 0.7, v[3]
    yield name, (v, gain), kw


register("weight_norm", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="Salimans and Kingma [salimans2016], eqs 2 and 3")
