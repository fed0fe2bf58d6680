"""Homework 05: ZCA whitening through eigenvalues and eigenvectors.

Fill in one function after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 05_whitening lines.py            (a hint: --hint d_xtilde)

The forward pass, for x of shape (m, d): m samples in rows, d channels. (The lecture has them in columns: mind the order of the products.)

    mu     = mean of x over axis 0             (1, d)
    xc     = x - mu                            (m, d)
    sigma  = xc^T xc / m                       (d, d)
    lam, D = eigenvalues and eigenvectors (in columns) of sigma
    s      = (lam + eps) ** -0.5               (d,)
    xtilde = (xc D) * s, column by column      (m, d)
    xhat   = xtilde D^T                        (m, d)

sigma is symmetric: give d_sigma in its symmetric form, (A + A^T) / 2. `m` is the number of rows.

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_xtilde(d_xhat, D):
    """(m, d)"""
    ### BEGIN SOLUTION
    return d_xhat @ D
    ### END SOLUTION


def d_s(d_xtilde, rotated):
    """(d,): s scales the columns of rotated = xc D."""
    ### BEGIN SOLUTION
    return np.sum(d_xtilde * rotated, axis=0)
    ### END SOLUTION


def d_lam(d_s, lam, eps):
    """(d,)"""
    ### BEGIN SOLUTION
    return -0.5 * (lam + eps) ** -1.5 * d_s
    ### END SOLUTION


def d_D(d_xhat, d_rotated, xtilde, xc):
    """(d, d): D is used twice."""
    ### BEGIN SOLUTION
    return d_xhat.T @ xtilde + xc.T @ d_rotated
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
    """(m, d)"""
    ### BEGIN SOLUTION
    return d_rotated @ D.T + xc @ (d_sigma + d_sigma.T) / m
    ### END SOLUTION


def d_x(d_xc):
    """(m, d)"""
    ### BEGIN SOLUTION
    return d_xc - np.mean(d_xc, axis=0, keepdims=True)
    ### END SOLUTION
