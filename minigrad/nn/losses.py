"""Loss functions as modules: each calls the op of the same name, whose docstring has the formula. Arguments in PyTorch's order."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core.tensor import Tensor, tensor
from ..ops.losses import reduction_of
from .module import Module


class _Loss(Module):
    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction_of(type(self).__name__, reduction, size_average, reduce)

    def _register_weights(self, **weights: Any) -> None:
        """As buffers, like PyTorch: they move and are saved with the module."""
        for name, value in weights.items():
            self.register_buffer(name, value if value is None or isinstance(value, Tensor) else tensor(value))


class CrossEntropyLoss(_Loss):
    """−log softmax of the target class: logits (N, C, ...), labels (N, ...) or class probabilities (N, C, ...)."""

    weight: Any

    def __init__(self, weight: Any = None, size_average: Any = None, ignore_index: int = -100, reduce: Any = None, reduction: str = "mean",
                 label_smoothing: float = 0.0) -> None:
        super().__init__(size_average, reduce, reduction)
        self._register_weights(weight=weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, logits: Any, target: Any) -> Any:
        """The loss, a scalar unless reduction="none"."""
        return ops.cross_entropy(logits, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
                                 label_smoothing=self.label_smoothing)


class NLLLoss(_Loss):
    """−log p of the target class: log-probabilities (N, C, ...), as from `LogSoftmax(1)`, and labels (N, ...)."""

    weight: Any

    def __init__(self, weight: Any = None, size_average: Any = None, ignore_index: int = -100, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)
        self._register_weights(weight=weight)
        self.ignore_index = ignore_index

    def forward(self, log_probabilities: Any, target: Any) -> Any:
        """The loss, a scalar unless reduction="none"."""
        return ops.nll_loss(log_probabilities, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class MSELoss(_Loss):
    """(x − target)², for equal shapes."""

    def forward(self, x: Any, target: Any) -> Any:
        """The loss, a scalar unless reduction="none"."""
        return ops.mse_loss(x, target, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """−t log σ(x) − (1 − t) log(1 − σ(x)), for equal shapes and targets in [0, 1]."""

    weight: Any
    pos_weight: Any

    def __init__(self, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(size_average, reduce, reduction)
        self._register_weights(weight=weight, pos_weight=pos_weight)

    def forward(self, x: Any, target: Any) -> Any:
        """The loss, a scalar unless reduction="none"."""
        return ops.binary_cross_entropy_with_logits(x, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight)


__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss", "NLLLoss"]
