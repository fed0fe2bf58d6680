"""docs/conventions.md, line by line; and the same choices in second order, on more values, and in modules."""

import re
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from helpers import to_host
from minigrad import nn, optim

PAGE = (Path(__file__).parents[1] / "docs" / "conventions.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \| `(.+?)` \|", PAGE, re.MULTILINE)
NAMES = {"inf": np.inf, "nan": np.nan}

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy says so where it makes an infinity or NaN


def variable(values, backend):
    return mg.tensor(np.array(values, float), requires_grad=True, backend=backend)


def pulled(y, x, rng):
    """(the gradient, the cotangent spread over x): y is elementwise in x, has one element, or one for each row."""
    c = rng.uniform(1, 2, y.shape)
    (g,) = mg.grad(y, [x], mg.tensor(c, backend=y.backend))
    spread = c if c.shape == x.shape else c.reshape(-1, *(1,) * (x.ndim - 1)) if y.ndim == 1 and y.size > 1 else c.item()
    return to_host(g), spread


def test_the_page_has_rows():
    assert len(ROWS) >= 45


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} at {row[1]}".replace("-", "−").replace("[", "(").replace("]", ")"))
def test_the_row_is_true(row, backend, rng):
    expression, at, value, gradient = row
    ops = {name: getattr(mg, name) for name in mg.ops.__dict__ if not name.startswith("_") and hasattr(mg, name)}
    x = variable(eval(at, NAMES), backend)
    tensor = lambda values: mg.tensor(np.array(values), backend=backend)
    y = eval(expression, {**ops, **NAMES, "tensor": tensor, "x": x})
    np.testing.assert_allclose(to_host(y), np.array(eval(value, NAMES), float), rtol=1e-12)
    g, spread = pulled(y, x, rng)
    np.testing.assert_allclose(g, np.array(eval(gradient, NAMES), float) * spread, rtol=1e-12)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} at {row[1]}".replace("-", "−").replace("[", "(").replace("]", ")"))
def test_a_gradient_is_linear_in_its_cotangent_at_these_points_too(row, backend, rng):
    """⟨w, gradient⟩ has the derivative w·slope in the cotangent: finite wherever the slope is (at a NaN, nothing is promised)."""
    expression, at, _, gradient = row
    ops = {name: getattr(mg, name) for name in mg.ops.__dict__ if not name.startswith("_") and hasattr(mg, name)}
    x, slope = variable(eval(at, NAMES), backend), np.array(eval(gradient, NAMES), float)
    y = eval(expression, {**ops, **NAMES, "tensor": lambda values: mg.tensor(np.array(values), backend=backend), "x": x})
    if y.shape != x.shape or slope.shape != x.shape or y.size == 1 or not y.requires_grad:
        return
    c = variable(rng.uniform(1, 2, y.shape), backend)
    (g,) = mg.grad(y, [x], c, create_graph=True)
    if not g.requires_grad:
        return
    w = rng.uniform(1, 2, g.shape)
    (dc,) = mg.grad(g, [c], mg.tensor(w, backend=backend), allow_unused=True)
    finite = np.isfinite(slope) & ~np.isnan(to_host(x))
    np.testing.assert_allclose((np.zeros(x.shape) if dc is None else to_host(dc))[finite], (w * slope)[finite], rtol=1e-12)


# -- in second order, and for derivatives at 0 everywhere -------------------------------------------------------------------


def second(f, x, backend):
    """The gradient of ⟨w, first gradient⟩ in x, with random w; zeros where the first is a constant."""
    rng = np.random.default_rng(3)
    x = variable(x, backend)
    y = f(x)
    (g,) = mg.grad(y, [x], mg.tensor(rng.standard_normal(y.shape), backend=backend), create_graph=True)
    if not g.requires_grad:
        return np.zeros(x.shape)
    (h,) = mg.grad(g, [x], mg.tensor(rng.standard_normal(g.shape), backend=backend), allow_unused=True)
    return np.zeros(x.shape) if h is None else to_host(h)


@pytest.mark.parametrize("name, f, x", [
    ("norm", mg.norm, [0.0, 0.0]), ("norm of rows", lambda x: mg.norm(x, axis=1), [[0.0, 0.0], [0.0, 0.0]]),
    ("std", mg.std, [3.0, 3.0, 3.0]), ("std of rows", lambda x: mg.std(x, 1, ddof=1, keepdims=True), [[2.0, 2.0], [-1.0, -1.0]]),
    ("std through a function", lambda x: mg.exp(mg.std(x)), [0.0, 0.0]),
    ("x**0", lambda x: x**0, [0.0, np.inf, np.nan]), ("x**0.0", lambda x: mg.power(x, 0.0), [0.0, np.inf, np.nan]),
    ("base at 0⁰", lambda x: mg.power(x, mg.tensor(np.zeros(2), backend=x.backend)), [0.0, np.nan]),
    ("exponent at 0⁰", lambda b: mg.power(mg.tensor(np.zeros(3), backend=b.backend), b), [0.0, 2.0, 1.0]),
    ("number to the exponent at 0⁰", lambda b: 0.0**b, [0.0, 2.0, 1.0]),
], ids=lambda v: v if isinstance(v, str) else "")
def test_the_second_derivative_is_0_there_too(name, f, x, backend):
    np.testing.assert_array_equal(second(f, x, backend), np.zeros_like(x))


def test_powers_with_exponent_0_among_others_have_their_true_mixed_derivative(backend):
    """d²(aᵇ)/da db = aᵇ⁻¹(1 + b log a) is 1/a at b = 0: the choice at 0⁰ must not reach there."""
    a, b = variable([0.5, 2.0, 3.0], backend), variable([0.0, 0.0, 1.0], backend)
    (da,) = mg.grad(mg.power(a, b), [a], mg.tensor(np.array([1.0, 2.0, 4.0]), backend=backend), create_graph=True)
    (dadb,) = mg.grad(da, [b], mg.tensor(np.array([3.0, 1.0, 0.5]), backend=backend))
    np.testing.assert_allclose(to_host(dadb), [3.0 / 0.5, 2.0 / 2.0, 2.0 * (1 + np.log(3.0))], rtol=1e-14)


def test_an_infinite_cotangent_does_not_make_nan_of_a_derivative_that_is_0(backend):
    for f in (lambda x: x**0, mg.norm, mg.std, lambda x: mg.relu(x - 1.0), lambda x: mg.dropout(x, 1.0), lambda x: mg.clip(x, 1, 2)):
        x = variable([0.0, 0.0], backend)
        y = f(x)
        (g,) = mg.grad(y, [x], mg.tensor(np.full(y.shape, np.inf), backend=backend))
        np.testing.assert_array_equal(to_host(g), [0, 0])


# -- one NaN stays where it is ------------------------------------------------------------------------------------------------


def windows_of(size, parts):
    return [range(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("size, parts", [((5, 7), (3, 2)), ((4, 6), (3, 4)), ((3, 3), (2, 5)), ((4, 6), (2, 3)), ((7, 1), (3, 1))])
def test_adaptive_pooling_is_not_finite_in_the_windows_with_such_a_value_and_in_no_others(size, parts, value, backend, rng):
    array, (i, j) = rng.standard_normal((1, 2, *size)), (size[0] // 2, size[1] - 1)
    array[0, 1, i, j] = value
    x = variable(array, backend)
    y = mg.adaptive_avg_pool2d(x, parts)
    touched = np.zeros(y.shape, bool)
    touched[0, 1] = [[i in rows and j in columns for columns in windows_of(size[1], parts[1])] for rows in windows_of(size[0], parts[0])]
    np.testing.assert_array_equal(np.isfinite(to_host(y)), ~touched)
    c = rng.standard_normal(y.shape)
    c[0, 0, -1, 0] = value  # and backward: only what the window has read
    (g,) = mg.grad(y, [x], mg.tensor(c, backend=backend))
    reached = np.zeros(x.shape, bool)
    reached[0, 0, windows_of(size[0], parts[0])[-1].start:, windows_of(size[1], parts[1])[0]] = True
    np.testing.assert_array_equal(np.isfinite(to_host(g)), ~reached)


@pytest.mark.parametrize("pool", [lambda x: mg.avg_pool2d(x, 2, 1), lambda x: mg.avg_pool2d(x, 3, 2, 1), lambda x: mg.max_pool2d(x, 3, 2, 1)])
def test_other_pools_keep_a_nan_in_its_windows_too(pool, backend, rng):
    array = rng.standard_normal((1, 1, 6, 6))
    array[0, 0, 2, 3] = np.nan
    y = to_host(pool(variable(array, backend)))
    clean = to_host(pool(variable(np.nan_to_num(array), backend)))
    other = to_host(pool(variable(np.nan_to_num(array, nan=9.0), backend)))
    np.testing.assert_array_equal(np.isnan(y), clean != other)


def test_dropout_takes_infinities_away_and_keeps_the_scale(backend):
    array = np.full(2000, 3.0)
    array[::2] = np.inf
    mg.seed(1)
    x = variable(array, backend)
    y = mg.dropout(x, 0.5)
    dropped = to_host(y) == 0
    assert 800 < dropped.sum() < 1200 and dropped[::2].any()
    np.testing.assert_array_equal(to_host(y)[~dropped], 2 * array[~dropped])
    c = np.where(dropped, np.inf, 1.5)  # what comes back for a dropped element is not multiplied by 0 either
    np.testing.assert_array_equal(to_host(mg.grad(y, [x], mg.tensor(c, backend=backend))[0]), np.where(dropped, 0, 3.0))


@pytest.mark.parametrize("make", [lambda ps: optim.SGD(ps, lr=0.1), lambda ps: optim.Adam(ps)])
def test_zero_grad_writes_zeros_over_nan_and_infinity(make, backend):
    p, untouched = (nn.Parameter(mg.tensor(np.ones(3, "float32"), backend=backend)) for _ in range(2))
    optimizer = make([p, untouched])
    p.grad = mg.tensor(np.array([np.nan, np.inf, 1], "float32"), backend=backend)
    before = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.dtype == np.float32 and p.grad.backend == backend and untouched.grad is None
    np.testing.assert_array_equal(to_host(p.grad), np.zeros(3))
    np.testing.assert_array_equal(to_host(before), np.array([np.nan, np.inf, 1]))  # whoever holds the old one keeps it
    optimizer.zero_grad()
    assert p.grad is None


def test_a_modules_zero_grad_writes_zeros_too(backend):
    model = nn.Linear(2, 3).to(backend)
    model.weight.grad = mg.tensor(np.full((3, 2), np.nan, "float32"), backend=backend)
    model.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(to_host(model.weight.grad), np.zeros((3, 2)))
    assert model.bias.grad is None
