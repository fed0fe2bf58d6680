"""Orthogonal weight normalization: the filters of a group are centred, then made orthonormal, each moved as little as possible.

    v (out, in, *kernel)    w like v        a group is a matrix V (n, d): n = group_size filters (None: all), d = in · kernel

W = (Vc Vcᵀ + εI)^(−1/2) Vc has W Wᵀ = I at ε = 0: ZCA whitening (see decorrelated_batch_norm.py) with rows for channels and no
1/m. n centred rows can be orthonormal only for n ≤ d − 1: with more, or with rows that depend on each other, take ε > 0
(singular values s become s/√(s² + ε)) or smaller groups; ε = 0 then raises, on a GPU the result is NaN. The last group may be
smaller. Inside all is float64, whatever v is.

Source: Huang et al. 2018, arXiv:1709.06079; not among the documents. The derivation is ours, for ε ≥ 0 and equal eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import astype, backend, concatenate, eigvalsh, inv_sqrtm, lyapunov, mean, named, reshape
from minigrad.errors import error

from .filters import per_filter
from .registry import Case, register

NAME = "orthogonal_weight_norm"


def row_groups(v: Any, group_size: int | None) -> list[slice]:
    """Which filters belong together."""
    per_filter(NAME, v)
    if group_size is not None and group_size < 1:
        raise error(ValueError, NAME, got=f"group_size={group_size}", needs="at least one filter a group", fix="None takes all filters together")
    n = group_size or max(v.shape[0], 1)
    return [slice(i, i + n) for i in range(0, v.shape[0], n)]


def identity(gram: Any, eps: float) -> Any:
    """The n×n identity. At ε = 0, refuses a singular Vc Vcᵀ: an error on the host, NaN on a GPU, where looking would wait."""
    raw = getattr(gram, "_data", gram)
    xp, n = backend.namespace(raw), raw.shape[-1]
    if eps < 0:
        raise error(ValueError, NAME, got=f"eps={eps}", needs="eps of at least 0", fix="1e-5 is the usual value")
    if eps == 0:
        values = eigvalsh(raw)
        singular = values[0] <= 1e-15 * n * values[-1]
        if backend.name_of(raw) != "numpy":
            return xp.eye(n, dtype="float64") + xp.where(singular, float("nan"), 0.0)
        if singular:
            raise error(ValueError, NAME, got=f"eps=0 and {n} filters that depend on each other once they are centred",
                        needs="fewer filters in a group than elements in a filter, none a combination of others, or eps > 0",
                        fix="use eps=1e-5 or a smaller group_size")
    return xp.eye(n, dtype="float64")


# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(v: Any, *, eps: float, group_size: int | None = None) -> Any:
    """(Vc Vcᵀ + εI)^(−1/2) Vc as a graph of primitives; the tape derives the backward."""
    matrix, parts = astype(reshape(v, (v.shape[0], -1)), "float64"), []        # (out, d)
    for rows in row_groups(v, group_size):
        part = matrix[rows]                                            # (n, d)
        vc = named("vc", part - mean(part, 1, keepdims=True))          # (n, d)
        gram = vc @ vc.T                                               # (n, n)
        sigma = named("sigma", gram + eps * identity(gram, eps))       # (n, n)
        p = named("P", inv_sqrtm(sigma))                               # (n, n)
        parts.append(named("W", p @ vc))                               # (n, d)
    return named("w", reshape(astype(concatenate(parts, 0), v.dtype), v.shape))


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# P = Σ^(−1/2) is defined by P Σ P = 1, so that dP P⁻¹ + P⁻¹ dP = −P dΣ P, and dΣ = dVc Vcᵀ + Vc dVcᵀ. The loss changes by
# ⟨g, dW⟩ = ⟨P g, dVc⟩ + ⟨g Vcᵀ, dP⟩. Put dP in: with F = g Wᵀ and the solution T of the Lyapunov equation
#
#     P T + T P = P F + Fᵀ P           equivalently  Σ^½ T + T Σ^½ = F Σ^½ + Σ^½ Fᵀ
#     dVc = P (g − T W)                and dV = dVc without the mean of each row
#
# T is symmetric. No difference of eigenvalues divides anything, so equal ones are no exception, in any order. At ε = 0 the
# step Vc → W projects on the tangent space of matrices with orthonormal rows: Σ^½ dV Vᵀ is antisymmetric.


def inverse_root(v: Any, *, eps: float) -> tuple[Any]:
    """P = (Vc Vcᵀ + εI)^(−1/2), (n, n) in float64: the cache of one group."""
    vc = centred(v)
    gram = vc @ vc.T
    return (inv_sqrtm(gram + eps * identity(gram, eps)),)


def centred(v: Any) -> Any:
    """Vc, (n, d) in float64."""
    matrix = astype(reshape(v, (v.shape[0], -1)), "float64")
    return matrix - mean(matrix, 1, keepdims=True)


def orthogonal_weight_norm(xp: Any, v: Any, *, eps: float, saved: Any) -> Any:
    """P Vc."""
    (p,) = saved
    return reshape(astype(p @ centred(v), v.dtype), v.shape)


def backward(g: Any, saved: Any, v: Any, *, eps: float) -> tuple[Any]:
    """dV = P (g − T W), without the mean of each row."""
    (p,) = saved
    g_ = astype(reshape(g, (v.shape[0], -1)), "float64")               # (n, d)
    w = p @ centred(v)                                                 # (n, d)
    f = g_ @ w.T                                                       # (n, n)
    t = lyapunov(p, p @ f + f.T @ p)                                   # (n, n)
    dvc = p @ (g_ - t @ w)                                             # (n, d)
    dv = dvc - mean(dvc, 1, keepdims=True)
    return (reshape(astype(dv, v.dtype), v.shape),)


of_one_group = mg.by_hand(save=inverse_root, backward=backward)(orthogonal_weight_norm)


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
         source="Huang et al. 2018 (not among the documents); Lyapunov form of dbn's derivative")
