"""What a ``with`` block changes, it changes for the thread that runs it: recording, debug mode, records, forms, backends, summaries."""

import gc
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import layers
import minigrad as mg
from helpers import to_host
from minigrad import nn
from minigrad.core import state, storage
from minigrad.ops import neural


def elsewhere(f):
    """f() in another thread, which begins now."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(f).result()


def variable(*values):
    return mg.tensor(values, requires_grad=True)


def nan_twice(seen):
    with np.errstate(all="ignore"):
        x = variable(-1.0)
        y = mg.log(x * 1.0)
        seen.append(float(to_host(y)[0]))
        y.backward(mg.tensor([float("nan")]))
        return float(to_host(x.grad)[0])


def test_debug_mode_of_one_thread_does_not_reach_another(backend):
    seen = []
    name = mg.backend.current_name()
    with mg.debug():
        with np.errstate(all="ignore"), pytest.raises(mg.NonFiniteError):
            mg.log(variable(-1.0))

        def work():
            with mg.use(name):
                return nan_twice(seen)
        assert np.isnan(elsewhere(work)) and np.isnan(seen[0])
        with pytest.raises(mg.NonFiniteError, match="gradient"):
            (variable(1.0) * 2.0).backward(mg.tensor([float("nan")]))
    assert not state.watching and not state.state.watchers


def test_debug_mode_begun_elsewhere_does_not_reach_this_thread(backend):
    begun, end = threading.Event(), threading.Event()

    def watched():
        with mg.debug():
            begun.set()
            assert end.wait(60)
            with np.errstate(all="ignore"), pytest.raises(mg.NonFiniteError):
                mg.log(mg.tensor([-1.0]))

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(watched)
        assert begun.wait(60)
        try:
            assert np.isnan(nan_twice([])) and state.watching
        finally:
            end.set()
        future.result()
    assert not state.watching


def test_two_records_at_the_same_time_each_see_their_own_thread(backend):
    name = mg.backend.current_name()
    barrier = threading.Barrier(2, timeout=60)

    def work(number):
        with mg.use(name), mg.record() as r:
            barrier.wait()
            for _ in range(20):
                x = mg.named(f"x{number}", mg.tensor([1.0]) * float(number))
                x + 1.0
            barrier.wait()
        return r

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, (1, 2))
    for number, r in ((1, first), (2, second)):
        assert [e.op for e in r] == ["multiply", "add"] * 20
        assert {e.name for e in r} == {f"x{number}", None} and float(to_host(r[f"x{number}"].value)[0]) == number


def test_records_and_debug_nest_in_each_other_and_in_themselves():
    r = mg.record()
    debug = mg.debug()
    with r, mg.record() as other, debug, debug, r:
        mg.tensor([1.0]) * 2.0
    assert len(r) == 2 and len(other) == 1 and not state.watching and not state.state.watchers
    with r:
        with mg.record():
            pass
        mg.tensor([1.0]) + 2.0
    assert [e.op for e in r] == ["multiply", "multiply", "add"]


def test_labels_on_a_device_are_looked_at_in_the_threads_own_debug_mode(fake_device):
    scores, labels = mg.tensor([[0.0, 1.0]], backend="fake"), mg.tensor([7], backend="fake")
    with mg.debug():
        with pytest.raises(ValueError, match="indices from 7"):
            mg.cross_entropy(scores, labels)
        assert elsewhere(lambda: neural.check_range("cross_entropy", labels, 2)) is False


def test_forms_are_chosen_in_each_thread():
    with layers.use_form("composed"):
        assert layers.BatchNorm2d(3).form == "composed"
        assert elsewhere(lambda: layers.BatchNorm2d(3).form) == "derived"
        parametrized = elsewhere(lambda: layers.parametrize(nn.Linear(2, 3), "weight_norm"))
        assert parametrized.parametrizations["weight"]._modules["0"].form == "derived"
        with layers.use_form("staged"):
            assert layers.LayerNorm(3, form="composed").form == "composed" and layers.BatchNorm2d(3).form == "staged"
        assert layers.BatchNorm2d(3).form == "composed"
    assert layers.BatchNorm2d(3).form == "derived"


def test_a_form_nests_in_itself():
    form = layers.use_form("composed")
    with form, form:
        pass
    assert layers.BatchNorm2d(3).form == "derived"


def test_each_thread_chooses_its_backend():
    with mg.use("fake"):
        assert mg.tensor([1.0]).backend == "fake" and elsewhere(lambda: mg.tensor([1.0]).backend) == "numpy"

        def work():
            mg.use("fake")
            with mg.use("numpy"):
                inside = mg.tensor([1.0]).backend
            return inside, mg.tensor([1.0]).backend
        assert elsewhere(work) == ("numpy", "fake")
        assert mg.tensor([1.0]).backend == "fake"
    assert mg.tensor([1.0]).backend == "numpy" and elsewhere(lambda: mg.tensor([1.0]).backend) == "numpy"


def test_a_backend_nests_in_itself_and_may_be_entered_again():
    fake = mg.use("fake")
    with fake, fake:
        assert mg.tensor([1.0]).backend == "fake"
    assert mg.tensor([1.0]).backend == "numpy"
    with fake:
        assert mg.tensor([1.0]).backend == "fake"
    assert mg.tensor([1.0]).backend == "numpy"


def test_a_summary_does_not_see_the_calls_of_another_thread():
    other = nn.Linear(3, 4)

    class Calls(nn.Module):
        def forward(self, x):
            elsewhere(lambda: other(x))
            return x * 2.0

    text = nn.Sequential(Calls()).summary((2, 3))
    assert "Calls" in text and "Linear" not in text


# -- no_grad ------------------------------------------------------------------------------------------------------------


def doubled(x):
    """Twice x."""
    return x * 2.0


@pytest.mark.parametrize("decorate", [mg.no_grad, mg.no_grad()])
def test_no_grad_decorates_with_and_without_parentheses(decorate, backend):
    quiet = decorate(doubled)
    assert (quiet.__name__, quiet.__doc__, quiet.__module__) == ("doubled", "Twice x.", __name__) and inspect.signature(quiet) == inspect.signature(doubled)
    x = variable(1.0)
    assert not quiet(x).requires_grad and not quiet(x=x).requires_grad and (x * 2.0).requires_grad
    with pytest.raises(ZeroDivisionError):
        decorate(lambda: 1 / 0)()
    assert state.state.recording


def test_no_grad_decorates_methods_and_recursive_functions(backend):
    class Model:
        @mg.no_grad
        def predict(self, x, depth=0):
            return self.predict(x, depth + 1) if depth < 3 else x * 2.0

        @staticmethod
        @mg.no_grad()
        def fixed(x):
            return x * 3.0
    x = variable(1.0)
    assert not Model().predict(x).requires_grad and not Model.fixed(x).requires_grad and (x * 1.0).requires_grad


def test_no_grad_nests_in_itself_and_is_shared_by_threads(backend):
    quiet = mg.no_grad()
    with quiet:
        with quiet, mg.no_grad(), quiet:
            assert not state.state.recording
        assert not state.state.recording and elsewhere(lambda: state.state.recording)

        def work():
            with quiet:
                inside = state.state.recording
            return inside, state.state.recording
        assert elsewhere(work) == (False, True)
        assert not state.state.recording
    assert state.state.recording
    assert elsewhere(lambda: state.state.recording)


@pytest.mark.parametrize("decorate", [mg.no_grad, mg.no_grad()])
def test_a_decorated_generator_is_quiet_inside_and_only_there(decorate, backend):
    log = []

    @decorate
    def steps(x):
        """Yields."""
        try:
            got = yield (x * 2.0).requires_grad
            log.append((got, (x * 2.0).requires_grad))
            try:
                yield "second"
            except KeyError:
                log.append(("thrown", (x * 2.0).requires_grad))
            yield "third"
            return "end"
        finally:
            log.append(("closed", (x * 2.0).requires_grad))

    x = variable(1.0)
    made = steps(x)
    assert steps.__name__ == "steps" and steps.__doc__ == "Yields."
    assert next(made) is False and (x * 2.0).requires_grad
    assert made.send("sent") == "second" and (x * 2.0).requires_grad
    assert made.throw(KeyError()) == "third" and (x * 2.0).requires_grad
    with pytest.raises(StopIteration) as end:
        next(made)
    assert end.value.value == "end" and log == [("sent", False), ("thrown", False), ("closed", False)] and (x * 2.0).requires_grad
    log.clear()
    left = steps(x)
    next(left)
    left.close()
    assert log == [("closed", False)] and state.state.recording and not state.state.outer
    with pytest.raises(ValueError, match="mine"):
        list(decorate(lambda: (_ for _ in ()).throw(ValueError("mine")))())

    @decorate
    def failing():
        yield 1
        raise ValueError("mine")
    with pytest.raises(ValueError, match="mine"):
        list(failing())
    assert state.state.recording


def test_what_no_grad_cannot_decorate_is_refused_with_a_fix_that_works(backend):
    async def coroutine():
        pass

    async def generator():
        yield

    class Model:
        pass
    for wrong in (coroutine, generator, Model, 3):
        with pytest.raises(TypeError, match=r"(?s)no_grad: got .*fix:   `with minigrad.no_grad\(\):` around the ops"):
            mg.no_grad(wrong)
        with pytest.raises(TypeError, match="no_grad: got"):
            mg.no_grad()(wrong)


# -- buffers that other threads free ------------------------------------------------------------------------------------


@pytest.mark.more
def test_looking_at_exposed_buffers_while_another_thread_frees_them():
    """The look comes to a buffer that was there when it began, and is gone with its entries."""
    kept = [mg.tensor(np.ones(4)) for _ in range(20)]
    for t in kept:
        t.data  # noqa: B018
    looked = []
    original = storage._look

    def look_and_free(key, owner):
        looked.append(key)
        kept.clear()
        gc.collect()
        original(key, owner)
    storage._look = look_and_free
    try:
        storage.look_everywhere()
    finally:
        storage._look = original
    assert looked


def test_backward_while_another_thread_makes_and_frees_exposed_buffers():
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            for _ in range(50):
                mg.tensor(np.ones(3)).data  # noqa: B018

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(churn) for _ in range(2)]
        try:
            for _ in range(300):
                x = mg.tensor(np.ones(3), requires_grad=True)
                x.data  # noqa: B018
                (x * x).backward(x.detach())
        finally:
            stop.set()
        for f in futures:
            f.result()
