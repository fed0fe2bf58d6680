"""Products with (Σ + εI)^(−1/2): computed with eigenvectors, differentiated without them.

    lam, d = eigenbasis(sigma, eps=eps)                    Σ + εI = D diag(λ) Dᵀ, as constants
    inverse_root(sigma, x, lam, d)                         W X with W = S⁻¹, S = (Σ + εI)^(1/2)
    root_lyapunov(sigma, c, lam, d)                        T with S T + T S = C

To the values only D and λ matter, to the derivative only Σ: each rule is made of the same two products, no eigenvalue gap
divides anything, and so every derivative of every order is right, equal eigenvalues or not. W X as D((DᵀX)/√λ) rather than
(D/√λ Dᵀ)X keeps the directions apart in which W is large and small: where Σ has eigenvalues 0, rounding enters x̂ and its
gradient with √(λ_max/ε) instead of λ_max/ε. (`mg.inv_sqrtm` and `mg.lyapunov` are the same for W and T alone.)

Σ (d, d), X (d, m), C (d, d), D (d, d), λ (d,), or stacks of them (G, ...), in float64.
"""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import expand_dims, matmul


@mg.primitive()
def eigenbasis(xp: Any, sigma: Any, *, eps: float) -> tuple[Any, Any]:
    """(λ, D) of Σ + εI, with rounding errors below ε removed: max(λ(Σ), 0) + ε. Constants for the derivative."""
    lam, d = mg.eigh(sigma)
    return xp.maximum(lam, 0.0) + eps, d


def _inverse_root_rule(g: Any, sigma: Any, x: Any, lam: Any, d: Any) -> Any:
    z = root_lyapunov(sigma, _sym(g @ x.mT), lam, d)  # dW S + S dW = −W dΣ W, so ⟨g xᵀ, dW⟩ = −⟨W Z W, dΣ⟩
    return -inverse_root(sigma, inverse_root(sigma, z, lam, d).mT, lam, d)


@mg.primitive(sigma=_inverse_root_rule, x=lambda g, sigma, lam, d: inverse_root(sigma, g, lam, d))
def inverse_root(xp: Any, sigma: Any, x: Any, lam: Any, d: Any) -> Any:
    """(Σ + εI)^(−1/2) X, for (λ, D) from `eigenbasis(Σ)`."""
    return matmul(d, matmul(d.mT, x) / xp.sqrt(lam)[..., None])


def _root_lyapunov_rule(g: Any, sigma: Any, lam: Any, d: Any, out: Any) -> Any:
    u = root_lyapunov(sigma, g, lam, d)  # S dT + dT S = −(dS T + T dS), and then dS S + S dS = dΣ
    return -root_lyapunov(sigma, _sym(u @ out.mT + out.mT @ u), lam, d)


@mg.primitive(sigma=_root_lyapunov_rule, c=lambda g, sigma, lam, d: root_lyapunov(sigma, g, lam, d))
def root_lyapunov(xp: Any, sigma: Any, c: Any, lam: Any, d: Any) -> Any:
    """T with S T + T S = C for S = (Σ + εI)^(1/2): in the eigenbasis C_ij / (√λᵢ + √λⱼ)."""
    r = xp.sqrt(lam)
    return matmul(d, matmul(matmul(matmul(d.mT, c), d) / (r[..., :, None] + r[..., None, :]), d.mT))


def _sym(a: Any) -> Any:
    return 0.5 * (a + a.mT)


def whitener(sigma: Any, *, eps: float) -> Any:
    """W = (Σ + εI)^(−1/2) itself, as a constant."""
    lam, d = eigenbasis(sigma, eps=eps)
    return matmul(d / expand_dims(lam ** 0.5, -2), d.mT)
