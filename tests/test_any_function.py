"""Any function can be derived, line by line: what its arguments and outputs may be, and which names lead to the right ones."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import derivation
from minigrad.derivation import TaskError, check
from minigrad.derivation.names import absent, meant
from minigrad.derivation.probe import Probe

X = np.zeros((4, 3))
WEIGHTS = np.array([1.0, 0.5, 2.0])


def named(name, value):
    return mg.named(name, value)


def judged(forward, lines, inputs, **options):
    """One line after the other, of the checker's report."""
    return [(line.line, line.verdict, line.code) for line in check(forward, lines, inputs=inputs, **options).lines]


# -- arguments ----------------------------------------------------------------------------------------------------------------


def scaled(x, *, weights, eps):
    ms = named("ms", mg.mean(x * x, 0, keepdims=True))
    return named("y", named("z", x * weights) / mg.sqrt(ms + eps))


@pytest.mark.parametrize("kind", ["array", "tensor", "integers", "booleans"])
def test_array_keywords(kind, backend):
    """As numbers, as eps, on any backend; wrong lines beside right ones, with an edit of the line as the last resort of the diagnosis."""
    given = {"array": WEIGHTS, "tensor": mg.tensor(WEIGHTS, backend=backend), "integers": np.array([1, 3, 2]), "booleans": np.array([True, False, True])}[kind]
    given = mg.backend.from_numpy(given, backend) if isinstance(given, np.ndarray) else given
    lines = {"d_z": lambda d_y, ms, eps: d_y / np.sqrt(ms + eps), "d_x": lambda d_z, d_ms, weights, x: d_z * weights + 2 * d_ms * x / len(x)}
    options = {"keywords": {"weights": given, "eps": np.array([0.1, 0.2, 0.3])}}
    inputs = {"x": mg.backend.from_numpy(X, backend)}
    assert check(scaled, lines, inputs=inputs, **options)
    wrong = {"d_z": lambda d_y, ms: d_y / np.sqrt(ms), "d_x": lambda d_z, d_ms, weights, x: d_z * weights + 2 * d_ms * x}
    assert judged(scaled, wrong, inputs, **options) == [("d_z", "wrong", "epsilon misplaced"), ("d_x", "wrong", "sum for mean")]


def chosen(x, labels, kept):
    p = named("p", mg.take_along_axis(x, labels[:, None], 1))
    return named("loss", mg.mean(mg.where(kept[:, None], p * p, 0.0)))


CHOSEN = {"x": X, "labels": np.array([0, 2, 1, 1]), "kept": np.array([True, True, False, True])}


@pytest.mark.parametrize(("line", "code"), [
    (lambda d_loss, p, kept: d_loss * kept[:, None] * 2 * p / len(p), None),
    (lambda d_loss, p, kept: d_loss * kept[:, None] * 2 * p, "sum for mean"),
    (lambda d_loss, p: d_loss * 2 * p / len(p), "missing operand")])
def test_integers_and_booleans_beside_a_scalar_output(line, code):
    assert judged(chosen, {"d_p": line}, CHOSEN) == [("d_p", "wrong" if code else "right", code)]


def test_integers_and_booleans_are_no_variables():
    with pytest.raises(TaskError, match="d_labels, but labels holds int64"):
        check(chosen, {"d_labels": lambda d_loss: d_loss}, inputs=CHOSEN)
    with pytest.raises(TaskError, match=r"inputs without floats: x holds int64\n.*\n.*astype"):
        check(lambda x: x * x, {"d_x": lambda d_y: d_y}, inputs={"x": [1, 2, 3]})


@pytest.mark.parametrize(("forward", "right", "x", "inside"), [
    (mg.sqrt, lambda d_y, x: d_y / (2 * np.sqrt(x)), [0.01, 1.0, 9.0], lambda x: x > 0),
    (mg.log, lambda d_y, x: d_y / x, [0.01, 1.0, 9.0], lambda x: x > 0),
    (lambda x: mg.sqrt(1 - x * x), lambda d_y, x: -d_y * x / np.sqrt(1 - x * x), [-0.9, 0.3, 0.5], lambda x: np.abs(x) < 1)])
def test_own_inputs_are_used_as_given_and_keep_their_domain(forward, right, x, inside):
    """Only the checker's rounding may move them: by 3 %, and only where a line is doubtful in float32."""
    seen = []

    def watched(x):
        seen.append(np.array(x.numpy()))
        return named("y", forward(x))
    assert check(watched, {"d_x": right}, inputs={"x": np.array(x)}, seed=3)
    assert any(np.array_equal(a, x) for a in seen) and all(inside(a).all() for a in seen) and len({a.shape for a in seen}) > 1


def test_scalar_inputs_and_inputs_in_another_order():
    assert check(lambda a, x: named("y", a * x), {"d_a": lambda d_y, x: np.sum(d_y * x)}, inputs={"a": 2.0, "x": np.zeros(3)})
    assert check(lambda x, w: named("y", x @ w), {"d_x": lambda d_y, w: d_y @ w.T}, inputs={"w": np.zeros((3, 2)), "x": X})


def test_a_truth_that_is_nan_is_the_tasks_fault():
    with pytest.raises(TaskError, match="value y is NaN"):
        check(lambda x: named("y", mg.log(x)), {"d_x": lambda d_y, x: d_y / x}, inputs={"x": np.array([-1.0, 2.0])})
    with pytest.raises(TaskError, match="derivative d_x is NaN"):
        check(lambda x: named("y", x * mg.sqrt(x * x)), {"d_x": lambda d_y, x: 2 * d_y * x}, inputs={"x": np.array([0.0, 2.0])})
    with pytest.raises(TaskError, match="derivative d_x is Inf"):
        check(lambda x: named("y", mg.sqrt(x)), {"d_x": lambda d_y, x: d_y / x}, inputs={"x": np.array([0.0, 2.0])})


# -- outputs ------------------------------------------------------------------------------------------------------------------


def pair(x):
    return named("a", x * x), mg.sum(x, 1)


def dictionary(x):
    return {"a": x * x, "y2": mg.sum(x, 1), "count": mg.tensor(3.0), "index": np.arange(3)}


@pytest.mark.parametrize("forward", [pair, dictionary])
def test_several_outputs(forward):
    assert judged(forward, {"d_x": lambda d_a, d_y2, x: 2 * d_a * x + d_y2[:, None]}, {"x": X}) == [("d_x", "right", None)]
    assert judged(forward, {"d_x": lambda d_a, x: 2 * d_a * x}, {"x": X}) == [("d_x", "wrong", "missing path")]


def test_an_output_on_the_way_to_another_one():
    def cell(x):
        h = named("h", mg.tanh(x))
        return h, named("y", h * h)
    assert judged(cell, {"d_h": lambda d_y, d_h_out, h: d_h_out + 2 * d_y * h, "d_x": lambda d_h, h: d_h * (1 - h * h)}, {"x": X}) \
        == [("d_h", "right", None), ("d_x", "right", None)]
    assert judged(cell, {"d_h": lambda d_y, h: 2 * d_y * h}, {"x": X}) == [("d_h", "wrong", "missing path")]


def test_an_output_that_depends_on_nothing_is_no_output():
    with pytest.raises(TypeError, match="Tensors that depend on its arguments"):
        check(lambda x: (mg.tensor(1.0), 3), {"d_x": lambda d_y: d_y}, inputs={"x": X})


def test_lines_for_one_value_in_several_ways():
    """The longest name of a value that fits: xc, not x."""
    def centred(x):
        xc = named("xc", x - mg.mean(x, 0, keepdims=True))
        return named("y", xc * xc)
    lines = {"d_xc": lambda d_y, xc: 2 * d_y * xc, "d_xc_2": lambda d_y, xc: d_y * xc, "d_x_one_line": lambda d_y, xc: 2 * (d_y * xc - (d_y * xc).mean(0))}
    assert judged(centred, lines, {"x": X}) == [("d_xc", "right", None), ("d_xc_2", "wrong", "factor"), ("d_x_one_line", "right", None)]
    long = {"d_x_c_2": lambda d_y, x_c: 3 * d_y * x_c**2}
    assert judged(lambda x: named("y", named("x_c", x + 1) ** 3), long, {"x": X}) == [("d_x_c_2", "right", None)]
    with pytest.raises(TaskError, match="no value called nothing_at_all"):
        check(centred, {"d_nothing_at_all": lambda d_y: d_y}, inputs={"x": X})


# -- names --------------------------------------------------------------------------------------------------------------------

HOMEWORK = derivation.load_task("02_batch_norm")


@pytest.fixture(scope="module")
def probe():
    rng = np.random.default_rng(0)
    return Probe(HOMEWORK, next(iter(HOMEWORK.cases(rng, "float64"))), rng)


@pytest.mark.parametrize(("name", "here"), [
    ("dout", "d_y"), ("dy", "d_y"), ("grad_output", "d_y"), ("d_out", "d_y"), ("dx", "d_x"), ("dL_dx", "d_x"), ("grad_x", "d_x"), ("dX", "d_x"),
    ("dxhat", "d_xhat"), ("dx_hat", "d_xhat"), ("d_x_norm", "d_xhat"), ("dmean", "d_mu"), ("dvar", "d_var"), ("dmu", "d_mu"), ("xhat_bar", "d_xhat"),
    ("N", "m"), ("n", "m"), ("batch_size", "m"), ("x_norm", "xhat"), ("xmu", "xc"), ("inv_std", "rstd"), ("sample_mean", "mu"), ("epsilon", "eps"),
    ("weight", "gamma"), ("out", "y")])
def test_names_of_elsewhere_lead_to_those_of_here(name, here, probe):
    known = [*probe.values, *probe.keywords, *probe.given, *(f"d_{n}" for n in probe.adjoints)]
    assert meant(name, probe, known) == f"; here it is called '{here}'"


@pytest.mark.parametrize(("name", "says"), [("D", "; take it from a shape, x.shape[1]"), ("cache", "; there is no cache: write each value"),
                                            ("gama", "; did you mean 'gamma'?"), ("qqqq", "")])
def test_what_has_no_name_here(name, says, probe):
    found = meant(name, probe, [*probe.values, *probe.keywords, *probe.given])
    assert found.startswith(says) if says else not found


@pytest.mark.parametrize(("line", "functions", "says"), [
    ("d_x", {"batchnorm_backward": ["dout", "cache"]}, "; your file has batchnorm_backward(dout, cache): each line of the derivation is a function"),
    ("d_x", {"dx": ["dout"], "helper": []}, "; your file has dx: call it d_x"), ("d_mu", {"dmean": []}, "; your file has dmean: call it d_mu"),
    ("d_x", {"d_xx": [], "helper": []}, "; did you mean 'd_xx'?"), ("d_x", {"d_gamma": [], "helper": []}, ""), ("d_x", {}, ""), ("d_x", {"_own": []}, "")])
def test_a_line_that_is_absent_is_looked_for_among_the_other_functions(line, functions, says):
    found = absent(line, functions)
    assert found.startswith(f"there is no function {line}{says}") and (says or found == f"there is no function {line}")


@pytest.mark.parametrize(("text", "status", "says"), [
    ("from numpy import *\ndef batchnorm_backward(dout, cache):\n    return dout\n", "ok", "your file has batchnorm_backward(dout, cache)"),
    ("import numpy as np\nfrom numpy import mean\n", "blank", "there is no function d_beta"),
    ("def d_beta(d_y):\n    raise NotImplementedError\n", "blank", "d_beta is not written yet"),
    ("def d_beta(dout):\n    return dout.sum(0)\n", "ok", "there is nothing called 'dout'; here it is called 'd_y'")])
def test_a_file_with_other_functions_is_not_blank(text, status, says, tmp_path):
    file = tmp_path / "lines.py"
    file.write_text(text, "utf-8")
    report = check(HOMEWORK, str(file))
    assert report.status == status and says in report.lines[0].message
