"""Backends, seeds and Hypothesis settings for the whole suite.

A test that asks for the fixture `backend` or `xp` runs once per backend:

    pytest                     # NumPy and the fake device, and CuPy where there is a GPU
    pytest --backend fake      # one of numpy, fake, cupy, all; may be given several times
"""

import contextlib
import importlib
import signal
import sys
import zlib
from collections import Counter
from math import prod
from pathlib import Path

import hypothesis
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `import helpers`, `import fakecupy`, whatever the import mode

from cuda_twins import TWINS

from fakecupy import FakeCupy
from fakecupy import cuda as fake_cuda

fake_cuda.TWINS.update(TWINS)  # in the place of minigrad's CUDA kernels

BACKENDS = ("numpy", "fake", "cupy")
SELECTED = pytest.StashKey[dict]()  # backend name -> why it is left out, or None
LEFT = pytest.StashKey[Counter]()  # tier -> tests that were found and belong to it, when another tier runs
TIERS = {"torch_oracle": "torch-oracle", "browser": "browser-test", "notebook": "lectures", "slow": "test-slow", "more": "test-more"}  # marker -> make target

# Derandomized: the same examples in every run. Fixtures are made once for all examples of a test, so draw a seed from
# Hypothesis where the data should vary; `rng` alone would carry its state from one example to the next.
hypothesis.settings.register_profile("minigrad", derandomize=True, deadline=None, suppress_health_check=[
    hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("minigrad")


def pytest_addoption(parser):
    parser.addoption("--backend", action="append", choices=(*BACKENDS, "all"), metavar="NAME",
                     help="run on this backend: numpy, fake, cupy or all; may be repeated "
                          "(default: numpy and fake, and cupy where there is a GPU)")
    parser.addoption("--emulate-cuda", action="store_true", help="run every CUDA launch on the fake device by its source too, and compare (needs g++)")


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # whoever starts the suite in the background of a shell hands that on, and the tests press Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[LEFT] = Counter()
    config.stash[SELECTED] = select(config.getoption("backend"), why_no_cupy)


def select(requested, why_no_cupy):
    """Backend name -> None if the suite runs on it, else why not. `why_no_cupy` is asked only if it matters."""
    if not requested:
        return {"numpy": None, "fake": None, "cupy": why_no_cupy()}
    wanted = BACKENDS if "all" in requested else requested
    problem = why_no_cupy() if "cupy" in wanted else None
    if problem:
        raise pytest.UsageError(f"--backend {' --backend '.join(requested)}: {problem}. Without a GPU, --backend fake "
                                "runs the same tests on a stand-in for CuPy.")
    return {name: None if name in wanted else "not requested by --backend" for name in BACKENDS}


def why_no_cupy():
    """None if CuPy finds a GPU, else the reason in a few words."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return "CuPy is not installed"
    return None if cupy.cuda.is_available() else f"CuPy {cupy.__version__} finds no usable GPU"


def describe(selected):
    return "backends: " + ", ".join(name if not reason else f"{name} skipped ({reason})"
                                    for name, reason in selected.items())


def pytest_report_header(config):
    return describe(config.stash[SELECTED])


def pytest_terminal_summary(terminalreporter, config):
    if any(config.stash[SELECTED].values()):
        terminalreporter.write_line(describe(config.stash[SELECTED]), yellow=True)
    if any((left := config.stash[LEFT]).values()):
        terminalreporter.write_line("not run: " + ", ".join(f"{n:,} tests of make {TIERS[tier]}" for tier, n in left.items() if n))


def pytest_deselected(items):
    """Count what belongs to another tier than the one that runs (a test of two counts for the slower one)."""
    for item in items:
        tier = next((tier for tier in TIERS if item.get_closest_marker(tier)), None)
        if tier:
            item.config.stash[LEFT][tier] += 1


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # in a process of pytest-xdist
        session.config.workeroutput["left"] = dict(session.config.stash[LEFT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[LEFT] |= Counter(getattr(node, "workeroutput", {}).get("left", {}))  # all processes find the same


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    if "not more" in metafunc.config.getoption("markexpr"):
        leave_out_more(metafunc)
    if "backend" in metafunc.fixturenames:
        selected = metafunc.config.stash[SELECTED]
        metafunc.parametrize("backend", [name for name in BACKENDS if not selected[name]], indirect=True)


def leave_out_more(metafunc):
    """Do not even make the cases that are marked `more`, which are most of all tests; count them with those that are deselected."""
    backends = sum(not reason for reason in metafunc.config.stash[SELECTED].values()) if "backend" in metafunc.fixturenames else 1
    marks = [mark for mark in metafunc.definition.iter_markers("parametrize") if isinstance(mark.args[1], list) and not mark.kwargs.get("ids")]
    before = prod(len(mark.args[1]) for mark in marks)
    for mark in marks:
        mark.args[1][:] = [case for case in mark.args[1] if not any(m.name == "more" for m in getattr(case, "marks", ()))]
    metafunc.config.stash[LEFT]["more"] += backends * (before - prod(len(mark.args[1]) for mark in marks))


@pytest.fixture(scope="session", autouse=True)
def emulated_cuda(request, tmp_path_factory):
    """With --emulate-cuda: all launches of the session, compared with the source."""
    observers = []
    if request.config.getoption("--emulate-cuda"):
        import cuda_on_cpu
        observers = [cuda_on_cpu.Emulation(str(tmp_path_factory.mktemp("cuda")))]
    fake_cuda.OBSERVERS.extend(observers)
    yield
    for observer in observers:
        fake_cuda.OBSERVERS.remove(observer)


@pytest.fixture(scope="session", autouse=True)
def fake_device():
    """The FakeCupy that minigrad knows as backend "fake"; it counts transfers and forbids syncs where asked to.

    Registered in every session, so that a test never depends on another one having used it.
    """
    device = FakeCupy()
    with contextlib.suppress(ImportError):  # a broken engine shows where it is used, not in the tests of the fake
        importlib.import_module("minigrad.core.backend").register("fake", device)
    return device


@pytest.fixture
def backend(request):
    """Name of the backend on which the test makes its tensors; the seed is 0. Runs the test once per backend."""
    import minigrad
    minigrad.use(request.param)
    minigrad.seed(0)
    yield request.param
    minigrad.use("numpy")


@pytest.fixture
def xp(backend):
    """The array namespace of `backend`: numpy, the fake device, or cupy."""
    from minigrad.core.backend import get
    return get(backend)


@pytest.fixture
def rng(request):
    """A separate NumPy generator for each test, the same in every run and on every backend."""
    name = request.node.nodeid.replace("\\", "/")
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "backend" in callspec.params:
        test, _, parameters = name.partition("[")
        kept = [p for p in parameters.rstrip("]").split("-") if p != callspec.params["backend"]]
        name = f"{test}[{'-'.join(kept)}]"
    return np.random.default_rng(zlib.crc32(name.encode()))
