"""Losses, with the names, defaults and argument order of `torch.nn.functional`."""

from __future__ import annotations

from typing import Any

from ..core.backend import Array, Namespace
from ..core.by_hand import by_hand
from ..core.errors import describe, error
from ..core.primitive import primitive
from ..core.tensor import Value
from .elementwise import as_floating, astype, exp, not_equal, softplus, where
from .neural import check_range
from .reduce import _mean, _peak, _sum, log_softmax, mean
from .reduce import sum as sum_
from .shape import _reshape, expand_dims, reshape, squeeze, take, take_along_axis


def reduction_of(op: str, reduction: Any, size_average: Any, reduce: Any, short: Any = None) -> str:
    """The reduction. `size_average` and `reduce`, outdated in PyTorch, are None, or stand for it as `short` does: mse_loss(x, t, "sum")."""
    for value in (short, size_average, reduce):
        if isinstance(value, str):
            reduction = value
        elif value is not None:
            raise error(NotImplementedError, op, got=f"size_average or reduce: {describe(value)}, which minigrad leaves out", needs="None there",
                        fix="reduction='mean', 'sum' or 'none', by keyword; label_smoothing by keyword too")
    if reduction not in ("mean", "sum", "none"):
        raise error(ValueError, op, got=f"reduction={reduction!r}", needs="'mean', 'sum' or 'none'", fix="check the spelling")
    return reduction


def _reduced(op: str, losses: Value, reduction: str, weight: Value = None) -> Value:
    """`losses`, or their sum or mean; with the `weight` that is in them, their sum divided by its sum: both as means, which do not overflow."""
    if reduction == "none":
        return losses
    if reduction not in ("mean", "sum"):
        reduction_of(op, reduction, None, None)  # raises
    axes = tuple(range(losses.ndim))
    total = (_mean if reduction == "mean" else _sum)(losses, axis=axes, keepdims=False)
    if reduction == "sum" or weight is None:
        return total
    return total / _mean(weight if weight.dtype.kind == "f" else astype(weight, losses.dtype), axis=axes, keepdims=False)


def _check_labels(op: str, scores: Value, target: Value, ignore_index: int) -> Value:
    """Are these integer labels (N, ...) for scores (N, C, ...)? Returns None where no label is ignored, else a mask of the others."""
    dtype = getattr(target, "dtype", None)
    if dtype is None or dtype.kind not in "iu":
        raise error(TypeError, op, got=f"target: {describe(target)}", needs="integer class labels",
                    fix="minigrad.tensor([0, 1])" if isinstance(target, (list, tuple)) else
                    "labels.astype('int64'); one-hot rows go to cross_entropy as floats")
    shape = scores.shape
    if len(shape) < 2 or tuple(target.shape) != (shape[0], *shape[2:]):
        raise error(ValueError, op, got=f"scores of shape {tuple(shape)} and labels of shape {tuple(target.shape)}",
                    needs="scores (N, C, ...) and labels (N, ...)", fix="one label for each sample; squeeze the labels")
    if not isinstance(ignore_index, int):
        raise error(TypeError, op, got=f"ignore_index={ignore_index!r}", needs="an integer", fix="leave it out; no label is -100 by accident")
    return not_equal(target, ignore_index) if check_range(op, target, shape[1], ignore_index) else None


def _check_weight(op: str, name: str, weight: Value, shape: tuple[int, ...], broadcasts: bool = False) -> Value:
    """Is `weight` of this shape (or, where it may, broadcasts to it)?"""
    mine = tuple(getattr(weight, "shape", ()))
    fits = len(mine) <= len(shape) and all(m in (1, n) for m, n in zip(mine[::-1], shape[::-1])) if broadcasts else mine == shape
    if not hasattr(weight, "dtype") or not fits:
        raise error(ValueError, op, got=f"{name}: {describe(weight)}", needs=f"a Tensor or array {'that broadcasts to' if broadcasts else 'of'} shape {shape}",
                    fix=f"minigrad.tensor([...]); check {name} against the number of classes")
    return weight


def _weighted(op: str, losses: Value, target: Value, weight: Value, keep: Any, classes: int) -> tuple[Value, Value]:
    """(losses times their labels' weights, and 0 where `keep` is false; these weights, or None where all are 1)."""
    share = None
    if weight is not None:
        share = take(_check_weight(op, "weight", weight, (classes,)), target)
        losses = losses * share
    if keep is not None:
        losses = where(keep, losses, 0.0)
        share = astype(keep, losses.dtype) if share is None else where(keep, share, 0.0)
    return losses, share


def nll_loss(log_probabilities: Value, target: Value, weight: Value = None, size_average: Any = None, ignore_index: int = -100, reduce: Any = None,
             reduction: str = "mean") -> Value:
    """−log p of the target classes. Arguments in PyTorch's order.

    Args:
        log_probabilities: (N, C) or (N, C, ...), e.g. from `log_softmax(logits, 1)`.
        target: integers of shape (N,) or (N, ...), each from 0 to C − 1 or ignore_index.
        weight: (C,), a factor for each class.
        ignore_index: samples with this label count nowhere.
        reduction: "mean", "sum" or "none". With `weight` or ignored labels "mean" divides by the sum of the weights of the
            labels that count; if there is none it is NaN, as in PyTorch.
        size_average, reduce: outdated in PyTorch and left out here: None.
    """
    op = "nll_loss"
    if weight is not None or size_average is not None or reduce is not None:
        weight, short = (None, weight) if isinstance(weight, str) else (weight, None)  # nll_loss(x, t, "sum")
        reduction = reduction_of(op, reduction, size_average, reduce, short)
    log_probabilities = as_floating(log_probabilities)
    keep = _check_labels(op, log_probabilities, target, ignore_index)
    if keep is not None:
        target = where(keep, target, 0)
    losses, share = -squeeze(take_along_axis(log_probabilities, expand_dims(target, 1), 1), 1), None
    if weight is not None or keep is not None:
        losses, share = _weighted(op, losses, target, weight, keep, log_probabilities.shape[1])
    return _reduced(op, losses, reduction, share)


@primitive()
def _one_hot(xp: Namespace, target: Array, *, classes: int) -> Array:
    return target[:, None] == xp.arange(classes).reshape((1, classes) + (1,) * (target.ndim - 1))


def _softmax_minus_one_hot(g: Value, saved: Any, z: Value, target: Value) -> tuple[Any, None]:
    largest, total = saved
    g = _reshape(g, shape=largest.shape)
    return (g / total) * exp(z - largest) - g * _one_hot(target, classes=z.shape[1]), None


def _peak_and_total(z: Value) -> tuple[Value, Value]:
    """m = max z and Σ e^(z − m), each (N, 1, ...). In their logsumexp, m + log Σ, a large m would cost the other its digits."""
    largest = _peak(z, axis=(1,))
    return largest, _sum(exp(z - largest), axis=(1,), keepdims=True)


@by_hand(save=_peak_and_total, backward=_softmax_minus_one_hot)
def _label_cross_entropy(xp: Namespace, z: Array, target: Array, *, saved: Any) -> Array:
    chosen = z[xp.arange(len(z)), target] if z.ndim == 2 else xp.take_along_axis(z, target[:, None], 1)[:, 0]
    largest, total = saved
    return (xp.log(total) - (chosen[:, None] - largest))[:, 0]


def cross_entropy(logits: Value, target: Value, weight: Value = None, size_average: Any = None, ignore_index: int = -100, reduce: Any = None,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Value:
    """Softmax cross-entropy. Its gradient in the logits is softmax − onehot, divided by their number for "mean".

    Arguments in PyTorch's order; those not named here as in `nll_loss`.

    Args:
        logits: (N, C) or (N, C, ...), unnormalized.
        target: integer labels (N,) or (N, ...), or floating class probabilities of the shape of `logits`. With these,
            "mean" divides by their number, whatever the weights, and no label can be ignored.
        label_smoothing: share of the target that is spread evenly over all classes, from 0 to 1.
    """
    op = "cross_entropy"
    if weight is not None or size_average is not None or reduce is not None:
        weight, short = (None, weight) if isinstance(weight, str) else (weight, None)  # cross_entropy(x, t, "sum")
        reduction = reduction_of(op, reduction, size_average, reduce, short)
    if not 0 <= label_smoothing <= 1:
        raise error(ValueError, op, got=f"label_smoothing={label_smoothing!r}", needs="a number from 0 to 1", fix="0.1 is usual")
    logits = as_floating(logits)
    share = keep = None
    if getattr(target, "dtype", None) is not None and target.dtype.kind == "f":
        if tuple(target.shape) != tuple(logits.shape):
            raise error(ValueError, op, got=f"logits {tuple(logits.shape)} and probabilities {tuple(target.shape)}", needs="equal shapes",
                        fix="one probability for each class")
        if ignore_index >= 0:
            raise error(ValueError, op, got=f"ignore_index={ignore_index} and probabilities", needs="integer labels, to ignore one of them",
                        fix="leave ignore_index out, and select the samples that count")
        losses = -sum_(_log_probabilities(logits, weight) * target, 1)
    else:
        keep = _check_labels(op, logits, target, ignore_index)
        if keep is not None:
            target = where(keep, target, 0)
        losses = _label_cross_entropy(logits, target)
        if weight is not None or keep is not None:
            losses, share = _weighted(op, losses, target, weight, keep, logits.shape[1])
    if label_smoothing:
        even = -mean(_log_probabilities(logits, weight), 1)
        losses = (1 - label_smoothing) * losses + label_smoothing * (even if keep is None else where(keep, even, 0.0))
    return _reduced(op, losses, reduction, share)


def _log_probabilities(logits: Value, weight: Value) -> Value:
    """log softmax over the classes, times their weights."""
    result = log_softmax(logits, 1)
    if weight is None:
        return result
    weight = _check_weight("cross_entropy", "weight", weight, (logits.shape[1],))
    return result * reshape(weight, (-1,) + (1,) * (logits.ndim - 2))


def mse_loss(x: Value, target: Value, size_average: Any = None, reduce: Any = None, reduction: str = "mean", weight: Value = None) -> Value:
    """Squared error (x − target)²; the shapes must be equal (broadcasting here is nearly always a mistake).

    Args:
        reduction: "mean", "sum" or "none".
        weight: a factor for each element, of x's shape; "mean" then divides by their sum.
        size_average, reduce: outdated in PyTorch and left out here: None.
    """
    if size_average is not None or reduce is not None:
        reduction = reduction_of("mse_loss", reduction, size_average, reduce)
    _same_shape("mse_loss", x, target)
    d = (x if target.dtype.kind == "f" else as_floating(x)) - target  # never a difference of integers, which may wrap around
    if weight is None:
        return _reduced("mse_loss", d * d, reduction)
    return _reduced("mse_loss", d * d * _check_weight("mse_loss", "weight", weight, tuple(x.shape)), reduction, weight)


def binary_cross_entropy_with_logits(x: Value, target: Value, weight: Value = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean",
                                     pos_weight: Any = None) -> Value:
    """−t log σ(x) − (1 − t) log(1 − σ(x)), as softplus(x) − x·t: stable for any x. Targets are in [0, 1].

    Args:
        weight: a factor for each loss, of a shape that broadcasts to x's.
        reduction: "mean" (over all elements, whatever their weights), "sum" or "none".
        pos_weight: a factor for the first term, of a shape that broadcasts to x's: above 1 it raises recall.
        size_average, reduce: outdated in PyTorch and left out here: None.
    """
    op = "binary_cross_entropy_with_logits"
    if weight is not None or size_average is not None or reduce is not None:
        weight, short = (None, weight) if isinstance(weight, str) else (weight, None)  # binary_cross_entropy_with_logits(x, t, "sum")
        reduction = reduction_of(op, reduction, size_average, reduce, short)
    _same_shape(op, x, target)
    x = as_floating(x)
    if pos_weight is None:
        losses = softplus(x) - x * target
    else:
        more = _check_weight(op, "pos_weight", pos_weight, tuple(x.shape), broadcasts=True) - 1.0
        losses = (1.0 - target) * x + (1.0 + more * target) * softplus(-x)
    if weight is not None:
        losses = losses * _check_weight(op, "weight", weight, tuple(x.shape), broadcasts=True)
    return _reduced(op, losses, reduction)


def _same_shape(op: str, x: Value, target: Value) -> None:
    if tuple(getattr(target, "shape", ())) != tuple(x.shape):
        raise error(ValueError, op, got=f"shape {tuple(x.shape)} and a target of shape {tuple(getattr(target, 'shape', ()))}", needs="equal shapes",
                    fix="reshape the target; (N,) against (N, 1) would silently give N × N errors")


__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "mse_loss", "nll_loss"]
