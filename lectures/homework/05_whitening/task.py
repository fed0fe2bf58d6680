"""Homework 05: decorrelated batch norm in the document's steps, with samples in rows. The composed form is the answer key."""

import numpy as np

import minigrad as mg
from minigrad.derivation import Line, Task, random_sizes


def forward(x, *, eps):
    """x (m, d)."""
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))                  # (1, d)
    xc = mg.named("xc", x - mu)                                        # (m, d)
    sigma = mg.named("sigma", xc.mT @ xc / x.shape[0])                 # (d, d)
    lam, d = mg.eigh(sigma)
    lam, d = mg.named("lam", lam), mg.named("D", d)                    # (d,), (d, d)
    s = mg.named("s", (lam + eps) ** -0.5)                             # (d,)
    rotated = mg.named("rotated", xc @ d)                              # (m, d)
    xtilde = mg.named("xtilde", rotated * s)                           # (m, d)
    return mg.named("xhat", xtilde @ d.mT)                             # (m, d)


def cases(rng, dtype):
    """Centred columns of chosen lengths, mixed and moved: no two eigenvalues meet."""
    for m, d in random_sizes(rng, (9, 14), (2, 4)):
        q, _ = np.linalg.qr(np.concatenate([np.ones((m, 1)), rng.normal(size=(m, d))], 1))
        axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
        variances = 0.3 * 3.0 ** np.arange(d) * rng.uniform(0.8, 1.25, d)
        yield {"x": (0.3 + q[:, 1:] * (m * variances) ** 0.5 @ axes.T).astype(dtype)}, {"eps": 0.1}


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
    given={"m": lambda values: values["x"].shape[0]},
    hints={
        "d_xtilde": ["xhat = xtilde D^T: a matrix product.", "d_xhat D."],
        "d_s": ["s multiplies the columns of xc D, which is called rotated.", "Sum d_xtilde * rotated over the rows."],
        "d_lam": ["The derivative of a power.", "The exponent comes down as a factor, and is -1.5 afterwards."],
        "d_D": ["D is in rotated = xc D and, transposed, in xhat = xtilde D^T.", "d_xhat^T xtilde + xc^T d_rotated."],
        "d_sigma": ["An eigenvector i moves along the others by d_j (d_j^T dS d_i) / (lam_i - lam_j).",
                    "D (diag(d_lam) + K * (D^T d_D)) D^T with K_ij = 1 / (lam_j - lam_i), 0 on the diagonal; then symmetric."],
        "d_xc": ["xc is in rotated and, twice, in sigma.", "d_rotated D^T + xc (d_sigma + d_sigma^T) / m."],
        "d_x": ["x is in xc directly and in the mean.", "d_xc minus its mean over the rows."],
    },
    source="dbn (7)-(13)",
)
