"""Homework 09: predict what batch norm keeps and how often it goes over memory.

Fill in one function after the other, in any order. Nothing is derived here: each function returns a number, which is compared with
what the tape says. Check with

    python -m minigrad.derivation 09_cost lines.py            (a hint: --hint kept_derived)

The forward pass, for x of shape (m, C), gamma and beta of shape (C,), composed from primitives:

    mu   = mean of x over axis 0               (1, C)
    xc   = x - mu                              (m, C)
    var  = mean of xc * xc over axis 0         (1, C)
    rstd = 1 / sqrt(var + eps)                 (1, C)
    xhat = xc * rstd                           (m, C)
    y    = xhat * gamma + beta                 (m, C)

`x_bytes` is the size of an array like x, `channel_bytes` that of one number per channel. x is the result of another op, and the
parameters are there anyway: gamma and beta are not counted.
"""


def kept_composed(x_bytes, channel_bytes):
    """Bytes that the tape of the composed form keeps for its backward."""
    ### BEGIN SOLUTION
    return 2 * x_bytes + 2 * channel_bytes
    ### END SOLUTION


def kept_derived(x_bytes, channel_bytes):
    """The same for `layers.batch_norm`, whose backward is the one line of lecture 02."""
    ### BEGIN SOLUTION
    return x_bytes + 2 * channel_bytes
    ### END SOLUTION


def kept_then_leaky_relu(x_bytes, channel_bytes):
    """`layers.batch_norm`, and then `mg.leaky_relu`."""
    ### BEGIN SOLUTION
    return 2 * x_bytes + 2 * channel_bytes
    ### END SOLUTION


def kept_in_place(x_bytes, channel_bytes):
    """In-place ABN of lecture 03, which is both in one layer."""
    ### BEGIN SOLUTION
    return x_bytes + 2 * channel_bytes
    ### END SOLUTION


def passes_composed():
    """Readings and writings of arrays of x's size in the composed forward pass. A broadcast copies nothing; an op that uses one
    array twice reads it once."""
    ### BEGIN SOLUTION
    return 12
    ### END SOLUTION
