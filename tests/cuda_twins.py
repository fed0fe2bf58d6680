"""NumPy twins of the CUDA kernels: the same arguments (pointers as flat arrays), the same parts and the same order of merging.

The fake device runs them in the place of the kernels, so that the whole suite goes through the planning and launching code;
tests/test_kernels_cuda.py compares them with the CUDA source itself, run by an emulator.
"""

import ctypes

import numpy as np

THREADS, TILE, CHUNK = 256, 16, 4096


def indices(n, c, l, C, L, code):
    """Where a small array with this code keeps the value for (n, c, l)."""
    along_c = L if code & 4 else 1
    along_n = along_c * (C if code & 2 else 1)
    return (l if code & 4 else 0) + (c * along_c if code & 2 else 0) + (n * along_n if code & 1 else 0)


def small(p, code, absent, n, c, l, C, L):
    return absent if p is None else p[indices(n, c, l, C, L, code) + 0 * (n + c + l)]


def part(c, start, stop, C, L):
    """n, l and the place of elements start to stop of channel c."""
    e = np.arange(start, stop)
    n, l = e // L, e % L
    return n, l, (n * C + c) * L + l


def moments_parts(grid, x, mean, squares, C, L, elements, span, parts, vector):
    assert grid == (C * parts,) and (not vector or L % (16 // x.itemsize) == 0)
    for block in range(C * parts):
        c, start = block // parts, block % parts * span
        stop, mu, ss = min(start + span, elements), x.dtype.type(0), x.dtype.type(0)
        for tile in range(start, stop, THREADS * TILE):
            v = x[part(c, tile, min(tile + THREADS * TILE, stop), C, L)[2]]
            count = v.size
            centre = v.sum() / x.dtype.type(count)
            d, dd = (v - centre).sum(), np.square(v - centre).sum()
            here, rest, seen = centre + d / x.dtype.type(count), max(dd - d * d / x.dtype.type(count), 0), tile - start
            delta = here - mu
            mu = mu + delta * x.dtype.type(count / (seen + count))
            ss = ss + rest + delta * delta * x.dtype.type(seen * (count / (seen + count)))
        mean[block], squares[block] = mu, ss / x.dtype.type(elements) if parts == 1 else ss


def moments_merge(grid, means, squares, mean, variance, C, elements, span, parts):
    assert grid == (-(-C // 8),)
    counts = np.full(parts, span, means.dtype)
    counts[-1] = elements - span * (parts - 1)
    assert 0 < counts[-1] <= span
    m, s = means.reshape(C, parts), squares.reshape(C, parts)
    centre = m[:, :1]
    mu = centre[:, 0] + ((m - centre) * (counts / elements)).sum(1)
    mean[:C] = mu
    variance[:C] = (s + counts * np.square(m - mu[:, None])).sum(1) / elements


def paired_parts(grid, g, x, mu, mu_code, w, w_code, r, r_code, s, t, C, L, elements, span, parts, vector):
    assert grid == (C * parts,) and (not vector or L % (16 // x.itemsize) == 0)
    for block in range(C * parts):
        c, start = block // parts, block % parts * span
        n, l, at = part(c, start, min(start + span, elements), C, L)
        h = g[at] * small(w, w_code, 1, n, c, l, C, L)
        s[block] = h.sum()
        t[block] = (h * ((x[at] - small(mu, mu_code, 0, n, c, l, C, L)) * small(r, r_code, 1, n, c, l, C, L))).sum()


def column_parts(grid, g, x, mu, mu_code, w, w_code, r, r_code, s, t, R, L, span, vector):
    wide, parts = grid
    assert wide == -(-L // (32 * (16 // x.itemsize if vector else 1))) and (parts - 1) * span < R <= parts * span
    n, l = np.arange(R)[:, None], np.arange(L)
    h = g[:R * L].reshape(R, L) * small(w, w_code, 1, n, 0, l, 1, L)
    hx = h * ((x[:R * L].reshape(R, L) - small(mu, mu_code, 0, n, 0, l, 1, L)) * small(r, r_code, 1, n, 0, l, 1, L))
    for p in range(parts):
        rows = slice(p * span, (p + 1) * span)
        s[p * L:(p + 1) * L], t[p * L:(p + 1) * L] = h[rows].sum(0), hx[rows].sum(0)


def combine(grid, out, g, x, mu, mu_code, a, a_code, b, b_code, c, c_code, w, w_code, size, C, L, vector, wide):
    assert size == x.size and size % (C * L) == 0 and wide == (size >= 2**31)
    e = np.arange(size)
    n, channel, l = e // (C * L), e // L % C, e % L

    def value(p, code, absent):
        return small(p, code, absent, n, channel, l, C, L)
    scaled = (x - value(mu, mu_code, 0)) * value(b, b_code, 1)
    y = scaled * value(w, w_code, 1) if g is None else scaled + g * value(w, w_code, 1) * value(a, a_code, 1)
    out[...] = y + value(c, c_code, 0)


def rows_forward(grid, x, w, b, y, mean, variance, eps, L, centred, vector):
    rows, (R,) = x.reshape(-1, L), grid
    assert L <= THREADS * TILE and len(rows) == R
    mu = rows.mean(1, keepdims=True) if centred else np.zeros((R, 1), x.dtype)
    d = rows - mu
    dd = np.square(d).sum(1)
    if centred:
        mu = mu + d.mean(1, keepdims=True)
        dd = dd - np.square(d.sum(1)) / x.dtype.type(L)
        mean[:R] = mu[:, 0]
    variance[:R] = np.maximum(dd, 0) / x.dtype.type(L)
    rstd = 1 / np.sqrt(variance[:R, None] + eps)
    y[...] = ((rows - mu) * rstd * w + (0 if b is None else b)).reshape(-1)


def rows_backward(grid, g, x, w, mean, variance, dx, dw, db, eps, R, L, centred, vector):
    (blocks,) = grid
    assert L <= THREADS * TILE and blocks <= R
    g, rows, rstd = g.reshape(R, L), x.reshape(R, L), 1 / np.sqrt(variance.reshape(R, 1) + eps)
    xhat = (rows - mean.reshape(R, 1) if centred else rows) * rstd
    for block in range(blocks):
        dw[block * L:(block + 1) * L], db[block * L:(block + 1) * L] = (g * xhat)[block::blocks].sum(0), g[block::blocks].sum(0)
    h = g * w
    mean_h = h.mean(1, keepdims=True) if centred else 0
    dx[...] = ((h - mean_h - xhat * (h * xhat).mean(1, keepdims=True)) * rstd).reshape(-1)


def leaky_forward(grid, x, y, slope, size, vector):
    y[...] = np.where((x > 0) | np.isnan(x), x, 0 if slope == 0 else x * slope)


def gate(grid, g, y, dx, slope, size, vector):
    dx[...] = np.where(y > 0, g, 0 if slope == 0 else g * slope)


def _tensors(table, count, dtype, names):
    """The arrays that a table's addresses point to."""
    kind = {"f": ctypes.c_float, "d": ctypes.c_double}[dtype.char]
    for i in range(count):
        size = int(table["size"][0, i])
        assert table["block"][0, i + 1] - table["block"][0, i] == -(-size // CHUNK)
        yield [None if not table[n][0, i] else np.ctypeslib.as_array((kind * size).from_address(int(table[n][0, i]))) for n in names]


def sgd(grid, table, count, lr, momentum, undamped, decay, sign, nesterov, initial):
    assert grid == (table["block"][0, count],)
    for p, g, v in _tensors(table, count, lr.dtype, ("p", "g", "first")):
        d = sign * g + decay * p
        if v is not None:
            v[...] = d if initial else momentum * v + undamped * d
            d = d + momentum * v if nesterov else v
        p -= lr * d


def adam(grid, table, count, weight1, beta2, weight2, eps, decay, shrink, sign, root, rate):
    assert grid == (table["block"][0, count],)
    for p, g, m, v in _tensors(table, count, rate.dtype, ("p", "g", "first", "second")):
        value = p * shrink
        d = sign * g + decay * value
        m += weight1 * (d - m)
        v[...] = beta2 * v + weight2 * (d * d)
        p[...] = value - rate * (m / (np.sqrt(v) / root + eps))


TWINS = {f.__name__: f for f in (moments_parts, moments_merge, paired_parts, column_parts, combine, rows_forward, rows_backward,
                                 leaky_forward, gate, sgd, adam)}
