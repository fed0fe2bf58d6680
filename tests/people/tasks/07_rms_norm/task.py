"""Homework 07, second part: RMS norm. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(x, gamma, *, eps):
    """x (n, D); gamma (D,)."""
    ms = mg.named("ms", mg.mean(x * x, 1, keepdims=True))              # (n, 1)
    r = mg.named("r", 1.0 / mg.sqrt(ms + eps))                         # (n, 1)
    xhat = mg.named("xhat", x * r)                                     # (n, D)
    return mg.named("y", xhat * gamma)                                 # (n, D)


def cases(rng, dtype):
    """Random rows of several sizes."""
    for n, d in ((3, 7), (4, 11), (6, 5)):
        yield {"x": rng.normal(0.5, 1.2, (n, d)).astype(dtype), "gamma": rng.uniform(0.5, 2.0, d).astype(dtype)}, {"eps": 0.1}


TASK = Task(
    "07_rms_norm",
    forward,
    cases,
    lines={"d_gamma": 1, "d_ms": Line(points=2, adjoints=("xhat",)), "d_x": Line(points=2, adjoints=("xhat", "ms")),
           "d_x_one_line": Line(target="x", points=2, adjoints=("y",))},
    given={"D": lambda values: values["x"].shape[1]},
    hints={
        "d_gamma": ["gamma is shared by all rows.", "Sum d_y * xhat over axis 0."],
        "d_ms": ["xhat = x * (ms + eps) ** -0.5.", "-0.5 * r ** 3 times the row sum of d_xhat * x."],
        "d_x": ["x is in xhat directly, and in ms.", "d_xhat * r + 2 * d_ms * x / D."],
        "d_x_one_line": ["Which of layer norm's three terms is left out?", "r * (h - xhat * mean of h * xhat), with h the cotangent of xhat."],
    },
    source="RMS norm: layer norm without the mean",
)
