"""Convolution, pooling, dropout and embedding, with the names and defaults of `torch.nn.functional`.

Images are (N, C, H, W). Convolution is bilinear in image and weight, so its three maps (forward, to the image, to the
weight) are each other's derivatives: no fourth formula is ever needed, in any order.
"""

from __future__ import annotations

from typing import Any

from ..core import backend
from ..core.backend import NAMESPACES, Array, Namespace
from ..core.errors import describe, error, integer, left_out
from ..core.primitive import primitive
from ..core.tensor import Tensor, Value, state
from ..kernels import conv, pool
from .broadcasting import namespace_of
from .elementwise import as_floating, not_equal, require_floating, where
from .reduce import _sum, mean
from .shape import expand_dims, getitem, pad

Pair = int | tuple[int, int]


def _pair(op: str, name: str, value: Any, least: int) -> tuple[int, int]:
    try:
        pair = tuple([integer(op, name, v, least) for v in (value if isinstance(value, (tuple, list)) else (value, value))])
    except ValueError:
        pair = ()
    if len(pair) != 2:
        raise error(ValueError, op, got=f"{name}={value!r}", needs=f"an integer or a pair of integers, at least {least}", fix=f"{name}=({least}, {least})")
    return pair[0], pair[1]


def _images(op: str, x: Value, ndim: int = 4) -> None:
    if getattr(x, "ndim", None) != ndim:
        raise error(ValueError, op, got=describe(x), needs="images of shape (N, C, H, W)",
                    fix="reshape(-1, C, H, W); one image needs a batch axis: expand_dims(x, 0)")


# -- convolution ----------------------------------------------------------------------------------------------------------


@primitive(x=lambda g, w, x_shape, stride, padding, dilation, groups:
               _conv2d_input(g, w, shape=x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups),
           w=lambda g, x, w_shape, stride, padding, dilation, groups:
               _conv2d_weight(x, g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups),
           b=lambda g: _sum(g, axis=(0, 2, 3), keepdims=False))
def _conv2d(xp: Namespace, x: Array, w: Array, b: Array, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    return conv.conv2d_forward(xp, x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)


@primitive(g=lambda h, w, stride, padding, dilation, groups:
               _conv2d(h, w, None, stride=stride, padding=padding, dilation=dilation, groups=groups),
           w=lambda h, g, w_shape, stride, padding, dilation, groups:
               _conv2d_weight(h, g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups))
def _conv2d_input(xp: Namespace, g: Array, w: Array, *, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    return conv.conv2d_input(xp, g, w, shape, stride=stride, padding=padding, dilation=dilation, groups=groups)


@primitive(x=lambda h, g, x_shape, stride, padding, dilation, groups:
               _conv2d_input(g, h, shape=x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups),
           g=lambda h, x, stride, padding, dilation, groups:
               _conv2d(x, h, None, stride=stride, padding=padding, dilation=dilation, groups=groups))
def _conv2d_weight(xp: Namespace, x: Array, g: Array, *, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    return conv.conv2d_weight(xp, x, g, shape, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv2d(x: Value, weight: Value, bias: Value = None, stride: Pair = 1, padding: Pair | str = 0, dilation: Pair = 1, groups: int = 1) -> Value:
    """2-D cross-correlation, as every framework's "convolution".

    Args:
        x: (N, C, H, W).
        weight: (O, C / groups, kh, kw).
        bias: (O,) or None.
        stride, padding, dilation: integers or (height, width) pairs. Padding is with zeros; "valid" is none, and "same"
            gives an output of the size of the input (stride 1; an odd row or column is added below or right, as in PyTorch).
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
    if isinstance(padding, str):
        before, after = zip(*string_padding("conv2d", padding, weight.shape[2:], stride, dilation), strict=True)
        if before != after:
            x, before = pad(x, ((0, 0), (0, 0), *((0, b - a) for a, b in zip(before, after, strict=True)))), before
        padding = before
    padding = _pair("conv2d", "padding", padding, 0)
    groups = integer("conv2d", "groups", groups, 1)
    if x.shape[1] % groups or weight.shape[0] % groups or x.shape[1] // groups != weight.shape[1]:
        raise error(ValueError, "conv2d", got=f"an image of {x.shape[1]} channels, a weight of shape {tuple(weight.shape)} and groups={groups}",
                    needs="weight.shape[1] == C / groups, and C and O divisible by groups",
                    fix=f"a weight of shape (O, {x.shape[1] // groups}, kh, kw)")
    for size, k, p, d in zip(x.shape[2:], weight.shape[2:], padding, dilation, strict=True):
        if k < 1 or size + 2 * p < d * (k - 1) + 1:
            raise error(ValueError, "conv2d", got=f"images of {tuple(x.shape[2:])} with padding {padding} and a kernel of {tuple(weight.shape[2:])} "
                                                      f"with dilation {dilation}",
                        needs="a kernel of 1 × 1 at least that fits into the padded image",
                        fix="more padding, a smaller kernel, or fewer pooling layers before")
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise error(ValueError, "conv2d", got=f"bias: {describe(bias)}", needs=f"shape ({weight.shape[0]},)", fix="one bias for each output channel")
    return _conv2d(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def string_padding(op: str, padding: str, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """(before, after) for the height and the width, of padding "same" or "valid"."""
    if padding not in ("same", "valid"):
        raise error(ValueError, op, got=f"padding={padding!r}", needs="'same', 'valid', an integer or a pair", fix="check the spelling")
    if padding == "same" and stride != (1, 1):
        raise error(ValueError, op, got=f"padding='same' and stride={stride!r}", needs="stride 1 for 'same'",
                    fix="padding=kernel_size // 2 halves the size with stride 2")
    totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
    return tuple((t // 2, t - t // 2) for t in totals)


# -- pooling --------------------------------------------------------------------------------------------------------------


@primitive(x=lambda g, index, x_shape, kernel, stride, padding, dilation:
               _unpool(g, index, shape=x_shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation))
def _max_pool2d(xp: Namespace, x: Array, y: Array, index: Array, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
    return y  # found together with the winners' index, which is all that the backward keeps


@primitive(g=lambda h, index, kernel, stride, padding, dilation: _winners(h, index, kernel=kernel, stride=stride, padding=padding, dilation=dilation))
def _unpool(xp: Namespace, g: Array, index: Array, *, shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
    return pool.max_pool2d_backward(xp, g, index, shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


@primitive(x=lambda h, index, x_shape, kernel, stride, padding, dilation:
               _unpool(h, index, shape=x_shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation))
def _winners(xp: Namespace, x: Array, index: Array, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
    return pool.max_pool2d_gather(xp, x, index, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def max_pool2d(x: Value, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Value:
    """Largest value of each window. At a tie the first in row-major order gets the gradient. Padding counts as −∞.

    Args:
        x: (N, C, H, W).
        kernel_size, stride, padding: integers or pairs; stride defaults to kernel_size; windows may overlap.
        dilation: pixels from one element of a window to the next, an integer or a pair. (A window can then step over a
            narrow image: it is −∞ and gets no gradient, as in PyTorch.)
        ceil_mode: have windows that begin in the image, or before it, and end behind the padding as well.
        return_indices: left out; the tape keeps the winners by itself.

    Returns:
        (N, C, H', W') with H' = (H + 2·padding − dilation·(kernel − 1) − 1) // stride + 1; with ceil_mode rounded up.

    Raises:
        ValueError: a window larger than the padded image, or padding above half the window.
    """
    left_out("max_pool2d", "return_indices", return_indices, False, "the backward pass needs no indices; for your own use compare x with the result")
    kernel, stride, padding, dilation = _windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    data, window = x._data if isinstance(x, Tensor) else x, {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    y, index = pool.max_pool2d_forward(namespace_of(data), data, ceil_mode=ceil_mode, **window)
    return _max_pool2d(x, Tensor(y), Tensor(index), **window) if isinstance(x, Tensor) else y


@primitive(x=lambda g, x_shape, kernel, stride, padding, count_include_pad, ceil_mode, divisor:
               _avg_unpool(g, shape=x_shape, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad, ceil_mode=ceil_mode,
                           divisor=divisor))
def _avg_pool2d(xp: Namespace, x: Array, *, kernel: Any, stride: Any, padding: Any, count_include_pad: bool, ceil_mode: bool, divisor: int | None) -> Array:
    return pool.avg_pool2d_forward(xp, x, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad, ceil_mode=ceil_mode,
                                   divisor=divisor)


@primitive(g=lambda h, kernel, stride, padding, count_include_pad, ceil_mode, divisor:
               _avg_pool2d(h, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad, ceil_mode=ceil_mode, divisor=divisor))
def _avg_unpool(xp: Namespace, g: Array, *, shape: Any, kernel: Any, stride: Any, padding: Any, count_include_pad: bool, ceil_mode: bool,
                divisor: int | None) -> Array:
    return pool.avg_pool2d_backward(xp, g, shape, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad, divisor=divisor)


def avg_pool2d(x: Value, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Value:
    """Mean of each window; arguments in PyTorch's order, see `max_pool2d`.

    Args:
        count_include_pad: the zeros of the padding count. (What ceil_mode adds behind them never does.)
        divisor_override: divide the sums by this positive integer in place of the number of elements.
    """
    kernel, stride, padding, _ = _windows("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None and (not isinstance(divisor_override, int) or divisor_override < 1):
        raise error(ValueError, "avg_pool2d", got=f"divisor_override={divisor_override!r}", needs="a positive integer or None",
                    fix="divisor_override=1 gives the sums of the windows")
    return _avg_pool2d(as_floating(x), kernel=kernel, stride=stride, padding=padding, count_include_pad=bool(count_include_pad), ceil_mode=bool(ceil_mode),
                       divisor=divisor_override)


def _windows(op: str, x: Value, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> tuple[tuple[int, int], ...]:
    _images(op, x)
    kernel = _pair(op, "kernel_size", kernel, 1)
    stride = kernel if stride is None else _pair(op, "stride", stride, 1)
    padding, dilation = _pair(op, "padding", padding, 0), (1, 1) if dilation == 1 else _pair(op, "dilation", dilation, 1)
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise error(ValueError, op, got=f"padding={padding} for windows of {kernel}", needs="padding of at most half the window", fix="less padding")
    if min(pool.output_size(x.shape, kernel, stride, padding, dilation, ceil_mode)) < 1:
        raise error(ValueError, op, got=f"windows of {kernel}{_dilated(dilation)} on images of {tuple(x.shape[2:])} with padding {padding}",
                    needs="a window that fits", fix="a smaller window, or fewer pooling layers before")
    return kernel, stride, padding, dilation


def _dilated(dilation: tuple[int, int]) -> str:
    return "" if dilation == (1, 1) else f" with dilation {dilation}"


def adaptive_avg_pool2d(x: Value, output_size: int | tuple[int | None, int | None] | None) -> Value:
    """Means over a grid of output_size windows that cover the image, as PyTorch cuts them: row i averages
    rows ⌊iH/h⌋ … ⌈(i+1)H/h⌉. None in the place of a size keeps that of the image."""
    _images("adaptive_avg_pool2d", x)
    height, width = x.shape[2:]
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(sizes) == 2:
        sizes = tuple(n if given is None else given for given, n in zip(sizes, (height, width), strict=True))
    h, w = _pair("adaptive_avg_pool2d", "output_size", sizes, 1)
    if (h, w) == (1, 1):
        return mean(x, (2, 3), keepdims=True)
    if height % h == 0 and width % w == 0:
        return avg_pool2d(x, (height // h, width // w))
    return _part_means(_part_means(as_floating(x), axis=2, parts=h), axis=3, parts=w)


@primitive(x=lambda g, x_shape, axis: _part_means_input(g, axis=axis, size=x_shape[axis]))
def _part_means(xp: Namespace, x: Array, *, axis: int, parts: int) -> Array:
    return pool.part_means(xp, x, axis=axis, parts=parts)


@primitive(g=lambda h, g_shape, axis: _part_means(h, axis=axis, parts=g_shape[axis]))
def _part_means_input(xp: Namespace, g: Array, *, axis: int, size: int) -> Array:
    return pool.part_means_input(xp, g, axis=axis, size=size)


# -- dropout and embedding --------------------------------------------------------------------------------------------------


def dropout(x: Value, p: float = 0.5, training: bool = True) -> Value:
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


def embedding(indices: Any, weight: Value, padding_idx: int | None = None) -> Value:
    """Rows of `weight` (V, D) at integer `indices` (...): the result is (..., D). Repeated indices add their gradients.

    Args:
        padding_idx: this row gets no gradient; negative ones count from the end.
    """
    dtype = getattr(indices, "dtype", None)
    if dtype is None or dtype.kind not in "iu":
        raise error(TypeError, "embedding", got=describe(indices), needs="integer indices as a Tensor or array",
                    fix="minigrad.tensor([0, 1])" if isinstance(indices, (list, tuple)) else "embedding(indices, weight): indices come first")
    check_range("embedding", indices, weight.shape[0])
    rows = getitem(weight, indices)
    if padding_idx is None or not isinstance(rows, Tensor):
        return rows
    trained = expand_dims(not_equal(indices, padding_row("embedding", padding_idx, weight.shape[0])), -1)
    return where(trained, rows, rows.detach())


def padding_row(op: str, padding_idx: int, n: int) -> int:
    """The row of a table of `n` that `padding_idx` names."""
    if not isinstance(padding_idx, int) or not -n <= padding_idx < n:
        raise error(ValueError, op, got=f"padding_idx={padding_idx!r} for {n} rows", needs=f"an integer from {-n} to {n - 1}, or None",
                    fix="make the table one row longer for the padding")
    return padding_idx % n


def _has(dtype: Any, value: int) -> bool:
    """Can an integer of this dtype be `value`?"""
    limits = backend.np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max)


def check_range(op: str, indices: Any, n: int, ignored: int | None = None) -> bool:
    """Are all indices in 0 … n−1, except `ignored`? Always checked on the host, elsewhere only in debug mode: it would wait
    for the GPU. Returns whether some may be `ignored`."""
    data = indices._data if isinstance(indices, Tensor) else indices
    if not data.size:
        return False
    if NAMESPACES.get(type(data)) is not backend.np and not state.watchers:
        return ignored is not None and _has(data.dtype, ignored)
    low, high = int(data.min()), int(data.max())
    found = ignored is not None and low <= ignored <= high
    if low < 0 or high >= n:
        rest = data[data != ignored] if found else data
        low, high = (int(rest.min()), int(rest.max())) if rest.size else (0, 0)
    if low < 0 or high >= n:
        needs = f"0 to {n - 1}" + (f", or ignore_index={ignored}" if ignored is not None else "")
        raise error(ValueError, op, got=f"indices from {low} to {high}", needs=needs, fix="check the labels against the number of classes")
    return found


__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "conv2d", "dropout", "embedding", "max_pool2d"]
