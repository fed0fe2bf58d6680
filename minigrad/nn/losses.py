"""Loss functions as modules: each calls the op of its name, where the formula stands.

`reduction` is "mean", "sum" or "none"; it is a keyword, because PyTorch has outdated arguments in front of it.
"""

from __future__ import annotations

from typing import Any

from .. import ops
from .module import Module


class _Loss(Module):
    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction


class CrossEntropyLoss(_Loss):
    """−log softmax of the target class: logits (N, C, ...), labels (N, ...) or class probabilities (N, C, ...)."""

    def __init__(self, *, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction=reduction)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Any, target: Any) -> Any:
        """The loss, a scalar unless reduction="none"."""
        return ops.cross_entropy(logits, target, self.reduction, self.label_smoothing)


class NLLLoss(_Loss):
    """−log p of the target class: log-probabilities (N, C, ...), as from `LogSoftmax(1)`, and labels (N, ...)."""

    def forward(self, log_probabilities: Any, target: Any) -> Any:
        """The loss, a scalar unless reduction="none"."""
        return ops.nll_loss(log_probabilities, target, self.reduction)


class MSELoss(_Loss):
    """(x − target)², for equal shapes."""

    def forward(self, x: Any, target: Any) -> Any:
        """The loss, a scalar unless reduction="none"."""
        return ops.mse_loss(x, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """−t log σ(x) − (1 − t) log(1 − σ(x)), for equal shapes and targets in [0, 1]."""

    def forward(self, x: Any, target: Any) -> Any:
        """The loss, a scalar unless reduction="none"."""
        return ops.binary_cross_entropy_with_logits(x, target, self.reduction)


__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss", "NLLLoss"]
