"""bn-lecture: batch normalization of one channel, forward and backward, derivative by derivative.

The slides have no equation numbers: their titles are the places. The backward pass's summary repeats the last line of each.
"""

from __future__ import annotations

import numpy as np

from .channel import Channel, channels, total
from .ledger import Document, Values, equation

OFF = "μ off the mean"

LECTURE = Document(
    "bn-lecture", "COMPSCI 682, A closer look at the math inside batch normalization",
    "dz is ∂l/∂z; s is √(σ² + ε) (ours); eta, rac and egin in the OCR are \\beta, \\frac and \\begin, whose first letters were taken for control characters",
    regimes={"ε = 0": channels(0, eps=0.0), "ε > 0": channels(10, eps=0.3), OFF: channels(20, eps=0.2, shift=0.7)},
    setting=("ε = 0", "ε > 0"))

# -- forward pass -----------------------------------------------------------------------------------------------------


@equation(LECTURE, "Two Simplifications, 1", printed="x̂ = (x − E[x]) / √Var[x]", setting=("ε = 0",), not_for=("ε > 0", OFF), note="there is no ε yet")
def _(p: Channel) -> Values:
    return Values(p.normalized(), (p.x - np.mean(p.x)) / np.sqrt(np.var(p.x)))            # (m,)


@equation(LECTURE, "Another detail", printed="y = γ x̂ + β")
def _(p: Channel) -> Values:
    return Values(p.forward(), p.gamma * p.xhat + p.beta)                                 # (m,)


@equation(LECTURE, "Forward Pass, μ", printed="μ = (1/m) Σᵢ xᵢ")
def _(p: Channel) -> Values:
    return Values(np.mean(p.x), total(p.x) / p.m)                                         # ()


@equation(LECTURE, "Forward Pass, σ²", printed="σ² = (1/m) Σᵢ (xᵢ − μ)²", not_for=(OFF,), note="biased")
def _(p: Channel) -> Values:
    return Values(np.var(p.x), total((p.x - p.mu) ** 2) / p.m)                            # ()


@equation(LECTURE, "Forward Pass, x̂", printed="x̂ᵢ = (xᵢ − μ) / √(σ² + ε)")
def _(p: Channel) -> Values:
    return Values(p.normalized(), (p.x - p.mu) / np.sqrt(p.var + p.eps))                  # (m,)


@equation(LECTURE, "Forward Pass, y", printed="yᵢ = γ x̂ᵢ + β")
def _(p: Channel) -> Values:
    return Values(p.forward(), p.gamma * p.xhat + p.beta)                                 # (m,)


# -- backward pass ----------------------------------------------------------------------------------------------------


@equation(LECTURE, "∂l/∂γ; Summary 1", printed="dγ = Σᵢ dyᵢ x̂ᵢ")
def _(p: Channel) -> Values:
    return Values(p.dgamma, total(p.dy * p.xhat))                                         # ()


@equation(LECTURE, "∂l/∂β; Summary 2", printed="dβ = Σᵢ dyᵢ")
def _(p: Channel) -> Values:
    return Values(p.dbeta, total(p.dy))                                                   # ()


@equation(LECTURE, "∂l/∂x̂; Summary 3", printed="dx̂ᵢ = dyᵢ γ")
def _(p: Channel) -> Values:
    return Values(p.dxhat, p.dy * p.gamma)                                                # (m,)


@equation(LECTURE, "∂l/∂σ², line 1", printed="dσ² = Σᵢ dx̂ᵢ ∂x̂ᵢ/∂σ²")
def _(p: Channel) -> Values:
    return Values(p.dvar, total(p.dxhat * p.dxhat_dvar))                                  # ()


@equation(LECTURE, "∂l/∂σ², line 2; Summary 4", printed="   = Σᵢ dx̂ᵢ (−1/2) (xᵢ − μ) (σ² + ε)^(-3/2)")
def _(p: Channel) -> Values:
    return Values(p.dvar, total(p.dxhat * (-1 / 2) * (p.x - p.mu) * (p.var + p.eps) ** (-3 / 2)))


@equation(LECTURE, "∂l/∂μ, line 1", printed="dμ = dσ² ∂σ²/∂μ + Σᵢ dx̂ᵢ ∂/∂μ((xᵢ − μ)/s)", note="∂/∂μ with σ² held constant")
def _(p: Channel) -> Values:
    return Values(p.dmu, p.dvar * p.dvar_dmu + total(p.dxhat * p.dxhat_dmu))              # ()


@equation(LECTURE, "∂l/∂μ, line 2; Summary 5", printed="   = dσ² Σᵢ −2(xᵢ − μ)/m + Σᵢ dx̂ᵢ (−1/s)",
          note="the first term is 0 at the mean ('further simplify, on board'), so it is measured off the mean too")
def _(p: Channel) -> Values:
    return Values(p.dmu, p.dvar * total(-2 * (p.x - p.mu)) / p.m + total(p.dxhat * -1 / p.s))


@equation(LECTURE, "∂l/∂x, line 1", printed="dxᵢ = dx̂ᵢ ∂/∂xᵢ((xᵢ − μ)/s) + dσ² ∂/∂xᵢ((1/m) Σ (xᵢ − μ)²) + dμ ∂μ/∂xᵢ", note="∂/∂xᵢ with μ and σ² held constant")
def _(p: Channel) -> Values:
    return Values(p.dx, p.dxhat * p.dxhat_dx + p.dvar * p.dvar_dx + p.dmu * p.dmu_dx)     # (m,)


@equation(LECTURE, "∂l/∂x, line 2; Summary 6", printed="   = dx̂ᵢ (1/s) + dσ² 2(xᵢ − μ)/m + dμ (1/m)")
def _(p: Channel) -> Values:
    return Values(p.dx, p.dxhat / p.s + p.dvar * 2 * (p.x - p.mu) / p.m + p.dmu / p.m)    # (m,)
