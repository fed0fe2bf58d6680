"""Homework 10: the double backward of batch norm. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(g, x, gamma, *, eps):
    """g, x (m, C); gamma (C,)."""
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))                  # (1, C)
    xc = mg.named("xc", x - mu)                                        # (m, C)
    var = mg.named("var", mg.mean(xc * xc, 0, keepdims=True))          # (1, C)
    rstd = mg.named("rstd", 1.0 / mg.sqrt(var + eps))                  # (1, C)
    xhat = mg.named("xhat", xc * rstd)                                 # (m, C)
    gbar = mg.named("gbar", mg.mean(g, 0, keepdims=True))              # (1, C)
    p = mg.named("p", mg.mean(g * xhat, 0, keepdims=True))             # (1, C)
    r = mg.named("r", g - gbar - xhat * p)                             # (m, C)
    return mg.named("dx", r * rstd * gamma)                            # (m, C)


def cases(rng, dtype):
    """Cotangents with a mean, data that are not centred."""
    for m, c in ((7, 3), (11, 4), (5, 6)):
        yield ({"g": rng.normal(0.4, 1.0, (m, c)).astype(dtype), "x": rng.normal(0.7, 1.3, (m, c)).astype(dtype),
                "gamma": rng.uniform(0.5, 2.0, c).astype(dtype)}, {"eps": 0.1})


TASK = Task(
    "10_double_backward",
    forward,
    cases,
    lines={
        "d_gamma": 1,
        "d_r": 1,
        "d_p": Line(points=1, adjoints=("r",)),
        "d_xhat": Line(points=2, adjoints=("r", "p")),
        "d_g": Line(points=2, adjoints=("r", "p", "gbar")),
        "d_g_one_line": Line(target="g", points=2, adjoints=("dx",)),
        "d_x_one_line": Line(target="x", points=4, adjoints=("dx",)),
    },
    given={"m": lambda values: len(values["x"])},
    hints={
        "d_gamma": ["gamma multiplies r * rstd.", "Sum d_dx * r * rstd over the rows."],
        "d_r": ["Element by element.", "d_dx * rstd * gamma."],
        "d_p": ["p multiplies every row of xhat, with a minus sign.", "Minus the sum of d_r * xhat over the rows."],
        "d_xhat": ["xhat is in r, and in the mean p.", "-d_r * p + d_p * g / m."],
        "d_g": ["g is in r directly, in gbar and in p.", "Both are means: divide by m."],
        "d_g_one_line": ["dx is linear in g, with a symmetric matrix.", "The formula of dx itself, with d_dx in the place of g."],
        "d_x_one_line": ["Formula (4) of the lecture, with u = d_dx.",
                         "-gamma rstd^2 (p_g u_c + p_u g_c + xhat (c - 3 p_u p_g)), with c the mean of u_c g_c."],
    },
    source="The batch norm lecture's derivative, differentiated once more (lecture 10)",
)
