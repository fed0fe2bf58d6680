"""Broadcasting is an op: whatever the shapes, values are NumPy's, gradients have their inputs' shapes, and the tape shows it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import broadcastable_shapes, mutually_broadcastable_shapes

import minigrad as mg
from helpers import relative_error, to_device, to_host

BINARY = {  # op -> gradients of Σ g·op(a, b), before they are summed to the inputs' shapes
    "add": lambda g, a, b: (g, g),
    "subtract": lambda g, a, b: (g, -g),
    "multiply": lambda g, a, b: (g * b, g * a),
    "divide": lambda g, a, b: (g / b, -g * a / b**2),
    "maximum": lambda g, a, b: (g * (a > b), g * (b > a)),
    "minimum": lambda g, a, b: (g * (a < b), g * (b < a)),
    "power": lambda g, a, b: (g * b * a ** (b - 1), g * a**b * np.log(a)),
}
SEEDS = st.integers(0, 2**32 - 1)
examples = settings(max_examples=60)


def two_shapes():
    return mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=4)


def summed_to(array, shape):
    """NumPy's sum over the axes along which `shape` broadcasts: the definition that sum_to is held against."""
    lead = array.ndim - len(shape)
    axes = tuple(i for i in range(array.ndim) if i < lead or (shape[i - lead] == 1 and array.shape[i] != 1))
    return array.sum(axes, keepdims=True).reshape(shape)


def variables(arrays, backend):
    return [mg.tensor(a, requires_grad=True, backend=backend) for a in arrays]


@examples
@given(shapes=two_shapes(), op=st.sampled_from(sorted(BINARY)), seed=SEEDS)
def test_binary_ops_broadcast_as_numpy_and_their_gradients_are_summed_back(backend, shapes, op, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0.5, 2, s) for s in shapes.input_shapes)
    g = rng.standard_normal(shapes.result_shape)
    x, y = variables((a, b), backend)
    z = getattr(mg, op)(x, y)
    assert relative_error(z, np.asarray(getattr(np, op)(a, b))) <= 1e-15
    found = mg.grad(z, [x, y], mg.tensor(g, backend=backend))
    for d, whole, array in zip(found, BINARY[op](g, a, b), (a, b), strict=True):
        assert d.shape == array.shape and d.dtype == array.dtype
        assert np.allclose(to_host(d), summed_to(whole, array.shape), rtol=1e-12, atol=1e-13 * np.abs(whole).sum())


@examples
@given(shapes=two_shapes(), op=st.sampled_from(sorted(BINARY)), seed=SEEDS)
def test_the_tape_shows_one_broadcast_to_line_for_each_input_that_is_broadcast(backend, shapes, op, seed):
    rng = np.random.default_rng(seed)
    x, y = variables([rng.uniform(0.5, 2, s) for s in shapes.input_shapes], backend)
    ops = [line.op for line in mg.tape(getattr(mg, op)(x, y))]
    assert ops.count("broadcast_to") == sum(s != shapes.result_shape for s in shapes.input_shapes)
    assert len(ops) == 3 + ops.count("broadcast_to")  # two variables and the op: nothing else happens


@examples
@given(shapes=two_shapes(), op=st.sampled_from(sorted(BINARY)), seed=SEEDS)
def test_a_constant_is_broadcast_without_a_line_and_gets_no_gradient(backend, xp, shapes, op, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0.5, 2, s) for s in shapes.input_shapes)
    (x,) = variables([a], backend)
    g = mg.tensor(rng.standard_normal(shapes.result_shape), backend=backend)
    for constant in (mg.tensor(b, backend=backend), to_device(xp, b)):  # a Tensor, and a raw array
        z = getattr(mg, op)(x, constant)
        assert [line.op for line in mg.tape(z)].count("broadcast_to") == (a.shape != shapes.result_shape)
        (d,) = mg.grad(z, [x], g)
        assert np.allclose(to_host(d), summed_to(BINARY[op](to_host(g), a, b)[0], a.shape), rtol=1e-12, atol=1e-12)


@examples
@given(data=st.data(), small=broadcastable_shapes((3, 1, 4), max_dims=3), seed=SEEDS)
def test_broadcast_to_and_sum_to_are_adjoint_and_each_others_derivatives(backend, data, small, seed):
    large = data.draw(mutually_broadcastable_shapes(num_shapes=1, base_shape=small, max_dims=4, max_side=4)).result_shape
    rng = np.random.default_rng(seed)
    a, g = rng.standard_normal(small), rng.standard_normal(large)
    x, h = variables((a, g), backend)
    up, down = mg.broadcast_to(x, large), mg.sum_to(h, small)
    np.testing.assert_array_equal(to_host(up), np.broadcast_to(a, large))
    assert relative_error(down, np.asarray(summed_to(g, small))) <= 1e-14
    scale = np.linalg.norm(to_host(up)) * np.linalg.norm(g)  # ⟨broadcast_to(x), g⟩ = ⟨x, sum_to(g)⟩
    assert abs(np.vdot(to_host(up), g) - np.vdot(a, to_host(down))) <= 1e-14 * scale
    (back,) = mg.grad(up, [x], h.detach())
    np.testing.assert_array_equal(to_host(back), to_host(down))
    (forth,) = mg.grad(down, [h], x.detach())
    np.testing.assert_array_equal(to_host(forth), to_host(up))


@examples
@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), seed=SEEDS)
def test_where_broadcasts_condition_and_branches(backend, shapes, seed):
    rng = np.random.default_rng(seed)
    cond, a, b = (rng.standard_normal(s) for s in shapes.input_shapes)
    g = rng.standard_normal(shapes.result_shape)
    x, y = variables((a, b), backend)
    z = mg.where(mg.tensor(cond > 0, backend=backend), x, y)
    np.testing.assert_array_equal(to_host(z), np.where(cond > 0, a, b))
    if not z._line.inputs:
        return
    for d, whole, array in zip(mg.grad(z, [x, y], mg.tensor(g, backend=backend)), (g * (cond > 0), g * (cond <= 0)), (a, b), strict=True):
        assert d.shape == array.shape
        assert np.allclose(to_host(d), summed_to(np.broadcast_to(whole, g.shape), array.shape), atol=1e-12)


@examples
@given(small=two_shapes(), seed=SEEDS)
def test_second_derivatives_go_through_broadcasting(backend, small, seed):
    """f = Σ (a·b)²/2 broadcast: ∂²f/∂a∂b·v = 2·a·b·v summed to a, checked against the formula."""
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0.5, 2, s) for s in small.input_shapes)
    x, y = variables((a, b), backend)
    p = x * y
    (dx,) = mg.grad(mg.sum(p * p) * 0.5, [x], create_graph=True)
    v = rng.standard_normal(a.shape)
    (mixed,) = mg.grad(dx, [y], mg.tensor(v, backend=backend))
    assert np.allclose(to_host(mixed), summed_to(np.broadcast_to(2 * a * b * v, small.result_shape), b.shape), rtol=1e-12, atol=1e-12)


def test_shapes_that_do_not_broadcast_are_named(backend):
    x, y = variables((np.ones((3, 2)), np.ones((2, 3))), backend)
    for op in BINARY:
        with pytest.raises(ValueError, match=rf"{op}.*\(3, 2\) and \(2, 3\)"):
            getattr(mg, op)(x, y)
    with pytest.raises(ValueError, match="broadcast_to"):
        mg.broadcast_to(x, (3,))
    with pytest.raises(ValueError, match="sum_to"):
        mg.sum_to(x, (4, 3, 2))


# -- dtypes -------------------------------------------------------------------------------------------------------------

FLOATS = ("float16", "float32", "float64")


@pytest.mark.more
@pytest.mark.parametrize("op", sorted(BINARY))
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("number", [2, 0.5, True, np.float64(1.5), np.float32(1.5), np.int64(3)], ids=repr)
def test_numbers_never_change_the_dtype(backend, dtype, op, number):
    (x,) = variables([np.array([0.75, 1.5, 2.0], dtype)], backend)
    for a, b in ((x, number), (number, x)):
        y = getattr(mg, op)(a, b)
        assert y.dtype == dtype and y.shape == (3,)
        (g,) = mg.grad(y, [x], y)
        assert g.dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5)], ids=repr)
@pytest.mark.parametrize("f", [mg.power, mg.leaky_relu, mg.elu, mg.clip, lambda x, n: mg.clip(x, None, n), lambda x, n: mg.where(x > 1, x, n),
                               lambda x, n: mg.pad(x, 1, n), mg.dropout])
def test_numpys_scalars_count_as_numbers_in_every_argument(backend, dtype, number, f):
    (x,) = variables([np.array([0.75, 1.5, 2.0], dtype)], backend)
    y = f(x, number)
    (g,) = mg.grad(y, [x], y)
    assert y.dtype == g.dtype == dtype


@pytest.mark.more
@pytest.mark.filterwarnings("ignore:divide by zero|invalid value:RuntimeWarning")
@pytest.mark.parametrize("op", sorted(BINARY))
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("other", ["bool", "int8", "int32", "int64", "uint8"])
def test_integers_and_booleans_follow_the_float(backend, dtype, op, other):
    (x,) = variables([np.array([0.75, 1.5, 2.0], dtype)], backend)
    counts = mg.tensor(np.array([1, 0, 1] if other == "bool" else [1, 2, 3], other), backend=backend)
    for a, b in ((x, counts), (counts, x)):
        y = getattr(mg, op)(a, b)
        assert y.dtype == dtype
        (g,) = mg.grad(y, [x], y * 0 + 1)
        assert g.dtype == dtype
    expected = getattr(np, op)(to_host(x), to_host(counts).astype(dtype))
    np.testing.assert_array_equal(to_host(getattr(mg, op)(x, counts)), expected)


@pytest.mark.parametrize("op", [*sorted(BINARY), "matmul", "where", "concatenate", "mse_loss"])
@pytest.mark.parametrize("one, two", [("float32", "float64"), ("float64", "float32"), ("float16", "float32")])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_two_float_dtypes_raise_and_say_astype(backend, op, one, two, requires_grad):
    a, b = (mg.tensor(np.ones((2, 2), d), requires_grad=requires_grad, backend=backend) for d in (one, two))
    args = {"where": (a > 0, a, b), "concatenate": ([a, b],)}.get(op, (a, b))
    with pytest.raises(TypeError, match="astype"):
        getattr(mg, op)(*args)


@pytest.mark.parametrize("cond", [True, False, np.bool_(True), 1])
def test_a_condition_may_be_one_truth_value(backend, rng, cond):
    a, b = (mg.tensor(rng.normal(size=3), requires_grad=True, backend=backend) for _ in range(2))
    y = mg.where(cond, a, b)
    v = mg.tensor(rng.normal(size=3), backend=backend)
    found = mg.grad(y, [a, b], v)
    chosen = a if cond else b
    assert np.array_equal(y.numpy(), chosen.numpy())
    assert np.array_equal(found[0 if cond else 1].numpy(), v.numpy()) and not found[1 if cond else 0].numpy().any()


@pytest.mark.parametrize("shape", [3, np.int64(3), (3,), [3]])
def test_a_shape_may_be_one_size(backend, rng, shape):
    x = mg.tensor(rng.normal(size=1), requires_grad=True, backend=backend)
    v = mg.tensor(rng.normal(size=3), backend=backend)
    (g,) = mg.grad(mg.broadcast_to(x, shape), [x], v)
    np.testing.assert_allclose(g.numpy(), [v.numpy().sum()])
    assert mg.sum_to(mg.tensor(rng.normal(size=(2, 3)), backend=backend), shape).shape == (3,)
