"""An op may write into its input's buffer when nobody else needs it: when that is, and what becomes of the input."""

import weakref

import numpy as np
import pytest

import minigrad as mg
from helpers import to_host
from minigrad.core.donation import Taken


@mg.by_hand(save=lambda: (), backward=lambda g, saved: (g * 0.5, None), overwrites="x")
def halved(xp, x, shift, *, into):
    """x/2 + shift, written over x where that is allowed. Keeps nothing."""
    if shift is None:
        raise ValueError("no shift")
    out = into()
    out[...] = x * 0.5 + shift
    return out


@mg.by_hand(save=lambda x: (mg.tanh(x),), backward=lambda g, saved, out: (g * (1.0 - out * out),),
            rebuild={"x": lambda saved, out: 0.5 * mg.log((1.0 + out) / (1.0 - out))}, overwrites="x")
def tanh_in_place(xp, x, *, saved, into):
    return xp.tanh(x, out=into())


def variable(rng, *shape, dtype="float64"):
    return mg.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True, backend=mg.backend.current_name())


def result(rng, *shape):
    """The result of an op that keeps neither its input nor its output."""
    return variable(rng, *shape) + 1.0


# -- when it happens ----------------------------------------------------------------------------------------------------


def test_a_result_that_nobody_keeps_is_overwritten(backend, rng):
    x = result(rng, 3, 4)
    expected, place = to_host(x._data) * 0.5 + 1.0, id(x._data)
    z = halved(x, 1.0)
    assert id(z._data) == place and type(x) is Taken
    np.testing.assert_array_equal(z.numpy(), expected)


def test_so_is_one_that_only_the_call_ever_held_and_one_under_another_name(backend, rng):
    v = variable(rng, 3)
    assert not isinstance(v, Taken)
    z = halved(halved(v + 1.0, 0.0), 1.0)  # the line of the first keeps nothing either
    np.testing.assert_allclose(z.numpy(), (v.numpy() + 1.0) * 0.25 + 1.0)
    x = y = result(rng, 3)
    halved(x, 1.0)
    assert x is y and type(y) is Taken


def kept_by_the_line_that_made_it(rng):
    return mg.exp(variable(rng, 3, 4)), None


def kept_by_a_line_that_used_it(rng):
    x = result(rng, 3, 4)
    return x, x * variable(rng, 3, 4)


def kept_as_a_view_by_a_line(rng):
    x = result(rng, 3, 4)
    return x, mg.square(mg.reshape(x, 12))


def seen_by_a_view(rng):
    x = result(rng, 3, 4)
    return x, mg.transpose(x)


def a_view_itself(rng):
    return mg.reshape(result(rng, 12), 3, 4), None


def a_variable(rng):
    return variable(rng, 3, 4), None


def a_constant(rng):
    return result(rng, 3, 4).detach().clone(), None


def detached_elsewhere(rng):
    x = result(rng, 3, 4)
    return x, x.detach()


def handed_out_as_data(rng):
    x = result(rng, 3, 4)
    return x, x.data


def handed_out_as_a_part_of_data(rng):
    x = result(rng, 3, 4)
    return x, x.data[1:, ::2]


def shared_with_a_fresh_variable(rng):
    x = result(rng, 3, 4)
    return x, mg.from_array(x._data, requires_grad=True, copy=False)


def recorded(rng):
    with mg.record() as record:
        x = result(rng, 3, 4)
    return x, record


HELD = [kept_by_the_line_that_made_it, kept_by_a_line_that_used_it, kept_as_a_view_by_a_line, seen_by_a_view, a_view_itself, a_variable, a_constant,
        detached_elsewhere, handed_out_as_data, handed_out_as_a_part_of_data, shared_with_a_fresh_variable, recorded]


@pytest.mark.parametrize("make", HELD, ids=lambda f: f.__name__)
def test_anything_else_is_copied_with_the_same_values(make, backend, rng):
    x, _holder = make(rng)
    before = to_host(x._data).copy()
    z = halved(x, 1.0)
    assert type(x) is mg.Tensor and z._data is not x._data
    np.testing.assert_array_equal(x.numpy(), before)
    np.testing.assert_array_equal(z.numpy(), before * 0.5 + 1.0)


def test_a_buffer_in_another_order_is_left_alone(rng):
    x = result(rng, 3, 4)
    x._data = np.asfortranarray(x._data)
    halved(x, 1.0)
    assert type(x) is mg.Tensor


def test_a_read_only_buffer_is_left_alone(rng):
    x = result(rng, 3, 4)
    x._data.flags.writeable = False
    halved(x, 1.0)
    assert type(x) is mg.Tensor


@pytest.mark.parametrize("make", [seen_by_a_view, detached_elsewhere, handed_out_as_data, recorded], ids=lambda f: f.__name__)
def test_once_the_other_holder_is_gone_it_happens(make, backend, rng):
    x, holder = make(rng)
    del holder
    halved(x, 1.0)
    assert type(x) is Taken


def test_an_input_that_comes_twice_is_copied(backend, rng):
    x = result(rng, 3)
    before = x.numpy()
    np.testing.assert_array_equal(halved(x, x).numpy(), before * 1.5)
    assert type(x) is mg.Tensor


def test_a_buffer_that_is_watched_for_writes_is_copied(rng):
    """Its checksum would call the op's own write a raw write through .data."""
    x = mg.exp(variable(rng, 3)) + 1.0
    handed_out = x.detach().data  # whoever has asked for it may write there, as far as the library knows
    z = tanh_in_place(x)
    (z * 1.0).backward(mg.tensor(rng.normal(size=3)))
    assert type(x) is mg.Tensor
    del handed_out


def test_once_nobody_else_can_write_it_is_taken_and_not_watched(rng):
    x = mg.exp(variable(rng, 3)) + 1.0
    x.detach().data  # noqa: B018
    z = tanh_in_place(x)
    (z * 1.0).backward(mg.tensor(rng.normal(size=3)))
    assert type(x) is Taken


def test_without_a_tape_it_is_copied(backend, rng):
    x = result(rng, 3)
    with mg.no_grad():
        halved(x, 1.0)
        y = variable(rng, 3) + 1.0
        halved(y, 1.0)
    assert type(x) is type(y) is mg.Tensor


def test_raw_arrays_are_never_overwritten(xp, rng):
    a = xp.asarray(rng.normal(size=3))
    before = to_host(a).copy()
    halved(a, 1.0)
    np.testing.assert_array_equal(to_host(a), before)


def test_an_op_that_refuses_its_inputs_leaves_them_intact(backend, rng):
    x = result(rng, 3)
    before = x.numpy()
    with pytest.raises(ValueError, match="no shift"):
        halved(x, None)
    np.testing.assert_array_equal(x.numpy(), before)


def test_a_buffer_freed_by_a_backward_may_be_taken(backend, rng):
    x = mg.exp(variable(rng, 3))
    x.backward(mg.tensor(rng.normal(size=3), backend=backend))  # the line has dropped its output
    halved(x, 0.0)
    assert type(x) is Taken


def test_it_does_not_depend_on_threads_that_have_not_quite_finished(rng):
    before = mg.kernels.threads.num_threads()
    mg.set_num_threads(4)
    try:
        image, weight = variable(rng, 32, 8, 32, 32, dtype="float32"), variable(rng, 8, 8, 3, 3, dtype="float32")
        for _ in range(10):
            x = mg.conv2d(image, weight, padding=1)
            halved(x, 1.0)
            assert type(x) is Taken
    finally:
        mg.set_num_threads(before)


# -- what becomes of the donor ------------------------------------------------------------------------------------------


USES = {
    "an op of one input": mg.exp, "an op with a number": lambda x: x * 2.0, "from the right": lambda x: 2.0 - x, "two inputs": lambda x: x + x,
    "beside a raw array": lambda x: x * x._line.noted("twin"), "a reduction": lambda x: x.sum(), "a view": lambda x: x.reshape(-1), "indexing": lambda x: x[0],
    "a kernel": lambda x: mg.concatenate([x, x]), "another op in place": lambda x: halved(x, 1.0), "data": lambda x: x.data, "numpy": lambda x: x.numpy(),
    "tolist": lambda x: x.tolist(), "item": lambda x: x.item(), "detach": lambda x: x.detach(), "clone": lambda x: x.clone(), "float": float, "bool": bool,
    "stack": lambda x: mg.stack([x, x]), "backward": lambda x: x.backward(x._line.noted("cotangent")), "no_grad": mg.no_grad()(mg.exp), "in": lambda x: list(x),
}


@pytest.mark.parametrize("use", USES)
def test_any_use_of_its_values_raises_and_names_the_op(use, backend, rng):
    x = result(rng, 3)
    x._line.note("twin", mg.backend.asarray(np.ones(3), None, backend))
    x._line.note("cotangent", mg.tensor(rng.normal(size=3), backend=backend))
    halved(x, 1.0)
    with pytest.raises(mg.TapeError, match=r"halved: got a later use of its input \(the result of add, shape \(3,\)\), whose buffer it overwrote") as e:
        USES[use](x)
    assert "minigrad.identity(x)" in str(e.value)


def test_the_advice_of_the_error_works(backend, rng):
    x = result(rng, 3)
    z = halved(mg.identity(x), 1.0)
    np.testing.assert_array_equal(x.numpy() * 0.5 + 1.0, z.numpy())


def test_what_is_not_a_value_remains(backend, rng):
    v = variable(rng, 2, 3)
    x = (v + 1.0).retain_grad()
    gradients = []
    x.register_hook(lambda g: gradients.append(g.numpy()))
    z = halved(x, 1.0)
    assert isinstance(x, mg.Tensor) and (x.shape, str(x.dtype), x.backend, x.requires_grad, x.is_leaf) == ((2, 3), "float64", backend, True, False)
    assert repr(x) == "tensor(overwritten by halved, shape=(2, 3), dtype=float64, op=add)"
    g = mg.tensor(rng.normal(size=(2, 3)), backend=backend)
    z.backward(g, retain_graph=True)
    for gradient in (x.grad.numpy(), v.grad.numpy(), gradients[-1], mg.grad(z, [x], g)[0].numpy()):
        np.testing.assert_array_equal(gradient, g.numpy() * 0.5)


def test_the_donor_keeps_nothing_alive(rng):
    x = result(rng, 1000)
    z = halved(x, 1.0)
    ghost = weakref.ref(z._data)
    del z
    assert ghost() is None and type(x) is Taken


def test_debug_mode_finds_what_was_written_in_place(backend, rng):
    x = result(rng, 3)
    with mg.debug():
        halved(x, 1.0)
        assert type(x) is Taken
        with pytest.raises(mg.NonFiniteError, match="halved: got the first Inf"):
            halved(result(rng, 3), float("inf"))


def test_a_record_keeps_what_it_has_seen(backend, rng):
    with mg.record() as record:
        x = mg.named("x", result(rng, 3))
        z = halved(x, 1.0)
    np.testing.assert_array_equal(record["x"].value.numpy() * 0.5 + 1.0, z.numpy())


# -- derivatives --------------------------------------------------------------------------------------------------------


def test_both_orders_of_derivatives_are_those_without_donation(backend, rng):
    values, v, u = (rng.normal(size=5) for _ in range(3))
    found = []
    for f in (tanh_in_place, lambda x: tanh_in_place(mg.identity(x)), mg.tanh):
        x = mg.tensor(values, requires_grad=True, backend=backend)
        (first,) = mg.grad(f(x * 1.5), [x], mg.tensor(v, backend=backend), create_graph=True)
        found.append((first.numpy(), mg.grad(first, [x], mg.tensor(u, backend=backend))[0].numpy()))
    for order in (0, 1):
        np.testing.assert_array_equal(found[0][order], found[1][order])
        np.testing.assert_allclose(found[0][order], found[2][order], rtol=1e-12)


def test_a_chain_of_ops_in_place_uses_one_buffer_where_nothing_is_kept(backend, rng):
    x = result(rng, 4)
    place = id(x._data)
    for shift in range(5):
        x = halved(x, float(shift))
    assert id(x._data) == place


class Program:
    """A random program on arrays of one shape, some of whose ops work in place, and what it should compute."""

    def __init__(self, rng):
        self.start = rng.normal(size=(2, 3))
        kinds = ["add", "multiply", "tanh", "view", "hold", "tanh in place", "halved", "halved", "add"]
        self.steps = [(kinds[rng.integers(len(kinds))], *rng.integers(1000, size=2)) for _ in range(25)]

    def run(self, protect):
        """With `protect` ops in place get a view, so that nothing is overwritten. Returns Tensors, values, gradient."""
        xs, values, held = [mg.tensor(self.start, requires_grad=True, backend=mg.backend.current_name())], [self.start], []
        guard = mg.identity if protect else lambda x: x
        compute = {"add": lambda a, b, u, v: (a + b * 0.25, u + v * 0.25), "multiply": lambda a, b, u, v: (a * b, u * v),  # keeps its inputs
                   "tanh": lambda a, b, u, v: (mg.tanh(a), np.tanh(u)), "tanh in place": lambda a, b, u, v: (tanh_in_place(guard(a)), np.tanh(u)),
                   "view": lambda a, b, u, v: (mg.reshape(mg.reshape(a, 6), (2, 3)), u), "halved": lambda a, b, u, v: (halved(guard(a), 0.5), u * 0.5 + 0.5)}
        for k, (kind, i, j) in enumerate(self.steps):
            if not protect:  # choose among what is still there; the other run repeats the choice
                alive = [n for n, x in enumerate(xs) if not isinstance(x, Taken)]
                i, j = alive[i % len(alive)], alive[j % len(alive)]
                self.steps[k] = kind, i, j
            if kind == "hold":
                held.append((xs[i].data, values[i]))
                continue
            x, value = compute[kind](xs[i], xs[j], values[i], values[j])
            xs.append(x)
            values.append(value)
        if not protect:
            self.last = [n for n, x in enumerate(xs) if not isinstance(x, Taken)][-4:]
        for array, value in [*held, *((x._data, value) for x, value in zip(xs, values, strict=True) if not isinstance(x, Taken))]:
            np.testing.assert_allclose(to_host(array), value, rtol=1e-13, atol=1e-15)
        total = sum((xs[n] * xs[n] for n in self.last), xs[self.last[0]])
        cotangent = mg.tensor(np.linspace(-1, 1, 6).reshape(2, 3), backend=mg.backend.current_name())
        return xs, mg.grad(total, [xs[0]], cotangent, allow_unused=True)[0]


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_compute_the_same_values_and_gradients(seed, backend):
    program = Program(np.random.default_rng(seed))
    xs, found = program.run(protect=False)
    _, expected = program.run(protect=True)
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    if seed == 0:
        assert sum(isinstance(x, Taken) for x in xs) >= 2, "this program should overwrite something"


# -- declaring it -------------------------------------------------------------------------------------------------------


def test_an_op_cannot_overwrite_what_it_keeps():
    with pytest.raises(TypeError, match=r"overwrites='x'; its inputs are \['x'\], of which it keeps \['x'\]"):
        @mg.by_hand(save=lambda: (), backward=lambda g, saved, x: (g * x,), overwrites="x")
        def f(xp, x, *, into):
            return x
    with pytest.raises(TypeError, match="needs: an input that the tape does not keep"):
        @mg.by_hand(save=lambda x: (x,), backward=lambda g, saved: (g,), overwrites="x")  # save needs x again
        def h(xp, x, *, into):
            return x
    with pytest.raises(TypeError, match="keyword `into`"):
        @mg.by_hand(save=lambda: (), backward=lambda g, saved: (g,), overwrites="x")
        def k(xp, x):
            return x
