"""Initial values, with the names and defaults of `torch.nn.init`.

Values are drawn on the host in float64 from minigrad's generator (`minigrad.seed`) and then rounded: one seed gives the
same parameters on every backend. Each function writes into its tensor in place and returns it.

    fan_in  = shape[1] · shape[2] · ...   inputs of one unit:  (out, in) or (out, in, *kernel)
    fan_out = shape[0] · shape[2] · ...   units that one input reaches
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from ..core import backend
from ..core.errors import describe, error
from ..core.storage import record_write
from ..core.tensor import Tensor

T = TypeVar("T", bound=Tensor)


def _write(op: str, tensor: T, values: Any) -> T:
    """Put a host array or a number into the buffer of `tensor`."""
    if not getattr(tensor, "is_leaf", False) or not backend.is_float(tensor.dtype):
        raise error(TypeError, f"init.{op}", got=describe(tensor), needs="a floating Tensor that is no result of an op",
                    fix="pass a Parameter, such as layer.weight")
    is_number = isinstance(values, (int, float))
    tensor._data[...] = values if is_number else backend.from_numpy(values.astype(tensor.dtype), tensor.backend)
    record_write(tensor._data, f"init.{op}")
    return tensor


def _fans(op: str, tensor: Any) -> tuple[int, int]:
    if getattr(tensor, "ndim", 0) < 2:
        raise error(ValueError, f"init.{op}", got=describe(tensor), needs="a weight of shape (out, in, ...)",
                    fix="use uniform_, normal_, zeros_ or ones_ for vectors")
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def constant_(tensor: T, val: float) -> T:
    """Every element `val`."""
    return _write("constant_", tensor, float(val))


def zeros_(tensor: T) -> T:
    """Every element 0."""
    return _write("zeros_", tensor, 0.0)


def ones_(tensor: T) -> T:
    """Every element 1."""
    return _write("ones_", tensor, 1.0)


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0) -> T:
    """Uniform from a to b."""
    return _write("uniform_", tensor, backend.generator().uniform(a, b, tensor.shape))


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0) -> T:
    """Normal with this mean and standard deviation."""
    return _write("normal_", tensor, backend.generator().normal(mean, std, tensor.shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights should be larger so that activations keep their size behind `nonlinearity`.

    Args:
        nonlinearity: "linear", "conv2d", "sigmoid" (1), "tanh" (5/3), "relu" (√2), "leaky_relu" (√(2/(1 + slope²)))
            or "selu" (3/4).
        param: the negative slope of leaky_relu (default 0.01).

    >>> calculate_gain("relu") ** 2
    2.0000000000000004
    """
    slope = 0.01 if param is None else param
    gains = {"linear": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2),
             "leaky_relu": math.sqrt(2 / (1 + slope**2)), "selu": 0.75}
    if nonlinearity not in gains:
        raise error(ValueError, "init.calculate_gain", got=f"{nonlinearity!r}", needs=f"one of {', '.join(gains)}",
                    fix="check the spelling")
    return gains[nonlinearity]


def xavier_uniform_(tensor: T, gain: float = 1.0) -> T:
    """Uniform ±gain·√(6 / (fan_in + fan_out)). Source: Glorot & Bengio [glorot2010]."""
    bound = gain * math.sqrt(6 / max(sum(_fans("xavier_uniform_", tensor)), 1))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: T, gain: float = 1.0) -> T:
    """Normal with standard deviation gain·√(2 / (fan_in + fan_out)). Source: Glorot & Bengio [glorot2010]."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / max(sum(_fans("xavier_normal_", tensor)), 1)))


def _kaiming_std(op: str, tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise error(ValueError, f"init.{op}", got=f"mode={mode!r}", needs="'fan_in' or 'fan_out'",
                    fix="check the spelling")
    fan = _fans(op, tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(tensor: T, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> T:
    """Uniform ±√3·gain/√fan. Source: He et al. [he2015].

    Args:
        a: negative slope of the leaky ReLU behind the layer.
        mode: "fan_in" keeps the size of activations, "fan_out" that of gradients.
        nonlinearity: see `calculate_gain`.
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: T, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> T:
    """Normal with standard deviation gain/√fan; arguments as `kaiming_uniform_`. Source: He et al. [he2015]."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))


def orthogonal_(tensor: T, gain: float = 1) -> T:
    """A random matrix with orthonormal rows or columns (whichever are fewer), times `gain`.

    The tensor counts as a matrix of shape[0] rows. Q of a Gaussian's QR decomposition, with the signs of R's diagonal
    made positive: that makes Q uniformly distributed. Source: Saxe et al. [saxe2014].
    """
    columns, _ = _fans("orthogonal_", tensor)
    rows = tensor.shape[0]
    gaussian = backend.generator().normal(size=(max(rows, columns), min(rows, columns)))
    q, r = backend.np.linalg.qr(gaussian)
    q = q * backend.np.where(r.diagonal() < 0, -1.0, 1.0)
    return _write("orthogonal_", tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


__all__ = ["calculate_gain", "constant_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "orthogonal_",
           "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_"]
