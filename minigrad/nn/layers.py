"""Layers with parameters, and the layers that only reshape or drop.

Initial values are PyTorch's defaults: weights and biases uniform in ±1/√fan_in, drawn in the order weight, bias.
"""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..core import backend
from ..core.errors import describe, error, integer, left_out
from ..core.tensor import no_grad
from ..ops.elementwise import require_floating
from ..ops.neural import Pair, _pair, padding_row, string_padding
from . import init
from .module import Module
from .parameter import Parameter


def _empty(shape: tuple[int, ...], dtype: Any) -> Parameter:
    """A parameter on the current backend, still without values."""
    xp = backend.get(backend.current_name())
    return Parameter(xp.empty(shape, dtype=backend.default_dtype if dtype is None else dtype))


def no_device(op: str, device: Any) -> None:
    """Refuse PyTorch's `device`: data decides where a layer computes."""
    left_out(op, "device", device, None, "minigrad.use('cupy') before the layers are made, or model.to('cupy')")


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
        device: left out; see `Module.to`.
        dtype: of the parameters; default float32.

    Shapes: x (..., I) -> (..., O); weight (O, I), bias (O,).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: None = None, dtype: Any = None) -> None:
        super().__init__()
        no_device("Linear", device)
        self.in_features, self.out_features = integer("Linear", "in_features", in_features, 1), integer("Linear", "out_features", out_features, 1)
        self.weight = _empty((self.out_features, self.in_features), dtype)
        self.bias: Parameter | None
        self.register_parameter("bias", _empty((self.out_features,), dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new values for the parameters."""
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


_PADDING = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # PyTorch's names and NumPy's


class Conv2d(Module):
    """2-D convolution (cross-correlation) of images.

    Args:
        in_channels, out_channels: C and O.
        kernel_size, stride, dilation: integers or (height, width) pairs.
        padding: an integer or pair of pixels on both sides, "valid" (none), or "same": the output has the size of the
            input (stride 1; where the total is odd, the extra row or column is below or right, as in PyTorch).
        groups: C and O are cut into this many groups that do not see each other.
        bias: learn one bias for each output channel.
        padding_mode: what the padding is: "zeros", "reflect" (a mirror at the outermost pixel), "replicate" (that pixel), or
            "circular" (the other side).
        device: left out; see `Module.to`.
        dtype: of the parameters; default float32.

    Shapes: x (N, C, H, W) -> (N, O, H', W'), see `minigrad.conv2d`; weight (O, C / groups, kh, kw), bias (O,).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1,
                 padding: Pair | str = 0, dilation: Pair = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: None = None, dtype: Any = None) -> None:
        super().__init__()
        no_device("Conv2d", device)
        in_channels, out_channels = integer("Conv2d", "in_channels", in_channels, 1), integer("Conv2d", "out_channels", out_channels, 1)
        groups = integer("Conv2d", "groups", groups, 1)
        if in_channels % groups or out_channels % groups:
            raise error(ValueError, "Conv2d", got=f"{in_channels} and {out_channels} channels, groups={groups}",
                        needs="both numbers of channels divisible by groups", fix="groups=1, or other numbers of channels")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = _pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride, self.dilation = _pair("Conv2d", "stride", stride, 1), _pair("Conv2d", "dilation", dilation, 1)
        self.padding: Any = padding if isinstance(padding, str) else _pair("Conv2d", "padding", padding, 0)
        self._borders = [(p, p) for p in self.padding]
        if isinstance(padding, str):
            self._borders = [*string_padding("Conv2d", padding, self.kernel_size, self.stride, self.dilation)]
        if padding_mode not in _PADDING:
            raise error(ValueError, "Conv2d", got=f"padding_mode={padding_mode!r}", needs=f"one of {[*_PADDING]}", fix="check the spelling")
        self.padding_mode = padding_mode
        self.weight = _empty((out_channels, in_channels // groups, *self.kernel_size), dtype)
        self.bias: Parameter | None
        self.register_parameter("bias", _empty((out_channels,), dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new values for the parameters."""
        _reset(self.weight, self.bias)

    def forward(self, x: Any) -> Any:
        """x (N, in_channels, H, W) -> (N, out_channels, H', W')."""
        padding = self.padding
        if self.padding_mode != "zeros":
            if getattr(x, "ndim", None) == 4:  # else conv2d says what it needs
                x = ops.pad(x, ((0, 0), (0, 0), *self._borders), mode=_PADDING[self.padding_mode])
            padding = 0
        return ops.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        given = {"padding": (self.padding, (0, 0)), "dilation": (self.dilation, (1, 1)), "groups": (self.groups, 1)}
        text += "".join(f", {name}={value}" for name, (value, default) in given.items() if value != default)
        return text + (", bias=False" if self.bias is None else "") + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


class Embedding(Module):
    """A table of learned vectors, initially standard normal.

    Args:
        num_embeddings, embedding_dim: the shape of the table.
        padding_idx: this row is 0 at first and gets no gradient.
        max_norm, norm_type, scale_grad_by_freq, sparse, device: left out.
        dtype: of the table; default float32.

    Shapes: integer indices (...) -> (..., embedding_dim); weight (num_embeddings, embedding_dim).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, max_norm: None = None, norm_type: float = 2.0,
                 scale_grad_by_freq: bool = False, sparse: bool = False, *, device: None = None, dtype: Any = None) -> None:
        super().__init__()
        no_device("Embedding", device)
        left_out("Embedding", "max_norm", max_norm, None, "rescale the rows of weight.data after each step")
        left_out("Embedding", "norm_type", float(norm_type), 2.0, "it belongs to max_norm: rescale the rows of weight.data after each step")
        left_out("Embedding", "scale_grad_by_freq", scale_grad_by_freq, False, "divide by the counts in a hook: weight.register_hook(...)")
        left_out("Embedding", "sparse", sparse, False, "gradients are dense, with the same values")
        self.num_embeddings = integer("Embedding", "num_embeddings", num_embeddings, 1)
        self.embedding_dim = integer("Embedding", "embedding_dim", embedding_dim, 1)
        self.padding_idx = None if padding_idx is None else padding_row("Embedding", padding_idx, self.num_embeddings)
        self.weight = _empty((self.num_embeddings, self.embedding_dim), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new values for the vectors."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(self, indices: Any) -> Any:
        """Integer indices (...) -> (..., embedding_dim)."""
        return ops.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.num_embeddings}, {self.embedding_dim}" + (f", padding_idx={self.padding_idx}" if self.padding_idx is not None else "")


class Dropout(Module):
    """In training each element is 0 with probability `p`, the others are divided by 1 − p; in evaluation x itself.

    `inplace` changes nothing: ops never write into their input.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise error(ValueError, "Dropout", got=f"p={p!r}", needs="a probability from 0 to 1",
                        fix="p is the fraction that is dropped")
        self.p, self.inplace = p, inplace

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
