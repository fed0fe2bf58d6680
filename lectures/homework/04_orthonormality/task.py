"""Homework 04, second part: the orthonormality penalty. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(W):
    """W (n, k)."""
    gram = mg.named("gram", W @ W.mT)                                  # (n, n)
    identity = mg.eye(W.shape[0], dtype=W.dtype)
    G = mg.named("G", gram - identity)                                 # (n, n)
    return mg.named("penalty", mg.sum(mg.abs(G)))                      # ()


def cases(rng, dtype):
    """Matrices that are far from orthonormal."""
    for n, k in random_sizes(rng, (2, 5), (4, 8)):
        yield {"W": rng.normal(size=(n, k)).astype(dtype)}, {}


TASK = Task(
    "04_orthonormality",
    forward,
    cases,
    lines={"d_G": 1, "d_W": Line(points=2, adjoints=("gram",)), "d_W_one_line": Line(target="W", points=2, adjoints=("penalty",))},
    hints={
        "d_G": ["A sum of absolute values: what is the slope of |a|?", "The sign of G, times the number d_penalty."],
        "d_W": ["W is in gram twice.", "With D = d_gram: D W from the left factor, D^T W from the right one."],
        "d_W_one_line": ["G is symmetric, and so are its signs.", "Twice the product of the signs of G with W, times d_penalty."],
    },
    source="Xie, Xiong and Pu [xie2017], the paper that bn-jacobian supplements: orthonormality; the absolute value is ours",
)
