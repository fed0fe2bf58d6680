"""The costs of whitening: dbn's formulas with each other, and ours with what the code really multiplies."""

import doctest
import math

import numpy as np
import pytest

import layers
import minigrad as mg
from layers.whitening import cost
from minigrad.kernels import matmul as kernel

SIZES = {"m": 5, "h": 4, "w": 3}


def test_examples():
    assert doctest.testmod(cost).failed == 0


@pytest.mark.parametrize(("d", "k"), [(8, 2), (16, 16), (64, 16)])
def test_the_overhead_is_the_quotient_of_the_costs(d, k):
    quotient = cost.whitening(d, k, **SIZES) / cost.convolution(d, **SIZES, fh=3, fw=5)
    assert cost.relative_overhead(d, k, **SIZES, fh=3, fw=5) == pytest.approx(quotient, rel=1e-14)


@pytest.mark.parametrize(("d", "k"), [(8, 2), (6, 6), (12, 4)])
def test_products_are_those_of_the_code(d, k, monkeypatch):
    """Every matrix product of the stable form, forward and backward, counted where it is computed."""
    counts, real = [], kernel.matmul

    def counting(xp, a, b):
        counts.append(math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * a.shape[-2] * a.shape[-1] * b.shape[-1])
        return real(xp, a, b)
    monkeypatch.setattr(kernel, "matmul", counting)
    x = np.random.default_rng(0).normal(size=(SIZES["m"], d, SIZES["h"], SIZES["w"]))
    v = mg.tensor(x, requires_grad=True)
    y = layers.REGISTRY["decorrelated_batch_norm"].derived["stable"](v, eps=1e-5, group_size=k)
    mg.grad(y, [v], mg.tensor(x[::-1].copy()))
    assert sum(counts) == cost.products(d, k, **SIZES)
