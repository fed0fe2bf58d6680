"""What every normalization layer asks about shapes, once; and the mean that all of them subtract."""

from __future__ import annotations

from math import prod
from typing import Any

from minigrad import backend, broadcast_to, primitive
from minigrad.core.errors import describe, error
from minigrad.kernels import normalize
from minigrad.ops.elementwise import require_floating


def _missing(layer: str, name: str, shape: Any) -> Exception:
    """The error for a parameter that is None: a module makes its own, a function has no default for them."""
    made = f"minigrad.{'ones' if name in ('gamma', 'running_var') else 'zeros'}"
    return error(TypeError, layer, got=f"{name}=None", needs=f"a Tensor{f' of shape {tuple(shape)}' if shape else ''}",
                 fix=f"{name}={made}({tuple(shape) if shape else 'shape'}), or the module, which makes its parameters itself")


def one_dtype(layer: str, x: Any, **parameters: Any) -> tuple[Any, ...]:
    """The parameters and statistics in the dtype of x, which integers follow. (Where x is float16, all are float32 here.)

    Raises:
        TypeError: one is of another floating dtype than x.
    """
    dtype = x.dtype
    for name, p in parameters.items():
        if p is None:
            raise _missing(layer, name, ())
        if p.dtype != dtype and p.dtype.kind == dtype.kind == "f":
            raise error(TypeError, layer, got=f"{name} of dtype {p.dtype} for x of dtype {dtype}",
                        needs="one floating dtype (float32 also beside float16 x): nothing is converted silently", fix=f"{name}.astype('{x.dtype}')")
    return tuple([p if p.dtype.kind == "f" else p.astype(x.dtype) for p in parameters.values()])


def per_channel(layer: str, x: Any, spatial: int = 0, **parameters: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """The axes over which a channel of x (N, C, *spatial) extends, and the (C,) parameters reshaped to (1, C, 1, ...).

    Raises:
        ValueError: x has fewer than 2 + `spatial` axes, or a parameter is not of shape (C,).
        TypeError: x is not floating, or a parameter has another dtype.
    """
    if x.dtype.kind != "f":
        require_floating(layer, x=x, **parameters)
    if x.ndim < 2 + spatial:
        raise error(ValueError, layer, got=describe(x), needs=f"x of shape (N, C, *spatial){'' if spatial else ' or (N, C)'}",
                    fix="reshape x; the batch axis comes first, then channels")
    channels = x.shape[1]
    for name, p in parameters.items():
        if p is None:
            raise _missing(layer, name, (channels,))
        if p.shape != (channels,):
            raise error(ValueError, layer, got=f"{name}: {describe(p)} for x of shape {tuple(x.shape)}",
                        needs=f"shape ({channels},): one value for each channel", fix="channels are axis 1 (NCHW)")
    shape = (1, channels) + (1,) * (x.ndim - 2)
    return (0, *range(2, x.ndim)), tuple([p.reshape(shape) for p in one_dtype(layer, x, **parameters)])


@primitive(x=lambda g, x_shape, axes: broadcast_to(g * (1 / (prod(x_shape[i] for i in axes) or 1)), x_shape))
def exact_mean(xp: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
    """The mean over `axes`, kept as size 1, that `minigrad.moments` finds too: of equal numbers it is that number, to the last bit.

    A plain mean is not: in float32 that of 333333.3, …, 333333.3 may be off by 1/32. Divided by √ε, that would be far from 0.
    """
    return normalize.moments(xp, x, axes)[0]


def trailing(layer: str, x: Any, **parameters: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """The last axes of x, those over which parameters of this shape extend, and the parameters, which follow x if they are integers.

    Raises:
        ValueError: a parameter's shape is not the end of x's, or not that of the others, or is empty.
        TypeError: x is not floating, or a parameter has another dtype.
    """
    if x.dtype.kind != "f":
        require_floating(layer, x=x, **parameters)
    ndim = getattr(next(iter(parameters.values())), "ndim", 0)
    for name, p in parameters.items():
        if p is None:
            raise _missing(layer, name, x.shape[1:])
        if not 0 < ndim <= x.ndim or tuple(x.shape[-ndim:]) != tuple(p.shape) or not p.size:
            raise error(ValueError, layer, got=f"{name}: {describe(p)} for x of shape {tuple(x.shape)}",
                        needs="the shape of x's last axes, the ones to normalize over", fix="give every parameter one shape, x.shape[k:]")
    return tuple(range(x.ndim - ndim, x.ndim)), one_dtype(layer, x, **parameters)


def refuse_constant_channels(layer: str, var: Any, eps: float, what: str = "a constant channel", x: Any = None, axes: Any = None) -> None:
    """With ε = 0 a constant channel divides by zero: an error on the host; on a GPU, where looking would wait, NaN.

    With x and the axes of its means, rounding hides nothing: the mean of ten times 0.7 need not be 0.7, nor the variance 0.
    """
    if not eps >= 0:
        raise error(ValueError, layer, got=f"eps={eps}", needs="eps of at least 0", fix="1e-5 is the usual value")
    data = getattr(var, "_data", var)
    if eps != 0 or backend.name_of(backend.np.asarray(data) if isinstance(data, backend.np.generic) else data) != "numpy":
        return
    values = getattr(x, "_data", x)
    if (data == 0).any() or (values is not None and values.size and (values.max(axis=axes) == values.min(axis=axes)).any()):
        raise error(ValueError, layer, got=f"{what} and eps=0", needs="no division by zero: eps > 0, or other data", fix="use eps=1e-5")
