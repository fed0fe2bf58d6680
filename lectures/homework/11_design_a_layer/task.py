"""Homework 11: a layer that nobody has derived for you: normalization by the mean absolute deviation. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, gamma, beta, *, eps):
    """x (m, C): m values of each of C channels. gamma, beta (C,)."""
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))                  # (1, C)
    xc = mg.named("xc", x - mu)                                        # (m, C)
    dev = mg.named("dev", mg.mean(mg.abs(xc), 0, keepdims=True))       # (1, C)
    xhat = mg.named("xhat", xc / (dev + eps))                          # (m, C)
    return mg.named("y", xhat * gamma + beta)                          # (m, C)


def cases(rng, dtype):
    """Random channels, not nearly centred, of random sizes."""
    for m, c in random_sizes(rng, (5, 12), (2, 7)):
        yield ({"x": rng.normal(0.7, 1.3, (m, c)).astype(dtype), "gamma": rng.uniform(0.5, 2.0, c).astype(dtype), "beta": rng.normal(size=c).astype(dtype)},
               {"eps": 0.1})


TASK = Task(
    "11_design_a_layer",
    forward,
    cases,
    lines={
        "d_beta": 1,
        "d_gamma": 1,
        "d_xhat": 1,
        "d_dev": Line(points=2, adjoints=("xhat",)),
        "d_xc": Line(points=2, adjoints=("xhat", "dev")),
        "d_x": Line(points=1, adjoints=("xc",)),
        "d_x_one_line": Line(target="x", points=3, adjoints=("y",)),
    },
    given={"m": lambda values: len(values["x"])},
    hints={
        "d_beta": ["Which elements of y does beta[c] change?", "Sum over the rows."],
        "d_gamma": ["As beta, but each element of y changes by xhat.", "Sum d_y * xhat over the rows."],
        "d_xhat": ["y = xhat * gamma + beta, element by element.", "d_y times gamma."],
        "d_dev": ["dev divides every row of xc: a sum.", "Minus the sum of d_xhat * xc, over the square of dev + eps."],
        "d_xc": ["xc is in xhat, and in dev through its absolute value.", "The derivative of |a| is the sign of a; dev is a mean, so there is a 1 / m."],
        "d_x": ["x is in xc directly, and in its mean.", "d_xc without its mean over the rows."],
        "d_x_one_line": ["Put d_dev into d_xc, write the sum as a mean of d_y * xhat, and take the mean out.",
                         "Batch norm's line, with the centred sign of xc in the place of xhat outside of the mean."],
    },
    source='bn-lecture "A formula for designing new layers"; the layer is ours',
)
