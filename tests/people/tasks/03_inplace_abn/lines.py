"""Homework 03: batch norm and its activation, from the output alone.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 03_inplace_abn lines.py            (a hint: --hint d_y)

The forward pass, for x of shape (m, C), gamma and beta of shape (C,), slope > 0:

    mu   = mean of x over axis 0               (1, C)
    xc   = x - mu                              (m, C)
    var  = mean of xc * xc over axis 0         (1, C)
    rstd = 1 / sqrt(var + eps)                 (1, C)
    xhat = xc * rstd                           (m, C)
    y    = xhat * gamma + beta                 (m, C)
    z    = y where y > 0, else slope * y       (m, C)     leaky ReLU

In-place ABN keeps z and throws x, xc, xhat and y away: what you need of them must come from z. `m` is the number of rows.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_y(d_z, z, slope):
    """(m, C): through the activation, from its output."""
    ### BEGIN SOLUTION
    return np.where(z > 0, d_z, slope * d_z)
    ### END SOLUTION


def d_beta(d_y):
    """(C,)"""
    ### BEGIN SOLUTION
    return np.sum(d_y, axis=0)
    ### END SOLUTION


def d_gamma(d_y, z, gamma, beta, slope):
    """(C,): xhat has to be recovered from z."""
    ### BEGIN SOLUTION
    y = np.where(z > 0, z, z / slope)
    return np.sum(d_y * (y - beta) / gamma, axis=0)
    ### END SOLUTION


def d_x_form_1(d_y, z, gamma, beta, rstd, slope):
    """(m, C): form I, batch norm's one line with the recovered xhat."""
    ### BEGIN SOLUTION
    y = np.where(z > 0, z, z / slope)
    xhat = (y - beta) / gamma
    return gamma * rstd * (d_y - np.mean(d_y, axis=0) - xhat * np.mean(d_y * xhat, axis=0))
    ### END SOLUTION


def d_x_form_2(d_y, d_gamma, d_beta, y, gamma, beta, rstd, m):
    """(m, C): form II, without xhat: a multiple of d_y, one of y, and a constant for each channel."""
    ### BEGIN SOLUTION
    return gamma * rstd * (d_y - y * d_gamma / (m * gamma) - (d_beta - beta * d_gamma / gamma) / m)
    ### END SOLUTION
