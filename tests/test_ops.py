"""Every op: values against NumPy, both orders of derivative against difference quotients, closed forms, what is kept.

The cases are in op_cases.py; a primitive without one fails the first test here. Broadcasting has a file of its own, so
have the comparison with PyTorch and the mutants, which show that these checks would notice a wrong rule.
"""

import inspect
from functools import partial

import numpy as np
import pytest
from helpers import random_cotangent, relative_error, to_device, to_host
from op_cases import CASES, CONSTANTS, PRIMITIVES, SAME

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
    report = gradcheck(partial(case.f, mg), tensors(case.arrays(), backend), order=case.order)
    assert report and max(row.error / TOLERANCE[row.order] for row in report.rows) <= 1, f"{case.id}\n{report}"
