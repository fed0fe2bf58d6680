"""Iterative normalization: whitening by a few Newton-Schulz steps towards Σ^(−1/2), without eigenvalues.

    x (N, C) or (N, C, *spatial)    y like x    groups of d = group_size channels (None: all C), m = N · spatial samples

A group is a matrix X (d, m) with the samples as columns; equal groups are stacked, (G, d, m). Inside, everything is float64. With
A = Σ + εI (ε is absolute) and Σ_N = A / tr A, whose eigenvalues lie in (0, 1], the coupled iteration

    Y ← Y M,  Z ← M Z    with M = ½(3I − Z Y),  from Y = Σ_N, Z = I

brings Y to Σ_N^(1/2) and Z to Σ_N^(−1/2); `iterations` steps are taken, and W = Z/√tr A. Small eigenvalues have not converged
then: they are divided by less than their root, which is the regularization that the method is liked for. So m ≤ d and ε = 0
are no problem; only a group that is constant altogether, with ε = 0, raises (on a GPU: NaN). The printed iteration
P ← ½(3P − P³Σ_N) is the same in exact arithmetic, but in float32 it blows up after ten to fifteen steps; this one does not.

Source: dbn, eqs 1, 2 and what whitening is for; the iteration is Newton-Schulz's (Higham [higham2008], 6.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import backend, expand_dims, matmul, mean, named, sqrt, trace
from minigrad import sum as sum_
from minigrad.core.errors import error, integer

from ..registry import Case, register
from .channel_groups import identity, measured, transformed

NAME = "iter_norm"

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, *, eps: float, iterations: int = 5, group_size: int | None = None) -> Any:
    """IterNorm as a graph of primitives; the tape goes back through every step."""
    def whiten(x: Any) -> Any:                                                       # (G, d, m)
        xc = named("xc", x - mean(x, -1, keepdims=True))                             # (G, d, m)
        sigma = named("sigma", xc @ xc.mT / x.shape[-1])                             # (G, d, d)
        a = sigma + eps * identity(sigma)                                            # (G, d, d)
        size = named("size", not_zero(a, eps, iterations))                           # (G, 1, 1)    tr A
        y, z = a / size, identity(a)                                                 # (G, d, d)    Σ_N and I
        for _ in range(iterations):
            step = 0.5 * (3.0 * identity(a) - z @ y)                                 # (G, d, d)    M
            y, z = y @ step, step @ z
        w = named("W", z / sqrt(size))                                               # (G, d, d)
        return named("xhat", w @ xc)                                                 # (G, d, m)
    return named("y", transformed(NAME, whiten, group_size, x))                      # like x


def not_zero(a: Any, eps: float, iterations: int) -> Any:
    """tr A as (G, 1, 1), if the keywords make sense and there is something to whiten."""
    integer(NAME, "iterations", iterations, 1, fix="iterations=5")
    if eps < 0:
        raise error(ValueError, NAME, got=f"eps={eps}", needs="eps of at least 0", fix="eps=1e-5")
    size = expand_dims(trace(a, 0, -2, -1), (-2, -1))
    raw: Any = getattr(size, "_data", size)
    if eps == 0 and backend.name_of(raw) == "numpy" and (raw == 0).any():
        raise error(ValueError, NAME, got="a group of constant channels and eps=0", needs="some spread in every group, or eps > 0",
                    fix="use eps=1e-5")
    return size


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# The matrices of the iteration are d×d: all of them can be kept, and the loop is run backwards. Let dQ be the loss's gradient
# with respect to Q. A step's M enters both products, and Z and Y enter M:
#
#     dM = Yᵀ dY + dZ Zᵀ        dY ← dY Mᵀ − ½ Zᵀ dM        dZ ← Mᵀ dZ − ½ dM Yᵀ
#
# It starts with dY = 0, dZ = dW/√tr A, where dW = g Xcᵀ, and ends with dΣ_N = dY (dZ is thrown away: Z starts as I). A's
# trace enters twice, through Σ_N = A/tr A and through W = Z/√tr A:
#
#     dA = dΣ_N/tr A − [⟨dΣ_N, A⟩/(tr A)² + ⟨dW, Z⟩/(2 (tr A)^(3/2))] I
#
# and A's own dependence on x gives, with the direct path, dX = Wᵀ(g − mean g) + (1/m)(dA + dAᵀ) Xc.


def statistics(x: Any, *, eps: float, iterations: int, group_size: int | None) -> tuple[Any, ...]:
    """Mean, covariance, tr A, then Y and Z before every step and the final Z, of every stack of groups."""
    def f(x: Any) -> tuple[Any, ...]:
        mu = mean(x, -1, keepdims=True)
        xc = x - mu
        sigma = matmul(xc, xc.mT) / x.shape[-1]
        return mu, sigma, *iterates(sigma, eps, iterations)
    return measured(NAME, f, group_size, x)


def iterates(sigma: Any, eps: float, iterations: int) -> tuple[Any, ...]:
    """tr A, Y₀, Z₀, Y₁, Z₁, ..., and Z after the last step."""
    eye = identity(sigma)
    a = sigma + eps * eye
    size = not_zero(a, eps, iterations)
    kept, y, z = [size], a / size, eye + 0.0 * a
    for _ in range(iterations):
        kept += [y, z]
        step = 0.5 * (3.0 * eye - matmul(z, y))
        y, z = matmul(y, step), matmul(step, z)
    return *kept, z


def iter_norm(xp: Any, x: Any, *, eps: float, iterations: int = 5, group_size: int | None = None, saved: Any = None) -> Any:
    """W (x − μ)."""
    def forward(x: Any, mu: Any, sigma: Any, size: Any, *path: Any) -> Any:
        return matmul(path[-1] / sqrt(size), x - mu)
    return transformed(NAME, forward, group_size, x, saved=saved)


def backward(g: Any, saved: Any, x: Any, *, eps: float, iterations: int, group_size: int | None) -> tuple[Any]:
    """The iteration backwards, then the two ways in which x enters: directly and through A."""
    def dx(g: Any, x: Any, mu: Any, sigma: Any, size: Any, *path: Any) -> Any:
        xc, eye, last = x - mu, identity(sigma), path[-1]
        d_w = matmul(g, xc.mT)                                                       # (G, d, d)
        d_y, d_z = 0.0 * d_w, d_w / sqrt(size)
        for y, z in zip(path[-3::-2], path[-2::-2], strict=True):                    # from the last step to the first
            step = 0.5 * (3.0 * eye - matmul(z, y))
            d_step = matmul(y.mT, d_y) + matmul(d_z, z.mT)
            d_y = matmul(d_y, step.mT) - 0.5 * matmul(z.mT, d_step)
            d_z = matmul(step.mT, d_z) - 0.5 * matmul(d_step, y.mT)
        a = sigma + eps * eye
        d_size = inner(d_y, a) / size ** 2 + inner(d_w, last) / (2.0 * size ** 1.5)  # (G, 1, 1)    minus its gradient
        d_a = d_y / size - d_size * eye                                              # (G, d, d)
        w = last / sqrt(size)
        return matmul(w.mT, g - mean(g, -1, keepdims=True)) + matmul((d_a + d_a.mT) / x.shape[-1], xc)
    return (transformed(NAME, dx, group_size, g, x, saved=saved),)


def inner(a: Any, b: Any) -> Any:
    """⟨A, B⟩ of each pair, as (G, 1, 1)."""
    return sum_(a * b, (-2, -1), keepdims=True)


one_line = mg.by_hand(save=statistics, backward=backward)(iter_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, groups, numbers of steps, and what is singular for other kinds of whitening."""
    def case(name: str, *shape: int, mean: float = 0.0, eps: float = 1e-5, **keywords: Any) -> Case:
        return name, (rng.normal(mean, 1.5, shape).astype(dtype),), {"eps": eps, **keywords}

    yield case("features", 16, 4)
    yield case("images", 3, 4, 3, 3)
    yield case("groups", 5, 6, 2, 2, group_size=3)
    yield case("a smaller last group", 12, 5, group_size=2)
    yield case("groups of one", 10, 3, group_size=1)
    yield case("one step", 12, 4, iterations=1)
    yield case("twelve steps", 12, 4, iterations=12)
    yield case("eps = 0", 14, 4, eps=0.0)
    yield case("large eps", 14, 4, eps=0.3)
    yield case("mean 1e4", 14, 3, mean=1e4)
    yield case("degenerate: more channels than samples, eps = 0", 4, 6, eps=0.0)
    signs = 1.0 - 2.0 * (rng.permutation(16)[:, None] >> rng.permutation(4)[None] & 1)     # orthogonal columns of ±1
    yield "degenerate: white", (signs.astype(dtype),), {"eps": 1e-5}


register(NAME, composed=composed, derived={"one_line": one_line}, cases=cases,
         source="dbn eqs 1, 2; coupled Newton-Schulz iteration for the inverse square root, and its reverse")
