"""Every op: values against NumPy, both orders of derivative against difference quotients, closed forms, what is kept.

The cases are in op_cases.py; a primitive without one fails the first test here. Broadcasting has a file of its own, so
have the comparison with PyTorch and the mutants, which show that these checks would notice a wrong rule.
"""

import inspect
from functools import partial

import numpy as np
import pytest
from helpers import random_cotangent, relative_error, to_host
from op_cases import CASES, CONSTANTS, PRIMITIVES

import minigrad as mg
from minigrad.check import gradcheck

EPS = {name: float(np.finfo(name).eps) for name in ("float64", "float32", "float16")}
OPS = {name: op for name, op in vars(mg.ops).items() if inspect.isfunction(op) and op.__module__.startswith("minigrad.ops.")}


def by_id(cases):
    return pytest.mark.parametrize("case", cases, ids=[c.id for c in cases])


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


def test_every_public_op_has_a_case():
    missing = sorted(set(OPS) - {case.op for case in [*CASES, *CONSTANTS]} - {"elementwise"})
    assert not missing, f"no case in tests/op_cases.py for the public ops {missing}"


def test_primitives_without_rules_are_the_ones_in_constants():
    without = {name for name, p in PRIMITIVES.items() if not p.rules and p.joint is None}
    assert without == {case.op for case in CONSTANTS if not PRIMITIVES[case.op].rules}


@by_id(CASES)
def test_the_case_runs_the_op_it_is_named_after(case):
    assert case.op in PRIMITIVES or case.op in OPS
    if case.op in PRIMITIVES:
        lines = [line for y in outputs(case.f(mg, *tensors(case.arrays(), "numpy"))) for line in mg.tape(y)]
        assert case.op in {line.op for line in lines} or case.name in ("one piece", "no axes")


# -- values -------------------------------------------------------------------------------------------------------------


WITH_DTYPE = [pytest.param(c, d, id=f"{c.id}-{d}") for c in [*CASES, *CONSTANTS] for d in EPS if c.half or d != "float16"]


@pytest.mark.parametrize("case, dtype", WITH_DTYPE)
def test_value_shape_and_dtype_are_numpys(case, dtype, backend):
    """Within 8 roundings of the result (measured: 4.8), times the case's conditioning; integers and booleans exactly."""
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


@by_id([case for case in CASES if case.order])
def test_both_derivatives_agree_with_difference_quotients(case, backend):
    elements = 32 if backend == "numpy" else 4  # elsewhere an op takes longer: one element and random directions
    report = gradcheck(partial(case.f, mg), tensors(case.arrays(), backend), order=case.order, max_elements=elements)
    assert report and max(row.error / TOLERANCE[row.order] for row in report.rows) <= 1, f"{case.id}\n{report}"


LOW = [pytest.param(c, d, id=f"{c.id}-{d}") for c in CASES for d in ("float32", "float16") if c.half or d == "float32"]


def gradients(case, arrays, gs, backend):
    """The case's first-order gradients as NumPy arrays (zeros where an input has no influence)."""
    xs = tensors(arrays, backend)
    ys = outputs(case.f(mg, *xs))
    found = mg.grad(ys, xs, [mg.tensor(g, backend=backend) for g in gs], allow_unused=True)
    return [np.zeros_like(a) if g is None else to_host(g) for a, g in zip(arrays, found, strict=True)]


@pytest.mark.parametrize("case, dtype", LOW)
def test_low_precision_gradients_agree_with_their_float64_twins(case, dtype, backend, rng):
    """Both at the same rounded inputs, so they differ by the roundings of one forward and one backward of a dozen
    operations, each of them amplified by the case's conditioning: 32 ε (measured: 11), in the norm of all gradients."""
    arrays = case.arrays(dtype)
    ys = outputs(case.f(mg, *tensors(arrays, backend, requires_grad=False)))
    gs = [random_cotangent(rng, y.shape, y.dtype) for y in ys]
    low = gradients(case, arrays, gs, backend)
    twin = gradients(case, [a.astype("float64") for a in arrays], [g.astype("float64") for g in gs], backend)
    assert [g.dtype for g in low] == [a.dtype for a in arrays]
    flat = [np.concatenate([g.ravel() for g in found]).astype("float64") for found in (low, twin)]
    assert relative_error(*flat) <= 32 * EPS[dtype] * case.condition


# -- integers, empty arrays, 0-d arrays: as NumPy, or an error that explains --------------------------------------------

I, J, B = np.array([[3, -1, 2], [0, 4, -2]]), np.array([2, 1, 3]), np.array([[True, False, True], [False, False, True]])
AS_NUMPY = """
    i + j, i - j, i * j, i * 2, -i, i ** 2, abs(i), b & (i > 0), b | b, ~b, i + b, i > j, i >= 0, i == j, i != j, i <= j,
    m.square(i), m.maximum(i, j), m.minimum(i, 1), m.where(b, i, j), m.where(b, i, 0), m.clip(i, -1, 2), m.sign(i),
    m.sum(i), m.sum(i, axis=0), m.sum(b, axis=1), m.sum(i, axis=(0, 1), keepdims=True), m.max(i, axis=1), m.min(i), m.cumsum(i, axis=1),
    m.argmax(i), m.argmax(b, axis=1), m.reshape(i, (3, 2)), m.transpose(i), i.T, m.swapaxes(b, 0, 1), m.moveaxis(i, 0, 1), m.expand_dims(i, 1),
    m.squeeze(i[:1]), m.flip(i, 0), m.concatenate([i, i], axis=1), m.stack([i, i]), m.split(i, 2)[1], m.pad(i, 1), i[0], i[:, 1], i[b], i[j[:1] - 1],
    m.take(i, j - 1, axis=1), m.take_along_axis(i, i * 0, 1), m.broadcast_to(j, (2, 3)), m.matmul(i, j), i @ i.T, m.outer(j, j),
    m.einsum("ij,j->i", i, j), m.einsum("ij->ji", i), m.diagonal(i), m.trace(i), m.tril(i), m.triu(i, 1)"""
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


EMPTY = """
    x + x, x * 2.0, -x, x / x, x ** 2, m.exp(x), m.abs(x), m.maximum(x, 0.0), m.where(x > 0, x, 0.0), m.clip(x, 0, 1), x + x[:, :1], x + x[:1],
    m.sum(x), m.sum(x, axis=0), m.sum(x, axis=1), m.sum(x, axis=1, keepdims=True), m.mean(x), m.mean(x, axis=0), m.mean(x, axis=1),
    m.var(x, axis=0), m.var(x, axis=1), m.std(x, axis=1), m.max(x), m.max(x, axis=0), m.max(x, axis=1), m.min(x, axis=0), m.min(x, axis=1),
    m.argmax(x), m.argmax(x, axis=0), m.argmax(x, axis=1), m.cumsum(x), m.cumsum(x, axis=0), m.cumsum(x, axis=1),
    m.reshape(x, (x.shape[1], x.shape[0])), m.reshape(x, (-1, 3)), m.reshape(x, (5, 5)), m.transpose(x), m.expand_dims(x, 1), m.squeeze(x), m.flip(x, 0),
    m.concatenate([x, x]), m.concatenate([x, x], axis=1), m.stack([x, x], axis=1), m.split(x, 1)[0], m.split(x, [1])[1], m.split(x, 2)[0], m.pad(x, 1),
    x[:, 1:], x[1:], x[0], x[..., None], x[x > 0], m.take(x, i0, axis=1), m.take(x, i0, axis=0), m.broadcast_to(x, (2, *x.shape)),
    m.matmul(x, x.T), m.matmul(x.T, x), m.einsum("ij,kj->ik", x, x), m.einsum("ij->j", x), m.outer(x[:, 0], x[:, 0]), m.tril(x), m.diagonal(x), m.trace(x)"""
SCALAR = """
    x + x, x * 2.0, x ** 2, m.exp(x), m.sum(x), m.mean(x), m.max(x), m.min(x), m.var(x), m.sum(x, axis=()), m.max(x, axis=1), m.argmax(x), m.cumsum(x),
    m.reshape(x, (1, 1)), m.reshape(x, ()), m.transpose(x), m.expand_dims(x, 0), m.squeeze(x), m.flip(x), m.concatenate([x, x]), m.stack([x, x]),
    m.stack([x, x], axis=-1), m.split(x, 1), m.pad(x, ()), x[()], x[...], x[None], x[0], x[x > 0], m.broadcast_to(x, (2, 3)),
    m.matmul(x, x), m.outer(x, x), m.swapaxes(x, 0, 1), m.diagonal(x), m.take(x, 0), m.where(x > 0, x, 0.0)"""
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
