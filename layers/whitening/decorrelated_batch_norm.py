"""Decorrelated batch normalization: each group of channels is whitened (ZCA) by its own mean and covariance over the batch.

    x (N, C) or (N, C, *spatial)    y like x    groups of d = group_size channels (None: all C), m = N · spatial samples

A group is a matrix X (d, m) with the samples as columns, as in dbn; dbn's gradients, which are rows, are columns here, so
that every gradient has the shape of what it belongs to. Equal groups are stacked, (G, d, m). Inside, everything is float64, whatever
x is. ε is absolute, and dbn's Λ is Λ + εI everywhere. With ε = 0 a singular covariance raises; on a GPU it gives NaN.

Source: dbn (supplement of "Decorrelated Batch Normalization"), eqs 1-14, with the misprint of (7) corrected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import diagonal, eigh, expand_dims, inv_sqrtm, matmul, maximum, mean, named, sqrt, where
from minigrad import sum as sum_

from ..registry import Case, register
from .channel_groups import identity, measured, nonsingular, transformed
from .square_roots import eigenbasis, inverse_root_in_basis, root_lyapunov_in_basis, whitener

NAME = "decorrelated_batch_norm"

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, *, eps: float, group_size: int | None = None) -> Any:
    """ZCA whitening as a graph of primitives, smooth in every order: `inv_sqrtm` needs no derivative of eigenvectors."""
    def whiten(x: Any) -> Any:                                         # (G, d, m)
        mu = named("mu", mean(x, -1, keepdims=True))                   # (G, d, 1)    eq 1
        xc = named("xc", x - mu)                                       # (G, d, m)
        sigma = xc @ xc.mT / x.shape[-1]                               # (G, d, d)    eq 2
        sigma = named("sigma", nonsingular(NAME, sigma, eps))
        w = named("W", inv_sqrtm(sigma + eps * identity(sigma)))       # (G, d, d)    D U of eqs 3, 4
        return named("xhat", w @ xc)                                   # (G, d, m)    eqs 5, 6
    return named("y", transformed(NAME, whiten, group_size, x))        # like x


def composed_through_eigh(x: Any, *, eps: float, group_size: int | None = None) -> Any:
    """dbn's own forward pass. The tape differentiates D here: NaN where eigenvalues meet, inaccurate where they nearly do."""
    def whiten(x: Any) -> Any:                                         # (G, d, m)
        mu = named("mu", mean(x, -1, keepdims=True))                   # (G, d, 1)    eq 1
        xc = named("xc", x - mu)                                       # (G, d, m)
        sigma = xc @ xc.mT / x.shape[-1]                               # (G, d, d)    eq 2
        sigma = named("sigma", nonsingular(NAME, sigma, eps))
        lam, d = eigh(sigma)                                           # (G, d), (G, d, d)    eq 3
        lam, d = named("Lambda", maximum(lam, 0.0) + eps), named("D", d)
        u = named("U", expand_dims(lam ** -0.5, -1) * d.mT)            # (G, d, d)    eq 4
        xtilde = named("xtilde", u @ xc)                               # (G, d, m)    eq 5
        return named("xhat", d @ xtilde)                               # (G, d, m)    eq 6
    return named("y", transformed(NAME, whiten, group_size, x))        # like x


# -- dbn's derivations: through eigenvalues and eigenvectors ------------------------------------------------------------
#
# x reaches y directly, through the mean, and through Σ, on which Λ and D depend: an eigenvalue moves by dᵢᵀ dΣ dᵢ, an
# eigenvector by Σ_j dⱼ (dⱼᵀ dΣ dᵢ)/(λᵢ − λⱼ), which makes the matrix K. "staged" takes one path after the other; "simplified"
# has them added up. y does not change when eigenvectors of equal eigenvalues turn into each other, so the exact sum stays
# finite where λᵢ → λⱼ; but its terms do not. Neither form survives it, nor does the tape of `composed_through_eigh`: what is
# left is rounding / gap, and NaN at gap 0 (`degenerate_whitening` has the numbers). Setting K to 0 there is wrong as well.


def statistics_with(decompose: Any) -> Any:
    """Mean, covariance, its eigenvalues + ε and eigenvectors, of every stack of groups: what all three derivations save."""
    def statistics(x: Any, *, eps: float, group_size: int | None) -> tuple[Any, ...]:
        def f(x: Any) -> tuple[Any, ...]:
            mu = mean(x, -1, keepdims=True)
            xc = x - mu
            sigma = nonsingular(NAME, matmul(xc, xc.mT) / x.shape[-1], eps)
            return mu, sigma, *decompose(sigma, eps=eps)
        return measured(NAME, f, group_size, x)
    return statistics


def differentiable_eigenbasis(sigma: Any, *, eps: float) -> tuple[Any, Any]:
    """(λ + ε, D) with the textbook's derivative, which K is part of."""
    lam, d = eigh(sigma)
    return maximum(lam, 0.0) + eps, d


def decorrelated_batch_norm(xp: Any, x: Any, *, eps: float, group_size: int | None = None, saved: Any = None) -> Any:
    """W (x − μ)."""
    def forward(x: Any, mu: Any, sigma: Any, lam: Any, d: Any) -> Any:
        return matmul(whitener(lam, d), x - mu)
    return transformed(NAME, forward, group_size, x, saved=saved)


def column(v: Any) -> Any:
    """diag(v) M is column(v) * M."""
    return expand_dims(v, -1)


def row(v: Any) -> Any:
    """M diag(v) is M * row(v)."""
    return expand_dims(v, -2)


def one_over_gaps(lam: Any) -> Any:
    """K_ij = 1/(λᵢ − λⱼ), 0 on the diagonal; NaN, not infinite, for equal eigenvalues."""
    gap = column(lam) - row(lam)
    return 1.0 / where(identity(gap) > 0, float("inf"), where(gap == 0, float("nan"), gap))


def staged_backward(g: Any, saved: Any, x: Any, *, group_size: int | None) -> tuple[Any]:
    """Equations 7-13, in their order."""
    def dx(g: Any, x: Any, mu: Any, sigma: Any, lam: Any, d: Any) -> Any:
        m, xc, k = x.shape[-1], x - mu, one_over_gaps(lam)
        u = d.mT / column(sqrt(lam))                                   # (G, d, d)    eq 4
        xtilde = u @ xc                                                # (G, d, m)    eq 5
        d_xtilde = d.mT @ g                                            # (G, d, m)    eq 7, its left side corrected
        d_u = d_xtilde @ xc.mT                                         # (G, d, d)    eq 8
        d_lam = diagonal(d_u @ d, 0, -2, -1) * (-0.5 * lam ** -1.5)    # (G, d)       eq 9, its diagonal
        d_d = d_u.mT / row(sqrt(lam)) + g @ xtilde.mT                  # (G, d, d)    eq 10
        d_sigma = d @ (k.mT * (d.mT @ d_d) + identity(d) * row(d_lam)) @ d.mT        # eq 11
        sym = 0.5 * (d_sigma + d_sigma.mT)                             # (G, d, d)
        d_mu = -(u.mT @ sum_(d_xtilde, -1, keepdims=True)) - sym @ sum_(xc, -1, keepdims=True) * (2.0 / m)    # eq 12
        return u.mT @ d_xtilde + sym @ xc * (2.0 / m) + d_mu / m       # (G, d, m)    eq 13
    return (transformed(NAME, dx, group_size, g, x, saved=saved),)


def simplified_backward(g: Any, saved: Any, x: Any, *, group_size: int | None) -> tuple[Any]:
    """Equation 14: (∂L/∂x̃ − f + S x̃ − M x̃), then Uᵀ."""
    def dx(g: Any, x: Any, mu: Any, sigma: Any, lam: Any, d: Any) -> Any:
        r = sqrt(lam)                                                  # (G, d)
        xtilde, d_xtilde = (d.mT @ (x - mu)) / column(r), d.mT @ g     # (G, d, m)
        fc = d_xtilde @ xtilde.mT / x.shape[-1]                        # (G, d, d)
        s = one_over_gaps(lam).mT * (column(lam) * fc.mT + column(r) * fc * row(r))
        return d @ ((d_xtilde - mean(d_xtilde, -1, keepdims=True) + (s + s.mT - identity(fc) * fc) @ xtilde) / column(r))
    return (transformed(NAME, dx, group_size, g, x, saved=saved),)


# -- the same derivative without eigenvectors ---------------------------------------------------------------------------
#
# W = (Σ + εI)^(−1/2) is a smooth function of Σ, so differentiate what defines it. From W (Σ + εI) W = I, with S = W⁻¹:
#
#     dW S + S dW = −W dΣ W               a Lyapunov equation: S is positive definite, and no gap divides anything
#
# The loss changes by ⟨g, W dXc⟩ + ⟨g Xcᵀ, dW⟩. Put in dW, then dΣ = (dXc Xcᵀ + Xc dXcᵀ)/m, and what multiplies dXc is
#
#     dX = W (g − mean g − T x̂)           with S T + T S = H + Hᵀ,  H = g Xcᵀ/m
#
# d = 1: T = mean(g·x̂) and W = 1/s, which is batch norm's one line. Σ = I: T is the symmetric part of F = g x̂ᵀ/m.
#
# Whitened data turn with the data, so D may serve once more, as a constant rotation into coordinates where Σ is diagonal:
# there W x is x/r and T_ij = (H_ij + H_ji)/(rᵢ + rⱼ), with r = √(λ + ε). It is the sum of eq 14's terms: the gap has cancelled.
# `square_roots` knows how these two depend on Σ, for the second derivative.


def stable_backward(g: Any, saved: Any, x: Any, *, group_size: int | None) -> tuple[Any]:
    """dX = W (g − mean g − T x̂), T from the Lyapunov equation, in the coordinates of D (compare `simplified_backward`)."""
    def dx(g: Any, x: Any, mu: Any, sigma: Any, lam: Any, d: Any) -> Any:
        xc, d_xtilde = matmul(d.mT, x - mu), matmul(d.mT, g)           # (G, d, m)
        xtilde = inverse_root_in_basis(sigma, xc, lam, d)              # (G, d, m)
        h = matmul(d_xtilde, xc.mT) / x.shape[-1]                      # (G, d, d)
        lyap = root_lyapunov_in_basis(sigma, h + h.mT, lam, d)         # (G, d, d)    T
        inside = d_xtilde - mean(d_xtilde, -1, keepdims=True) - matmul(lyap, xtilde)
        return matmul(d, inverse_root_in_basis(sigma, inside, lam, d))    # (G, d, m)
    return (transformed(NAME, dx, group_size, g, x, saved=saved),)


staged = mg.by_hand(save=statistics_with(differentiable_eigenbasis), backward=staged_backward)(decorrelated_batch_norm)
simplified = mg.by_hand(save=statistics_with(differentiable_eigenbasis), backward=simplified_backward)(decorrelated_batch_norm)
stable = mg.by_hand(save=statistics_with(eigenbasis), backward=stable_backward)(decorrelated_batch_norm)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, groups, and the places where implementations of whitening have been wrong."""
    def case(name: str, *shape: int, mean: float = 0.0, eps: float = 1e-5, group_size: int | None = None) -> Case:
        spread = 1.0 + (1.0 * rng.permutation(shape[1]))[:, None] / shape[1]      # eigenvalues that keep their distance
        x = mean + spread.reshape(-1, *(1,) * (len(shape) - 2)) * rng.normal(size=shape)
        return name, (x.astype(dtype),), {"eps": eps, "group_size": group_size}

    yield case("features", 16, 4)
    yield case("images", 3, 4, 3, 3)
    yield case("groups", 5, 6, 2, 2, group_size=3)
    yield case("a smaller last group", 12, 5, group_size=2)
    yield case("groups of one", 10, 3, group_size=1)
    yield case("eps = 0", 14, 4, eps=0.0)
    yield case("large eps", 14, 4, eps=0.3)
    yield case("mean 1e4", 14, 3, mean=1e4)
    signs = 1.0 - 2.0 * (rng.permutation(16)[:, None] >> rng.permutation(4)[None] & 1)     # orthogonal columns of ±1
    yield "degenerate: white", (signs.astype(dtype),), {"eps": 1e-5, "group_size": None}
    yield "degenerate: white, eps = 0", (signs.astype(dtype),), {"eps": 0.0, "group_size": None}
    yield "degenerate: equal pairs", ((signs * (1, 2, 2, 1)).astype(dtype),), {"eps": 1e-5, "group_size": None}
    yield case("degenerate: more channels than samples", 4, 6, eps=0.1)


register(NAME, composed=composed, derived={"staged": staged, "simplified": simplified, "stable": stable}, default="stable", cases=cases,
         source="dbn: forward pass eqs 1-6, staged eqs 7-13, simplified eq 14; stable: the Lyapunov form of the same derivative")
