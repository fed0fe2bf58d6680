"""Homework 03: in-place activated batch norm, forms I and II of the document. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(x, gamma, beta, *, eps, slope):
    """x (m, C); gamma, beta (C,)."""
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))                  # (1, C)
    xc = mg.named("xc", x - mu)                                        # (m, C)
    var = mg.named("var", mg.mean(xc * xc, 0, keepdims=True))          # (1, C)
    rstd = mg.named("rstd", 1.0 / mg.sqrt(var + eps))                  # (1, C)
    xhat = mg.named("xhat", xc * rstd)                                 # (m, C)
    y = mg.named("y", xhat * gamma + beta)                             # (m, C)
    return mg.named("z", mg.leaky_relu(y, slope))                      # (m, C)


def cases(rng, dtype):
    """Random channels of several sizes; gamma away from 0, of both signs."""
    for m, c in ((9, 3), (13, 4), (7, 5)):
        gamma = rng.uniform(0.5, 2.0, c) * np_sign(rng, c)
        yield ({"x": rng.normal(0.7, 1.3, (m, c)).astype(dtype), "gamma": gamma.astype(dtype), "beta": rng.normal(0.0, 0.5, c).astype(dtype)},
               {"eps": 0.1, "slope": 0.25})


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
        "d_x_form_2": Line(target="x", points=3, adjoints=("y", "gamma", "beta")),
    },
    given={"m": lambda values: len(values["x"])},
    hints={
        "d_y": ["z has the sign of y, because slope > 0.", "d_z where z > 0, else slope * d_z."],
        "d_beta": ["beta was broadcast along axis 0.", "Sum d_y over the rows."],
        "d_gamma": ["First undo the activation, then the scale and the shift.", "y is z where z > 0, else z / slope; then take beta off and divide by gamma."],
        "d_x_form_1": ["The one line of batch norm, with xhat from z.", "gamma * rstd * (d_y - mean of d_y - xhat * mean of d_y * xhat)."],
        "d_x_form_2": ["The two means are d_beta / m and d_gamma / m.", "Write the xhat of form I with y, beta and gamma, and collect what multiplies y."],
    },
    source="inplace-abn section 2, forms I and II",
)
