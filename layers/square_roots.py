"""(Σ + εI)^(−1/2) in coordinates in which Σ is diagonal: trivial values, with the derivatives that Σ demands.

    lam, d = eigenbasis(sigma, eps=eps)          Σ + εI = D diag(λ) Dᵀ: constants for the derivative
    s, x = d.mT @ sigma @ d, d.mT @ xc           other coordinates, by a constant rotation
    inverse_root(s, x, lam)                      W X with W = S⁻¹, S = (s + εI)^(1/2)      = X_ik / √λᵢ
    root_lyapunov(s, c, lam)                     T with S T + T S = C                      = C_ij / (√λᵢ + √λⱼ)

Whitened data turn with the data: any constant rotation may come before and its inverse after. D is the one for which s is
diagonal *here*; s is not when Σ moves, and that is what the rules are about. They are made of the same two functions. No gap
between eigenvalues divides anything, so derivatives of every order are right, whether eigenvalues are equal or not.

The rotation also keeps the directions apart in which W is large and small: where Σ has eigenvalues 0, rounding enters the
gradient with √(λ_max/ε), not with λ_max/ε as with `mg.inv_sqrtm`, which is the same function as one matrix.

Σ (d, d), X (d, m), C (d, d), D (d, d), λ (d,), or stacks of them (G, ...), in float64.
"""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import expand_dims, matmul, sqrt


@mg.primitive()
def eigenbasis(xp: Any, sigma: Any, *, eps: float) -> tuple[Any, Any]:
    """(λ, D) of Σ + εI, where eigenvalues of Σ that rounding made negative count as 0. Constants for the derivative."""
    lam, d = mg.eigh(sigma)
    return xp.maximum(lam, 0.0) + eps, d


def _inverse_root_rule(g: Any, s: Any, x: Any, lam: Any) -> Any:
    z = root_lyapunov(s, _sym(g @ x.mT), lam)  # dW S + S dW = −W ds W, so ⟨g xᵀ, dW⟩ = −⟨W Z W, ds⟩
    return -inverse_root(s, inverse_root(s, z, lam).mT, lam)


@mg.primitive(s=_inverse_root_rule, x=lambda g, s, lam: inverse_root(s, g, lam))
def inverse_root(xp: Any, s: Any, x: Any, lam: Any) -> Any:
    """(s + εI)^(−1/2) X for diagonal s."""
    return x / xp.sqrt(lam)[..., None]


def _root_lyapunov_rule(g: Any, s: Any, lam: Any, out: Any) -> Any:
    u = root_lyapunov(s, g, lam)  # S dT + dT S = −(dS T + T dS), and then dS S + S dS = ds
    return -root_lyapunov(s, _sym(u @ out.mT + out.mT @ u), lam)


@mg.primitive(s=_root_lyapunov_rule, c=lambda g, s, lam: root_lyapunov(s, g, lam))
def root_lyapunov(xp: Any, s: Any, c: Any, lam: Any) -> Any:
    """T with S T + T S = C for S = (s + εI)^(1/2) and diagonal s."""
    r = xp.sqrt(lam)
    return c / (r[..., :, None] + r[..., None, :])


def _sym(a: Any) -> Any:
    return 0.5 * (a + a.mT)


def whitener(lam: Any, d: Any) -> Any:
    """W = D diag(1/√λ) Dᵀ as one matrix; not to be differentiated."""
    return matmul(d / expand_dims(sqrt(lam), -2), d.mT)
