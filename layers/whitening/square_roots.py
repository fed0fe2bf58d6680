"""Products with (Σ + εI)^(−1/2): computed with eigenvectors, differentiated without them.

    lam, d = eigenbasis(sigma, eps=eps)            Σ + εI = D diag(λ) Dᵀ, as constants
    inverse_root(sigma, x, lam, d)                 W X with W = S⁻¹, S = (Σ + εI)^(1/2)
    root_lyapunov(sigma, c, lam, d)                T with S T + T S = C

Both are trivial in the coordinates of D, where Σ is diagonal: X_ik/√λᵢ and C_ij/(√λᵢ + √λⱼ). These are the two ops below,
`..._in_basis`: X, C and the result are turned by Dᵀ, Σ is not. Only λ matters for their values, only Σ for their
derivatives. D and λ depend on Σ in a way that need not be known: D is a constant rotation, good for making Σ diagonal
*here*, and what happens when Σ moves is in the rules, which are made of the same two ops. No gap between eigenvalues divides
anything, so derivatives of every order are right, whether eigenvalues are equal or not.

Turning X also separates the directions in which W is large from those in which it is small: where Σ has eigenvalues 0, rounding enters gradients
with √(λ_max/ε), not with λ_max/ε as with one matrix W. (`mg.inv_sqrtm` and `mg.lyapunov` are the same for W and T alone.)

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


def _inverse_root_rule(g: Any, sigma: Any, x: Any, lam: Any, d: Any) -> Any:
    z = root_lyapunov_in_basis(sigma, _sym(matmul(g, x.mT)), lam, d)  # dW S + S dW = −W dΣ W: ⟨g xᵀ, dW⟩ = −⟨W Z W, dΣ⟩
    wzw = inverse_root_in_basis(sigma, inverse_root_in_basis(sigma, z, lam, d).mT, lam, d)
    return -matmul(matmul(d, wzw), d.mT)


@mg.primitive(sigma=_inverse_root_rule, x=lambda g, sigma, lam, d: inverse_root_in_basis(sigma, g, lam, d))
def inverse_root_in_basis(xp: Any, sigma: Any, x: Any, lam: Any, d: Any) -> Any:
    """W X for (λ, D) from `eigenbasis(Σ)`, X and the result in the coordinates of D."""
    return x / xp.sqrt(lam)[..., None]


def _root_lyapunov_rule(g: Any, sigma: Any, lam: Any, d: Any, out: Any) -> Any:
    u = root_lyapunov_in_basis(sigma, g, lam, d)  # S dT + dT S = −(dS T + T dS), and then dS S + S dS = dΣ
    ds = root_lyapunov_in_basis(sigma, _sym(matmul(u, out.mT) + matmul(out.mT, u)), lam, d)
    return -matmul(matmul(d, ds), d.mT)


@mg.primitive(sigma=_root_lyapunov_rule, c=lambda g, sigma, lam, d: root_lyapunov_in_basis(sigma, g, lam, d))
def root_lyapunov_in_basis(xp: Any, sigma: Any, c: Any, lam: Any, d: Any) -> Any:
    """T with S T + T S = C, for (λ, D) from `eigenbasis(Σ)`, C and T in the coordinates of D."""
    r = xp.sqrt(lam)
    return c / (r[..., :, None] + r[..., None, :])


def _sym(a: Any) -> Any:
    return 0.5 * (a + a.mT)


def inverse_root(sigma: Any, x: Any, lam: Any, d: Any) -> Any:
    """(Σ + εI)^(−1/2) X, for (λ, D) from `eigenbasis(Σ)`."""
    return matmul(d, inverse_root_in_basis(sigma, matmul(d.mT, x), lam, d))


def root_lyapunov(sigma: Any, c: Any, lam: Any, d: Any) -> Any:
    """T with S T + T S = C, for S = (Σ + εI)^(1/2) and (λ, D) from `eigenbasis(Σ)`."""
    return matmul(matmul(d, root_lyapunov_in_basis(sigma, matmul(matmul(d.mT, c), d), lam, d)), d.mT)


def whitener(lam: Any, d: Any) -> Any:
    """W = D diag(1/√λ) Dᵀ as one matrix; not to be differentiated."""
    return matmul(d / expand_dims(sqrt(lam), -2), d.mT)
