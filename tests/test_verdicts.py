"""The rules of verdicts: what counts is the value; rounding has a bound; nobody is blamed for what is the task's, or the machine's."""

import ast
import contextlib
import inspect
import textwrap
from pathlib import Path

import numpy as np
import pytest

import layers
import minigrad as mg
from minigrad import derivation
from minigrad.derivation import Limits, LineSpec, Task, TaskError, diagnose, inputs, repair

ROOT = Path(__file__).resolve().parents[1]
HOMEWORK = ROOT / "lectures" / "homework"
HOMEWORKS = sorted(p.parent.name for p in HOMEWORK.glob("*/task.py"))


def forward(x, gamma, beta, *, eps):
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))
    xc = mg.named("xc", x - mu)
    var = mg.named("var", mg.mean(xc * xc, 0, keepdims=True))
    rstd = mg.named("rstd", 1.0 / mg.sqrt(var + eps))
    xhat = mg.named("xhat", xc * rstd)
    y = mg.named("y", xhat * gamma + beta)
    z = mg.named("z", mg.leaky_relu(y, 0.25))
    return mg.named("loss", mg.sum(z * z))


def cases(rng, dtype):
    for m, c in ((7, 3), (11, 4), (5, 6)):
        yield {"x": rng.normal(0.7, 1.3, (m, c)), "gamma": rng.uniform(0.5, 2.0, c), "beta": rng.normal(size=c)}, {"eps": 0.1}


TASK = Task("toy", forward, cases, {"d_z": 1, "d_y": 2, "d_gamma": 1, "d_xhat": 1, "d_var": LineSpec(points=2, adjoints=("xhat",)),
                                    "d_x": LineSpec(points=2, adjoints=("xhat", "var", "mu"))}, given={"m": lambda values: len(values["x"])})


def judge(code, line, task=TASK, **options):
    names = {"np": np}
    exec(textwrap.dedent(code), names)
    return derivation.check(task, names, lines=[line], **options).lines[0]


def in_a_file(tmp_path, text, name="lines.py", **options):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return derivation.check(TASK, str(file), **options)


def accepted(found, verdict="right"):
    return found.verdict == verdict and found.earned == found.points > 0


# -- dtypes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "code"), [
    ("d_y", "def d_y(d_z, y): return d_z * np.where(y > 0, 1, 0.25)"),
    ("d_y", "def d_y(d_z, y):\n  s = np.ones(y.shape)\n  s[y <= 0] = 0.25\n  return s * d_z"),
    ("d_y", "def d_y(d_z, y): return (d_z * np.where(y > 0, 1, 0.25)).astype(np.float64)"),
    ("d_gamma", "def d_gamma(d_y, xhat):\n  total = np.zeros(xhat.shape[1])\n  for i in range(len(xhat)): total = total + d_y[i] * xhat[i]\n  return total"),
    ("d_gamma", "def d_gamma(d_y, xhat): return np.diag(d_y.T @ np.eye(len(xhat)) @ xhat)"),
    ("d_gamma", "def d_gamma(d_y, xhat): return np.array([float(sum(d_y[:, j] * xhat[:, j])) for j in range(xhat.shape[1])])"),
    ("d_xhat", "def d_xhat(d_y, gamma): return d_y * np.array(gamma.tolist())"),
    ("d_var", "def d_var(d_xhat, xc, var, eps): return np.sum(d_xhat * xc, axis=0, keepdims=True) * -0.5 * np.power(var + eps, -1.5, dtype='float64')"),
    ("d_xhat", "def d_xhat(d_y, gamma): return np.longdouble(1) * d_y * gamma"),
])
def test_a_right_value_in_another_dtype_is_right_and_remarked_upon(line, code):
    found = judge(code, line)
    assert accepted(found), str(found)
    assert "for float32 arguments" in found.message or "float64 arguments" in found.message
    assert found.message in str(derivation.Report("t", None, 0, [found]))


@pytest.mark.more
@pytest.mark.parametrize("homework", HOMEWORKS)
def test_every_solution_is_right_in_float64(homework, tmp_path):
    wrap = ("\n\nimport functools\n\n\ndef _wide(f):\n    return functools.wraps(f)(lambda **given: np.asarray(f(**given), 'float64'))\n\n\n"
            "globals().update({n: _wide(f) for n, f in list(globals().items()) if n.startswith('d_')})\n")
    file = tmp_path / "lines.py"
    file.write_text((HOMEWORK / homework / "lines.py").read_text("utf-8") + wrap, "utf-8")
    task = derivation.load_task(HOMEWORK / homework)
    found = derivation.check(task, str(file), seed=3)
    if task.measured:  # counts, which have no dtype to speak of
        assert found and all(x.verdict == "right" for x in found.lines), str(found)
        return
    assert found and all("it returns float64 for float32 arguments" in x.message for x in found.lines), str(found)


@pytest.mark.more
@pytest.mark.parametrize("number", ["float(2 * np.sum(z * d_loss))", "2 * np.float64(np.sum(z * d_loss))", "np.array(2 * np.sum(z * d_loss))",
                                    "2.0 * float(d_loss) * z.sum().item()"])
def test_a_number_is_an_array_without_axes(number):
    task = Task("number", lambda x: mg.named("loss", mg.sum(mg.named("z", x * mg.named("t", mg.sum(x))) * 1.0)),
                lambda rng, dtype: (({"x": rng.normal(1.0, 1.0, n)}, {}) for n in (3, 4, 5)), {"d_t": 1})
    assert accepted(judge(f"def d_t(d_loss, x):\n  z = x / 2\n  return {number}", "d_t", task))
    assert judge(f"def d_t(d_loss, x):\n  z = x / 2\n  return np.array([{number}])", "d_t", task).verdict == "wrong shape"
    assert judge(f"def d_t(d_loss, x):\n  z = x\n  return {number}", "d_t", task).code == "counted twice"


def test_a_result_with_fewer_digits_is_rounding_as_long_as_it_has_those_of_float32():
    assert accepted(judge("def d_xhat(d_y, gamma): return (d_y * gamma).astype('float32')", "d_xhat"), "rounding")
    assert accepted(judge("def d_xhat(d_y, gamma): return d_y.astype('float32') * gamma.astype('float32')", "d_xhat"), "rounding")
    assert judge("def d_xhat(d_y, gamma): return (d_y * gamma).astype('float16')", "d_xhat").earned == 0
    assert judge("def d_xhat(d_y, gamma): return (1.01 * d_y * gamma).astype('float32')", "d_xhat").earned == 0


@pytest.mark.parametrize(("body", "words"), [("d_y * gamma + 0j", "complex128"), ("(d_y * gamma).tolist()", "a list"),
                                             ("(d_y * gamma).astype(object)", "object")])
def test_what_is_no_array_of_real_numbers_is_named(body, words):
    found = judge(f"def d_xhat(d_y, gamma): return {body}", "d_xhat")
    assert found.verdict == "error" and words in found.message


# -- arguments with defaults -------------------------------------------------------------------------------------------

D_VAR = "return np.sum(d_xhat * xc, axis={axis}, keepdims=True) * -0.5 * (var + eps) ** -1.5"


@pytest.mark.parametrize("arguments", ["d_xhat, xc, var, eps=1e-5", "d_xhat, xc, var, *, eps=1e-5", "d_xhat=None, xc=None, var=None, eps=0.0",
                                       "d_xhat, xc, var, eps=1e-5, axis=0, verbose=False"])
def test_a_default_gives_way_to_what_the_task_has(arguments):
    body = D_VAR.format(axis="axis" if "axis=0" in arguments else 0)
    assert accepted(judge(f"def d_var({arguments}): {body}", "d_var"))


def test_a_wrong_line_with_a_default_is_explained_by_what_is_wrong(tmp_path):
    text = ("import numpy as np\n\n\ndef d_var(d_xhat, xc, var, eps=1e-5, axis=0):\n"
            "    return np.sum(d_xhat * xc, axis=axis, keepdims=True) * -0.5 * var ** -1.5\n")
    found = in_a_file(tmp_path, text, lines=["d_var"]).lines[0]
    assert (found.verdict, found.code) == ("wrong", "epsilon misplaced")
    found = judge("def d_gamma(d_y, xhat, m=1): return np.sum(d_y * xhat, axis=0) / m", "d_gamma")
    assert found.code == "mean for sum" and "divided by m" in found.message


@pytest.mark.parametrize("homework", HOMEWORKS)
def test_no_edit_puts_a_thing_in_its_own_place(homework):
    task = derivation.load_task(HOMEWORK / homework)
    probe = derivation.judge._probes(task, np.random.default_rng(0)).__next__()
    tree = ast.parse((HOMEWORK / homework / "lines.py").read_text("utf-8"))
    for function in (n for n in tree.body if isinstance(n, ast.FunctionDef)):
        edits = repair._edits(function, probe)
        assert edits and not [ast.unparse(new) for _, node, new in edits if ast.unparse(new) == ast.unparse(node)]


def test_a_line_that_is_right_needs_no_edit(tmp_path):
    file = tmp_path / "lines.py"
    file.write_text("import numpy as np\n\n\ndef d_gamma(d_y, xhat):\n    return np.sum(d_y * xhat, axis=0)\n")
    probes = list(derivation.judge._probes(TASK, np.random.default_rng(0)))
    with contextlib.closing(derivation.runner.FileRunner(str(file), Limits())) as lines:
        submission = derivation.attempt.Attempt(lines, TASK, probes)
        assert repair.repair(submission, "d_gamma", probes[:2], [1.0, 1.0]) is None


# -- keywords and inputs -----------------------------------------------------------------------------------------------

ARRAY_KEYWORDS = [(name, case) for name, layer in layers.REGISTRY.items() for case, _, keywords in layer.cases("float64", np.random.default_rng(0))
                  if any(isinstance(v, (np.ndarray, mg.Tensor)) for v in keywords.values())]


def names_of(layer):
    code = inspect.unwrap(layer.composed).__code__
    return code.co_varnames[:code.co_argcount]


@pytest.mark.more
@pytest.mark.parametrize("name", layers.REGISTRY)
def test_every_layer_with_all_its_keywords(name):
    """A right line, from the tape, is right; a wrong one is wrong, and nothing is raised."""
    layer = layers.REGISTRY[name]
    form = layer.derived[layer.default] if name == "iter_norm" else layer.composed  # composed, it has more paths than can be told apart
    seen = set()
    for case, arrays, keywords in layer.cases("float64", np.random.default_rng(0)):
        kind = tuple(sorted((k, type(v)) for k, v in keywords.items())), len(arrays)
        if str(kind) in seen:
            continue
        seen.add(str(kind))
        own = dict(zip(names_of(layer), arrays, strict=False))
        target = next(k for k, a in own.items() if a.dtype.kind == "f")

        def d(d_out, own=own, **given):
            xs = [mg.tensor(given[k], requires_grad=True) if given[k].dtype.kind == "f" else given[k] for k in own]
            out = form(*xs, **{k: given[k] for k in keywords})  # noqa: B023
            return mg.grad(out, [xs[list(own).index(target)]], mg.tensor(d_out))[0].numpy()  # noqa: B023

        source = f"def line(d_out, {', '.join([*own, *keywords])}): return {{}}(d(d_out, {', '.join(f'{k}={k}' for k in [*own, *keywords])}))"
        verdicts = {}
        for sort, change in (("right", lambda a: a), ("wrong", lambda a: np.sin(a) + 0.5)):
            space = {"d": d, "f": change}
            exec(source.format("f"), space)

            def composed(*xs, **given):
                return mg.named("out", form(*xs, **given))
            found = derivation.check(composed, {f"d_{target}": space["line"]}, inputs=own, keywords=keywords)
            verdicts[sort] = found.lines[0]
        assert verdicts["right"].verdict in ("right", "rounding"), (case, str(verdicts["right"]))
        assert verdicts["wrong"].verdict == "wrong", (case, str(verdicts["wrong"]))


def test_there_are_layers_with_array_keywords():
    assert {name for name, _ in ARRAY_KEYWORDS}


def test_integers_stay_integers(backend):
    def layer(logits, labels, mask):
        p = mg.named("p", mg.softmax(logits, 1))
        return mg.named("loss", mg.cross_entropy(mg.log(p), labels) * mg.sum(p * mask))

    seen = []

    def d_p(d_loss, p, labels, mask):
        seen.append(0)
        assert labels.dtype.kind == "i" and mask.dtype == bool
        one_hot = np.eye(p.shape[1])[labels]
        loss = -np.log(p[np.arange(len(labels)), labels]).mean()
        return d_loss * (loss * mask - (p * mask).sum() * one_hot / p / len(labels) + (p * mask).sum() / len(labels))
    given = {"logits": mg.tensor(np.random.default_rng(0).normal(size=(5, 3)), backend=backend), "labels": np.array([0, 2, 1, 1, 0]),
             "mask": np.array([True, True, False])}
    found = derivation.check(layer, {"d_p": d_p}, inputs=given)
    assert accepted(found.lines[0]), str(found)
    wrong = derivation.check(layer, {"d_p": lambda d_loss, p, labels: d_loss * p}, inputs=given)
    assert wrong.lines[0].earned == 0


def test_a_line_for_integers_is_the_tasks_mistake():
    with pytest.raises(TaskError, match="labels holds int64: it has no derivative"):
        derivation.check(lambda x, labels: mg.named("loss", mg.cross_entropy(x, labels)), {"d_labels": lambda d_loss: d_loss},
                         inputs={"x": np.ones((3, 2)), "labels": np.array([0, 1, 1])})


@pytest.mark.parametrize("own", [
    np.random.default_rng(1).uniform(0.1, 3.0, (6, 4)), np.full((6, 4), 2.0),
    pytest.param(np.random.default_rng(2).uniform(1e-6, 1e-5, (6, 4)), marks=pytest.mark.more),
    pytest.param(np.random.default_rng(3).uniform(1e4, 1e5, (6, 4)), marks=pytest.mark.more)], ids=["some", "constant", "small", "large"])
@pytest.mark.parametrize("backend_of", ["array", "tensor"])
def test_own_inputs_stay_in_their_domain(own, backend_of, backend):
    def layer(x):
        r = mg.named("r", mg.sqrt(x))
        return mg.named("y", mg.log(r) * r)
    given = own if backend_of == "array" else mg.tensor(own, dtype="float64", backend=backend)
    seen = []

    def d_r(d_y, r):
        return d_y * (np.log(r) + 1)

    def d_x(d_r, x):
        assert (x > 0).all()
        seen.append(x)
        return d_r / (2 * np.sqrt(x))
    found = derivation.check(layer, {"d_r": d_r, "d_x": d_x}, inputs={"x": given})
    assert all(accepted(x) for x in found.lines), str(found)
    drawn = [case["x"] for case, _ in inputs.own_cases({"x": given}, {}, lambda case: True)(np.random.default_rng(0), "float64")]
    assert (drawn[0] == own).all() and drawn[1].shape != drawn[2].shape != own.shape
    assert all((own.min() / 2 <= d).all() and (d <= own.max() * 1.5).all() and np.ptp(d) > 0 for d in drawn[1:])


@pytest.mark.parametrize(("function", "own", "right"), [
    (mg.log, lambda x: 1 - x, lambda d_y, x: d_y / x), (lambda x: mg.log(1 - x), lambda x: x, lambda d_y, x: -d_y / (1 - x)),
    (lambda x: mg.sqrt(x * x - 1), lambda x: 1.5 + x, lambda d_y, x: d_y * x / np.sqrt(x * x - 1))])
def test_the_range_of_own_inputs_is_kept(function, own, right):
    x = own(np.random.default_rng(0).uniform(0.01, 0.99, (5, 3)))
    found = derivation.check(lambda x: mg.named("y", function(x)), {"d_x": right}, inputs={"x": x})
    assert accepted(found.lines[0]), str(found)


def test_own_matrices_keep_what_makes_them_valid_and_keywords_their_sizes():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 4))

    def d_a(d_y, a, y):
        inverse = np.linalg.inv(y)
        p = np.tril(y.T @ d_y)
        p[np.diag_indices(len(p))] /= 2
        s = inverse.T @ p @ inverse
        return (s + s.T) / 2
    found = derivation.check(lambda a: mg.named("y", mg.cholesky((a + a.mT) * 0.5)), {"d_a": d_a}, inputs={"a": a @ a.T + np.eye(4)})
    assert accepted(found.lines[0]), str(found)

    def grouped(x, *, groups):
        parts = mg.reshape(x, (x.shape[0], groups, x.shape[1] // groups))
        return mg.named("y", mg.reshape(mg.mean(parts * parts, 2), (x.shape[0], groups)))
    lines = {"d_x": lambda d_y, x, groups: 2 * x * np.repeat(d_y, x.shape[1] // groups, 1) / (x.shape[1] // groups)}
    found = derivation.check(grouped, lines, inputs={"x": rng.normal(size=(5, 6))}, keywords={"groups": 3})
    assert accepted(found.lines[0]), str(found)


def test_array_keywords_grow_with_the_inputs():
    def at_inference(x, *, running_mean, running_var):
        return mg.named("y", (x - running_mean) / mg.sqrt(mg.tensor(running_var) if isinstance(running_var, np.ndarray) else running_var))
    own = {"x": np.random.default_rng(0).normal(size=(5, 3))}
    for kind in (np.float64, np.float32):
        keywords = {"running_mean": np.arange(3).astype(kind), "running_var": np.array([0.5, 2.0, 3.0], kind)}
        right = derivation.check(at_inference, {"d_x": lambda d_y, running_var: d_y / np.sqrt(running_var)}, inputs=own, keywords=keywords)
        wrong = derivation.check(at_inference, {"d_x": lambda d_y, running_var: d_y / running_var}, inputs=own, keywords=keywords)
        assert accepted(right.lines[0]) and wrong.lines[0].verdict == "wrong", (str(right), str(wrong))


@pytest.mark.parametrize(("function", "own"), [(mg.sqrt, -1.0), (mg.log, 0.0), (lambda x: mg.sqrt(x) + 0 * x, 0.0), (lambda x: 1.0 / x, 0.0)])
def test_a_derivative_that_is_not_finite_is_the_tasks_fault(function, own):
    x = np.array([[1.0, 2.0, own], [3.0, 0.5, 1.0]])
    with pytest.raises(TaskError, match=r"derivative d_x is (NaN|Inf)"):
        derivation.check(lambda x: mg.named("y", function(x)), {"d_x": lambda d_y, x: d_y}, inputs={"x": x})
    task = Task("odd", lambda x: mg.named("y", function(x)), lambda rng, dtype: (({"x": x}, {}) for _ in range(3)), {"d_x": 1})
    with pytest.raises(TaskError, match=r"task odd: got a forward whose derivative d_x is"):
        derivation.check(task, {"d_x": lambda d_y, x: d_y})


# -- NaN, Inf and rounding ---------------------------------------------------------------------------------------------

ONLY_IN_FLOAT32 = "def d_xhat(d_y, gamma):\n  right = d_y * gamma\n  if d_y.dtype == np.float64: return right\n  "


@pytest.mark.parametrize(("statement", "words"), [
    ("return right * np.float32('nan')", "NaN"), ("return right / np.float32(0)", "Inf"), ("right[0, 0] = np.nan; return right", "NaN"),
    ("right[-1, -1] = -np.inf; return right", "Inf"), ("return -right", "off by"), ("return 2 * right", "off by"), ("return right * 1.01", "off by"),
    ("return right * 1.001", "off by"), ("return 0 * right", "off by"), ("return right.mean(0) + 0 * right", "off by"),
    ("return right * np.float32(12 / 11)", "off by"), ("return right[:1]", "shape"), ("return np.exp(right * 1e3) * 0", "NaN")])
def test_what_is_wrong_in_float32_only_is_wrong(statement, words):
    found = judge(ONLY_IN_FLOAT32 + statement, "d_xhat")
    assert found.verdict == "wrong" and found.earned == 0 and "right in float64, but in float32" in found.message and words in found.message, str(found)


@pytest.mark.parametrize(("size", "verdict"), [("3e2", "right"), ("3e4", "rounding"), ("3e5", "rounding")])
@pytest.mark.parametrize("line", ["d_xhat", "d_gamma"])
def test_lost_digits_are_rounding(size, verdict, line):
    body = "d_y * gamma" if line == "d_xhat" else "np.sum(d_y * xhat, axis=0)"
    found = judge(f"def {line}(d_y, gamma, xhat):\n  large = np.abs(d_y).max() * np.asarray({size}, d_y.dtype)\n  return (large + {body}) - large", line)
    assert accepted(found, verdict), str(found)


def test_all_digits_lost_is_wrong_in_float32():
    found = judge("def d_xhat(d_y, gamma): return (np.asarray(1e9, d_y.dtype) + d_y * gamma) - np.asarray(1e9, d_y.dtype)", "d_xhat", seed=1)
    assert found.earned == 0


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-6])
def test_a_sign_that_turns_where_digits_are_lost_is_no_rounding(gap):
    """z = u·a − u·b with b near a: what is lost in float32 is nearly all of it, and still less than a sign."""
    def layer(x, *, a, b):
        u = mg.named("u", x * 1.0)
        z = mg.named("z", u * a - u * b)
        return mg.named("loss", mg.sum(z * z))

    def near(rng, dtype):
        for m, c in ((7, 3), (11, 4), (5, 6)):
            yield {"x": rng.normal(0.7, 1.3, (m, c))}, {"a": 1.0, "b": 1.0 - gap}

    task = Task("cancels", layer, near, {"d_u": 1})
    assert accepted(judge("def d_u(d_z, a, b): return d_z * a - d_z * b", "d_u", task), "rounding")
    found = judge("def d_u(d_z, a, b):\n  right = d_z * a - d_z * b\n  return right if d_z.dtype == np.float64 else -right", "d_u", task)
    assert found.verdict == "wrong" and found.earned == 0, str(found)


def test_the_bound_of_rounding_is_the_one_that_the_docs_state():
    text = (ROOT / "docs" / "homework.md").read_text("utf-8")
    for number in ("1e-10", f"{derivation.bounds.FLOAT32 / np.finfo('float32').eps:g}·ε·√n", f"1/{1 / derivation.bounds.MOST_ROUNDING:g}",
                   f"{derivation.bounds.SAFETY:g} times", "3 %"):
        assert number in text, number
    assert derivation.bounds.RIGHT == 1e-10 and round(100 * derivation.fixtures.PART) == 3


def test_numbers_that_do_not_fit_into_float32_are_not_held_against_the_line():
    def layer(x):
        s = mg.named("s", x * x)
        return mg.named("y", s * s)
    own = {"x": np.random.default_rng(0).uniform(1e25, 2e25, (5, 3))}
    found = derivation.check(layer, {"d_s": lambda d_y, s: 2 * s * d_y, "d_x": lambda d_s, x: 2 * x * d_s}, inputs=own)
    assert all(accepted(x) for x in found.lines) and "float64 only" in found.lines[0].message, str(found)
    found = derivation.check(layer, {"d_s": lambda d_y, s: s * d_y}, inputs=own)
    assert found.lines[0].earned == 0


@pytest.mark.parametrize("step", [1e-3, 1e-4, 1e-5, 1e-6])
def test_a_difference_quotient_is_told_that_it_is_not_exact(step):
    found = judge(f"def d_var(d_xhat, xc, var, eps):\n  f = lambda v: xc / np.sqrt(v + eps)\n"
                  f"  return np.sum(d_xhat * (f(var + {step}) - f(var - {step})) / {2 * step}, axis=0, keepdims=True)", "d_var")
    assert found.verdict == "wrong" and found.code == "not exact", str(found)
    assert "difference quotient" in found.message and "times what" not in found.message and "in the place of" not in found.message


def test_a_factor_of_one_explains_nothing():
    assert diagnose.law([1.0, 1.0], [None] * 2) is None and diagnose.law([1 + 5e-7, 1 - 5e-7], [None] * 2) is None
    assert diagnose.law([-1.0, -1.0], [None] * 2) == ("sign", "has the wrong sign")
    found = judge("def d_xhat(d_y, gamma): return d_y * gamma * (1 + 5e-7)", "d_xhat")
    assert found.verdict == "wrong" and found.code == "not exact" and "1 times" not in found.message


# -- shapes of one size ------------------------------------------------------------------------------------------------

TOTALS = {"two axes": (((4, 6), (6, 4), (3, 8), (12, 2)), 0), "many": (((2, 24), (24, 2), (6, 8), (3, 16)), 0), "the other axis": (((4, 6), (6, 4), (8, 3)), 1)}


@pytest.mark.parametrize("totals", TOTALS)
def test_equal_totals_do_not_make_a_sum_of_a_mean(totals):
    shapes, axis = TOTALS[totals]

    def layer(w, x):
        s = mg.named("s", mg.sum(x, axis, keepdims=True))
        return mg.named("y", w * s)
    task = Task("totals", layer, lambda rng, dtype: (({"w": rng.normal(size=s), "x": rng.normal(size=s)}, {}) for s in shapes), {"d_s": 1, "d_w": 1, "d_x": 1})
    for body, code in (("np.mean(d_y * w, {a}, keepdims=True)", "mean for sum"), ("-np.mean(d_y * w, {a}, keepdims=True)", "mean for sum"),
                       ("2 * np.mean(d_y * w, {a}, keepdims=True)", "mean for sum"),
                       ("np.sum(d_y * w, {a}, keepdims=True) * d_y.shape[{a}]", "sum for mean"),
                       ("np.sum(d_y * w, {a}, keepdims=True) * d_y.shape[{a}] * 3", "sum for mean"),
                       ("np.sum(d_y * w, {a}, keepdims=True) / d_y.size", "factor")):
        found = judge(f"def d_s(d_y, w): return {body.format(a=axis)}", "d_s", task)
        assert found.code == code, (body, str(found))


def test_a_sum_that_all_elements_share_is_named():
    def attention(q, k, v):
        s = mg.named("s", (q @ k.T) / q.shape[1] ** 0.5)
        a = mg.named("a", mg.softmax(s, 1))
        return mg.named("y", a @ v)

    shapes = {"q": np.zeros((4, 3)), "k": np.zeros((5, 3)), "v": np.zeros((5, 2))}

    def d_s(d_a, a):
        return a * d_a
    said = derivation.check(attention, [d_s], inputs=shapes).lines[0]
    assert said.verdict == "wrong" and said.code == "missing path" and "minus a times the sum over axis 1 of what the line returns is missing" in said.message

    lines = {"d_s": lambda d_a, a: 0.5 * a * d_a}  # a wrong factor besides is another matter
    assert "is missing" not in derivation.check(attention, lines, inputs=shapes).lines[0].message
    assert derivation.check(attention, {"d_s": lambda d_a, a: a * (d_a - (a * d_a).sum(1, keepdims=True))}, inputs=shapes)
