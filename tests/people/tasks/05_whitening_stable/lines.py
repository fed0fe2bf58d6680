"""Homework 05: ZCA whitening without eigenvectors: the form without the singularity.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 05_whitening_stable lines.py            (a hint: --hint d_W)

The forward pass, for x of shape (d, m): d channels, m samples in columns.

    mu    = mean of x over axis 1              (d, 1)
    xc    = x - mu                             (d, m)
    sigma = xc xc^T / m + eps * identity       (d, d)
    W     = sigma ** (-1/2), symmetric         (d, d)
    xhat  = W xc                               (d, m)

R = sigma ** (1/2) is given. lyapunov(A, B) is the X with A X + X A = B. sigma and W are symmetric: give d_sigma in its
symmetric form. `m` is the number of columns.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np  # noqa: F401


def d_W(d_xhat, xc):
    """(d, d)"""
    ### BEGIN SOLUTION
    return d_xhat @ xc.T
    ### END SOLUTION


def d_sigma(d_W, W, R, lyapunov):
    """(d, d), symmetric: from W sigma W = identity."""
    ### BEGIN SOLUTION
    S = (d_W + d_W.T) / 2
    return -lyapunov(R, W @ S @ W)
    ### END SOLUTION


def d_xc(d_xhat, d_sigma, W, xc, m):
    """(d, m)"""
    ### BEGIN SOLUTION
    return W.T @ d_xhat + (d_sigma + d_sigma.T) @ xc / m
    ### END SOLUTION
