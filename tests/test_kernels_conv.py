"""The three convolution kernels against loops in float64, against each other, and PyTorch where it is installed."""

import threading
from itertools import product

import numpy as np
import pytest

from helpers import to_device, to_host
from minigrad.kernels import conv, threads


@pytest.fixture
def two_threads():
    before = threads.num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


def loops(x, w, *, stride, padding, dilation, groups):
    """y by the definition: for each output pixel the window, times the weights, summed."""
    (N, _, H, W), (O, Cg, kh, kw) = x.shape, w.shape
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    oh, ow = (H + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (W + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y = np.zeros((N, O, oh, ow))
    for o, i, j in product(range(O), range(oh), range(ow)):
        c = o // (O // groups) * Cg
        rows, cols = i * sh + dh * np.arange(kh), j * sw + dw * np.arange(kw)
        y[:, o, i, j] = (padded[:, c : c + Cg][:, :, rows[:, None], cols] * w[o]).sum((1, 2, 3))
    return y


def case(x_shape, w_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    return x_shape, w_shape, dict(stride=stride, padding=padding, dilation=dilation, groups=groups)


def random_case(rng):
    """Small sizes, strides, paddings and dilations, different in height and width, that leave at least one window."""
    while True:
        groups = int(rng.choice([1, 1, 2, 3]))
        C, O = groups * rng.integers(1, 4, 2)
        kernel, stride, padding, dilation = (
            tuple(int(v) for v in rng.integers(low, high, 2)) for low, high in ((1, 5), (1, 4), (0, 4), (1, 4)))
        size = tuple(int(v) for v in rng.integers(1, 11, 2))
        if all(size[a] + 2 * padding[a] > dilation[a] * (kernel[a] - 1) for a in (0, 1)):
            return case((int(rng.integers(1, 4)), int(C), *size), (int(O), int(C) // groups, *kernel),
                        stride, padding, dilation, groups)


EDGES = {
    "reference network": case((2, 3, 8, 8), (4, 3, 3, 3), padding=(1, 1)),
    "one by one": case((2, 3, 8, 9), (4, 3, 1, 1)),
    "one by one, padded": case((2, 3, 8, 9), (4, 3, 1, 1), padding=(1, 1)),
    "one by one, strided": case((2, 3, 8, 9), (4, 3, 1, 1), stride=(2, 2)),
    "one by one, grouped": case((2, 4, 8, 9), (6, 2, 1, 1), groups=2),
    "depthwise": case((2, 4, 6, 5), (4, 1, 3, 3), padding=(1, 1), groups=4),
    "depthwise, two each": case((2, 3, 6, 5), (6, 1, 3, 3), stride=(2, 1), groups=3),
    "kernel as large as the image": case((2, 2, 5, 4), (3, 2, 5, 4)),
    "kernel as large as the padded image": case((2, 2, 3, 2), (3, 2, 5, 4), padding=(1, 1)),
    "tail no window touches": case((2, 2, 8, 9), (3, 2, 3, 3), stride=(3, 4)),
    "stride beyond the kernel": case((2, 2, 9, 9), (3, 2, 2, 2), stride=(3, 3)),
    "stride beyond the image": case((2, 2, 3, 3), (3, 2, 2, 2), stride=(5, 5)),
    "stride and dilation share a factor": case((2, 2, 12, 11), (3, 2, 3, 3), (2, 4), (3, 2), (2, 2)),
    "padding beyond the kernel": case((2, 2, 3, 3), (3, 2, 2, 2), padding=(3, 4)),
    "windows of padding only": case((1, 2, 2, 2), (3, 2, 1, 1), stride=(3, 3), padding=(3, 3)),
    "one image": case((1, 2, 6, 6), (3, 2, 3, 3), padding=(1, 1)),
    "no image": case((0, 2, 6, 6), (3, 2, 3, 3), padding=(1, 1)),
    "no image, one by one": case((0, 2, 8, 8), (3, 2, 1, 1)),
}
CASES = [*EDGES.values(), *(random_case(np.random.default_rng(seed)) for seed in range(100))]


def three_maps(xp, x, w, g, **options):
    """(y, dx, dw) on the host."""
    x_shape, w_shape = x.shape, w.shape
    x, w, g = (to_device(xp, a) for a in (x, w, g))
    return (to_host(conv.conv2d_forward(xp, x, w, **options)),
            to_host(conv.conv2d_input(xp, g, w, x_shape, **options)),
            to_host(conv.conv2d_weight(xp, x, g, w_shape, **options)))


def data(rng, x_shape, w_shape, options, dtype=np.float64):
    """Normal random x and w, y by loops, and a normal random cotangent of y."""
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    y = loops(x.astype(np.float64), w.astype(np.float64), **options)
    return x, w, y, rng.standard_normal(y.shape).astype(dtype)


def test_forward_equals_the_loops_and_the_three_maps_are_adjoint(xp, rng):
    for x_shape, w_shape, options in CASES:
        x, w, expected, g = data(rng, x_shape, w_shape, options)
        y, dx, dw = three_maps(xp, x, w, g, **options)
        assert (y.shape, dx.shape, dw.shape) == (expected.shape, x_shape, w_shape), (x_shape, w_shape, options)
        # Sums of at most 3*4*4*100 products: rounding stays some hundred times below 1e-12 of the terms' size.
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12, err_msg=f"{x_shape} {w_shape} {options}")
        a, b, c = (y * g).sum(), (x * dx).sum(), (w * dw).sum()
        assert max(abs(a - b), abs(a - c)) <= 1e-12 * max(np.abs(y * g).sum(), 1), (x_shape, w_shape, options)


@pytest.mark.parametrize("dtype, eps", [(np.float32, 2**-23), (np.float16, 2**-10)])
def test_dtype_is_kept_and_float16_is_summed_in_float32(xp, rng, dtype, eps):
    x_shape, w_shape, options = case((2, 32, 9, 9), (4, 32, 3, 3), (2, 1), (1, 1))
    x, w, expected, g = data(rng, x_shape, w_shape, options, dtype)
    wide = three_maps(xp, *(a.astype(np.float64) for a in (x, w, g)), **options)
    np.testing.assert_allclose(wide[0], expected, atol=1e-11)
    for result, exact in zip(three_maps(xp, x, w, g, **options), wide):
        assert result.dtype == dtype
        # 288 products: a float32 sum is off by a few eps of its size, a float16 result by half an eps of float16
        assert np.abs(result - exact).max() <= 4 * eps * np.abs(exact).max()


def test_float16_does_not_overflow_in_between(xp):
    x, w = np.full((1, 64, 4, 4), 10000, np.float16), np.ones((1, 64, 3, 3), np.float16)
    w[:, 32:] = -1  # on the way to 0 the sum reaches 32*9*10000, far beyond float16's 65504
    y = conv.conv2d_forward(xp, to_device(xp, x), to_device(xp, w), stride=(1, 1), padding=(0, 0),
                            dilation=(1, 1), groups=1)
    assert np.array_equal(to_host(y), np.zeros((1, 1, 2, 2), np.float16))


@pytest.mark.parametrize("name", ["reference network", "one by one", "depthwise", "tail no window touches"])
def test_strided_and_broadcast_arguments_give_the_same_and_are_left_alone(xp, rng, name):
    x_shape, w_shape, options = EDGES[name]
    x, w, _, g = data(rng, x_shape, w_shape, options)
    g = np.broadcast_to(g[:1, :1, :1, :1], g.shape).copy()
    expected = three_maps(xp, x, w, g, **options)
    crossed = to_device(xp, x.transpose(3, 2, 1, 0).copy()).transpose(3, 2, 1, 0)  # strides in reverse order
    sparse = to_device(xp, np.repeat(w, 2, axis=3))[..., ::2]
    one = to_device(xp, g[:1, :1, :1, :1].copy())
    spread = xp.broadcast_to(one, g.shape)  # all strides 0; read-only with NumPy
    if xp is np:
        crossed.flags.writeable = False
    y = conv.conv2d_forward(xp, crossed, sparse, **options)
    dx = conv.conv2d_input(xp, spread, sparse, x_shape, **options)
    dw = conv.conv2d_weight(xp, crossed, spread, w_shape, **options)
    for result, right in zip((y, dx, dw), expected):
        np.testing.assert_allclose(to_host(result), right, rtol=1e-12, atol=1e-12)
    assert np.array_equal(to_host(crossed), x) and np.array_equal(to_host(sparse), w)
    assert np.array_equal(to_host(one), g[:1, :1, :1, :1])


def test_no_result_shares_memory_with_an_argument_or_an_earlier_result(rng):
    for x_shape, w_shape, options in (EDGES["reference network"], EDGES["one by one"], EDGES["depthwise"]):
        x, w, _, g = data(rng, x_shape, w_shape, options)
        first = three_maps(np, x, w, g, **options)
        kept = [a.copy() for a in first]
        second = three_maps(np, -x, w, -g, **options)
        arrays = [x, w, g, *first, *second]
        assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
        assert all(np.array_equal(a, b) for a, b in zip(first, kept))
        assert all(a.flags.c_contiguous and a.flags.writeable for a in first)


def test_nothing_synchronizes_with_the_host(fake_device, rng):
    x_shape, w_shape, options = EDGES["tail no window touches"]
    arrays = [to_device(fake_device, a) for a in data(rng, x_shape, w_shape, options)]
    with fake_device.no_sync():
        x, w, _, g = arrays
        conv.conv2d_forward(fake_device, x, w, **options)
        conv.conv2d_input(fake_device, g, w, x_shape, **options)
        conv.conv2d_weight(fake_device, x, g, w_shape, **options)


@pytest.mark.parametrize("columns", [1, 1000, 2**28])
def test_the_definition_is_the_same_for_any_number_of_images_at_a_time(monkeypatch, rng, columns):
    monkeypatch.setattr(conv, "_COLUMNS", columns)
    monkeypatch.setattr(conv, "_correlate", lambda xp: conv.correlate)
    monkeypatch.setattr(conv, "_correlate_weight", lambda xp: conv.correlate_weight)
    for x_shape, w_shape, options in CASES[::5]:
        x, w, expected, g = data(rng, x_shape, w_shape, options)
        y, _, dw = three_maps(np, x, w, g, **options)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose((w * dw).sum(), (y * g).sum(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("block", [1, 3000, 3 * 2**18])
def test_cpu_blocks_equal_the_definition_for_any_block_size_and_number_of_threads(monkeypatch, rng, block, limit):
    monkeypatch.setattr(conv, "_BLOCK", block)
    monkeypatch.setattr(threads, "_threads", limit)
    larger = [case((5, 4, 12, 7), (6, 4, 3, 3), padding=(1, 1)),
              case((7, 4, 9, 9), (6, 2, 3, 2), (2, 1), (1, 0), (1, 2), 2)]
    for x_shape, w_shape, options in CASES[::3] + larger:
        x, w, _, g = data(rng, x_shape, w_shape, options)
        common = options["padding"], options["stride"], options["dilation"], options["groups"]
        np.testing.assert_allclose(conv.correlate_cpu(np, x, w, g.shape[2:], *common),
                                   conv.correlate(np, x, w, g.shape[2:], *common), rtol=0, atol=1e-12)
        np.testing.assert_allclose(conv.correlate_weight_cpu(np, x, g, w_shape, *common),
                                   conv.correlate_weight(np, x, g, w_shape, *common), rtol=0, atol=1e-11)


def test_an_infinite_pixel_stays_out_of_windows_that_do_not_see_it():
    x = np.ones((1, 1, 4, 5))
    x[0, 0, 1, 0] = np.inf  # next in memory to the end of row 0, and to the columns dropped between rows
    y = conv.conv2d_forward(np, x, np.ones((1, 1, 3, 3)), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    sees = np.zeros((4, 5), bool)
    sees[:3, :2] = True
    assert np.array_equal(np.isinf(y[0, 0]), sees) and not np.isnan(y).any()


def test_calls_from_several_threads_are_independent(two_threads, monkeypatch, rng):
    x, w = rng.standard_normal((8, 8, 16, 16)), rng.standard_normal((8, 8, 3, 3))
    options = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    monkeypatch.setattr(conv, "_BLOCK", 2**14)
    y = conv.conv2d_forward(np, x, w, **options)
    results = [None] * 6

    def call(i):
        for _ in range(5):
            results[i] = conv.conv2d_forward(np, x * (i + 1), w, **options)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(results))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for i, result in enumerate(results):
        np.testing.assert_allclose(result, y * (i + 1), rtol=1e-12, atol=1e-12)


def test_equals_pytorch(rng):
    torch = pytest.importorskip("torch")
    for x_shape, w_shape, options in CASES[:-1:4]:
        if 0 in x_shape:
            continue
        x, w, _, g = data(rng, x_shape, w_shape, options)
        tx, tw = (torch.tensor(a, requires_grad=True) for a in (x, w))
        ty = torch.nn.functional.conv2d(tx, tw, **options)
        ty.backward(torch.tensor(g))
        for result, right in zip(three_maps(np, x, w, g, **options), (ty, tx.grad, tw.grad)):
            np.testing.assert_allclose(result, right.detach().numpy(), rtol=0, atol=1e-11)
