"""Homework 01: an op of your own, the smooth absolute value. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, w):
    """x (m, n); w (n,): how round the corner is, for each column."""
    q = mg.named("q", x * x + w * w)                                   # (m, n)
    return mg.named("y", mg.sqrt(q))                                   # (m, n)


def cases(rng, dtype):
    """Random columns of several sizes, away from q = 0."""
    for m, n in random_sizes(rng, (4, 9), (2, 7)):
        yield {"x": rng.normal(0.4, 1.2, (m, n)).astype(dtype), "w": rng.uniform(0.5, 1.5, n).astype(dtype)}, {}


TASK = Task(
    "01_own_op",
    forward,
    cases,
    lines={"d_q": 1, "d_x": Line(adjoints=("q",)), "d_w": Line(points=2, adjoints=("q",)),
           "d_x_rule": Line(target="x", points=2, adjoints=("y",)), "d_w_rule": Line(target="w", points=2, adjoints=("y",))},
    hints={
        "d_q": ["y = q ** 0.5: what is the derivative of a root?", "0.5 / y, times d_y."],
        "d_x": ["q = x * x + w * w, element by element.", "Twice x, times d_q."],
        "d_w": ["w serves all rows: what was spread is summed.", "The sum over the rows of twice w, times d_q."],
        "d_x_rule": ["Put d_q into d_x. What becomes of the two factors 2 and 0.5?", "d_y times a quotient of x and the result."],
        "d_w_rule": ["As d_x_rule, with w, and with the sum.", "Sum d_y * w / y over the rows."],
    },
    source="the chain rule",
)
