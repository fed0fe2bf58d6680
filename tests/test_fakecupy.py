"""The fake device has CuPy's manners: it computes NumPy's numbers, and refuses or counts what a GPU would.

What CuPy itself does was read from its 14.2.0 wheel and source; the file concerned is named where it is surprising.
"""

import copy
import gc
import operator
import weakref

import numpy as np
import pytest

from fakecupy import FakeArray, FakeCupy, HostSync, ImplicitTransfer, NoDeviceCode
from fakecupy.rules import API

F32 = np.float32


@pytest.fixture
def xp():
    return FakeCupy()


@pytest.fixture
def lenient():
    return FakeCupy(strict=False)


# -- a whole training step, by hand: a convolution, batch norm, relu, mean pool, softmax cross-entropy, SGD -----------


def columns(xp, images, k):
    """(N, H, W, C) -> (N H W, k k C): the patches of a 'same' convolution."""
    p = k // 2
    images = xp.pad(images, ((0, 0), (p, p), (p, p), (0, 0)))
    n, h, w, c = images.shape
    s = images.strides
    patches = xp.lib.stride_tricks.as_strided(images, (n, h - k + 1, w - k + 1, k, k, c),
                                              (s[0], s[1], s[2], s[1], s[2], s[3]))
    return patches.reshape(-1, k * k * c)


def training_step(xp, parameters, images, onehot, lr=0.1, at_the_logits=lambda xp, logits: logits):
    w1, gamma, beta, w2 = parameters
    n, h, w, _ = images.shape
    cols = columns(xp, images, 3)
    z = cols @ w1
    centred = z - z.mean(axis=0)
    rstd = 1 / xp.sqrt(xp.mean(centred * centred, axis=0) + 1e-5)
    xhat = centred * rstd
    y = xhat * gamma + beta
    pooled = xp.maximum(y, 0).reshape(n, h * w, -1).mean(axis=1)
    logits = at_the_logits(xp, pooled @ w2)
    logits = logits - logits.max(axis=1, keepdims=True)
    exps = xp.exp(logits)
    p = exps / exps.sum(axis=1, keepdims=True)
    loss = -xp.log(xp.sum(p * onehot, axis=1)).mean()

    dlogits = (p - onehot) / n
    dw2, dpooled = pooled.T @ dlogits, dlogits @ w2.T
    da = xp.broadcast_to(dpooled[:, None, :] / (h * w), (n, h * w, dpooled.shape[1])).reshape(y.shape)
    dy = xp.where(y > 0, da, 0)
    dbeta, dgamma = dy.sum(axis=0), xp.sum(dy * xhat, axis=0)
    dz = (gamma * rstd) * (dy - (dbeta + xhat * dgamma) / len(dy))
    for parameter, gradient in zip(parameters, (cols.T @ dz, dgamma, dbeta, dw2), strict=True):
        parameter -= lr * gradient
    return loss


def training_data(xp):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 8, 8, 3)).astype(F32)
    onehot = np.eye(5, dtype=F32)[rng.integers(0, 5, 8)]
    parameters = [rng.normal(size=s).astype(F32) * F32(0.3) for s in ((27, 16), (16,), (16,), (16, 5))]
    parameters[1][:] = 1
    return [xp.asarray(p) for p in parameters], xp.asarray(images), xp.asarray(onehot)


def test_training_gives_numpys_numbers_bit_for_bit_without_a_sync(xp):
    def train(module):
        parameters, images, onehot = training_data(module)
        return parameters, [training_step(module, parameters, images, onehot) for _ in range(20)]

    on_host, host_losses = train(np)
    with xp.no_sync():
        on_device, device_losses = train(xp)
    assert [float(v) for v in host_losses] == [float(v) for v in device_losses]
    assert host_losses[-1] < host_losses[0]
    assert all((a == xp.asnumpy(b)).all() and a.dtype == b.dtype == F32
               for a, b in zip(on_host, on_device, strict=True))


def test_counts_launches_syncs_and_transfers(xp):
    parameters, images, onehot = training_data(xp)
    with xp.count() as outer:
        with xp.count() as step:
            loss = training_step(xp, parameters, images, onehot)
        float(loss)
    assert (step.syncs, step.h2d, step.d2h, step.implicit, step.log) == (0, 0, 0, 0, [])
    assert step.launches > 20
    assert (outer.syncs, outer.launches, outer.log) == (1, step.launches, ["float"])


REFUSED = {  # slipped into the training step, at its logits (8, 5)
    # host arrays that CuPy refuses
    "np.asarray of a device array": (TypeError, lambda xp, x: x + np.asarray(x)),
    "np.array of a device array": (TypeError, lambda xp, x: np.array(x)),
    "device + host": (TypeError, lambda xp, x: x + np.ones(5, F32)),
    "host + device": (TypeError, lambda xp, x: np.ones(5, F32) + x),
    "device + 0-d host": (TypeError, lambda xp, x: x + np.array(1, F32)),
    "host @ device": (TypeError, lambda xp, x: np.ones((8, 8), F32) @ x),
    "host in a list": (TypeError, lambda xp, x: xp.concatenate([x, np.ones((1, 5), F32)])[:8]),
    "device and number in a list": (TypeError, lambda xp, x: xp.asarray([x[0, 0], 1.0])),
    "x[0] = host": (ValueError, lambda xp, x: x.__setitem__(0, np.ones(5)) or x),
    "x += host": (TypeError, lambda xp, x: operator.iadd(x, np.ones(5, F32))),
    "out=host": (TypeError, lambda xp, x: xp.exp(x, out=np.empty((8, 5), F32))),
    "out=bool": (TypeError, lambda xp, x: xp.exp(x, out=True)),
    # what CuPy lets through with a silent copy, a dispatch or a wider dtype
    "np.exp": (TypeError, lambda xp, x: xp.asarray(1) * np.exp(x)),
    "np.sum": (TypeError, lambda xp, x: x + np.sum(x)),
    "np.float64(2) * x": (TypeError, lambda xp, x: np.float64(2) * x),
    "x[host index]": (ImplicitTransfer, lambda xp, x: x[np.arange(8)]),
    "x[list]": (ImplicitTransfer, lambda xp, x: x[[0, 1]]),
    "take of a list": (ImplicitTransfer, lambda xp, x: xp.take(x, [0, 1])),
    "add.at of a list": (ImplicitTransfer, lambda xp, x: xp.add.at(x, [0, 1], x[:2])),
    "x[0] = list": (ImplicitTransfer, lambda xp, x: x.__setitem__(0, [1, 2, 3, 4, 5]) or x),
    # numbers and lists where NumPy makes an array and CuPy fails
    "sum of a number": (TypeError, lambda xp, x: x + xp.sum(2.0)),
    "sum of a list": (TypeError, lambda xp, x: x + xp.sum([1.0, 2.0])),
    "exp of a list": (TypeError, lambda xp, x: x + xp.exp([1.0, 2.0, 3.0, 4.0, 5.0])),
    "stack of numbers": (TypeError, lambda xp, x: x + xp.stack([1.0] * 5)),
    "outer with a number": (TypeError, lambda xp, x: xp.outer(x, 2.0)),
    "zeros_like of a list": (TypeError, lambda xp, x: xp.zeros_like([1.0])),
    # device values where Python needs an integer
    "range(x)": (TypeError, lambda xp, x: range(xp.argmax(x[0]))),
    "axis=x": (TypeError, lambda xp, x: x.sum(axis=xp.argmax(x[0]))),
    "reshape to x": (TypeError, lambda xp, x: x.reshape(xp.asarray(5), 8)),
    "zeros of x": (TypeError, lambda xp, x: xp.zeros((xp.asarray(5), 8))),
    "slice to x": (TypeError, lambda xp, x: x[: xp.asarray(2)]),
    "in a set": (TypeError, lambda xp, x: {x}),
    # syncs
    "float": (HostSync, lambda xp, x: x * float(x.max())),
    "item": (HostSync, lambda xp, x: x * x.max().item()),
    "get": (HostSync, lambda xp, x: x.get()),
    "if": (HostSync, lambda xp, x: x if x.max() > 3 else x * 2),
    "in": (HostSync, lambda xp, x: 3.0 in x[0]),
    "read a mask": (HostSync, lambda xp, x: x + x[x > 0].sum()),
    "write a mask": (HostSync, lambda xp, x: x.__setitem__(x > 0, xp.asarray(1.0)) or x),
    "nonzero": (HostSync, lambda xp, x: x + xp.nonzero(x)[0].size),
    "where(condition)": (HostSync, lambda xp, x: xp.where(x > 0)),
    "unique": (HostSync, lambda xp, x: xp.unique(x)),
    "if allclose": (HostSync, lambda xp, x: x if xp.allclose(x, x) else None),
    "f-string": (HostSync, lambda xp, x: f"{x.max():.3f}"),
    "builtin max": (HostSync, lambda xp, x: x * max(x[0])),
    "sliding_window_view": (HostSync, lambda xp, x: xp.lib.stride_tricks.sliding_window_view(x, 2, axis=0)),
    "tril_indices": (HostSync, lambda xp, x: xp.tril_indices(3)),
    "repeat of a list": (HostSync, lambda xp, x: xp.repeat(x, [1, 2, 1, 1, 1], axis=1)),
    "synchronize": (HostSync, lambda xp, x: xp.cuda.get_current_stream().synchronize()),
    # names and keywords that NumPy has and CuPy does not have
    "sum where=": (TypeError, lambda xp, x: x + xp.sum(x, axis=1, keepdims=True, where=x > 0)),
    "max initial=": (TypeError, lambda xp, x: x + xp.max(x, initial=0)),
    "exp where=": (TypeError, lambda xp, x: xp.exp(x, where=x > 0)),
    "var mean=": (TypeError, lambda xp, x: x + xp.var(x, axis=1, mean=x.mean(axis=1))),
    "method where=": (TypeError, lambda xp, x: x.sum(where=x > 0)),
    "take mode=": (TypeError, lambda xp, x: xp.take(x, 0, mode="clip")),
    "too many arguments": (TypeError, lambda xp, x: xp.take(x, 0, None, None, "clip")),
    "reshape shape=": (TypeError, lambda xp, x: xp.reshape(x, shape=(5, 8))),
    "clip min=": (TypeError, lambda xp, x: xp.clip(x, min=0, max=1)),
    "einsum out=": (TypeError, lambda xp, x: xp.einsum("ij->ij", x, out=x)),
    "as_strided writeable=": (TypeError, lambda xp, x: xp.lib.stride_tricks.as_strided(x, x.shape, writeable=False)),
    "astype casting=": (TypeError, lambda xp, x: x.astype(np.float64, casting="safe")),
    "zeros_like subok=": (TypeError, lambda xp, x: xp.zeros_like(x, subok=True)),
    "sort kind=": (TypeError, lambda xp, x: xp.sort(x, kind="quicksort")),
    "maximum.reduce": (NotImplementedError, lambda xp, x: xp.maximum.reduce(x)),
    "multiply.at": (NotImplementedError, lambda xp, x: xp.multiply.at(x, xp.asarray([0]), 1)),
    "subtract.at of floats": (TypeError, lambda xp, x: xp.subtract.at(x, xp.asarray([0]), 1)),
    "insert": (AttributeError, lambda xp, x: xp.insert(x, 0, 0, axis=0)),
    "errstate": (AttributeError, lambda xp, x: xp.errstate(all="ignore")),
    "linalg.multi_dot": (AttributeError, lambda xp, x: xp.linalg.multi_dot([x.T, x])),
    "rng.normal": (AttributeError, lambda xp, x: xp.random.default_rng(0).normal(size=x.shape)),
    "rng.permutation": (AttributeError, lambda xp, x: xp.random.default_rng(0).permutation(8)),
    "RandomState": (AttributeError, lambda xp, x: xp.random.RandomState(0)),
    "ctypes": (AttributeError, lambda xp, x: x.ctypes),
    "flags.writeable": (AttributeError, lambda xp, x: x.flags.writeable),
    "object dtype": (ValueError, lambda xp, x: xp.asarray([None])),
    "longdouble": (ValueError, lambda xp, x: x.astype(np.longdouble)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(xp, name):
    expected, slip = REFUSED[name]
    parameters, images, onehot = training_data(xp)
    with pytest.raises(expected), xp.no_sync():
        training_step(xp, parameters, images, onehot, at_the_logits=slip)


ALLOWED = {
    "views write through": lambda xp, x: (x[:, 1:3].__setitem__(slice(None), 0), x)[1],
    "reshape there and back": lambda xp, x: x.reshape(2, 4, 5).reshape(8, 5),
    "add.at": lambda xp, x: (xp.add.at(x, xp.asarray([0, 0, 1]), 1), x)[1],
    "out=": lambda xp, x: xp.multiply(x, 2, out=x),
    "einsum": lambda xp, x: xp.einsum("ij,kj->ik", x, xp.eye(5, dtype=F32)),
    "device index": lambda xp, x: x[xp.arange(8), xp.arange(8) % 5][:, None] + x,
    "take": lambda xp, x: xp.take(x, xp.arange(5), axis=1),
    "take_along_axis": lambda xp, x: xp.take_along_axis(x, xp.argsort(x, axis=1), axis=1),
    "Python and NumPy numbers": lambda xp, x: 2 * x + 1.5 - F32(1),
    "where with numbers": lambda xp, x: xp.where(x > 0, x, 0.0),
    "isinstance": lambda xp, x: x if isinstance(x, xp.ndarray) and not isinstance(x, np.ndarray) else None,
    "get_array_module": lambda xp, x: xp.get_array_module(x).tanh(x),
    "draw on the device": lambda xp, x: x + xp.random.default_rng(0).standard_normal(x.shape, dtype=F32),
    "x @= y rebinds": lambda xp, x: operator.imatmul(x, xp.eye(5, dtype=F32)),
    "pad": lambda xp, x: xp.pad(x, ((1, 1), (0, 0)), constant_values=0)[1:-1],
    "tril, triu, trace, diagonal": lambda xp, x: xp.tril(x) + xp.triu(x, 1) + xp.trace(x) + xp.diagonal(x).sum(),
    "cumsum, argmax": lambda xp, x: xp.cumsum(x, axis=1) + xp.argmax(x, axis=1)[:, None].astype(F32),
    "concatenate, stack, split": lambda xp, x: xp.stack(xp.split(xp.concatenate([x, x]), 2)).sum(axis=0),
    "norm, qr, svd, eigh": lambda xp, x: (x / xp.linalg.norm(x) + xp.linalg.qr(x)[0]
                                          + xp.linalg.svd(x, full_matrices=False)[1] + xp.linalg.eigh(x.T @ x)[0]),
    "solve, inv, cholesky, det": lambda xp, x: (lambda a: xp.linalg.solve(a, x.T).T + xp.linalg.inv(a)[0]
                                                + xp.linalg.cholesky(a)[0] + xp.linalg.det(a)
                                                + xp.linalg.slogdet(a)[1])(x.T @ x + xp.eye(5, dtype=F32)),
    "allclose stays on the device": lambda xp, x: x * xp.allclose(x, x),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allows_without_a_sync_and_keeps_float32(xp, name):
    parameters, images, onehot = training_data(xp)
    with xp.no_sync():
        loss = training_step(xp, parameters, images, onehot, at_the_logits=ALLOWED[name])
    assert isinstance(loss, FakeArray) and loss.dtype == F32


def test_lenient_mode_dispatches_and_counts_as_cupy_does(lenient):
    x = lenient.ones(3)
    assert isinstance(np.exp(x), FakeArray) and isinstance(np.sum(x), FakeArray)
    with lenient.count() as counts:
        x[np.arange(2)], x[[0, 1]], lenient.take(x, [0, 1])
    assert (counts.implicit, counts.h2d, counts.syncs) == (3, 3, 0)
    with pytest.raises(TypeError):
        np.ones(3) + x
    with pytest.raises(TypeError):
        np.asarray(x)


@pytest.mark.parametrize("name, transfer", {
    "number at a device index": lambda xp, x, i: x.__setitem__(i, 0.0),
    "number at a device mask": lambda xp, x, i: x.__setitem__(x > 0, 0.0),
    "add.at of a number": lambda xp, x, i: xp.add.at(x, i, 1.0),
    "isclose with a number": lambda xp, x, i: xp.isclose(x, 1.0),
    "x[True]": lambda xp, x, i: x[True],
    "ufunc.outer of a number": lambda xp, x, i: xp.add.outer(2.0, x),
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_host_numbers_that_become_device_arrays_are_counted(lenient, name, transfer):
    x, index = lenient.ones(3), lenient.asarray([0])
    with lenient.count() as counts:
        transfer(lenient, x, index)
    assert (counts.implicit, counts.h2d) == (1, 1)


def test_numbers_that_are_kernel_arguments_cost_no_transfer(xp):
    x = xp.ones(3)
    with xp.count() as counts:
        x[1:] = 2.0
        x + 1, xp.maximum(x, 0.0), xp.where(x > 1, x, 0.0), xp.full((3,), 2.0), xp.clip(x, 0, 1), xp.take(x, 1)
    assert (counts.implicit, counts.h2d) == (0, 0)


# -- memory: base, data, identity -------------------------------------------------------------------------------------


VIEWS = {
    "slice": lambda xp, x: x[1:],
    "integer": lambda xp, x: x[1],
    "0-d element": lambda xp, x: x[1, 1, 1],
    "ellipsis": lambda xp, x: x[...],
    "newaxis": lambda xp, x: x[None],
    "reshape": lambda xp, x: x.reshape(6, 4),
    "xp.reshape": lambda xp, x: xp.reshape(x, (6, 4)),
    "ravel": lambda xp, x: x.ravel(),
    "T": lambda xp, x: x.T,
    "mT": lambda xp, x: x.mT,
    "transpose": lambda xp, x: x.transpose(1, 0, 2),
    "swapaxes": lambda xp, x: xp.swapaxes(x, 0, 1),
    "moveaxis": lambda xp, x: xp.moveaxis(x, 0, 1),
    "expand_dims": lambda xp, x: xp.expand_dims(x, 1),
    "squeeze": lambda xp, x: xp.squeeze(x[:1], 0),
    "broadcast_to": lambda xp, x: xp.broadcast_to(x, (5, 2, 3, 4)),
    "diagonal": lambda xp, x: xp.diagonal(x),
    "flip": lambda xp, x: xp.flip(x, 0),
    "split": lambda xp, x: xp.split(x, 2)[1],
    "einsum transpose": lambda xp, x: xp.einsum("ijk->kji", x),
    "dtype view": lambda xp, x: x.view(np.int64),
    "view of a view of a view": lambda xp, x: x[1:].T.reshape(4, 3)[2:],
}


@pytest.mark.parametrize("name", VIEWS)
def test_base_of_a_view_is_the_very_array_that_owns_the_memory(xp, name):
    x = xp.zeros((2, 3, 4))
    view = VIEWS[name](xp, x)
    assert x.base is None and view is not x and view.base is x
    assert view.data.mem is x.data.mem
    assert not view.flags.owndata and x.flags.owndata


def test_base_keeps_the_owner_alive_and_dies_with_its_last_view(xp):
    before = xp.get_default_memory_pool().used_bytes()
    x = xp.zeros((100, 100))
    owner, view = weakref.ref(x), x[1:].T
    del x
    assert view.base is owner() is not None
    assert xp.get_default_memory_pool().used_bytes() == before + 80_000
    del view
    gc.collect()
    assert owner() is None and xp.get_default_memory_pool().used_bytes() == before


@pytest.mark.parametrize("make", [
    lambda xp, x: x + 1, lambda xp, x: x.copy(), lambda xp, x: x.T.reshape(-1), lambda xp, x: x.sum(),
    lambda xp, x: x[xp.asarray([0, 1])], lambda xp, x: x[xp.asarray(1)], lambda xp, x: xp.asarray(x, dtype=F32),
    lambda xp, x: xp.array(x), lambda xp, x: copy.deepcopy(x), lambda xp, x: xp.concatenate([x]),
], ids=["sum", "copy", "copying reshape", "reduction", "device index", "0-d device index", "asarray to float32",
        "array", "deepcopy", "concatenate"])
def test_new_arrays_own_their_memory(xp, make):
    x = xp.zeros((2, 3, 4))
    y = make(xp, x)
    assert y.base is None and y.flags.owndata and y.data.mem is not x.data.mem
    assert y[...].base is y


def test_as_strided_shares_memory_but_has_no_base(xp):
    """cupy/lib/stride_tricks.py builds it from the bare pointer. Only `data.mem` tells that it is a view."""
    x = xp.zeros((4, 4))
    windows = xp.lib.stride_tricks.as_strided(x, (2, 2), (8, 8))
    assert windows.base is None and windows[1:].base is windows
    assert windows.data.mem is x.data.mem and windows.data.ptr == x.data.ptr
    windows[0, 1] = 7
    assert float(x[0, 1]) == 7


@pytest.mark.parametrize("name, same", {
    "asarray": lambda xp, x: xp.asarray(x), "ascontiguousarray": lambda xp, x: xp.ascontiguousarray(x),
    "astype(copy=False)": lambda xp, x: x.astype(x.dtype, copy=False), "real": lambda xp, x: x.real,
    "atleast_1d": lambda xp, x: xp.atleast_1d(x), "squeeze": lambda xp, x: xp.squeeze(x),
    "squeeze method": lambda xp, x: x.squeeze(), "split into one": lambda xp, x: xp.split(x, 1)[0],
    "out=": lambda xp, x: xp.add(x, 1, out=x), "in place": lambda xp, x: operator.iadd(x, 1),
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_with_nothing_to_do_the_result_is_the_input_itself(xp, name, same):
    x = xp.zeros((2, 3))
    assert same(xp, x) is x


def test_arrays_can_be_weakly_referenced_but_not_hashed(xp):
    x = xp.zeros(3)
    assert weakref.ref(x)() is x
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


# -- dtypes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["float16", "float32", "float64", "int32", "int64", "bool"])
@pytest.mark.parametrize("right", ["float16", "float32", "float64", "int64", "bool", 2, 2.5, True])
def test_promotion_is_numpy_2s_also_for_0d_arrays(xp, left, right):
    x = np.ones(3, left)
    y = right if not isinstance(right, str) else np.ones((), right)
    on_device = y if not isinstance(y, np.ndarray) else xp.asarray(y)
    for operation in (operator.mul, operator.truediv, operator.lt):
        assert operation(xp.asarray(x), on_device).dtype == operation(x, y).dtype
    assert xp.maximum(xp.asarray(x), on_device).dtype == np.maximum(x, y).dtype


def test_a_python_number_never_widens_float16_and_a_numpy_float64_does(xp):
    x = xp.ones(3, dtype=np.float16)
    assert (x * 2.5).dtype == (2 / x).dtype == (x**2).dtype == xp.where(x > 0, x, 0.0).dtype == np.float16
    assert (x * np.float64(2.5)).dtype == np.float64


@pytest.mark.parametrize("name", ["sum", "mean", "max", "argmax", "trace", "linalg.norm", "linalg.det", "allclose",
                                  "count_nonzero", "array_equal", "dot"])
def test_0d_results_stay_on_the_device(xp, name):
    x = xp.eye(3)
    function = operator.attrgetter(name)(xp)
    result = function(x.ravel(), x.ravel()) if name in ("allclose", "array_equal", "dot") else function(x)
    assert isinstance(result, FakeArray) and result.shape == ()


def test_no_warnings_from_the_device(xp, recwarn):
    x = xp.zeros(3)
    x / x, xp.log(x), 1 / x, xp.exp(x + 1e9), operator.itruediv(x, 0)
    assert not recwarn.list


# -- linalg: plain tuples, no errors, no syncs ------------------------------------------------------------------------


def batch(xp, *, singular):
    """Two 3x3 matrices; the second is singular, and indefinite, if asked for."""
    matrices = np.stack([np.diag([1.0, 2.0, 3.0]), np.diag([1.0, -1.0, 0.0]) if singular else np.eye(3)])
    return xp.asarray(matrices)


@pytest.mark.parametrize("name", ["eigh", "qr", "slogdet", "svd"])
def test_linalg_results_are_plain_tuples(xp, name):
    result = getattr(xp.linalg, name)(batch(xp, singular=False))
    assert type(result) is tuple and all(isinstance(r, FakeArray) for r in result)


@pytest.mark.parametrize("name", ["cholesky", "inv"])
def test_a_matrix_that_fails_in_a_batch_gives_finite_garbage_and_no_error_or_sync(xp, name):
    function = getattr(xp.linalg, name)
    with xp.no_sync():
        result, alone = function(batch(xp, singular=True)), function(batch(xp, singular=True)[1])
    np.testing.assert_array_equal(result[0].get(), getattr(np.linalg, name)(np.diag([1.0, 2.0, 3.0])))
    assert np.isfinite(result[1].get()).all()
    if name == "inv":  # of one matrix, that of diag(1, -1, 0): a division by zero
        np.testing.assert_array_equal(alone.get(), [[np.nan] * 3, [np.nan] * 3, [np.nan, np.nan, np.inf]])


def test_cholesky_stops_at_the_pivot_without_a_root_and_leaves_anything_there(xp):
    a = xp.asarray(np.array([[4.0, 2.0, 2.0], [2.0, 1.0, 5.0], [2.0, 5.0, 9.0]]))  # its second pivot is 1 − 1² = 0
    factor = xp.linalg.cholesky(a).get()
    np.testing.assert_array_equal(factor[:, 0], [2, 1, 1])
    assert factor[1, 1] > 0 and factor[2, 1] != 0 and (np.triu(factor, 1) == 0).all()
    np.testing.assert_array_equal(xp.linalg.cholesky(a).get(), factor)  # always the same


def test_a_solution_is_finite_as_far_as_nothing_was_divided_by_zero(xp):
    x = xp.linalg.solve(xp.asarray(np.diag([2.0, 0.0, 4.0])), xp.ones(3)).get()
    np.testing.assert_array_equal(x, [np.nan, np.inf, 0.25])


def test_singular_solve_gives_nan_and_slogdet_minus_infinity(xp):
    a = batch(xp, singular=True)
    x = xp.linalg.solve(a, xp.ones((2, 3, 1))).get()
    assert np.isfinite(x[0]).all() and not np.isfinite(x[1]).any()
    sign, logabsdet = xp.linalg.slogdet(a)
    assert float(sign[1]) == 0 and float(logabsdet[1]) == -np.inf and float(xp.linalg.det(a)[1]) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["eigh", "svd", "cholesky"])
def test_of_a_matrix_that_is_not_finite_there_is_finite_garbage(xp, name, value):
    a = np.stack([np.eye(2), np.array([[2.0, value], [value, 2.0]])])
    results = getattr(xp.linalg, name)(xp.asarray(a))
    for found in results if isinstance(results, tuple) else (results,):
        garbage = found.get()[1]
        assert np.isfinite(garbage).all() and np.abs(garbage).max() != 1  # not the results of the identity


def test_solve_takes_batches_but_does_not_broadcast_them(xp):
    a = batch(xp, singular=False)
    assert xp.linalg.solve(a, xp.ones((2, 3, 4))).shape == (2, 3, 4)
    assert xp.linalg.solve(a, xp.ones(3)).shape == (2, 3)
    for b in (xp.ones((3, 4)), xp.ones((1, 3, 4))):
        with pytest.raises(ValueError, match="does not broadcast"):
            xp.linalg.solve(a, b)


@pytest.mark.parametrize("name", ["cholesky", "inv", "eigh", "qr", "svd"])
def test_linalg_refuses_float16_and_matrices_that_are_not_square(xp, name):
    with pytest.raises(TypeError, match="float16"):
        getattr(xp.linalg, name)(xp.eye(3, dtype=np.float16))
    if name not in ("qr", "svd"):
        with pytest.raises(xp.linalg.LinAlgError):
            getattr(xp.linalg, name)(xp.zeros((2, 3)))


@pytest.mark.parametrize("name, keyword", [("eigh", "UPLO"), ("svd", "compute_uv"), ("qr", "mode")])
def test_linalg_keywords_reach_numpy(xp, name, keyword):
    a = np.arange(9.0).reshape(3, 3)
    argument = {"UPLO": "U", "compute_uv": False, "mode": "r"}[keyword]
    expected = getattr(np.linalg, name)(a, **{keyword: argument})
    result = getattr(xp.linalg, name)(xp.asarray(a), **{keyword: argument})
    for r, e in zip(result, expected, strict=True):
        np.testing.assert_array_equal(r.get(), e)


# -- CUDA -------------------------------------------------------------------------------------------------------------


def test_kernels_are_recorded_for_a_compiler_and_refuse_to_run(xp):
    scale = xp.RawKernel('extern "C" __global__ void scale(float* x) {}', "scale", ("-std=c++17",))
    module = xp.RawModule(code="template<class T> __global__ void f(T*) {}", name_expressions=["f<float>"])
    double = xp.ElementwiseKernel("T x", "T y", "y = 2 * x", "double_it")
    assert [r.kind for r in xp.compile_requests] == ["RawKernel", "RawModule", "ElementwiseKernel"]
    assert xp.compile_requests[0].options == ("-std=c++17",) and "scale(float*" in xp.compile_requests[0].source
    for launch in (lambda: scale((1,), (1,), (xp.zeros(3),)), lambda: module.get_function("f<float>")((1,), (1,), ()),
                   lambda: double(xp.zeros(3))):
        with pytest.raises(NoDeviceCode, match="twin"):
            launch()
    with pytest.raises(TypeError, match="options"):
        xp.RawKernel("", "f", ["-std=c++17"])


def test_a_library_that_asks_finds_one_device(xp):
    assert xp.cuda.is_available() and xp.is_available() and xp.cuda.runtime.getDeviceCount() == 1
    xp.get_default_memory_pool().free_all_blocks()


# -- the API dump -----------------------------------------------------------------------------------------------------


def test_api_dump_is_of_cupy_14_and_knows_what_its_signatures_hide():
    assert API["version"].startswith("14.")
    assert API[""]["einsum"] == ["*operands", "dtype", "optimize"]
    assert "constant_values" in API[""]["pad"] and "where" not in API[""]["sum"]
    assert API["ndarray"]["reshape"] == ["*shape", "order", "copy"]


@pytest.mark.parametrize("name", ["einsum", "take", "take_along_axis", "pad", "tril", "triu", "trace", "diagonal",
                                  "cumsum", "argmax", "concatenate", "stack", "split", "add", "broadcast_to", "where",
                                  "linalg.eigh", "linalg.inv", "linalg.solve", "linalg.cholesky", "linalg.det",
                                  "linalg.slogdet", "linalg.norm", "linalg.qr", "linalg.svd"])
def test_every_function_an_autodiff_library_needs_is_there(xp, name):
    assert callable(operator.attrgetter(name)(xp))
