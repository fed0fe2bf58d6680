"""Homework 05, second part: the derivative of an inverse square root by a Lyapunov equation. The composed form is the answer key."""

import numpy as np

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(x, *, eps):
    """x (d, m)."""
    mu = mg.named("mu", mg.mean(x, 1, keepdims=True))                  # (d, 1)
    xc = mg.named("xc", x - mu)                                        # (d, m)
    identity = mg.eye(x.shape[0], dtype=x.dtype)
    sigma = mg.named("sigma", xc @ xc.mT / x.shape[1] + eps * identity)  # (d, d)
    w = mg.named("W", mg.inv_sqrtm(sigma))                             # (d, d)
    return mg.named("xhat", w @ xc)                                    # (d, m)


def cases(rng, dtype):
    """Ordinary samples, and white ones, where all eigenvalues are equal."""
    for d, m in ((3, 11), (4, 13)):
        yield {"x": (rng.normal(size=(d, d)) @ rng.normal(0.3, 1.0, (d, m))).astype(dtype)}, {"eps": 0.1}
    q, _ = np.linalg.qr(np.concatenate([np.ones((10, 1)), rng.normal(size=(10, 2))], 1))
    yield {"x": (10**0.5 * q[:, 1:].T).astype(dtype)}, {"eps": 0.1}


TASK = Task(
    "05_whitening_stable",
    forward,
    cases,
    lines={
        "d_W": Line(points=1, adjoints=("xhat",)),
        "d_sigma": Line(points=4, adjoints=("W",)),
        "d_xc": Line(points=2, adjoints=("xhat", "sigma")),
    },
    given={
        "m": lambda values: values["x"].shape[1],
        "R": lambda values: np.linalg.inv(values["W"]),
        "lyapunov": lambda values: lambda a, b: mg.lyapunov(a, b),
    },
    hints={
        "d_W": ["xhat = W xc: a matrix product.", "d_xhat xc^T."],
        "d_sigma": ["Differentiate W sigma W = identity: dW R + R dW = -W dsigma W.",
                    "minus lyapunov(R, W S W), with S the symmetric part of d_W; W and the solution commute with nothing: keep the order."],
        "d_xc": ["xc is in xhat and, twice, in sigma.", "W d_xhat + (d_sigma + d_sigma^T) xc / m."],
    },
    source="the gradient of dbn (14), in the form that survives equal eigenvalues",
)
