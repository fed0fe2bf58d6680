"""Small tools for tests: crossing between host and device, and comparing."""

import numpy as np

from minigrad.check import relative


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
    """minigrad.check.relative.relative_error of results whose shapes and dtypes must be equal."""
    a, b = to_host(a), to_host(b)
    assert a.shape == b.shape, f"shapes differ: {a.shape} and {b.shape}"
    assert a.dtype == b.dtype, f"dtypes differ: {a.dtype} and {b.dtype}"
    return relative.relative_error(a, b)


def random_cotangent(rng, shape, dtype):
    """A normal random NumPy array: an output gradient that is never constant, so that no mean subtraction hides it."""
    return rng.standard_normal(shape).astype(dtype)


def luminance(colour):
    """As WCAG 2 defines it, of "#rrggbb"."""
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(one, other):
    """Of two colours, as WCAG 2 defines it: text wants 4.5."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
