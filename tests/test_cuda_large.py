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
            monkeypatch.setattr(module, "launch", lambda xp, file, name, dtype, grid, *arguments: self.launches.append((file, name, dtype, grid, arguments)))

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
        given = [np.int64(a) if isinstance(a, (int, np.integer, bool)) else dtype.type(a) if isinstance(a, float) else getattr(a, "memory", a) for a in arguments]
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

LARGE = [(2**31,), (2**31 - 1,), (2**31 - 4,), (2**31, 2), (2**31 + 6, 3), (2, 2**31), (3, 2**30), (2, 3, 2**29), (2**20, 4096), (2**16, 2**16), (2**19 + 1, 4096),
         (2**33, 1), (1, 2**33), (2**11, 2**9, 2**12), (2**31 - 1, 1), (1, 2**31 - 1), (2**10, 2**31, 2), (7, 2**31 - 1, 3), (2**32, 4), (64, 2**27 + 1)]


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


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize("shape", [(2, 3, 2**29), (3, 2**30 - 1)], ids=str)
def test_sums_of_the_last_part_of_the_last_channel(far, folder, rng, shape):
    axes = (0, 2) if len(shape) == 3 else (1,)
    x, g, r = filled(far, rng, shape), filled(far, rng, shape), far.empty((3,) if len(shape) == 3 else (3, 1), "float32")
    r.shape, r.ndim = ((1, 3, 1), 3) if len(shape) == 3 else ((3, 1), 2)
    r.memory[:] = 1, 2, 3
    planning.moments(far, x, axes)
    planning.paired_sums(far, g, x, None, None, r, axes)
    _, mean, squares, C, L, elements, span, parts, _ = far.run(folder, "moments_parts", block=-1)
    count = elements - (parts - 1) * span
    assert TAIL < count and x.size > 1 << 31
    part = x.memory[-count:].astype("f8")
    np.testing.assert_allclose(mean.memory[-1], part.mean(), rtol=1e-5)
    np.testing.assert_allclose(squares.memory[-1], np.square(part - part.mean()).sum(), rtol=1e-5)
    *_, s, t, C, L, elements, span, parts, _ = far.run(folder, "paired_parts", block=-1)
    h = g.memory[-TAIL:].astype("f8")
    np.testing.assert_allclose(s.memory[-1], h.sum(), rtol=1e-5)
    np.testing.assert_allclose(t.memory[-1], (h * part[-TAIL:] * 3).sum(), rtol=1e-5)
    assert not s.memory[:-1].any() and not mean.memory[:-1].any()


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize("size", [2**31 + 8, 2**31 - 4, 2**31 + 1025, 2**32 + 2**20], ids=str)
def test_one_block_of_combine_and_of_activations_reaches_the_end(far, folder, rng, size):
    """Each thread takes many strides; the last elements are those of one block or two, which are run."""
    x, g = (filled(far, rng, (size,)) for _ in range(2))
    b = far.empty((1,), "float32")
    b.memory[:] = 3
    planning.combine(far, g, x, Coefficients(b, None, None, None, None), None)
    training.leaky(far, x, 0.5)
    training.gate(far, g, x, 0.5)
    for name, formula in (("combine", lambda g, x: 3 * x + g), ("leaky_forward", lambda g, x: np.where(x > 0, x, x / 2)),
                          ("gate", lambda g, x: np.where(x > 0, g, g / 2))):
        _, _, dtype, grid, _ = next(one for one in far.launches if one[1] == name)
        per_block = launch.THREADS * (4 if size % 4 == 0 else 1)
        arguments = far.run(folder, name, block=(size - 1) // per_block % grid[0])
        out = arguments[{"combine": 0, "leaky_forward": 1, "gate": 2}[name]].memory
        begin = max(-TAIL, -((size - 1) % per_block + 1))  # of what this block takes in its last stride
        np.testing.assert_allclose(out[begin:], formula(g.memory[begin:], x.memory[begin:]), rtol=1e-6)
        assert not out[:1 << 20].any()  # nothing came back to the beginning


@pytest.mark.more
@needs_compiler
def test_the_last_rows_of_layer_norm(far, folder, rng):
    L = 4096
    x, g = (filled(far, rng, (2**19 + 3, L)) for _ in range(2))
    w = filled(far, rng, (L,))
    mean, variance = (far.empty((2**19 + 3, 1), "float32") for _ in range(2))
    variance.memory[:] = 1
    rows.forward(far, x, w, w, 0.0, True)
    rows.backward(far, g, x, w, mean, variance, 0.0, True)
    row, cotangent, scale = (a.memory[-L:].astype("f8") for a in (x, g, w))
    _, _, _, y, means, variances, *_ = far.run(folder, "rows_forward", block=-1)
    np.testing.assert_allclose(y.memory[-L:], (row - row.mean()) / row.std() * scale + scale, rtol=0, atol=2e-5)
    np.testing.assert_allclose((means.memory[-1], variances.memory[-1]), (row.mean(), row.var()), rtol=1e-5)
    arguments = far.run(folder, "rows_backward", block=(2**19 + 2) % 528)
    h = cotangent * scale
    np.testing.assert_allclose(arguments[5].memory[-L:], h - h.mean() - row * (h * row).mean(), rtol=0, atol=1e-4)


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize("kernel", ["sgd", "adam"])
def test_the_last_chunk_of_a_parameter(far, folder, rng, kernel):
    size = 2**31 + 4096 + 77
    p, g, m, v = (filled(far, rng, (size,)) for _ in range(4))
    v.memory[-TAIL:] = np.square(v.memory[-TAIL:])
    before = [a.memory[-TAIL:].astype("f8") for a in (p, g, m, v)]
    arrays, numbers = {"sgd": ((p, g, m), (0.1, 0.9, 1.0, 0.0, 1.0, False, False)), "adam": ((p, g, m, v), (0.1, 0.9, 0.1, 1e-8, 0.0, 1.0, 1.0, 1.0, 0.5))}[kernel]
    training.update(far, kernel, [arrays], *numbers)
    far.run(folder, kernel, block=-1)
    chunk = (size - 1) % training.CHUNK + 1
    P, G, M, V = (a[-chunk:] for a in before)
    M = 0.9 * M + G if kernel == "sgd" else 0.9 * M + 0.1 * G
    wanted = P - 0.1 * M if kernel == "sgd" else P - 0.5 * M / (np.sqrt(0.9 * V + 0.1 * G * G) + 1e-8)
    np.testing.assert_allclose(p.memory[-chunk:], wanted, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(p.memory[-TAIL:-chunk], before[0][:-chunk].astype("f4"))
