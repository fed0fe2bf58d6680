"""Layer normalization: each sample is centred and scaled by its own mean and variance, over its last axes.

    x (*lead, *shape)    gamma, beta (*shape)    y like x        m = elements of gamma: those that one mean is over

Nothing depends on the rest of the batch, so training and evaluation are the same function.
Source: bn-lecture's derivatives with the axes exchanged; h = γ·g takes the place of g, because γ now varies along the sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import mean, named, reshape, sqrt

from ..registry import Case, register
from ..shapes import exact_mean, refuse_constant_channels, trailing

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    """Layer norm as a graph of primitives; the tape derives the backward."""
    axes, (gamma, beta) = trailing("layer_norm", x, gamma=gamma, beta=beta)
    mu = named("mu", exact_mean(x, axes=axes))                         # (*lead, 1, ..., 1)
    xc = named("xc", x - mu)                                           # like x
    var = named("var", mean(xc * xc, axes, keepdims=True))             # (*lead, 1, ..., 1)
    refuse_constant_channels("layer_norm", var, eps, "a constant row", x, axes)
    rstd = named("rstd", 1.0 / sqrt(var + eps))                        # (*lead, 1, ..., 1)
    xhat = named("xhat", xc * rstd)                                    # like x
    return named("y", xhat * gamma + beta)                             # like x


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# Write x as a matrix with one row for each mean: R rows, D columns. Each row is a separate batch norm, whose
# cotangent is that of xhat, h = γ·g: so dx = (h − mean h − xhat·mean(h·xhat))/s with means along the row. The
# parameters' gradients are sums down the columns: dγ = Σ g·xhat, dβ = Σ g. Two directions, so two readings of g and x.


def statistics(x: Any, gamma: Any) -> tuple[Any, Any]:
    """Mean and (biased) variance of each row, (R, 1)."""
    trailing("layer_norm", x, gamma=gamma)
    return mg.moments(reshape(x, (-1, gamma.size)), 1)


def layer_norm(xp: Any, x: Any, gamma: Any, beta: Any, *, eps: float, saved: Any) -> Any:
    """γ·(x − μ)/s + β in one pass, with s = √(var + ε)."""
    _, (gamma, beta) = trailing("layer_norm", x, gamma=gamma, beta=beta)
    mu, var = saved
    rows, gamma, beta = reshape(x, (-1, gamma.size)), reshape(gamma, (1, -1)), reshape(beta, (1, -1))
    refuse_constant_channels("layer_norm", var, eps, "a constant row", rows, 1)
    return reshape(mg.scale_shift(rows, mu, 1.0 / sqrt(var + eps), beta, w=gamma), x.shape)


def backward(g: Any, saved: Any, x: Any, gamma: Any, *, eps: float) -> tuple[Any, Any, Any]:
    """dx = (h − mean h − xhat·mean(h·xhat))/s for each row, with h = γ·g."""
    _, (gamma,) = trailing("layer_norm", x, gamma=gamma)
    mu, var = saved
    m = gamma.size
    g, rows, gamma_ = reshape(g, (-1, m)), reshape(x, (-1, m)), reshape(gamma, (1, -1))
    rstd = 1.0 / sqrt(var + eps)                                       # (R, 1)
    sum_h, sum_hx = mg.paired_sums(g, rows, mu, 1, gamma_, rstd)       # Σ h, Σ h·xhat along rows: (R, 1)
    d_beta, d_gamma = mg.paired_sums(g, rows, mu, 0, r=rstd)           # Σ g, Σ g·xhat down columns: (1, D)
    dx = mg.combine(g, rows, mu, a=rstd, b=-rstd * rstd * sum_hx / m, c=-rstd * sum_h / m, w=gamma_)
    return reshape(dx, x.shape), reshape(d_gamma, gamma.shape), reshape(d_beta, gamma.shape)


one_line = mg.by_hand(save=statistics, backward=backward, fused=mg.FusedRows(centred=True))(layer_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and rows on which it is hard to be right."""
    def case(name: str, lead: tuple[int, ...], shape: tuple[int, ...], mean: float = 0.0, eps: float = 1e-5) -> Case:
        arrays = (rng.normal(mean, 1.5, lead + shape), rng.normal(1, 0.5, shape), rng.normal(size=shape))
        return name, tuple(a.astype(dtype) for a in arrays), {"eps": eps}

    yield case("features", (6,), (5,))
    yield case("sequences", (2, 3), (7,))
    yield case("images, over (C, H, W)", (3,), (2, 3, 4))
    yield case("one sample", (1,), (6,))
    yield case("no leading axis", (), (6,))
    yield case("eps = 0", (4,), (5,), eps=0.0)
    yield case("large eps", (4,), (5,), eps=0.3)
    yield case("two elements", (5,), (2,))
    yield case("mean 1e4", (4,), (8,), mean=1e4)
    name, (x, gamma, beta), kw = case("gamma 0 and negative", (5,), (4,))
    gamma[0], gamma[1] = 0, -1.3
    yield name, (x, gamma, beta), kw
    name, (x, gamma, beta), kw = case("constant row", (4,), (5,))
    x[1] = 0.7
    yield name, (x, gamma, beta), kw


register("layer_norm", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="bn-lecture, along rows; Ba et al. [ba2016]")
