"""Homework 10: the backward of a batch norm, differentiated.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 10_double_backward lines.py            (a hint: --hint d_gamma)

Here the forward pass is a backward pass, that of a batch norm, of whose last term only a part t is
taken (the lecture has t = 1): for g and x of shape (m, C), gamma of shape (C,),

    mu   = mean of x over axis 0               (1, C)
    xc   = x - mu                              (m, C)
    var  = mean of xc * xc over axis 0         (1, C)
    rstd = 1 / sqrt(var + eps)                 (1, C)
    xhat = xc * rstd                           (m, C)
    gbar = mean of g over axis 0               (1, C)
    p    = mean of g * xhat over axis 0        (1, C)
    r    = g - gbar - t * xhat * p             (m, C)
    dx   = r * rstd * gamma                    (m, C)

d_dx is the cotangent of dx, called u in the lecture. `m` is the number of rows.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_gamma(d_dx, r, rstd):
    """(C,)"""
    ### BEGIN SOLUTION
    return np.sum(d_dx * r * rstd, axis=0)
    ### END SOLUTION


def d_r(d_dx, rstd, gamma):
    """(m, C)"""
    ### BEGIN SOLUTION
    return d_dx * rstd * gamma
    ### END SOLUTION


def d_p(d_r, xhat, t):
    """(1, C)"""
    ### BEGIN SOLUTION
    return -t * np.sum(d_r * xhat, axis=0, keepdims=True)
    ### END SOLUTION


def d_xhat(d_r, d_p, p, g, m, t):
    """(m, C): two paths."""
    ### BEGIN SOLUTION
    return -d_r * t * p + d_p * g / m
    ### END SOLUTION


def d_g(d_r, d_p, d_gbar, xhat, m):
    """(m, C): three paths."""
    ### BEGIN SOLUTION
    return d_r + d_gbar / m + d_p * xhat / m
    ### END SOLUTION


def d_g_one_line(d_dx, rstd, gamma, xhat, t):
    """(m, C): all of it at once."""
    ### BEGIN SOLUTION
    return gamma * rstd * (d_dx - np.mean(d_dx, axis=0) - t * xhat * np.mean(d_dx * xhat, axis=0))
    ### END SOLUTION


def d_x_one_line(d_dx, g, rstd, gamma, xhat, t):
    """(m, C): formula (4) of the lecture, with t in the right places."""
    ### BEGIN SOLUTION
    u, v = d_dx - np.mean(d_dx, axis=0), g - np.mean(g, axis=0)
    pu, pg = np.mean(d_dx * xhat, axis=0), np.mean(g * xhat, axis=0)
    c = np.mean(u * v, axis=0)
    return -gamma * rstd**2 * (t * (pg * u + pu * v) + xhat * (c - 3.0 * t * pu * pg))
    ### END SOLUTION
