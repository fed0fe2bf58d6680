"""Homework 04: a penalty that keeps the rows of a matrix orthonormal.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 04_orthonormality lines.py            (a hint: --hint d_G)

The forward pass, for W of shape (n, k):

    gram    = W W^T                            (n, n)
    G       = gram - identity                  (n, n)
    penalty = sum of |G|                       a number     (the lecture squares)

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_G(d_penalty, G):
    """(n, n)"""
    ### BEGIN SOLUTION
    return d_penalty * np.sign(G)
    ### END SOLUTION


def d_W(d_gram, W):
    """(n, k): W is in the product twice."""
    ### BEGIN SOLUTION
    return d_gram @ W + d_gram.T @ W
    ### END SOLUTION


def d_W_one_line(d_penalty, G, W):
    """(n, k): all of it at once."""
    ### BEGIN SOLUTION
    return 2.0 * d_penalty * np.sign(G) @ W
    ### END SOLUTION
