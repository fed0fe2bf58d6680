"""Homework 01: an op of your own: the smooth absolute value.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 01_own_op lines.py            (a hint: --hint d_w)

The forward pass, for x of shape (m, n) and w of shape (n,):

    q = x * x + w * w                          (m, n)
    y = sqrt(q)                                (m, n)

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. The last two lines go from d_y to x and to
w in one step: as rules of the op they stand in the lecture, with the sum left to `broadcast_to`.
"""

import numpy as np


def d_q(d_y, y):
    """(m, n)"""
    ### BEGIN SOLUTION
    return d_y * 0.5 / y
    ### END SOLUTION


def d_x(d_q, x):
    """(m, n)"""
    ### BEGIN SOLUTION
    return 2.0 * x * d_q
    ### END SOLUTION


def d_w(d_q, w):
    """(n,): every row uses it."""
    ### BEGIN SOLUTION
    return np.sum(2.0 * w * d_q, axis=0)
    ### END SOLUTION


def d_x_rule(d_y, x, y):
    """(m, n): in one step."""
    ### BEGIN SOLUTION
    return d_y * x / y
    ### END SOLUTION


def d_w_rule(d_y, w, y):
    """(n,): in one step."""
    ### BEGIN SOLUTION
    return np.sum(d_y * w / y, axis=0)
    ### END SOLUTION
