"""Who holds an array: what is shared, what is copied, and that a wrong count only ever costs a copy."""

import sys

import numpy as np
import pytest
from test_donation import HELD, halved, result, variable

import minigrad as mg
from helpers import to_host
from minigrad.core import ownership, storage
from minigrad.core.donation import Taken

NUMBERS = np.random.default_rng(0)

# What other interpreters may answer. The first two count differently but consistently; the others say nothing.
COUNTERS = {
    "as here": sys.getrefcount,
    "one less, because calls borrow": lambda o: sys.getrefcount(o) - 1,
    "one more": lambda o: sys.getrefcount(o) + 1,
    "always one": lambda o: 1,
    "immortal": lambda o: 0xFFFFFFFF,
    "random": lambda o: int(NUMBERS.integers(1, 5)),
    "none": None,
}
TRUSTED = ("as here", "one less, because calls borrow", "one more")


@pytest.fixture(params=COUNTERS)
def counter(request, monkeypatch):
    """The name of a way to count; minigrad has calibrated itself to it."""
    # Every test draws the same: three random counts that rise by one, as happens once in 32 times, cannot be told from true ones.
    NUMBERS.bit_generator.state = np.random.default_rng(0).bit_generator.state
    monkeypatch.setattr(ownership, "_references", COUNTERS[request.param])
    monkeypatch.setattr(ownership, "_one", ownership._calibrated())
    return request.param


def test_a_consistent_count_is_trusted_and_no_other(counter):
    assert (ownership._one is not None) == (counter in TRUSTED)


def test_holders_are_counted_or_unknown(counter):
    box = [np.zeros(2)]
    kept = [box[0], box[0]]
    assert ownership.others(box) == (2 if counter in TRUSTED else ownership.UNKNOWN)
    kept.clear()
    assert ownership.others(box) == (0 if counter in TRUSTED else ownership.UNKNOWN)


LOSSES = {
    "one array for two leaves": lambda a, b, w: (a + b) * w,
    "through another line": lambda a, b, w: ((a + b) + a) * w,
    "a view": lambda a, b, w: (a.reshape(6) + b.reshape(6)).reshape(2, 3) * w,
    "identity": lambda a, b, w: mg.identity(a) + b,
    "a row": lambda a, b, w: mg.concatenate([a, b])[:2] + b,
    "the cotangent itself": lambda a, b, w: a + b,
}


def buffers(*tensors):
    return [t._data for t in tensors]


def assert_apart(arrays):
    hosts = [(i, a if type(a) is np.ndarray else a._values) for i, a in enumerate(arrays)]
    for i, a in hosts:
        for j, b in hosts[i + 1:]:
            assert not np.shares_memory(a, b), (i, j)


@pytest.mark.parametrize("how", ["backward", "retain_graph", "create_graph", "grad", "grad create_graph"])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_share_memory_with_nothing(counter, backend, rng, loss, how):
    a, b, w = (variable(rng, 2, 3) for _ in range(3))
    y = LOSSES[loss](a, b, w)
    v = mg.tensor(rng.normal(size=y.shape), backend=backend)
    if how.startswith("grad"):
        found = mg.grad(y, [a, b, a], v, create_graph="create" in how)
        if "create" in how:  # what is on the tape cannot be written to
            found = [g for g in found if not g.requires_grad]
    else:
        y.backward(v, retain_graph=how != "backward", create_graph="create" in how)
        found = [g for g in (a.grad, b.grad, w.grad) if g is not None and not g.requires_grad]
    expected = [g.numpy() for g in found]
    assert_apart([*buffers(*found), *buffers(a, b, w, v)])
    for g in found:
        g._data *= 2.0
    for g, e in zip(found, expected):
        np.testing.assert_array_equal(g.numpy(), 2 * e)


def test_clipping_clips_once(counter, backend, rng):
    """Two gradients in one buffer would be scaled twice."""
    a, b, w = (variable(rng, 3) for _ in range(3))
    ((a + b) * w).backward(mg.tensor(rng.normal(size=3), backend=backend))
    norms = [to_host(t.grad._data).copy() for t in (a, b, w)]
    mg.optim.clip_grad_norm_([a, b, w], 0.5)
    total = np.sqrt(sum((n * n).sum() for n in norms))
    for t, n in zip((a, b, w), norms):
        np.testing.assert_allclose(t.grad.numpy(), n * 0.5 / total, rtol=1e-5)


def test_gradients_accumulate_out_of_place(counter, backend, rng):
    a = variable(rng, 3)
    (a * 2.0).backward(mg.tensor(np.ones(3), backend=backend))
    first = a.grad
    (a * 3.0).backward(mg.tensor(np.ones(3), backend=backend))
    np.testing.assert_array_equal(first.numpy(), 2 * np.ones(3))
    np.testing.assert_array_equal(a.grad.numpy(), 5 * np.ones(3))


def test_a_donor_is_taken_only_where_counts_are_trusted(counter, backend, rng):
    x = result(rng, 3, 4)
    expected = to_host(x._data) * 0.5 + 1.0
    z = halved(x, 1.0)
    assert (type(x) is Taken) == (counter in TRUSTED)
    np.testing.assert_array_equal(z.numpy(), expected)


@pytest.mark.more
@pytest.mark.parametrize("make", HELD, ids=lambda f: f.__name__)
def test_what_others_hold_is_never_taken(counter, make, backend, rng):
    x, _holder = make(rng)
    before = to_host(x._data).copy()
    halved(x, 1.0)
    np.testing.assert_array_equal(x.numpy(), before)


# -- buffers that were handed out ---------------------------------------------------------------------------------------


def test_a_look_at_the_weights_is_over_with_the_next_op(rng):
    w, x = variable(rng, 3, 4), mg.tensor(rng.normal(size=(2, 3)))
    print(w.data[0, 0], w.data.mean(), w.data)
    mg.matmul(x, w)
    assert id(w._data) not in storage._checksums


def test_it_is_over_too_where_the_input_comes_twice(rng):
    w = variable(rng, 3)
    w.data.sum()
    w * w
    assert id(w._data) not in storage._checksums


@pytest.mark.parametrize("keep", [lambda a: a, lambda a: a[1:], lambda a: a.T, lambda a: memoryview(a), lambda a: {"w": a.reshape(-1)}],
                         ids=["array", "slice", "transpose", "memoryview", "in a dictionary"])
def test_who_still_holds_the_buffer_is_watched(rng, keep):
    w = variable(rng, 3, 4)
    holder = keep(w.data)
    y = (w * w).sum()
    assert id(w._data) in storage._checksums
    w._data.flat[5] += 1.0  # as if through the holder
    with pytest.raises(mg.TapeError, match="raw write"):
        y.backward()
    del holder, y
    (w * w).backward(mg.tensor(rng.normal(size=(3, 4))))
    w * w
    assert id(w._data) not in storage._checksums


def test_a_look_between_forward_and_backward_is_watched(rng):
    w = variable(rng, 3)
    y = w * w
    w.data[0] = 3.0
    with pytest.raises(mg.TapeError, match="raw write"):
        y.backward(mg.tensor(np.ones(3)))


def test_without_counts_a_look_is_watched_for_ever(counter, rng):
    w = variable(rng, 3)
    w.data.sum()
    w * w
    assert (id(w._data) in storage._checksums) == (counter not in TRUSTED)
    y = w * w
    w.data[0] += 3.0
    with pytest.raises(mg.TapeError, match="raw write"):
        y.backward(mg.tensor(np.ones(3)))


def test_numpy_loops_on_data_train(counter, rng):
    """The habit of writing w.data -= lr * w.grad.data."""
    w = variable(rng, 3)
    for _ in range(3):
        before = w.numpy()
        (w * w).backward(mg.tensor(np.ones(3)))
        w.data -= 0.1 * w.grad.data
        np.testing.assert_allclose(w.numpy(), before * 0.8)
        w.grad = None


def test_another_thread_may_free_a_buffer_at_any_moment(rng):
    w = variable(rng, 3)
    held = w.data
    y = w * w
    key = id(held)
    storage._alive.pop(key)  # what the callback of the weak reference does first
    y.backward(mg.tensor(np.ones(3)))
    del w, held, y
    storage._checksums.pop(key)
