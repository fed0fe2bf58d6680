# Empty: your own function

import numpy as np

import minigrad as mg

inputs = {"x": np.zeros((4, 3))}


def forward(x):
    return mg.named("y", mg.sigmoid(x))


def d_x(d_y, y):
    raise NotImplementedError
