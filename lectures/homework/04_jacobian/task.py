"""Homework 04: a Jacobian between batch norm's and that of centring, and its derivatives. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(v, xhat, rstd, *, t):
    """v, xhat (m, C); rstd (1, C)."""
    vbar = mg.named("vbar", mg.mean(v, 0, keepdims=True))              # (1, C)
    p = mg.named("p", mg.mean(v * xhat, 0, keepdims=True))             # (1, C)
    return mg.named("w", rstd * (v - vbar - t * xhat * p))             # (m, C)


def cases(rng, dtype):
    """xhat is a normalized array with the ε of batch norm in it: its mean square is below 1."""
    for m, c in random_sizes(rng, (5, 12), (2, 7)):
        x = rng.normal(0.7, 1.3, (m, c))
        rstd = 1.0 / (x.var(0, keepdims=True) + 0.3) ** 0.5
        yield {"v": rng.normal(0.4, 1.0, (m, c)).astype(dtype), "xhat": ((x - x.mean(0)) * rstd).astype(dtype),
               "rstd": rstd.astype(dtype)}, {"t": float(rng.uniform(0.3, 0.8))}


TASK = Task(
    "04_jacobian",
    forward,
    cases,
    lines={
        "d_p": Line(points=1, adjoints=("w",)),
        "d_vbar": Line(points=1, adjoints=("w",)),
        "d_v": Line(points=2, adjoints=("w", "p", "vbar")),
        "d_v_one_line": Line(target="v", points=3, adjoints=("w",)),
        "d_xhat": Line(points=2, adjoints=("w", "p")),
    },
    given={"m": lambda values: len(values["v"])},
    hints={
        "d_p": ["p multiplies every row of xhat, with a minus sign.", "Minus the sum of d_w * rstd * t * xhat over the rows."],
        "d_vbar": ["vbar is subtracted from every row.", "Minus the sum of d_w * rstd over the rows."],
        "d_v": ["v is in w directly, in p and in vbar.", "p and vbar are means: divide by m."],
        "d_v_one_line": ["Is this J symmetric, for every t?", "Then the formula of w serves, with d_w in the place of v."],
        "d_xhat": ["xhat is in w directly, and in the mean p.", "Minus d_w * rstd * t * p for the first, d_p * v / m for the second."],
    },
    source="bn-jacobian (4)-(6): the Jacobian of batch norm; t is ours",
)
