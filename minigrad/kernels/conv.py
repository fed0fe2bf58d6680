"""2-D convolution: three linear maps on arrays, each the adjoint of the others.

    conv2d_forward   y  = conv(x, w)          linear in x and in w
    conv2d_input     dx = conv(., w)^T g      the transposed convolution
    conv2d_weight    dw = conv(x, .)^T g

so <conv(x, w), g> = <x, conv2d_input(g, w)> = <w, conv2d_weight(x, g)>, and every derivative of one of them, of any
order, is written with the other two. Layout: x (N, C, H, W), w (O, C/groups, kh, kw), y and g (N, O, oh, ow).
float16 is computed in float32 and returned as float16.

``correlate`` and ``correlate_weight`` are the definition: gather the windows into columns, multiply. The transposed
convolution is a convolution of g with flipped weights, so it needs no separate definition. With NumPy the same two
maps are computed by ``correlate_cpu`` and ``correlate_weight_cpu``: block by block, in cache, on several cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd, prod
from typing import Any

import numpy as np

from .threads import share

Array = Any
Pair = tuple[int, int]


def conv2d_forward(xp: Any, x: Array, w: Array, b: Array = None, *, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Array:
    """y[n, o, i, j] = b[o] + sum_ckl w[o, c, k, l] x[n, c, i*stride + k*dilation - padding, ...], x being 0 outside.

    Args: x (N, C, H, W); w (O, C/groups, kh, kw), same dtype; b (O,) or None. Output channels come in ``groups`` blocks, each of which
        sees its own block of C/groups input channels.
    Returns: y (N, O, oh, ow), new and C-contiguous, oh = (H + 2*padding - dilation*(kh - 1) - 1) // stride + 1.
    """
    (H, W), (kh, kw) = x.shape[2:], w.shape[2:]
    oh = (H + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (W + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = _correlate(xp)(xp, _wide(xp, x), _wide(xp, w), (oh, ow), padding, stride, dilation, groups, b)
    return y.astype(x.dtype, copy=False)


def conv2d_input(
    xp: Any, g: Array, w: Array, x_shape: tuple[int, ...], *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """The transposed convolution: dx[n, c, i] sums w[o, c, k] g[n, o, a] over all a*stride + k*dilation - padding = i.

    Args: g (N, O, oh, ow); w (O, C/groups, kh, kw); x_shape = (N, C, H, W).
    Returns: dx of shape x_shape, zero where no window reaches.

    For stride 1 this is the textbook's convolution of g with the flipped weights. For a larger stride it is one such
    convolution for each residue of i + padding modulo the stride, with the taps that reach this residue.
    """
    (_, C, H, W), (O, _, kh, kw) = x_shape, w.shape
    wide = _wide(xp, g)
    # (O, C/groups, ...) -> (C, O/groups, ...): what was an output channel is an input channel now
    wt = _wide(xp, w).reshape(groups, O // groups, C // groups, kh, kw).swapaxes(1, 2).reshape(C, O // groups, kh, kw)
    step = (dilation[0] // gcd(dilation[0], stride[0]), dilation[1] // gcd(dilation[1], stride[1]))
    rows = list(_residues(H, kh, stride[0], padding[0], dilation[0]))
    cols = list(_residues(W, kw, stride[1], padding[1], dilation[1]))
    if stride == (1, 1):
        (_, flip_rows, top), (_, flip_cols, left) = rows[0], cols[0]
        dx = _correlate(xp)(xp, wide, wt[:, :, flip_rows, flip_cols], (H, W), (top, left), (1, 1), step, groups)
    else:
        dx = xp.zeros(x_shape, dtype=wide.dtype)
        for i, taps_h, top in rows:
            for j, taps_w, left in cols:
                part = dx[:, :, i :: stride[0], j :: stride[1]]
                size, taps = part.shape[2:], wt[:, :, taps_h, taps_w]
                part[...] = _correlate(xp)(xp, wide, taps, size, (top, left), (1, 1), step, groups)
    return dx.astype(g.dtype, copy=False)


def conv2d_weight(
    xp: Any, x: Array, g: Array, w_shape: tuple[int, ...], *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """dw[o, c, k, l] = sum_nij g[n, o, i, j] x[n, c, i*stride + k*dilation - padding, ...].

    Args: x (N, C, H, W); g (N, O, oh, ow); w_shape = (O, C/groups, kh, kw).
    Returns: dw of shape w_shape.
    """
    dw = _correlate_weight(xp)(xp, _wide(xp, x), _wide(xp, g), w_shape, padding, stride, dilation, groups)
    return dw.astype(x.dtype, copy=False)


def _correlate(xp: Any) -> Any:
    return correlate_cpu if xp is np else correlate


def _correlate_weight(xp: Any) -> Any:
    return correlate_weight_cpu if xp is np else correlate_weight


def _wide(xp: Any, a: Array) -> Array:
    return a.astype(xp.float32) if a.dtype == xp.float16 else a


def _residues(size: int, kernel: int, stride: int, padding: int, dilation: int) -> Iterator[tuple[int, slice, int]]:
    """(first i, its taps in reverse, zeros before g), for each residue of i + padding modulo the stride.

    Its taps, the k with k*dilation = i + padding modulo the stride, are equally spaced. From each to the next the
    position in g moves by -dilation/gcd(dilation, stride): a dilated convolution of g with these taps in reverse.
    Residues that no tap reaches are left out.
    """
    step = stride // gcd(stride, dilation)
    for i in range(min(stride, size)):
        taps = [k for k in range(kernel) if (i + padding - k * dilation) % stride == 0]
        if taps:
            last = (i + padding - taps[-1] * dilation) // stride  # where in g the last tap, first in reverse, reads
            stop = taps[0] - step
            yield i, slice(taps[-1], stop if stop >= 0 else None, -step), -last


# -- The definition ---------------------------------------------------------------------------------------------------
# y[i] = sum_k w[k] x[i*stride + k*dilation - before] for 0 <= i < size. x is 0 outside; a negative ``before`` crops.

_COLUMNS = 2**28  # elements of columns at a time: the whole batch of an ordinary layer, without exhausting the device


def correlate(
    xp: Any, x: Array, w: Array, size: Pair, before: Pair, stride: Pair, dilation: Pair, groups: int, b: Array = None
) -> Array:
    """y (N, O, *size), as above, plus b (O,)."""
    (O, Cg, kh, kw), N = w.shape, x.shape[0]
    y = xp.empty((N, O, *size), dtype=x.dtype)
    w = w.reshape(groups, O // groups, Cg * kh * kw)
    for n, cols in _columns(xp, x, (kh, kw), size, before, stride, dilation, groups):
        product = _matmul(xp, w, cols).reshape(O, n.stop - n.start, *size).swapaxes(0, 1)
        if b is None:
            y[n] = product
        else:
            xp.add(product, b.reshape(O, 1, 1), out=y[n])
    return y


def correlate_weight(
    xp: Any, x: Array, g: Array, w_shape: tuple[int, ...], before: Pair, stride: Pair, dilation: Pair, groups: int
) -> Array:
    """dw[k] = sum_i g[i] x[i*stride + k*dilation - before], of shape w_shape."""
    O, Cg, kh, kw = w_shape
    size = g.shape[2:]
    dw = xp.zeros((groups, O // groups, Cg * kh * kw), dtype=x.dtype)
    for n, cols in _columns(xp, x, (kh, kw), size, before, stride, dilation, groups):
        rows = g[n].swapaxes(0, 1).reshape(groups, O // groups, cols.shape[2])
        dw += _matmul(xp, rows, cols.swapaxes(1, 2))
    return dw.reshape(w_shape)


def _columns(
    xp: Any, x: Array, kernel: Pair, size: Pair, before: Pair, stride: Pair, dilation: Pair, groups: int
) -> Iterator[tuple[slice, Array]]:
    """Some images, and all their windows as columns: (groups, C/groups * kh*kw, images * oh*ow), contiguous."""
    N, C = x.shape[:2]
    reach = _reach(kernel, size, stride, dilation)
    (rows, from_rows), (cols, from_cols) = _overlaps(reach, x.shape[2:], before)
    padded = xp.zeros((N, C, *reach), dtype=x.dtype)
    padded[:, :, rows, cols] = x[:, :, from_rows, from_cols]
    sn, sc, sh, sw = padded.strides
    shape = (C, *kernel, N, *size)
    strides = (sc, sh * dilation[0], sw * dilation[1], sn, sh * stride[0], sw * stride[1])
    windows = xp.lib.stride_tricks.as_strided(padded, shape, strides)
    images = max(1, _COLUMNS // (C * prod(kernel) * prod(size)))
    for n in range(0, N, images):
        some = slice(n, min(n + images, N))
        columns = xp.ascontiguousarray(windows[:, :, :, some])
        yield some, columns.reshape(groups, C // groups * prod(kernel), (some.stop - n) * prod(size))


def _matmul(xp: Any, a: Array, b: Array) -> Array:
    """(groups, m, k) @ (groups, k, n). A single group as a 2-D product: CuPy's 3-D one copies transposed operands."""
    return xp.matmul(a[0], b[0]) if a.shape[0] == 1 else xp.matmul(a, b)


def _reach(kernel: Pair, size: Pair, stride: Pair, dilation: Pair) -> Pair:
    """Height and width of what the windows read: with the tail that no window touches left out."""
    h, w = ((size[a] - 1) * stride[a] + (kernel[a] - 1) * dilation[a] + 1 for a in (0, 1))
    return h, w


def _overlaps(padded: Pair, size: Pair, before: Pair) -> list[tuple[slice, slice]]:
    """Per axis: where x, shifted by ``before``, falls into [0, padded), and which part of x that is."""
    start = [max(before[a], 0) for a in (0, 1)]
    stop = [max(min(before[a] + size[a], padded[a]), start[a]) for a in (0, 1)]
    return [(slice(start[a], stop[a]), slice(start[a] - before[a], stop[a] - before[a])) for a in (0, 1)]


# -- The same two maps on the CPU -------------------------------------------------------------------------------------
# A few images at a time, so that their columns are still in cache when BLAS reads them, and the images shared out to
# threads. For stride 1 the rows of the zero-padded image follow each other in memory, and the copies that make columns
# run over all rows at once: output pixel (i, j) is position i*pitch + j, and the positions between the rows (j >= ow)
# are computed too and dropped: 3 % of the work at width 32, against copies three times as long, row by row.
#
# Measured in ms: float32, 64 images, 3x3, forward + dx + dw on Zen 5, OpenBLAS 0.3.31 held to AVX2 or left to AVX-512.
#                     AVX2, 1 thread, 2    AVX-512, 1 thread, 2    PyTorch 2.13 (AVX-512), 1 thread, 2
#   32 -> 32, 32x32   38 to 43     20      26 to 30        13      20 to 33                17
#   32 -> 64, 16x16   19 to 21     10      12 to 13        7       9                       5
# With AVX2, 85 % of the time goes into the products, at 107 GFLOP/s where BLAS reaches 115 to 128 on any shape. Slower, on
# the first row: columns of the whole batch (70); blocks that fit L2 (5 to 10 % on one thread, 20 to 35 % on two); for dw
# no columns, but one product per tap of shifted views (16.6 for 14.4); these blocks with BLAS's own two threads (28).

_BLOCK = 3 * 2**18  # elements of columns and results at a time: 3 MB of float32


def correlate_cpu(
    xp: Any, x: Array, w: Array, size: Pair, before: Pair, stride: Pair, dilation: Pair, groups: int, b: Array = None
) -> Array:
    """The same as ``correlate``, with NumPy."""
    (O, Cg, kh, kw), (N, C) = w.shape, x.shape[:2]
    y = xp.empty((N, O, *size), dtype=x.dtype)
    w = xp.ascontiguousarray(w).reshape(groups, O // groups, Cg * kh * kw)

    def work(start: int, stop: int) -> None:
        result = None
        for n, rows, cols in _blocks(xp, x[start:stop], O, (kh, kw), size, before, stride, dilation):
            area = cols.shape[3:]  # images, rows, pitch
            place = y[start:stop][n, :, rows]
            if area == (1, *size):
                part = place.reshape(groups, O // groups, prod(area))  # a view: BLAS writes straight into y
            else:
                if result is None:  # the first block is the largest
                    result = xp.empty(O * prod(area), dtype=x.dtype)
                part = result[: O * prod(area)].reshape(groups, O // groups, prod(area))
            xp.matmul(w, cols.reshape(groups, Cg * kh * kw, prod(area)), out=part)
            if b is not None:
                part += b.reshape(groups, O // groups, 1)
            if area != (1, *size):
                place[...] = part.reshape(O, *area)[..., : size[1]].swapaxes(0, 1)

    share(work, N, -(-_images(C, O, (kh, kw), size) // 4))
    return y


def correlate_weight_cpu(
    xp: Any, x: Array, g: Array, w_shape: tuple[int, ...], before: Pair, stride: Pair, dilation: Pair, groups: int
) -> Array:
    """The same as ``correlate_weight``, with NumPy."""
    (O, Cg, kh, kw), (N, C) = w_shape, x.shape[:2]
    size = g.shape[2:]

    def work(start: int, stop: int) -> Array:
        dw = xp.zeros((groups, Cg * kh * kw, O // groups), dtype=x.dtype)  # transposed: the faster way round for BLAS
        part, padded = xp.empty_like(dw), None
        for n, rows, cols in _blocks(xp, x[start:stop], O, (kh, kw), size, before, stride, dilation):
            area = cols.shape[3:]
            if padded is None:
                padded = xp.zeros((O, *area), dtype=x.dtype)  # 0 between the rows, where g has no value
            some = padded[:, : area[0], : area[1]]
            some[..., : size[1]] = g[start:stop][n, :, rows].swapaxes(0, 1)
            rhs = some.reshape(groups, O // groups, prod(area)).swapaxes(1, 2)
            dw += xp.matmul(cols.reshape(groups, Cg * kh * kw, prod(area)), rhs, out=part)
        return dw

    dw = sum(share(work, N, -(-_images(C, O, (kh, kw), size) // 4)))
    return xp.ascontiguousarray(dw.swapaxes(1, 2)).reshape(w_shape)


def _images(C: int, O: int, kernel: Pair, size: Pair) -> int:
    """How many images make a block."""
    return max(1, _BLOCK // ((C * prod(kernel) + O) * prod(size)))


def _blocks(
    xp: Any, x: Array, O: int, kernel: Pair, size: Pair, before: Pair, stride: Pair, dilation: Pair
) -> Iterator[tuple[slice, slice, Array]]:
    """Some images, some rows of y, and their windows (C, kh, kw, images, rows, pitch), valid until the next block."""
    N, C = x.shape[:2]
    if kernel == stride == (1, 1) and before == (0, 0) and size == x.shape[2:] and prod(size) >= 64:
        for n in range(N):  # 1 x 1: the image is its own columns
            yield slice(n, n + 1), slice(0, size[0]), xp.ascontiguousarray(x[n]).reshape(C, 1, 1, 1, *size)
        return
    height, width = _reach(kernel, size, stride, dilation)
    (rows, from_rows), (cols, from_cols) = _overlaps((height, width), x.shape[2:], before)
    # What a window reads to the right of one row are the zeros to the left of the next.
    row = max(cols.stop, width - cols.start, size[1])
    pitch = row if stride == (1, 1) else size[1]
    images = max(1, min(N, _images(C, O, kernel, size)))
    some_rows = max(1, min(size[0], _BLOCK // ((C * prod(kernel) + O) * pitch)))

    padded = xp.zeros((C, images, height * row + width), dtype=x.dtype)
    inside = padded[:, :, : height * row].reshape(C, images, height, row)[:, :, rows, cols]
    sc, sn, s = padded.strides
    windows = xp.lib.stride_tricks.as_strided(
        padded,
        (C, *kernel, images, size[0], pitch),
        (sc, dilation[0] * row * s, dilation[1] * s, sn, stride[0] * row * s, stride[1] * s),
    )
    buffer = xp.empty(C * prod(kernel) * images * some_rows * pitch, dtype=x.dtype)
    for n in range(0, N, images):
        m = min(images, N - n)
        inside[:, :m] = x[n : n + m, :, from_rows, from_cols].swapaxes(0, 1)
        for r in range(0, size[0], some_rows):
            q = min(some_rows, size[0] - r)
            shape = (C, *kernel, m, q, pitch)
            block = buffer[: prod(shape)].reshape(shape)
            block[...] = windows[:, :, :, :m, r : r + q]
            yield slice(n, n + m), slice(r, r + q), block
