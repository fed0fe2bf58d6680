"""Mean-only batch norm (Salimans and Kingma [salimans2016], section 4): take the mean out of every channel, and leave the spread to the weights.

This file is an example of a design. Put a layer of your own in its place, and run

    python -m lectures.design lectures/homework/11_design_a_layer/design.py

1. Invent: say in the first lines of the file what the layer is for.
2. `forward`: the layer composed from minigrad's ops, with `mg.named` on every value that a line may use. x is (m, C), gamma and beta (C,).
3. `d_<name>`: the lines of your derivation. They are judged as in every homework; your own forward is the answer key.
4. `statistics`, `backward`, `fast`: the op, once the derivation is right and simplified. Leave them out until then.
5. The last step trains a small network with your layer and with batch norm, over several seeds, and says what the difference is worth.
"""

import minigrad as mg


def forward(x, gamma, beta, *, eps):
    """y (m, C)."""
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))                  # (1, C)
    xc = mg.named("xc", x - mu)                                        # (m, C)
    return mg.named("y", gamma * xc + beta)                            # (m, C)


def d_gamma(d_y, xc):
    """(C,)"""
    return (d_y * xc).sum(0)


def d_beta(d_y):
    """(C,)"""
    return d_y.sum(0)


def d_x(d_y, gamma):
    """(m, C): directly, and through the mean."""
    return gamma * (d_y - d_y.mean(0))


def statistics(x, *, eps):
    """What the op saves: a tuple of small arrays."""
    return (mg.mean(x, 0, keepdims=True),)                             # (1, C)


def backward(g, saved, x, gamma, *, eps):
    """The lines above, written with minigrad's ops, so that they can be differentiated again."""
    (mu,) = saved
    return gamma * (g - mg.mean(g, 0, keepdims=True)), mg.sum(g * (x - mu), 0), mg.sum(g, 0)


def fast(xp, x, gamma, beta, *, eps, saved):
    """The forward pass on arrays."""
    return (x - saved[0]) * gamma + beta
