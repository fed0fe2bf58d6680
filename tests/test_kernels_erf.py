"""The error function against Python's, at every size of x, and what it promises at the ends."""

import math

import numpy as np
import pytest

from helpers import to_device, to_host
from minigrad.kernels import erf, threads

BOUNDS = {"float64": (4e-16, 1.2e-15), "float32": (1.6e-7, 2.6e-7), "float16": (5e-4, 1e-3)}  # absolute, relative: 2 and 6 roundings


def points(dtype):
    """Densely from -7 to 7, at the Chebyshev points' order of magnitude, and over all exponents."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    exponents = rng.uniform(math.log10(info.smallest_normal) + 1, 1, 50_000)
    return np.concatenate([np.linspace(-7, 7, 200_001), rng.standard_normal(100_000), rng.choice([-1, 1], 50_000) * 10.0**exponents]).astype(dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_erf_is_within_its_stated_errors(dtype, xp):
    x = points(dtype)
    y, expected = to_host(erf.erf(xp, to_device(xp, x))), np.vectorize(math.erf)(x.astype(float))
    assert y.dtype == dtype and y.shape == x.shape
    error = np.abs(y.astype(float) - expected)
    absolute, relative = BOUNDS[dtype]
    normal = np.abs(expected) >= np.finfo(dtype).smallest_normal
    assert error.max() <= absolute and (error[normal] / np.abs(expected[normal])).max() <= relative
    assert np.abs(y).max() == 1 and (y[np.abs(x) >= 6] == np.sign(x[np.abs(x) >= 6])).all()
    assert np.array_equal(to_host(erf.erf(xp, to_device(xp, -x))), -y)


def test_erf_at_the_ends(xp):
    x = np.array([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, 5e-324, 1e-200, -1e-160])
    y = to_host(erf.erf(xp, to_device(xp, x)))
    np.testing.assert_allclose(y, [math.nan, 1, -1, 0, 0, 1, 5e-324, 2e-200 / math.sqrt(math.pi), -2e-160 / math.sqrt(math.pi)], rtol=1e-15)
    assert np.signbit(y[4]) and not np.signbit(y[3])


@pytest.mark.parametrize("dtype", BOUNDS)
def test_gelu_is_the_normal_distribution_function_times_x(dtype, xp):
    x = points(dtype)
    y = to_host(erf.gelu(xp, to_device(xp, x)))
    expected = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(float)])
    assert y.dtype == dtype and (np.abs(y - expected) <= 2 * BOUNDS[dtype][0] * np.maximum(np.abs(x.astype(float)), 1e-3)).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3), (1 << 15,), (7, 5000)])
def test_any_shape_order_block_and_number_of_threads_gives_the_same(monkeypatch, rng, shape):
    x = np.asarray(rng.standard_normal(shape))
    expected = np.vectorize(math.erf, otypes=[float])(x)
    for block, number in ((1 << 14, 1), (100, 1), (100, 3), (1 << 30, 1)):
        monkeypatch.setattr(erf, "_BLOCK", block)
        monkeypatch.setattr(threads, "_threads", number)
        for array in (x, np.asarray(x, order="F"), np.repeat(x[..., None], 2, -1)[..., 0]):
            y = erf.erf(np, array)
            assert np.shape(y) == shape and np.allclose(y, expected, rtol=1e-15, atol=0)
