"""Homework 07: RMS norm: one path fewer.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 07_rms_norm lines.py            (a hint: --hint d_gamma)

The forward pass, for x of shape (n, D), gamma of shape (D,):

    ms   = mean of x * x over axis 1           (n, 1)
    r    = 1 / sqrt(ms + eps)                  (n, 1)
    xhat = x * r                               (n, D)
    y    = xhat * gamma                        (n, D)

`D` is the number of columns.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_gamma(d_y, xhat):
    """(D,)"""
    ### BEGIN SOLUTION
    return np.sum(d_y * xhat, axis=0)
    ### END SOLUTION


def d_ms(d_xhat, x, r):
    """(n, 1)"""
    ### BEGIN SOLUTION
    return -0.5 * r**3 * np.sum(d_xhat * x, axis=1, keepdims=True)
    ### END SOLUTION


def d_x(d_xhat, d_ms, r, x, D):
    """(n, D): two paths."""
    ### BEGIN SOLUTION
    return d_xhat * r + 2.0 * d_ms * x / D
    ### END SOLUTION


def d_x_one_line(d_y, gamma, r, xhat):
    """(n, D): all of it at once."""
    ### BEGIN SOLUTION
    h = gamma * d_y
    return r * (h - xhat * np.mean(h * xhat, axis=1, keepdims=True))
    ### END SOLUTION
