"""Small tools for tests: crossing between host and device, and comparing."""

import numpy as np


def to_host(value):
    """`value` (a Tensor, or an array of any backend) as a NumPy array."""
    if isinstance(value, np.ndarray | np.generic | int | float | bool):
        return np.asarray(value)
    if hasattr(value, "get"):  # an array of CuPy or of the fake device
        return value.get()
    return to_host(value.data)  # a Tensor


def to_device(xp, array):
    """A new array of the namespace `xp` with the values and dtype of the NumPy array."""
    return xp.array(array)


def relative_error(a, b):
    """||a - b|| / ||b|| in float64; the error of 0 against 0 is 0. Shapes and dtypes must be equal.

    NaN on either side gives NaN, which is below no tolerance.
    """
    a, b = to_host(a), to_host(b)
    assert a.shape == b.shape, f"shapes differ: {a.shape} and {b.shape}"
    assert a.dtype == b.dtype, f"dtypes differ: {a.dtype} and {b.dtype}"
    a, b = a.astype(np.float64), b.astype(np.float64)
    error, size = np.linalg.norm(a - b), np.linalg.norm(b)
    if size == 0:
        return float(error if np.isnan(error) else 0.0 if error == 0 else np.inf)
    return float(error / size)


def random_cotangent(rng, shape, dtype):
    """A normal random NumPy array: an output gradient that is never constant, so that no mean subtraction hides it."""
    return rng.standard_normal(shape).astype(dtype)
