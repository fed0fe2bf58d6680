"""Homework 07: layer norm. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(x, gamma, beta, *, eps):
    """x (n, D); gamma, beta (D,)."""
    mu = mg.named("mu", mg.mean(x, 1, keepdims=True))                  # (n, 1)
    xc = mg.named("xc", x - mu)                                        # (n, D)
    var = mg.named("var", mg.mean(xc * xc, 1, keepdims=True))          # (n, 1)
    rstd = mg.named("rstd", 1.0 / mg.sqrt(var + eps))                  # (n, 1)
    xhat = mg.named("xhat", xc * rstd)                                 # (n, D)
    return mg.named("y", xhat * gamma + beta)                          # (n, D)


def cases(rng, dtype):
    """Random rows, not nearly centred, of several sizes."""
    for n, d in ((3, 7), (4, 11), (6, 5)):
        yield ({"x": rng.normal(0.7, 1.3, (n, d)).astype(dtype), "gamma": rng.uniform(0.5, 2.0, d).astype(dtype), "beta": rng.normal(size=d).astype(dtype)},
               {"eps": 0.1})


TASK = Task(
    "07_layer_norm",
    forward,
    cases,
    lines={
        "d_gamma": 1,
        "d_xhat": 1,
        "d_rstd": Line(points=1, adjoints=("xhat",)),
        "d_var": Line(points=1, adjoints=("rstd",)),
        "d_xc": Line(points=2, adjoints=("xhat", "var")),
        "d_x_one_line": Line(target="x", points=3, adjoints=("xhat",)),
    },
    given={"D": lambda values: values["x"].shape[1]},
    hints={
        "d_gamma": ["gamma is shared by all rows.", "Sum d_y * xhat over axis 0."],
        "d_xhat": ["Element by element.", "d_y * gamma."],
        "d_rstd": ["rstd multiplies a whole row.", "Sum d_xhat * xc along axis 1."],
        "d_var": ["rstd = (var + eps) ** -0.5.", "-0.5 * rstd ** 3 * d_rstd."],
        "d_xc": ["xc is in xhat, and in var as a mean of squares.", "d_xhat * rstd + 2 * d_var * xc / D."],
        "d_x_one_line": ["As for batch norm, with d_xhat, and means along the row.", "rstd * (d_xhat - mean of d_xhat - xhat * mean of d_xhat * xhat)."],
    },
    source="Layer normalization as in the batch norm lecture, with the axes exchanged",
)
