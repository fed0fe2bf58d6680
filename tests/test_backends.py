"""The suite runs where it says it runs: the fixtures of conftest.py give what their docstrings promise."""

import re
import sys
import types

import numpy as np
import pytest
from conftest import BACKENDS, SELECTED, select
from hypothesis import settings

import layers
import minigrad as mg
from helpers import random_cotangent, relative_error, to_device, to_host
from minigrad import backend
from minigrad.core.errors import BackendError

DRAWN = {}


@pytest.mark.parametrize("name", BACKENDS)
def test_suite_runs_on(name, pytestconfig):
    """A backend that is left out shows as one skipped test, with the reason."""
    reason = pytestconfig.stash[SELECTED][name]
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("requested, problem, runs", [
    (None, None, {"numpy", "fake", "cupy"}),
    (None, "no GPU", {"numpy", "fake"}),
    (["fake"], "no GPU", {"fake"}),
    (["numpy", "fake"], None, {"numpy", "fake"}),
    (["all"], None, {"numpy", "fake", "cupy"}),
])
def test_backend_option_selects(requested, problem, runs):
    selected = select(requested, lambda: problem)
    assert {name for name, reason in selected.items() if not reason} == runs


@pytest.mark.parametrize("requested", [["cupy"], ["all"], ["numpy", "cupy"]])
def test_cupy_without_a_gpu_is_a_usage_error_that_offers_the_fake(requested):
    with pytest.raises(pytest.UsageError, match=r"no GPU.*--backend fake"):
        select(requested, lambda: "no GPU")


def test_new_tensors_are_made_on_the_backend_of_the_fixture(backend, xp):
    import minigrad as mg
    x = mg.tensor([1.0, 2.0])
    assert x.backend == backend and isinstance(x.data, xp.ndarray)
    assert mg.backend.name_of(xp.zeros(3)) == backend


def test_the_seed_is_the_same_for_every_test_and_backend(backend):
    from minigrad.core.backend import generator
    assert generator().random() == np.random.default_rng(0).random()


def test_arrays_cross_to_the_device_and_back_unchanged(xp, rng):
    array = rng.standard_normal((3, 4)).astype(np.float32)
    there = to_device(xp, array)
    assert isinstance(there, xp.ndarray) and there is not array
    back = to_host(there)
    assert type(back) is np.ndarray and back.dtype == np.float32
    np.testing.assert_array_equal(back, array)


def test_tensors_cross_to_the_host(backend):
    import minigrad as mg
    np.testing.assert_array_equal(to_host(mg.tensor([1.0, 2.0])), np.array([1, 2], np.float32))


@pytest.mark.parametrize("case", ["first", "second"])
def test_rng_is_the_same_on_every_backend_and_differs_between_tests(backend, rng, case):
    drawn = rng.random()
    assert DRAWN.setdefault(case, drawn) == drawn
    assert len(set(DRAWN.values())) == len(DRAWN)


def test_hypothesis_is_derandomized_and_has_no_deadline():
    assert settings().derandomize and settings().deadline is None


def test_relative_error_is_relative_to_the_second_and_never_hides_nan():
    a, b = np.array([3.0, 4.4]), np.array([3.0, 4.0])
    assert relative_error(a, b) == pytest.approx(0.08)
    assert relative_error(b * 0, b * 0) == 0 and relative_error(b, b * 0) == np.inf
    for x, y in ((a * np.nan, b), (b, a * np.nan), (a * np.nan, b * 0)):
        assert not relative_error(x, y) < 1e9


@pytest.mark.parametrize("other", [np.zeros((1, 2)), np.zeros(2, np.float32)], ids=["shape", "dtype"])
def test_relative_error_refuses_another(other):
    with pytest.raises(AssertionError, match="differ"):
        relative_error(np.zeros(2), other)


def test_random_cotangent_has_the_shape_and_dtype_and_varies(rng):
    g = random_cotangent(rng, (4, 5), np.float32)
    assert g.shape == (4, 5) and g.dtype == np.float32 and g.std() > 0.5


@pytest.mark.parametrize(("driver", "words"), [
    (0, "for CUDA 13, no NVIDIA driver and no usable GPU|install the driver, then check nvidia-smi"),
    (12080, r"a driver for CUDA 12 and no usable GPU|pip install 'cupy-cuda12x\[ctk\]>=14'; or install a newer driver"),
    (13020, "a driver for CUDA 13 and no usable GPU|a GPU must be visible"),
])
def test_cupy_without_a_usable_gpu_says_what_is_missing(monkeypatch, driver, words):
    runtime = types.SimpleNamespace(driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 13020)
    cuda = types.SimpleNamespace(is_available=lambda: False, runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(__version__="14.2.0", cuda=cuda))
    monkeypatch.delitem(backend.NAMES, "cupy", raising=False)
    with pytest.raises(BackendError) as failed:
        backend.get("cupy")
    for part in words.split("|"):
        assert re.search(part, str(failed.value)), str(failed.value)


def test_cupy_that_is_not_installed_names_the_extras(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(backend.NAMES, "cupy", raising=False)
    with pytest.raises(BackendError, match=r"cupy-cuda13x.*cupy-cuda12x"):
        backend.get("cupy")


def test_running_out_of_memory_names_the_op_and_the_sizes(fake_device, monkeypatch):
    class OutOfMemoryError(MemoryError):
        """cupy.cuda.memory.OutOfMemoryError is a MemoryError too."""

    def empty(*args, **keywords):
        raise OutOfMemoryError("Out of memory allocating 4,294,967,296 bytes (allocated so far: 80,000,000,000 bytes).")
    x = mg.tensor(np.ones((4, 3, 8, 8), "float32"), requires_grad=True, backend="fake")
    gamma = mg.tensor(np.ones(3, "float32"), backend="fake")
    monkeypatch.setattr(fake_device, "empty", empty, raising=False)
    with pytest.raises(MemoryError, match=r"(?s)(moments|batch_norm).*shape.*4, 3, 8, 8.*allocating 4,294,967,296 bytes.*a smaller batch"):
        layers.REGISTRY["batch_norm"].form("derived")(x, gamma, gamma, eps=1e-5)
