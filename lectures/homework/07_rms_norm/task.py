"""Homework 07, second part: RMS norm whose features count differently. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, share, gamma, *, eps):
    """x (n, D); share, gamma (D,)."""
    ms = mg.named("ms", mg.sum(share * (x * x), 1, keepdims=True))     # (n, 1)
    r = mg.named("r", 1.0 / mg.sqrt(ms + eps))                         # (n, 1)
    xhat = mg.named("xhat", x * r)                                     # (n, D)
    return mg.named("y", xhat * gamma)                                 # (n, D)


def cases(rng, dtype):
    """Random rows of random sizes."""
    for n, d in random_sizes(rng, (3, 8), (5, 12)):
        share = rng.uniform(0.5, 2.0, d)
        yield ({"x": rng.normal(0.5, 1.2, (n, d)).astype(dtype), "share": (share / share.sum()).astype(dtype), "gamma": rng.uniform(0.5, 2.0, d).astype(dtype)},
               {"eps": 0.1})


TASK = Task(
    "07_rms_norm",
    forward,
    cases,
    lines={"d_gamma": 1, "d_ms": Line(points=2, adjoints=("xhat",)), "d_x": Line(points=2, adjoints=("xhat", "ms")),
           "d_x_one_line": Line(target="x", points=2, adjoints=("y",))},
    hints={
        "d_gamma": ["gamma is shared by all rows.", "Sum d_y * xhat over axis 0."],
        "d_ms": ["xhat = x * (ms + eps) ** -0.5.", "-0.5 * r ** 3 times the row sum of d_xhat * x."],
        "d_x": ["x is in xhat directly, and in ms.", "d_xhat * r for the first, 2 * d_ms * share * x for the second."],
        "d_x_one_line": ["Which of layer norm's three terms is left out?", "With h the cotangent of xhat: h loses share * xhat times the row sum of h * xhat."],
    },
    source="RMS norm: layer norm without the mean; the shares are ours",
)
