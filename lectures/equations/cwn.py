"""cwn: what centering and unit length of a weight vector do to its output (proposition 1) and to its gradient (2)."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg

from .ledger import Array, Document, DocumentProbe, Values, equation, text


class Weight(DocumentProbe):
    """A proxy v (d,), its weight w = length·v̂/‖v̂‖ and the true ∂L/∂v; inputs h with mean μ1 and covariance σ²I.

    Expectations are exact: h takes 2d equally likely values ±σ√d qᵢ + μ1, the qᵢ orthonormal. Propositions and proofs
    use no more of a Gaussian than these two moments.

    `centered`: v̂ = v − mean(v), else v itself. `isotropic`: cov(h) = σ²I, else another covariance of the same trace.
    """

    def __init__(self, seed: int, d: int, *, centered: bool = True, length: float = 1.0, isotropic: bool = True) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.d, self.centered, self.length = d, centered, length
        self.proxy = rng.normal(0.5, 1.0, d)                                              # (d,)     the paper's v
        self.vhat = self.centre(self.proxy)                                               # (d,)
        self.w = self.forward()                                                           # (d,)
        self.cotangent = rng.normal(size=d)                                               # (d,)     ∂L/∂w, the cotangent

        self.mu, self.sigma = rng.uniform(0.5, 2.0, 2)
        directions, _ = np.linalg.qr(rng.normal(size=(d, d)))                             # (d, d)
        scale = self.sigma * np.sqrt(d * (np.ones(d) if isotropic else 2 * np.arange(1, d + 1) / (d + 1)))
        rows = scale[:, None] * directions.T
        self.h = self.mu + np.concatenate([rows, -rows])                                  # (2d, d)  one value of h a row
        self.hc = self.h - E(self.h)                                                      # (2d, d)
        self.cov = E(self.hc[:, :, None] * self.hc[:, None, :])                           # (d, d)
        self.z = self.h @ self.w                                                          # (2d,)

    def centre(self, v: Any) -> Any:
        """v̂."""
        return v - mg.mean(v) if self.centered else v

    def forward(self, **given: Any) -> Any:
        """w: (d,)."""
        vhat = self.centre(given.get("proxy", self.proxy))
        return self.length * vhat / mg.norm(vhat)

    dv = property(lambda p: p.gradient("proxy"))              # (d,)   ∂L/∂v
    dw = property(lambda p: p.cotangent)                      # (d,)   ∂L/∂w
    norm = property(lambda p: np.linalg.norm(p.vhat))         # ()     ‖v̂‖
    one = property(lambda p: np.ones(p.d))                    # (d,)
    scale = property(lambda p: np.linalg.norm(p.dw) * np.sqrt(p.d) / p.norm)    # ()   what a zero of (4), (5) is compared with


def E(values: Array) -> Array:
    """The expectation over the equally likely values, the first axis."""
    return values.mean(0)


NOT_CENTERED, NOT_UNIT, NOT_ISOTROPIC, ASSUMED = "w not centered", "‖w‖ not 1", "cov(h) not σ²I", "wᵀ1 = 0, ‖w‖ = 1"
SIZES = list(enumerate((4, 6, 9)))

CWN = Document(
    "cwn", "Centered Weight Normalization, supplement",
    "dz is ∂L/∂z, a row vector; z = wᵀh, E[h] = μ1, cov(h) = σ²I",
    regimes={ASSUMED: lambda: [Weight(300 + k, d) for k, d in SIZES],
             NOT_CENTERED: lambda: [Weight(360 + k, d, centered=False) for k, d in SIZES],
             NOT_UNIT: lambda: [Weight(320 + k, d, length=1.7) for k, d in SIZES],
             NOT_ISOTROPIC: lambda: [Weight(330 + k, d, isotropic=False) for k, d in SIZES]},
    setting=(ASSUMED,))

# -- proposition 1 ----------------------------------------------------------------------------------------------------


@equation(CWN, "(1) left", printed="E[z] = wᵀ E[h] = wᵀ μ 1")
def _(p: Weight) -> Values:
    return Values(np.stack([E(p.z), E(p.z)]), np.stack([p.w @ E(p.h), p.w @ (p.mu * p.one)]), size=p.mu * np.sqrt(p.d))


@equation(CWN, "(1) right", printed="   = 0", not_for=(NOT_CENTERED,))
def _(p: Weight) -> Values:
    return Values(E(p.z), np.array(0.0), size=p.mu * np.sqrt(p.d))                        # ()


@equation(CWN, "(2) line 1", printed="var(z) = E[z − E[z]]²", note="read as the expectation of the square")
def _(p: Weight) -> Values:
    return Values(np.var(p.z), E((p.z - E(p.z)) ** 2), readings={"as the square of the expectation": lambda: (E(p.z - E(p.z)) ** 2, np.var(p.z))})


@equation(CWN, "(2) line 2", printed="   = E[wᵀ(h − E[h])]²", note="read as the expectation of the square")
def _(p: Weight) -> Values:
    return Values(np.var(p.z), E((p.hc @ p.w) ** 2), readings={"as the square of the expectation": lambda: (E(p.hc @ p.w) ** 2, np.var(p.z))})


@equation(CWN, "(2) line 3", printed="   = E[wᵀ(h − E[h])] · E[wᵀ(h − E[h])]ᵀ", corrected="   = E[wᵀ(h − E[h]) · (wᵀ(h − E[h]))ᵀ]", verdict="misprint",
          note="a product of two expectations that are 0; line 5 needs the expectation of the product")
def _(p: Weight) -> Values:
    a = p.hc @ p.w                                                                        # (2d,)
    return Values(np.var(p.z), E(a) * E(a), corrected=E(a * a))                           # ()


@equation(CWN, "(2) line 4", printed="   = wᵀ E[h − E[h]] · E[h − E[h]]ᵀ w", corrected="   = wᵀ E[(h − E[h]) · (h − E[h])ᵀ] w",
          verdict="misprint", note="as line 3")
def _(p: Weight) -> Values:
    product = E(p.hc[:, :, None] * p.hc[:, None, :])                                      # (d, d)
    return Values(np.var(p.z), p.w @ np.outer(E(p.hc), E(p.hc)) @ p.w, corrected=p.w @ product @ p.w)


@equation(CWN, "(2) line 5", printed="   = wᵀ cov(h) w")
def _(p: Weight) -> Values:
    return Values(np.var(p.z), p.w @ p.cov @ p.w)                                         # ()


@equation(CWN, "(2) line 6", printed="   = wᵀ σ² I w", not_for=(NOT_ISOTROPIC,))
def _(p: Weight) -> Values:
    return Values(np.var(p.z), p.w @ (p.sigma**2 * np.eye(p.d)) @ p.w)                    # ()


@equation(CWN, "(2) line 7, left", printed="   = σ² wᵀw", not_for=(NOT_ISOTROPIC,))
def _(p: Weight) -> Values:
    return Values(np.var(p.z), p.sigma**2 * p.w @ p.w)                                    # ()


@equation(CWN, "(2) line 7, right", printed="   = σ²", not_for=(NOT_UNIT, NOT_ISOTROPIC))
def _(p: Weight) -> Values:
    return Values(np.var(p.z), p.sigma**2)                                                # ()


# -- proposition 2 ----------------------------------------------------------------------------------------------------

text(CWN, "sentence before (3)", printed="∂L/∂x is calculated", corrected="∂L/∂v", note="there is no x in this document, and (3) prints ∂L/∂v")


def eq3(p: Weight) -> Array:
    """(1/‖v̂‖) [dw − (dw w) wᵀ − (1/d)(dw 1) 1ᵀ]: (d,)."""
    return 1 / p.norm * (p.dw - (p.dw @ p.w) * p.w - 1 / p.d * (p.dw @ p.one) * p.one)


@equation(CWN, "(3)", printed="dv = (1/‖v̂‖) [dw − (dw w) wᵀ − (1/d)(dw 1) 1ᵀ]", not_for=(NOT_CENTERED, NOT_UNIT))
def _(p: Weight) -> Values:
    return Values(p.dv, eq3(p))                                                           # (d,)


@equation(CWN, "below (3), v̂", printed="v̂ = v − (1/d) 1 (1ᵀv)", not_for=(NOT_CENTERED,))
def _(p: Weight) -> Values:
    return Values(p.vhat, p.proxy - 1 / p.d * p.one * (p.one @ p.proxy))                  # (d,)


@equation(CWN, "below (3), w", printed="wᵀ1 = 0,  ‖w‖ = 1", not_for=(NOT_CENTERED, NOT_UNIT))
def _(p: Weight) -> Values:
    return Values(np.array([p.w @ p.one, p.w @ p.w]), np.array([0.0, 1.0]))               # (2,)


# (4) and (5) end in 0, so that a wrong line before the end could pass unseen where w is as assumed. Lines after the first
# are therefore compared with the first, evaluated literally, and also where w is not as assumed and they are not 0.

@equation(CWN, "(4) line 1", printed="dv·1 = (1/‖v̂‖) [dw − (dw w) wᵀ − (1/d)(dw 1) 1ᵀ]·1", not_for=(NOT_CENTERED,))
def _(p: Weight) -> Values:
    return Values(p.dv @ p.one, eq3(p) @ p.one, size=p.scale)                             # ()


@equation(CWN, "(4) line 2", printed="   = (1/‖v̂‖) [dw 1 − (dw w) wᵀ1 − (1/d)(dw 1) d]")
def _(p: Weight) -> Values:
    return Values(eq3(p) @ p.one, 1 / p.norm * (p.dw @ p.one - (p.dw @ p.w) * (p.w @ p.one) - 1 / p.d * (p.dw @ p.one) * p.d), size=p.scale)


@equation(CWN, "(4) line 3, left", printed="   = (1/‖v̂‖) [−(dw w)(wᵀ1)]")
def _(p: Weight) -> Values:
    return Values(eq3(p) @ p.one, 1 / p.norm * -(p.dw @ p.w) * (p.w @ p.one), size=p.scale)


@equation(CWN, "(4) line 3, right", printed="dv·1 = 0", not_for=(NOT_CENTERED,))
def _(p: Weight) -> Values:
    return Values(p.dv @ p.one, np.array(0.0), size=p.scale)                              # ()


@equation(CWN, "(5) line 1", printed="dv·w = (1/‖v̂‖) [dw − (dw w) wᵀ − (1/d)(dw 1) 1ᵀ]·w", not_for=(NOT_CENTERED, NOT_UNIT))
def _(p: Weight) -> Values:
    return Values(p.dv @ p.w, eq3(p) @ p.w, size=p.scale)                                 # ()


@equation(CWN, "(5) line 2", printed="   = (1/‖v̂‖) [dw·w − (dw w)(wᵀ·w) − (1/d)(dw 1)(1ᵀ·w)]")
def _(p: Weight) -> Values:
    return Values(eq3(p) @ p.w, 1 / p.norm * (p.dw @ p.w - (p.dw @ p.w) * (p.w @ p.w) - 1 / p.d * (p.dw @ p.one) * (p.one @ p.w)), size=p.scale)


@equation(CWN, "(5) line 3, left", printed="   = (1/‖v̂‖) [dw·w − (dw w)]", not_for=(NOT_CENTERED, NOT_UNIT), note="wᵀw = 1 and 1ᵀw = 0 are used")
def _(p: Weight) -> Values:
    return Values(eq3(p) @ p.w, 1 / p.norm * (p.dw @ p.w - p.dw @ p.w), size=p.scale)     # ()


@equation(CWN, "(5) line 3, right", printed="dv·w = 0", note="for WN and for any length, too: w does not depend on the length of v")
def _(p: Weight) -> Values:
    return Values(p.dv @ p.w, np.array(0.0), size=p.scale)                                # ()
