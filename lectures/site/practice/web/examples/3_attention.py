# Attention: scores, softmax, and a weighted sum

import numpy as np

import minigrad as mg

inputs = {"q": np.zeros((4, 3)), "k": np.zeros((5, 3)), "v": np.zeros((5, 2))}


def forward(q, k, v):
    s = mg.named("s", (q @ k.T) / q.shape[1] ** 0.5)                   # (queries, keys)
    a = mg.named("a", mg.softmax(s, 1))
    return mg.named("y", a @ v)


def d_v(a, d_y):
    return a.T @ d_y


def d_a(d_y, v):
    return d_y @ v.T


def d_s(d_a, a):
    return a * d_a  # the diagonal of softmax's Jacobian. Is that all of it?


def d_q(d_s, k, q):
    return d_s @ k / q.shape[1] ** 0.5


def d_k(d_s, q):
    return d_s.T @ q / q.shape[1] ** 0.5
