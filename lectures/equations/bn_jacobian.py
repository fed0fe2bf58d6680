"""bn-jacobian: the Jacobian of batch normalization, its block structure, and the eigenvalues of each block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import minigrad as mg

from .ledger import Array, Document, DocumentProbe, Values, equation


class Batch(DocumentProbe):
    """Batch normalization of d components over m samples, with its whole Jacobian by the tape.

    `any_vector`: x̂ is replaced by an arbitrary vector, to see which equations are algebra and which need a normalized x̂.
    """

    def __init__(self, seed: int, m: int, d: int, *, eps: float, any_vector: bool = False) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.m, self.d, self.eps = m, d, eps
        x = rng.exponential(size=(m, d))                                                  # (m, d)   skewed: not Gaussian
        self.x = rng.uniform(0.5, 2, d) * (x - x.mean(0)) / x.std(0) + rng.normal(size=d)   # (m, d)
        self.gamma, self.beta = rng.normal(1, 0.5, d), rng.normal(size=d)                 # (d,), (d,)
        self.var = self.x.var(0)                                                          # (d,)
        self.rho = self.gamma / np.sqrt(self.var + eps)                                   # (d,)     ρ, as in the main paper
        self.J = self.slope(self.forward_of, self.x)                                      # (m, d, m, d)   ∂yᵢ⁽ᵏ⁾/∂xⱼ⁽ˡ⁾
        normalized = (self.x - self.x.mean(0)) / np.sqrt(self.var + eps)
        self.xhat = rng.normal(1, 1, (m, d)) if any_vector else normalized                # (m, d)
        self.e = np.ones(m)                                                               # (m,)

    def forward_of(self, x: Array) -> Array:
        """y: (m, d)."""
        mu = mg.mean(x, 0)
        return self.gamma * (x - mu) / mg.sqrt(mg.mean((x - mu) ** 2, 0) + self.eps) + self.beta

    def blocks(self, f: Callable[[int], Array]) -> Array:
        """f(k) for every component k, stacked: (d, ...)."""
        return np.stack([f(k) for k in range(self.d)])

    Jkk = property(lambda p: p.blocks(lambda k: p.J[:, k, :, k]))                         # (d, m, m)
    U = property(lambda p: p.blocks(lambda k: np.outer(p.e, p.e) + np.outer(p.xhat[:, k], p.xhat[:, k])))      # (d, m, m)

    def eigen(self, k: int) -> tuple[Array, Array]:
        """U's eigenvalues, the largest first, and P with U = Pᵀ diag(λ) P."""
        values, vectors = np.linalg.eigh(self.U[k])
        return values[::-1], vectors.T[::-1]

    def largest(self) -> Array:
        """λ₁ ≥ λ₂ of every component: (d, 2)."""
        return self.blocks(lambda k: self.eigen(k)[0][:2])


def batches(first_seed: int, *, eps: float, **options: bool) -> Callable[[], list[Batch]]:
    """Makes three probes, of 4, 6 and 9 samples: far from a large batch."""
    return lambda: [Batch(seed, m, d, eps=eps, **options) for seed, (m, d) in enumerate([(4, 3), (6, 2), (9, 2)], first_seed)]


ANY = "x̂ any vector"

JACOBIAN = Document(
    "bn-jacobian", "All you need is beyond a good init, supplement",
    "ρ, which only the main paper explains, is read as γ/√(var + ε): (4) confirms it",
    regimes={"ε = 0": batches(200, eps=0.0), "ε > 0": batches(210, eps=0.3), ANY: batches(220, eps=0.1, any_vector=True)},
    setting=("ε = 0", "ε > 0"))

# -- the Jacobian -----------------------------------------------------------------------------------------------------


@equation(JACOBIAN, "(1), (2)", printed="J = [Dᵢⱼ], m × m blocks;  Dᵢⱼ = diag(∂yᵢ⁽ᵏ⁾/∂xⱼ⁽ᵏ⁾), d × d")
def _(p: Batch) -> Values:
    blocks = np.block([[np.diag(np.diag(p.J[i, :, j, :])) for j in range(p.m)] for i in range(p.m)])
    return Values(p.J.reshape(p.m * p.d, p.m * p.d), blocks)                              # (m·d, m·d)


@equation(JACOBIAN, "(3)", printed="J = diag(J₁₁ … J_dd), m × m blocks, after a permutation")
def _(p: Batch) -> Values:
    permuted = p.J.transpose(1, 0, 3, 2).reshape(p.m * p.d, p.m * p.d)                    # components first
    blocks = np.block([[p.Jkk[k] if k == l else np.zeros((p.m, p.m)) for l in range(p.d)] for k in range(p.d)])
    return Values(permuted, blocks)                                                       # (m·d, m·d)


@equation(JACOBIAN, "(4)", printed="∂yⱼ/∂xᵢ = ρ [Δ(i = j) − (1 + x̂ᵢ x̂ⱼ)/m]", not_for=(ANY,),
          note="for every ε; symmetric, so the exchange of i and j against (2) does no harm")
def _(p: Batch) -> Values:
    return Values(p.Jkk, p.blocks(lambda k: p.rho[k] * (np.eye(p.m) - (1 + p.xhat[:, None, k] * p.xhat[None, :, k]) / p.m)))


@equation(JACOBIAN, "(5)", printed="U = e eᵀ + x̂ x̂ᵀ", note="of Uᵢⱼ = 1 + x̂ᵢ x̂ⱼ, above it")
def _(p: Batch) -> Values:
    return Values(p.blocks(lambda k: 1 + p.xhat[:, None, k] * p.xhat[None, :, k]), p.U)   # (d, m, m)


@equation(JACOBIAN, "(6)", printed="Jₖₖ = ρ (I − (1/m) U)", not_for=(ANY,))
def _(p: Batch) -> Values:
    return Values(p.Jkk, p.blocks(lambda k: p.rho[k] * (np.eye(p.m) - p.U[k] / p.m)))     # (d, m, m)


@equation(JACOBIAN, "(7)", printed="rank U ≤ rank e eᵀ + rank x̂ x̂ᵀ = 2", note="measured: U's third singular value and those after it, over ‖U‖")
def _(p: Batch) -> Values:
    singular = np.linalg.svd(p.U, compute_uv=False)                                       # (d, m)
    return Values(singular[:, 2:], 0 * singular[:, 2:], size=float(np.linalg.norm(p.U)))


@equation(JACOBIAN, "(8)", printed="U = Pᵀ diag(λ₁, λ₂, 0 … 0) P")
def _(p: Batch) -> Values:
    def form(k: int) -> Array:
        (l1, l2, *_), P = p.eigen(k)
        return P.T @ np.diag([l1, l2, *np.zeros(p.m - 2)]) @ P
    return Values(p.U, p.blocks(form))                                                    # (d, m, m)


@equation(JACOBIAN, "(9)", printed="J = Pᵀ ρ diag(1 − λ₁/m, 1 − λ₂/m, 1 … 1) P", not_for=(ANY,),
          note="J here is Jₖₖ, as the sentence before it says (J of (3) is md × md); a lost subscript, not counted as a misprint")
def _(p: Batch) -> Values:
    def form(k: int) -> Array:
        (l1, l2, *_), P = p.eigen(k)
        return P.T @ (p.rho[k] * np.diag([1 - l1 / p.m, 1 - l2 / p.m, *np.ones(p.m - 2)])) @ P
    return Values(p.Jkk, p.blocks(form))                                                  # (d, m, m)


# -- U² and the eigenvalues -------------------------------------------------------------------------------------------


@equation(JACOBIAN, "(10) line 1", printed="U² = e eᵀe eᵀ + e eᵀx̂ x̂ᵀ + x̂ x̂ᵀe eᵀ + x̂ x̂ᵀx̂ x̂ᵀ", note="algebra: for any vector x̂")
def _(p: Batch) -> Values:
    def form(k: int) -> Array:
        E, X = np.outer(p.e, p.e), np.outer(p.xhat[:, k], p.xhat[:, k])
        return E @ E + E @ X + X @ E + X @ X
    return Values(p.U @ p.U, p.blocks(form))                                              # (d, m, m)


@equation(JACOBIAN, "(10) line 2", printed="   = m e eᵀ + (Σ x̂ᵢ) e x̂ᵀ + (Σ x̂ᵢ) x̂ eᵀ + (Σ x̂ᵢ²) x̂ x̂ᵀ")
def _(p: Batch) -> Values:
    def form(k: int) -> Array:
        x = p.xhat[:, k]
        return p.m * np.outer(p.e, p.e) + x.sum() * np.outer(p.e, x) + x.sum() * np.outer(x, p.e) + (x**2).sum() * np.outer(x, x)
    return Values(p.U @ p.U, p.blocks(form))                                              # (d, m, m)


@equation(JACOBIAN, "(10) line 3", printed="   = m U + (Σ x̂ᵢ) e x̂ᵀ + (Σ x̂ᵢ) x̂ eᵀ + (Σ x̂ᵢ² − m) x̂ x̂ᵀ")
def _(p: Batch) -> Values:
    def form(k: int) -> Array:
        x = p.xhat[:, k]
        return p.m * p.U[k] + x.sum() * np.outer(p.e, x) + x.sum() * np.outer(x, p.e) + ((x**2).sum() - p.m) * np.outer(x, x)
    return Values(p.U @ p.U, p.blocks(form))                                              # (d, m, m)


EXACTLY = "Σ x̂ᵢ = 0 for any data, Σ x̂ᵢ² = m var/(var + ε): neither Gaussian data nor a large batch is needed"


@equation(JACOBIAN, "below (10), U²", printed="U² ≈ m U", corrected="U² = m U − (m ε/(var + ε)) x̂ x̂ᵀ", verdict="approximation",
          right_for=("ε = 0",), note=EXACTLY)
def _(p: Batch) -> Values:
    def form(k: int) -> Array:
        return p.m * p.U[k] - p.m * p.eps / (p.var[k] + p.eps) * np.outer(p.xhat[:, k], p.xhat[:, k])
    return Values(p.U @ p.U, p.m * p.U, corrected=p.blocks(form))                         # (d, m, m)


def eigenvalues(p: Batch) -> Array:
    """m and m·var/(var + ε): (d, 2)."""
    return p.blocks(lambda k: p.m * np.array([1, p.var[k] / (p.var[k] + p.eps)]))


@equation(JACOBIAN, "below (10), λ²", printed="λ₁² ≈ m λ₁,  λ₂² ≈ m λ₂", corrected="λ₁² = m λ₁,  λ₂² = (m var/(var + ε)) λ₂",
          verdict="approximation", right_for=("ε = 0",))
def _(p: Batch) -> Values:
    lam = p.largest()                                                                     # (d, 2)
    return Values(lam**2, p.m * lam, corrected=eigenvalues(p) * lam)


@equation(JACOBIAN, "below (10), λ", printed="λ₁ ≈ λ₂ ≈ m", corrected="λ₁ = m,  λ₂ = m var/(var + ε)", verdict="approximation", right_for=("ε = 0",))
def _(p: Batch) -> Values:
    return Values(p.largest(), np.full((p.d, 2), float(p.m)), corrected=eigenvalues(p))   # (d, 2)


@equation(JACOBIAN, "below (10), 1 − λ/m", printed="1 − λ₁/m ≈ 0,  1 − λ₂/m ≈ 0", corrected="1 − λ₁/m = 0,  1 − λ₂/m = ε/(var + ε)", verdict="approximation",
          right_for=("ε = 0",), note="two null directions, 1 and x̂, exactly if ε = 0; else only 1. Measured on Jₖₖ/ρ, whose norm is about 1")
def _(p: Batch) -> Values:
    smallest = p.blocks(lambda k: np.linalg.eigvalsh(p.Jkk[k] / p.rho[k])[:2])            # (d, 2)
    truth = p.blocks(lambda k: np.array([0, p.eps / (p.var[k] + p.eps)]))
    return Values(smallest, 0 * smallest, corrected=truth, size=1.0)
