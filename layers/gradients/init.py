"""Orthonormal initialization: filters that are orthonormal rows (or, where there are more filters than inputs, columns).

A random square orthonormal matrix keeps every length, forward and backward; of a wide or tall one all singular values are 1,
too. Convolution kernels are flattened to (out, in · kernel). The numbers come from `nn.init.orthogonal_`: Q of a Gaussian's
QR decomposition, with the signs of R's diagonal fixed.

Source: Saxe et al. [saxe2014] (orthogonal initialization); bn-jacobian's paper (Xie, Xiong and Pu [xie2017]) starts all its layers like this.
"""

from __future__ import annotations

from typing import TypeVar

import minigrad as mg
from minigrad import nn
from minigrad.core.errors import describe, error

T = TypeVar("T", bound=mg.Tensor)
M = TypeVar("M", bound=nn.Module)


def orthonormal_(tensor: T, gain: float = 1.0, *, groups: int = 1) -> T:
    """Fill weights (out, in, *kernel) with orthonormal filters times `gain`, in place.

    Args:
        groups: of a grouped convolution: its filters see different inputs in each group, so each group of rows is
            orthonormal on its own. A depthwise convolution gets filters of length `gain`.

    Returns:
        The tensor.

    >>> import minigrad as mg, layers
    >>> w = layers.orthonormal_(mg.tensor([[0.0] * 4] * 2, dtype="float64"))
    >>> abs((w @ w.T).numpy() - [[1, 0], [0, 1]]).max() < 1e-15
    np.True_
    """
    if groups == 1:
        return nn.init.orthogonal_(tensor, gain)
    if groups < 1 or tensor.shape[0] % groups:
        raise error(ValueError, "orthonormal_", got=f"{describe(tensor)}, groups={groups}",
                    needs="a number of filters that groups divides", fix="pass conv.groups")
    rows = tensor.shape[0] // groups
    with mg.no_grad():
        for i in range(0, tensor.shape[0], rows):
            tensor[i:i + rows] = nn.init.orthogonal_(tensor[i:i + rows].clone(), gain)
    return tensor


def orthonormal_init(model: M, gain: float = 1.0) -> M:
    """`orthonormal_` on the weight of every Linear and Conv2d in `model`, and zero on their biases. Returns the model.

    Initialize first and `parametrize` afterwards: a computed weight has no values to set.
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            orthonormal_(module.weight, gain, groups=getattr(module, "groups", 1))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


__all__ = ["orthonormal_", "orthonormal_init"]
