# A layer of your own: centred, and squashed

import numpy as np

import minigrad as mg

inputs = {"x": np.zeros((5, 3)), "gain": np.ones(3)}  # zeros only say a shape: the numbers are drawn anew


def forward(x, gain):
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))
    xc = mg.named("xc", x - mu)
    z = mg.named("z", gain * xc)
    return mg.named("y", mg.tanh(z))


def d_z(d_y, y):
    return d_y * (1 - y * y)


def d_gain(d_z, xc):
    return (d_z * xc).sum(0)


def d_xc(d_z, gain):
    return d_z * gain


def d_x(d_xc):
    return d_xc  # right? Press Check.
