"""One channel of batch normalization: what bn-lecture and inplace-abn have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

from .ledger import Array, DocumentProbe


class Channel(DocumentProbe):
    """y = γ x̂ + β with x̂ = (x − μ)/√(σ² + ε) at random data x (m,), and the true gradient of every intermediate.

    `shift`: μ is not the mean, but the mean and a constant. Then Σ (x − μ) is not 0, and what was multiplied by it shows.
    """

    def __init__(self, seed: int, m: int, *, eps: float, shift: float = 0.0, gamma: float | None = None, beta: float | None = None) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.m, self.eps, self.shift = m, eps, shift
        x = rng.exponential(size=m)                                                       # (m,)   skewed: not Gaussian
        self.x = 1.5 * (x - x.mean()) / x.std() + rng.normal()                            # (m,)
        self.gamma = np.array(rng.choice([-1, 1]) * rng.uniform(0.5, 2.0) if gamma is None else gamma)
        self.beta = np.array(rng.choice([-1, 1]) * rng.uniform(0.5, 2.0) if beta is None else beta)
        self.mu = np.mean(self.x) + shift
        self.var = np.mean((self.x - self.mu) ** 2)                                       # σ²
        self.s = np.sqrt(self.var + eps)                                                  # √(σ² + ε)
        self.xhat = (self.x - self.mu) / self.s                                           # (m,)
        self.y = self.gamma * self.xhat + self.beta                                       # (m,)
        self.cotangent = rng.normal(size=m)                                               # (m,)   the cotangent of y

    def normalized(self, **given: Any) -> Any:
        """x̂: (m,)."""
        x = given.get("x", self.x)
        mu = given.get("mu", mg.mean(x) + self.shift)
        var = given.get("var", mg.mean((x - mu) ** 2))
        return (x - mu) / mg.sqrt(var + self.eps)

    def forward(self, **given: Any) -> Any:
        """y: (m,)."""
        xhat = given["xhat"] if "xhat" in given else self.normalized(**given)
        return given.get("gamma", self.gamma) * xhat + given.get("beta", self.beta)

    dx = property(lambda p: p.gradient("x"))                  # (m,)
    dmu = property(lambda p: p.gradient("mu"))                # ()
    dvar = property(lambda p: p.gradient("var"))              # ()
    dxhat = property(lambda p: p.gradient("xhat"))            # (m,)
    dgamma = property(lambda p: p.gradient("gamma"))          # ()
    dbeta = property(lambda p: p.gradient("beta"))            # ()
    dy = property(lambda p: p.cotangent)                      # (m,)

    # local derivatives, each with its other arguments held constant
    dxhat_dvar = property(lambda p: p.slope(lambda var: p.normalized(x=p.x, mu=p.mu, var=var), p.var))          # (m,)
    dxhat_dmu = property(lambda p: p.slope(lambda mu: p.normalized(x=p.x, mu=mu, var=p.var), p.mu))             # (m,)
    dxhat_dx = property(lambda p: np.diag(p.slope(lambda x: p.normalized(x=x, mu=p.mu, var=p.var), p.x)))       # (m,)   i by i
    dvar_dmu = property(lambda p: p.slope(lambda mu: mg.mean((p.x - mu) ** 2), p.mu))                           # ()
    dvar_dx = property(lambda p: p.slope(lambda x: mg.mean((x - p.mu) ** 2), p.x))                              # (m,)
    dmu_dx = property(lambda p: p.slope(lambda x: mg.mean(x) + p.shift, p.x))                                   # (m,)


def channels(first_seed: int, *, eps: float, **options: float) -> Callable[[], list[Channel]]:
    """Makes three probes: m = 5, 8 and 13. (With m = 2 and ε = 0 the true dx is 0: no power.)"""
    return lambda: [Channel(seed, m, eps=eps, **options) for seed, m in enumerate((5, 8, 13), first_seed)]


def total(terms: Array) -> Array:
    """Σ over the batch."""
    return np.sum(terms)
