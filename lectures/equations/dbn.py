"""dbn: ZCA whitening, its backward in stages (7-13) and in one line (14), and the derivation of that line (15-20).

Samples are the columns of x (d, m). A gradient with respect to a column vector is a row vector, so those of all samples
are the rows of an (m, d) matrix; a gradient with respect to a matrix has the shape of that matrix.

The paper has no ε. With Σ + εI in place of Σ everything stays true if *every* Λ means Λ + εI (K does not care).
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg

from .ledger import Array, Document, DocumentProbe, Values, differences, equation


def sym(a: Array) -> Array:
    """(a)_sym: (A + Aᵀ)/2."""
    return 0.5 * (a + a.T)


def only_diagonal(a: Array) -> Array:
    """(a)_diag: zeros off the diagonal."""
    return np.diag(np.diag(a))


def power(a: Array, exponent: float) -> Array:
    """Of a diagonal matrix."""
    return np.diag(np.diag(a) ** exponent)


class WhiteningProbe(DocumentProbe):
    """Eqs 1-6 at random data, and the true gradient of every intermediate.

    `forget_eps`: the formulas see Λ without ε, the forward pass has it. `shift`: μ is not the mean, but the mean and a constant.
    """

    def __init__(self, seed: int, x: Array, *, eps: float, shift: float = 0.0, forget_eps: bool = False) -> None:
        super().__init__()
        rng = np.random.default_rng([seed, 1])
        self.x, self.eps = x, eps                                                         # (d, m)
        self.d, self.m = d, m = x.shape
        self.delta = shift * rng.normal(size=(d, 1))                                      # (d, 1)
        self.mu = x.mean(1, keepdims=True) + self.delta                                   # (d, 1)
        self.xc = x - self.mu                                                             # (d, m)
        self.sigma = self.xc @ self.xc.T / m                                              # (d, d)
        eigenvalues, self.D = np.linalg.eigh(self.sigma)                                  # (d,), (d, d)
        self.lam = eigenvalues + eps                                                      # (d,)     Λ + εI
        self.U = (self.D / np.sqrt(self.lam)).T                                           # (d, d)
        self.xt = self.U @ self.xc                                                        # (d, m)   x̃
        self.xhat = self.D @ self.xt                                                      # (d, m)
        self.cotangent = rng.normal(size=(d, m))                                          # (d, m)   the cotangent of x̂

        self.L = np.diag(eigenvalues if forget_eps else self.lam)                         # (d, d)   the formulas' Λ
        self.sigma_eps = self.sigma + eps * np.eye(d)                                     # (d, d)   what is whitened
        self.K = inverse_gaps(eigenvalues)                                                # (d, d)

    def forward(self, **given: Any) -> Any:
        """x̂: smooth, without eigenvectors, unless what is given stands behind the eigendecomposition."""
        x = given.get("x", self.x)
        mu = given.get("mu", mg.mean(x, 1, keepdims=True) + self.delta)
        if given.keys() <= {"x", "mu", "sigma"}:
            sigma = given.get("sigma", (x - mu) @ mg.swapaxes(x - mu, 0, 1) / self.m)
            return mg.inv_sqrtm(sigma + self.eps * np.eye(self.d)) @ (x - mu)
        D = given.get("D", self.D)
        U = given.get("U", mg.expand_dims(given.get("lam", self.lam) ** -0.5, -1) * mg.swapaxes(D, 0, 1))
        return D @ given.get("xt", U @ (x - mu))

    # the true gradients, in the paper's layout
    dx = property(lambda p: p.gradient("x").T)                # (m, d)
    dmu = property(lambda p: p.gradient("mu").ravel())        # (d,)
    dSigma = property(lambda p: p.gradient("sigma"))          # (d, d)   symmetric: (dΣ)_sym
    dLam = property(lambda p: np.diag(p.gradient("lam")))     # (d, d)   diagonal: (dΛ)_diag
    dD = property(lambda p: p.gradient("D"))                  # (d, d)
    dU = property(lambda p: p.gradient("U"))                  # (d, d)
    dxt = property(lambda p: p.gradient("xt").T)              # (m, d)
    dxhat = property(lambda p: p.cotangent.T)                 # (m, d)

    # the abbreviations of sec. 1.3
    Fc = property(lambda p: p.dxt.T @ p.xt.T / p.m)           # (d, d)
    f = property(lambda p: p.dxt.mean(0))                     # (d,)
    S = property(lambda p: 2 * sym(p.K.T * p.A))              # (d, d)
    M = property(lambda p: only_diagonal(p.Fc))               # (d, d)
    A = property(lambda p: p.L @ p.Fc.T + p.Lh @ p.Fc @ p.Lh)                             # (d, d)   Λ Fcᵀ + Λ^½ Fc Λ^½
    B = property(lambda p: p.Lh @ p.Fc.T @ p.Lhi + p.Fc)                                  # (d, d)   Λ^½ Fcᵀ Λ^-½ + Fc
    Lh = property(lambda p: power(p.L, 1 / 2))                # (d, d)   Λ^½
    Lhi = property(lambda p: power(p.L, -1 / 2))              # (d, d)   Λ^-½

    def dSigma_for_any_matrix(self) -> Array:
        """By differences: the gradient where *any* matrix may perturb Σ, which then is D Λ D⁻¹, while (4) keeps its Dᵀ."""
        def loss(sigma: Array) -> Array:
            eigenvalues, D = np.linalg.eig(sigma)
            order = np.abs(self.D.T @ D).argmax(1)
            eigenvalues, D = eigenvalues[order], D[:, order]
            D = D / np.diag(self.D.T @ D)  # an eigenvector's length is free: eq 11 has a D⁻¹dD without a diagonal
            return np.sum(self.cotangent * (D @ np.diag((eigenvalues + self.eps) ** -0.5) @ D.T @ self.xc))
        return differences(loss, self.sigma)

    def dLam_of_a_matrix(self) -> Array:
        """The gradient where Λ may be perturbed off its diagonal too, symmetrically: Λ^-½ is then a matrix function."""
        def output(lam: Any) -> Any:
            return self.D @ (mg.inv_sqrtm(lam) @ self.D.T @ self.xc)                      # (d, m)
        _, (g,) = mg.vjp(output, [mg.tensor(np.diag(self.lam))], mg.tensor(self.cotangent))
        return g.numpy()


def inverse_gaps(s: Array) -> Array:
    """K: 1/(sᵢ − sⱼ), zeros on the diagonal."""
    with np.errstate(divide="ignore"):
        return np.where(np.eye(len(s), dtype=bool), 0.0, 1.0 / (s[:, None] - s[None, :]))


def batch(seed: int, d: int, m: int) -> Array:
    """Skewed data (d, m) with the eigenvalues 0.4 … 4 of Σ, well apart, in random directions."""
    rng = np.random.default_rng([seed, 2])
    x = rng.exponential(size=(d, m))
    x = x - x.mean(1, keepdims=True)
    white = mg.inv_sqrtm(x @ x.T / m) @ x
    rotation, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return rotation @ np.diag(np.geomspace(0.4, 4.0, d) ** 0.5) @ white + rng.normal(size=(d, 1))


def white_batch() -> Array:
    """Integers (3, 8) with Σ = I to the last bit: three rows of a Hadamard matrix."""
    bits = np.arange(8)[None, :] >> np.arange(3)[:, None] & 1
    return 1.0 - 2.0 * bits + np.array([[1.0], [-2.0], [3.0]])


SHAPES = [(3, 8), (4, 11), (5, 16)]  # (d, m); m > d, else Σ is singular
BARE, EQUAL, OFF = "Λ without ε", "equal eigenvalues", "μ off the mean"

DBN = Document(
    "dbn", "Decorrelated Batch Normalization, supplement",
    "dz is ∂L/∂z, ∘ elementwise; Fc = (1/m) Σᵢ dx̃ᵢᵀ x̃ᵢᵀ, f = (1/m) Σᵢ dx̃ᵢ, A = Λ Fcᵀ + Λ^½ Fc Λ^½, B = Λ^½ Fcᵀ Λ^-½ + Fc (A, B ours); with ε, Λ means Λ + εI",
    regimes={
        "ε = 0": lambda: [WhiteningProbe(s, batch(s, *shape), eps=0.0) for s, shape in enumerate(SHAPES)],
        "ε > 0": lambda: [WhiteningProbe(s, batch(s, *shape), eps=eps) for s, (shape, eps) in enumerate(zip(SHAPES, (0.5, 1e-2, 1e-5)), 10)],
        BARE: lambda: [WhiteningProbe(s, batch(s, *shape), eps=0.1, forget_eps=True) for s, shape in enumerate(SHAPES, 20)],
        EQUAL: lambda: [WhiteningProbe(30, white_batch(), eps=eps) for eps in (0.0, 0.3)],
        OFF: lambda: [WhiteningProbe(s, batch(s, *shape), eps=eps, shift=0.5) for s, (shape, eps) in enumerate(zip(SHAPES, (0.0, 0.2, 0.0)), 40)],
    },
    setting=("ε = 0", "ε > 0"))

# -- 1.1, forward pass ------------------------------------------------------------------------------------------------


@equation(DBN, "(1)", printed="μ = (1/m) Σⱼ xⱼ")
def _(p: WhiteningProbe) -> Values:
    return Values(np.mean(p.x, 1), p.x.sum(1) / p.m)                                      # (d,)


@equation(DBN, "(2)", printed="Σ = (1/m) Σⱼ (xⱼ − μ)(xⱼ − μ)ᵀ", not_for=(OFF,))
def _(p: WhiteningProbe) -> Values:
    return Values(np.cov(p.x, bias=True), p.xc @ p.xc.T / p.m)                            # (d, d)


@equation(DBN, "(3)", printed="Σ = D Λ Dᵀ", not_for=(BARE,), note="with ε: Σ + εI = D (Λ + εI) Dᵀ")
def _(p: WhiteningProbe) -> Values:
    return Values(p.sigma_eps, p.D @ p.L @ p.D.T)                                         # (d, d)


@equation(DBN, "(4)", printed="U = Λ^-½ Dᵀ", not_for=(BARE,), note="measured by UᵀU = Σ⁻¹")
def _(p: WhiteningProbe) -> Values:
    U = p.Lhi @ p.D.T                                                                     # (d, d)
    return Values(np.linalg.inv(p.sigma_eps), U.T @ U)                                    # (d, d)


@equation(DBN, "(5)", printed="x̃ᵢ = U (xᵢ − μ)", note="PCA whitening: Dᵀ (Σ^-½ (x − μ))")
def _(p: WhiteningProbe) -> Values:
    return Values(p.D.T @ p.forward(), p.U @ p.xc)                                        # (d, m)


@equation(DBN, "(6)", printed="x̂ᵢ = D x̃ᵢ", note="ZCA whitening: Σ^-½ (x − μ)")
def _(p: WhiteningProbe) -> Values:
    return Values(p.forward(), p.D @ p.xt)                                                # (d, m)


# -- 1.2, back-propagation --------------------------------------------------------------------------------------------


@equation(DBN, "(7) left side", printed="dx̂ᵢ = dx̂ᵢ D", corrected="dx̃ᵢ = dx̂ᵢ D", verdict="misprint",
          note="hat for tilde; the text keeps the two accents apart everywhere else, but a lost tilde cannot be told from a misprint")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dxhat, p.dxhat @ p.D, corrected=p.dxhat @ p.D, corrected_reference=p.dxt)      # (m, d)


@equation(DBN, "(8)", printed="dU = Σᵢ dx̃ᵢᵀ (xᵢ − μ)ᵀ")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dU, p.dxt.T @ p.xc.T)                                                 # (d, d)


@equation(DBN, "(9)", printed="dΛ = dU D (−½ Λ^(-3/2))", not_for=(BARE,), note="as (dΛ)_diag, which is all that (11) uses")
def _(p: WhiteningProbe) -> Values:
    def off_diagonal(a: Array) -> Array:
        return sym(a) - only_diagonal(a)
    full = p.dU @ p.D @ (-0.5 * power(p.L, -3 / 2))                                       # (d, d)
    return Values(p.dLam, only_diagonal(full), readings={
        "off the diagonal, as the gradient of the matrix function Λ^-½": lambda: (off_diagonal(full), off_diagonal(p.dLam_of_a_matrix()))})


@equation(DBN, "(10)", printed="dD = dUᵀ Λ^-½ + Σᵢ dx̂ᵢᵀ x̃ᵢᵀ", not_for=(BARE,), note="D as a free matrix, in both of its places (4, 6)")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dD, p.dU.T @ p.Lhi + p.dxhat.T @ p.xt.T)                              # (d, d)


def eq11(p: WhiteningProbe, K: Array, dD: Array, dLam: Array) -> Array:
    """D {Kᵀ ∘ (Dᵀ dD) + (dΛ)_diag} Dᵀ: (d, d), not symmetric."""
    return p.D @ (K.T * (p.D.T @ dD) + only_diagonal(dLam)) @ p.D.T


@equation(DBN, "(11)", printed="dΣ = D {Kᵀ ∘ (Dᵀ dD) + (dΛ)_diag} Dᵀ", not_for=(EQUAL,),
          note="its symmetric part, which is all that (12) and (13) use; σᵢ in K is not defined: it is the eigenvalue")
def _(p: WhiteningProbe) -> Values:
    value = eq11(p, p.K, p.dD, p.dLam)
    return Values(p.dSigma, sym(value), readings={
        "as it stands, where any matrix may perturb Σ (by differences)": lambda: (value, p.dSigma_for_any_matrix()),
        "as it stands, as the gradient for a symmetric Σ": lambda: (value, p.dSigma),
        "with σᵢ = √λᵢ": lambda: (sym(eq11(p, inverse_gaps(np.sqrt(p.lam)), p.dD, p.dLam)), p.dSigma)})


@equation(DBN, "(12)", printed="dμ = Σᵢ dx̃ᵢ (−U) + Σᵢ (−2(xᵢ − μ)ᵀ/m) (dΣ)_sym", note="the second sum is 0 at the mean, so it is measured off the mean too")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dmu, (p.dxt @ -p.U).sum(0) + (-2 * p.xc.T / p.m @ p.dSigma).sum(0))   # (d,)


@equation(DBN, "(13)", printed="dxᵢ = dx̃ᵢ U + (2(xᵢ − μ)ᵀ/m) (dΣ)_sym + (1/m) dμ", note="given (dΣ)_sym; where that comes from (11), see the next entry")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dx, p.dxt @ p.U + 2 * p.xc.T / p.m @ p.dSigma + p.dmu / p.m)          # (m, d)


@equation(DBN, "(8)-(13) in turn", printed="each fed by the ones before it", not_for=(BARE, EQUAL), note="from dx̂ and the true dx̃")
def _(p: WhiteningProbe) -> Values:
    dU = p.dxt.T @ p.xc.T
    dLam = dU @ p.D @ (-0.5 * power(p.L, -3 / 2))
    dD = dU.T @ p.Lhi + p.dxhat.T @ p.xt.T
    dSigma = sym(eq11(p, p.K, dD, dLam))
    dmu = (p.dxt @ -p.U).sum(0) + (-2 * p.xc.T / p.m @ dSigma).sum(0)
    return Values(p.dx, p.dxt @ p.U + 2 * p.xc.T / p.m @ dSigma + dmu / p.m)              # (m, d)


# -- 1.3, the simplified formulation ----------------------------------------------------------------------------------


@equation(DBN, "(14)", printed="dxᵢ = (dx̃ᵢ − f + x̃ᵢᵀ S − x̃ᵢᵀ M) Λ^-½ Dᵀ,  S = 2(Kᵀ ∘ A)_sym,  M = (Fc)_diag", not_for=(BARE, EQUAL, OFF))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dx, (p.dxt - p.f + p.xt.T @ p.S - p.xt.T @ p.M) @ p.Lhi @ p.D.T)      # (m, d)


@equation(DBN, "(15) line 1", printed="dΛ = (Σᵢ dx̃ᵢᵀ (xᵢ − μ)ᵀ) U (−½ Λ⁻¹)", corrected="dΛ = (Σᵢ dx̃ᵢᵀ (xᵢ − μ)ᵀ) Uᵀ (−½ Λ⁻¹)", verdict="misprint",
          note="D = Uᵀ Λ^½ by (4), and line 2 follows only with Uᵀ; a ᵀ that the OCR lost cannot be excluded. Diagonal, as (9)")
def _(p: WhiteningProbe) -> Values:
    left, right = p.dxt.T @ p.xc.T, -0.5 * power(p.L, -1)                                 # (d, d), (d, d)
    return Values(p.dLam, only_diagonal(left @ p.U @ right), corrected=only_diagonal(left @ p.U.T @ right))


@equation(DBN, "(15) line 2", printed="   = −½ (Σᵢ dx̃ᵢᵀ x̃ᵢᵀ) Λ⁻¹", not_for=(BARE,), note="diagonal, as (9)")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dLam, only_diagonal(-0.5 * (p.dxt.T @ p.xt.T) @ power(p.L, -1)))      # (d, d)


@equation(DBN, "(16)", printed="dΛ = −½ m Fc Λ⁻¹", not_for=(BARE,), note="diagonal, as (9)")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dLam, only_diagonal(-0.5 * p.m * p.Fc @ power(p.L, -1)))              # (d, d)


@equation(DBN, "(17) line 1", printed="Dᵀ dD = Λ^½ Uᵀ (dUᵀ Λ^-½ + Σᵢ D dx̃ᵢᵀ x̃ᵢᵀ)", corrected="Dᵀ dD = Λ^½ U (dUᵀ Λ^-½ + Σᵢ D dx̃ᵢᵀ x̃ᵢᵀ)",
          verdict="misprint", note="Dᵀ = Λ^½ U by (4); a ᵀ too many is not what OCR does. dU is not bold here")
def _(p: WhiteningProbe) -> Values:
    bracket = p.dU.T @ p.Lhi + p.D @ p.dxt.T @ p.xt.T                                     # (d, d)
    return Values(p.D.T @ p.dD, p.Lh @ p.U.T @ bracket, corrected=p.Lh @ p.U @ bracket)


@equation(DBN, "(17) line 2", printed="   = m Λ^½ Fcᵀ Λ^-½ + m Fc", not_for=(BARE,))
def _(p: WhiteningProbe) -> Values:
    return Values(p.D.T @ p.dD, p.m * p.Lh @ p.Fc.T @ p.Lhi + p.m * p.Fc)                 # (d, d)


# (18) symmetrises (11) in its first line. So its left side is (dΣ)_sym, not the dΣ of (11).

def line1(p: WhiteningProbe) -> Array:
    """½ D {Kᵀ ∘ (Dᵀ dD) + K ∘ (Dᵀ dD)ᵀ} Dᵀ + D (dΛ)_diag Dᵀ."""
    DtdD = p.D.T @ p.dD                                                                   # (d, d)
    return 0.5 * p.D @ (p.K.T * DtdD + p.K * DtdD.T) @ p.D.T + p.D @ p.dLam @ p.D.T       # (d, d)


@equation(DBN, "(18) left side", printed="dΣ = ½ D {Kᵀ ∘ (Dᵀ dD) + K ∘ (Dᵀ dD)ᵀ} Dᵀ + D (dΛ)_diag Dᵀ", corrected="(dΣ)_sym = the same", verdict="misprint",
          note="dΣ as (11) has it; the subscript that (12) and (13) print is missing. The OCR lost the number (18) itself, between (17) and (19)")
def _(p: WhiteningProbe) -> Values:
    return Values(eq11(p, p.K, p.dD, p.dLam), line1(p), corrected=line1(p), corrected_reference=p.dSigma)


@equation(DBN, "(18) line 1", printed="(dΣ)_sym = ½ D {Kᵀ ∘ (Dᵀ dD) + K ∘ (Dᵀ dD)ᵀ} Dᵀ + D (dΛ)_diag Dᵀ", not_for=(EQUAL,),
          note="left side read as (dΣ)_sym, here and below")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dSigma, line1(p))                                                     # (d, d)


def last(p: WhiteningProbe) -> Array:
    """D (dΛ)_diag Dᵀ, the last term of lines 1-5."""
    return p.D @ p.dLam @ p.D.T                                                           # (d, d)


@equation(DBN, "(18) line 2", printed="   = ½ D {Kᵀ ∘ m B + K ∘ m Bᵀ} Dᵀ + D (dΛ)_diag Dᵀ", not_for=(BARE, EQUAL))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dSigma, 0.5 * p.D @ (p.K.T * (p.m * p.B) + p.K * (p.m * p.B.T)) @ p.D.T + last(p))


@equation(DBN, "(18) line 3", printed="   = (m/2) D (Kᵀ ∘ B) Dᵀ + (m/2) D (K ∘ Bᵀ) Dᵀ + D (dΛ)_diag Dᵀ", not_for=(BARE, EQUAL))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dSigma, p.m / 2 * p.D @ (p.K.T * p.B) @ p.D.T + p.m / 2 * p.D @ (p.K * p.B.T) @ p.D.T + last(p))


@equation(DBN, "(18) line 4", printed="   = (m/2) Uᵀ (Kᵀ ∘ B) U + (m/2) Uᵀ (K ∘ Aᵀ) U + D (dΛ)_diag Dᵀ",
          corrected="   = (m/2) D (Kᵀ ∘ B) Dᵀ + (m/2) Uᵀ (K ∘ Aᵀ) U + D (dΛ)_diag Dᵀ", verdict="misprint",
          note="halfway from line 3 to line 5: the first term has got its new brackets, but not its new matrix")
def _(p: WhiteningProbe) -> Values:
    rest = p.m / 2 * p.U.T @ (p.K * p.A.T) @ p.U + last(p)                                # (d, d)
    return Values(p.dSigma, p.m / 2 * p.U.T @ (p.K.T * p.B) @ p.U + rest, corrected=p.m / 2 * p.D @ (p.K.T * p.B) @ p.D.T + rest)


@equation(DBN, "(18) line 5", printed="   = (m/2) Uᵀ (Kᵀ ∘ A) U + (m/2) Uᵀ (K ∘ Aᵀ) U + D (dΛ)_diag Dᵀ", not_for=(BARE, EQUAL))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dSigma, p.m / 2 * p.U.T @ (p.K.T * p.A) @ p.U + p.m / 2 * p.U.T @ (p.K * p.A.T) @ p.U + last(p))


@equation(DBN, "(18) line 6", printed="   = (m/2) Uᵀ {Kᵀ ∘ A + K ∘ Aᵀ − (Λ^½ Fc Λ^-½)_diag} U", not_for=(BARE, EQUAL))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dSigma, p.m / 2 * p.U.T @ (p.K.T * p.A + p.K * p.A.T - only_diagonal(p.Lh @ p.Fc @ p.Lhi)) @ p.U)


@equation(DBN, "(18) line 7", printed="   = (m/2) Uᵀ {2(Kᵀ ∘ A)_sym − (Λ^½ Fc Λ^-½)_diag} U", not_for=(BARE, EQUAL))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dSigma, p.m / 2 * p.U.T @ (2 * sym(p.K.T * p.A) - only_diagonal(p.Lh @ p.Fc @ p.Lhi)) @ p.U)


@equation(DBN, "(18) line 8", printed="   = (m/2) Uᵀ {S − M} U", not_for=(BARE, EQUAL))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dSigma, p.m / 2 * p.U.T @ (p.S - p.M) @ p.U)                          # (d, d)


@equation(DBN, "below (18)", printed="M = (Λ^½ Fc Λ^-½)_diag = (Fc)_diag")
def _(p: WhiteningProbe) -> Values:
    return Values(only_diagonal(p.Lh @ p.Fc @ p.Lhi), p.M)                                # (d, d)


@equation(DBN, "(19) middle", printed="dμ = (Σᵢ dx̃ᵢ)(−U) + (Σᵢ −2(xᵢ − μ)ᵀ/m) (dΣ)_sym")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dmu, p.dxt.sum(0) @ -p.U + (-2 * p.xc.T / p.m).sum(0) @ p.dSigma)     # (d,)


@equation(DBN, "(19) right", printed="   = −m f U", not_for=(OFF,), note="because Σᵢ (xᵢ − μ) = 0")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dmu, -p.m * p.f @ p.U)                                                # (d,)


@equation(DBN, "(20) line 1", printed="dxᵢ = dx̃ᵢ U + (2(xᵢ − μ)ᵀ/m) (dΣ)_sym + (1/m) dμ", note="is (13)")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dx, p.dxt @ p.U + 2 * p.xc.T / p.m @ p.dSigma + p.dmu / p.m)          # (m, d)


@equation(DBN, "(20) line 2", printed="   = dx̃ᵢ U + x̃ᵢᵀ S U − x̃ᵢᵀ M U − f U", not_for=(BARE, EQUAL, OFF))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dx, p.dxt @ p.U + p.xt.T @ p.S @ p.U - p.xt.T @ p.M @ p.U - p.f @ p.U)


@equation(DBN, "(20) line 3", printed="   = (dx̃ᵢ − f + x̃ᵢᵀ S − x̃ᵢᵀ M) U", not_for=(BARE, EQUAL, OFF))
def _(p: WhiteningProbe) -> Values:
    return Values(p.dx, (p.dxt - p.f + p.xt.T @ p.S - p.xt.T @ p.M) @ p.U)                # (m, d)


@equation(DBN, "(20) line 4", printed="   = (dx̃ᵢ − f + x̃ᵢᵀ S − x̃ᵢᵀ M) Λ^-½ Dᵀ", not_for=(BARE, EQUAL, OFF), note="is (14)")
def _(p: WhiteningProbe) -> Values:
    return Values(p.dx, (p.dxt - p.f + p.xt.T @ p.S - p.xt.T @ p.M) @ p.Lhi @ p.D.T)      # (m, d)
