"""Arrays of 2^31 elements and more: what is planned for them, and the kernels at their ends, in memory that is mapped but never filled."""

import mmap
import types
from math import prod

import cuda_on_cpu
import numpy as np
import pytest
from test_kernels_cuda import needs_compiler

from minigrad.kernels.cuda import launch, rows, training
from minigrad.kernels.cuda import normalize as planning
from minigrad.kernels.normalize import Coefficients

NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux: pages exist when they are touched


class Far:
    """An array of zeros as large as you like: CuPy's attributes, on memory that is only mapped."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.ndim, self.size = tuple(shape), np.dtype(dtype), len(shape), prod(shape)
        self.flags, self.nbytes = types.SimpleNamespace(c_contiguous=True), self.size * self.dtype.itemsize
        self._memory = None

    @property
    def memory(self):
        """The elements, flat."""
        if self._memory is None:
            try:
                self._memory = np.frombuffer(mmap.mmap(-1, self.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE), self.dtype)
            except (OSError, AttributeError) as e:
                pytest.skip(f"this system does not map {self.nbytes:,} bytes: {e}")
        return self._memory

    @property
    def touched(self):
        """Is there memory?"""
        return self._memory is not None

    @property
    def data(self):
        """Where it lies; unless it was touched, somewhere at a multiple of 16 bytes."""
        return types.SimpleNamespace(ptr=256 if self._memory is None else self._memory.ctypes.data, device_id=0)

    def reshape(self, *shape):
        """Itself: nothing here looks at the shape of a result."""
        return self

    def sum(self, axis):
        """Itself."""
        return self


class FarAway:
    """A namespace of such arrays, which notes launches instead of making them."""

    RawModule = None
    cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDevice=lambda: 0))

    def __init__(self, monkeypatch):
        self.launches, self.made = [], []
        for module in (planning, rows, training):
            monkeypatch.setattr(module, "launch", lambda xp, *launch: self.launches.append((*launch[:4], launch[4:])))

    def empty(self, shape, dtype):
        """An array."""
        self.made.append(Far(shape, dtype))
        return self.made[-1]

    def ascontiguousarray(self, a):
        """The array."""
        return a

    def broadcast_to(self, a, shape):
        """An array of this shape."""
        return self.empty(shape, a.dtype)

    def run(self, folder, name, *, block):
        """Run one block of the launch of a kernel, number `block` of its grid, counted from the end if negative."""
        file, name, dtype, grid, arguments = next(one for one in self.launches if one[1] == name)
        number = lambda a: np.int64(a) if isinstance(a, (int, np.integer, bool)) else dtype.type(a) if isinstance(a, float) else a
        given = [a.memory if isinstance(a, Far) else number(a) for a in arguments]
        block %= prod(grid)
        cuda_on_cpu.run_source(launch.source(file), launch.options(dtype), folder, name, grid, (launch.THREADS,), given, races=False,
                               blocks=(block, block + 1), arrays=[a.memory for a in self.made if a.touched])
        return arguments


@pytest.fixture
def far(monkeypatch):
    return FarAway(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("large"))


# -- plans: functions of sizes alone --------------------------------------------------------------------------------------

LARGE = [(2**31,), (2**31 - 1,), (2**31 - 4,), (2**31, 2), (2**31 + 6, 3), (2, 2**31), (3, 2**30), (2, 3, 2**29), (2**20, 4096), (2**16, 2**16),
         (2**19 + 1, 4096), (2**33, 1), (1, 2**33), (2**11, 2**9, 2**12), (2**31 - 1, 1), (1, 2**31 - 1), (2**10, 2**31, 2),
         (7, 2**31 - 1, 3), (2**32, 4), (64, 2**27 + 1)]


def check(name, dtype, grid, arguments, size):
    """The limits of a launch, and what the kernel computes with 32 bits."""
    width = 16 // dtype.itemsize
    assert 0 < grid[0] < 1 << 31 and all(0 < n < 1 << 16 for n in grid[1:]), (name, grid)
    assert all(-(1 << 63) <= a < 1 << 63 for a in arguments if isinstance(a, int))
    per_block = launch.THREADS * width
    if name in ("moments_parts", "paired_parts"):
        C, L, elements, span, parts, _ = arguments[-6:]
        assert grid == (C * parts,) and elements < 1 << 31 and C * elements == size and elements % L == 0
        assert (parts - 1) * span < elements <= parts * span and span % (launch.THREADS * launch.TILE) == 0
    elif name == "column_parts":
        R, L, span, _ = arguments[-4:]
        assert size == R * L < 1 << 31 and (grid[1] - 1) * span < R <= grid[1] * span
    elif name == "combine":
        n, C, L, _, wide = arguments[-5:]
        assert n == size and size % (C * L) == 0
        assert wide or size + grid[0] * per_block < 1 << 32  # the first index beyond the end does not wrap around
    elif name == "moments_merge":
        assert grid[0] * 8 >= arguments[4]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_plans_for_large_arrays_keep_to_the_limits_of_the_device(far, shape, dtype):
    x, g, channel = (Far(s, dtype) for s in (shape, shape, (1, *shape[1:])))
    for axes in {(0,), (len(shape) - 1,), tuple(range(len(shape))), (0, *range(2, len(shape)))}:
        planning.moments(far, x, axes)
        planning.paired_sums(far, g, x, channel, None, None, axes)
    for small in (channel, Far((shape[0], *(1 for _ in shape[1:])), dtype)):
        planning.combine(far, g, x, Coefficients(small, small, small, None, None), None)
    w = Far(shape[-1:], dtype)
    rows.forward(far, x, w, w, 1e-5, True)
    rows.backward(far, g, x, w, Far((x.size // w.size, 1), dtype), Far((x.size // w.size, 1), dtype), 1e-5, True)
    training.leaky(far, x, 0.1)
    training.gate(far, g, x, 0.1)
    training.update(far, "sgd", [(x, g), (w, w)], 0.1, 0.0, 1.0, 0.0, 1.0, False, True)
    assert {"combine", "leaky_forward", "gate", "sgd"} <= {name for _, name, *_ in far.launches}
    for _, name, d, grid, arguments in far.launches:
        check(name, d, grid, arguments, x.size)


@pytest.mark.parametrize("size", [2**31 - 2**k for k in range(30)])
def test_indices_of_32_bits_never_wrap_around(far, size):
    planning.combine(far, None, Far((size,), "float32"), Coefficients(Far((1,), "float32"), Far((1,), "float32"), None, None, None), None)
    (_, name, dtype, grid, arguments), = far.launches
    assert not arguments[-1]
    check(name, dtype, grid, arguments, size)


# -- the kernels at the ends of such arrays ---------------------------------------------------------------------------------

TAIL = 5000  # elements at the end that are not zero


def filled(far, rng, shape, dtype="float32"):
    """An array with random numbers at its end."""
    a = far.empty(shape, dtype)
    a.memory[-TAIL:] = rng.normal(1, 1, min(TAIL, a.size))
    return a


ENDS = {}  # (kernel, case) -> check(far, folder, rng)


def at_the_end(*cases):
    """A check of one kernel, named in the function's name, for each case."""
    def note(check):
        for case in cases:
            ENDS[check.__name__, str(case)] = lambda far, folder, rng, case=case: check(far, folder, rng, case)
        return check
    return note


CHANNELS = ((2, 3, 2**29), (2, 2**31 - 1))  # the last channel begins beyond 2^31, or is as large as can be
LINES = (2**31 + 8, 2**31 - 4, 2**31 + 1025, 2**32 + 2**20)


@at_the_end(*CHANNELS)
def moments_parts(far, folder, rng, shape):
    x = filled(far, rng, shape)
    planning.moments(far, x, (0, 2) if len(shape) == 3 else (1,))
    _, mean, squares, _, _, elements, span, parts, _ = far.run(folder, "moments_parts", block=-1)
    count = elements - (parts - 1) * span
    assert TAIL < count and x.size > 1 << 31
    part = x.memory[-count:].astype("f8")
    np.testing.assert_allclose(mean.memory[-1], part.mean(), rtol=1e-5)
    np.testing.assert_allclose(squares.memory[-1], np.square(part - part.mean()).sum(), rtol=1e-5)
    assert not mean.memory[:-1].any()


@at_the_end("float32", "float64")
def moments_merge(far, folder, rng, dtype):
    planning.moments(far, Far((1024, 2**31 - 1), dtype), (1,))  # x itself is not touched
    means, squares, mean, variance, _, elements, span, parts = far.launches[-1][4]
    m, s = rng.normal(size=(1024, parts)), rng.uniform(1, 2, (1024, parts)) * 2.0**30
    means.memory[:], squares.memory[:] = m.reshape(-1), s.reshape(-1)
    counts = np.array([span] * (parts - 1) + [elements - span * (parts - 1)], np.longdouble)
    assert parts > 1 and int(counts[-1]) % 4096
    far.run(folder, "moments_merge", block=0)
    whole = (m * counts).sum(1) / elements
    spread = (s + counts * (m - whole[:, None]) ** 2).sum(1) / elements
    for found, wanted in ((mean, whole), (variance, spread)):
        np.testing.assert_allclose(found.memory[:8], wanted[:8].astype("f8"), rtol=0, atol=4 * np.finfo(dtype).eps * 3)


@at_the_end(*CHANNELS)
def paired_parts(far, folder, rng, shape):
    x, g, r = filled(far, rng, shape), filled(far, rng, shape), far.empty((1, 3, 1) if len(shape) == 3 else (2, 1), "float32")
    r.memory[:-1], r.memory[-1] = 1, 3
    planning.paired_sums(far, g, x, None, None, r, (0, 2) if len(shape) == 3 else (1,))
    *_, s, t, _, _, _, _, _, _ = far.run(folder, "paired_parts", block=-1)
    h = g.memory[-TAIL:].astype("f8")
    np.testing.assert_allclose(s.memory[-1], h.sum(), rtol=1e-5)
    np.testing.assert_allclose(t.memory[-1], (h * x.memory[-TAIL:] * 3).sum(), rtol=1e-5)
    assert not s.memory[:-1].any()


def last_stride(far, folder, rng, size, name, plan, formula):
    """One block, whose threads take many strides, the last of which is the end of the array."""
    x, g = (filled(far, rng, (size,)) for _ in range(2))
    plan(g, x)
    grid = far.launches[-1][3]
    per_block = launch.THREADS * (4 if size % 4 == 0 else 1)
    arguments = far.run(folder, name, block=(size - 1) // per_block % grid[0])
    out = next(a for a in arguments if isinstance(a, Far) and a.size == size and a is not x and a is not g).memory
    begin = max(-TAIL, -((size - 1) % per_block + 1))
    np.testing.assert_allclose(out[begin:], formula(g.memory[begin:], x.memory[begin:]), rtol=1e-6)
    assert not out[:1 << 20].any()  # nothing came back to the beginning


@at_the_end(*LINES)
def combine(far, folder, rng, size):
    b = far.empty((1,), "float32")
    b.memory[:] = 3
    last_stride(far, folder, rng, size, "combine", lambda g, x: planning.combine(far, g, x, Coefficients(b, None, None, None, None), None),
                lambda g, x: 3 * x + g)


def combine_beside_an_array_as_large(far, folder, rng, shape):
    """A coefficient for each element beside one for each channel: where it lies, the kernel finds out from n, c and l."""
    x, b = filled(far, rng, shape), filled(far, rng, shape)
    mu = far.empty((1, shape[1], 1), "float32")
    mu.memory[:] = 1
    planning.combine(far, None, x, Coefficients(b, mu, None, None, None), None)
    grid = far.launches[-1][3]
    arguments = far.run(folder, "combine", block=(x.size // 4 - 1) // launch.THREADS % grid[0])
    np.testing.assert_allclose(arguments[0].memory[-1000:], b.memory[-1000:] * (x.memory[-1000:] - 1), rtol=1e-6)


ENDS["combine", "beside"] = lambda far, folder, rng: combine_beside_an_array_as_large(far, folder, rng, (2, 3, 2**30))


@at_the_end(*LINES)
def leaky_forward(far, folder, rng, size):
    last_stride(far, folder, rng, size, "leaky_forward", lambda g, x: training.leaky(far, x, 0.5), lambda g, x: np.where(x > 0, x, x / 2))


@at_the_end(*LINES)
def gate(far, folder, rng, size):
    last_stride(far, folder, rng, size, "gate", lambda g, x: training.gate(far, g, x, 0.5), lambda g, x: np.where(x > 0, g, g / 2))


ROWS, L = 2**19 + 3, 4096


@at_the_end(L)
def rows_forward(far, folder, rng, L):
    x, w = filled(far, rng, (ROWS, L)), filled(far, rng, (L,))
    rows.forward(far, x, w, w, 0.0, True)
    row, scale = (a.memory[-L:].astype("f8") for a in (x, w))
    _, _, _, y, means, variances, *_ = far.run(folder, "rows_forward", block=-1)
    np.testing.assert_allclose(y.memory[-L:], (row - row.mean()) / row.std() * scale + scale, rtol=0, atol=2e-5)
    np.testing.assert_allclose((means.memory[-1], variances.memory[-1]), (row.mean(), row.var()), rtol=1e-5)


def all_blocks(far, folder, kernel):
    """Run the whole launch, and give its arguments."""
    grid = far.launches[-1][3]
    for block in range(prod(grid)):
        arguments = far.run(folder, kernel, block=block)
    return arguments


def variances_of(far, folder, x, kernel):
    """Of the rows of x, by either kernel."""
    a = far.empty(x.shape, "float32")
    a.memory[:] = x.reshape(-1)
    if kernel == "moments_parts":
        planning.moments(far, a, (1,))
        return all_blocks(far, folder, kernel)[2].memory
    w = filled(far, np.random.default_rng(0), x.shape[1:])
    rows.forward(far, a, w, None, 0.0, True)
    return all_blocks(far, folder, kernel)[5].memory


def variance_far_from_zero(far, folder, rng, kernel):
    """The mean is rounded to a hundredth of the deviation; the correction by the sum of the differences takes that out."""
    x = rng.normal(1e6, 1, (20, 1000)).astype("float32")
    np.testing.assert_allclose(variances_of(far, folder, x, kernel), x.astype("f8").var(1), rtol=2e-5)


def variance_of_a_constant(far, folder, rng, kernel):
    """It is never below 0, whatever the rounding: there is a root to be taken."""
    x = np.ones((300, 4093), "float32") * rng.normal(0, 1, (300, 1)).astype("float32")
    found = variances_of(far, folder, x, kernel)
    assert (found >= 0).all() and (found <= 1e-12).all()


for name in ("moments_parts", "rows_forward"):
    for extreme in (variance_far_from_zero, variance_of_a_constant):
        ENDS[name, extreme.__name__] = lambda far, folder, rng, extreme=extreme, name=name: extreme(far, folder, rng, name)


@at_the_end(L)
def rows_backward(far, folder, rng, L):
    x, g, w = filled(far, rng, (ROWS, L)), filled(far, rng, (ROWS, L)), filled(far, rng, (L,))
    mean, variance = (far.empty((ROWS, 1), "float32") for _ in range(2))
    variance.memory[:] = 1
    rows.backward(far, g, x, w, mean, variance, 0.0, True)
    row, h = x.memory[-L:].astype("f8"), g.memory[-L:].astype("f8") * w.memory
    arguments = far.run(folder, "rows_backward", block=(ROWS - 1) % far.launches[-1][3][0])
    np.testing.assert_allclose(arguments[5].memory[-L:], h - h.mean() - row * (h * row).mean(), rtol=0, atol=1e-4)


def last_chunk(far, folder, rng, kernel, buffers, numbers, formula):
    """The last chunk of a parameter of 2^31 elements and more."""
    size = 2**31 + training.CHUNK + 77
    arrays = [filled(far, rng, (size,)) for _ in range(2 + buffers)]
    arrays[-1].memory[-TAIL:] = np.square(arrays[-1].memory[-TAIL:])
    before = [a.memory[-TAIL:].astype("f8") for a in arrays]
    training.update(far, kernel, [tuple(arrays)], *numbers)
    far.run(folder, kernel, block=-1)
    chunk = (size - 1) % training.CHUNK + 1
    np.testing.assert_allclose(arrays[0].memory[-chunk:], formula(*(a[-chunk:] for a in before)), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(arrays[0].memory[-TAIL:-chunk], before[0][:-chunk].astype("f4"))


@at_the_end(0)
def sgd(far, folder, rng, _):
    last_chunk(far, folder, rng, "sgd", 1, (0.1, 0.9, 1.0, 0.0, 1.0, False, False), lambda p, g, v: p - 0.1 * (0.9 * v + g))


@at_the_end(0)
def adam(far, folder, rng, _):
    last_chunk(far, folder, rng, "adam", 2, (0.1, 0.9, 0.1, 1e-8, 0.0, 1.0, 1.0, 1.0, 0.5),
               lambda p, g, m, v: p - 0.5 * (0.9 * m + 0.1 * g) / (np.sqrt(0.9 * v + 0.1 * g * g) + 1e-8))


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize(("kernel", "case"), ENDS)
def test_kernels_at_the_ends_of_large_arrays_and_at_other_extremes(far, folder, rng, kernel, case):
    ENDS[kernel, case](far, folder, rng)
