"""Root-mean-square normalization: each sample is divided by its root mean square over its last axes; no mean is removed.

    x (*lead, *shape)    gamma (*shape)    y like x        m = elements of gamma: those that one mean is over

Source: layer norm without its centring (Zhang and Sennrich [zhang2019]).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import mean, named, reshape, sqrt

from ..registry import Case, register
from ..shapes import refuse_constant_channels, trailing

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, gamma: Any, *, eps: float) -> Any:
    """RMS norm as a graph of primitives; the tape derives the backward."""
    axes, (gamma,) = trailing("rms_norm", x, gamma=gamma)
    ms = named("ms", mean(x * x, axes, keepdims=True))                 # (*lead, 1, ..., 1)
    refuse_constant_channels("rms_norm", ms, eps, "a row of zeros")
    rrms = named("rrms", 1.0 / sqrt(ms + eps))                         # (*lead, 1, ..., 1)
    xhat = named("xhat", x * rrms)                                     # like x
    return named("y", xhat * gamma)                                    # like x


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# With r = √(mean x² + ε), xhat = x/r has d xhat = dx/r − xhat·dr/r and dr = mean(x·dx)/r = mean(xhat·dx). Its transpose
# takes the cotangent h = γ·g of xhat to dx = (h − xhat·mean(h·xhat))/r: layer norm's, without the mean of h. One null
# direction is left, x itself (at ε = 0: scaling a row changes nothing), and Σ dx is no longer 0.


def statistics(x: Any, gamma: Any) -> tuple[Any]:
    """Mean square of each row, (R, 1)."""
    trailing("rms_norm", x, gamma=gamma)
    rows = reshape(x, (-1, gamma.size))
    return (mg.paired_sums(rows, rows, None, 1)[1] / gamma.size,)


def rms_norm(xp: Any, x: Any, gamma: Any, *, eps: float, saved: Any) -> Any:
    """γ·x/r in one pass, with r = √(mean x² + ε)."""
    _, (gamma,) = trailing("rms_norm", x, gamma=gamma)
    (ms,) = saved
    refuse_constant_channels("rms_norm", ms, eps, "a row of zeros")
    rows, gamma = reshape(x, (-1, gamma.size)), reshape(gamma, (1, -1))
    return reshape(mg.scale_shift(rows, None, 1.0 / sqrt(ms + eps), w=gamma), x.shape)


def backward(g: Any, saved: Any, x: Any, gamma: Any, *, eps: float) -> tuple[Any, Any]:
    """dx = (h − xhat·mean(h·xhat))/r for each row, with h = γ·g; dγ = Σ g·xhat down the columns."""
    (ms,) = saved
    _, (gamma,) = trailing("rms_norm", x, gamma=gamma)
    m = gamma.size
    g, rows, gamma_ = reshape(g, (-1, m)), reshape(x, (-1, m)), reshape(gamma, (1, -1))
    rrms = 1.0 / sqrt(ms + eps)                                        # (R, 1)
    _, sum_hx = mg.paired_sums(g, rows, None, 1, gamma_, rrms)         # Σ h·xhat along rows: (R, 1)
    _, d_gamma = mg.paired_sums(g, rows, None, 0, r=rrms)              # Σ g·xhat down columns: (1, D)
    dx = mg.combine(g, rows, None, a=rrms, b=-rrms * rrms * sum_hx / m, w=gamma_)
    return reshape(dx, x.shape), reshape(d_gamma, gamma.shape)


one_line = mg.by_hand(save=statistics, backward=backward, fused=mg.FusedRows(centred=False))(rms_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and rows on which it is hard to be right."""
    def case(name: str, lead: tuple[int, ...], shape: tuple[int, ...], mean: float = 0.0, eps: float = 1e-5) -> Case:
        arrays = rng.normal(mean, 1.5, lead + shape), rng.normal(1, 0.5, shape)
        return name, tuple(a.astype(dtype) for a in arrays), {"eps": eps}

    yield case("features", (6,), (5,))
    yield case("sequences", (2, 3), (7,))
    yield case("images, over (C, H, W)", (3,), (2, 3, 4))
    yield case("one sample", (1,), (6,))
    yield case("no leading axis", (), (6,))
    yield case("eps = 0", (4,), (5,), eps=0.0)
    yield case("large eps", (4,), (5,), eps=0.3)
    yield case("one element", (5,), (1,), eps=0.1)
    yield case("mean 1e4", (4,), (8,), mean=1e4)
    name, (x, gamma), kw = case("gamma 0 and negative", (5,), (4,))
    gamma[0], gamma[1] = 0, -1.3
    yield name, (x, gamma), kw
    name, (x, gamma), kw = case("constant row and a row of zeros", (4,), (5,))
    x[1], x[2] = 0.7, 0
    yield name, (x, gamma), kw


register("rms_norm", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="layer norm without centring; Zhang and Sennrich [zhang2019]")
