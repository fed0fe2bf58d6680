"""Batch renormalization: batch norm, corrected towards the running statistics that evaluation will use.

    x (N, C) or (N, C, *spatial)    gamma, beta, running_mean, running_var (C,)    y like x        m = N · spatial

r = s/s_running and d = (μ − running mean)/s_running turn (x − μ)/s into (x − running mean)/s_running. They are clipped, so
that a batch may still go its own way a little, and they are *constants* for the derivative. r_max = 1 with d_max = 0 is
batch norm; without clipping the forward is batch_norm_eval's, and the backward is still batch norm's.
Source: Ioffe [ioffe2017], algorithm 1; its dx is bn-lecture's with γ·r for γ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import clip, mean, named, reshape, sqrt
from minigrad.core.errors import error

from ..registry import Case, Form, register
from ..shapes import exact_mean, one_dtype, per_channel, refuse_constant_channels
from . import batch_norm


def check_limits(r_max: float, d_max: float) -> None:
    """r = 1 and d = 0 must be possible."""
    if r_max < 1 or d_max < 0:
        raise error(ValueError, "batch_renorm", got=f"r_max={r_max}, d_max={d_max}", needs="r_max of at least 1 and d_max of at least 0",
                    fix="r_max=1, d_max=0 is batch norm; the paper goes up to 3 and 5")


# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, gamma: Any, beta: Any, *, running_mean: Any, running_var: Any, r_max: float, d_max: float, eps: float) -> Any:
    """Batch renorm as a graph of primitives; the tape derives the backward, and no_grad makes r and d constants."""
    axes, (gamma, beta, rm, rv) = per_channel("batch_renorm", x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    check_limits(r_max, d_max)
    mu = named("mu", exact_mean(x, axes=axes))                         # (1, C, 1, 1)
    xc = named("xc", x - mu)                                           # like x
    var = named("var", mean(xc * xc, axes, keepdims=True))             # (1, C, 1, 1)
    refuse_constant_channels("batch_renorm", var, eps, x=x, axes=axes)
    with mg.no_grad():
        r = clip(sqrt((var + eps) / (rv + eps)), 1 / r_max, r_max)     # (1, C, 1, 1)
        d = clip((mu - rm) / sqrt(rv + eps), -d_max, d_max)            # (1, C, 1, 1)
    rstd = named("rstd", 1.0 / sqrt(var + eps))                        # (1, C, 1, 1)
    xhat = named("xhat", xc * rstd)                                    # like x
    corrected = named("corrected", xhat * r + d)                       # like x
    return named("y", corrected * gamma + beta)                        # like x


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# With r and d held fixed, y = (γr)·(x − μ)/s + (γd + β) is batch norm with γr for γ. So dx = (γr/s)(g − mean g −
# xhat·mean(g·xhat)), where xhat = (x − μ)/s is the batch's own; and γ meets r·xhat + d: dγ = r·Σ g·xhat + d·Σ g.


def statistics(x: Any) -> tuple[Any, Any]:
    """Mean and (biased) variance of each channel."""
    return mg.moments(x, (0, *range(2, x.ndim)))


def correction(saved: Any, running_mean: Any, running_var: Any, r_max: float, d_max: float, eps: float) -> tuple[Any, Any]:
    """r and d, (1, C, 1, 1), as constants."""
    with mg.no_grad():
        mu, var = saved
        running = one_dtype("batch_renorm", mu, running_mean=running_mean, running_var=running_var)
        rm, rv = (reshape(s, mu.shape) for s in running)
        return clip(sqrt((var + eps) / (rv + eps)), 1 / r_max, r_max), clip((mu - rm) / sqrt(rv + eps), -d_max, d_max)


def batch_renorm(xp: Any, x: Any, gamma: Any, beta: Any, *, running_mean: Any, running_var: Any, r_max: float, d_max: float, eps: float,
                 saved: Any) -> Any:
    """(γr/s)·(x − μ) + (γd + β) in one pass, with s = √(var + ε)."""
    axes, (gamma, beta, _, _) = per_channel("batch_renorm", x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    check_limits(r_max, d_max)
    mu, var = saved
    refuse_constant_channels("batch_renorm", var, eps, x=x, axes=axes)
    r, d = correction(saved, running_mean, running_var, r_max, d_max, eps)
    return mg.scale_shift(x, mu, gamma * r / sqrt(var + eps), gamma * d + beta)


def backward(g: Any, saved: Any, x: Any, gamma: Any, *, running_mean: Any, running_var: Any, r_max: float, d_max: float,
             eps: float) -> tuple[Any, Any, Any]:
    """dx = (γr/s)(g − mean g − xhat·mean(g·xhat)), dγ = r·Σ g·xhat + d·Σ g, dβ = Σ g."""
    axes, (gamma_,) = per_channel("batch_renorm", x, gamma=gamma)
    mu, var = saved
    m = x.size // x.shape[1]
    r, d = correction(saved, running_mean, running_var, r_max, d_max, eps)
    rstd = 1.0 / sqrt(var + eps)                                       # (1, C, 1, 1)
    sum_g, sum_gx = mg.paired_sums(g, x, mu, axes, r=rstd)             # Σ g, Σ g·xhat: (1, C, 1, 1)
    a = gamma_ * r * rstd                                              # (1, C, 1, 1)
    dx = mg.combine(g, x, mu, a=a, b=-a * rstd * sum_gx / m, c=-a * sum_g / m)
    return dx, reshape(r * sum_gx + d * sum_g, gamma.shape), reshape(sum_g, gamma.shape)


one_line = mg.by_hand(save=statistics, backward=backward)(batch_renorm)


def frozen(arrays: tuple[Any, ...], keywords: dict[str, Any]) -> Form:
    """The function that is differentiated: batch norm with γr and γd + β, where r and d stay what they are at `arrays`."""
    limits = {k: keywords[k] for k in ("running_mean", "running_var", "r_max", "d_max", "eps")}
    r, d = (reshape(c, (-1,)) for c in correction(statistics(arrays[0]), **limits))
    return lambda x, gamma, beta, *, eps, **_: batch_norm.composed(x, gamma * r, gamma * d + beta, eps=eps)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes; r and d inside their limits, on both sides of them, and cut off; and batch norm's hard places."""
    def case(name: str, *shape: int, mean: float = 0.0, r_max: float = 3.0, d_max: float = 5.0, eps: float = 1e-5) -> Case:
        c = shape[1]
        arrays = rng.normal(mean, 1.5, shape), rng.normal(1, 0.5, c), rng.normal(size=c)
        running = {"running_mean": rng.normal(mean, 1, c), "running_var": rng.uniform(0.5, 5, c)}
        return (name, tuple(a.astype(dtype) for a in arrays),
                {**{k: v.astype(dtype) for k, v in running.items()}, "r_max": r_max, "d_max": d_max, "eps": eps})

    yield case("images", 4, 3, 3, 5)
    yield case("features", 8, 5)
    yield case("clipped", 6, 4, 2, 2, r_max=1.1, d_max=0.2)
    yield case("batch norm", 6, 4, 2, 2, r_max=1.0, d_max=0.0)
    yield case("eps = 0", 6, 4, 2, 2, eps=0.0)
    yield case("large eps", 6, 4, 2, 2, eps=0.3)
    yield case("n = 2", 2, 3)
    yield case("mean 1e4", 8, 3, 3, 3, mean=1e4)
    name, (x, gamma, beta), kw = case("gamma 0 and negative", 5, 4, 2, 2)
    gamma[0], gamma[1] = 0, -1.3
    yield name, (x, gamma, beta), kw
    name, (x, gamma, beta), kw = case("constant channel", 5, 3, 2, 2)
    x[:, 1] = 0.7
    yield name, (x, gamma, beta), kw


register("batch_renorm", composed=composed, derived={"one_line": one_line}, cases=cases, frozen=frozen,
         source="Ioffe [ioffe2017], algorithm 1; bn-lecture with γ·r for γ")
