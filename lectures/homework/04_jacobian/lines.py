"""Homework 04: a Jacobian, applied and differentiated.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 04_jacobian lines.py            (a hint: --hint d_p)

The lecture's Jacobian takes two directions out of v. This one takes only a part t of the second: t = 1 is batch norm, and t = 0 nothing but
centring. Taken as a function of v and xhat, for v and xhat of shape (m, C), rstd of shape (1, C), t a number:

    vbar = mean of v over axis 0                     (1, C)
    p    = mean of v * xhat over axis 0              (1, C)
    w    = rstd * (v - vbar - t * xhat * p)          (m, C)     J v

`m` is the number of rows.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_p(d_w, rstd, xhat, t):
    """(1, C)"""
    ### BEGIN SOLUTION
    return -t * np.sum(d_w * rstd * xhat, axis=0, keepdims=True)
    ### END SOLUTION


def d_vbar(d_w, rstd):
    """(1, C)"""
    ### BEGIN SOLUTION
    return -np.sum(d_w * rstd, axis=0, keepdims=True)
    ### END SOLUTION


def d_v(d_w, d_p, d_vbar, rstd, xhat, m):
    """(m, C): three paths."""
    ### BEGIN SOLUTION
    return d_w * rstd + d_p * xhat / m + d_vbar / m
    ### END SOLUTION


def d_v_one_line(d_w, rstd, xhat, t):
    """(m, C): all of it at once. What do you notice?"""
    ### BEGIN SOLUTION
    return rstd * (d_w - np.mean(d_w, axis=0) - t * xhat * np.mean(d_w * xhat, axis=0))
    ### END SOLUTION


def d_xhat(d_w, d_p, rstd, p, v, m, t):
    """(m, C): two paths."""
    ### BEGIN SOLUTION
    return -d_w * rstd * t * p + d_p * v / m
    ### END SOLUTION
