"""Activation functions as modules: each calls the op of its name, where the formula stands."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..errors import error
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.relu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope·x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where x > 0, else alpha·(eˣ − 1)."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"alpha={self.alpha}"


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ)."""

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.tanh(x)


class GELU(Module):
    """½x(1 + tanh(√(2/π)(x + 0.044715 x³))): PyTorch's ``approximate="tanh"``, and here the only form."""

    def __init__(self, approximate: str = "tanh") -> None:
        super().__init__()
        if approximate != "tanh":
            raise error(ValueError, "GELU", got=f"approximate={approximate!r}",
                        needs="'tanh': the exact form needs erf, which NumPy has not",
                        fix="nn.GELU(); it differs from the exact form by less than 0.0005")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.gelu(x)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """log(1 + e^(beta·x)) / beta."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if not beta > 0:
            raise error(ValueError, "Softplus", got=f"beta={beta!r}", needs="a positive number", fix="beta=1.0")
        self.beta = beta

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.softplus(x) if self.beta == 1 else ops.softplus(x * self.beta) / self.beta

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"beta={self.beta}"


class Softmax(Module):
    """eˣ / Σ eˣ over the axis `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """log softmax over the axis `dim`; `NLLLoss` takes its result."""

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.log_softmax(x, self.dim)


__all__ = ["ELU", "GELU", "LeakyReLU", "LogSoftmax", "ReLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]
