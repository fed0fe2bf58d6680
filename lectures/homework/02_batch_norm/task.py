"""Homework 02: batch norm of examples that count differently: six derivatives, and one line. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, share, gamma, beta, *, eps):
    """x (m, C): m values of each of C channels. share (m, 1): how much each example counts, 1 in all. gamma, beta (C,)."""
    mu = mg.named("mu", mg.sum(share * x, 0, keepdims=True))           # (1, C)
    xc = mg.named("xc", x - mu)                                        # (m, C)
    var = mg.named("var", mg.sum(share * (xc * xc), 0, keepdims=True))  # (1, C)
    rstd = mg.named("rstd", 1.0 / mg.sqrt(var + eps))                  # (1, C)
    xhat = mg.named("xhat", xc * rstd)                                 # (m, C)
    return mg.named("y", xhat * gamma + beta)                          # (m, C)


def cases(rng, dtype):
    """Random channels, not nearly centred, of random sizes."""
    for m, c in random_sizes(rng, (5, 12), (2, 7)):
        share = rng.uniform(0.5, 2.0, (m, 1))
        yield ({"x": rng.normal(0.7, 1.3, (m, c)).astype(dtype), "share": (share / share.sum()).astype(dtype), "gamma": rng.uniform(0.5, 2.0, c).astype(dtype),
                "beta": rng.normal(size=c).astype(dtype)}, {"eps": 0.1})


TASK = Task(
    "02_batch_norm",
    forward,
    cases,
    lines={
        "d_beta": 1,
        "d_gamma": 1,
        "d_xhat": 1,
        "d_var": Line(points=2, adjoints=("xhat",)),
        "d_mu": Line(points=2, adjoints=("xhat", "var")),
        "d_x": Line(points=2, adjoints=("xhat", "var", "mu")),
        "d_x_one_line": Line(target="x", points=3, adjoints=("y",)),
    },
    given={"m": lambda values: len(values["x"])},
    hints={
        "d_beta": ["Which elements of y does beta[c] change, and by how much?", "It was broadcast along axis 0, so its derivative is summed along axis 0."],
        "d_gamma": ["As for beta, but each element of y changes by xhat.", "Sum d_y * xhat over the rows."],
        "d_xhat": ["y = xhat * gamma + beta, element by element.", "The derivative of a product with respect to one factor is the other factor."],
        "d_var": ["xhat = xc * (var + eps) ** -0.5: what is the derivative of the power?", "-0.5 (var + eps) ** -1.5 times xc, summed over the rows."],
        "d_mu": ["mu is in every xc, and xc is in xhat and in var.",
                 "Through xhat: minus the sum of d_xhat * rstd. Through var: the sum of share * xc appears."],
        "d_x": ["x is in xc directly, in mu, and in var through xc.",
                "d_xhat * rstd for the direct path; var is a weighted sum of squares: 2 share * xc; mu is a weighted sum: share."],
        "d_x_one_line": ["Put d_var and d_mu into d_x and write everything with xhat.",
                         "gamma * rstd times d_y without two parts. Where the lecture has two means, two sums are left, and share is outside of them."],
    },
    source="bn-lecture, backward pass summary; the weights are ours",
)
