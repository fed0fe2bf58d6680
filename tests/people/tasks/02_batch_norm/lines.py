"""Homework 02: the backward of batch norm, line by line.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 02_batch_norm lines.py            (a hint: --hint d_var)

The forward pass, for x of shape (m, C), gamma and beta of shape (C,):

    mu   = mean of x over axis 0               (1, C)
    xc   = x - mu                              (m, C)
    var  = mean of xc * xc over axis 0         (1, C)
    rstd = 1 / sqrt(var + eps)                 (1, C)
    xhat = xc * rstd                           (m, C)
    y    = xhat * gamma + beta                 (m, C)

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_beta(d_y):
    """(C,): beta is added to every row of y."""
    ### BEGIN SOLUTION
    return np.sum(d_y, axis=0)
    ### END SOLUTION


def d_gamma(d_y, xhat):
    """(C,): gamma multiplies every row of xhat."""
    ### BEGIN SOLUTION
    return np.sum(d_y * xhat, axis=0)
    ### END SOLUTION


def d_xhat(d_y, gamma):
    """(m, C)"""
    ### BEGIN SOLUTION
    return d_y * gamma
    ### END SOLUTION


def d_var(d_xhat, xc, var, eps):
    """(1, C): through rstd, which every row of xhat uses."""
    ### BEGIN SOLUTION
    return np.sum(d_xhat * xc, axis=0, keepdims=True) * -0.5 * (var + eps) ** -1.5
    ### END SOLUTION


def d_mu(d_xhat, d_var, rstd, xc, m):
    """(1, C): through xhat, and through the variance. One of the two is zero. Why?"""
    ### BEGIN SOLUTION
    through_xhat = -np.sum(d_xhat * rstd, axis=0, keepdims=True)
    through_var = -2.0 * d_var * np.sum(xc, axis=0, keepdims=True) / m
    return through_xhat + through_var
    ### END SOLUTION


def d_x(d_xhat, d_var, d_mu, rstd, xc, m):
    """(m, C): three paths."""
    ### BEGIN SOLUTION
    return d_xhat * rstd + d_var * 2.0 * xc / m + d_mu / m
    ### END SOLUTION


def d_x_one_line(d_y, gamma, rstd, xhat):
    """(m, C): all of it at once, from d_y."""
    ### BEGIN SOLUTION
    return gamma * rstd * (d_y - np.mean(d_y, axis=0) - xhat * np.mean(d_y * xhat, axis=0))
    ### END SOLUTION
