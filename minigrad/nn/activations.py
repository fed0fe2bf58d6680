"""Activation functions as modules: each calls the op of the same name, whose docstring has the formula.

`inplace`, where PyTorch has it, is taken and changes nothing: results are the same, and ops never write into their input.
"""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core.errors import error, left_out
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.relu(x)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """x where x > 0, else negative_slope·x."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """x where x > 0, else alpha·(eˣ − 1)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


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
    """x·Φ(x), with Φ the normal distribution function; with ``approximate="tanh"`` the form by tanh, see `minigrad.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise error(ValueError, "GELU", got=f"approximate={approximate!r}", needs="'none' or 'tanh'", fix="nn.GELU() is the exact form")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """x -> the same shape."""
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """log(1 + e^(beta·x)) / beta: for all x, where PyTorch takes x itself above its `threshold` (with 20 the same within 2e-9)."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        left_out("Softplus", "threshold", float(threshold), 20.0, "minigrad.where(x > threshold / beta, x, softplus(x))")
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
