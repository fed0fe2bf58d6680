"""Homework 05: ZCA whitening through eigenvalues and eigenvectors.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 05_whitening lines.py            (a hint: --hint d_xtilde)

The forward pass, for x of shape (d, m): d channels, m samples in columns.

    mu     = mean of x over axis 1             (d, 1)
    xc     = x - mu                            (d, m)
    sigma  = xc xc^T / m                       (d, d)
    lam, D = eigenvalues and eigenvectors (in columns) of sigma
    s      = (lam + eps) ** -0.5               (d,)
    xtilde = s * (D^T xc), row by row          (d, m)
    xhat   = D xtilde                          (d, m)

sigma is symmetric: give d_sigma in its symmetric form, (A + A^T) / 2. `m` is the number of columns.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_xtilde(d_xhat, D):
    """(d, m)"""
    ### BEGIN SOLUTION
    return D.T @ d_xhat
    ### END SOLUTION


def d_s(d_xtilde, rotated):
    """(d,): s scales the rows of rotated = D^T xc."""
    ### BEGIN SOLUTION
    return np.sum(d_xtilde * rotated, axis=1)
    ### END SOLUTION


def d_lam(d_s, lam, eps):
    """(d,)"""
    ### BEGIN SOLUTION
    return -0.5 * (lam + eps) ** -1.5 * d_s
    ### END SOLUTION


def d_D(d_xhat, d_rotated, xtilde, xc):
    """(d, d): D is used twice."""
    ### BEGIN SOLUTION
    return d_xhat @ xtilde.T + xc @ d_rotated.T
    ### END SOLUTION


def d_sigma(d_lam, d_D, lam, D):
    """(d, d), symmetric: through eigenvalues and eigenvectors."""
    ### BEGIN SOLUTION
    gaps = lam[None, :] - lam[:, None]
    K = 1.0 / np.where(gaps == 0, np.inf, gaps)
    A = D @ (np.diag(d_lam) + K * (D.T @ d_D)) @ D.T
    return (A + A.T) / 2
    ### END SOLUTION


def d_xc(d_rotated, d_sigma, D, xc, m):
    """(d, m)"""
    ### BEGIN SOLUTION
    return D @ d_rotated + (d_sigma + d_sigma.T) @ xc / m
    ### END SOLUTION


def d_x(d_xc):
    """(d, m)"""
    ### BEGIN SOLUTION
    return d_xc - np.mean(d_xc, axis=1, keepdims=True)
    ### END SOLUTION
