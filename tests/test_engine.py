"""The tape and its backward: order, accumulation, freeing, second order, protection, names."""

import copy
import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.core.engine import reachable
from minigrad.core.state import unwatch, watch


def variable(rng, *shape, dtype="float64"):
    return mg.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True, backend=mg.backend.current_name())


def constant(rng, *shape, dtype="float64"):
    return variable(rng, *shape, dtype=dtype).detach()


@pytest.mark.more
def test_a_chain_of_100_000_ops_needs_no_recursion(backend):
    x = mg.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1.0
    assert len(reachable([y._line])) == 100_001
    del y
    gc.collect()


def test_a_value_used_several_times_collects_all_its_gradients(backend, rng):
    x = variable(rng, 3)
    v = constant(rng, 3)
    (x * x + x * 3.0 + x).backward(v)
    np.testing.assert_allclose(x.grad.numpy(), v.numpy() * (2 * x.numpy() + 4), rtol=1e-14)


def test_gradients_accumulate_over_several_backwards_out_of_place(backend, rng):
    x = variable(rng, 4)
    v = constant(rng, 4)
    (x * 2.0).backward(v)
    first = x.grad
    before = first.numpy()
    (x * 5.0).backward(v)
    np.testing.assert_allclose(x.grad.numpy(), 7 * v.numpy(), rtol=1e-15)
    assert np.array_equal(first.numpy(), before), "an earlier gradient changed under its holder"


def test_deposited_gradients_share_memory_with_nothing(backend, rng):
    a, b, v = variable(rng, 2, 3), variable(rng, 2, 3), constant(rng, 2, 3)
    y = a + b
    y.backward(v)
    arrays = [mg.backend.owner(t._data) for t in (a.grad, b.grad, v, a, b)]
    assert len({id(x) for x in arrays}) == 5
    c = variable(rng, 2, 3)
    (c.sum() * 2.0).backward()
    assert mg.backend.owner(c.grad._data) is c.grad._data, "a broadcast view was deposited"
    d = variable(rng, 2, 3)
    (g,) = mg.grad(d.reshape(6), [d], constant(rng, 6))
    assert mg.backend.owner(g._data) is g._data


def test_backward_frees_what_lines_kept_and_a_second_one_says_so(backend, rng):
    x = variable(rng, 3)
    y = (x * x).sum()
    assert mg.tape(y)[1].kept
    y.backward()
    assert all(line.freed for line in mg.tape(y) if not line.is_leaf)
    with pytest.raises(mg.TapeError, match="retain_graph=True"):
        y.backward()


def test_kept_arrays_die_during_the_backward(rng):
    x = variable(rng, 1000)
    middle = mg.exp(x)
    ghost = weakref.ref(middle._data)
    y = (middle * 2.0).sum()
    del middle
    assert ghost() is not None
    y.backward()
    assert ghost() is None, "the tape still holds a used array"


def test_retain_graph_allows_another_backward(backend, rng):
    x = variable(rng, 3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    once = x.grad.numpy()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * once, rtol=1e-15)


def test_grad_touches_no_grad_attribute_and_prunes_other_paths(backend, rng):
    x, w = variable(rng, 3), variable(rng, 3)
    (g,) = mg.grad((x * w).sum(), [x])
    np.testing.assert_array_equal(g.numpy(), w.numpy())
    assert x.grad is None and w.grad is None


def test_grad_of_a_taped_result_and_of_several_outputs(backend, rng):
    x = variable(rng, 3)
    h = mg.exp(x)
    (g,) = mg.grad((h * h).sum(), [h])
    np.testing.assert_allclose(g.numpy(), 2 * h.numpy(), rtol=1e-15)
    v, w = constant(rng, 3), constant(rng, 3)
    (g,) = mg.grad([x * 2.0, x * x], [x], [v, w])
    np.testing.assert_allclose(g.numpy(), 2 * v.numpy() + 2 * x.numpy() * w.numpy(), rtol=1e-14)


def test_unused_inputs_are_an_error_or_none(backend, rng):
    x, w = variable(rng, 3), variable(rng, 3)
    with pytest.raises(mg.TapeError, match="allow_unused"):
        mg.grad((x * x).sum(), [x, w])
    assert mg.grad((x * x).sum(), [x, w], allow_unused=True)[1] is None


def test_no_grad_records_nothing_and_nests(backend, rng):
    x = variable(rng, 3)
    with mg.no_grad():
        with mg.no_grad():
            pass
        assert (x * 2.0)._line is None
    assert (x * 2.0).requires_grad

    @mg.no_grad()
    def quiet():
        return x * 2.0
    assert not quiet().requires_grad


def test_detach_cuts_the_tape(backend, rng):
    x, v = variable(rng, 3), constant(rng, 3)
    (x * x.detach()).backward(v)
    np.testing.assert_array_equal(x.grad.numpy(), v.numpy() * x.numpy())


# -- second order -----------------------------------------------------------------------------------------------------


def test_create_graph_differentiates_again_and_again(backend):
    x = mg.tensor(1.5, requires_grad=True, dtype="float64")
    y = x ** 4
    for k, expected in ((4, 3), (12, 2), (24, 1)):
        (y,) = mg.grad(y, [x], create_graph=True)
        assert y.item() == pytest.approx(k * 1.5 ** expected, rel=1e-14)


def test_hvp_equals_the_hessian_times_v(backend, rng):
    def f(x):
        return (mg.exp(x) * mg.tanh(x[::-1])).sum()
    x, v = constant(rng, 5), constant(rng, 5)
    hessian = mg.jacobian(lambda x: mg.grad(f(x), [x], create_graph=True)[0], x).numpy()
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12)
    np.testing.assert_allclose(mg.hvp(f, [x], [v])[0].numpy(), hessian @ v.numpy(), rtol=1e-12)


def test_hvp_of_a_linear_function_is_zero(backend, rng):
    assert not mg.hvp(lambda x: (x * 3.0).sum(), [constant(rng, 4)], [constant(rng, 4)])[0].numpy().any()


def test_vjp_and_jvp_are_the_jacobian_from_both_sides(backend, rng):
    def f(x):
        return mg.softmax(x.reshape(2, 3), 1).reshape(6)[:4]
    x, v, u = constant(rng, 6), constant(rng, 4), constant(rng, 6)
    jacobian = mg.jacobian(f, x).numpy()
    assert jacobian.shape == (4, 6)
    y, (pulled,) = mg.vjp(f, [x], v)
    np.testing.assert_allclose(pulled.numpy(), v.numpy() @ jacobian, rtol=1e-12)
    y2, pushed = mg.jvp(f, [x], [u])
    np.testing.assert_allclose(pushed.numpy(), jacobian @ u.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(y.numpy(), y2.numpy())


def test_first_order_backward_records_nothing(backend, rng):
    x = variable(rng, 3)
    seen = []
    watcher = lambda p, given, result: seen.append(p.name)
    y = (mg.tanh(x) * x).sum()
    watch(watcher)
    try:
        y.backward()
    finally:
        unwatch(watcher)
    assert not seen and x.grad._line is None


# -- hooks and retained gradients ---------------------------------------------------------------------------------------


def test_retain_grad_fills_the_gradient_of_a_result(backend, rng):
    x = variable(rng, 3)
    h = (x * 2.0).retain_grad()
    v = constant(rng, 3)
    (h * h).backward(v)
    np.testing.assert_allclose(h.grad.numpy(), 2 * h.numpy() * v.numpy(), rtol=1e-14)


def test_hooks_see_the_complete_gradient_and_may_replace_it(backend, rng):
    x = variable(rng, 3)
    seen = []
    h = x * 2.0
    remove = h.register_hook(lambda g: seen.append(g.numpy()))
    h.register_hook(lambda g: g * 10.0)
    (h + h).backward(constant(rng, 3) * 0.0 + 1.0)
    assert np.array_equal(seen[0], [2, 2, 2]) and np.array_equal(x.grad.numpy(), [40, 40, 40])
    remove()
    remove()


def test_hooks_work_under_create_graph(backend, rng):
    x = variable(rng, 3)
    h = x * x
    remove = h.register_hook(lambda g: g * 2.0)
    (g,) = mg.grad((h * h).sum(), [x], create_graph=True)
    np.testing.assert_allclose(g.numpy(), 8 * x.numpy() ** 3, rtol=1e-12)
    remove()  # the second backward passes through h once more
    (g2,) = mg.grad(g.sum(), [x])
    np.testing.assert_allclose(g2.numpy(), 24 * x.numpy() ** 2, rtol=1e-12)


# -- protection -----------------------------------------------------------------------------------------------------------


def test_results_on_the_tape_are_read_only_on_numpy(rng):
    y = variable(rng, 3) * 2.0
    with pytest.raises(ValueError, match="read-only"):
        y.data[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        y.detach().data[0] = 1.0


def test_a_library_write_between_forward_and_backward_is_named(backend, rng):
    x = variable(rng, 3)
    y = (x * x).sum()
    with mg.no_grad():
        x[0] = 7.0
    with pytest.raises(mg.TapeError, match=r"multiply.*overwritten by x\[\.\.\.\] = value"):
        y.backward()
    y = (x * x).sum()
    x.data = x.data * 2
    with pytest.raises(mg.TapeError, match=r"assignment to \.data"):
        y.backward()


def test_an_augmented_assignment_to_data_is_named(backend, rng):
    x = variable(rng, 3)
    y = (x * x).sum()
    x.data -= 0.1
    with pytest.raises(mg.TapeError, match=r"assignment to \.data"):
        y.backward()


def test_a_raw_write_to_a_leaf_is_detected_on_numpy(rng):
    x = variable(rng, 3)
    alias = x.data
    y = (x * x).sum()
    alias[1] = 9.0
    with pytest.raises(mg.TapeError, match="raw write"):
        y.backward()
    y = (x * x).sum()  # the same write before the forward is legal
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy())


def test_writes_to_what_no_line_kept_are_legal(backend, rng):
    x, w = variable(rng, 3), variable(rng, 3)
    y = (x + w).sum()
    with mg.no_grad():
        x[0] = 7.0
    y.backward()
    assert np.array_equal(x.grad.numpy(), [1, 1, 1])


def test_a_view_protects_its_base(backend, rng):
    x = variable(rng, 2, 3)
    y = (x.reshape(6)[1:4] * x.reshape(6)[:3]).sum()
    with mg.no_grad():
        x[0, 0] = 7.0
    with pytest.raises(mg.TapeError, match="overwritten"):
        y.backward()


def test_raw_constants_beside_tensors_are_copied_when_kept(backend, rng, xp):
    x = variable(rng, 3)
    c = xp.asarray(np.array([1.0, 2.0, 3.0]))
    y = x * c
    c[0] = 100.0
    y.backward(mg.tensor([1.0, 1.0, 2.0], dtype="float64"))
    assert np.array_equal(x.grad.numpy(), [1, 2, 6])


def test_from_array_without_copy_shares_memory_and_watches_it():
    raw = np.array([1.0, 2.0])
    x = mg.from_array(raw, requires_grad=True, copy=False)
    y = (x * x).sum()
    raw[0] = 5.0
    with pytest.raises(mg.TapeError, match="raw write"):
        y.backward()


def test_tensor_copies_its_data():
    raw = np.array([1.0, 2.0])
    x = mg.tensor(raw)
    raw[0] = 5.0
    assert x.numpy()[0] == 1.0
    x.numpy()[0] = 9.0
    assert x.numpy()[0] == 1.0


# -- user-made ops --------------------------------------------------------------------------------------------------------


def statistics(x, gamma, *, eps):
    mu = mg.mean(x, 0, keepdims=True)
    return mu, mg.mean(mg.square(x - mu), 0, keepdims=True)


def _norm_backward(g, saved, x, gamma, *, eps):
    mu, var = saved
    rstd = 1.0 / mg.sqrt(var + eps)
    xhat = (x - mu) * rstd
    dx = gamma * rstd * (g - mg.mean(g, 0, keepdims=True) - xhat * mg.mean(g * xhat, 0, keepdims=True))
    return dx, mg.sum(g * xhat, 0)


def _norm(xp, x, gamma, *, eps, saved):
    mu, var = saved
    return (x - mu) / mg.sqrt(var + eps) * gamma


norm = mg.by_hand(save=statistics, backward=_norm_backward)(_norm)


def composed_norm(x, gamma, *, eps):
    mu, var = statistics(x, gamma, eps=eps)
    return (x - mu) / mg.sqrt(var + eps) * gamma


def test_by_hand_agrees_with_its_composed_twin_in_both_orders(backend, rng):
    x, gamma, v = variable(rng, 6, 3), variable(rng, 3), constant(rng, 6, 3)
    u, w = constant(rng, 6, 3), constant(rng, 3)
    results = []
    for f in (norm, composed_norm):
        first = mg.grad(f(x, gamma, eps=0.1), [x, gamma], v, create_graph=True)
        second = mg.grad(first, [x, gamma], [u, w])
        results.append([t.numpy() for t in (*first, *second)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_the_saved_cache_is_not_a_constant_in_second_order(backend, rng):
    """A stale cache (statistics treated as constants) would give another Hessian-vector product."""
    x, gamma, v, u = variable(rng, 6, 3), constant(rng, 3), constant(rng, 6, 3), constant(rng, 6, 3)
    (g,) = mg.grad(norm(x, gamma, eps=0.1), [x], v, create_graph=True)
    h = mg.grad(g, [x], u)[0].numpy()
    t, base = 1e-6, x.numpy()

    def first(shift):
        moved = mg.tensor(base + shift * u.numpy(), requires_grad=True, backend=backend)
        return mg.grad(norm(moved, gamma, eps=0.1), [moved], v)[0].numpy()
    numeric = (first(t) - first(-t)) / (2 * t)  # the Hessian is symmetric
    assert np.linalg.norm(h - numeric) / np.linalg.norm(numeric) < 1e-7


def test_with_saved_returns_the_statistics_also_under_no_grad(backend, rng):
    x, gamma = variable(rng, 6, 3), constant(rng, 3)
    y, (mu, _) = mg.with_saved(norm, x, gamma, eps=0.1)
    np.testing.assert_allclose(mu.numpy()[0], x.numpy().mean(0), rtol=1e-12)
    with mg.no_grad():
        quiet, (mu2, _) = mg.with_saved(norm, x, gamma, eps=0.1)
    assert not quiet.requires_grad and np.array_equal(mu.numpy(), mu2.numpy()) and np.array_equal(quiet.numpy(), y.numpy())


@mg.by_hand(save=lambda x: (), backward=lambda g, saved, out: (g * (1.0 - out * out),),
            rebuild={"x": lambda saved, out: 0.5 * mg.log((1.0 + out) / (1.0 - out))})
def tanh_keeping_its_output(xp, x):
    return xp.tanh(x)


def test_an_op_may_keep_its_output_instead_of_its_input(backend, rng):
    x, v, u = variable(rng, 5), constant(rng, 5), constant(rng, 5)
    y = tanh_keeping_its_output(x * 1.0)
    assert list(y._line.kept) == ["out"] and y._line.kept["out"] is y._data
    results = []
    for f in (tanh_keeping_its_output, mg.tanh):
        (g,) = mg.grad(f(x), [x], v, create_graph=True)
        results.append((g.numpy(), mg.grad(g, [x], u)[0].numpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@mg.by_hand(save=lambda x: (mg.mean(x),), backward=lambda g, saved, out: (g + (out - out) * saved[0],), rebuild={"x": lambda saved, out: out + saved[0]})
def centred_keeping_its_output(xp, x, *, saved):
    return x - saved[0]


def test_statistics_are_recomputed_from_a_rebuilt_input(backend, rng):
    x, v, u = variable(rng, 5), constant(rng, 5), constant(rng, 5)
    (g,) = mg.grad(centred_keeping_its_output(x), [x], v, create_graph=True)
    (h,) = mg.grad(g, [x], u)
    assert np.allclose(h.numpy(), 0) and np.array_equal(g.numpy(), v.numpy())


@mg.primitive(a=lambda g, n: tuple_sum(g))
def copies(xp, a, *, n):
    return tuple(a * (i + 1) for i in range(n))


def tuple_sum(parts):
    total = parts[0]
    for i, p in enumerate(parts[1:], 2):
        total = total + p * i
    return total


def test_an_op_may_have_several_outputs_some_of_them_unused(backend, rng):
    x, v = variable(rng, 3), constant(rng, 3)
    _, second, third = copies(x, n=3)
    w = constant(rng, 3)
    (second * v + third).backward(w)
    np.testing.assert_allclose(x.grad.numpy(), (2 * v.numpy() + 3) * w.numpy(), rtol=1e-14)


@mg.primitive(arrays=lambda g, arrays_shape: tuple(mg.sum_to(g, s) for s in arrays_shape))
def add_all(xp, *arrays):
    return sum(arrays[1:], arrays[0])


def test_an_op_may_take_any_number_of_inputs(backend, rng):
    a, b, c = variable(rng, 2, 3), variable(rng, 3), constant(rng, 2, 3)
    v = constant(rng, 2, 3)
    add_all(a, b, c).backward(v)
    np.testing.assert_array_equal(a.grad.numpy(), v.numpy())
    np.testing.assert_allclose(b.grad.numpy(), v.numpy().sum(0), rtol=1e-15)


# -- modules of the engine that copy, name, trace ---------------------------------------------------------------------------


def test_deepcopy_of_leaves_shares_nothing(backend, rng):
    x = variable(rng, 3)
    v = constant(rng, 3)
    (x * 2.0).backward(v)
    twin = copy.deepcopy(x)
    assert twin.requires_grad and np.array_equal(twin.grad.numpy(), x.grad.numpy())
    with mg.no_grad():
        twin[0] = 100.0
    assert x.numpy()[0] != 100.0
    (twin * 3.0).backward(v)
    np.testing.assert_allclose(x.grad.numpy(), 2 * v.numpy())
    np.testing.assert_allclose(twin.grad.numpy(), 5 * v.numpy())


def test_named_lines_are_found_and_a_second_name_adds_a_line(backend, rng):
    x = variable(rng, 3)
    y = mg.named("second", mg.named("first", x * 2.0))
    t = mg.tape(y)
    assert t["first"].op == "multiply" and t["second"].op == "identity"
    raw = np.ones(3)
    assert mg.named("raw", raw) is raw


@pytest.mark.parametrize(("make", "where"), [
    (lambda x: mg.log(x - x), "log"),
    (lambda x: x / (x - x), "divide"),
    (lambda x: mg.exp(x * 0.0 + 1e4), "exp"),
])
def test_debug_names_the_op_and_the_users_line_in_the_forward(backend, rng, make, where):
    x = variable(rng, 3)
    with np.errstate(all="ignore"), mg.debug(), pytest.raises(mg.NonFiniteError, match=rf"{where}: got the first (NaN|Inf).*test_engine\.py:\d+"):
        make(x)


def test_debug_names_the_op_and_the_users_line_in_the_backward(backend, rng):
    x = variable(rng, 3)
    with np.errstate(all="ignore"), mg.debug():
        y = mg.sqrt(x * 0.0).sum()
        with pytest.raises(mg.NonFiniteError, match=r"the gradient of sqrt: got the first (NaN|Inf).*tape line \d+.*test_engine\.py:\d+"):
            y.backward()


def test_debug_mode_changes_no_number(backend, rng):
    x, v = variable(rng, 3), constant(rng, 3)
    (plain,) = mg.grad(mg.tanh(x) * x, [x], v)
    with mg.debug():
        (watched,) = mg.grad(mg.tanh(x) * x, [x], v)
    assert np.array_equal(plain.numpy(), watched.numpy())


# -- dtypes -----------------------------------------------------------------------------------------------------------------


def test_the_dtype_policy(backend):
    assert str(mg.tensor([1.0, 2.0]).dtype) == "float32"
    assert str(mg.tensor(np.ones(2)).dtype) == "float64"
    assert str(mg.tensor([1, 2]).dtype) == "int64"
    assert str(mg.tensor([True]).dtype) == "bool"
    for dtype in ("float16", "float32", "float64"):
        x = mg.tensor([1.0, 2.0], requires_grad=True, dtype=dtype)
        for y in (x * 2.0, 1 / x, x ** 2, x + True, x * np.float64(3.0), mg.mean(x), mg.exp(x), x.sum()):
            assert str(y.dtype) == dtype
        (x * 2.0).backward(mg.tensor([1.0, -2.0], dtype=dtype))
        assert str(x.grad.dtype) == dtype


def test_float16_sums_are_made_in_float32(backend):
    x = mg.tensor(np.full(4000, 1.0, "float16"), requires_grad=True)
    assert x.sum().item() == 4000.0
    assert mg.mean(x).item() == 1.0
    assert mg.cumsum(x)[-1].item() == 4000.0


def test_a_training_step_on_the_device_neither_syncs_nor_transfers(xp, rng, backend):
    """Layers, loss, backward and optimizer run without the host waiting for, or sending, a value."""
    if backend != "fake":
        pytest.skip("asserted on the fake device, which counts")
    import layers
    from minigrad import nn, optim
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), layers.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 5))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, t = constant(rng, 4, 3, 8, 8, dtype="float32"), mg.tensor(np.array([0, 1, 2, 4]), backend="fake")

    def step():
        loss = mg.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss
    step()
    with xp.no_sync(), xp.count() as counted:
        step()
    assert (counted.syncs, counted.h2d, counted.d2h) == (0, 0, 0)
    assert counted.launches > 50


@pytest.mark.parametrize("end", [lambda handle: handle(), lambda handle: handle.remove()], ids=["called", "remove"])
def test_a_hook_ends_with_its_handle(end, backend):
    x, seen = mg.tensor([1.0, 2.0], requires_grad=True, backend=backend), []
    handles = [x.register_hook(lambda g, i=i: seen.append(i)) for i in range(2)]
    (x * x).backward(mg.tensor([1.5, -0.5], backend=backend))
    end(handles[0])
    end(handles[0])  # once more changes nothing
    (x * x).backward(mg.tensor([1.5, -0.5], backend=backend))
    assert seen == [0, 1, 1]


@pytest.mark.parametrize("hook", [None, 2.0, "f"])
def test_what_is_no_function_is_no_hook(hook):
    with pytest.raises(TypeError, match="register_hook: got the "):
        mg.tensor([1.0], requires_grad=True).register_hook(hook)
