"""Every op: values against NumPy, both orders of derivative against difference quotients, closed forms, what is kept.

The cases are in op_cases.py; a primitive without one fails the first test here. Broadcasting has its own file, so
have the comparison with PyTorch and the mutants, which show that these checks would notice a wrong rule.
"""

import inspect
import re
from functools import partial

import numpy as np
import pytest
from op_cases import CASES, CONSTANTS, PRIMITIVES

import minigrad as mg
from helpers import random_cotangent, relative_error, to_device, to_host
from minigrad.check.gradcheck import gradcheck

EPS = {name: float(np.finfo(name).eps) for name in ("float64", "float32", "float16")}
OPS = {name: op for name, op in vars(mg.ops).items() if inspect.isfunction(op) and op.__module__.startswith("minigrad.ops.")}


def sampled(cases, *others):
    """Parameters (case, other): the first case of each op as they are, with each of the others; the rest are for `make test-more`."""
    seen, found = set(), []
    for case in cases:
        for other in others or [None]:
            marks = [pytest.mark.more] * ((case.op, other) in seen)
            seen.add((case.op, other))
            if other is None:
                found.append(pytest.param(case, id=case.id, marks=marks))
            elif other != "float16" or case.half:
                found.append(pytest.param(case, other, id=f"{case.id}-{other}", marks=marks))
    return found


def by_id(cases):
    return pytest.mark.parametrize("case", sampled(cases))


def tensors(arrays, backend, requires_grad=True):
    return [mg.tensor(a, requires_grad=requires_grad and a.dtype.kind == "f", backend=backend) for a in arrays]


def outputs(y):
    return y if isinstance(y, tuple) else (y,)


def cotangents(ys, rng):
    """One for each of the outputs that require a gradient (an op may give some that do not: labels, masks)."""
    return [mg.tensor(random_cotangent(rng, y.shape, y.dtype), backend=y.backend) for y in ys]


# -- the table is complete ----------------------------------------------------------------------------------------------


def test_every_primitive_has_a_case():
    missing = sorted(set(PRIMITIVES) - {case.op for case in [*CASES, *CONSTANTS]})
    assert not missing, f"no case in tests/op_cases.py for the primitives {missing}"


def rules_run_by(case):
    """(op, input name) of each rule of the case's own op that its backward will run."""
    lines = (line for y in outputs(case.f(mg, *tensors(case.arrays(), "numpy"))) for line in mg.tape(y) if line.op == case.op)
    for line in lines:
        primitive = PRIMITIVES[case.op]
        names = ["backward"] * len(line.parents) if primitive.joint else [*primitive.inputs, *[primitive.variadic] * len(line.parents)]
        yield from ((case.op, name) for name, parent in zip(names, line.parents, strict=False) if parent is not None)


def test_every_rule_is_run_by_a_case_of_its_op():
    run = {rule for case in CASES if case.op in PRIMITIVES for rule in rules_run_by(case)}
    missing = {(op, name) for op, p in PRIMITIVES.items() for name in (["backward"] if p.joint else p.rules)} - run
    assert missing == {("cofactor_slope", "a")}, "no case in tests/op_cases.py requires these gradients"  # that one only raises


def test_every_public_op_has_a_case():
    missing = sorted(set(OPS) - {case.op for case in [*CASES, *CONSTANTS]} - {"elementwise"})
    assert not missing, f"no case in tests/op_cases.py for the public ops {missing}"


def test_primitives_without_rules_are_the_ones_in_constants():
    without = {name for name, p in PRIMITIVES.items() if not p.rules and p.joint is None}
    assert without == {case.op for case in CONSTANTS if case.op in PRIMITIVES and not PRIMITIVES[case.op].rules}


@by_id(CASES)
def test_the_case_runs_the_op_it_is_named_after(case):
    assert case.op in PRIMITIVES or case.op in OPS
    if case.op in PRIMITIVES:
        lines = [line for y in outputs(case.f(mg, *tensors(case.arrays(), "numpy"))) for line in mg.tape(y)]
        assert case.op in {line.op for line in lines} or case.name in ("one piece", "no axes")


# -- values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case, dtype", sampled([*CASES, *CONSTANTS], *EPS))
def test_value_shape_and_dtype_are_numpys(case, dtype, backend):
    """Within 8 roundings of the result (measured: 4.9), times the case's conditioning; integers and booleans exactly."""
    arrays = case.arrays(dtype)
    expected = case.expected(arrays)
    got = outputs(case.f(mg, *tensors(arrays, backend)))
    assert {y.backend for y in got} == {backend}
    if expected is None:
        return
    assert len(got) == len(outputs(expected))
    for y, e in zip(got, map(np.asarray, outputs(expected)), strict=True):
        if e.dtype.kind == "f":
            assert relative_error(y, e) <= 8 * EPS[dtype] * case.condition
        else:
            assert (y.shape, y.dtype) == (e.shape, e.dtype) and (to_host(y) == e).all()


@by_id(CONSTANTS)
def test_results_without_a_derivative_are_constants(case, backend):
    assert not case.f(mg, *tensors(case.arrays(), backend)).requires_grad


@by_id(CASES)
def test_raw_arrays_give_raw_arrays_with_the_same_values(case):
    arrays = case.arrays()
    raw, taped = outputs(case.f(mg, *arrays)), outputs(case.f(mg, *tensors(arrays, "numpy")))
    for r, t in zip(raw, taped, strict=True):
        assert not isinstance(r, mg.Tensor)
        np.testing.assert_array_equal(r, t.numpy())


@by_id([case for case in CASES if "boolean" not in case.name and "mask" not in case.name])
def test_no_op_waits_for_the_device_or_copies_to_it(case, fake_device, rng):
    """Forward and backward. (Boolean masks do: the size of the result depends on the values.)"""
    xs = tensors(case.arrays(), "fake")
    with fake_device.no_sync(), fake_device.count() as forward:
        ys = outputs(case.f(mg, *xs))
    gs = cotangents(ys, rng)
    with fake_device.no_sync(), fake_device.count() as backward:
        mg.grad(ys, xs, gs, allow_unused=True)
    assert (forward.d2h, forward.implicit) == (0, 0)  # h2d: indices and masks that the case spells out
    assert (backward.d2h, backward.implicit, backward.h2d) == (0, 0, 0)


# -- derivatives of both orders -----------------------------------------------------------------------------------------

TOLERANCE = {1: 1e-7, 2: 1e-5}  # of float64 against difference quotients of sixth order


def judged(case, backend, order):
    """gradcheck's report."""
    return gradcheck(partial(case.f, mg), tensors(case.arrays(), backend), order=order, max_elements=32, tolerance=case.tolerance)


def is_right(case, report):
    """Does gradcheck say so, and do its numbers?"""
    return report and all(row.error <= (case.tolerance or TOLERANCE[row.order]) for row in report.rows)


@by_id([case for case in CASES if case.order])
def test_both_derivatives_agree_with_difference_quotients(case):
    report = judged(case, "numpy", case.order)
    assert is_right(case, report), f"{case.id}\n{report}"


@pytest.mark.more
@by_id({case.op: case for case in reversed(CASES) if case.order}.values())
def test_both_derivatives_agree_with_difference_quotients_on_every_backend(case, backend):
    """The first case of each op; the others, which would take a while on a device, are compared with NumPy's below."""
    report = judged(case, backend, case.order)
    assert is_right(case, report), f"{case.id}\n{report}"


def pulled_twice(case, backend):
    """The gradients at random cotangents g, then those of their sum with random weights, in the inputs and in g."""
    rng, xs = np.random.default_rng(0), tensors(case.arrays(), backend)
    ys = outputs(case.f(mg, *xs))
    gs = cotangents(ys, rng)
    for g in gs:
        g.requires_grad = True
    first = mg.grad(ys, xs, gs, create_graph=True, allow_unused=True)
    moving = [d for d in first if d is not None and d.requires_grad]
    second = mg.grad(moving, [*xs, *gs], cotangents(moving, rng), allow_unused=True) if moving and case.order == 2 else ()
    assert {d.backend for d in (*first, *second) if d is not None} <= {backend}
    return [np.concatenate([np.zeros(1), *(to_host(d).ravel() for d in found if d is not None)]) for found in (first, second)]


@by_id(CASES)
def test_both_derivatives_on_a_device_are_numpys(case, backend):
    """1e-13, a few hundred roundings, times the conditioning: much closer than difference quotients can look."""
    for there, here in zip(pulled_twice(case, backend), pulled_twice(case, "numpy"), strict=True):
        assert relative_error(there, here) <= 1e-13 * case.condition


def gradients(case, arrays, gs, backend):
    """The case's first-order gradients as NumPy arrays (zeros where an input has no influence)."""
    xs = tensors(arrays, backend)
    ys = outputs(case.f(mg, *xs))
    found = mg.grad(ys, xs, [mg.tensor(g, backend=backend) for g in gs], allow_unused=True)
    return [np.zeros_like(a) if g is None else to_host(g) for a, g in zip(arrays, found, strict=True)]


@pytest.mark.parametrize("case, dtype", sampled(CASES, "float32", "float16"))
def test_low_precision_gradients_agree_with_their_float64_twins(case, dtype, backend, rng):
    """Both at the same rounded inputs, so they differ by the roundings of one forward and one backward of a dozen
    operations, amplified by the case's conditioning: 8 ε (measured: 2.1), in the norm of all gradients together."""
    arrays = case.arrays(dtype)
    ys = outputs(case.f(mg, *tensors(arrays, backend, requires_grad=False)))
    gs = [random_cotangent(rng, y.shape, y.dtype) for y in ys]
    low = gradients(case, arrays, gs, backend)
    twin = gradients(case, [a.astype("float64") for a in arrays], [g.astype("float64") for g in gs], backend)
    assert [g.dtype for g in low] == [a.dtype for a in arrays]
    flat = [np.concatenate([g.ravel() for g in found]).astype("float64") for found in (low, twin)]
    assert relative_error(*flat) <= 8 * EPS[dtype] * case.condition


@pytest.mark.parametrize("f, value, gradient", [
    (mg.sum, 0, 1), (mg.mean, 0, 1 / 70000), (mg.var, 0, 0), (mg.logsumexp, np.log(70000), 1 / 70000), (mg.softmax, 1 / 70000, 0),
    (mg.log_softmax, -np.log(70000), 0), (mg.norm, 0, 0), (lambda x: mg.moments(x, 0)[0], 0, 1 / 70000),
], ids=["sum", "mean", "var", "logsumexp", "softmax", "log_softmax", "norm", "moments"])
def test_float16_reductions_of_more_elements_than_float16_can_count(f, value, gradient, backend):
    """70000 > 65504. The cotangent alternates in sign where its own sum would overflow."""
    x = mg.tensor(np.zeros(70000, "float16"), requires_grad=True, backend=backend)
    y = f(x)
    g = np.where(np.arange(y.size) % 2, -1, 1).astype(y.dtype).reshape(y.shape)  # moments are float32
    (d,) = mg.grad(y, [x], mg.tensor(g, backend=backend))
    expected = gradient * g if y.size == 1 else to_host(y) * g if f is mg.softmax else g if f is mg.log_softmax else 0 * g
    spacing = float(np.finfo("float16").smallest_subnormal)  # of values below 6e-5
    np.testing.assert_allclose(to_host(y).astype(float), value, rtol=2 * EPS["float16"], atol=spacing)
    np.testing.assert_allclose(to_host(d).astype(float), np.broadcast_to(expected, x.shape).astype(float), rtol=2 * EPS["float16"], atol=spacing)


# -- the ends of the range ------------------------------------------------------------------------------------------------

FLAT = [(4e5, "float32"), (1e7, "float32"), (1e30, "float32"), (1000, "float16"), (-6e4, "float16"), (1e17, "float64")]


def with_gradients(f, values, dtype, backend):
    """f's value, its gradient and its second derivative along `ones` (of the gradient with weights 1, −2, 3, ...), as float64."""
    x = mg.tensor(np.array(values, dtype), requires_grad=True, backend=backend)
    y = f(x)
    (d,) = mg.grad(y, [x], mg.ones_like(y), create_graph=True)
    weights = np.resize([1, -2, 3], x.shape).astype(dtype)
    (second,) = mg.grad(d, [x], mg.tensor(weights, backend=backend))
    return [to_host(a).astype("float64") for a in (y, d, second)]


@pytest.mark.parametrize("shift, dtype", FLAT)
def test_the_softmax_family_has_the_same_gradient_wherever_the_logits_lie(shift, dtype, backend):
    """Equal numbers, so large that log 3 is lost in their logsumexp: each share is still 1/3, and H = diag(p) − ppᵀ."""
    tolerance = 4 * EPS[dtype]
    second = (np.array([1, -2, 3]) - 2 / 3) / 3
    _, d, dd = with_gradients(mg.logsumexp, [shift] * 3, dtype, backend)
    np.testing.assert_allclose(d, 1 / 3, rtol=tolerance)
    np.testing.assert_allclose(dd, second, rtol=4 * tolerance)
    label = mg.tensor([1], backend=backend)
    y, d, dd = with_gradients(lambda x: mg.cross_entropy(x, label), [[shift] * 3], dtype, backend)
    np.testing.assert_allclose(y, np.log(3), rtol=tolerance)
    np.testing.assert_allclose(d, [[1 / 3, -2 / 3, 1 / 3]], rtol=tolerance)
    np.testing.assert_allclose(dd, [second], rtol=4 * tolerance)


@pytest.mark.parametrize("size, dtype", [(40, "float16"), (300, "float16"), (6e4, "float16"), (1e13, "float32"), (1e20, "float32"), (3e38, "float32"),
                                         (1e150, "float64")])
def test_gelu_by_tanh_is_straight_far_out(size, dtype, backend):
    y, d, dd = with_gradients(lambda x: mg.gelu(x, "tanh"), [size, -size], dtype, backend)
    np.testing.assert_allclose(y, [np.dtype(dtype).type(size), 0])
    np.testing.assert_array_equal([d, dd], [[1, 0], [0, 0]])


LENGTHS = [(1e-5, "float16"), (1e-3, "float16"), (1e4, "float16"), (1e-35, "float32"), (1e-30, "float32"), (1e-12, "float32"), (1e12, "float32"),
           (1e25, "float32"), (5e37, "float32"), (1e-300, "float64"), (1e300, "float64")]


@pytest.mark.parametrize("unit, dtype", LENGTHS)
def test_lengths_and_deviations_whose_squares_leave_the_range(unit, dtype, backend):
    """norm and std of c·x are c times those of x, with the same gradients; beside an ordinary row and one of zeros."""
    values = np.array([[3 * unit, -4 * unit], [3, -4], [0, 0]], dtype)
    exact = values.astype("float64") / np.array([[unit], [1], [1]])
    for f in (partial(mg.norm, axis=1), partial(mg.std, axis=1), partial(mg.std, axis=1, ddof=1)):
        x, reference = (mg.tensor(v, requires_grad=True, backend=backend) for v in (values, exact))
        y, z = f(x), f(reference)
        g = np.array([1.5, -0.5, 1])
        (d,), (e,) = (mg.grad(out, [of], mg.tensor(g.astype(out.dtype), backend=backend)) for out, of in ((y, x), (z, reference)))
        np.testing.assert_allclose(to_host(y).astype("float64") / [unit, 1, 1], to_host(z), rtol=8 * EPS[dtype], atol=0.01 * (unit == 1e-5))
        np.testing.assert_allclose(to_host(d).astype("float64"), to_host(e), rtol=8 * EPS[dtype])
    x = mg.tensor([0.0, 0.0], dtype=dtype, requires_grad=True, backend=backend)
    for f in (mg.norm, mg.std):
        (d,) = mg.grad(f(x), [x], create_graph=True)
        (dd,) = mg.grad(d, [x], mg.tensor([1.0, 2.0], dtype=dtype, backend=backend))
        assert not to_host(d).any() and not to_host(dd).any()


@pytest.mark.parametrize("take", [lambda w, i: mg.embedding(i, w), lambda w, i: w[i], lambda w, i: w[i, 0], lambda w, i: mg.take(w, i, axis=0),
                                  lambda w, i: mg.take_along_axis(w, i[:, None], 0)], ids=["embedding", "getitem", "pairs", "take", "take_along_axis"])
@pytest.mark.parametrize("count", [2049, 5000, 60000])
def test_float16_gradients_of_one_element_taken_often_are_rounded_once(take, count, backend):
    w = mg.tensor(np.zeros((1, 1), "float16"), requires_grad=True, backend=backend)
    y = take(w, mg.tensor(np.zeros(count, int), backend=backend))
    (d,) = mg.grad(y, [w], mg.tensor(np.ones(y.shape, "float16"), backend=backend))
    assert d.dtype == "float16" and to_host(d) == np.float16(count)


# -- integers, empty arrays, 0-d arrays: as NumPy, or an error that explains --------------------------------------------

I, J, B = np.array([[3, -1, 2], [0, 4, -2]]), np.array([2, 1, 3]), np.array([[True, False, True], [False, False, True]])
AS_NUMPY = """
    i + j, i - j, i * j, i * 2, -i, i ** 2, abs(i), b & (i > 0), b | b, ~b, b ^ b, ~i, i & 3, i | 1, i ^ j, 6 & i, 1 | i, 5 ^ i, i & b, b & 1, i & True,
    i + b, i > j, i >= 0, i == j, i != j, i <= j,
    m.square(i), m.maximum(i, j), m.minimum(i, 1), m.where(b, i, j), m.where(b, i, 0), m.clip(i, -1, 2), m.sign(i),
    m.sum(i), m.sum(i, axis=0), m.sum(b, axis=1), m.sum(i, axis=(0, 1), keepdims=True), m.max(i, axis=1), m.min(i), m.cumsum(i, axis=1),
    m.argmax(i), m.argmax(b, axis=1), m.reshape(i, (3, 2)), m.transpose(i), i.T, m.swapaxes(b, 0, 1), m.moveaxis(i, 0, 1), m.expand_dims(i, 1),
    m.squeeze(i[:1]), m.flip(i, 0), m.concatenate([i, i], axis=1), m.stack([i, i]), m.split(i, 2)[1], m.pad(i, 1), i[0], i[:, 1], i[b], i[j[:1] - 1],
    m.take(i, j - 1, axis=1), m.take_along_axis(i, i * 0, 1), m.broadcast_to(j, (2, 3)), m.matmul(i, j), i @ i.T, m.outer(j, j),
    m.einsum("ij,j->i", i, j), m.einsum("ij->ji", i), m.diagonal(i), m.trace(i), m.tril(i), m.triu(i, 1), m.prod(i), m.prod(j, axis=0), m.prod(b, axis=1),
    m.prod(i, axis=(0, 1), keepdims=True), m.cumprod(i), m.cumprod(b, axis=0), m.argmin(i), m.argmin(b, axis=1), m.any(i, axis=0), m.all(i, axis=1), m.any(b),
    m.all(b, axis=0, keepdims=True), m.tile(i, (2, 1)), m.tile(b, 2), m.repeat(i, 2), m.repeat(i, [0, 3], axis=0), m.roll(i, 1), m.roll(b, 1, axis=1),
    m.sort(i),
    m.sort(b, axis=0), m.argsort(j), m.vstack([i, j]), m.hstack([j, j]), m.diag(j), m.diag(i, 1), m.diag(b[0]), m.dot(i, j), m.dot(j, j), m.dot(2, i),
    m.tensordot(i, i, 2), m.tensordot(i, j, 1), m.round(i), m.round(10 * i, -1), m.isnan(i), m.isinf(b), m.isfinite(i), m.nan_to_num(i), m.nan_to_num(b)"""
FLOAT32_INSTEAD_OF_FLOAT64 = """
    i / j, 1 / j, i / 2, i * 1.5, i + 0.5, m.exp(i), m.log(j), m.sqrt(j), m.tanh(i), m.sin(i), m.cos(i), m.log1p(j), m.expm1(i), j ** -1.0, j ** 0.5,
    m.mean(i), m.mean(i, axis=0), m.mean(b), m.var(i, axis=1), m.std(i), m.where(b, 0.5, i), m.maximum(i, 0.5)"""


def expressions(text):
    """The members of a tuple in Python's syntax, one by one."""
    return [source.strip() for source in split_at_commas(text)]


def split_at_commas(text):
    depth, start = 0, 0
    for k, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and not depth:
            yield text[start:k]
            start = k + 1
    yield text[start:]


def evaluate(source, m, **names):
    """(value, None), or (None, the exception)."""
    try:
        with np.errstate(all="ignore"):
            return eval(source, {"m": m, "abs": abs, **names}), None
    except Exception as e:
        return None, e


@pytest.mark.parametrize("source", expressions(AS_NUMPY + "," + FLOAT32_INSTEAD_OF_FLOAT64))
def test_integers_and_booleans_are_computed_as_numpy_does_but_in_float32(source, backend):
    expected = np.asarray(evaluate(source, np, i=I, j=J, b=B)[0])
    if expected.dtype.kind == "f":
        expected = expected.astype("float32")
    names = {name: mg.tensor(a, backend=backend) for name, a in (("i", I), ("j", J), ("b", B))}
    got = evaluate(source, mg, **names)[0]
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype) and not got.requires_grad
    assert relative_error(got, expected) <= 8 * EPS["float32"] if expected.dtype.kind == "f" else (to_host(got) == expected).all()


@pytest.mark.parametrize("f, name, instead", [
    (lambda x: x & x, "bitwise_and", "logical_and"), (lambda x: True | x, "bitwise_or", "logical_or"), (lambda x: x ^ x, "bitwise_xor", "not_equal"),
    (lambda x: ~x, "invert", "logical_not"), (lambda x: (x > 0) & 1.0, "bitwise_and", "logical_and")], ids=["and", "or", "xor", "not", "number"])
def test_bits_of_floats_are_refused(f, name, instead, backend):
    for dtype in ("float16", "float32", "float64"):
        with pytest.raises(TypeError, match=rf"{name}: got .*float[\s\S]*minigrad.{instead}\("):
            f(mg.tensor(np.ones(3, dtype), backend=backend))


def test_bits_of_an_array_on_the_left_and_in_place(backend):
    i = mg.tensor(I, backend=backend)
    left = mg.tensor(J, backend=backend).data
    for got, expected in ((left & i, J & I), (left | i, J | I), (left ^ i, J ^ I)):
        assert isinstance(got, mg.Tensor) and (to_host(got) == expected).all()
    a, b, c = (mg.tensor(I, backend=backend) for _ in range(3))
    a &= 3
    b |= 1
    c ^= 5
    for got, expected in ((a, I & 3), (b, I | 1), (c, I ^ 5)):
        assert got.dtype == "int64" and (to_host(got) == expected).all()


# -- every op of every small dtype ----------------------------------------------------------------------------------------

INTEGERS = ("uint8", "int8", "int32", "int64", "bool")
OF_COTANGENTS = {"gate", "unpool", "winners", "avg_unpool", "part_means", "part_means_input", "conv2d_input", "conv2d_weight", "put", "scatter_add",
                 "put_along_axis", "cofactor", "cofactor_slope"}  # no public op gives them anything but floats
ARITHMETIC = {"prod", "cumprod", "dot", "tensordot",
              "negative", "add", "subtract", "multiply", "square", "abs", "power", "power_number", "integer_power", "matmul", "outer", "contract", "einsum",
              "where"}


def integers(case, dtype):
    """The case's inputs times 3, rounded; in unsigned dtypes without the sign."""
    arrays = [np.rint(3 * a) for a in case.arrays()]
    return [(a > 0) if dtype == "bool" else (np.abs(a) if dtype == "uint8" else a).astype(dtype) for a in arrays]


TAKING_INTEGERS = [case for case in [*CASES, *CONSTANTS] if case.op not in OF_COTANGENTS]


@by_id(TAKING_INTEGERS)
def test_integers_give_what_their_values_give_in_float64_or_an_error_that_names_the_dtype(case):
    for dtype in INTEGERS:
        check_integers(case, dtype, "numpy")


@by_id({case.op: case for case in reversed(TAKING_INTEGERS)}.values())
def test_integers_give_so_on_every_backend(case, backend):
    for dtype in INTEGERS:
        check_integers(case, dtype, backend)


def check_integers(case, dtype, backend):
    """To float32's precision, in which floating results are. Arithmetic among integers alone is NumPy's own: it wraps around."""
    arrays = integers(case, dtype)
    try:
        with np.errstate(all="ignore"):
            got = outputs(case.f(mg, *tensors(arrays, backend)))
    except np.linalg.LinAlgError:
        assert backend == "numpy"  # after rounding the matrix is singular
        return
    except (TypeError, ValueError) as e:
        assert "needs: " in str(e) and (f"dtype {dtype}" in str(e) or f"for {dtype}" in str(e)), e
        return
    with np.errstate(all="ignore"):
        wanted = outputs(case.f(mg, *tensors([a.astype("float64") for a in arrays], backend)))
    assert not any(y.dtype in ("float16", "float64") for y in got)
    for y, w in zip(got, wanted, strict=True):
        y, w = to_host(y), to_host(w)
        if y.dtype.kind != "f" and case.op in ARITHMETIC and not np.array_equal(y, w):
            with np.errstate(all="ignore"):
                w = np.asarray(case.f(np, *arrays))
            assert y.dtype == w.dtype
        finite = np.isfinite(w.astype(float))
        np.testing.assert_allclose(y[finite], w[finite], rtol=64 * EPS["float32"] * case.condition, atol=64 * EPS["float32"] * case.condition)
        if backend == "numpy" or case.op not in ("inv", "solve", "cholesky"):  # where the rounded matrix is singular, rounding decides between ∞ and NaN
            np.testing.assert_array_equal(y[~finite].astype(float), w[~finite].astype(float))


EMPTY = """
    x + x, x * 2.0, -x, x / x, x ** 2, m.exp(x), m.abs(x), m.maximum(x, 0.0), m.where(x > 0, x, 0.0), m.clip(x, 0, 1), x + x[:, :1], x + x[:1],
    m.sum(x), m.sum(x, axis=0), m.sum(x, axis=1), m.sum(x, axis=1, keepdims=True), m.mean(x), m.mean(x, axis=0), m.mean(x, axis=1),
    m.var(x, axis=0), m.var(x, axis=1), m.std(x, axis=1), m.max(x), m.max(x, axis=0), m.max(x, axis=1), m.min(x, axis=0), m.min(x, axis=1),
    m.argmax(x), m.argmax(x, axis=0), m.argmax(x, axis=1), m.cumsum(x), m.cumsum(x, axis=0), m.cumsum(x, axis=1),
    m.reshape(x, (x.shape[1], x.shape[0])), m.reshape(x, (-1, 3)), m.reshape(x, (5, 5)), m.transpose(x), m.expand_dims(x, 1), m.squeeze(x), m.flip(x, 0),
    m.concatenate([x, x]), m.concatenate([x, x], axis=1), m.stack([x, x], axis=1), m.split(x, 1)[0], m.split(x, [1])[1], m.split(x, 2)[0], m.pad(x, 1),
    x[:, 1:], x[1:], x[0], x[..., None], x[x > 0], m.take(x, i0, axis=1), m.take(x, i0, axis=0), m.broadcast_to(x, (2, *x.shape)),
    m.matmul(x, x.T), m.matmul(x.T, x), m.einsum("ij,kj->ik", x, x), m.einsum("ij->j", x), m.outer(x[:, 0], x[:, 0]), m.tril(x), m.diagonal(x), m.trace(x),
    m.prod(x), m.prod(x, axis=0), m.prod(x, axis=1, keepdims=True), m.cumprod(x), m.cumprod(x, axis=0), m.cumprod(x, axis=1), m.argmin(x, axis=0), m.any(x),
    m.all(x), m.any(x, axis=0), m.all(x, axis=1), m.tile(x, (2, 1)), m.repeat(x, 2), m.repeat(x, 2, axis=1), m.roll(x, 1), m.roll(x, 1, axis=0), m.sort(x),
    m.sort(x, axis=0), m.sort(x, axis=None), m.argsort(x, axis=1), m.vstack([x, x]), m.hstack([x, x]), m.diag(x), m.diag(x[:, 0]), m.dot(x, x.T),
    m.tensordot(x, x, 2), m.tensordot(x, x, ([0], [0])), m.round(x), m.floor(x), m.isnan(x), m.nan_to_num(x)"""
SCALAR = """
    x + x, x * 2.0, x ** 2, m.exp(x), m.sum(x), m.mean(x), m.max(x), m.min(x), m.var(x), m.sum(x, axis=()), m.max(x, axis=1), m.argmax(x), m.cumsum(x),
    m.reshape(x, (1, 1)), m.reshape(x, ()), m.transpose(x), m.expand_dims(x, 0), m.squeeze(x), m.flip(x), m.concatenate([x, x]), m.stack([x, x]),
    m.stack([x, x], axis=-1), m.split(x, 1), m.pad(x, ()), x[()], x[...], x[None], x[0], x[x > 0], m.broadcast_to(x, (2, 3)),
    m.matmul(x, x), m.outer(x, x), m.swapaxes(x, 0, 1), m.diagonal(x), m.take(x, 0), m.where(x > 0, x, 0.0), m.prod(x), m.cumprod(x), m.prod(x, axis=()),
    m.argmin(x), m.any(x), m.all(x), m.tile(x, 2), m.tile(x, ()), m.repeat(x, 2), m.roll(x, 1),
    m.roll(x, 1, axis=0), m.sort(x), m.sort(x, axis=None), m.argsort(x, axis=None), m.vstack([x, x]), m.hstack([x, x]), m.diag(x), m.dot(x, x),
    m.tensordot(x, x, 0), m.round(x), m.floor(x), m.ceil(x), m.isnan(x), m.nan_to_num(x)"""
WHERE_NUMPY_ANSWERS = {("m.take(x, i0, axis=1)", (0, 0)): IndexError}  # and minigrad does not: an index out of range is one


@pytest.mark.filterwarnings("ignore:.*empty slice|.*Degrees of freedom|.*divide:RuntimeWarning")
@pytest.mark.parametrize("source, shape", [(s, shape) for s in expressions(EMPTY) for shape in ((0, 3), (3, 0), (0, 0))]
                         + [(s, ()) for s in expressions(SCALAR)])
def test_empty_and_0d_arrays_give_what_numpy_gives_or_an_error_that_explains(source, shape, backend, rng):
    array, i0 = rng.uniform(0.5, 1, shape), np.array([0, 0])
    expected, refused = evaluate(source, np, x=array if shape else np.asarray(array), i0=i0)
    x = mg.tensor(array, requires_grad=True, backend=backend)
    got, raised = evaluate(source, mg, x=x, i0=mg.tensor(i0, backend=backend))
    if refused is not None:
        assert isinstance(raised, (ValueError, IndexError, TypeError)) and "needs:" in str(raised), f"NumPy: {refused!r}"
        return
    if (source, shape) in WHERE_NUMPY_ANSWERS:
        assert isinstance(raised, WHERE_NUMPY_ANSWERS[source, shape]) and "needs:" in str(raised)
        return
    assert raised is None
    expected = np.asarray(expected)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(to_host(got), expected, rtol=1e-14)
    if got.requires_grad:  # the gradient of nothing is nothing, of the right shape
        (g,) = mg.grad(got, [x], mg.tensor(random_cotangent(rng, got.shape, got.dtype), backend=backend))
        assert (g.shape, g.dtype) == (shape, np.float64)


@pytest.mark.parametrize("shape, axis", [((0, 0), 0), ((0, 0), 1), ((0, 3), 0), ((3, 0), 1), ((0, 2), None), ((0,), -1)])
def test_an_index_into_an_axis_of_size_0_is_out_of_range_whatever_the_version_of_numpy(shape, axis, backend):
    x = mg.tensor(np.zeros(shape), requires_grad=True, backend=backend)
    for indices in (0, [0, 0], mg.tensor([[0]], backend=backend)):
        with pytest.raises(IndexError, match=r"take: got indices into axis \d of shape(?s:.*)fix:   check for an empty batch"):
            mg.take(x, indices, axis=axis)
    assert mg.take(x, [], axis=axis).size == 0


def test_take_along_an_axis_of_size_0(backend):
    x = mg.tensor(np.zeros((2, 0)), requires_grad=True, backend=backend)
    with pytest.raises(IndexError, match="take_along_axis: got indices into axis 1"):
        mg.take_along_axis(x, mg.tensor(np.zeros((2, 1), int), backend=backend), 1)
    assert mg.take_along_axis(x, mg.tensor(np.zeros((2, 0), int), backend=backend), 1).shape == (2, 0)


# -- closed forms -------------------------------------------------------------------------------------------------------


def derivative(f, order, x):
    """The order-th derivative of an elementwise function, at every element of x, by repeated backward of random sums."""
    weights = np.random.default_rng(order).uniform(0.5, 2, x.shape)
    point = mg.tensor(x, requires_grad=True)
    y = f(point)
    for _ in range(order):
        (y,) = mg.grad(y, [point], mg.tensor(weights), create_graph=True)
        y = y / weights
    return y.numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("name, f, order, truth", [
    ("exp", mg.exp, 4, np.exp), ("expm1", mg.expm1, 3, np.exp), ("sin", mg.sin, 5, np.cos), ("cos", mg.cos, 4, np.cos),
    ("log", mg.log, 3, lambda x: 2 / x**3), ("log1p", mg.log1p, 3, lambda x: 2 / (1 + x) ** 3),
    ("sqrt", mg.sqrt, 2, lambda x: -0.25 * x**-1.5), ("square", mg.square, 2, lambda x: 0 * x + 2), ("abs", mg.abs, 1, np.sign),
    ("tanh", mg.tanh, 1, lambda x: 1 / np.cosh(x) ** 2), ("tanh", mg.tanh, 2, lambda x: -2 * np.tanh(x) / np.cosh(x) ** 2),
    ("tanh", mg.tanh, 3, lambda x: (4 * np.sinh(x) ** 2 - 2) / np.cosh(x) ** 4),
    ("sigmoid", mg.sigmoid, 1, lambda x: sigmoid(x) * sigmoid(-x)),
    ("sigmoid", mg.sigmoid, 2, lambda x: sigmoid(x) * sigmoid(-x) * (1 - 2 * sigmoid(x))),
    ("softplus", mg.softplus, 1, sigmoid), ("softplus", mg.softplus, 2, lambda x: sigmoid(x) * sigmoid(-x)),
    ("elu", lambda x: mg.elu(x - 3, 0.7), 3, lambda x: 0.7 * np.exp(x - 3)), ("divide", lambda x: 1 / x, 3, lambda x: -6 / x**4),
    ("power", lambda x: x**5, 3, lambda x: 60 * x**2), ("power", lambda x: x**0.5, 3, lambda x: 0.375 * x**-2.5),
    ("power", lambda x: x**-2, 2, lambda x: 6 * x**-4), ("power", lambda x: 3.0**x, 2, lambda x: np.log(3) ** 2 * 3**x),
    ("power", lambda x: mg.power(x, x), 1, lambda x: x**x * (np.log(x) + 1)),
    ("power", lambda x: mg.power(x, x), 2, lambda x: x**x * ((np.log(x) + 1) ** 2 + 1 / x)),
])
def test_derivatives_of_functions_of_one_variable_are_those_of_the_textbook(name, f, order, truth, rng):
    x = rng.uniform(0.5, 2, (3, 5))
    np.testing.assert_allclose(derivative(f, order, x), truth(x), rtol=1e-12)


def jacobian(f, x):
    return mg.jacobian(f, mg.tensor(x)).numpy()


def hessian(f, x):
    """Column by column, of a function with a scalar value."""
    units = np.eye(x.size).reshape(-1, *x.shape)
    columns = [mg.hvp(f, [mg.tensor(x)], [mg.tensor(u)])[0].numpy().ravel() for u in units]
    return np.array(columns).T


def closed_forms():
    """(name, what the tape gives, what the formula gives), all from arrays of one generator."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal(5), rng.standard_normal((4, 5))
    p = np.exp(x) / np.exp(x).sum()
    yield "d softmax = diag(p) − ppᵀ", jacobian(mg.softmax, x), np.diag(p) - np.outer(p, p)
    yield "d log_softmax = I − 1pᵀ", jacobian(mg.log_softmax, x), np.eye(5) - p
    yield "d logsumexp = p", jacobian(mg.logsumexp, x), p
    yield "d² logsumexp = diag(p) − ppᵀ", hessian(mg.logsumexp, x), np.diag(p) - np.outer(p, p)
    labels = np.array([0, 3, 1, 1])
    q = np.exp(w) / np.exp(w).sum(1, keepdims=True)
    loss = lambda z: mg.cross_entropy(z, labels)
    yield "d cross_entropy = (p − onehot)/N", jacobian(loss, w), (q - np.eye(5)[labels]) / 4
    blocks = np.zeros((4, 5, 4, 5))
    for n in range(4):
        blocks[n, :, n] = (np.diag(q[n]) - np.outer(q[n], q[n])) / 4
    yield "d² cross_entropy = (diag(p) − ppᵀ)/N in blocks", hessian(loss, w), blocks.reshape(20, 20)
    t = rng.uniform(0, 1, 5)
    bce = lambda z: mg.binary_cross_entropy_with_logits(z, mg.tensor(t), "sum")
    yield "d bce = σ − t", jacobian(bce, x), sigmoid(x) - t
    yield "d² bce = σ(1 − σ)", hessian(bce, x), np.diag(sigmoid(x) * sigmoid(-x))
    yield "d mse = 2(x − t)/n", jacobian(lambda z: mg.mse_loss(z, mg.tensor(t)), x), 2 * (x - t) / 5
    yield "d mean = 1/n", jacobian(mg.mean, x), np.full(5, 0.2)
    yield "d var = 2(x − x̄)/n", jacobian(mg.var, x), 2 * (x - x.mean()) / 5
    yield "d² var = 2(I − 11ᵀ/n)/n", hessian(mg.var, x), 2 * (np.eye(5) - 0.2) / 5
    yield "d std = (x − x̄)/(nσ)", jacobian(mg.std, x), (x - x.mean()) / (5 * x.std())
    yield "d (mean, var) of moments", jacobian(lambda z: mg.concatenate(mg.moments(z, 0)), x), np.stack([np.full(5, 0.2), 2 * (x - x.mean()) / 5])
    yield "d cumsum = lower triangle of ones", jacobian(mg.cumsum, x), np.tril(np.ones((5, 5)))
    yield "d prod = ∏/x", jacobian(mg.prod, x), x.prod() / x
    yield "d² prod = ∏/(xᵢxⱼ) off the diagonal", hessian(mg.prod, x), x.prod() / np.outer(x, x) * (1 - np.eye(5))
    hollow = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    pair = np.zeros((5, 5))
    pair[1, 3] = pair[3, 1] = 30.0
    yield "d prod with two zeros = 0", jacobian(mg.prod, hollow), np.zeros(5)
    yield "d² prod with two zeros: of the two alone", hessian(mg.prod, hollow), pair
    yield "d prod with one zero: in it alone", jacobian(mg.prod, hollow + np.eye(5)[1]), np.eye(5)[3] * 30
    yield "d cumprod = ∏/x, below the diagonal", jacobian(mg.cumprod, x), np.tril(np.cumprod(x)[:, None] / x)
    yield "d cumprod with zeros", jacobian(mg.cumprod, hollow), np.array([[1, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0, 6, 0, 0, 0], [0] * 5, [0] * 5]) * 1.0
    yield "d sort is a permutation", jacobian(mg.sort, x), np.eye(5)[np.argsort(x)]
    yield "d max = indicator of the winner", jacobian(mg.max, x), (x == x.max()) * 1.0
    yield "d norm = x/‖x‖", jacobian(mg.norm, x), x / np.linalg.norm(x)
    u = x / np.linalg.norm(x)
    yield "d² norm = (I − uuᵀ)/‖x‖", hessian(mg.norm, x), (np.eye(5) - np.outer(u, u)) / np.linalg.norm(x)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    yield "d(AB)/dA = I ⊗ Bᵀ", jacobian(lambda z: z @ b, a).reshape(6, 12), np.kron(np.eye(3), b.T)
    yield "d(AB)/dB = A ⊗ I", jacobian(lambda z: mg.tensor(a) @ z, b).reshape(6, 8), np.kron(a, np.eye(2))
    m, v = rng.standard_normal((4, 4)) + 4 * np.eye(4), rng.standard_normal((4, 4))
    inverse, det = np.linalg.inv(m), np.linalg.det(m)
    yield "d det = det(A)·A⁻ᵀ", jacobian(mg.det, m), det * inverse.T
    yield "d² det·V = det(A)·(tr(A⁻¹V)A⁻ᵀ − (A⁻¹VA⁻¹)ᵀ)", mg.hvp(mg.det, [mg.tensor(m)], [mg.tensor(v)])[0].numpy(), \
        det * (np.trace(inverse @ v) * inverse - inverse @ v @ inverse).T
    yield "d inv·V = −A⁻¹VA⁻¹", mg.jvp(mg.inv, [mg.tensor(m)], [mg.tensor(v)])[1].numpy(), -inverse @ v @ inverse
    yield "d(A⁻¹b)/db = A⁻¹", jacobian(lambda z: mg.solve(mg.tensor(m), z), m[0]), inverse
    s = m @ m.T
    roots, vectors = np.linalg.eigh(s)
    yield "d λᵢ = vᵢvᵢᵀ", jacobian(mg.eigvalsh, s), np.einsum("ik,jk->kij", vectors, vectors)
    yield "d tr = I, through the eigenvalues", jacobian(lambda z: mg.sum(mg.eigvalsh(z)), s), np.eye(4)
    yield "cholesky(A)·cholesky(A)ᵀ = A", mg.vjp(lambda z: (lambda c: c @ c.T)(mg.cholesky(z)), [mg.tensor(s)], mg.tensor(v))[1][0].numpy(), (v + v.T) / 2
    r = np.sqrt(roots)
    divided = -1 / (np.outer(r, r) * (r[:, None] + r))
    yield "d inv_sqrtm by divided differences", mg.jvp(mg.inv_sqrtm, [mg.tensor(s)], [mg.tensor(v + v.T)])[1].numpy(), \
        vectors @ (divided * (vectors.T @ (v + v.T) @ vectors)) @ vectors.T
    yield "d lyapunov/dC = C/2 for S = I", mg.jvp(lambda z: mg.lyapunov(mg.tensor(np.eye(4)), z), [mg.tensor(m)], [mg.tensor(v)])[1].numpy(), v / 2
    yield "d transpose is a permutation", jacobian(mg.transpose, a).reshape(12, 12), np.eye(12)[np.arange(12).reshape(3, 4).T.ravel()]


@pytest.mark.parametrize("name, got, truth", [pytest.param(*form, id=form[0].replace("-", "−")) for form in closed_forms()])
def test_jacobians_and_hessians_have_their_closed_form(name, got, truth):
    """1e-12: a few roundings, times condition numbers below 100."""
    assert relative_error(got, truth) <= 1e-12


# -- at kinks and ties: the documented choice ---------------------------------------------------------------------------


@pytest.mark.parametrize("rule, f, x, expected", [
    ("max shares equally", lambda x: mg.max(x), [3, 1, 3, 3], [1 / 3, 0, 1 / 3, 1 / 3]),
    ("max shares over two axes", lambda x: mg.max(x, (0, 1)), [[2, 2], [1, 2]], [[1 / 3, 1 / 3], [0, 1 / 3]]),
    ("max shares in each row", lambda x: mg.sum(mg.max(x, 1)), [[2, 2], [1, 2]], [[0.5, 0.5], [0, 1]]),
    ("min shares equally", lambda x: mg.min(x), [0, 1, 0, 3], [0.5, 0, 0.5, 0]),
    ("maximum gives half", lambda x: mg.sum(mg.maximum(x, 1.0)), [0, 1, 2], [0, 0.5, 1]),
    ("maximum of a tensor and itself", lambda x: mg.sum(mg.maximum(x, x)), [0, 1, 2], [1, 1, 1]),
    ("minimum gives half", lambda x: mg.sum(mg.minimum(x, 1.0)), [0, 1, 2], [1, 0.5, 0]),
    ("clip passes on the edge", lambda x: mg.sum(mg.clip(x, -1, 1)), [-2, -1, 0, 1, 2], [0, 1, 1, 1, 0]),
    ("abs has 0", lambda x: mg.sum(mg.abs(x)), [-1, 0, 1], [-1, 0, 1]),
    ("relu has 0", lambda x: mg.sum(mg.relu(x)), [-1, 0, 1], [0, 0, 1]),
    ("leaky_relu has the slope", lambda x: mg.sum(mg.leaky_relu(x, 0.25)), [-1, 0, 1], [0.25, 0.25, 1]),
    ("elu has alpha", lambda x: mg.sum(mg.elu(x, 0.5)), [0, 1], [0.5, 1]),
    ("norm of zeros has 0", lambda x: mg.norm(x), [0, 0], [0, 0]),
    ("max_pool2d takes the first", lambda x: mg.sum(mg.max_pool2d(x, 2)), [[[[5, 5], [5, 5]]]], [[[[1, 0], [0, 0]]]]),
    ("max_pool2d takes the first of each window", lambda x: mg.sum(mg.max_pool2d(x, (1, 2), 1)), [[[[5, 5, 5]]]], [[[[1, 1, 0]]]]),
    ("0 to a tensor power has 0 in the exponent", lambda b: mg.sum(mg.power(mg.tensor(np.zeros(2), backend=b.backend), b)), [1, 2], [0, 0]),
    ("sort keeps the order of ties", lambda x: mg.sum(mg.sort(x) * mg.tensor(np.array([1.0, 2, 3, 4]), backend=x.backend)), [2, 1, 2, 1], [3, 1, 4, 2]),
    ("prod with zeros", lambda x: mg.prod(x, 1).sum(), [[3, 0, 2], [0, 5, 0]], [[0, 6, 0], [0, 0, 0]]),
    ("x**2 and x**1 at 0", lambda x: mg.sum(x**2 + x**1), [0, 3], [1, 7]),
], ids=lambda v: v.replace("-", "−") if isinstance(v, str) else "")
def test_at_a_kink_the_gradient_is_the_documented_one(rule, f, x, expected, backend):
    x = mg.tensor(np.array(x, float), requires_grad=True, backend=backend)
    y = f(x)
    (g,) = mg.grad(y, [x], y * 0 + 2.0)
    np.testing.assert_allclose(to_host(g), 2 * np.array(expected), rtol=1e-15)


# -- what a line keeps --------------------------------------------------------------------------------------------------

# The lesson of the tape: which values does a derivative need? A call and what its line keeps when every input requires
# grad; after a bar, when only the first does, and when only the second does.
KEPT = """
    add(a, b)                            |            |
    subtract(a, b)                       |            |
    multiply(a, b)              a b      | b          | a
    divide(a, b)                b out    | b          | b out
    maximum(a, b)               a b      | a b        | a b
    minimum(a, b)               a b      | a b        | a b
    power(c, b)                 a b out  | a b        | a out
    where(mask, a, b)           cond     | cond       | cond
    matmul(a, b.T)              a b      | b          | a
    einsum('ij,ij->ij', a, b)   a b      | b          | a
    solve(s, a)                 a out    | a out      | a
    lyapunov(s, t)              s out    | s out      | s
    conv2d(x, w)                x w      | w          | x
    concatenate([a, b])                  |            |
    stack([a, b])                        |            |
    negative(a)
    identity(a)
    square(a)                   a
    power(a, 3)                 a
    exp(a)                      out
    expm1(a)                    out
    log(c)                      a
    log1p(c)                    a
    sqrt(c)                     out
    sin(a)                      a
    cos(a)                      a
    abs(a)                      a
    tanh(a)                     out
    sigmoid(a)                  out
    relu(a)                     out
    leaky_relu(a)               out
    elu(a)                      out
    softplus(a)                 a
    clip(a, -1, 1)              a
    a + 1.0
    a * 2.0
    2.0 / c                     b out
    c / 2.0
    astype(a, 'float32')
    sum(a)
    mean(a, 0)
    cumsum(a, 1)
    sort(a)                     indices
    roll(a, 1, 0)
    tile(a, 2)
    repeat(a, 2, 1)
    vstack([a, b])                       |            |
    dot(a, b.T)                 a b      | b          | a
    max(a, 1)                   a out
    min(a)                      a out
    logsumexp(a, 1)             a
    softmax(a)                  out
    log_softmax(a)              out
    moments(a, 0)[0]            out[0] out[1] x
    broadcast_to(a, (2, 3, 3))
    sum_to(a, (3,))
    reshape(a, 9)
    transpose(a)
    swapaxes(a, 0, 1)
    moveaxis(a, 0, 1)
    expand_dims(a, 0)
    squeeze(a[:1], 0)
    flatten(a)
    flip(a)
    split(a, 3)[1]
    pad(a, 1)
    a[1:]
    a[rows]                     indices[0]
    take(a, rows)               indices[0]
    take_along_axis(a, a_rows, 1)  indices
    diagonal(a)
    trace(a)
    tril(a)
    triu(a)
    norm(a, keepdims=True)      a out
    inv(s)                      out
    cholesky(s)                 out
    det(s)                      a
    eigvalsh(s)                 a
    eigh(s)[1]                  out[0] out[1]
    inv_sqrtm(s)                a out
    max_pool2d(x, 2)            index
    avg_pool2d(x, 2)
    paired_sums(a, b, r, 0)[0]  g x mu
    combine(a, b, r, r, r, r)   g x mu a b
"""


def kept_names(source, requiring):
    """The names that the line of the op keeps, where only some of the inputs require grad."""
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal((3, 3)) for name in "abt"}
    values["c"], values["s"], values["r"] = rng.uniform(1, 2, (3, 3)), 3 * np.eye(3) + np.ones((3, 3)), rng.standard_normal((1, 3))
    values["x"], values["w"] = rng.standard_normal((2, 2, 4, 4)), rng.standard_normal((3, 2, 3, 3))
    given = {name: mg.tensor(a, requires_grad=name in requiring) for name, a in values.items()}
    constants = {"mask": mg.tensor(values["a"] > 0), "rows": mg.tensor([0, 2, 2]), "a_rows": mg.tensor([[0, 2], [1, 1], [2, 2]])}
    y = eval(source if source[1] in " [" or source[1:3] == ".0" else f"m.{source}", {"m": mg, **given, **constants})
    line = y._line
    if line.op.startswith("output"):
        line = line.inputs[0]
    return {*line.kept}


@pytest.mark.parametrize("row", KEPT.strip().splitlines())
def test_a_line_keeps_exactly_what_its_rule_names(row):
    both, *one = row.split("|")
    source, *names = both.strip().split("  ", 1)
    assert kept_names(source, "abcrstwx") == {*" ".join(names).split()}
    inputs = re.findall(r"\b[a-z]\b", source) if one else []
    for expected, name in zip(one, inputs, strict=True):
        assert kept_names(source, name) == {*expected.split()}, f"where only {name} requires grad"


# -- layouts ------------------------------------------------------------------------------------------------------------


def strided(xp, array):
    """A read-only view with negative and long strides and the values of `array`, its neighbours in memory NaN."""
    memory = np.full((2, *array.shape[::-1]), np.nan)
    memory[1] = np.flip(array.T)
    view = to_device(xp, np.moveaxis(memory, 0, -1).copy())[..., 1]
    view = xp.flip(view).T if view.ndim else view
    if xp is np:
        view.flags.writeable = False
    return view


def repeated(xp, g):
    """(a cotangent that repeats its first row with stride 0, the same values as a new array)"""
    if not g.ndim or not g.shape[0]:
        return to_device(xp, g), to_device(xp, g)
    return xp.broadcast_to(to_device(xp, g[:1].copy()), g.shape), to_device(xp, np.repeat(g[:1], len(g), 0))


@by_id(CASES)
def test_read_only_strided_inputs_and_stride_0_cotangents_give_the_same_gradients(case, backend, xp, rng):
    """Up to the order of summation: 16 ε, times the conditioning."""
    arrays = case.arrays()
    plain = [mg.tensor(a, requires_grad=True, backend=backend) for a in arrays]
    views = [mg.from_array(strided(xp, a), requires_grad=True, copy=False) for a in arrays]
    ys, zs = outputs(case.f(mg, *plain)), outputs(case.f(mg, *views))
    gs = [repeated(xp, random_cotangent(rng, y.shape, y.dtype)) for y in ys]
    expected = mg.grad(ys, plain, [mg.tensor(whole) for _, whole in gs], allow_unused=True)
    got = mg.grad(zs, views, [mg.from_array(view, copy=False) for view, _ in gs], allow_unused=True)
    for y, z in zip(ys, zs, strict=True):
        assert relative_error(z, y) <= 16 * EPS["float64"] * case.condition
    for g, e in zip(got, expected, strict=True):
        assert (g is None) == (e is None) and (e is None or relative_error(g, e) <= 16 * EPS["float64"] * case.condition)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_sigmoids_keep_their_digits(backend, dtype):
    """A probability of 2e-9 is not 0: softplus' gradient and a log-likelihood need it."""
    x = np.linspace(-80, 30, 221).astype(dtype)
    exact = np.exp(x.astype("float64")) / (1 + np.exp(x.astype("float64")))
    y = mg.sigmoid(mg.tensor(x, backend=backend)).numpy()
    np.testing.assert_allclose(y, exact, rtol=8 * np.finfo(dtype).eps)  # exp, a sum and a quotient
    a = mg.tensor(x, requires_grad=True, backend=backend)
    (g,) = mg.grad(mg.softplus(a), [a], mg.tensor(np.ones_like(x), backend=backend))
    np.testing.assert_allclose(g.numpy(), exact, rtol=8 * np.finfo(dtype).eps)
