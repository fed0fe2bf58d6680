"""Homework 08: differentiating an iteration: two steps of Newton-Schulz.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 08_iter_norm lines.py            (a hint: --hint d_W)

The forward pass, for x of shape (d, m): d channels, m samples in columns.

    mu    = mean of x over axis 1              (d, 1)
    xc    = x - mu                             (d, m)
    sigma = xc xc^T / m + eps * identity       (d, d)
    size  = sqrt(sum of sigma * sigma)         a number   (the lecture has the trace)
    A     = sigma / size                       (d, d)
    P1    = (3 * identity - A) / 2             (d, d)     the first step, from P0 = identity
    cube  = P1 P1 P1                           (d, d)
    P2    = (3 * P1 - cube A) / 2              (d, d)     the second step
    W     = P2 / sqrt(size)                    (d, d)
    xhat  = W xc                               (d, m)

Do not use that these matrices are symmetric or commute: derive each line as it stands. `m` is the number of
columns.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_W(d_xhat, xc):
    """(d, d)"""
    ### BEGIN SOLUTION
    return d_xhat @ xc.T
    ### END SOLUTION


def d_P2(d_W, size):
    """(d, d)"""
    ### BEGIN SOLUTION
    return d_W / np.sqrt(size)
    ### END SOLUTION


def d_cube(d_P2, A):
    """(d, d)"""
    ### BEGIN SOLUTION
    return -0.5 * d_P2 @ A.T
    ### END SOLUTION


def d_P1(d_P2, d_cube, P1):
    """(d, d): once in P2, three times in the cube."""
    ### BEGIN SOLUTION
    square = P1 @ P1
    return 1.5 * d_P2 + d_cube @ square.T + P1.T @ d_cube @ P1.T + square.T @ d_cube
    ### END SOLUTION


def d_A(d_P2, d_P1, cube):
    """(d, d): in both steps."""
    ### BEGIN SOLUTION
    return -0.5 * cube.T @ d_P2 - 0.5 * d_P1
    ### END SOLUTION


def d_size(d_A, d_W, sigma, P2, size):
    """(): two paths."""
    ### BEGIN SOLUTION
    return -np.sum(d_A * sigma) / size**2 - 0.5 * np.sum(d_W * P2) / size**1.5
    ### END SOLUTION


def d_sigma(d_A, d_size, sigma, size):
    """(d, d): two paths."""
    ### BEGIN SOLUTION
    return d_A / size + d_size * sigma / size
    ### END SOLUTION


def d_xc(d_xhat, d_sigma, W, xc, m):
    """(d, m)"""
    ### BEGIN SOLUTION
    return W.T @ d_xhat + (d_sigma + d_sigma.T) @ xc / m
    ### END SOLUTION
