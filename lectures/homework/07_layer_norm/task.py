"""Homework 07: layer norm as many programs have it, with D - 1 and with ε beside the deviation. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, gamma, beta, *, eps):
    """x (n, D); gamma, beta (D,)."""
    mu = mg.named("mu", mg.mean(x, 1, keepdims=True))                  # (n, 1)
    xc = mg.named("xc", x - mu)                                        # (n, D)
    var = mg.named("var", mg.sum(xc * xc, 1, keepdims=True) / (x.shape[1] - 1))   # (n, 1)
    std = mg.named("std", mg.sqrt(var))                                # (n, 1)
    xhat = mg.named("xhat", xc / (std + eps))                          # (n, D)
    return mg.named("y", xhat * gamma + beta)                          # (n, D)


def cases(rng, dtype):
    """Random rows, not nearly centred, of random sizes."""
    for n, d in random_sizes(rng, (3, 8), (5, 12)):
        yield ({"x": rng.normal(0.7, 1.3, (n, d)).astype(dtype), "gamma": rng.uniform(0.5, 2.0, d).astype(dtype), "beta": rng.normal(size=d).astype(dtype)},
               {"eps": 0.1})


TASK = Task(
    "07_layer_norm",
    forward,
    cases,
    lines={
        "d_gamma": 1,
        "d_xhat": 1,
        "d_std": Line(points=1, adjoints=("xhat",)),
        "d_var": Line(points=1, adjoints=("std",)),
        "d_xc": Line(points=2, adjoints=("xhat", "var")),
        "d_x_one_line": Line(target="x", points=3, adjoints=("xhat",)),
    },
    given={"D": lambda values: values["x"].shape[1]},
    hints={
        "d_gamma": ["gamma is shared by all rows.", "Sum d_y * xhat over axis 0."],
        "d_xhat": ["Element by element.", "d_y * gamma."],
        "d_std": ["std divides a whole row.", "Minus the row sum of d_xhat * xc, over the square of what divides."],
        "d_var": ["std = var ** 0.5.", "Half of d_std, over std."],
        "d_xc": ["xc is in xhat, and in var as a sum of squares over D - 1.", "d_xhat over std + eps for the first, 2 * d_var * xc over D - 1 for the second."],
        "d_x_one_line": ["As for batch norm, with d_xhat, and means along the row.",
                         "What goes along xc: the row sum of d_xhat * xhat, over D - 1 and over std. What divides all: std + eps."],
    },
    source="Layer normalization as in the batch norm lecture, with the axes exchanged; D - 1 and the place of eps as in many programs for transformers",
)
