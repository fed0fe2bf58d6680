"""Homework 06, third part: spectral norm. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(W, u):
    """W (n, k); u (n,)."""
    t = mg.named("t", W.mT @ u)                                        # (k,)
    sigma = mg.named("sigma", mg.sqrt(mg.sum(t * t)))                  # ()
    return mg.named("wbar", W / sigma)                                 # (n, k)


def cases(rng, dtype):
    """A matrix, and a vector of length 1."""
    for n, k in ((3, 5), (4, 2), (6, 7)):
        u = rng.normal(size=n)
        yield {"W": rng.normal(size=(n, k)).astype(dtype), "u": (u / (u @ u) ** 0.5).astype(dtype)}, {}


TASK = Task(
    "06_spectral_norm",
    forward,
    cases,
    lines={"d_sigma": Line(points=1, adjoints=("wbar",)), "d_t": 1, "d_W": Line(points=2, adjoints=("wbar", "t"))},
    hints={
        "d_sigma": ["A quotient, and sigma is one number for all elements.", "Minus the sum of d_wbar * W, over sigma squared."],
        "d_t": ["The derivative of a length.", "d_sigma * t / sigma."],
        "d_W": ["W is in wbar directly, and in t.", "d_wbar / sigma + the outer product of u and d_t."],
    },
    source="Miyato et al. [miyato2018]: spectral normalization, with its singular vector held fixed",
)
