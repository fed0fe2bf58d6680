"""inplace-abn: the gradients of batch normalization in terms of x̂ (forms I and II) and of the output y (form II).

The display equations have no numbers: rows count the lines of the first display of sec. 2.
"""

from __future__ import annotations

import numpy as np

from .channel import Channel, channels, total
from .ledger import Array, Document, Values, equation

OFF, NO_GAMMA, NO_BETA = "μ off the mean", "γ = 0", "β = 0"

INPLACE = Document(
    "inplace-abn", "In-Place Activated BatchNorm, supplement",
    "dz is ∂L/∂z; s is √(σ² + ε) (ours); ∂a/∂b holds the other arguments constant",
    regimes={"ε = 0": channels(100, eps=0.0), "ε > 0": channels(110, eps=0.3), NO_BETA: channels(120, eps=0.1, beta=0.0),
             OFF: channels(150, eps=0.2, shift=1.0), NO_GAMMA: channels(140, eps=0.1, gamma=0.0)},
    setting=("ε = 0", "ε > 0", NO_BETA))


def both(reference: Array, middle: Array, right: Array) -> Values:
    """Two expressions of one equation chain, each against the truth."""
    return Values(np.stack([reference, reference]), np.stack([middle, right]))


# -- forms I and II ---------------------------------------------------------------------------------------------------


@equation(INPLACE, "row 1, ∂y/∂γ", printed="∂yⱼ/∂γ = x̂ⱼ")
def _(p: Channel) -> Values:
    return Values(p.slope(lambda gamma: gamma * p.xhat + p.beta, p.gamma), p.xhat)        # (m,)


@equation(INPLACE, "row 1, ∂y/∂β", printed="∂yⱼ/∂β = 1")
def _(p: Channel) -> Values:
    return Values(p.slope(lambda beta: p.gamma * p.xhat + beta, p.beta), np.ones(p.m))    # (m,)


@equation(INPLACE, "row 1, ∂y/∂x̂", printed="∂yⱼ/∂x̂ⱼ = γ")
def _(p: Channel) -> Values:
    return Values(p.slope(lambda xhat: p.gamma * xhat + p.beta, p.xhat), p.gamma * np.eye(p.m))      # (m, m)


@equation(INPLACE, "row 2, ∂L/∂γ", printed="dγ = Σⱼ dyⱼ ∂yⱼ/∂γ = Σⱼ dyⱼ x̂ⱼ")
def _(p: Channel) -> Values:
    dy_dgamma = p.slope(lambda gamma: gamma * p.xhat + p.beta, p.gamma)                   # (m,)
    return both(p.dgamma, total(p.dy * dy_dgamma), total(p.dy * p.xhat))


@equation(INPLACE, "row 2, ∂L/∂β", printed="dβ = Σⱼ dyⱼ ∂yⱼ/∂β = Σⱼ dyⱼ")
def _(p: Channel) -> Values:
    dy_dbeta = p.slope(lambda beta: p.gamma * p.xhat + beta, p.beta)                      # (m,)
    return both(p.dbeta, total(p.dy * dy_dbeta), total(p.dy))


@equation(INPLACE, "row 2, ∂L/∂x̂", printed="dx̂ⱼ = dyⱼ ∂yⱼ/∂x̂ⱼ = dyⱼ γ")
def _(p: Channel) -> Values:
    dy_dxhat = np.diag(p.slope(lambda xhat: p.gamma * xhat + p.beta, p.xhat))             # (m,)
    return both(p.dxhat, p.dy * dy_dxhat, p.dy * p.gamma)


@equation(INPLACE, "row 3, ∂x̂/∂σ², middle", printed="∂x̂ⱼ/∂σ² = −1/(2(σ² + ε)) (xⱼ − μ)/s")
def _(p: Channel) -> Values:
    return Values(p.dxhat_dvar, -1 / (2 * (p.var + p.eps)) * (p.x - p.mu) / p.s)          # (m,)


@equation(INPLACE, "row 3, ∂x̂/∂σ², right", printed="   = −x̂ⱼ/(2(σ² + ε))")
def _(p: Channel) -> Values:
    return Values(p.dxhat_dvar, -p.xhat / (2 * (p.var + p.eps)))                          # (m,)


@equation(INPLACE, "row 3, ∂x̂/∂μ", printed="∂x̂ⱼ/∂μ = −1/s", note="with σ² held constant")
def _(p: Channel) -> Values:
    return Values(p.dxhat_dmu, np.full(p.m, -1 / p.s))                                    # (m,)


@equation(INPLACE, "row 4, left", printed="dσ² = Σⱼ dx̂ⱼ ∂x̂ⱼ/∂σ²")
def _(p: Channel) -> Values:
    return Values(p.dvar, total(p.dxhat * p.dxhat_dvar))                                  # ()


@equation(INPLACE, "row 4, middle", printed="   = −γ/(2(σ² + ε)) Σⱼ dyⱼ x̂ⱼ")
def _(p: Channel) -> Values:
    return Values(p.dvar, -p.gamma / (2 * (p.var + p.eps)) * total(p.dy * p.xhat))        # ()


@equation(INPLACE, "row 4, right", printed="   = −γ/(2(σ² + ε)) dγ")
def _(p: Channel) -> Values:
    return Values(p.dvar, -p.gamma / (2 * (p.var + p.eps)) * p.dgamma)                    # ()


PATH = "leaves out μ's path through σ², which is 0 at the mean"


@equation(INPLACE, "row 5, left", printed="dμ = Σⱼ dx̂ⱼ ∂x̂ⱼ/∂μ", not_for=(OFF,), note=PATH)
def _(p: Channel) -> Values:
    return Values(p.dmu, total(p.dxhat * p.dxhat_dmu))                                     # ()


@equation(INPLACE, "row 5, middle", printed="   = −(γ/s) Σⱼ dyⱼ", not_for=(OFF,), note=PATH)
def _(p: Channel) -> Values:
    return Values(p.dmu, -p.gamma / p.s * total(p.dy))                                    # ()


@equation(INPLACE, "row 5, right", printed="   = −(γ/s) dβ", not_for=(OFF,), note=PATH)
def _(p: Channel) -> Values:
    return Values(p.dmu, -p.gamma / p.s * p.dbeta)                                        # ()


@equation(INPLACE, "row 6, ∂σ²/∂x", printed="∂σ²/∂xᵢ = 2(xᵢ − μ)/m", note="with μ held constant; at the mean also without")
def _(p: Channel) -> Values:
    return Values(p.dvar_dx, 2 * (p.x - p.mu) / p.m)                                      # (m,)


@equation(INPLACE, "row 6, ∂μ/∂x", printed="∂μ/∂xᵢ = 1/m")
def _(p: Channel) -> Values:
    return Values(p.dmu_dx, np.full(p.m, 1 / p.m))                                        # (m,)


@equation(INPLACE, "row 6, ∂x̂/∂x", printed="∂x̂ᵢ/∂xᵢ = 1/s", note="with μ and σ² held constant")
def _(p: Channel) -> Values:
    return Values(p.dxhat_dx, np.full(p.m, 1 / p.s))                                      # (m,)


@equation(INPLACE, "row 7, left", printed="dxᵢ = dx̂ᵢ ∂x̂ᵢ/∂xᵢ + dσ² ∂σ²/∂xᵢ + dμ ∂μ/∂xᵢ")
def _(p: Channel) -> Values:
    return Values(p.dx, p.dxhat * p.dxhat_dx + p.dvar * p.dvar_dx + p.dmu * p.dmu_dx)     # (m,)


@equation(INPLACE, "row 7, right", printed="   = (dyᵢ − (1/m) dγ x̂ᵢ − (1/m) dβ) γ/s", not_for=(OFF,), note="the whole of form I")
def _(p: Channel) -> Values:
    return Values(p.dx, (p.dy - p.dgamma * p.xhat / p.m - p.dbeta / p.m) * p.gamma / p.s)


# -- form II: functions of y ------------------------------------------------------------------------------------------


@equation(INPLACE, "form II, ∂L/∂γ, 1st", printed="dγ = Σⱼ dyⱼ x̂ⱼ")
def _(p: Channel) -> Values:
    return Values(p.dgamma, total(p.dy * p.xhat))                                         # ()


@equation(INPLACE, "form II, ∂L/∂γ, 2nd", printed="   = Σⱼ dyⱼ (yⱼ − β)/γ", not_for=(NO_GAMMA,))
def _(p: Channel) -> Values:
    return Values(p.dgamma, total(p.dy * (p.y - p.beta) / p.gamma))                       # ()


@equation(INPLACE, "form II, ∂L/∂γ, 3rd", printed="   = (1/γ) Σⱼ dyⱼ yⱼ − (β/γ) Σⱼ dyⱼ", not_for=(NO_GAMMA,))
def _(p: Channel) -> Values:
    return Values(p.dgamma, 1 / p.gamma * total(p.dy * p.y) - p.beta / p.gamma * total(p.dy))


@equation(INPLACE, "form II, ∂L/∂γ, 4th", printed="   = (1/γ) [Σⱼ dyⱼ yⱼ − β dβ]", not_for=(NO_GAMMA,))
def _(p: Channel) -> Values:
    return Values(p.dgamma, 1 / p.gamma * (total(p.dy * p.y) - p.beta * p.dbeta))         # ()


@equation(INPLACE, "form II, ∂L/∂x, line 1", printed="dxᵢ = (dyᵢ − (1/m) dγ x̂ᵢ − (1/m) dβ) γ/s", not_for=(OFF,))
def _(p: Channel) -> Values:
    return Values(p.dx, (p.dy - p.dgamma * p.xhat / p.m - p.dbeta / p.m) * p.gamma / p.s)


@equation(INPLACE, "form II, ∂L/∂x, line 2", printed="   = (dyᵢ − (1/m) dγ (yᵢ − β)/γ − (1/m) dβ) γ/s", not_for=(OFF, NO_GAMMA))
def _(p: Channel) -> Values:
    return Values(p.dx, (p.dy - p.dgamma * (p.y - p.beta) / p.gamma / p.m - p.dbeta / p.m) * p.gamma / p.s)


@equation(INPLACE, "form II, ∂L/∂x, line 3", printed="   = [dyᵢ − 1/(γm) dγ yᵢ − (1/m)(dβ + (β/γ) dγ)] γ/s",
          corrected="   = [dyᵢ − 1/(γm) dγ yᵢ − (1/m)(dβ − (β/γ) dγ)] γ/s", verdict="misprint", right_for=(NO_BETA,),
          note="multiplying out line 2 gives +(β/γ) dγ/m; the OCR is clean here, so the sign is printed")
def _(p: Channel) -> Values:
    def form(sign: int) -> object:
        return (p.dy - p.dgamma * p.y / (p.gamma * p.m) - (p.dbeta + sign * p.beta / p.gamma * p.dgamma) / p.m) * p.gamma / p.s
    return Values(p.dx, form(+1), corrected=form(-1))                                     # (m,)
