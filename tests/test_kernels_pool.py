"""The pooling kernels against loops, their adjoints, ties, NaN and infinities, and PyTorch where it is installed."""

from itertools import product

import numpy as np
import pytest

from helpers import to_device, to_host
from minigrad.kernels import pool, threads


def windows(x_shape, kernel, stride, padding):
    """(output position, [(tap, row, column) of the taps inside x, in row-major order]) for all windows."""
    H, W = x_shape[2:]
    oh, ow = ((x_shape[a + 2] + 2 * padding[a] - kernel[a]) // stride[a] + 1 for a in (0, 1))
    for i, j in product(range(oh), range(ow)):
        taps = [(k * kernel[1] + m, i * stride[0] - padding[0] + k, j * stride[1] - padding[1] + m)
                for k, m in product(range(kernel[0]), range(kernel[1]))]
        yield (i, j), [(t, r, c) for t, r, c in taps if 0 <= r < H and 0 <= c < W]


def out_shape(x_shape, kernel, stride, padding):
    return (*x_shape[:2], *((x_shape[a + 2] + 2 * padding[a] - kernel[a]) // stride[a] + 1 for a in (0, 1)))


def max_by_loops(x, **options):
    """(y, index): the first of the largest, or the first NaN."""
    y = np.empty(out_shape(x.shape, **options), x.dtype)
    index = np.empty(y.shape, int)
    for (i, j), taps in windows(x.shape, **options):
        for n, c in product(range(x.shape[0]), range(x.shape[1])):
            values = np.array([x[n, c, r, q] for _, r, q in taps])
            winner = np.argmax(values)  # of NumPy, and so the first of equals, and the first NaN before all
            y[n, c, i, j], index[n, c, i, j] = values[winner], taps[winner][0]
    return y, index


def avg_by_loops(x, count_include_pad, **options):
    y = np.empty(out_shape(x.shape, **options))
    for (i, j), taps in windows(x.shape, **options):
        count = np.prod(options["kernel"]) if count_include_pad else len(taps)
        y[:, :, i, j] = sum(x[:, :, r, q] for _, r, q in taps) / count
    return y


def case(x_shape, kernel, stride=None, padding=(0, 0)):
    return x_shape, dict(kernel=kernel, stride=stride or kernel, padding=padding)


def random_case(rng):
    while True:
        size = tuple(int(v) for v in rng.integers(1, 10, 2))
        kernel, stride = (tuple(int(v) for v in rng.integers(1, 5, 2)) for _ in range(2))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        if all(size[a] + 2 * padding[a] >= kernel[a] for a in (0, 1)):
            return case((int(rng.integers(1, 3)), int(rng.integers(1, 4)), *size), kernel, stride, padding)


CASES = [
    case((2, 3, 6, 8), (2, 2)),  # windows tile the image
    case((2, 3, 7, 9), (2, 2)),  # last row and column outside all windows
    case((2, 3, 7, 7), (3, 3), (2, 2), (1, 1)),  # ResNet's: overlapping, padded
    case((2, 3, 4, 4), (2, 2), (2, 2), (1, 1)),
    case((2, 3, 5, 4), (5, 4)),  # global
    case((1, 1, 6, 6), (3, 3), (1, 1), (1, 1)),
    case((2, 2, 5, 5), (1, 1)),
    case((2, 2, 5, 5), (1, 1), (3, 2)),  # pixels between the windows
    case((1, 1, 18, 17), (18, 17)),  # more than 256 taps
    case((0, 2, 4, 4), (2, 2)),
    *(random_case(np.random.default_rng(seed)) for seed in range(60)),
]


def hard_values(rng, shape):
    """Many ties, some NaN, and -inf that must not lose against padding."""
    x = rng.integers(-2, 3, shape).astype(float)
    x[rng.random(shape) < 0.2] = -np.inf
    x[rng.random(shape) < 0.05] = np.nan
    return x


def test_max_takes_the_first_largest_or_the_first_nan_and_never_padding(xp, rng):
    for x_shape, options in CASES:
        x = hard_values(rng, x_shape)
        y, index = pool.max_pool2d_forward(xp, to_device(xp, x), **options)
        expected, winners = max_by_loops(x, **options)
        np.testing.assert_array_equal(to_host(y), expected, err_msg=f"{x_shape} {options}")
        np.testing.assert_array_equal(to_host(index), winners, err_msg=f"{x_shape} {options}")
        assert index.dtype.kind == "u"
        gathered = pool.max_pool2d_gather(xp, to_device(xp, x), index, **options)
        np.testing.assert_array_equal(to_host(gathered), expected)


def test_backward_and_gather_are_adjoint_for_the_index_of_the_forward_pass(xp, rng):
    for x_shape, options in CASES:
        _, index = pool.max_pool2d_forward(xp, to_device(xp, hard_values(rng, x_shape)), **options)
        z, g = rng.standard_normal(x_shape), rng.standard_normal(index.shape)
        dx = to_host(pool.max_pool2d_backward(xp, to_device(xp, g), index, x_shape, **options))
        read = to_host(pool.max_pool2d_gather(xp, to_device(xp, z), index, **options))
        assert dx.shape == x_shape and read.shape == g.shape
        assert abs((dx * z).sum() - (read * g).sum()) <= 1e-13 * max(np.abs(read * g).sum(), 1), (x_shape, options)


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_equals_the_loops_and_backward_is_its_adjoint(xp, rng, count_include_pad):
    for x_shape, options in CASES:
        x = rng.standard_normal(x_shape)
        y = to_host(pool.avg_pool2d_forward(xp, to_device(xp, x), count_include_pad=count_include_pad, **options))
        expected = avg_by_loops(x, count_include_pad, **options)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14, err_msg=f"{x_shape} {options}")
        g = rng.standard_normal(y.shape)
        dx = to_host(pool.avg_pool2d_backward(xp, to_device(xp, g), x_shape, count_include_pad=count_include_pad,
                                              **options))
        assert dx.shape == x_shape
        assert abs((dx * x).sum() - (y * g).sum()) <= 1e-13 * max(np.abs(y * g).sum(), 1), (x_shape, options)


def test_an_infinite_or_nan_cotangent_reaches_only_the_winner(xp):
    x = np.arange(32.0).reshape(1, 2, 4, 4)
    g = np.array([np.inf, np.nan, -np.inf, 1.0] * 2).reshape(1, 2, 2, 2)
    for padding in ((0, 0), (1, 1)):
        options = dict(kernel=(2, 2), stride=(2, 2), padding=padding)
        shape = out_shape(x.shape, **options)
        cotangent = np.resize(g, shape)
        _, index = pool.max_pool2d_forward(xp, to_device(xp, x), **options)
        dx = to_host(pool.max_pool2d_backward(xp, to_device(xp, cotangent), index, x.shape, **options))
        np.testing.assert_array_equal(np.sort(dx[dx != 0], axis=None), np.sort(cotangent, axis=None))


def test_a_window_that_sees_no_pixel_is_minus_infinity_and_gives_no_gradient(xp):
    """With dilation a window can have its taps on both sides of a narrow image."""
    options = dict(kernel=(1, 2), stride=(1, 1), padding=(0, 1), dilation=(1, 3))
    y, index = pool.max_pool2d_forward(xp, to_device(xp, np.ones((1, 1, 3, 2))), **options)
    assert y.shape == (1, 1, 3, 1) and (to_host(y) == -np.inf).all()
    assert not to_host(pool.max_pool2d_backward(xp, xp.ones(y.shape), index, (1, 1, 3, 2), **options)).any()
    assert not to_host(pool.max_pool2d_gather(xp, xp.ones((1, 1, 3, 2)), index, **options)).any()


@pytest.mark.parametrize("dtype, eps", [(np.float16, 2**-10), (np.float32, 2**-23)])
def test_dtype_is_kept_and_float16_sums_are_taken_in_float32(xp, rng, dtype, eps):
    x_shape, options = case((2, 3, 32, 33), (16, 16), (8, 8), (2, 2))
    x = (rng.standard_normal(x_shape) + 100).astype(dtype)
    device_x = to_device(xp, x)
    y, index = pool.max_pool2d_forward(xp, device_x, **options)
    assert y.dtype == dtype and np.array_equal(to_host(y), max_by_loops(x, **options)[0])
    assert pool.max_pool2d_gather(xp, device_x, index, **options).dtype == dtype
    average = pool.avg_pool2d_forward(xp, device_x, **options)
    expected = avg_by_loops(x.astype(np.float64), True, **options)
    # 30 additions of equal signs round off about 2 eps; float16 sums would be off by tens of eps
    assert average.dtype == dtype and np.abs(to_host(average) - expected).max() <= 4 * eps * np.abs(expected).max()
    g = np.full(y.shape, 1 / 256, dtype)
    for backward in (pool.max_pool2d_backward(xp, to_device(xp, g), index, x_shape, **options),
                     pool.avg_pool2d_backward(xp, to_device(xp, g), x_shape, **options)):
        assert backward.dtype == dtype
        total = to_host(backward).astype(np.float64).sum()
        assert backward.shape == x_shape and 0 < total <= g.astype(np.float64).sum() * (1 + 4 * eps)


def test_strided_and_broadcast_arguments_give_the_same_and_are_left_alone(xp, rng):
    for x_shape, options in CASES[:5]:
        x = rng.standard_normal(x_shape)
        crossed = to_device(xp, x.transpose(3, 2, 1, 0).copy()).transpose(3, 2, 1, 0)
        one = to_device(xp, np.full((1, 1, 1, 1), 2.0))
        y, index = pool.max_pool2d_forward(xp, crossed, **options)
        straight, same_index = pool.max_pool2d_forward(xp, to_device(xp, x), **options)
        spread, full = xp.broadcast_to(one, y.shape), to_device(xp, np.full(y.shape, 2.0))
        if xp is np:
            crossed.flags.writeable = False
        pairs = [(y, straight), (index, same_index),
                 (pool.max_pool2d_gather(xp, crossed, index, **options), straight),
                 (pool.max_pool2d_backward(xp, spread, index, x_shape, **options),
                  pool.max_pool2d_backward(xp, full, index, x_shape, **options)),
                 (pool.avg_pool2d_forward(xp, crossed, **options),
                  pool.avg_pool2d_forward(xp, to_device(xp, x), **options)),
                 (pool.avg_pool2d_backward(xp, spread, x_shape, **options),
                  pool.avg_pool2d_backward(xp, full, x_shape, **options))]
        for a, b in pairs:
            assert np.array_equal(to_host(a), to_host(b))
        assert np.array_equal(to_host(crossed), x) and to_host(one).item() == 2
        assert xp is not np or not any(np.shares_memory(a, b) for a, _ in pairs for b in (crossed, one, spread))


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("block", [1, 500, 2**19])
def test_any_block_size_and_number_of_threads_gives_the_same(monkeypatch, rng, block, limit):
    for x_shape, options in [case((7, 3, 6, 6), (2, 2)), case((7, 3, 7, 7), (3, 3), (2, 2), (1, 1))]:
        x, results = rng.standard_normal(x_shape), []
        for size, number in ((2**30, 1), (block, limit)):
            monkeypatch.setattr(pool, "_BLOCK", size)
            monkeypatch.setattr(threads, "_threads", number)
            y, index = pool.max_pool2d_forward(np, x, **options)
            results.append([y, index, pool.max_pool2d_backward(np, y, index, x_shape, **options),
                            pool.max_pool2d_gather(np, x, index, **options), pool.avg_pool2d_forward(np, x, **options),
                            pool.avg_pool2d_backward(np, y, x_shape, **options)])
        assert all(np.array_equal(a, b) for a, b in zip(*results))


def test_nothing_synchronizes_with_the_host(fake_device, rng):
    x_shape, options = CASES[2]
    x = to_device(fake_device, rng.standard_normal(x_shape))
    with fake_device.no_sync():
        y, index = pool.max_pool2d_forward(fake_device, x, **options)
        pool.max_pool2d_backward(fake_device, y, index, x_shape, **options)
        pool.max_pool2d_gather(fake_device, x, index, **options)
        for count_include_pad in (True, False):
            y = pool.avg_pool2d_forward(fake_device, x, count_include_pad=count_include_pad, **options)
            pool.avg_pool2d_backward(fake_device, y, x_shape, count_include_pad=count_include_pad, **options)


def test_equals_pytorch(rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    for x_shape, options in CASES:
        if 0 in x_shape:
            continue
        x = rng.integers(-3, 4, x_shape).astype(float)  # with ties: PyTorch lets the first win too
        names = dict(kernel_size=options["kernel"], stride=options["stride"], padding=options["padding"])
        y, index = pool.max_pool2d_forward(np, x, **options)
        g = rng.standard_normal(y.shape)
        tx = torch.tensor(x, requires_grad=True)
        ty = F.max_pool2d(tx, **names)
        ty.backward(torch.tensor(g))
        np.testing.assert_array_equal(y, ty.detach().numpy())
        dx = pool.max_pool2d_backward(np, g, index, x_shape, **options)
        np.testing.assert_allclose(dx, tx.grad.numpy(), atol=1e-14)
        for include in (True, False):
            tx = torch.tensor(x, requires_grad=True)
            ty = F.avg_pool2d(tx, count_include_pad=include, **names)
            ty.backward(torch.tensor(g))
            y = pool.avg_pool2d_forward(np, x, count_include_pad=include, **options)
            dx = pool.avg_pool2d_backward(np, g, x_shape, count_include_pad=include, **options)
            np.testing.assert_allclose(y, ty.detach().numpy(), atol=1e-14)
            np.testing.assert_allclose(dx, tx.grad.numpy(), atol=1e-14)
