"""The bit-mask `where` gives exactly NumPy's values, for every kind of operand and for NaN, infinities and signed zeros."""

import numpy as np
import pytest

from minigrad.kernels import select


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(3,), (100, 321), (2, 8, 64, 65)])
@pytest.mark.parametrize("kind", ["arrays", "number last", "zero last", "number first", "strided", "broadcast"])
def test_where_equals_numpys(rng, dtype, size, kind):
    cond = rng.random(size) < 0.5
    a, b = (rng.normal(size=size).astype(dtype) for _ in range(2))
    for x in (a, b):
        x.reshape(-1)[:3] = [np.nan, np.inf, -0.0]
    if kind == "number last":
        b = -1.5
    elif kind == "zero last":
        b = 0.0
    elif kind == "number first":
        a = 2.0
    elif kind == "strided":
        a = np.repeat(a, 2, axis=-1)[..., ::2]
    elif kind == "broadcast":
        b = b[..., :1]
    found, expected = select.where(np, cond, a, b), np.where(cond, a, b)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
