"""Homework 06: spectral norm, with a fixed singular vector.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 06_spectral_norm lines.py            (a hint: --hint d_sigma)

The forward pass, for W of shape (n, k) and u of shape (n,), which is a constant. bound is the number that the
spectral norm shall have:

    t     = W^T u                              (k,)
    sigma = sqrt(sum of t * t)                 a number
    wbar  = bound * W / sigma                  (n, k)

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_sigma(d_wbar, W, sigma, bound):
    """(): one number."""
    ### BEGIN SOLUTION
    return -bound * np.sum(d_wbar * W) / sigma**2
    ### END SOLUTION


def d_t(d_sigma, t, sigma):
    """(k,)"""
    ### BEGIN SOLUTION
    return d_sigma * t / sigma
    ### END SOLUTION


def d_W(d_wbar, d_t, u, sigma, bound):
    """(n, k): two paths."""
    ### BEGIN SOLUTION
    return bound * d_wbar / sigma + np.outer(u, d_t)
    ### END SOLUTION
