"""Homework 03: a norm and its activation, from the output alone.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 03_inplace_abn lines.py            (a hint: --hint d_y)

The forward pass, for x of shape (m, C), gamma and beta of shape (C,), alpha > 0. It is not the lecture's: the batch is not centred, and
the activation is ELU.

    ms   = mean of x * x over axis 0           (1, C)
    r    = 1 / sqrt(ms + eps)                  (1, C)
    xhat = x * r                               (m, C)
    y    = xhat * gamma + beta                 (m, C)
    z    = y where y > 0, else alpha * (exp(y) - 1)       (m, C)

In place, z is kept, and x, xhat and y are thrown away: what you need of them must come from z. `m` is the number of rows.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_y(d_z, z, alpha):
    """(m, C): through the activation, from its output."""
    ### BEGIN SOLUTION
    return np.where(z > 0, d_z, d_z * (z + alpha))
    ### END SOLUTION


def d_beta(d_y):
    """(C,)"""
    ### BEGIN SOLUTION
    return np.sum(d_y, axis=0)
    ### END SOLUTION


def d_gamma(d_y, z, gamma, beta, alpha):
    """(C,): xhat has to be recovered from z."""
    ### BEGIN SOLUTION
    y = np.where(z > 0, z, np.log1p(z / alpha))
    return np.sum(d_y * (y - beta) / gamma, axis=0)
    ### END SOLUTION


def d_x_form_1(d_y, z, gamma, beta, r, alpha):
    """(m, C): form I, one line with the recovered xhat."""
    ### BEGIN SOLUTION
    y = np.where(z > 0, z, np.log1p(z / alpha))
    xhat = (y - beta) / gamma
    return gamma * r * (d_y - xhat * np.mean(d_y * xhat, axis=0))
    ### END SOLUTION


def d_x_form_2(d_y, d_gamma, y, gamma, beta, r, m):
    """(m, C): form II, without xhat: a multiple of d_y, one of y, and a constant for each channel."""
    ### BEGIN SOLUTION
    return gamma * r * (d_y - y * d_gamma / (m * gamma) + beta * d_gamma / (m * gamma))
    ### END SOLUTION
