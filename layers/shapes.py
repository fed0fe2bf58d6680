"""What every normalization layer asks about shapes, once."""

from __future__ import annotations

from typing import Any

from minigrad import backend, reshape
from minigrad.errors import describe, error


def per_channel(layer: str, x: Any, **parameters: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """The axes over which a channel of x (N, C, *spatial) extends, and the (C,) parameters reshaped to (1, C, 1, ...).

    Raises:
        ValueError: x has fewer than two axes, or a parameter is not of shape (C,).
    """
    if x.ndim < 2:
        raise error(ValueError, layer, got=describe(x), needs="x of shape (N, C) or (N, C, *spatial)", fix="reshape x; the batch axis comes first")
    for name, p in parameters.items():
        if tuple(p.shape) != (x.shape[1],):
            raise error(ValueError, layer, got=f"{name}: {describe(p)} for x of shape {tuple(x.shape)}", needs=f"shape ({x.shape[1]},): one value for each channel",
                        fix="channels are axis 1 (NCHW)")
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return (0, *range(2, x.ndim)), tuple(reshape(p, shape) for p in parameters.values())


def refuse_constant_channels(layer: str, var: Any, eps: float) -> None:
    """With ε = 0 a constant channel divides by zero: an error on the host; on a GPU, where looking would wait, NaN."""
    if eps < 0:
        raise error(ValueError, layer, got=f"eps={eps}", needs="eps of at least 0", fix="1e-5 is the usual value")
    data = getattr(var, "_data", var)
    if eps == 0 and backend.name_of(backend.np.asarray(data) if isinstance(data, backend.np.generic) else data) == "numpy" and (data == 0).any():
        raise error(ValueError, layer, got="a constant channel and eps=0", needs="some spread in every channel, or eps > 0", fix="use eps=1e-5")
