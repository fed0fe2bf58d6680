"""Pooling of images (N, C, H, W) as modules."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..ops.neural import Pair
from .module import Module


class MaxPool2d(Module):
    """Largest value of each window; `stride` defaults to `kernel_size`, padding counts as −∞."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> (N, C, H', W')."""
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(MaxPool2d):
    """Mean of each window; with `count_include_pad` the zeros of the padding count."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, *,
                 count_include_pad: bool = True) -> None:
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> (N, C, H', W')."""
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.count_include_pad)


class AdaptiveAvgPool2d(Module):
    """Means over a grid of `output_size` windows that cover the image; 1 is global average pooling."""

    def __init__(self, output_size: Pair) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """x (N, C, H, W) -> (N, C, *output_size)."""
        return ops.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"output_size={self.output_size}"


__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]
