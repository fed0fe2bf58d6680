"""Convolution, pooling, dropout, embedding and losses, with the names and defaults of `torch.nn.functional`.

Images are (N, C, H, W). Convolution is bilinear in image and weight, so its three maps (forward, to the image, to the
weight) are each other's derivatives: no fourth formula is ever needed, in any order.
"""

from __future__ import annotations

from typing import Any

from .. import backend
from ..backend import NAMESPACES, Array
from ..by_hand import by_hand
from ..errors import describe, error
from ..kernels import conv, pool
from ..primitive import primitive, watchers
from ..tensor import Tensor
from .broadcasting import namespace_of
from .elementwise import as_floating, exp, require_floating, softplus, where
from .reduce import _logsumexp, _mean, _sum, log_softmax, mean
from .reduce import sum as sum_
from .shape import _reshape, expand_dims, getitem, squeeze, take_along_axis

Pair = int | tuple[int, int]


def _pair(op: str, name: str, value: Any, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(v, int) and v >= least for v in pair):
        raise error(ValueError, op, got=f"{name}={value!r}", needs=f"an integer or a pair of integers, at least {least}", fix=f"{name}=({least}, {least})")
    return pair


def _images(op: str, x: Any, ndim: int = 4) -> None:
    if getattr(x, "ndim", None) != ndim:
        raise error(ValueError, op, got=describe(x), needs="images of shape (N, C, H, W)",
                    fix="reshape(-1, C, H, W); one image needs a batch axis: expand_dims(x, 0)")


# -- convolution ----------------------------------------------------------------------------------------------------------


@primitive(x=lambda g, w, x_shape, stride, padding, dilation, groups:
               _conv2d_input(g, w, shape=x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups),
           w=lambda g, x, w_shape, stride, padding, dilation, groups:
               _conv2d_weight(x, g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups),
           b=lambda g: _sum(g, axis=(0, 2, 3), keepdims=False))
def _conv2d(xp: Any, x: Array, w: Array, b: Array, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    return conv.conv2d_forward(xp, x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)


@primitive(g=lambda h, w, stride, padding, dilation, groups:
               _conv2d(h, w, None, stride=stride, padding=padding, dilation=dilation, groups=groups),
           w=lambda h, g, w_shape, stride, padding, dilation, groups:
               _conv2d_weight(h, g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups))
def _conv2d_input(xp: Any, g: Array, w: Array, *, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    return conv.conv2d_input(xp, g, w, shape, stride=stride, padding=padding, dilation=dilation, groups=groups)


@primitive(x=lambda h, g, x_shape, stride, padding, dilation, groups:
               _conv2d_input(g, h, shape=x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups),
           g=lambda h, x, stride, padding, dilation, groups:
               _conv2d(x, h, None, stride=stride, padding=padding, dilation=dilation, groups=groups))
def _conv2d_weight(xp: Any, x: Array, g: Array, *, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    return conv.conv2d_weight(xp, x, g, shape, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1) -> Any:
    """2-D cross-correlation, as every framework's "convolution".

    Args:
        x: (N, C, H, W).
        weight: (O, C / groups, kh, kw).
        bias: (O,) or None.
        stride, padding, dilation: integers or (height, width) pairs; padding is with zeros.
        groups: C and O are cut into this many groups that do not see each other.

    Returns:
        (N, O, H', W') with H' = (H + 2·padding − dilation·(kh − 1) − 1) // stride + 1.

    Raises:
        ValueError: shapes that do not fit, or a kernel that is empty or larger than the padded image.
        TypeError: integer data or weights.
    """
    _images("conv2d", x)
    require_floating("conv2d", x=x, weight=weight, bias=bias)
    if getattr(weight, "ndim", None) != 4:
        raise error(ValueError, "conv2d", got=f"weight: {describe(weight)}", needs="a weight of shape (O, C / groups, kh, kw)", fix="reshape the weight")
    stride, dilation = _pair("conv2d", "stride", stride, 1), _pair("conv2d", "dilation", dilation, 1)
    padding = _pair("conv2d", "padding", padding, 0)
    if groups < 1 or x.shape[1] % groups or weight.shape[0] % groups or x.shape[1] // groups != weight.shape[1]:
        raise error(ValueError, "conv2d", got=f"an image of {x.shape[1]} channels, a weight of shape {tuple(weight.shape)} and groups={groups}",
                    needs="weight.shape[1] == C / groups, and C and O divisible by groups",
                    fix=f"a weight of shape (O, {x.shape[1] // max(groups, 1)}, kh, kw)")
    for size, k, p, d in zip(x.shape[2:], weight.shape[2:], padding, dilation, strict=True):
        if k < 1 or size + 2 * p < d * (k - 1) + 1:
            raise error(ValueError, "conv2d", got=f"images of {tuple(x.shape[2:])} with padding {padding} and a kernel of {tuple(weight.shape[2:])} "
                                                      f"with dilation {dilation}",
                        needs="a kernel of 1 × 1 at least that fits into the padded image",
                        fix="more padding, a smaller kernel, or fewer pooling layers before")
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise error(ValueError, "conv2d", got=f"bias: {describe(bias)}", needs=f"shape ({weight.shape[0]},)", fix="one bias for each output channel")
    return _conv2d(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


# -- pooling --------------------------------------------------------------------------------------------------------------


@primitive(x=lambda g, index, x_shape, kernel, stride, padding: _unpool(g, index, shape=x_shape, kernel=kernel, stride=stride, padding=padding))
def _max_pool2d(xp: Any, x: Array, y: Array, index: Array, *, kernel: Any, stride: Any, padding: Any) -> Array:
    return y  # found together with the winners' index, which is all that the backward keeps


@primitive(g=lambda h, index, kernel, stride, padding: _winners(h, index, kernel=kernel, stride=stride, padding=padding))
def _unpool(xp: Any, g: Array, index: Array, *, shape: Any, kernel: Any, stride: Any, padding: Any) -> Array:
    return pool.max_pool2d_backward(xp, g, index, shape, kernel=kernel, stride=stride, padding=padding)


@primitive(x=lambda h, index, x_shape, kernel, stride, padding: _unpool(h, index, shape=x_shape, kernel=kernel, stride=stride, padding=padding))
def _winners(xp: Any, x: Array, index: Array, *, kernel: Any, stride: Any, padding: Any) -> Array:
    return pool.max_pool2d_gather(xp, x, index, kernel=kernel, stride=stride, padding=padding)


def max_pool2d(x: Any, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Any:
    """Largest value of each window. At a tie the first in row-major order gets the gradient. Padding counts as −∞.

    Args:
        x: (N, C, H, W).
        kernel_size, stride, padding: integers or pairs; stride defaults to kernel_size; windows may overlap.

    Raises:
        ValueError: a window larger than the padded image, or padding above half the window.
    """
    kernel, stride, padding = _windows("max_pool2d", x, kernel_size, stride, padding)
    data = x._data if isinstance(x, Tensor) else x
    y, index = pool.max_pool2d_forward(namespace_of(data), data, kernel=kernel, stride=stride, padding=padding)
    return _max_pool2d(x, Tensor(y), Tensor(index), kernel=kernel, stride=stride, padding=padding) if isinstance(x, Tensor) else y


@primitive(x=lambda g, x_shape, kernel, stride, padding, count_include_pad:
               _avg_unpool(g, shape=x_shape, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad))
def _avg_pool2d(xp: Any, x: Array, *, kernel: Any, stride: Any, padding: Any, count_include_pad: bool) -> Array:
    return pool.avg_pool2d_forward(xp, x, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad)


@primitive(g=lambda h, kernel, stride, padding, count_include_pad:
               _avg_pool2d(h, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad))
def _avg_unpool(xp: Any, g: Array, *, shape: Any, kernel: Any, stride: Any, padding: Any, count_include_pad: bool) -> Array:
    return pool.avg_pool2d_backward(xp, g, shape, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad)


def avg_pool2d(x: Any, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True) -> Any:
    """Mean of each window; arguments as `max_pool2d`. With count_include_pad the zeros of the padding count."""
    kernel, stride, padding = _windows("avg_pool2d", x, kernel_size, stride, padding)
    return _avg_pool2d(as_floating(x), kernel=kernel, stride=stride, padding=padding, count_include_pad=bool(count_include_pad))


def _windows(op: str, x: Any, kernel: Any, stride: Any, padding: Any) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    _images(op, x)
    kernel = _pair(op, "kernel_size", kernel, 1)
    stride = kernel if stride is None else _pair(op, "stride", stride, 1)
    padding = _pair(op, "padding", padding, 0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise error(ValueError, op, got=f"padding={padding} for windows of {kernel}", needs="padding of at most half the window", fix="less padding")
    if any(n + 2 * p < k for n, p, k in zip(x.shape[2:], padding, kernel, strict=True)):
        raise error(ValueError, op, got=f"windows of {kernel} on images of {tuple(x.shape[2:])} with padding {padding}", needs="a window that fits",
                    fix="a smaller window, or fewer pooling layers before")
    return kernel, stride, padding


def adaptive_avg_pool2d(x: Any, output_size: Pair) -> Any:
    """Means over a grid of output_size windows that cover the image, as PyTorch cuts them: row i averages
    rows ⌊iH/h⌋ … ⌈(i+1)H/h⌉."""
    _images("adaptive_avg_pool2d", x)
    h, w = _pair("adaptive_avg_pool2d", "output_size", output_size, 1)
    height, width = x.shape[2:]
    if (h, w) == (1, 1):
        return mean(x, (2, 3), keepdims=True)
    if height % h == 0 and width % w == 0:
        return avg_pool2d(x, (height // h, width // w))
    return _part_means(_part_means(as_floating(x), axis=2, parts=h), axis=3, parts=w)


@primitive(x=lambda g, x_shape, axis: _part_means_input(g, axis=axis, size=x_shape[axis]))
def _part_means(xp: Any, x: Array, *, axis: int, parts: int) -> Array:
    return pool.part_means(xp, x, axis=axis, parts=parts)


@primitive(g=lambda h, g_shape, axis: _part_means(h, axis=axis, parts=g_shape[axis]))
def _part_means_input(xp: Any, g: Array, *, axis: int, size: int) -> Array:
    return pool.part_means_input(xp, g, axis=axis, size=size)


# -- dropout and embedding --------------------------------------------------------------------------------------------------


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Each element is set to 0 with probability `p` (an infinity and NaN too), the others divided by 1 − p; without `training`, `x` itself.

    The mask is drawn on the host from minigrad's generator (`seed`), so every backend drops the same elements.
    """
    x = as_floating(x)
    if not 0 <= p <= 1:
        raise error(ValueError, "dropout", got=f"p={p}", needs="a probability from 0 to 1", fix="p is the fraction that is dropped")
    if not training or p == 0:
        return x
    kept = backend.generator().random(x.shape, dtype="float32") >= p  # drawn from 0 to below 1: for p = 1 nothing is kept
    mask = backend.from_numpy(kept, backend.name_of(x._data if isinstance(x, Tensor) else x))
    return where(mask, x * (1 / (1 - p) if p < 1 else 1.0), 0.0)


def embedding(indices: Any, weight: Any) -> Any:
    """Rows of `weight` (V, D) at integer `indices` (...): the result is (..., D). Repeated indices add their gradients."""
    dtype = getattr(indices, "dtype", None)
    if dtype is None or dtype.kind not in "iu":
        raise error(TypeError, "embedding", got=describe(indices), needs="integer indices as a Tensor or array",
                    fix="embedding(indices, weight): indices come first")
    _check_range("embedding", indices, weight.shape[0])
    return getitem(weight, indices)


def _check_range(op: str, indices: Any, n: int) -> None:
    """Are all indices in 0 … n−1? Looked at on the host always, elsewhere only in debug mode: it would wait for the GPU."""
    data = indices._data if isinstance(indices, Tensor) else indices
    if not data.size or (NAMESPACES.get(type(data)) is not backend.np and not watchers):
        return
    low, high = int(data.min()), int(data.max())
    if low < 0 or high >= n:
        raise error(ValueError, op, got=f"indices from {low} to {high}", needs=f"0 to {n - 1}", fix="check the labels against the number of classes")


# -- losses -----------------------------------------------------------------------------------------------------------------


def _reduced(op: str, losses: Any, reduction: str) -> Any:
    if reduction not in ("mean", "sum", "none"):
        raise error(ValueError, op, got=f"reduction={reduction!r}", needs="'mean', 'sum' or 'none'", fix="check the spelling")
    if reduction == "none":
        return losses
    return (_mean if reduction == "mean" else _sum)(losses, axis=tuple(range(losses.ndim)), keepdims=False)


def _check_labels(op: str, scores: Any, target: Any) -> None:
    """Are these integer labels (N, ...) for scores (N, C, ...)?"""
    dtype = getattr(target, "dtype", None)
    if dtype is None or dtype.kind not in "iu":
        raise error(TypeError, op, got=f"target: {describe(target)}", needs="integer class labels",
                    fix="labels.astype('int64'); one-hot rows go to cross_entropy as floats")
    shape = scores.shape
    if len(shape) < 2 or tuple(target.shape) != (shape[0], *shape[2:]):
        raise error(ValueError, op, got=f"scores of shape {tuple(shape)} and labels of shape {tuple(target.shape)}",
                    needs="scores (N, C, ...) and labels (N, ...)", fix="one label for each sample; squeeze the labels")
    _check_range(op, target, shape[1])


def nll_loss(log_probabilities: Any, target: Any, reduction: str = "mean") -> Any:
    """−log p of the target classes.

    Args:
        log_probabilities: (N, C) or (N, C, ...), e.g. from `log_softmax(logits, 1)`.
        target: integers of shape (N,) or (N, ...), each from 0 to C − 1.
        reduction: "mean", "sum" or "none".
    """
    _check_labels("nll_loss", log_probabilities, target)
    log_probabilities = as_floating(log_probabilities)
    return _reduced("nll_loss", -squeeze(take_along_axis(log_probabilities, expand_dims(target, 1), 1), 1), reduction)


@primitive()
def _one_hot(xp: Any, target: Array, *, classes: int) -> Array:
    return target[:, None] == xp.arange(classes).reshape((1, classes) + (1,) * (target.ndim - 1))


def _softmax_minus_one_hot(g: Any, saved: Any, z: Any, target: Any) -> tuple[Any, None]:
    return _reshape(g, shape=saved[0].shape) * (exp(z - saved[0]) - _one_hot(target, classes=z.shape[1])), None


@by_hand(save=lambda z: (_logsumexp(z, axis=(1,), keepdims=True),), backward=_softmax_minus_one_hot)
def _label_cross_entropy(xp: Any, z: Array, target: Array, *, saved: Any) -> Array:
    chosen = z[xp.arange(len(z)), target] if z.ndim == 2 else xp.take_along_axis(z, target[:, None], 1)[:, 0]
    return saved[0][:, 0] - chosen


def cross_entropy(logits: Any, target: Any, reduction: str = "mean", label_smoothing: float = 0.0) -> Any:
    """Softmax cross-entropy. Its gradient in the logits is softmax − onehot, divided by their number for "mean".

    Args:
        logits: (N, C) or (N, C, ...), unnormalized.
        target: integer labels (N,) or (N, ...), or floating class probabilities of the shape of `logits`.
        reduction: "mean" (over N and the other axes), "sum" or "none".
        label_smoothing: share of the target that is spread evenly over all classes.
    """
    logits = as_floating(logits)
    if getattr(target, "dtype", None) is not None and target.dtype.kind == "f":
        if tuple(target.shape) != tuple(logits.shape):
            raise error(ValueError, "cross_entropy", got=f"logits {tuple(logits.shape)} and probabilities {tuple(target.shape)}", needs="equal shapes",
                        fix="one probability for each class")
        losses = -sum_(log_softmax(logits, 1) * target, 1)
    else:
        _check_labels("cross_entropy", logits, target)
        losses = _label_cross_entropy(logits, target)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * mean(log_softmax(logits, 1), 1)
    return _reduced("cross_entropy", losses, reduction)


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """Squared error (x − target)²; the shapes must be equal (broadcasting here is nearly always a mistake)."""
    _same_shape("mse_loss", x, target)
    d = (x if target.dtype.kind == "f" else as_floating(x)) - target  # never a difference of integers, which may wrap around
    return _reduced("mse_loss", d * d, reduction)


def binary_cross_entropy_with_logits(x: Any, target: Any, reduction: str = "mean") -> Any:
    """−t log σ(x) − (1 − t) log(1 − σ(x)), as softplus(x) − x·t: stable for any x. Targets are in [0, 1]."""
    _same_shape("binary_cross_entropy_with_logits", x, target)
    x = as_floating(x)
    return _reduced("binary_cross_entropy_with_logits", softplus(x) - x * target, reduction)


def _same_shape(op: str, x: Any, target: Any) -> None:
    if tuple(getattr(target, "shape", ())) != tuple(x.shape):
        raise error(ValueError, op, got=f"shape {tuple(x.shape)} and a target of shape {tuple(getattr(target, 'shape', ()))}", needs="equal shapes",
                    fix="reshape the target; (N,) against (N, 1) would silently give N × N errors")


__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "binary_cross_entropy_with_logits", "conv2d", "cross_entropy", "dropout", "embedding", "max_pool2d",
           "mse_loss", "nll_loss"]
