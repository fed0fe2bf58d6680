"""The CUDA kernels: their source, run on the CPU by an emulator, against their twins; the twins against plain formulas; NVRTC.

Every launch of a layer, an activation or an optimizer on the fake device is run twice here: by the NumPy twin, and by the
CUDA source itself (tests/cuda_on_cpu), compiled with g++, on copies between guard zones.
"""

import importlib
import os
import threading

import cuda_on_cpu
import numpy as np
import pytest
from cuda_on_cpu import nvrtc
from cuda_twins import TWINS

import layers
import minigrad as mg
import models
from fakecupy import cuda as fake_cuda
from helpers import to_device, to_host
from minigrad import optim
from minigrad.kernels import normalize, select, threads
from minigrad.kernels.cuda import launch, training
from minigrad.kernels.cuda import normalize as planning
from minigrad.kernels.normalize import Coefficients
from minigrad.kernels.reduce import sum_over

matmul = importlib.import_module("minigrad.kernels.matmul")

REQUIRED = bool(os.environ.get("MINIGRAD_CUDA_CHECK"))  # by make cuda-check, which is no check if its tools are not found
needs_compiler = pytest.mark.skipif(cuda_on_cpu.COMPILER is None and not REQUIRED, reason="no g++ on Linux")
FILES = ("normalize", "rows", "training")


# -- the source against the twins ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def emulation(folder):
    """All launches on the fake device are compared with the CUDA source."""
    already = list(fake_cuda.OBSERVERS)  # with --emulate-cuda
    observer = already[0] if already else cuda_on_cpu.Emulation(folder)
    observer.seen.clear()
    fake_cuda.OBSERVERS[:] = [observer]
    yield observer
    fake_cuda.OBSERVERS[:] = already


SHAPES = [  # shape, axes: channels, rows, columns, odd sizes, one element
    ((3, 5, 4, 10), (0, 2, 3)), ((2, 3, 7, 7), (0, 2, 3)), ((4, 33), (1,)), ((4, 36), (1,)), ((70, 40), (0,)), ((130, 7), (0,)), ((2, 1, 9000), (0, 2)),
    ((1, 2, 4096), (0, 2)), ((2, 3, 5, 8), (2, 3)), ((2, 3, 5, 8), (3,)), ((6, 1, 1), (0,)), ((1, 1), (0, 1)), ((5,), (0,)), ((3, 1, 4), (0, 2)),
    ((1, 40000), (1,)), ((300, 260), (0,)), ((1, 140000), (1,)),  # the last: more parts than a warp has lanes
]
COMBINED = [(3, 5, 4, 10), (2, 3, 7, 7), (4, 33), (6, 1, 1), (2, 4, 3, 8), (1,)]
SIZES = [1, 4, 1000, 4099]


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axes"), SHAPES, ids=str)
def test_moments_and_sums_are_those_of_the_source_and_of_numpy(emulation, fake_device, rng, shape, axes, dtype):
    xp = fake_device
    x, g = (rng.normal(m, 1.5, shape).astype(dtype) for m in (100.0, 0.3))
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    mu, r = rng.normal(100, 1, kept).astype(dtype), rng.uniform(0.5, 2, kept).astype(dtype)
    w = rng.uniform(0.5, 2, tuple(n if i in axes else 1 for i, n in enumerate(shape))).astype(dtype)
    tolerance = 3e-5 if dtype == "float32" else 1e-13
    for found, wanted in zip(normalize.moments(xp, to_device(xp, x), axes), (x.mean(axes, "f8", keepdims=True), x.var(axes, "f8", keepdims=True))):
        assert found.dtype == dtype
        np.testing.assert_allclose(to_host(found), wanted, rtol=tolerance, atol=tolerance * 10)
    for weights in ((mu, None, None), (mu, w, r), (None, None, r), (None, w, None)):
        given = [None if a is None else to_device(xp, a) for a in weights]
        mu_, w_, r_ = (default if a is None else a.astype("f8") for a, default in zip(weights, (0.0, 1.0, 1.0)))
        h, xhat = g * w_, (x - mu_) * r_
        for found, wanted in zip(normalize.paired_sums(xp, to_device(xp, g), to_device(xp, x), *given, axes), (h, h * xhat)):
            size = np.abs(wanted).sum(axes, keepdims=True)
            assert (np.abs(to_host(found) - wanted.sum(axes, keepdims=True)) <= tolerance * size).all()
    assert emulation.seen or 1 in {x.size}


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", COMBINED, ids=str)
def test_combine_is_that_of_the_source_and_of_numpy(emulation, fake_device, rng, shape, dtype):
    xp = fake_device
    x, g = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    for _ in range(6):
        mu, a, b, c, w = (rng.normal(size=tuple(n if rng.random() < 0.5 else 1 for n in shape)).astype(dtype) for _ in range(5))
        given = Coefficients(*[to_device(xp, s) for s in (b, mu, c, a, w)])
        found = normalize.combine(xp, to_device(xp, g), to_device(xp, x), given)
        np.testing.assert_allclose(to_host(found), a * w * g + b * (x - mu) + c, rtol=tolerance, atol=20 * tolerance)
        found = normalize.combine(xp, None, to_device(xp, x), Coefficients(given.b, given.mu))
        np.testing.assert_allclose(to_host(found), b * (x - mu), rtol=tolerance, atol=20 * tolerance)
        found = normalize.combine(xp, None, to_device(xp, x), given)
        np.testing.assert_allclose(to_host(found), w * b * (x - mu) + c, rtol=tolerance, atol=20 * tolerance)
        out = to_device(xp, x)
        assert normalize.combine(xp, to_device(xp, g), out, Coefficients(given.b, a=given.a), out=out) is out
        np.testing.assert_allclose(to_host(out), a * g + b * x, rtol=tolerance, atol=20 * tolerance)
    assert {name for name, _ in emulation.seen} == {"combine"}


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(layers.REGISTRY))
def test_layers_run_the_source(emulation, fake_device, rng, name, dtype):
    """Every case of every layer, forward and backward; the gradients are NumPy's."""
    layer = layers.REGISTRY[name]
    for title, arrays, keywords in layer.cases(dtype, rng):
        results = []
        for backend in ("numpy", "fake"):
            keywords_ = {k: mg.tensor(v, backend=backend) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
            inputs = [mg.tensor(a, requires_grad=True, backend=backend) for a in arrays]
            y = layer.form("derived")(*inputs, **keywords_)
            cotangent = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
            results.append([t.numpy() for t in (y, *mg.grad(y, inputs, mg.tensor(cotangent, backend=backend)))])
        for ours, theirs in zip(*results):
            scale = max(1.0, np.abs(theirs).max(initial=0))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=scale * (2e-3 if dtype == "float32" else 1e-9), err_msg=title)


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_activations_are_those_of_the_source(emulation, fake_device, rng, size, dtype):
    xp = fake_device
    x, g = (rng.normal(size=size).astype(dtype) for _ in range(2))
    x[0] = np.nan
    for slope in (0.0, 0.2, 1.5):
        np.testing.assert_allclose(to_host(select.leaky(xp, to_device(xp, x), slope)), np.where(x > 0, x, x * x.dtype.type(slope)), rtol=1e-6)
        np.testing.assert_allclose(to_host(select.gate(xp, to_device(xp, g), to_device(xp, x), slope)), np.where(x > 0, g, g * x.dtype.type(slope)), rtol=1e-6)
    assert len(emulation.seen) == 6


OPTIMIZERS = [lambda p: optim.SGD(p, 0.1), lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
              lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, maximize=True), lambda p: optim.Adam(p, 0.01, weight_decay=0.1),
              lambda p: optim.AdamW(p, 0.01, betas=(0.8, 0.95))]


@pytest.mark.more
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", OPTIMIZERS, ids=["plain", "momentum", "nesterov", "adam", "adamw"])
def test_optimizers_take_one_launch_for_48_parameters(emulation, fake_device, rng, make, dtype):
    arrays = [rng.normal(size=s).astype(dtype) for s in ((3,), (5000,), (), (64, 64), *[(2, 3)] * 46)]
    results = []
    for backend in ("numpy", "fake"):
        parameters = [mg.tensor(a, requires_grad=True, backend=backend) for a in arrays]
        optimizer = make(parameters)
        draws = np.random.default_rng(2)
        for step in range(3):
            for p in parameters:  # at addresses that are no multiples of 16 bytes, half of the time
                whole = mg.backend.from_numpy(draws.normal(size=p.size + 1).astype(dtype), backend)
                p.grad = mg.from_array(whole[step % 2:p.size + step % 2].reshape(p.shape), copy=False)
            with fake_device.no_sync(), fake_device.count() as counts:
                optimizer.step()
            assert counts.h2d == 0
            if step:  # the first makes buffers
                assert counts.launches == (2 if backend == "fake" else 0)
        results.append([p.numpy() for p in parameters])
    assert len(emulation.seen) == 6  # 50 parameters: two tables per step
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6 if dtype == "float32" else 1e-14)


def test_every_kernel_has_a_twin():
    assert {name for file in FILES for name in launch.names(file)} == set(TWINS)


# -- when kernels apply -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["float16", "transposed", "empty", "mixed", "interleaved"])
def test_what_kernels_are_not_made_for_is_left_to_array_operations(fake_device, rng, change):
    xp = fake_device
    x = xp.asarray(rng.normal(size=(0 if change == "empty" else 4, 3, 5)).astype("float16" if change == "float16" else "float32"))
    mu = xp.asarray(np.zeros((1, 3, 1), "float64" if change == "mixed" else x.dtype))
    x = x.transpose(2, 1, 0) if change == "transposed" else x
    axes = (1,) if change == "interleaved" else (0, 2)
    if change != "mixed":
        assert planning.moments(xp, x, axes if change != "interleaved" else ()) is None
    assert change == "interleaved" or planning.paired_sums(xp, x, x, mu, None, None, axes) is None
    assert change == "interleaved" or planning.combine(xp, None, x, Coefficients(mu, mu), None) is None


def test_the_tables_of_python_and_cuda_are_alike():
    source = launch.source("training")
    assert f"const int MANY = {training.MANY};" in source and f"const int CHUNK = {training.CHUNK};" in source
    assert f"const int THREADS = {launch.THREADS};" in source and f"#define TILE {launch.TILE} " in source
    assert training.TABLE.itemsize <= 4000  # of 4 KB of arguments


# -- compiled for the devices -------------------------------------------------------------------------------------------


needs_nvrtc = pytest.mark.skipif(nvrtc.nvrtc() is None and not REQUIRED, reason="NVRTC is not installed: pip install -e '.[cuda-check]'")
DTYPES, ARCHITECTURES = ("float32", "float64"), ("sm_80", "sm_90")


@pytest.mark.more
@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", FILES)
def test_nvrtc_compiles_the_source_without_warnings_and_without_spilled_registers(file, dtype, architecture):
    binary, log = nvrtc.compiled(file, dtype, architecture)
    assert "warning" not in log, log
    assert all(name.encode() in binary for name in launch.names(file))
    used = nvrtc.usage(log)
    assert set(used) == set(launch.names(file))
    assert all(0 < u.registers <= 65536 // launch.THREADS and not u.spilled and u.shared <= 48 << 10 for u in used.values()), used


@pytest.mark.more
@needs_nvrtc
def test_the_registers_of_every_kernel_are_printed(capsys):
    text = nvrtc.table(FILES, DTYPES, ARCHITECTURES)
    assert len(text.splitlines()) == 1 + len(TWINS)
    with capsys.disabled():
        print(f"\n{text}\n" if REQUIRED else "", end="")


def test_what_ptxas_says_is_read_right():
    log = """ptxas info    : Compiling entry function 'a' for 'sm_90'
ptxas         .     48 bytes stack frame, 52 bytes spill stores, 60 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 48 bytes cumulative stack size, 64 bytes smem
ptxas info    : Compiling entry function 'b' for 'sm_90'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 400 bytes cmem[0]"""
    assert nvrtc.usage(log) == {"a": (128, 60, 48, 64), "b": (8, 0, 0, 0)}


# -- products and sums in the order that suits a device -------------------------------------------------------------------


def test_large_transposed_stacks_are_multiplied_one_by_one(fake_device, rng):
    a, b = rng.normal(size=(3, 8, 9000)), rng.normal(size=(3, 8, 9000))
    with fake_device.count() as counted:
        y = matmul.matmul(fake_device, fake_device.asarray(a), fake_device.asarray(b).transpose(0, 2, 1))
    np.testing.assert_allclose(to_host(y), a @ b.transpose(0, 2, 1), rtol=1e-12)
    assert counted.launches == 6


@pytest.mark.parametrize("axes", [(0, 2, 3), (0, 3), (2, 3), (0, 1, 2, 3), (1, 3), (0,), (3,), (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_in_two_stages_are_numpys(xp, rng, axes, keepdims):
    a = rng.normal(size=(3, 4, 5, 6))
    found = sum_over(xp, to_device(xp, a), axes, keepdims)
    np.testing.assert_allclose(to_host(found), a.sum(axes, keepdims=keepdims), rtol=0, atol=1e-12)
    assert found.shape == a.sum(axes, keepdims=keepdims).shape


# -- a whole step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["SGD", *(pytest.param(name, marks=pytest.mark.more) for name in ("Adam", "AdamW", "RMSprop"))])
@pytest.mark.parametrize("norm", [*models.parts.NORMS])
def test_no_training_step_waits_for_the_device_or_copies_to_it(fake_device, rng, norm, optimizer):
    with mg.use("fake"):
        model = models.build("tiny_cnn", norm=norm, in_channels=1, size=8, width=0.5, slope=0.01)
        x, t = mg.tensor(rng.normal(size=(8, 1, 8, 8)).astype("float32"), backend="fake"), mg.tensor(np.arange(8) % 10, backend="fake")
    trained = getattr(optim, optimizer)(model.parameters(), lr=0.01)

    def step():
        loss = mg.cross_entropy(model(x), t)
        trained.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        trained.step()
        return loss
    step()
    with fake_device.no_sync(), fake_device.count() as counts:
        loss = step()
    assert (counts.syncs, counts.h2d, counts.d2h, counts.implicit) == (0, 0, 0, 0), counts.log
    assert np.isfinite(loss.item())


# -- what goes wrong between steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [OPTIMIZERS[1], OPTIMIZERS[4]], ids=["momentum", "adamw"])
def test_buffers_of_another_dtype_than_their_parameters_never_reach_a_kernel(fake_device, rng, make):
    """A model that changes its dtype between two steps: the kernels would read beyond the ends of the old buffers."""
    start, cotangent, results = rng.normal(size=(6, 5)).astype("float32"), rng.normal(size=(2, 6)), []
    for backend in ("numpy", "fake"):
        with mg.use(backend):
            model = mg.nn.Linear(5, 6)
        model.weight.data[...] = mg.backend.from_numpy(start, backend)
        model.bias.data[...] = 0
        optimizer = make(model.parameters())
        for dtype in ("float32", "float64"):
            model.astype(dtype)
            x = mg.tensor(np.arange(10.0).reshape(2, 5).astype(dtype), backend=backend)
            optimizer.zero_grad()
            model(x).backward(mg.tensor(cotangent.astype(dtype), backend=backend))
            optimizer.step()
        results.append(model.weight.numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-6)


def test_a_first_step_that_fails_is_a_first_step_when_tried_again(fake_device, monkeypatch):
    p = mg.tensor(np.ones(3, "float32"), requires_grad=True, backend="fake")
    optimizer = optim.SGD([p], lr=1.0, momentum=0.9, dampening=0.5)
    p.grad = mg.tensor(np.ones(3, "float32"), backend="fake")
    with monkeypatch.context() as broken:
        broken.setattr(training, "launch", lambda *a: (_ for _ in ()).throw(RuntimeError("no compiler")))
        with pytest.raises(RuntimeError, match="no compiler"):
            optimizer.step()
    optimizer.step()
    np.testing.assert_array_equal(p.numpy(), 0)  # v = d at first, not (1 - dampening) d


def test_numbers_of_numpy_have_the_kernels_width(fake_device):
    p = mg.tensor(np.ones(3), requires_grad=True, backend="fake")
    p.grad = mg.tensor(np.ones(3), backend="fake")
    optim.Adam([p], lr=0.5, betas=(np.float32(0.9), np.float32(0.99))).step()
    assert p.dtype == "float64" and np.isfinite(p.numpy()).all() and abs(p.numpy() - 0.5).max() < 1e-6


def test_work_for_a_device_is_issued_by_one_thread(fake_device, rng, monkeypatch):
    """CuPy's current stream belongs to a thread; groups of two sizes are two stacks, which on the host two threads take."""
    seen = set()
    observe = lambda kernel, grid, block, arguments, run: (seen.add(threading.current_thread()), run())
    monkeypatch.setattr(fake_cuda, "OBSERVERS", [observe])
    original = type(fake_device.zeros(1))._wrap.__func__
    monkeypatch.setattr(type(fake_device.zeros(1)), "_wrap", classmethod(lambda cls, v, xp: (seen.add(threading.current_thread()), original(cls, v, xp))[1]))
    x = mg.tensor(rng.normal(size=(8, 5)), requires_grad=True, backend="fake")
    monkeypatch.setattr(threads, "_threads", 2)
    y = layers.REGISTRY["decorrelated_batch_norm"].form("derived")(x, eps=1e-3, group_size=2)
    mg.grad(y, [x], mg.tensor(rng.normal(size=(8, 5)), backend="fake"))
    assert seen == {threading.current_thread()}
