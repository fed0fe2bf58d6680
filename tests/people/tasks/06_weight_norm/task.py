"""Homework 06: weight norm. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(v, gain):
    """v (n, k); gain (n,)."""
    norm = mg.named("norm", mg.sqrt(mg.sum(v * v, 1, keepdims=True)))  # (n, 1)
    vhat = mg.named("vhat", v / norm)                                  # (n, k)
    return mg.named("w", vhat * mg.expand_dims(gain, 1))               # (n, k)


def cases(rng, dtype):
    """Filters that are not centred."""
    for n, k in ((3, 7), (5, 4), (2, 9)):
        yield {"v": rng.normal(0.5, 1.0, (n, k)).astype(dtype), "gain": rng.uniform(0.5, 2.0, n).astype(dtype)}, {}


TASK = Task(
    "06_weight_norm",
    forward,
    cases,
    lines={
        "d_gain": 1,
        "d_vhat": 1,
        "d_norm": Line(points=2, adjoints=("vhat",)),
        "d_v": Line(points=2, adjoints=("vhat", "norm")),
        "d_v_one_line": Line(target="v", points=3, adjoints=("w",)),
    },
    hints={
        "d_gain": ["gain multiplies a whole row.", "Sum d_w * vhat along axis 1."],
        "d_vhat": ["gain is (n,): as a column it is gain[:, None].", "d_w * gain[:, None]."],
        "d_norm": ["vhat = v / norm: the derivative of a quotient.", "Minus the sum of d_vhat * v along axis 1, over norm squared."],
        "d_v": ["v is in vhat directly, and in norm.", "The derivative of the length is v / norm = vhat."],
        "d_v_one_line": ["A projection again: only one direction is taken out.", "gain / norm * (d_w - vhat * (row sum of d_w * vhat))."],
    },
    source="Salimans and Kingma [salimans2016]: weight normalization",
)
