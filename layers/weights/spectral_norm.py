"""Spectral normalization: the weights are divided by an estimate of their largest singular value.

    w (out, in, *kernel)    u (out,), a constant    result like w        as a matrix W (out, d), d = in · kernel

σ = ‖Wᵀu‖ is the largest singular value where u is its left singular vector, and less for any other unit vector: u is what
power iteration has reached. The iteration belongs to the Module (`layers.parametrize`), not to this function. W = 0 raises;
on a GPU the result is NaN.

Source: Miyato et al. [miyato2018].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import backend, named, reshape, sqrt
from minigrad import sum as sum_
from minigrad.core.errors import describe, error

from ..registry import Case, register
from ..shapes import one_dtype
from .filters import per_filter

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(w: Any, *, u: Any) -> Any:
    """W/‖Wᵀu‖ as a graph of primitives; the tape derives the backward."""
    per_filter("spectral_norm", w, u=u)
    (u,) = one_dtype("spectral_norm", w, u=u)
    matrix = reshape(w, (w.shape[0], -1))                              # (out, d)
    p = named("p", matrix.T @ u)                                       # (d,)
    sigma = named("sigma", sqrt(sum_(p * p)))                          # ()
    refuse_zero(w, sigma, u)
    return named("y", w / sigma)                                       # like w


def refuse_zero(w: Any, sigma: Any, u: Any) -> None:
    """σ = 0 is an error on the host; on a GPU, where looking would wait, the result is NaN."""
    data = getattr(sigma, "_data", sigma)
    if backend.name_of(getattr(w, "_data", w)) == "numpy" and data.item() == 0:
        raise error(ValueError, "spectral_norm", got=f"{describe(w)} with Wᵀu = 0",
                    needs="weights that are not zero, and u not orthogonal to all their columns", fix="initialize the weights, and let power iteration find u")


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# With p = Wᵀu and v = p/σ a unit vector, dσ = v·dp = uᵀ dW v, whether or not u has converged. So d(W/σ) = dW/σ − W/σ² ⟨u vᵀ, dW⟩,
# and transposed
#
#     dW = (G − ⟨G, W/σ⟩ u vᵀ)/σ
#
# Since ⟨W, u vᵀ⟩ = σ, ⟨W, dW⟩ = 0: the length of W is of no use to the loss. u's own dependence on W is left out, and nothing
# is lost where u is a singular vector: σ is stationary in u there.


def projected(w: Any, *, u: Any) -> tuple[Any, Any]:
    """p = Wᵀu (d,) and σ = ‖p‖: the cache."""
    per_filter("spectral_norm", w, u=u)
    (u,) = one_dtype("spectral_norm", w, u=u)
    p = reshape(w, (w.shape[0], -1)).T @ u
    sigma = sqrt(sum_(p * p))
    refuse_zero(w, sigma, u)
    return p, sigma


def spectral_norm(xp: Any, w: Any, *, u: Any, saved: Any) -> Any:
    """W/σ."""
    _, sigma = saved
    return w / sigma


def backward(g: Any, saved: Any, w: Any, *, u: Any) -> tuple[Any]:
    """dW = (G − ⟨G, W/σ⟩ u vᵀ)/σ."""
    (u,) = one_dtype("spectral_norm", w, u=u)
    p, sigma = saved
    uv = reshape(mg.outer(u, p / sigma), w.shape)                      # like w, of rank 1 as a matrix
    return ((g - (sum_(g * w) / sigma) * uv) / sigma,)


one_line = mg.by_hand(save=projected, backward=backward)(spectral_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, and vectors u before and after power iteration."""
    def case(name: str, *shape: int, iterations: int = 0, length: float = 1.0, rank: int | None = None) -> Case:
        w = rng.normal(size=shape)
        if rank is not None:
            w[rank:] = w[:1]
        matrix, u = w.reshape(shape[0], -1), rng.normal(size=shape[0])
        for _ in range(iterations):
            u = matrix @ (matrix.T @ u)
            u /= abs(u).max()
        u *= length / (u * u).sum() ** 0.5
        return name, (w.astype(dtype),), {"u": u.astype(dtype)}

    yield case("linear, u at random", 4, 6)
    yield case("linear, u after one iteration", 4, 6, iterations=1)
    yield case("linear, u converged", 4, 6, iterations=200)
    yield case("convolution", 3, 2, 3, 3, iterations=1)
    yield case("more rows than columns", 7, 3, iterations=1)
    yield case("square", 4, 4, iterations=1)
    yield case("u not of length 1", 4, 6, length=2.5)
    yield case("one filter", 1, 5)
    yield case("one column", 5, 1)
    yield case("rank deficient", 5, 6, iterations=1, rank=2)


register("spectral_norm", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="Miyato et al. [miyato2018]")
