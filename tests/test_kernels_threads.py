"""Work shared between threads: ranges, errors, nesting, forks; and matrix products shared that way."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl

from helpers import to_device, to_host
from minigrad.kernels import threads

matmul = importlib.import_module("minigrad.kernels.matmul")


def blas_limits():
    return [b["num_threads"] for b in threadpoolctl.threadpool_info() if b["user_api"] == "blas"]


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr(threads, "_threads", 3)


def test_ranges_cover_the_count_in_order_and_none_is_below_the_least(three_threads):
    assert threads.share(lambda a, b: (a, b), 10, 1) == [(0, 3), (3, 6), (6, 10)]
    assert threads.share(lambda a, b: (a, b), 10, 5) == [(0, 5), (5, 10)]
    assert threads.share(lambda a, b: (a, b), 10, 6) == [(0, 10)]
    assert threads.share(lambda a, b: (a, b), 0, 1) == [(0, 0)]


@pytest.mark.parametrize("failing", [0, 3, 6])
def test_an_error_in_any_range_is_raised_after_all_ranges_have_ended(three_threads, failing):
    ended = []

    def work(start, stop):
        if start == failing:
            raise ArithmeticError(str(start))
        ended.append(start)

    with pytest.raises(ArithmeticError, match=str(failing)):
        threads.share(work, 10, 1)
    assert sorted([*ended, failing]) == [0, 3, 6]
    assert len(threads.share(lambda a, b: None, 10, 1)) == 3


def test_a_share_does_not_share_further(three_threads):
    inner = threads.share(lambda a, b: threads.share(lambda c, d: (c, d), 9, 1), 9, 1)
    assert inner == [[(0, 9)]] * 3
    assert len(threads.share(lambda a, b: None, 9, 1)) == 3


def test_blas_has_one_thread_once_the_number_of_threads_is_set():
    before = threads.num_threads()
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        threads.set_num_threads(3)
        assert set(blas_limits()) <= {1} and threads.num_threads() == 3
        threads.set_num_threads(before)
        assert set(blas_limits()) <= {1}


@pytest.mark.parametrize("number", ["1", "2"])
def test_the_default_number_is_the_one_blas_was_allowed(number):
    code = """import minigrad as mg; from minigrad.kernels.threads import num_threads; mg.tune_process(); print(num_threads())"""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": number, "MKL_NUM_THREADS": number, "OMP_NUM_THREADS": number}
    if not blas_limits():
        pytest.skip("threadpoolctl does not know this BLAS")
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert int(result.stdout) == min(int(number), os.cpu_count())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_threads(three_threads):
    threads.share(lambda a, b: None, 9, 1)
    child = os.fork()
    if child == 0:
        os._exit(len(threads.share(lambda a, b: None, 9, 1)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


SHAPES = [
    ((4, 5), (5, 3)), ((3, 5), (5, 4)), ((2, 900), (900, 3)), ((5,), (5, 3)), ((4, 5), (5,)), ((5,), (5,)),
    ((7, 4, 5), (7, 5, 3)), ((7, 4, 5), (5, 3)), ((4, 5), (7, 5, 3)), ((1, 4, 5), (7, 5, 3)), ((2, 4, 5), (2, 5, 3)),
    ((2, 3, 5), (5, 9)), ((7, 1, 3, 4), (2, 4, 3)), ((0, 5), (5, 3)), ((4, 0), (0, 3)), ((0, 4, 5), (5, 3)),
]


@pytest.mark.parametrize("a_shape, b_shape", SHAPES)
def test_matmul_equals_the_plain_product_whatever_is_shared(xp, rng, monkeypatch, three_threads, a_shape, b_shape):
    monkeypatch.setattr(matmul, "_SMALL", 0)
    a, b = rng.standard_normal(a_shape), rng.standard_normal(b_shape)
    y = matmul.matmul(xp, to_device(xp, a), to_device(xp, b))
    assert y.dtype == np.float64 and to_host(y).shape == np.matmul(a, b).shape
    # sums of at most 900 products in another order
    np.testing.assert_allclose(to_host(y), np.matmul(a, b), rtol=0, atol=900 * 2**-52 * 900)


def test_matmul_takes_transposed_broadcast_and_read_only_operands(rng, monkeypatch, three_threads):
    monkeypatch.setattr(matmul, "_SMALL", 0)
    a = rng.standard_normal((90, 6)).T
    a.flags.writeable = False
    for b in (a.T, np.broadcast_to(2.0, (90, 5)), rng.standard_normal((5, 90)).T, rng.standard_normal((90, 10))[:, ::2]):
        np.testing.assert_allclose(matmul.matmul(np, a, b), np.array(a) @ np.array(b), rtol=0, atol=1e-12)


def test_matmul_of_unequal_shapes_raises_what_numpy_raises(monkeypatch, three_threads):
    monkeypatch.setattr(matmul, "_SMALL", 0)
    with pytest.raises(ValueError, match="matmul"):
        matmul.matmul(np, np.ones((4, 5)), np.ones((6, 3)))
