"""Homework 11: derive a layer that is in no book, before you design one of your own (design.py, beside this file).

It divides by the mean absolute deviation instead of the standard deviation, so that a single outlier counts less. Fill in one function
after the other, in any order: each is checked on its own, with the right arguments. Check with

    python -m minigrad.derivation 11_design_a_layer lines.py            (a hint: --hint d_xc)

The forward pass, for x of shape (m, C), gamma and beta of shape (C,):

    mu   = mean of x over axis 0               (1, C)
    xc   = x - mu                              (m, C)
    dev  = mean of |xc| over axis 0            (1, C)
    xhat = xc / (dev + eps)                    (m, C)
    y    = xhat * gamma + beta                 (m, C)

d_<name> is the derivative of the loss with respect to <name>; it has the shape of <name>. A function may take any value and
any derivative further down by its name.
"""

import numpy as np


def d_beta(d_y):
    """(C,)"""
    ### BEGIN SOLUTION
    return np.sum(d_y, axis=0)
    ### END SOLUTION


def d_gamma(d_y, xhat):
    """(C,)"""
    ### BEGIN SOLUTION
    return np.sum(d_y * xhat, axis=0)
    ### END SOLUTION


def d_xhat(d_y, gamma):
    """(m, C)"""
    ### BEGIN SOLUTION
    return d_y * gamma
    ### END SOLUTION


def d_dev(d_xhat, xc, dev, eps):
    """(1, C): dev divides every row."""
    ### BEGIN SOLUTION
    return -np.sum(d_xhat * xc, axis=0, keepdims=True) / (dev + eps)**2
    ### END SOLUTION


def d_xc(d_xhat, d_dev, xc, dev, eps, m):
    """(m, C): two paths."""
    ### BEGIN SOLUTION
    return d_xhat / (dev + eps) + d_dev * np.sign(xc) / m
    ### END SOLUTION


def d_x(d_xc):
    """(m, C)"""
    ### BEGIN SOLUTION
    return d_xc - np.mean(d_xc, axis=0)
    ### END SOLUTION


def d_x_one_line(d_y, gamma, dev, xc, xhat, eps):
    """(m, C): all of it at once, from d_y."""
    ### BEGIN SOLUTION
    s = np.sign(xc)
    return gamma / (dev + eps) * (d_y - np.mean(d_y, axis=0) - (s - np.mean(s, axis=0)) * np.mean(d_y * xhat, axis=0))
    ### END SOLUTION
