"""The emulator of tests/cuda_on_cpu sees: races, misaligned and foreign addresses, barriers that threads miss, memory that nobody wrote."""

import cuda_on_cpu
import numpy as np
import pytest
from test_kernels_cuda import REQUIRED

from fakecupy import cuda as fake_cuda
from helpers import to_device
from minigrad import optim
from minigrad.kernels.cuda import launch, rows, training
from minigrad.kernels.cuda import normalize as planning
from minigrad.kernels.normalize import Coefficients

pytestmark = [pytest.mark.more, pytest.mark.skipif(cuda_on_cpu.COMPILER is None and not REQUIRED, reason="no g++ on Linux")]

HEAD = "const int THREADS = 64;\nstruct alignas(16) Four { float v[4]; };\n"
KERNEL = 'extern "C" __global__ void __launch_bounds__(THREADS) '
FAULTS = {  # kernel: its body, what is found in it (None: nothing); x has 64 elements
    "missed": ("if (threadIdx.x < 7) __syncthreads(); x[threadIdx.x] = 1;", "never reach"),
    "missed_warp": ("if (threadIdx.x < 40) __syncwarp(); x[threadIdx.x] = 1;", None),  # those who have ended are not waited for
    "missed_shuffle": ("if (threadIdx.x % 32) x[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 1);", "which has ended"),
    "some_of_a_warp": ("x[threadIdx.x] = __shfl_xor_sync(0xffff, x[threadIdx.x], 1);", "part of a warp"),
    "reads_other_warp": ("__shared__ float s[64]; s[threadIdx.x] = 1; __syncwarp(); x[threadIdx.x] = s[threadIdx.x ^ 32];", "a race|nothing has been written"),
    "reads_after_barrier": ("__shared__ float s[64]; s[threadIdx.x] = 1; __syncthreads(); x[threadIdx.x] = s[threadIdx.x ^ 32];", None),
    "reads_other_lane": ("__shared__ float s[64]; s[threadIdx.x] = __shfl_xor_sync(~0u, 1.f, 1); __shfl_xor_sync(~0u, 1.f, 1);"
                         "x[threadIdx.x] = s[threadIdx.x ^ 1];", "a race: reads"),  # a shuffle orders no memory
    "reads_after_syncwarp": ("__shared__ float s[64]; s[threadIdx.x] = 1; __syncwarp(); x[threadIdx.x] = s[threadIdx.x ^ 1];", None),
    "overwrites": ("__shared__ float s[64]; s[threadIdx.x] = 1; __syncthreads(); x[threadIdx.x] = s[threadIdx.x ^ 32]; s[threadIdx.x] = 2;", "a race"),
    "two_write": ("x[threadIdx.x / 2] = 1;", "a race: overwrites"),
    "two_blocks": ("x[threadIdx.x] = blockIdx.x;", "a race: overwrites"),
    "block_of_its_own": ("if (blockIdx.x == 1) x[threadIdx.x] = 1;", None),
    "nobody_wrote": ("__shared__ float s[65]; s[threadIdx.x] = 1; __syncthreads(); x[threadIdx.x] = s[threadIdx.x + 1];", "nothing has been written"),
    "reads_beyond": ("x[threadIdx.x] = x[threadIdx.x + 1] > 0;", "outside|a race"),
    "writes_before": ("x[(int)threadIdx.x - 1] = 1;", "outside"),
    "misaligned_load": ("if (threadIdx.x == 0) { Four f = *(Four*)(x + 5); x[0] = f.v[2]; }", "line 18: misaligned: an access at 4 bytes"),
    "misaligned_store": ("if (threadIdx.x == 0) { Four f = {}; *(Four*)(x + 6) = f; }", "misaligned"),
    "overflows": ("int i = 2147483647; i += threadIdx.x == 63; x[threadIdx.x] = i;", "an integer overflows"),
    "own_array": ("float own[4]; for (int k = 0; k < 4 + (threadIdx.x == 9); ++k) own[k] = threadIdx.x; x[threadIdx.x] = own[3];", "beyond the end"),
    "aligned": ("if (threadIdx.x == 0) { Four f = *(Four*)(x + 8); x[0] = f.v[2]; *(Four*)(x + 4) = f; }", None),
}
SOURCE = HEAD + "\n".join(f"{KERNEL}{name}(float* x) {{ {body} }}" for name, (body, _) in FAULTS.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("emulator"))


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_in_every_order_of_the_threads_and_in_no_right_kernel(folder, name):
    wanted = FAULTS[name][1]
    x = np.zeros(68, "f4")
    x = x[-x.ctypes.data % 16 // 4:][:64]
    for seed in range(5):
        def run(seed=seed):
            cuda_on_cpu.run_source(SOURCE, (), folder, name, (2,) if "block" in name else (1,), (64,), [x], seed=seed)
        if wanted is None:
            run()
        else:
            with pytest.raises(cuda_on_cpu.EmulatorError, match=f"{name}: block .*({wanted})"):
                run()


# -- faults planted in the project's own kernels ---------------------------------------------------------------------------


def without(file, text, which=0):
    """A module's source without the occurrence number `which` of a text."""
    pieces = launch.source(file).split(text)
    assert len(pieces) > 1 and which < len(pieces) - 1
    return text.join(pieces[:which + 1]) + text.join(["", *pieces[which + 1:]])[len(text):]


@pytest.fixture
def emulation(folder, monkeypatch):
    monkeypatch.setattr(fake_cuda, "OBSERVERS", [cuda_on_cpu.Emulation(folder)])


@pytest.mark.parametrize(("file", "which"), [("normalize", 0), ("normalize", 1), ("normalize", 2), ("rows", 0), ("rows", 1)])
def test_a_barrier_that_is_taken_out_is_missed(emulation, fake_device, rng, monkeypatch, file, which):
    xp, w = fake_device, rng.normal(size=40).astype("f4")
    x, g = (rng.normal(size=(300, 40)).astype("f4") for _ in range(2))
    changed = without(file, "__syncthreads();", which)
    monkeypatch.setattr(launch, "source", lambda file: changed)
    monkeypatch.setattr(launch, "_kernels", {})
    with pytest.raises(cuda_on_cpu.EmulatorError, match=r"a race|nothing has been written"):
        if file == "rows":
            rows.forward(xp, to_device(xp, x), to_device(xp, w), None, 1e-5, True)
        else:
            planning.moments(xp, to_device(xp, x), (1,))
            planning.paired_sums(xp, to_device(xp, g), to_device(xp, x), None, None, None, (0,))


def shifted(xp, a):
    """A copy on the device, at an address that is no multiple of 16 bytes."""
    whole = to_device(xp, np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))
    return whole[1:].reshape(a.shape)


def launches(xp, dtype, make):
    """Every function that plans for 16 bytes at once; `make` puts its arrays on the device."""
    x, g = (make(xp, np.linspace(-1, 2, 48).astype(dtype).reshape(4, 12)) for _ in range(2))
    w, v = to_device(xp, np.ones(12, dtype)), to_device(xp, np.ones((4, 1), dtype))
    one = Coefficients(v, v)
    return {
        "moments": lambda: planning.moments(xp, x, (1,)), "paired_parts": lambda: planning.paired_sums(xp, g, x, None, None, None, (1,)),
        "column_parts": lambda: planning.paired_sums(xp, g, x, None, None, None, (0,)), "combine": lambda: planning.combine(xp, g, x, one, None),
        "rows_forward": lambda: rows.forward(xp, x, w, None, 1e-5, True), "rows_backward": lambda: rows.backward(xp, g, x, w, v, v, 1e-5, True),
        "weights": lambda: rows.forward(xp, to_device(xp, np.ones((4, 12), dtype)), make(xp, np.ones(12, dtype)), None, 1e-5, True),
        "leaky": lambda: training.leaky(xp, x, 0.1), "gate": lambda: training.gate(xp, g, x, 0.1),
    }


def updates(xp, dtype):
    """Every optimizer's launch, with one of its arrays at an odd address, and SGD without a buffer; (kernel, which) -> what runs it."""
    numbers = {"sgd": (0.1, 0.9, 1.0, 0.0, 1.0, False, False), "adam": (0.1, 0.9, 0.1, 1e-8, 0.0, 1.0, 1.0, 1.0, 0.5)}
    array = lambda make: make(xp, np.linspace(0.5, 1, 13).astype(dtype))
    found = {(kernel, odd): lambda kernel=kernel, odd=odd: training.update(xp, kernel, [tuple(
        array(shifted if i == odd else to_device) for i in range(3 if kernel == "sgd" else 4))], *numbers[kernel])
        for kernel in numbers for odd in range(3 if kernel == "sgd" else 4)}
    found["sgd", "plain"] = lambda: training.update(xp, "sgd", [(array(to_device), array(to_device))], 0.1, 0.9, 0.5, 0.0, 1.0, False, False)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimizers_look_at_the_address_of_each_array(emulation, fake_device, dtype):
    for run in updates(fake_device, dtype).values():
        run()


NAMES = ["moments", "paired_parts", "column_parts", "combine", "rows_forward", "rows_backward", "weights", "leaky", "gate"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_addresses_that_are_no_multiples_of_16_bytes_are_not_loaded_at_once(emulation, fake_device, monkeypatch, name, dtype):
    for make in (to_device, shifted):
        assert launches(fake_device, dtype, make)[name]() is not None
    for module in (planning, rows, training):  # without its look at the addresses, the rule is broken where it matters
        monkeypatch.setattr(module, "vectors", lambda dtype, length, *arrays: length % (16 // dtype.itemsize) == 0)
    assert launches(fake_device, dtype, to_device)[name]() is not None
    with pytest.raises(cuda_on_cpu.EmulatorError, match=r"line \d+: misaligned: .*Pack"):
        launches(fake_device, dtype, shifted)[name]()


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.1), lambda p: optim.Adam(p, 0.1)], ids=["sgd", "adam"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_optimizer_that_does_not_look_at_addresses_is_found_out(emulation, fake_device, monkeypatch, make, dtype):
    import minigrad as mg
    changed = launch.source("training").replace("& 15) == 0", "& 15) >= 0")
    assert changed != launch.source("training")
    for source in (launch.source("training"), changed):
        monkeypatch.setattr(launch, "source", lambda file, source=source: source)
        monkeypatch.setattr(launch, "_kernels", {})
        p = mg.from_array(shifted(fake_device, np.ones(12, dtype)), copy=False, requires_grad=True)
        p.grad = mg.from_array(shifted(fake_device, np.ones(12, dtype)), copy=False)
        step = make([p]).step
        if source is changed:
            with pytest.raises(cuda_on_cpu.EmulatorError, match="misaligned"):
                step()
        else:
            step()
