"""Pooling of images (N, C, H, W) as modules."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core.errors import left_out
from ..ops.neural import Pair
from .module import Module


class MaxPool2d(Module):
    """Largest value of each window; `stride` defaults to `kernel_size`, padding counts as −∞. See `minigrad.max_pool2d`."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1, return_indices: bool = False,
                 ceil_mode: bool = False) -> None:
        super().__init__()
        left_out("MaxPool2d", "return_indices", return_indices, False, "the backward pass needs no indices; there is no MaxUnpool2d")
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> (N, C, H', W')."""
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
                f"ceil_mode={self.ceil_mode}")


class AvgPool2d(Module):
    """Mean of each window; with `count_include_pad` the zeros of the padding count. See `minigrad.avg_pool2d`."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                 divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode, self.count_include_pad, self.divisor_override = ceil_mode, count_include_pad, divisor_override

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> (N, C, H', W')."""
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Means over a grid of `output_size` windows that cover the image; 1 is global average pooling, None keeps a size."""

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> (N, C, *output_size)."""
        return ops.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"output_size={self.output_size}"


__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]
