"""Orthogonal weight normalization: the filters of a group are centred, then made orthonormal, each moved as little as possible.

    v (out, in, *kernel)    w like v        a group is a matrix V (n, d): n = group_size filters (None: all), d = in · kernel

W = (Vc Vcᵀ + εI)^(−1/2) Vc has W Wᵀ = I at ε = 0: ZCA whitening (see decorrelated_batch_norm.py) with rows for channels and no
1/m. n centred rows can be orthonormal only for n ≤ d − 1: with more, or with rows that depend on each other, take ε > 0
(singular values s become s/√(s² + ε)) or smaller groups; ε = 0 then raises, on a GPU the result is NaN. The last group may be
smaller. Inside, everything is float64, whatever v is.

Source: Huang et al. [huang2018]. The derivation is ours, for ε ≥ 0 and equal eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import astype, backend, concatenate, eigvalsh, inv_sqrtm, mean, named, reshape
from minigrad.core.errors import error, integer

from ..registry import Case, register
from ..whitening.square_roots import eigenbasis, inverse_root, root_lyapunov
from .filters import per_filter

NAME = "orthogonal_weight_norm"


def row_groups(v: Any, group_size: int | None) -> list[slice]:
    """Which filters belong together."""
    per_filter(NAME, v)
    if group_size is not None:
        group_size = integer(NAME, "group_size", group_size, 1, fix="None takes all filters together")
    n = group_size or max(v.shape[0], 1)
    return [slice(i, i + n) for i in range(0, v.shape[0], n)]


def checked(gram: Any, eps: float) -> Any:
    """Vc Vcᵀ itself. At ε = 0 a singular one is an error on the host, and NaN on a GPU, where looking would wait."""
    if eps < 0:
        raise error(ValueError, NAME, got=f"eps={eps}", needs="eps of at least 0", fix="1e-5 is the usual value")
    if eps > 0:
        return gram
    raw = getattr(gram, "_data", gram)
    values, n = eigvalsh(raw), raw.shape[-1]
    singular = values[0] <= 1e-15 * n * values[-1]
    if backend.name_of(raw) != "numpy":
        return gram + backend.namespace(raw).where(singular, float("nan"), 0.0)
    if singular:
        raise error(ValueError, NAME, got=f"eps=0 and {n} filters that depend on each other once they are centred",
                    needs="fewer filters in a group than elements in a filter, none a combination of others, or eps > 0",
                    fix="use eps=1e-5 or a smaller group_size")
    return gram


# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(v: Any, *, eps: float, group_size: int | None = None) -> Any:
    """(Vc Vcᵀ + εI)^(−1/2) Vc as a graph of primitives; the tape derives the backward."""
    matrix, parts = astype(reshape(v, (v.shape[0], -1)), "float64"), []        # (out, d)
    for rows in row_groups(v, group_size):
        part = matrix[rows]                                            # (n, d)
        vc = named("vc", part - mean(part, 1, keepdims=True))          # (n, d)
        gram = checked(vc @ vc.T, eps)                                 # (n, n)
        sigma = named("sigma", gram + eps * backend.namespace(getattr(gram, "_data", gram)).eye(gram.shape[0], dtype="float64"))
        p = named("P", inv_sqrtm(sigma))                               # (n, n)
        parts.append(named("W", p @ vc))                               # (n, d)
    return named("w", reshape(astype(concatenate(parts, 0), v.dtype), v.shape))


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# P = Σ^(−1/2) is defined by P Σ P = I, so that with S = P⁻¹: dP S + S dP = −P dΣ P, a Lyapunov equation; and dΣ = dVc Vcᵀ +
# Vc dVcᵀ. The loss changes by ⟨g, dW⟩ = ⟨P g, dVc⟩ + ⟨g Vcᵀ, dP⟩. Put dP in; with F = g Wᵀ, for which F S = g Vcᵀ,
#
#     S T + T S = F S + S Fᵀ = g Vcᵀ + Vc gᵀ
#     dVc = P (g − T W)                and dV = dVc without the mean of each row
#
# T is symmetric. No difference of eigenvalues divides anything, so equal ones are no exception, in any order: eigenvectors
# serve only to compute P X and T (see square_roots.py). At ε = 0 the step Vc → W runs along the matrices with orthonormal
# rows, and the gradient follows: S dV Vᵀ is antisymmetric.


def eigen_statistics(v: Any, *, eps: float) -> tuple[Any, Any, Any]:
    """Vc Vcᵀ (n, n), and λ (n,), D (n, n) with Σ = D diag(λ) Dᵀ, in float64: the cache of one group."""
    vc = centred(v)
    gram = checked(vc @ vc.T, eps)
    return gram, *eigenbasis(gram, eps=eps)


def centred(v: Any) -> Any:
    """Vc, (n, d) in float64."""
    matrix = astype(reshape(v, (v.shape[0], -1)), "float64")
    return matrix - mean(matrix, 1, keepdims=True)


def orthogonal_weight_norm(xp: Any, v: Any, *, eps: float, saved: Any) -> Any:
    """P Vc."""
    return reshape(astype(inverse_root(saved[0], centred(v), *saved[1:]), v.dtype), v.shape)


def backward(g: Any, saved: Any, v: Any, *, eps: float) -> tuple[Any]:
    """dV = P (g − T W), without the mean of each row; T W = (T P) Vc."""
    gram, lam, d = saved
    vc, g_ = centred(v), astype(reshape(g, (v.shape[0], -1)), "float64")       # (n, d)
    h = g_ @ vc.T                                                      # (n, n)    F S
    t = root_lyapunov(gram, h + h.T, lam, d)                           # (n, n)
    pt = inverse_root(gram, t, lam, d)                                 # (n, n)    (T P)ᵀ
    dvc = inverse_root(gram, g_ - pt.T @ vc, lam, d)                   # (n, d)
    dv = dvc - mean(dvc, 1, keepdims=True)
    return (reshape(astype(dv, v.dtype), v.shape),)


of_one_group = mg.by_hand(save=eigen_statistics, backward=backward)(orthogonal_weight_norm)


def one_line(v: Any, *, eps: float, group_size: int | None = None) -> Any:
    """One line of the tape for each group."""
    parts = [of_one_group(v if rows.stop >= v.shape[0] and not rows.start else v[rows], eps=eps) for rows in row_groups(v, group_size)]
    return parts[0] if len(parts) == 1 else concatenate(parts, 0)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, groups, and weights whose covariance is singular or has equal eigenvalues."""
    def case(name: str, *shape: int, eps: float = 1e-5, group_size: int | None = None, mean: float = 0.0) -> Case:
        return name, (rng.normal(mean, 0.5, shape).astype(dtype),), {"eps": eps, "group_size": group_size}

    yield case("linear", 4, 9)
    yield case("convolution", 3, 2, 3, 3)
    yield case("eps = 0", 4, 9, eps=0.0)
    yield case("large eps", 4, 9, eps=0.3)
    yield case("one filter", 1, 5)
    yield case("square", 4, 4, eps=0.1)
    yield case("more rows than columns", 7, 3, eps=0.1)
    yield case("groups", 6, 2, 2, 2, group_size=3)
    yield case("a smaller last group", 5, 8, eps=0.0, group_size=2)
    yield case("groups of one", 3, 5, eps=0.0, group_size=1)
    yield case("mean 1e4", 3, 8, mean=1e4)
    name, (v,), kw = case("dependent rows, and a row of equal elements", 4, 6, eps=0.1)
    v[1], v[2] = -v[0], 0.7
    yield name, (v,), kw
    signs = 1.0 - 2.0 * (rng.permutation(8)[None] >> rng.permutation(3)[:, None] & 1)      # centred, orthogonal rows of ±1
    yield "degenerate: orthogonal rows of one length", (signs.astype(dtype),), {"eps": 0.0, "group_size": None}


register(NAME, composed=composed, derived={"one_line": one_line}, cases=cases,
         source="Huang et al. [huang2018]; Lyapunov form of dbn's derivative")
