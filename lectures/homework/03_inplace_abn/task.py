"""Homework 03: forms I and II of in-place activated batch norm, for another norm and another activation. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, gamma, beta, *, eps, alpha):
    """x (m, C); gamma, beta (C,)."""
    ms = mg.named("ms", mg.mean(x * x, 0, keepdims=True))              # (1, C)
    r = mg.named("r", 1.0 / mg.sqrt(ms + eps))                         # (1, C)
    xhat = mg.named("xhat", x * r)                                     # (m, C)
    y = mg.named("y", xhat * gamma + beta)                             # (m, C)
    return mg.named("z", mg.elu(y, alpha))                             # (m, C)


def cases(rng, dtype):
    """Random channels of random sizes; gamma away from 0, of both signs."""
    for m, c in random_sizes(rng, (7, 13), (2, 6)):
        gamma = rng.uniform(0.5, 1.5, c) * np_sign(rng, c)
        yield ({"x": rng.normal(0.7, 1.3, (m, c)).astype(dtype), "gamma": gamma.astype(dtype), "beta": rng.normal(0.0, 0.5, c).astype(dtype)},
               {"eps": 0.1, "alpha": 0.8})


def np_sign(rng, c):
    """Random signs."""
    return rng.choice([-1.0, 1.0], c)


TASK = Task(
    "03_inplace_abn",
    forward,
    cases,
    lines={
        "d_y": Line(points=1),
        "d_beta": Line(points=1),
        "d_gamma": Line(points=2, adjoints=("y",)),
        "d_x_form_1": Line(target="x", points=3, adjoints=("y",)),
        "d_x_form_2": Line(target="x", points=3, adjoints=("y", "gamma")),
    },
    given={"m": lambda values: len(values["x"])},
    hints={
        "d_y": ["Where y is below 0, the derivative of alpha * (exp(y) - 1) can be written with z.",
                "d_z where z > 0, else d_z times alpha * exp(y), which is z + alpha."],
        "d_beta": ["beta was broadcast along axis 0.", "Sum d_y over the rows."],
        "d_gamma": ["First undo the activation, then the scale and the shift.",
                    "y is z where z > 0, else log(1 + z / alpha); then take beta off and divide by gamma."],
        "d_x_form_1": ["The one line of batch norm without the path through the mean, with xhat from z.",
                       "What d_y loses is xhat times the mean of d_y * xhat."],
        "d_x_form_2": ["The mean of form I is d_gamma / m.", "Write the xhat of form I with y, beta and gamma, and collect what multiplies y."],
    },
    source="inplace-abn section 2, forms I and II; norm and activation are ours",
)
