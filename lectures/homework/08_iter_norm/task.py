"""Homework 08: two steps of the Newton-Schulz iteration of IterNorm. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, *, eps):
    """x (d, m)."""
    eye = mg.eye(x.shape[0], dtype=x.dtype)
    mu = mg.named("mu", mg.mean(x, 1, keepdims=True))                  # (d, 1)
    xc = mg.named("xc", x - mu)                                        # (d, m)
    sigma = mg.named("sigma", xc @ xc.mT / x.shape[1] + eps * eye)     # (d, d)
    size = mg.named("size", mg.sqrt(mg.sum(sigma * sigma)))            # ()
    a = mg.named("A", sigma / size)                                    # (d, d)
    p1 = mg.named("P1", 0.5 * (3.0 * eye - a))                         # (d, d)
    cube = mg.named("cube", p1 @ p1 @ p1)                              # (d, d)
    p2 = mg.named("P2", 0.5 * (3.0 * p1 - cube @ a))                   # (d, d)
    w = mg.named("W", p2 / mg.sqrt(size))                              # (d, d)
    return mg.named("xhat", w @ xc)                                    # (d, m)


def cases(rng, dtype):
    """Channels with different spreads, mixed."""
    for d, m in random_sizes(rng, (2, 4), (9, 14)):
        yield {"x": (rng.normal(size=(d, d)) @ rng.normal(0.3, 1.0, (d, m))).astype(dtype)}, {"eps": 0.1}


TASK = Task(
    "08_iter_norm",
    forward,
    cases,
    lines={
        "d_W": Line(points=1, adjoints=("xhat",)),
        "d_P2": 1,
        "d_cube": Line(points=1, adjoints=("P2",)),
        "d_P1": Line(points=3, adjoints=("P2", "cube")),
        "d_A": Line(points=2, adjoints=("P2", "P1")),
        "d_size": Line(points=2, adjoints=("A", "W")),
        "d_sigma": Line(points=2, adjoints=("A", "size")),
        "d_xc": Line(points=2, adjoints=("xhat", "sigma")),
    },
    given={"m": lambda values: values["x"].shape[1]},
    hints={
        "d_W": ["xhat = W xc.", "d_xhat xc^T."],
        "d_P2": ["W = P2 / sqrt(size).", "d_W / sqrt(size)."],
        "d_cube": ["P2 = (3 P1 - cube A) / 2.", "-d_P2 A^T / 2."],
        "d_P1": ["P1 is in P2 once and in the cube three times.", "With C = d_cube, P = P1: 1.5 d_P2 + C (P P)^T + P^T C P^T + (P P)^T C."],
        "d_A": ["A is in P2 and in P1.", "-(cube^T d_P2 + d_P1) / 2."],
        "d_size": ["size is in A = sigma / size and in W = P2 size ** -0.5.", "-(sum of d_A * sigma) / size**2 - 0.5 * (sum of d_W * P2) / size**1.5."],
        "d_sigma": ["sigma is in A, and in its own size.", "The derivative of a length: d_size * sigma / size."],
        "d_xc": ["xc is in xhat and, twice, in sigma.", "W^T d_xhat + (d_sigma + d_sigma^T) xc / m."],
    },
    source="IterNorm: Newton-Schulz iteration, unrolled; divided by the Frobenius norm instead of the trace",
)
