"""Writing into tensors, and what the tape keeps: every habit either works or is refused; no gradient is lost or changed."""

import copy

import numpy as np
import pytest

import layers
import minigrad as mg
from helpers import to_host
from minigrad import nn, optim


def variable(rng, *shape, dtype="float64"):
    return mg.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True, backend=mg.backend.current_name())


def constant(rng, *shape, dtype="float64"):
    return variable(rng, *shape, dtype=dtype).detach()


# -- taped values for a constant ----------------------------------------------------------------------------------------

WRITES = {
    "an element": lambda buf, w: buf.__setitem__(0, (w * w)[0]),
    "a slice": lambda buf, w: buf.__setitem__(slice(0, 2), w[:2]),
    "everything": lambda buf, w: buf.__setitem__(Ellipsis, mg.exp(w)),
    "a mask": lambda buf, w: buf.__setitem__(w.detach() < 1e9, w * 1.0),
    "a variable": lambda buf, w: buf.__setitem__(Ellipsis, w),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_taped_value_is_not_written_into_a_constant(backend, rng, write):
    buf, w = constant(rng, 3), variable(rng, 3)
    before = buf.numpy()
    with pytest.raises(mg.TapeError, match=r"gradient.*lost(.|\n)*stack"):
        WRITES[write](buf, w)
    np.testing.assert_array_equal(buf.numpy(), before)


@pytest.mark.parametrize("write", WRITES)
def test_without_a_tape_it_is(backend, rng, write):
    buf, w = constant(rng, 3), variable(rng, 3)
    with mg.no_grad():
        WRITES[write](buf, w)
    assert not buf.requires_grad and to_host(buf._data)[0] != 0


def test_the_advice_keeps_the_gradient(backend, rng):
    w, v = variable(rng, 3), constant(rng, 3)
    buf = mg.stack([w[i] * w[i] for i in range(3)])
    buf.backward(v)
    np.testing.assert_allclose(w.grad.numpy(), 2 * w.numpy() * v.numpy())
    values = constant(rng, 3)
    values[0] = (w * w)[0].detach()
    assert values.numpy()[0] == w.numpy()[0] ** 2


@pytest.mark.parametrize("make", [lambda a: a, lambda a: mg.transpose(a), lambda a: a[1:], lambda a: mg.exp(a)], ids=["leaf", "view", "slice", "result"])
def test_a_clone_stays_on_the_tape_and_owns_its_memory(backend, rng, make):
    w = variable(rng, 3, 4)
    x = make(w)
    y = x.clone()
    assert y.requires_grad and not y.is_leaf and y._data is not x._data
    v = constant(rng, *y.shape)
    (expected,) = mg.grad(make(w), [w], v)
    (y * 1.0).backward(v)
    np.testing.assert_array_equal(w.grad.numpy(), expected.numpy())
    with mg.no_grad():
        assert not w.clone().requires_grad
    assert not w.detach().clone().requires_grad
    assert not constant(rng, 3).clone().requires_grad


# -- in-place operators -------------------------------------------------------------------------------------------------


def add(x, y):
    x += y
    return x


def subtract(x, y):
    x -= y
    return x


def multiply(x, y):
    x *= y
    return x


def divide(x, y):
    x /= y
    return x


def power(x, y):
    x **= y
    return x


def product(x, y):
    x @= y
    return x


OPERATORS = {"+": (add, mg.add), "-": (subtract, mg.subtract), "*": (multiply, mg.multiply), "/": (divide, mg.divide), "**": (power, mg.power),
             "@": (product, mg.matmul)}


@pytest.mark.parametrize("what", ["variable", "constant", "a view of a constant"])
@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("other", ["Tensor", "number", "array", "itself, transposed"])
def test_under_no_grad_a_leaf_is_written_to(backend, rng, xp, what, sign, other):
    assign, op = OPERATORS[sign]
    base = mg.exp(constant(rng, 3, 3))
    x = base
    if what == "variable":
        x = mg.tensor(base, requires_grad=True)
    elif what == "a view of a constant":
        x = mg.transpose(base)
    y = {"Tensor": mg.exp(constant(rng, 3, 3)), "number": 2, "array": xp.asarray(np.exp(rng.normal(size=(3, 3)))), "itself, transposed": x.detach().T}[other]
    if sign == "@" and other == "number":
        return
    with mg.no_grad():
        expected = op(mg.tensor(x.numpy(), backend=backend), y if other != "itself, transposed" else mg.tensor(y.numpy(), backend=backend)).numpy()
        before, place = x, id(x._data)
        after = assign(x, y)
    assert after is before and id(after._data) == place
    np.testing.assert_array_equal(after.numpy(), expected)
    if what == "a view of a constant":
        np.testing.assert_array_equal(base.numpy(), expected.T)


@pytest.mark.parametrize("sign", OPERATORS)
def test_outside_no_grad_a_variable_refuses(backend, rng, sign):
    x, y = variable(rng, 3, 3), constant(rng, 3, 3)
    before = x.numpy()
    with pytest.raises(mg.TapeError, match="no_grad"):
        OPERATORS[sign][0](x, y)
    np.testing.assert_array_equal(x.numpy(), before)


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("left", ["constant", "result"])
def test_everything_else_gets_a_new_value_under_the_old_name(backend, rng, sign, left):
    w, z = mg.exp(constant(rng, 3, 3)), mg.exp(constant(rng, 3, 3))
    x = z if left == "constant" else mg.tensor(z, requires_grad=True) * 1.0
    w = mg.tensor(w, requires_grad=True)
    before, values = x, x.numpy()
    after = OPERATORS[sign][0](x, w)
    assert after is not before and after.requires_grad
    np.testing.assert_array_equal(before.numpy(), values)
    v = constant(rng, 3, 3)
    (expected,) = mg.grad(OPERATORS[sign][1](z, w), [w], v)
    np.testing.assert_allclose(mg.grad(after, [w], v)[0].numpy(), expected.numpy())


def test_a_total_of_losses_stays_on_the_tape(backend, rng):
    w, total = variable(rng, 3), mg.tensor(0.0, dtype="float64", backend=backend)
    for _ in range(3):
        total += (w * w).mean()
    total.backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * w.numpy())


def model_and_batch(rng, backend):
    mg.seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(backend)
    x, y = constant(rng, 16, 4, dtype="float32"), mg.tensor(rng.integers(0, 3, 16), backend=backend)
    return model, x, y


def sgd_by_operators(p):
    p -= 0.1 * p.grad


def sgd_by_item(p):
    p[...] = p - 0.1 * p.grad


def sgd_by_data(p):
    p.data -= 0.1 * p.grad.data


def sgd_by_new_data(p):
    p.data = (p - 0.1 * p.grad).data


@pytest.mark.parametrize("update", [sgd_by_operators, sgd_by_item, sgd_by_data, sgd_by_new_data])
def test_the_tutorials_loop_trains_as_the_optimizer_does(backend, rng, update):
    model, x, y = model_and_batch(rng, backend)
    twin = copy.deepcopy(model)
    steps = optim.SGD(twin.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        for m in (model, twin):
            m.zero_grad()
            loss = mg.cross_entropy(m(x), y)
            loss.backward()
        losses.append(loss.item())
        with mg.no_grad():
            for p in model.parameters():
                update(p)
        steps.step()
        for p, q in zip(model.parameters(), twin.parameters()):
            assert p.is_leaf and p.requires_grad
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-5, atol=1e-7)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("assign", [lambda p, q: setattr(p, "data", (0.9 * p + 0.1 * q).data), lambda p, q: setattr(p, "data", mg.broadcast_to(q[:1], q.shape)),
                                    lambda p, q: setattr(p, "data", q.data[::-1])], ids=["a taped result's", "a broadcast view", "a reversed view"])
def test_after_an_assignment_to_data_the_next_step_works(backend, rng, assign):
    p, q = variable(rng, 3), variable(rng, 3)
    assign(p, q)
    before, others = p.numpy(), q.numpy()
    (p * p).backward(mg.tensor(np.ones(3), backend=backend))
    optim.SGD([p], lr=0.1).step()
    np.testing.assert_allclose(p.numpy(), 0.8 * before)
    np.testing.assert_array_equal(q.numpy(), others)


def test_an_average_of_weights_is_kept_in_place(backend, rng):
    """Exponential moving averages are written with in-place operators on constants."""
    weights = [variable(rng, 3), variable(rng, 2, 2)]
    average = [p.detach().clone() for p in weights]
    expected = [0.9 * a.numpy() + 0.1 * 2 * p.numpy() for a, p in zip(average, weights)]
    with mg.no_grad():
        for a, p in zip(average, weights):
            p *= 2.0
            a *= 0.9
            a += 0.1 * p
    for a, e in zip(average, expected):
        np.testing.assert_allclose(a.numpy(), e)


def test_gradients_are_scaled_in_place_under_no_grad(backend, rng):
    w = variable(rng, 3)
    (w * w).backward(mg.tensor(np.ones(3), backend=backend))
    with mg.no_grad():
        for g in [w.grad]:
            g *= 0.5
    np.testing.assert_allclose(w.grad.numpy(), w.numpy())


@pytest.mark.parametrize("write", [lambda p: add(p, 1.0), lambda p: multiply(p, 2.0), lambda p: p.__setitem__(0, 1.0)], ids=["+=", "*=", "[]="])
def test_a_write_between_forward_and_backward_names_its_writer(backend, rng, write):
    p = variable(rng, 3)
    y = p * p
    with mg.no_grad():
        write(p)
    with pytest.raises(mg.TapeError, match=r"overwritten by x( \+=| \*=|\[\.\.\.\] =) value"):
        y.backward(mg.tensor(np.ones(3), backend=backend))


def test_what_does_not_fit_into_a_variable_is_refused(backend, rng):
    p, q = variable(rng, 3), constant(rng, 2, 3)
    with mg.no_grad(), pytest.raises(ValueError, match="fits into x"):
        p += q
    total = mg.tensor(0, backend=backend)
    with mg.no_grad():
        total += mg.tensor(0.5, backend=backend)  # a constant becomes what the sum is
    assert total.item() == 0.5


def test_read_only_memory_is_refused_by_name(rng):
    raw = rng.normal(size=3)
    raw.flags.writeable = False
    p = mg.from_array(raw, requires_grad=True, copy=False)
    with mg.no_grad(), pytest.raises(ValueError, match="read-only"):
        p += 1.0
    copied = p.detach().clone()
    with mg.no_grad():
        copied += 1.0
    np.testing.assert_array_equal(copied.numpy(), raw + 1.0)


# -- gradients of leaves, results and hooks -----------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_leaf_that_retains_its_gradient_gets_it_once(backend, rng, times):
    x, v = variable(rng, 3), constant(rng, 3)
    for _ in range(times):
        x.retain_grad()
    (x * x).backward(v)
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy() * v.numpy())


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_fills_no_grad(backend, rng, create_graph):
    x, v = variable(rng, 3), constant(rng, 3)
    h = x * x
    h.retain_grad()
    x.retain_grad()
    y = mg.exp(h)
    mg.grad(y, [x, h], v, create_graph=create_graph)
    assert x.grad is None and h.grad is None
    mg.exp(x * x).backward(v)
    assert x.grad is not None


def hook_by_item(g):
    g[...] = g * 3.0


def hook_by_operator(g):
    g *= 3.0


def hook_by_data(g):
    g.data[...] *= 3.0


@pytest.mark.parametrize("hook", [hook_by_item, hook_by_operator, hook_by_data])
@pytest.mark.parametrize("shape", [(3,), ()])
@pytest.mark.parametrize("first", [True, False])
def test_a_hook_that_writes_changes_its_own_gradient_only(rng, hook, shape, first):
    a, b, c = (variable(rng, *shape) for _ in range(3))
    (a if first else b).register_hook(hook)
    s = a + b
    s.retain_grad()
    v = mg.tensor(rng.normal(size=shape))
    before = v.numpy()
    (s + c).backward(v)
    for t, factor in ((a, 3 if first else 1), (b, 1 if first else 3), (c, 1), (s, 1), (v, None)):
        np.testing.assert_array_equal((t if factor is None else t.grad).numpy(), before * (factor or 1))


def test_a_hook_on_a_result_changes_what_flows_on(backend, rng):
    a, v = variable(rng, 3), constant(rng, 3)
    s = a * 2.0
    s.register_hook(hook_by_item)
    (s + a).backward(v)
    np.testing.assert_allclose(a.grad.numpy(), v.numpy() * 7)


# -- a target of grad keeps its own rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [lambda x: x * x, lambda x: mg.eigh(mg.matmul(x.reshape(3, 1), x.reshape(1, 3)) + mg.tensor(np.diag([1.0, 2.0, 3.0])))[0],
                                     lambda x: mg.split(x, 3)[1]], ids=["product", "first output of two", "one of three pieces"])
def test_a_gradient_is_taken_in_two_stages(rng, between):
    x = variable(rng, 3)
    h = between(x)
    y = mg.exp(h)
    v = mg.tensor(rng.normal(size=y.shape))
    (gh,) = mg.grad(y, [h], v)
    (gx,) = mg.grad(h, [x], gh)
    (expected,) = mg.grad(mg.exp(between(x)), [x], v)
    np.testing.assert_allclose(gx.numpy(), expected.numpy())
    with pytest.raises(mg.TapeError, match="freed"):  # and now it is used up
        mg.grad(h, [x], gh)


def test_a_target_above_another_target_is_used(backend, rng):
    x, v = variable(rng, 3), constant(rng, 3)
    h = x * x
    mg.grad(mg.exp(h), [h, x], v)
    with pytest.raises(mg.TapeError, match="freed"):
        mg.grad(h, [x], v)


# -- what the tape keeps is a copy or guarded ----------------------------------------------------------------------------

NORMS = {
    "batch_norm_eval": lambda xp, rng: {"running_mean": xp.asarray(rng.normal(size=3)), "running_var": xp.asarray(rng.uniform(1, 2, size=3)), "eps": 1e-3},
    "batch_renorm": lambda xp, rng: {"running_mean": xp.asarray(rng.normal(size=3)), "running_var": xp.asarray(rng.uniform(1, 2, size=3)),
                                     "r_max": 2.0, "d_max": 1.0, "eps": 1e-3},
    "whiten_eval": lambda xp, rng: {"mean": xp.asarray(rng.normal(size=3)), "projection": xp.asarray(rng.normal(size=(3, 3)))},
    "spectral_norm": lambda xp, rng: {"u": xp.asarray(rng.normal(size=5))},
}


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize("name", NORMS)
def test_arrays_in_keywords_may_change_after_the_forward(backend, rng, xp, name, form, as_tensor):
    layer = layers.REGISTRY[name]
    x = variable(rng, 5, 3)
    inputs = [x] if name in ("whiten_eval", "spectral_norm") else [x, variable(rng, 3), variable(rng, 3)]
    keywords = NORMS[name](xp, rng)
    given = {k: mg.tensor(v) if as_tensor and hasattr(v, "shape") else v for k, v in keywords.items()}
    y = layer.form(form)(*inputs, **given)
    v = constant(rng, *y.shape)
    expected = mg.grad(layer.form(form)(*inputs, **given), inputs, v)
    for array in given.values():
        if hasattr(array, "shape"):
            array[...] = array * 7.0 + 1.0
    try:
        found = mg.grad(y, inputs, v)
    except mg.TapeError as e:
        assert "overwritten" in str(e) and as_tensor  # the composed form uses a Tensor as an input, whose writes are refused
        return
    for g, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(g.numpy(), e.numpy())


def test_arrays_in_keywords_of_an_op_of_ones_own(backend, rng, xp):
    @mg.primitive(a=lambda g, a, mask, pair: g * mask * pair[0])
    def masked(xp, a, *, mask, pair):
        return a * mask * pair[0]

    @mg.primitive(a=lambda g, b, mask: g * mask * b, b=lambda g, a, mask: g * mask * a)
    def both(xp, a, b, *, mask):
        return a * b * mask

    @mg.by_hand(save=lambda a, mask: (mask,), backward=lambda g, saved, mask: (g * saved[0],))
    def kept_by_save(xp, a, *, mask, saved):
        return a * mask

    for f in (lambda x, m: masked(x, mask=m, pair=(m, 2)), lambda x, m: both(x, x, mask=m), lambda x, m: kept_by_save(x, mask=m)):
        x, mask, v = variable(rng, 3), xp.asarray(np.array([1.0, 0.0, 2.0])), constant(rng, 3)
        y = f(x, mask)
        (expected,) = mg.grad(f(x, mask), [x], v)
        mask[...] = 9.0
        np.testing.assert_array_equal(mg.grad(y, [x], v)[0].numpy(), expected.numpy())


def test_a_raw_input_of_an_op_made_by_hand_may_change(backend, rng, xp):
    x, gamma, v = xp.asarray(rng.normal(size=(5, 3))), variable(rng, 3), constant(rng, 5, 3)
    beta = variable(rng, 3)
    y = layers.REGISTRY["batch_norm"].form("derived")(x, gamma, beta, eps=1e-3)
    expected = mg.grad(layers.REGISTRY["batch_norm"].form("derived")(x, gamma, beta, eps=1e-3), [gamma, beta], v)
    x[...] = 0.0
    for g, e in zip(mg.grad(y, [gamma, beta], v), expected, strict=True):
        np.testing.assert_array_equal(g.numpy(), e.numpy())


@pytest.mark.parametrize("key", [lambda i: i, lambda i: (slice(None), i), lambda i: slice(i, None), lambda i: (Ellipsis, slice(0, i))],
                         ids=["i", ":, i", "i:", "..., :i"])
def test_an_index_array_without_axes_may_change(backend, rng, xp, key):
    x, i = variable(rng, 4, 4), np.array(2)
    y = x[key(i)]
    v = constant(rng, *y.shape)
    i[...] = 0
    (g,) = mg.grad(y, [x], v)
    expected = np.zeros((4, 4))
    expected[key(2)] = v.numpy()
    np.testing.assert_array_equal(g.numpy(), expected)


def test_assigned_data_is_a_copy(backend, rng, xp):
    x, raw = variable(rng, 3), xp.asarray(rng.normal(size=3))
    x.data = raw
    y = x * x
    v, before = constant(rng, 3), to_host(raw).copy()
    raw[...] = 100.0
    y.backward(v)
    np.testing.assert_array_equal(x.numpy(), before)
    np.testing.assert_allclose(x.grad.numpy(), 2 * before * v.numpy())


# -- subclasses of arrays ------------------------------------------------------------------------------------------------


pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")


def memmap(values, folder):
    array = np.memmap(folder / "values", dtype=values.dtype, mode="w+", shape=values.shape)
    array[...] = values
    return array


class Tagged(np.ndarray):
    """An array that knows something more."""


TAKEN = {"matrix": lambda a, _: np.matrix(a), "memmap": memmap, "recarray": lambda a, _: a.view(np.recarray)}
REFUSED = {"masked": lambda a, _: np.ma.array(a, mask=a > 0.5), "another": lambda a, _: a.view(Tagged)}


def layer_loaded(v):
    m = nn.Linear(3, 3, bias=False).astype("float64")
    m.load_state_dict({"weight": v})
    return m.weight


def assigned(v):
    x = mg.tensor(np.zeros((3, 3)))
    x[...] = v
    return x


def data_set(v):
    x = mg.tensor(np.zeros((3, 3)), requires_grad=True)
    x.data = v
    return x


def momentum_loaded(v):
    p = mg.tensor(np.zeros((3, 3)), requires_grad=True)
    o = optim.SGD([p], lr=1.0, momentum=1.0)
    state = o.state_dict()
    state["state"] = {0: {"momentum_buffer": v}}
    o.load_state_dict(state)
    return mg.tensor(o.state[p]["momentum_buffer"])


W = mg.tensor(np.eye(3), requires_grad=True)
DOORS = {  # each gives back the values that went in
    "tensor": mg.tensor, "list": lambda v: mg.tensor([v])[0], "nested list": lambda v: mg.tensor([[v]])[0, 0], "from_array": mg.from_array,
    "from_array, shared": lambda v: mg.from_array(v, copy=False), "Tensor": mg.Tensor, "Parameter": nn.Parameter, "left operand": lambda v: v * W ** 0,
    "right operand": lambda v: W ** 0 * v, "function": lambda v: mg.add(v, W * 0.0), "raw function": lambda v: mg.tensor(mg.multiply(v, 1.0)),
    "raw pair": lambda v: mg.tensor(mg.multiply(v, np.ones((3, 3)))), "concatenate": lambda v: mg.concatenate([v, W])[:3],
    "data": data_set, "setitem": assigned, "load_state_dict": layer_loaded, "optimizer": momentum_loaded,
    "keyword": lambda v: layers.REGISTRY["whiten_eval"].form("derived")(W, mean=np.zeros(3), projection=v).T,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", TAKEN)
def test_a_subclass_that_only_adds_methods_is_a_plain_array(rng, tmp_path, door, kind):
    values = rng.uniform(0.1, 1.0, size=(3, 3))
    x = DOORS[door](TAKEN[kind](values, tmp_path))
    assert type(x._data) is np.ndarray
    np.testing.assert_allclose(x.numpy(), values)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", REFUSED)
def test_a_subclass_that_would_lose_something_is_refused(rng, tmp_path, door, kind):
    v = REFUSED[kind](rng.uniform(0.1, 1.0, size=(3, 3)), tmp_path)
    with pytest.raises(TypeError, match="would be lost"):
        DOORS[door](v)
    x = DOORS[door](v.filled(0) if kind == "masked" else np.asarray(v))  # the advice
    assert type(x._data) is np.ndarray


def test_a_matrix_multiplies_elementwise(rng):
    a, b = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    x = mg.tensor(a, requires_grad=True)
    v = mg.tensor(rng.normal(size=(3, 3)))
    for y in (x * np.matrix(b), np.matrix(b) * x, mg.multiply(np.matrix(b), x)):
        np.testing.assert_array_equal(y.numpy(), a * b)
        (g,) = mg.grad(y, [x], v)
        np.testing.assert_array_equal(g.numpy(), v.numpy() * b)


@pytest.mark.parametrize("index", [np.matrix, lambda a: np.ma.array(a[0], mask=[0, 1])], ids=["matrix", "masked"])
def test_so_it_is_with_indices(rng, index):
    index = index([[0, 2]])
    x = mg.tensor(rng.normal(size=(3, 3)), requires_grad=True)
    if isinstance(index, np.matrix):
        np.testing.assert_array_equal(x[index].numpy(), x.numpy()[np.asarray(index)])
        return
    for use in (lambda: x[index], lambda: mg.take(x, index, axis=0), lambda: x.detach().__setitem__(index, 1.0)):
        with pytest.raises(TypeError, match="would be lost"):
            use()


def test_a_tensor_never_wraps_a_numpy_scalar():
    for value in (np.float64(2.0), np.float32(1.0), np.int64(3), np.bool_(True)):
        x = mg.Tensor(value)
        assert type(x._data) is np.ndarray and x.shape == () and repr(x)
    with pytest.raises(TypeError, match=r"minigrad\.tensor"):
        mg.Tensor([1.0, 2.0])


class Foreign:
    """An array of another library: it says how to become NumPy's, and of which dtype it is."""

    def __init__(self, values):
        self.values, self.dtype = values, values.dtype

    def __array__(self, dtype=None, copy=None):
        return self.values


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bool"])
def test_an_array_of_another_library_keeps_its_dtype(dtype):
    values = np.array([0, 1, 1]).astype(dtype)
    x = mg.tensor(Foreign(values))
    assert x.dtype == dtype and np.array_equal(x.numpy(), values)
    assert mg.tensor([0.5]).dtype == "float32" and mg.tensor(np.float64(0.5)).dtype == "float64"


NOT_REAL = {"complex": np.array([1j, 2.0]), "text": np.array(["3", "4"]), "objects": np.array([None, 1.0], dtype=object),
            "dates": np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")}


@pytest.mark.parametrize("kind", NOT_REAL)
@pytest.mark.parametrize("door", ["operand", "left operand", "setitem", "data", "from_array", "tensor"])
def test_what_is_no_real_number_is_refused(rng, kind, door):
    x, value = mg.tensor(rng.normal(size=2), requires_grad=True), NOT_REAL[kind]
    with pytest.raises(TypeError, match="needs: "):
        {"operand": lambda: x * value, "left operand": lambda: value * x, "setitem": lambda: x.detach().clone().__setitem__(Ellipsis, value),
         "data": lambda: setattr(x, "data", value), "from_array": lambda: mg.from_array(value), "tensor": lambda: mg.tensor(value)}[door]()


@pytest.mark.parametrize("value", ["7", 1j, [1j, 2.0], ["3", "4"], [np.ma.array(1.0, mask=True), 2.0]],
                         ids=["text", "complex", "complex list", "texts", "masked"])
@pytest.mark.parametrize("door", ["setitem", "data"])
def test_lists_are_looked_through(backend, value, door):
    x = mg.zeros(2)
    with pytest.raises(TypeError, match="needs: "):
        x.__setitem__(Ellipsis, value) if door == "setitem" else setattr(x, "data", value)


def test_lists_of_numbers_are_written(backend):
    x = mg.zeros(2, 2)
    x[0] = [1, 2.5]
    x[1] = (True, np.float64(3.0))
    assert x.tolist() == [[1.0, 2.5], [1.0, 3.0]]
    x.data = [[1, 2], [3, 4]]
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]] and x.dtype == "float32"
