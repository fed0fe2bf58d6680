"""Homework 06, second part: centred weight norm. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(v):
    """v (n, k)."""
    mu = mg.named("mu", mg.mean(v, 1, keepdims=True))                  # (n, 1)
    vc = mg.named("vc", v - mu)                                        # (n, k)
    norm = mg.named("norm", mg.sqrt(mg.sum(vc * vc, 1, keepdims=True)))  # (n, 1)
    return mg.named("w", vc / norm)                                    # (n, k)


def cases(rng, dtype):
    """Filters that are not centred."""
    for n, k in ((3, 7), (5, 4), (2, 9)):
        yield {"v": rng.normal(0.5, 1.0, (n, k)).astype(dtype)}, {}


TASK = Task(
    "06_centered_weight_norm",
    forward,
    cases,
    lines={
        "d_norm": 1,
        "d_vc": Line(points=2, adjoints=("w", "norm")),
        "d_v": Line(points=1, adjoints=("vc",)),
        "d_v_one_line": Line(target="v", points=3, adjoints=("w",)),
    },
    given={"k": lambda values: values["v"].shape[1]},
    hints={
        "d_norm": ["w = vc / norm.", "Minus the row sum of d_w * vc, over norm squared."],
        "d_vc": ["vc is in w directly and in norm.", "d_w / norm + d_norm * vc / norm."],
        "d_v": ["v is in vc directly and in the mean.", "d_vc minus its mean along axis 1."],
        "d_v_one_line": ["Two directions are taken out: the constant one, and w.", "(d_w - mean of d_w - w * (row sum of d_w * w)) / norm."],
    },
    source="cwn (3)-(5): centred weight normalization",
)
