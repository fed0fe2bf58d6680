"""gradcheck: every verdict, and that a check accepts no wrong rule (power) and accuses no right one (no false alarms)."""

import gc

import numpy as np
import pytest

import minigrad as mg
from minigrad.check.gradcheck import gradcheck
from minigrad.check.verdict import BASE
from minigrad.core.tensor import Line, state


def T(values, backend="numpy", dtype="float64", **kw):
    return mg.tensor(np.asarray(values), dtype=dtype, backend=backend, **kw)


def normal(rng, *shapes, dtype="float64", backend="numpy"):
    return [T(rng.standard_normal(s), backend, dtype) for s in shapes]


def verdicts(report, order=1):
    return [row.verdict for row in report.rows if row.order == order]


def batch_norm(x, gamma, beta, eps=1e-5):
    centred = x - mg.mean(x, axis=0)
    return gamma * centred / mg.sqrt(mg.mean(centred * centred, axis=0) + eps) + beta


def layer_norm(x):
    centred = x - mg.mean(x, axis=-1, keepdims=True)
    return centred / mg.sqrt(mg.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)


def network(x, w, b, u):
    return mg.matmul(mg.tanh(mg.matmul(x, w) + b), u)


# -- power: rules that are wrong in one way each; the first input's gradient is wrong ----------------------------------------

def constant(a):
    """`a` cut off the tape; raw arrays have none."""
    return a.detach() if isinstance(a, mg.Tensor) else a


def unary(name, rule):
    return mg.elementwise(a=rule)(eval(f"lambda xp, a: xp.{name}(a)"))


def product(rule):
    return mg.elementwise(a=rule, b=lambda g, a: g * a)(lambda xp, a, b: a * b)


def quotient(rule):
    return mg.elementwise(a=rule, b=lambda g, b, out: -g * out / b)(lambda xp, a, b: a / b)


def matrix_product(rule):
    return mg.primitive(a=rule, b=lambda g, a: mg.matmul(mg.transpose(a), g))(lambda xp, a, b: xp.matmul(a, b))


def rows_reduced(name, rule):
    return mg.primitive(a=rule)(eval(f"lambda xp, a: xp.{name}(a, axis=1)"))


def softmax(rule):
    def forward(xp, a):
        e = xp.exp(a - a.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    return mg.primitive(a=rule)(forward)


def normalized(rule):
    """Layer norm's x̂ with ``rule(g, x̂, 1/σ)``."""
    def statistics(a):
        return (mg.power(over_rows(mg.square(a - over_rows(a))), -0.5),)

    def backward(g, saved, a):
        return (rule(g, (a - over_rows(a)) * saved[0], saved[0]),)

    @mg.by_hand(save=statistics, backward=backward)
    def xhat(xp, a, *, saved):
        return (a - a.mean(axis=1, keepdims=True)) * saved[0]
    return xhat


def over_rows(a):
    return mg.mean(a, axis=1, keepdims=True)


def largest(rule):
    return mg.primitive(a=rule)(lambda xp, a: a.max(axis=1, keepdims=True))


A, SQUARE = [(4, 4)], [(4, 4), (4, 4)]
MUTANTS = {
    # name: (wrong function, shapes of its inputs)
    "multiply, its own operand": (product(lambda g, a: g * a), SQUARE),
    "multiply, sign": (product(lambda g, b: -g * b), SQUARE),
    "multiply, factor 2": (product(lambda g, b: 2.0 * g * b), SQUARE),
    "multiply, factor 1 + 1e-4": (product(lambda g, b: (1 + 1e-4) * g * b), SQUARE),
    "multiply, no factor": (product(lambda g: g), SQUARE),
    "multiply, transposed factor": (product(lambda g, b: g * mg.transpose(b)), SQUARE),
    "multiply, zeros": (product(lambda g: g * 0.0), SQUARE),
    "multiply, None": (product(lambda g: None), SQUARE),
    "multiply, one element wrong": (product(lambda g, b: g * b * T(1 - 1e-4 * np.eye(1, 16, 5).reshape(4, 4)).data), SQUARE),
    "divide, multiplies": (quotient(lambda g, b: g * b), SQUARE),
    "divide, sign of the denominator": (
        mg.elementwise(b=lambda g, b, out: g * out / b, a=lambda g, b: g / b)(lambda xp, b, a: a / b), SQUARE),
    "exp, nothing kept": (unary("exp", lambda g: g), A),
    "exp, of the input": (unary("exp", lambda g, a: g * a), A),
    "exp, factor 1 − 1e-4": (unary("exp", lambda g, out: (1 - 1e-4) * g * out), A),
    "tanh, no square": (unary("tanh", lambda g, out: g * (1.0 - out)), A),
    "tanh, of the input": (unary("tanh", lambda g, a: g * (1.0 - a * a)), A),
    "square, no 2": (unary("square", lambda g, a: g * a), A),
    "sin, sin": (unary("sin", lambda g, a: g * mg.sin(a)), A),
    "cos, sign": (unary("cos", lambda g, a: g * mg.sin(a)), A),
    "abs, g": (unary("absolute", lambda g: g), A),
    "sum, divides": (rows_reduced("sum", lambda g, a_shape: mg.broadcast_to(mg.expand_dims(g, 1), shape=a_shape) / 4.0), A),
    "mean, sums": (rows_reduced("mean", lambda g, a_shape: mg.broadcast_to(mg.expand_dims(g, 1), shape=a_shape)), A),
    "mean, n − 1": (rows_reduced("mean", lambda g, a_shape: mg.broadcast_to(mg.expand_dims(g, 1), shape=a_shape) / 3.0), A),
    "sum, along the other axis": (rows_reduced("sum", lambda g, a_shape: mg.broadcast_to(g, shape=a_shape)), A),
    "cumsum, not reversed": (rows_reduced("cumsum", lambda g: mg.cumsum(g, axis=1)), A),
    "matmul, not transposed": (matrix_product(lambda g, b: mg.matmul(g, b)), SQUARE),
    "matmul, wrong order": (matrix_product(lambda g, b: mg.matmul(mg.transpose(b), g)), SQUARE),
    "matmul, wrong operand": (matrix_product(lambda g, a: mg.matmul(g, mg.transpose(a))), SQUARE),
    "transpose, not back": (mg.primitive(a=lambda g: g)(lambda xp, a: a.T), A),
    "softmax, no sum": (softmax(lambda g, out: g * out), A),
    "softmax, sum of g": (softmax(lambda g, out: out * (g - mg.sum(g, axis=1, keepdims=True))), A),
    "softmax, sum along the batch": (softmax(lambda g, out: out * (g - mg.sum(g * out, axis=0, keepdims=True))), A),
    "layer norm, no mean": (normalized(lambda g, xhat, s: s * (g - xhat * over_rows(g * xhat))), A),
    "layer norm, no variance": (normalized(lambda g, xhat, s: s * (g - over_rows(g))), A),
    "layer norm, no 1/σ": (normalized(lambda g, xhat, s: g - over_rows(g) - xhat * over_rows(g * xhat)), A),
    "layer norm, last term 1 + 1e-4": (normalized(
        lambda g, xhat, s: s * (g - over_rows(g) - (1 + 1e-4) * xhat * over_rows(g * xhat))), A),
    "max, to all": (largest(lambda g, a_shape: mg.broadcast_to(g, shape=a_shape)), A),
    "max, shared": (largest(lambda g, a_shape: mg.broadcast_to(g, shape=a_shape) / 4.0), A),
}


def test_every_wrong_rule_is_called_wrong_and_only_its_own_input():
    """38 mutants at three points each; the small defects are 1000 times the tolerance."""
    caught, missed = 0, []
    for seed in range(3):
        for name, (f, shapes) in MUTANTS.items():
            xs = normal(np.random.default_rng(seed), *shapes)
            first, *others = gradcheck(f, xs, seed=seed).rows
            if first.verdict == "wrong" and all(row.verdict == "right" for row in others):
                caught += 1
            else:
                missed.append((name, seed, first))
    print(f"\npower: {caught} of {caught + len(missed)} wrong rules caught")
    assert not missed


SECOND_ORDER_MUTANTS = {
    "the output as a constant": unary("tanh", lambda g, out: g * (1.0 - constant(out) * out)),
    "the slope as a constant": unary("tanh", lambda g, out: g * constant(1.0 - out * out)),
    "the cotangent as a constant": unary("tanh", lambda g, out: constant(g) * (1.0 - out * out)),
    "1/σ as a constant": normalized(
        lambda g, xhat, s: constant(s) * (g - over_rows(g) - xhat * over_rows(g * xhat))),
    "x̂ as a constant": normalized(
        lambda g, xhat, s: s * (g - over_rows(g) - constant(xhat) * over_rows(g * xhat))),
}


@pytest.mark.parametrize("name", SECOND_ORDER_MUTANTS)
def test_a_rule_that_is_right_in_first_order_only_is_wrong_in_second(name, rng):
    report = gradcheck(SECOND_ORDER_MUTANTS[name], normal(rng, (4, 4)), order=2)
    assert verdicts(report) == ["right"] and "wrong" in verdicts(report, 2)


def test_a_first_order_gradient_that_create_graph_changes_is_wrong(rng):
    f = unary("tanh", lambda g, out: g * (1.0 - out * out) * (1.001 if isinstance(g, mg.Tensor) else 1.0))
    (x,) = normal(rng, (3,))
    assert gradcheck(f, [x])
    row = gradcheck(f, [x], order=2).rows[0]
    assert row.verdict == "wrong" and row.reason.startswith("under create_graph=True: tape = 1.001 × truth")


def test_a_rule_that_raises_only_on_tensors_is_wrong_in_second_order(rng):
    f = unary("tanh", lambda g, out: g * (1.0 - np.square(out)))
    report = gradcheck(f, normal(rng, (3,)), order=2)
    assert verdicts(report) == ["right"] and verdicts(report, 2) == ["wrong", "wrong"]
    assert "backward raised" in report.rows[-1].reason


# -- no false alarms --------------------------------------------------------------------------------------------------------

RIGHT = [
    # function, shapes of its inputs for sizes n, m
    (lambda x, w: mg.matmul(x, w), lambda n, m: [(n, m), (m, n)]),
    (network, lambda n, m: [(n, m), (m, n), (n,), (n, 2)]),
    (batch_norm, lambda n, m: [(n + 2, m), (m,), (m,)]),
    (layer_norm, lambda n, m: [(n, m + 2)]),
    (lambda x: mg.log_softmax(x), lambda n, m: [(n, m + 1)]),
    (lambda x, y: mg.logsumexp(mg.sin(x) * y, axis=0), lambda n, m: [(n, m), (m,)]),
    (lambda x, y: (x / (1.0 + y * y), mg.exp(-x)), lambda n, m: [(n, 1), (m,)]),
    (lambda x: mg.sqrt(1.0 + mg.cumsum(x * x, axis=0)), lambda n, m: [(n, m)]),
    (lambda x: mg.relu(x) + mg.abs(x) * 0.5, lambda n, m: [(n, m, 2)]),
    (lambda x, w: mg.max(mg.concatenate([x, w]), axis=1), lambda n, m: [(n, m), (m, m)]),
]


@pytest.mark.more
@pytest.mark.parametrize("order, seeds, dtype", [
    (1, 500, "float64"), (2, 60, "float64"), (1, 100, "float32"), (2, 30, "float32")])
def test_right_functions_of_random_shapes_are_never_called_wrong(order, seeds, dtype):
    """At inputs of random size and offset. Those that cannot be decided (a kink, an input without influence) are few."""
    undecided = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        f, shapes = RIGHT[seed % len(RIGHT)]
        size, offset = rng.choice([0.1, 1.0, 3.0]), rng.choice([0.0, 1.0])
        xs = [T(offset + size * rng.standard_normal(s), dtype=dtype) for s in shapes(*rng.integers(1, 5, 2))]
        report = gradcheck(f, xs, order=order, seed=seed)
        assert "wrong" not in [row.verdict for row in report.rows], f"seed {seed}\n{report}"
        undecided += not report
    print(f"\n{seeds} right functions, order {order}, {dtype}: none called wrong, {undecided} undecided")
    assert undecided <= 0.1 * seeds


# -- right, on every backend ------------------------------------------------------------------------------------------------

def test_both_orders_are_right_and_tighter_than_the_tolerance(backend, rng):
    report = gradcheck(network, normal(rng, (3, 4), (4, 5), (5,), (5, 2), backend=backend), order=2)
    assert report and [(r.name, r.order) for r in report.rows] == [
        *((n, 1) for n in "xwbu"), *((n, 2) for n in "xwbu"), ("v", 2)]
    assert all(row.error <= 1e-10 and row.bound <= 2 * BASE[row.order] for row in report.rows)


def test_a_wrong_rule_is_wrong_on_every_backend(backend, rng):
    (row,) = gradcheck(unary("exp", lambda g, out: 1.01 * g * out), normal(rng, (3, 2), backend=backend)).rows
    assert row.verdict == "wrong" and row.reason.startswith("tape = 1.01 × truth") and 0.009 < row.error < 0.011


@pytest.mark.parametrize("dtype, most", [("float32", 1e-4), ("float16", 0.25)])
def test_low_precision_is_compared_with_quotients_in_float64(backend, rng, dtype, most):
    xs = normal(rng, (3, 4), (4, 5), (5,), (5, 2), dtype=dtype, backend=backend)
    report = gradcheck(network, xs, order=2)
    assert report and not report.note
    assert all(np.finfo(dtype).eps < row.bound < most for row in report.rows)
    wrong = gradcheck(unary("tanh", lambda g, out: g * (1.0 - 2 * most - out * out)), xs[:1])
    assert verdicts(wrong) == ["wrong"]


def test_where_f_refuses_float64_the_quotients_are_in_float32(rng):
    x, c = normal(rng, (4, 3), (4, 3), dtype="float32")
    report = gradcheck(lambda x: mg.tanh(x * c), [x], order=2)
    assert report and "refuses float64" in report.note and report.note in str(report)
    assert report.rows[0].bound < 1e-3
    assert verdicts(gradcheck(lambda x: unary("tanh", lambda g, out: g * (1.05 - out * out))(x * c), [x])) == ["wrong"]


def test_outputs_may_be_a_tuple_with_integers_in_it(backend, rng):
    report = gradcheck(lambda x: (x * x, mg.argmax(x), mg.sum(x * 2.0)), normal(rng, (3, 2), backend=backend), order=2)
    assert report and [r.name for r in report.rows] == ["x", "x", "v[0]", "v[1]"]


def test_integers_and_other_values_are_constants(backend, rng):
    (x,), index = normal(rng, (5,), backend=backend), T([2, 0, 2], backend, "int64")
    report = gradcheck(lambda x, index, power: mg.take(x, index) ** power, [x, index, 3], order=2)
    assert [(r.name, r.index) for r in report.rows if r.order == 1] == [("x", 0)]
    assert verdicts(report) == ["right"]  # x[1], x[3] and x[4] have no influence, x as a whole has


def test_strided_views_are_checked_as_they_are(backend, xp, rng):
    seen = []
    base = mg.tensor(rng.standard_normal((4, 6)), backend=backend)._data
    x = mg.Tensor(base.T[::2])

    def f(x):
        seen.append(x._data.strides)
        return mg.tanh(x) * 2.0
    assert gradcheck(f, [x], order=2) and x._data.strides in seen


def test_a_0d_input_and_an_empty_input(backend):
    x, empty = T(0.7, backend), T(np.zeros((0, 3)), backend)
    report = gradcheck(lambda x, empty: mg.sin(x) + mg.sum(empty * empty), [x, empty], order=2)
    assert report
    assert [r.reason for r in report.rows if r.name == "empty"] == ["empty", "empty"]


def test_large_inputs_cost_little_and_one_wrong_element_is_found(backend, rng):
    calls, defect = [], np.ones((100, 100))

    def f(x):
        calls.append(0)
        factor = mg.tensor(defect, backend=backend).data
        return unary("sin", lambda g, a: g * mg.cos(a) * factor)(x)
    x = T(rng.standard_normal((100, 100)), backend)
    assert gradcheck(f, [x]) and len(calls) < 200
    defect[7, 7] = 1.01  # whether or not this one is among the elements that are probed
    (row,) = gradcheck(f, [x]).rows
    assert row.verdict == "wrong" and row.error < 1e-3


def test_small_and_large_elements_side_by_side_and_poles_nearby_are_resolved():
    x = T([1e-6, 2.0, 1e4, 3.0])
    for f in (mg.log, mg.sqrt, lambda x: 1.0 / x):
        assert gradcheck(f, [x], order=2)


def test_data_with_a_mean_of_1e4_is_right_in_float64(rng):
    x, gamma, beta = normal(rng, (8, 3), (3,), (3,))
    assert gradcheck(batch_norm, [T(x.numpy() + 1e4), gamma, beta], order=2)


def test_f_may_differentiate_inside(rng):
    assert gradcheck(lambda x: mg.grad(mg.sum(x ** 4), [x], create_graph=True)[0], normal(rng, (3,)), order=2)


def test_an_exactly_zero_second_derivative_is_right(rng):
    report = gradcheck(lambda x: mg.relu(x) * 3.0, normal(rng, (3, 4)), order=2)
    assert report and report.rows[1].reason.startswith("exactly zero")


# -- no power ---------------------------------------------------------------------------------------------------------------

def test_batch_norm_of_two_samples_without_eps_has_no_power(rng):
    """It returns ±1 whatever x is: a backward of zeros would pass."""
    report = gradcheck(lambda *xs: batch_norm(*xs, eps=0.0), normal(rng, (2, 3), (3,), (3,)))
    assert verdicts(report) == ["no power", "right", "right"] and not report


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_of_a_layer_that_subtracts_the_mean_has_no_power(seed):
    xs = normal(np.random.default_rng(seed), (3, 2))
    assert verdicts(gradcheck(lambda x: mg.sum(x - mg.mean(x)), xs)) == ["no power"]


@pytest.mark.more
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_bias_before_batch_norm_has_no_power(seed, dtype):
    xs = normal(np.random.default_rng(seed), (6, 2), (2,), (2,), (2,), dtype=dtype)
    assert verdicts(gradcheck(lambda x, b, gamma, beta: batch_norm(x + b, gamma, beta), xs))[1] == "no power"


def test_an_input_without_influence_has_no_power(rng):
    x, unused = normal(rng, (3,), (2,))
    assert verdicts(gradcheck(lambda x, unused: x * x, [x, unused])) == ["right", "no power"]
    assert verdicts(gradcheck(lambda x: mg.sign(x), [x])) == ["no power"]


def test_a_wrong_gradient_of_a_constant_function_is_wrong(rng):
    f = mg.primitive(a=lambda g: g)(lambda xp, a: a * 0.0)
    assert verdicts(gradcheck(f, normal(rng, (3,)))) == ["wrong"]


def test_a_seed_shared_with_the_inputs_does_not_make_the_cotangent_blind():
    """v = x̂ up to scale is orthogonal to everything a normalizer's backward returns."""
    xs = normal(np.random.default_rng(0), (6, 3), (3,), (3,))
    assert gradcheck(batch_norm, xs, seed=0) and gradcheck(batch_norm, xs, seed=0).rows[0].error < 1e-10


def test_an_f_that_is_not_deterministic_is_not_judged(rng):
    report = gradcheck(lambda x: mg.dropout(x), normal(rng, (5, 5)))
    assert verdicts(report) == ["no power"] and "not deterministic" in report.rows[0].reason


def test_an_f_that_is_not_finite_is_not_judged():
    report = gradcheck(mg.log, [T([1.0, -1.0])])
    assert verdicts(report) == ["no power"] and "not finite" in report.rows[0].reason


# -- rounding ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("f", [mg.relu, mg.abs, lambda x: mg.maximum(x, 0.0), lambda x: mg.elu(x, 2.0)])
def test_at_a_kink_the_verdict_is_rounding_and_names_the_coordinate(f):
    """maximum's half-and-half at a tie equals the central difference: right by luck, and still not "right"."""
    report = gradcheck(f, [T([[1.0, -2.0], [0.0, 3.0]])], order=2)
    assert report.rows[0].verdict == "rounding" and "at (1, 0)" in report.rows[0].reason
    assert "wrong" not in verdicts(report, 2)


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 6e-4, 3e-4, 1e-4, 1e-5])
def test_near_a_kink_a_smaller_step_decides(distance):
    for sign in (1, -1):
        assert gradcheck(mg.relu, [T([1.0, sign * distance, -2.0, 3.0])], order=2)


def test_at_the_border_of_the_domain_the_verdict_is_rounding():
    (row,) = gradcheck(mg.sqrt, [T([1.0, 0.0, 2.0])]).rows
    assert row.verdict == "rounding" and row.reason.startswith("at (1,): f is not finite")


def test_digits_lost_in_float32_alone_are_rounding():
    x = T(5.0 + 0.1 * np.random.default_rng(0).standard_normal(6), dtype="float32")
    (row,) = gradcheck(mg.tanh, [x]).rows  # 1 − out² cancels
    assert row.verdict == "rounding" and "rounding in the tape's gradient" in row.reason
    assert gradcheck(mg.tanh, [x.astype("float64")])


# -- wrong in other ways ----------------------------------------------------------------------------------------------------

def test_a_gradient_of_the_wrong_shape_or_dtype_is_wrong_with_the_engines_words(backend, rng):
    for rule in (lambda g, a: g[:1], lambda g, a: g.astype("float32")):
        (row,) = gradcheck(mg.primitive(a=rule)(lambda xp, a: a * 2.0), normal(rng, (3,), backend=backend)).rows
        assert row.verdict == "wrong" and "backward raised TapeError" in row.reason


def test_a_rule_that_raises_is_wrong(rng):
    def rule(g, a):
        raise ZeroDivisionError("by hand")
    (row,) = gradcheck(mg.primitive(a=rule)(lambda xp, a: a * 2.0), normal(rng, (3,))).rows
    assert row.verdict == "wrong" and row.reason == "backward raised ZeroDivisionError: by hand"


def test_a_nan_in_the_gradient_is_wrong_and_names_the_coordinate():
    """The classic: `where` hides the branch that is not finite, but 0 times its derivative is NaN."""
    (row,) = gradcheck(lambda x: mg.where(x > 10.0, mg.sqrt(x - 10.0), x), [T([1.0, 12.0, 3.0])]).rows
    assert row.verdict == "wrong" and "nan" in row.reason


def test_a_detached_path_is_wrong(rng):
    (row,) = gradcheck(lambda x: x * x.detach(), normal(rng, (3,))).rows
    assert row.verdict == "wrong" and row.reason.startswith("tape = 0.5 × truth")


# -- manners ----------------------------------------------------------------------------------------------------------------

def test_misuse_raises_with_the_fix(rng):
    (x,) = normal(rng, (3,))
    for call, kind in ((lambda: gradcheck(lambda i: i, [T([1, 2], dtype="int64")]), TypeError),
                       (lambda: gradcheck(lambda: x, []), TypeError),
                       (lambda: gradcheck(mg.sin, [x.numpy()]), TypeError),
                       (lambda: gradcheck(lambda x: 1.0, [x]), TypeError),
                       (lambda: gradcheck(lambda x: (x, 1.0), [x]), TypeError),
                       (lambda: gradcheck(lambda x: mg.argmax(x), [x]), TypeError),
                       (lambda: gradcheck(mg.sin, [x], order=3), ValueError)):
        with pytest.raises(kind, match=r"gradcheck: got (.|\n)*needs: (.|\n)*fix: "):
            call()


def test_errors_of_f_itself_are_not_swallowed(rng):
    with pytest.raises(ValueError, match="matmul"):
        gradcheck(lambda x: mg.matmul(x, x), normal(rng, (3, 2)))


def test_inputs_keep_their_gradients_hooks_and_values_and_no_tape_line_survives(rng):
    x = T(rng.standard_normal(4), requires_grad=True)
    x.register_hook(lambda g: pytest.fail("a hook of the caller ran"))
    before, lines = x.numpy(), count_lines()
    report = gradcheck(lambda x: mg.tanh(x) * x, [x], order=2)
    assert report and x.grad is None and x.requires_grad and (x.numpy() == before).all()
    assert count_lines() == lines


def count_lines():
    gc.collect()
    return sum(type(o) is Line for o in gc.get_objects())


def test_modules_can_tell_that_they_are_being_checked(rng):
    seen = set()

    def f(x):
        seen.add(state.checking)
        return x * x
    assert gradcheck(f, normal(rng, (3,))) and seen == {True} and not state.checking
    with pytest.raises(ValueError):
        gradcheck(lambda x: mg.matmul(x, x), normal(rng, (3, 2)))
    assert not state.checking


def test_it_works_inside_no_grad_and_with_one_bare_tensor(rng):
    (x,) = normal(rng, (3,))
    with mg.no_grad():
        assert gradcheck(mg.sin, x, order=2)


def test_the_same_seed_gives_the_same_report(rng):
    xs = normal(rng, (3, 40), (40, 5))
    assert gradcheck(mg.matmul, xs, seed=3) == gradcheck(mg.matmul, xs, seed=3) != gradcheck(mg.matmul, xs, seed=4)


def test_a_given_tolerance_is_used(rng):
    f = unary("exp", lambda g, out: (1 + 1e-4) * g * out)
    xs = normal(rng, (3,))
    assert not gradcheck(f, xs) and gradcheck(f, xs, tolerance=1e-3)


def test_the_report_prints_as_a_table(rng):
    report = gradcheck(lambda x, w: unary("exp", lambda g, out: -g * out)(x) * w, normal(rng, (3,), (3,)))
    head, titles, x, w = str(report).splitlines()
    assert head == "gradcheck: NOT right"
    assert titles.split() == ["input", "shape", "order", "error", "bound", "verdict"]
    assert x.split()[:6] == ["x", "(3,)", "1", "2.0e+00", "1.0e-07", "wrong"] and "tape = -1 × truth" in x
    assert w.split()[:3] == ["w", "(3,)", "1"] and w.split()[-1] == "right"
