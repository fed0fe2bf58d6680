"""Layers with parameters, and the layers that only reshape or drop.

Initial values are PyTorch's defaults: weights and biases uniform in ±1/√fan_in, drawn in the order weight, bias.
"""

from __future__ import annotations

import math
from typing import Any

from .. import backend, ops
from ..errors import describe, error
from ..ops.elementwise import require_floating
from ..ops.neural import Pair, _pair
from . import init
from .module import Module
from .parameter import Parameter


def _empty(op: str, shape: tuple[Any, ...], dtype: Any) -> Parameter:
    """A parameter on the current backend, still without values."""
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise error(ValueError, op, got=f"the sizes {shape}", needs="non-negative integers",
                    fix="check the order of the arguments")
    xp = backend.get(backend.current_name())
    return Parameter(xp.empty(shape, dtype=backend.default_dtype if dtype is None else dtype))


def _reset(weight: Parameter, bias: Parameter | None) -> None:
    """PyTorch's default for linear and convolution layers."""
    init.kaiming_uniform_(weight, a=math.sqrt(5))  # = ±1/√fan_in
    if bias is not None:
        bound = 1 / math.sqrt(max(math.prod(weight.shape[1:]), 1))
        init.uniform_(bias, -bound, bound)


class Identity(Module):
    """x -> x; takes and ignores any arguments, so that it can stand in for any layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        """x."""
        return x


class Linear(Module):
    """x Wᵀ + b.

    Args:
        in_features, out_features: I and O.
        bias: learn b.
        dtype: of the parameters; default float32.

    Shapes: x (..., I) -> (..., O); weight (O, I), bias (O,).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = _empty("Linear", (out_features, in_features), dtype)
        self.bias: Parameter | None
        self.register_parameter("bias", _empty("Linear", (out_features,), dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        _reset(self.weight, self.bias)

    def forward(self, x: Any) -> Any:
        """x (..., in_features) -> (..., out_features)."""
        if not getattr(x, "shape", ()) or x.shape[-1] != self.in_features:
            raise error(ValueError, "Linear", got=describe(x), needs=f"shape (..., {self.in_features})",
                        fix="check in_features; images go through nn.Flatten() first")
        if x.dtype.kind != "f":
            require_floating("Linear", x=x, weight=self.weight)
        y = ops.matmul(x, ops.transpose(self.weight))
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Conv2d(Module):
    """2-D convolution (cross-correlation) of images.

    Args:
        in_channels, out_channels: C and O.
        kernel_size, stride, dilation: integers or (height, width) pairs.
        padding: an integer or pair of zeros on both sides, "valid" (none), or "same": the output has the size of the
            input (stride 1; where the total is odd, the extra row or column is below or right, as in PyTorch).
        groups: C and O are cut into this many groups that do not see each other.
        bias: learn one bias for each output channel.
        dtype: of the parameters; default float32.

    Shapes: x (N, C, H, W) -> (N, O, H', W'), see `minigrad.conv2d`; weight (O, C / groups, kh, kw), bias (O,).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1,
                 padding: Pair | str = 0, dilation: Pair = 1, groups: int = 1, bias: bool = True, *,
                 dtype: Any = None) -> None:
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise error(ValueError, "Conv2d", got=f"{in_channels} and {out_channels} channels, groups={groups}",
                        needs="both numbers of channels divisible by groups", fix="groups=1, or other numbers of channels")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = _pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride, self.dilation = _pair("Conv2d", "stride", stride, 1), _pair("Conv2d", "dilation", dilation, 1)
        self.padding: Any = padding if padding in ("same", "valid") else _pair("Conv2d", "padding", padding, 0)
        if padding == "same" and self.stride != (1, 1):
            raise error(ValueError, "Conv2d", got=f"padding='same' and stride={stride!r}", needs="stride 1 for 'same'",
                        fix="padding=kernel_size // 2 halves the size with stride 2")
        self.weight = _empty("Conv2d", (out_channels, in_channels // groups, *self.kernel_size), dtype)
        self.bias: Parameter | None
        self.register_parameter("bias", _empty("Conv2d", (out_channels,), dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        _reset(self.weight, self.bias)

    def forward(self, x: Any) -> Any:
        """x (N, in_channels, H, W) -> (N, out_channels, H', W')."""
        padding = self.padding
        if padding == "valid":
            padding = 0
        elif padding == "same":
            total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
            padding = tuple(t // 2 for t in total)
            if any(t % 2 for t in total):
                x = ops.pad(x, ((0, 0), (0, 0), *((0, t % 2) for t in total)))
        return ops.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        given = {"padding": (self.padding, (0, 0)), "dilation": (self.dilation, (1, 1)), "groups": (self.groups, 1)}
        text += "".join(f", {name}={value}" for name, (value, default) in given.items() if value != default)
        return text + (", bias=False" if self.bias is None else "")


class Embedding(Module):
    """A table of learned vectors, initially standard normal.

    Shapes: integer indices (...) -> (..., embedding_dim); weight (num_embeddings, embedding_dim).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, dtype: Any = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = _empty("Embedding", (num_embeddings, embedding_dim), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew."""
        init.normal_(self.weight)

    def forward(self, indices: Any) -> Any:
        """Integer indices (...) -> (..., embedding_dim)."""
        return ops.embedding(indices, self.weight)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.num_embeddings}, {self.embedding_dim}"


class Dropout(Module):
    """In training each element is 0 with probability `p`, the others are divided by 1 − p; in evaluation x itself."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise error(ValueError, "Dropout", got=f"p={p!r}", needs="a probability from 0 to 1",
                        fix="p is the fraction that is dropped")
        self.p = p

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"p={self.p}"


class Flatten(Module):
    """Merges the axes from `start_dim` to `end_dim` (both included) into one: (N, C, H, W) -> (N, CHW)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        """x -> the same elements with fewer axes."""
        (start,), (end,) = (ops.shape.normalize_axis("Flatten", d, x) for d in (self.start_dim, self.end_dim))
        if start > end:
            raise error(ValueError, "Flatten", got=f"axes {start} to {end} of {describe(x)}",
                        needs="start_dim before end_dim", fix="check the number of axes")
        return ops.reshape(x, (*x.shape[:start], math.prod(x.shape[start:end + 1]), *x.shape[end + 1:]))

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


__all__ = ["Conv2d", "Dropout", "Embedding", "Flatten", "Identity", "Linear"]
