"""Homework 07: layer norm: the same kernel, another axis.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 07_layer_norm lines.py            (a hint: --hint d_gamma)

The forward pass, for x of shape (n, D), gamma and beta of shape (D,):

    mu   = mean of x over axis 1               (n, 1)
    xc   = x - mu                              (n, D)
    var  = mean of xc * xc over axis 1         (n, 1)
    rstd = 1 / sqrt(var + eps)                 (n, 1)
    xhat = xc * rstd                           (n, D)
    y    = xhat * gamma + beta                 (n, D)

`D` is the number of columns. Mind over which axis gamma is shared, and over which the mean is taken.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_gamma(d_y, xhat):
    """(D,)"""
    ### BEGIN SOLUTION
    return np.sum(d_y * xhat, axis=0)
    ### END SOLUTION


def d_xhat(d_y, gamma):
    """(n, D)"""
    ### BEGIN SOLUTION
    return d_y * gamma
    ### END SOLUTION


def d_rstd(d_xhat, xc):
    """(n, 1)"""
    ### BEGIN SOLUTION
    return np.sum(d_xhat * xc, axis=1, keepdims=True)
    ### END SOLUTION


def d_var(d_rstd, rstd):
    """(n, 1)"""
    ### BEGIN SOLUTION
    return -0.5 * rstd**3 * d_rstd
    ### END SOLUTION


def d_xc(d_xhat, d_var, rstd, xc, D):
    """(n, D): two paths."""
    ### BEGIN SOLUTION
    return d_xhat * rstd + 2.0 * d_var * xc / D
    ### END SOLUTION


def d_x_one_line(d_xhat, rstd, xhat):
    """(n, D): all of it at once."""
    ### BEGIN SOLUTION
    return rstd * (d_xhat - np.mean(d_xhat, axis=1, keepdims=True) - xhat * np.mean(d_xhat * xhat, axis=1, keepdims=True))
    ### END SOLUTION
