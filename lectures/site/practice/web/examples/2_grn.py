# Global response normalization, of ConvNeXt V2

import numpy as np

import minigrad as mg

# N pictures, H W places, C channels
inputs = {"x": np.zeros((2, 4, 3, 5)), "gamma": np.zeros(5), "beta": np.zeros(5)}
keywords = {"eps": 1e-3}


def forward(x, gamma, beta, eps):
    g = mg.named("g", mg.sqrt(mg.sum(x * x, (1, 2), keepdims=True)))   # (N, 1, 1, C): how strong a channel responds
    m = mg.named("m", mg.mean(g, -1, keepdims=True) + eps)             # (N, 1, 1, 1)
    n = mg.named("n", g / m)
    return mg.named("y", gamma * (x * n) + beta + x)


def d_gamma(d_y, x, n):
    normalized = x * n
    return (d_y * normalized).sum((0, 1, 2))


def d_n(d_y, x, gamma):
    d_product = d_y * gamma
    return (d_product * x).sum((1, 2), keepdims=True)


def d_m(d_n, g, m):
    return -(d_n * g).sum(-1, keepdims=True) / m**2


def d_g(d_n, m):
    return d_n / m  # public kernels had this one: what is forgotten?


def d_x(d_y, d_g, gamma, n, x, g):
    return d_y * (gamma * n + 1) + d_g * x / g
