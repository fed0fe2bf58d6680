"""Homework 07: layer norm: the same kernel, another axis.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 07_layer_norm lines.py            (a hint: --hint d_gamma)

The forward pass, for x of shape (n, D), gamma and beta of shape (D,), as many programs have it. Two things are not the lecture's:

    mu   = mean of x over axis 1               (n, 1)
    xc   = x - mu                              (n, D)
    var  = sum of xc * xc over axis 1, / (D - 1)       (n, 1)
    std  = sqrt(var)                           (n, 1)
    xhat = xc / (std + eps)                    (n, D)
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


def d_std(d_xhat, xc, std, eps):
    """(n, 1)"""
    ### BEGIN SOLUTION
    return -np.sum(d_xhat * xc, axis=1, keepdims=True) / (std + eps)**2
    ### END SOLUTION


def d_var(d_std, std):
    """(n, 1)"""
    ### BEGIN SOLUTION
    return 0.5 * d_std / std
    ### END SOLUTION


def d_xc(d_xhat, d_var, std, xc, eps, D):
    """(n, D): two paths."""
    ### BEGIN SOLUTION
    return d_xhat / (std + eps) + 2.0 * d_var * xc / (D - 1)
    ### END SOLUTION


def d_x_one_line(d_xhat, std, xc, xhat, eps, D):
    """(n, D): all of it at once."""
    ### BEGIN SOLUTION
    along = np.sum(d_xhat * xhat, axis=1, keepdims=True) / ((D - 1) * std)
    return (d_xhat - np.mean(d_xhat, axis=1, keepdims=True) - xc * along) / (std + eps)
    ### END SOLUTION
