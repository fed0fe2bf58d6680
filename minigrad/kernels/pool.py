"""2-D pooling on arrays (N, C, H, W), tap by tap: one position of all windows at once is a strided view of x.

    max_pool2d_forward   y, index    the winners, and as a small integer which tap won
    max_pool2d_backward  dx          sends each g to its winner       } linear for a given index,
    max_pool2d_gather    y           reads x at the winners           } and each the other's adjoint
    avg_pool2d_forward   y           linear in x
    avg_pool2d_backward  dx          its adjoint
    part_means           y           means of the parts of one axis, equal as they may be } linear, and each the
    part_means_input     dx                                                               } other's adjoint

Taps count in row-major order, and the first of equal values wins. NaN wins over every number, so that it shows in y.
Padding never wins, not even over -inf: every index points into x. float16 sums are taken in float32. No value is ever
multiplied by 0, so that an infinity or NaN shows in the windows that contain it and in no others.
With ceil_mode there are as many windows as begin inside x or before it; the last ones may reach beyond the padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import numpy as np

from .threads import share

Array = Any
Pair = tuple[int, int]


def max_pool2d_forward(
    xp: Any, x: Array, *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), ceil_mode: bool = False
) -> tuple[Array, Array]:
    """The largest value of each window, and where it was.

    Args: x (N, C, H, W); padding at most half the kernel; dilation: pixels from one tap to the next.
    Returns: y and index, both (N, C, oh, ow). index is unsigned: the winner of a window is its tap divmod(index, kw).
    """
    size = output_size(x.shape, kernel, stride, padding, dilation, ceil_mode)
    y = xp.empty((*x.shape[:2], *size), dtype=x.dtype)
    index = xp.empty(y.shape, dtype=xp.uint8 if prod(kernel) <= 256 else xp.uint32)
    first = _first_tap(xp, size, kernel, stride, padding, dilation).astype(index.dtype)

    def work(n: slice) -> None:
        best, winner = None, first
        for t, tap in _taps(_padded(xp, x[n], _lowest(xp, x.dtype), size, kernel, stride, padding, dilation), size, kernel, stride, dilation):
            value = xp.ascontiguousarray(tap)  # NumPy compares contiguous arrays several times faster
            if best is None:
                best = value
                continue
            wins = (best >= value) < (best == best)  # neither best >= value nor best NaN: larger, or the first NaN
            winner = xp.maximum(winner, wins.view(xp.uint8) * index.dtype.type(t))  # the latest t so far is the largest
            best = xp.maximum(best, value)
        y[n], index[n] = best, winner

    _by_images(xp, work, x.shape)
    return y, index


def max_pool2d_backward(
    xp: Any, g: Array, index: Array, x_shape: tuple[int, ...], *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> Array:
    """dx of shape x_shape: every g (N, C, oh, ow) added to the winner of its window, index of the forward pass."""
    dx = xp.empty(x_shape, dtype=g.dtype)

    def work(n: slice) -> None:
        parts = (_where(xp, index[n] == t, g[n]) for t in range(prod(kernel)))
        _scatter(xp, dx[n], parts, g.shape[2:], kernel, stride, padding, dilation)

    _by_images(xp, work, x_shape)
    return dx


def max_pool2d_gather(xp: Any, x: Array, index: Array, *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> Array:
    """y (N, C, oh, ow): the values of x (N, C, H, W) where ``index``, from the forward pass of another array, says."""
    y, size = xp.empty(index.shape, dtype=x.dtype), index.shape[2:]

    def work(n: slice) -> None:
        y[n] = 0
        for t, tap in _taps(_padded(xp, x[n], 0, size, kernel, stride, padding, dilation), size, kernel, stride, dilation):
            y[n] += _where(xp, index[n] == t, tap)

    _by_images(xp, work, x.shape)
    return y


def avg_pool2d_forward(
    xp: Any,
    x: Array,
    *,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool = True,
    ceil_mode: bool = False,
    divisor: int | None = None,
) -> Array:
    """The mean of each window of x (N, C, H, W), over all its taps or, without count_include_pad, over those inside x.

    Taps beyond the padding (ceil_mode) never count. With a divisor: the sum of each window divided by it.

    Returns: y (N, C, oh, ow).
    """
    size = output_size(x.shape, kernel, stride, padding, (1, 1), ceil_mode)
    y = xp.empty((*x.shape[:2], *size), dtype=x.dtype)
    share_of_a_tap = _weights(xp, x.shape, size, kernel, stride, padding, count_include_pad, divisor, _wide(xp, x.dtype))

    def work(n: slice) -> None:
        padded = _padded(xp, x[n], 0, size, kernel, stride, padding)
        # Down the columns, then along the rows: kh + kw terms where kh * kw would round off more, and take longer.
        columns = _sum(xp, _taps(padded, (size[0], padded.shape[3]), (kernel[0], 1), (stride[0], 1)), x.dtype)
        y[n] = _sum(xp, _taps(columns, size, (1, kernel[1]), (1, stride[1])), x.dtype) * share_of_a_tap

    _by_images(xp, work, x.shape)
    return y


def avg_pool2d_backward(
    xp: Any,
    g: Array,
    x_shape: tuple[int, ...],
    *,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Array:
    """dx of shape x_shape: every g (N, C, oh, ow) in equal shares to all taps of its window."""
    size = g.shape[2:]
    dx = xp.empty(x_shape, dtype=g.dtype)
    share_of_a_tap = _weights(xp, x_shape, size, kernel, stride, padding, count_include_pad, divisor, _wide(xp, g.dtype))

    def work(n: slice) -> None:
        part = g[n].astype(_wide(xp, g.dtype), copy=False) * share_of_a_tap
        _scatter(xp, dx[n], (part for _ in range(prod(kernel))), size, kernel, stride, padding)

    _by_images(xp, work, x_shape)
    return dx


def part_means(xp: Any, x: Array, *, axis: int, parts: int) -> Array:
    """The mean of each of `parts` parts of an axis of x: part i is from floor(i size / parts) to ceil((i + 1) size / parts)."""
    total = _part_sums(xp, x, axis, parts)
    return (total / _lengths(xp, total, axis, x.shape[axis])).astype(x.dtype, copy=False)


def part_means_input(xp: Any, g: Array, *, axis: int, size: int) -> Array:
    """dx with `size` elements along the axis: every g in equal shares to its part.

    Element j lies in the parts floor(j parts / size) to ceil((j + 1) parts / size): these are parts again, of g's axis.
    """
    wide = g.astype(_wide(xp, g.dtype), copy=False)
    return _part_sums(xp, wide / _lengths(xp, wide, axis, size), axis, size).astype(g.dtype, copy=False)


def _part_sums(xp: Any, x: Array, axis: int, parts: int) -> Array:
    """Tap by tap, as the other pools: element t of all parts at once."""
    size, total = x.shape[axis], None
    lengths = [-(-(i + 1) * size // parts) - i * size // parts for i in range(parts)]
    first, length = _places(xp, x.ndim, axis, size, parts)
    for t in range(max(lengths)):
        tap = xp.take(x, xp.minimum(first + t, size - 1), axis)
        tap = tap if t < min(lengths) else xp.where(t < length, tap, 0)
        if total is None:
            total = tap.astype(_wide(xp, x.dtype), copy=False)
        else:
            total += tap
    return total


def _lengths(xp: Any, parts: Array, axis: int, size: int) -> Array:
    """How many of `size` elements each of the parts has, in the dtype and along the axis of `parts`."""
    return _places(xp, parts.ndim, axis, size, parts.shape[axis])[1].astype(parts.dtype)


def _places(xp: Any, ndim: int, axis: int, size: int, parts: int) -> tuple[Array, Array]:
    """The first element of each part, (parts,), and its length, of size 1 along all axes but one."""
    i = xp.arange(parts)
    first = i * size // parts
    return first, (-(-(i + 1) * size // parts) - first).reshape((-1,) + (1,) * (ndim - 1 - axis))


# -- Windows ----------------------------------------------------------------------------------------------------------


def output_size(x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), ceil_mode: bool = False) -> Pair:
    """Numbers of windows along the height and the width; below 1 where none fits."""
    (h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = x_shape[2:], kernel, stride, padding, dilation
    rows, cols = h + 2 * ph - dh * (kh - 1) - 1, w + 2 * pw - dw * (kw - 1) - 1  # where the last window may begin
    if ceil_mode:  # one more, unless it begins behind the image
        return min(-(-rows // sh), (h + ph - 1) // sh) + 1, min(-(-cols // sw), (w + pw - 1) // sw) + 1
    return rows // sh + 1, cols // sw + 1


def _padded(xp: Any, x: Array, fill: float, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> Array:
    """x with padding before it, and behind it as far as the windows reach."""
    rows, cols = _reach(x.shape, size, kernel, stride, padding, dilation)
    (N, C, H, W), (top, left) = x.shape, padding
    if (rows, cols) == (H, W):
        return x
    out = xp.full((N, C, rows, cols), fill, dtype=x.dtype)
    out[:, :, top : top + H, left : left + W] = x
    return out


def _lowest(xp: Any, dtype: Any) -> Any:
    """What padding is under a maximum: no value is smaller."""
    return -xp.inf if dtype.kind == "f" else xp.iinfo(dtype).min if dtype.kind in "iu" else False


def _reach(x_shape: tuple[int, ...], size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Rows and columns of the padded x: no less than all windows read."""
    rows = stride[0] * (size[0] - 1) + dilation[0] * (kernel[0] - 1) + 1
    cols = stride[1] * (size[1] - 1) + dilation[1] * (kernel[1] - 1) + 1
    return max(x_shape[2] + padding[0], rows), max(x_shape[3] + padding[1], cols)


def _taps(padded: Array, size: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Iterator[tuple[int, Array]]:
    """(t, view (N, C, oh, ow) of tap t of all windows) in row-major order."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + stride[0] * (size[0] - 1) + 1, stride[0])
            cols = slice(left, left + stride[1] * (size[1] - 1) + 1, stride[1])
            yield i * kernel[1] + j, padded[:, :, rows, cols]


def _sum(xp: Any, taps: Iterable[tuple[int, Array]], dtype: Any) -> Array:
    total = None
    for _, tap in taps:
        if total is None:
            total = tap.astype(_wide(xp, dtype))  # a copy
        else:
            total += tap
    return total


def _scatter(
    xp: Any, dx: Array, parts: Iterable[Array], size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> None:
    """Write into dx the sum of the parts, one (N, C, oh, ow) for each tap, at their places."""
    (N, C, H, W), (top, left) = dx.shape, padding
    tiled = kernel == stride and padding == (0, 0) and dilation == (1, 1)
    if tiled and (H, W) == (size[0] * stride[0], size[1] * stride[1]):  # windows tile x: nothing to add up
        for (_, place), part in zip(_taps(dx, size, kernel, stride), parts):
            place[...] = part
        return
    total = xp.zeros((N, C, *_reach(dx.shape, size, kernel, stride, padding, dilation)), dtype=_wide(xp, dx.dtype))
    for (_, place), part in zip(_taps(total, size, kernel, stride, dilation), parts):
        place += part
    dx[...] = total[:, :, top : top + H, left : left + W]


def _where(xp: Any, mask: Array, a: Array) -> Array:
    """a where mask, else 0: not a * mask, which makes NaN of an infinite a. np.where takes 5 times as long."""
    if xp is not np:
        return xp.where(mask, a, a.dtype.type(0))
    bits = f"i{a.dtype.itemsize}"
    return (np.ascontiguousarray(a).view(bits) & -mask.astype(bits)).view(a.dtype)


def _first_tap(xp: Any, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """(oh, ow), or (1, 1) where all are 0: for each window its first tap that is not padding."""
    if padding == (0, 0):
        return xp.zeros((1, 1), dtype=int)
    i, j = (-(xp.minimum(stride[a] * xp.arange(size[a]) - padding[a], 0) // dilation[a]) for a in (0, 1))
    return i[:, None] * kernel[1] + j


def _weights(
    xp: Any,
    x_shape: tuple[int, ...],
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    include: bool,
    divisor: int | None,
    dtype: Any,
) -> Any:
    """1 / (number of taps that count, or the divisor), a scalar or (oh, ow)."""
    if divisor:
        return 1 / divisor
    counted = padding if include else (0, 0)
    ends = stride[0] * (size[0] - 1) + kernel[0], stride[1] * (size[1] - 1) + kernel[1]
    if counted == padding and ends[0] <= x_shape[2] + 2 * padding[0] and ends[1] <= x_shape[3] + 2 * padding[1]:
        return 1 / prod(kernel)
    starts = [stride[a] * xp.arange(size[a]) - padding[a] for a in (0, 1)]
    i, j = (xp.minimum(starts[a] + kernel[a], x_shape[a + 2] + counted[a]) - xp.maximum(starts[a], -counted[a]) for a in (0, 1))
    return 1 / (i[:, None] * j).astype(dtype)


def _wide(xp: Any, dtype: Any) -> Any:
    return xp.float32 if dtype == xp.float16 else dtype


_BLOCK = 2**19  # elements of x at a time with NumPy: 2 MB of float32, large enough for two threads to gain 1.7 times


def _by_images(xp: Any, work: Callable[[slice], None], x_shape: tuple[int, ...]) -> None:
    """Run ``work`` on all images: at once on a device, with NumPy a few at a time and shared out to threads."""
    if xp is not np:
        work(slice(0, x_shape[0]))
        return
    images = max(1, _BLOCK // max(1, prod(x_shape[1:])))

    def several(start: int, stop: int) -> None:
        for n in range(start, stop, images):
            work(slice(n, min(n + images, stop)))

    share(several, x_shape[0], -(-images // 4))
