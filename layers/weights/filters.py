"""What every weight normalization asks about weights (out, in, *kernel), once: their filters, one for each output."""

from __future__ import annotations

from math import prod
from typing import Any

from minigrad import backend, reshape
from minigrad.core.errors import describe, error
from minigrad.ops.elementwise import require_floating

from ..shapes import one_dtype


def per_filter(layer: str, v: Any, **parameters: Any) -> tuple[tuple[int, ...], int, tuple[Any, ...]]:
    """The axes over which a filter of v (out, in, *kernel) extends, its number of elements d, and the (out,) parameters
    reshaped to (out, 1, ...).

    Raises:
        ValueError: v has fewer than two axes or no elements, or a parameter is not of shape (out,).
        TypeError: v is not floating, or a parameter has another dtype.
    """
    if v.dtype.kind != "f":
        require_floating(layer, v=v, **parameters)
    if v.ndim < 2 or not v.size:
        raise error(ValueError, layer, got=describe(v), needs="weights of shape (out, in) or (out, in, *kernel)",
                    fix="a filter lies along all axes except the first")
    for name, p in parameters.items():
        if tuple(p.shape) != (v.shape[0],):
            raise error(ValueError, layer, got=f"{name}: {describe(p)} for weights of shape {tuple(v.shape)}",
                        needs=f"shape ({v.shape[0]},): one value for each filter", fix="filters are axis 0 (out)")
    shape = (-1,) + (1,) * (v.ndim - 1)
    return tuple(range(1, v.ndim)), prod(v.shape[1:]), tuple(reshape(p, shape) for p in one_dtype(layer, v, **parameters))


def refuse_flat_filters(layer: str, v: Any, *, eps: float = 0.0, centred: bool = True) -> None:
    """With ε = 0 a filter of equal elements (`centred`), or of zeros, divides by zero: an error on the host, else NaN or noise.

    Equal means up to rounding: what centring leaves of such a filter is noise of any direction.
    """
    if eps < 0:
        raise error(ValueError, layer, got=f"eps={eps}", needs="eps of at least 0", fix="1e-5 is the usual value")
    data = getattr(v, "_data", v)
    if eps > 0 or backend.name_of(data) != "numpy":  # looking would wait for the device
        return
    rows = data.reshape(data.shape[0], -1)
    size = abs(rows).max(axis=1)
    flat = rows.max(axis=1) - rows.min(axis=1) <= 4 * backend.np.finfo(data.dtype).eps * size if centred else size == 0
    if flat.any():
        what, needs = ("equal elements", "filters with some spread") if centred else ("zeros", "filters with some length")
        raise error(ValueError, layer, got=f"a filter of {what} (number {int(flat.argmax())})", needs=f"{needs}: it is divided by",
                    fix="initialize the weights at random")
