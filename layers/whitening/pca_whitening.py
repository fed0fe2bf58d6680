"""PCA whitening: each group of channels in the coordinates of its own covariance's eigenvectors, divided by their deviations.

    x (N, C) or (N, C, *spatial)    y like x    groups of d = group_size channels (None: all C), m = N · spatial samples

It is decorrelated batch norm before the last step: x̃ = U (x − μ) with U = (Λ + εI)^(−1/2) Dᵀ, without the D that turns back. Row i of
a group is the i-th principal axis, eigenvalues ascending. That hardly works in a network, dbn says: the order of the axes and
their signs are a matter of the batch, so a channel's meaning changes from step to step (`experiments/dbn_pca.py` measures it).
Signs are fixed by a rule: of each eigenvector, the component that is largest in magnitude is positive. They still flip, where two
components of opposite signs are equally large.

Groups, float64 inside, ε and singular covariances are as in `decorrelated_batch_norm`. Where eigenvalues are equal the layer has
no derivative, and the gradient is NaN, as `eigh`'s is; where they are close it is large, and inaccurate.

Source: dbn (supplement of "Decorrelated Batch Normalization"), eqs 1-5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import backend, eigh, expand_dims, matmul, maximum, mean, named, sqrt, where

from ..registry import Case, register
from .channel_groups import identity, measured, nonsingular, transformed

NAME = "pca_whitening"

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, *, eps: float, group_size: int | None = None) -> Any:
    """PCA whitening as a graph of primitives; the tape differentiates eigenvectors."""
    def whiten(x: Any) -> Any:                                         # (G, d, m)
        mu = named("mu", mean(x, -1, keepdims=True))                   # (G, d, 1)    eq 1
        xc = named("xc", x - mu)                                       # (G, d, m)
        sigma = xc @ xc.mT / x.shape[-1]                               # (G, d, d)    eq 2
        sigma = named("sigma", nonsingular(NAME, sigma, eps))
        lam, d = principal_axes(sigma, eps=eps)                        # (G, d), (G, d, d)    eq 3
        u = named("U", expand_dims(lam ** -0.5, -1) * d.mT)            # (G, d, d)    eq 4
        return named("xtilde", u @ xc)                                 # (G, d, m)    eq 5
    return named("y", transformed(NAME, whiten, group_size, x))        # like x


def principal_axes(sigma: Any, *, eps: float) -> tuple[Any, Any]:
    """λ + ε, ascending, and D with an eigenvector in each column, of (d, d) or (G, d, d). Eigenvalues that rounding made negative count as 0.

    Raw arrays or Tensors; a sign is a constant for the derivative.
    """
    lam, d = eigh(sigma)
    raw: Any = getattr(d, "_data", d)
    backwards = raw.max(-2, keepdims=True) + raw.min(-2, keepdims=True) < 0                # (G, 1, d)
    return maximum(lam, 0.0) + eps, d * backend.namespace(raw).where(backwards, -1.0, 1.0)


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# With r = √(λ + ε), x̃ = Dᵀxc / r. Let P = Dᵀ dΣ D. An eigenvalue moves by P_ii, and eigenvectors turn: dD = D Ω, where
# Ω is antisymmetric and Ω_ij = P_ij/(λⱼ − λᵢ) for i ≠ j. So
#
#     dx̃ = (Dᵀ dxc)/r − ½ diag(P/r²) x̃ − (1/r) Ω r x̃
#
# The loss changes by ⟨g, dx̃⟩. With F = g x̃ᵀ/m, the last two terms are m times −½ Σ F_ii P_ii/rᵢ² + Σ_{i≠j} F_ij P_ij rⱼ/(rᵢ (λᵢ − λⱼ)).
# P is symmetric: what multiplies it may be symmetrized. Put in dΣ = (dxc xcᵀ + xc dxcᵀ)/m, and what multiplies dxc is
#
#     dX = D ((g − mean g + T x̃)/r)    with T_ij = (F_ij rⱼ² − F_ji rᵢ²)/(λᵢ − λⱼ), T_ii = −F_ii
#
# d = 1: T = −mean(g·x̃), which is batch norm's one line. T is symmetric. In ZCA's T the gap cancels; here it stays, unless F_ij = F_ji where
# λᵢ = λⱼ: a loss that does not change when two axes of equal variance turn into each other. So the hole is one of the layer
# itself, not of a formula.


def statistics(x: Any, *, eps: float, group_size: int | None) -> tuple[Any, ...]:
    """Mean, covariance, its eigenvalues + ε and eigenvectors, of every stack of groups."""
    def f(x: Any) -> tuple[Any, ...]:
        mu = mean(x, -1, keepdims=True)
        xc = x - mu
        sigma = nonsingular(NAME, matmul(xc, xc.mT) / x.shape[-1], eps)
        return mu, sigma, *principal_axes(sigma, eps=eps)
    return measured(NAME, f, group_size, x)


def pca_whitening(xp: Any, x: Any, *, eps: float, group_size: int | None = None, saved: Any = None) -> Any:
    """U (x − μ)."""
    def forward(x: Any, mu: Any, sigma: Any, lam: Any, d: Any) -> Any:
        return matmul(projection(lam, d), x - mu)
    return transformed(NAME, forward, group_size, x, saved=saved)


def projection(lam: Any, d: Any) -> Any:
    """U = diag(1/√λ) Dᵀ as one matrix."""
    return d.mT / expand_dims(sqrt(lam), -1)


def backward(g: Any, saved: Any, x: Any, *, group_size: int | None) -> tuple[Any]:
    """dX = D ((g − mean g + T x̃)/r), T with the gaps between eigenvalues below; NaN where they are equal, up to rounding."""
    def dx(g: Any, x: Any, mu: Any, sigma: Any, lam: Any, d: Any) -> Any:
        r = expand_dims(sqrt(lam), -1)                                 # (G, d, 1)
        xtilde = (d.mT @ (x - mu)) / r                                 # (G, d, m)
        f = g @ xtilde.mT / x.shape[-1]                                # (G, d, d)
        rows = f * expand_dims(lam, -2)                                # (G, d, d)    F_ij rⱼ²
        t = (rows - rows.mT) / gaps(lam) - identity(f) * f             # (G, d, d)
        return d @ ((g - mean(g, -1, keepdims=True) + t @ xtilde) / r)    # (G, d, m)
    return (transformed(NAME, dx, group_size, g, x, saved=saved),)


def gaps(lam: Any) -> Any:
    """λᵢ − λⱼ; infinite on the diagonal, and NaN where it is as small as the rounding of `eigh` (by its own limit)."""
    gap = expand_dims(lam, -1) - expand_dims(lam, -2)
    raw = getattr(gap, "_data", gap)
    size = getattr(lam, "_data", lam).sum(-1)[..., None, None]
    return where(identity(gap) > 0, float("inf"), where(abs(raw) <= 2.0 ** -49 * size, float("nan"), gap))


one_line = mg.by_hand(save=statistics, backward=backward)(pca_whitening)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes and groups, with eigenvalues that keep their distance: where they meet there is no derivative to agree on."""
    np = backend.get("numpy")

    def case(name: str, *shape: int, mean: float = 0.0, eps: float = 1e-5, group_size: int | None = None) -> Case:
        flat = rng.normal(size=(np.prod(shape) // shape[1], shape[1]))
        white = np.linalg.qr(flat - flat.mean(0))[0] * len(flat) ** 0.5                     # (m, C), covariance I
        turned = np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0] if group_size is None else np.eye(shape[1])
        x = mean + white * 1.5 ** rng.permutation(shape[1]) @ turned + 0.1 * flat
        return name, (np.moveaxis(x.reshape(shape[0], *shape[2:], shape[1]), -1, 1).astype(dtype),), {"eps": eps, "group_size": group_size}

    yield case("features", 16, 4)
    yield case("images", 3, 4, 3, 3)
    yield case("groups", 5, 6, 2, 2, group_size=3)
    yield case("a smaller last group", 12, 5, group_size=2)
    yield case("groups of one", 10, 3, group_size=1)
    yield case("eps = 0", 14, 4, eps=0.0)
    yield case("large eps", 14, 4, eps=0.3)
    yield case("mean 1e4", 14, 3, mean=1e4)
    yield case("few samples", 4, 3, eps=0.1)


register(NAME, composed=composed, derived={"one_line": one_line}, cases=cases, source="dbn: forward pass eqs 1-5; the derivative is our own")
