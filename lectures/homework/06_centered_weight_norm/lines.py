"""Homework 06: centred weight norm, and what its gradient is orthogonal to.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 06_centered_weight_norm lines.py            (a hint: --hint d_norm)

The forward pass, for v of shape (n, k), one filter per row, and gain of shape (n, 1):

    mu   = mean of v over axis 1               (n, 1)
    vc   = v - mu                              (n, k)
    norm = sqrt(sum of vc * vc over axis 1)    (n, 1)
    w    = gain * vc / norm                    (n, k)

`k` is the number of columns.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_norm(d_w, gain, vc, norm):
    """(n, 1)"""
    ### BEGIN SOLUTION
    return -np.sum(d_w * gain * vc, axis=1, keepdims=True) / norm**2
    ### END SOLUTION


def d_vc(d_w, d_norm, gain, vc, norm):
    """(n, k): two paths."""
    ### BEGIN SOLUTION
    return d_w * gain / norm + d_norm * vc / norm
    ### END SOLUTION


def d_v(d_vc):
    """(n, k)"""
    ### BEGIN SOLUTION
    return d_vc - np.mean(d_vc, axis=1, keepdims=True)
    ### END SOLUTION


def d_v_one_line(d_w, gain, vc, norm):
    """(n, k): all of it at once."""
    ### BEGIN SOLUTION
    return gain / norm * (d_w - np.mean(d_w, axis=1, keepdims=True) - vc * np.sum(d_w * vc, axis=1, keepdims=True) / norm**2)
    ### END SOLUTION
