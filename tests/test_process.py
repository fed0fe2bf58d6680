"""What minigrad does to the rest of a program: nothing at import, and what `tune_process` says when it is called."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

import minigrad as mg
from minigrad.kernels import memory, process, threads

ROOT = Path(__file__).resolve().parents[1]

# Every call of glibc's mallopt and malloc_trim through ctypes is noted; SciPy's BLAS is looked at where SciPy is installed.
WATCHED = """
import ctypes, os
calls = []
class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("mallopt", "malloc_trim"):
            calls.append(name)
        return super().__getattr__(name)
ctypes.CDLL = Library
import numpy as np
try:
    import scipy.linalg
except ImportError:
    pass
import threadpoolctl
def blas():
    return [(b["filepath"], b["num_threads"]) for b in threadpoolctl.threadpool_info() if b["user_api"] == "blas"]
before = blas()
import minigrad as mg, layers
from minigrad import nn
from minigrad.kernels import threads
"""
COMPUTES = """
a = mg.tensor(np.ones((300, 300), "float32"), requires_grad=True)
(a @ a).backward(a)
model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), layers.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 256, 5))
mg.cross_entropy(model(mg.tensor(np.ones((32, 3, 16, 16), "float32"))), mg.tensor(np.arange(32) % 5)).backward()
"""


def run(code, **env):
    result = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("number", ["1", "2"])
def test_importing_and_computing_leave_blas_and_malloc_alone(number):
    env = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), number)
    run(f"""{WATCHED}
assert blas() == before
{COMPUTES}
assert blas() == before, (before, blas())
assert not calls, calls
assert threads.num_threads() == 1
""", **env)


def test_import_takes_no_look_at_blas_libraries():
    run("import sys, minigrad, layers\nassert 'threadpoolctl' not in sys.modules")


@pytest.mark.parametrize("number", ["1", "2"])
def test_one_call_takes_both_and_a_second_changes_nothing(number):
    env = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), number)
    run(WATCHED + f"""
allowed = min((n for _, n in before), default=1)
for _ in range(2):
    mg.tune_process()
    assert threads.num_threads() == allowed and {{n for _, n in blas()}} <= {{1}}
{COMPUTES}
assert {{n for _, n in blas()}} <= {{1}}
mg.tune_process(3)
assert threads.num_threads() == 3
mg.tune_process()
assert threads.num_threads() == 3
assert calls.count("mallopt") <= 3, calls  # asked for once; looked up and called for two thresholds
""", MINIGRAD_MALLOC="", **env)


@pytest.mark.skipif(not sys.platform.startswith("linux") or memory._libc() is None, reason="needs glibc")
def test_the_environment_leaves_malloc_out():
    assert "mallopt" in run(WATCHED + "mg.tune_process()\nprint(calls)", MINIGRAD_MALLOC="")
    assert run(WATCHED + "mg.tune_process()\nprint(calls)", MINIGRAD_MALLOC="system").strip() == "[]"


def test_the_end_of_the_block_gives_everything_back():
    run(WATCHED + """
with mg.tune_process(2):
    with mg.tune_process(3):
        assert threads.num_threads() == 3
    assert threads.num_threads() == 2 and {n for _, n in blas()} <= {1}
    import minigrad.kernels.memory as memory
    inside = memory._keeping
assert threads.num_threads() == 1 and blas() == before
assert not memory._keeping and ("malloc_trim" in calls) == inside
""", MINIGRAD_MALLOC="")


@pytest.mark.skipif(not sys.platform.startswith("linux") or memory._libc() is None, reason="needs glibc")
def test_freed_memory_stays_only_where_it_was_asked_for():
    code = """
import ctypes, numpy as np, resource, minigrad as mg
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: with huge pages, as the system finds room for them, there are few faults anyway
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def measured():
    for _ in range(3):
        np.ones(1 << 22)
    before = faults()
    for _ in range(5):
        np.ones(1 << 22)
    return faults() - before
plain = measured()
with mg.tune_process(1):
    kept = measured()
back = measured()
print(plain, kept, back)
"""
    plain, kept, back = map(int, run(code, MINIGRAD_MALLOC="").split())
    assert plain > 1000 and back > 1000 and kept < plain / 10  # 5 arrays of 8,192 pages


def test_a_wrong_number_of_threads_changes_nothing():
    before = threads.num_threads()
    for wrong in (0, -1, 2.0, True, "2"):
        with pytest.raises(ValueError, match=r"(?s)n=.*at least 1"):
            mg.tune_process(wrong)
    assert threads.num_threads() == before


def test_numpy_integers_are_numbers_of_threads():
    with mg.tune_process(np.int64(2)):
        assert threads.num_threads() == 2 and type(threads.num_threads()) is int


@pytest.mark.parametrize("ours, blas", [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_results_are_right_whoever_has_the_threads(ours, blas, rng):
    x, w = rng.normal(size=(16, 3, 20, 20)), rng.normal(size=(8, 3, 3, 3))
    a, b = rng.normal(size=(300, 200)), rng.normal(size=(200, 250))
    with mg.tune_process(1):
        expected = mg.conv2d(x, w, padding=1), mg.matmul(a, b), mg.relu(x)
    with mg.tune_process(ours), threadpoolctl.threadpool_limits(blas, user_api="blas"):
        got = mg.conv2d(x, w, padding=1), mg.matmul(a, b), mg.relu(x)
    for e, g in zip(expected, got, strict=True):  # sums of at most 200 products in another order
        np.testing.assert_allclose(g, e, rtol=0, atol=200 * 2**-52 * 100)


def test_a_blas_that_cannot_be_set_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(process, "blas_threads", list)
    monkeypatch.setattr(threads, "blas_threads", list)
    with mg.tune_process():
        assert threads.num_threads() >= 1
    with mg.tune_process(2):
        assert threads.num_threads() == 2
