"""Homework 05: decorrelated batch norm in the document's steps. The composed form is the answer key."""

import minigrad as mg
from minigrad.derivation import Line, Task


def forward(x, *, eps):
    """x (d, m)."""
    mu = mg.named("mu", mg.mean(x, 1, keepdims=True))                  # (d, 1)
    xc = mg.named("xc", x - mu)                                        # (d, m)
    sigma = mg.named("sigma", xc @ xc.mT / x.shape[1])                 # (d, d)
    lam, d = mg.eigh(sigma)
    lam, d = mg.named("lam", lam), mg.named("D", d)                    # (d,), (d, d)
    s = mg.named("s", (lam + eps) ** -0.5)                             # (d,)
    rotated = mg.named("rotated", d.mT @ xc)                           # (d, m)
    xtilde = mg.named("xtilde", mg.expand_dims(s, 1) * rotated)        # (d, m)
    return mg.named("xhat", d @ xtilde)                                # (d, m)


def cases(rng, dtype):
    """Channels with different spreads, mixed: no two eigenvalues meet."""
    for d, m in ((3, 11), (4, 13), (2, 9)):
        spread = [0.5 * 2.0**i for i in range(d)]
        yield {"x": (rng.normal(size=(d, d)) / d**0.5 @ (rng.normal(0.3, 1.0, (d, m)).T * spread).T).astype(dtype)}, {"eps": 0.1}


TASK = Task(
    "05_whitening",
    forward,
    cases,
    lines={
        "d_xtilde": 1,
        "d_s": Line(points=1, adjoints=("xtilde",)),
        "d_lam": 1,
        "d_D": Line(points=2, adjoints=("xhat", "rotated")),
        "d_sigma": Line(points=3, adjoints=("lam", "D")),
        "d_xc": Line(points=2, adjoints=("rotated", "sigma")),
        "d_x": Line(points=1, adjoints=("xc",)),
    },
    given={"m": lambda values: values["x"].shape[1]},
    hints={
        "d_xtilde": ["xhat = D xtilde: a matrix product.", "D^T d_xhat."],
        "d_s": ["s multiplies the rows of D^T xc, which is called rotated.", "Sum d_xtilde * rotated along the columns."],
        "d_lam": ["The derivative of a power.", "-0.5 * (lam + eps) ** -1.5 * d_s."],
        "d_D": ["D is in xhat = D xtilde and, transposed, in rotated = D^T xc.", "d_xhat xtilde^T + xc d_rotated^T."],
        "d_sigma": ["An eigenvector i moves along the others by d_j (d_j^T dS d_i) / (lam_i - lam_j).",
                    "D (diag(d_lam) + K * (D^T d_D)) D^T with K_ij = 1 / (lam_j - lam_i), 0 on the diagonal; then symmetric."],
        "d_xc": ["xc is in rotated and, twice, in sigma.", "D d_rotated + (d_sigma + d_sigma^T) xc / m."],
        "d_x": ["x is in xc directly and in the mean.", "d_xc minus its mean along axis 1."],
    },
    source="dbn (7)-(13)",
)
