"""Homework 06: weight norm: length and direction.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 06_weight_norm lines.py            (a hint: --hint d_gain)

The forward pass, for v of shape (n, k), one filter per row, and gain of shape (n,):

    norm = sqrt(sum of v * v over axis 1)      (n, 1)
    vhat = v / norm                            (n, k)
    w    = vhat * gain, row by row             (n, k)

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_gain(d_w, vhat):
    """(n,)"""
    ### BEGIN SOLUTION
    return np.sum(d_w * vhat, axis=1)
    ### END SOLUTION


def d_vhat(d_w, gain):
    """(n, k)"""
    ### BEGIN SOLUTION
    return d_w * gain[:, None]
    ### END SOLUTION


def d_norm(d_vhat, v, norm):
    """(n, 1)"""
    ### BEGIN SOLUTION
    return -np.sum(d_vhat * v, axis=1, keepdims=True) / norm**2
    ### END SOLUTION


def d_v(d_vhat, d_norm, norm, vhat):
    """(n, k): two paths."""
    ### BEGIN SOLUTION
    return d_vhat / norm + d_norm * vhat
    ### END SOLUTION


def d_v_one_line(d_w, gain, norm, vhat):
    """(n, k): all of it at once."""
    ### BEGIN SOLUTION
    return gain[:, None] / norm * (d_w - vhat * np.sum(d_w * vhat, axis=1, keepdims=True))
    ### END SOLUTION
