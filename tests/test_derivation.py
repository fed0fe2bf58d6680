"""The derivation checker: right lines are accepted, wrong ones are refused with the term that is wrong, and nothing reaches the checker."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import derivation
from minigrad.derivation import Limits, LineSpec, Route, Task
from minigrad.show import way

HOMEWORK = Path(__file__).resolve().parents[1] / "lectures" / "homework"

ROOT = Path(__file__).resolve().parents[1]


def forward(x, gamma, beta, *, eps):
    mu = mg.named("mu", mg.mean(x, 0, keepdims=True))
    xc = mg.named("xc", x - mu)
    var = mg.named("var", mg.mean(xc * xc, 0, keepdims=True))
    rstd = mg.named("rstd", 1.0 / mg.sqrt(var + eps))
    xhat = mg.named("xhat", xc * rstd)
    return mg.named("y", xhat * gamma + beta)


def cases(rng, dtype):
    for m, c in ((7, 3), (11, 4), (5, 6)):
        yield {"x": rng.normal(0.7, 1.3, (m, c)), "gamma": rng.uniform(0.5, 2.0, c), "beta": rng.normal(size=c)}, {"eps": 0.1}


TASK = Task("toy", forward, cases, {
    "d_gamma": 1, "d_xhat": 1, "d_var": LineSpec(points=2, adjoints=("xhat",)), "d_x": LineSpec(points=2, adjoints=("xhat", "var", "mu")),
    "d_x_one_line": LineSpec(target="x", points=3, adjoints=("y",), hints=("weak", "strong"))}, given={"m": lambda values: len(values["x"])})

TAPE = derivation.tape_of(TASK)

RIGHT = {
    "d_gamma": "def d_gamma(d_y, xhat): return np.sum(d_y * xhat, axis=0)",
    "d_xhat": "def d_xhat(d_y, gamma): return d_y * gamma",
    "d_var": "def d_var(d_xhat, xc, var, eps): return np.sum(d_xhat * xc, axis=0, keepdims=True) * -0.5 * (var + eps) ** -1.5",
    "d_x": "def d_x(d_xhat, d_var, d_mu, rstd, xc, m): return d_xhat * rstd + d_var * 2 * xc / m + d_mu / m",
    "d_x_one_line": "def d_x_one_line(d_y, gamma, rstd, xhat): return gamma * rstd * (d_y - d_y.mean(0) - xhat * (d_y * xhat).mean(0))",
}


def judge(code, line, task=TASK, **options):
    names = {"np": np}
    exec(textwrap.dedent(code), names)
    return derivation.check(task, names, lines=[line], **options).lines[0]


@pytest.mark.parametrize("line", RIGHT)
def test_right_lines_are_right(line):
    found = judge(RIGHT[line], line)
    assert found.verdict == "right" and found.earned == found.points and found.error < found.bound


WRONG = [
    ("d_xhat", "return d_y * xhat", "d_y, xhat", "wrong operand", "xhat is used where gamma"),
    ("d_xhat", "return d_y", "d_y", "other derivative", "d_y"),
    ("d_xhat", "return -d_y * gamma", "d_y, gamma", "sign", "wrong sign"),
    ("d_xhat", "return 2 * d_y * gamma", "d_y, gamma", "counted twice", "twice"),
    ("d_xhat", "return d_y * gamma * gamma", "d_y, gamma", "extra operand", "gamma"),
    ("d_xhat", "return 0 * d_y", "d_y", "missing path", "zeros"),
    ("d_gamma", "return np.mean(d_y * xhat, axis=0)", "d_y, xhat", "mean for sum", "divided by m"),
    ("d_gamma", "return np.sum(d_y * xhat, axis=0) * m / (m - 1)", "d_y, xhat, m", "n - 1 for n", "m − 1"),
    ("d_gamma", "return d_y * xhat", "d_y, xhat", "not reduced", "axis 0 is missing"),
    ("d_gamma", "return np.sum(d_y * xhat)", "d_y, xhat", "over-reduced", "too many"),
    ("d_gamma", "return np.sum(d_y * xhat, axis=1)", "d_y, xhat", "wrong axis", "axis 1"),
    ("d_var", "return np.sum(d_xhat * xc, axis=0, keepdims=True) * -0.5 * var ** -1.5", "d_xhat, xc, var", "epsilon misplaced", "missing"),
    ("d_var", "return np.sum(d_xhat * xc, axis=0, keepdims=True) * -0.5 / (np.sqrt(var) + eps) ** 3", "d_xhat, xc, var, eps",
     "epsilon misplaced", "outside"),
    ("d_var", "return np.sum(d_xhat, axis=0, keepdims=True) * -0.5 * (var + eps) ** -1.5", "d_xhat, var, eps", "missing operand", "xc"),
    ("d_var", "return np.sum(d_xhat * xc, axis=0, keepdims=True) * (var + eps) ** -1.5", "d_xhat, xc, var, eps", "factor", "-2 times"),
    ("d_x", "return d_xhat * rstd + d_mu / m", "d_xhat, d_mu, rstd, m", "missing path", "var"),
    ("d_x", "return d_xhat * rstd + d_var * 2 * xc / m - d_mu / m", "d_xhat, d_var, d_mu, rstd, xc, m", "sign", "mu"),
    ("d_x", "return d_xhat * rstd + d_var * 2 * xc + d_mu / m", "d_xhat, d_var, d_mu, rstd, xc, m", "sum for mean", "m times too large"),
    ("d_x", "return d_xhat * rstd", "d_xhat, rstd", "eval formula", "inference"),
    ("d_x_one_line", "return gamma * rstd * (d_y - d_y.mean(0))", "d_y, gamma, rstd", "missing path", "var"),
    ("d_x_one_line", "return gamma * rstd * d_y", "d_y, gamma, rstd", "eval formula", "constants"),
    ("d_x_one_line", "return gamma * rstd * (d_y - d_y.mean(0) - xhat * (d_y * gamma).mean(0))", "d_y, gamma, rstd, xhat", "wrong operand", "gamma"),
    ("d_x_one_line", "return rstd * (d_y - d_y.mean(0) - xhat * (d_y * xhat).mean(0))", "d_y, rstd, xhat", "missing operand", "gamma"),
]


@pytest.mark.parametrize(("line", "body", "arguments", "code", "words"), WRONG, ids=[f"{w[0]} {w[3]} {i}" for i, w in enumerate(WRONG)])
def test_a_wrong_line_is_told_which_term_is_wrong(line, body, arguments, code, words):
    found = judge(f"def {line}({arguments}): {body}", line)
    assert found.verdict in ("wrong", "wrong shape", "not the derivative asked for") and found.earned == 0
    assert found.code == code and words in found.message, str(found)
    for route in found.routes:  # what the message names can be shown in a picture
        assert all(f" {n}" in f" {found.message}" for n in route.names if "every path" not in found.message) and way(TAPE, route.names).edges, route
    assert found.routes or not re.search(r"\bpath from", found.message)


def test_two_terms_may_be_wrong_at_once():
    found = judge("def d_x(d_xhat, d_var, d_mu, rstd, xc, m): return -d_xhat * rstd + d_var * xc / m + d_mu / m", "d_x")
    assert "has the wrong sign" in found.message and "1/2 times" in found.message
    assert found.routes == (Route(("x", "xc", "xhat"), "wrong"), Route(("x", "xc", "var"), "wrong"))


def test_what_nothing_explains_is_said_to_be_unexplained():
    found = judge("def d_xhat(d_y, gamma): return np.sin(d_y) + np.cos(gamma) ** 7", "d_xhat")
    assert found.code == "unexplained" and "everywhere" in found.message


def test_an_edit_of_the_line_says_what_belongs_there(tmp_path):
    file = tmp_path / "lines.py"
    file.write_text("import numpy as np\n\n\ndef d_w(d_z, z, w):\n    inverse = np.linalg.inv(w)\n    return -z.T @ d_z @ inverse\n")
    task = Task("inverse", lambda x, w: mg.named("z", x @ mg.inv(w)),
                lambda rng, dtype: (({"x": rng.normal(size=(n, 3)), "w": np.eye(3) + 0.2 * rng.normal(size=(3, 3))}, {}) for n in (4, 5)), {"d_w": 1})
    found = derivation.check(task, str(file)).lines[0]
    assert found.code == "transposed" and found.message == "`inverse` should be transposed (line 6)"


@pytest.mark.parametrize("body", [
    "return d_y * gamma + 0.0", "return gamma * d_y", "return d_y / (1 / gamma)", "return np.einsum('mc,c->mc', d_y, gamma)",
    "return d_y * np.broadcast_to(gamma, d_y.shape)",
    "return (d_y + d_y) * gamma / 2", "return d_y @ np.diag(gamma).astype(d_y.dtype)",
])
def test_equivalent_forms_are_right(body):
    assert judge(f"def d_xhat(d_y, gamma): {body}", "d_xhat").verdict == "right"


def test_cancellation_is_rounding_not_wrong():
    found = judge("def d_xhat(d_y, gamma): return (1e6 * np.ones((), d_y.dtype) + d_y * gamma) - 1e6 * np.ones((), d_y.dtype)", "d_xhat")
    assert found.verdict == "rounding" and found.earned == found.points and "digits" in found.message


def test_a_dtype_that_grows_is_named_and_costs_nothing():
    found = judge("def d_xhat(d_y, gamma): return d_y * gamma * np.ones(1)", "d_xhat")
    assert found.verdict == "right" and found.earned == found.points and "float64 for float32" in found.message


@pytest.mark.parametrize(("arguments", "words"), [
    ("d_y, gama", "did you mean 'gamma'"), ("d_xhat", "is what this line is to compute"), ("d_mu", "cannot be used"), ("*args", "has no name"),
    ("d_beta", "cannot be used")])
def test_arguments_that_cannot_be_filled_are_explained(arguments, words):
    found = judge(f"def d_xhat({arguments}): return 0", "d_xhat")
    assert found.verdict == "error" and words in found.message


def test_an_exception_is_shown_at_the_students_line(tmp_path):
    file = tmp_path / "lines.py"
    file.write_text("import numpy as np\nprint('hello')\n\n\ndef d_xhat(d_y, gamma):\n    z = d_y * gama\n    return z\n")
    report = derivation.check(TASK, str(file), lines=["d_xhat"])
    found = report.lines[0]
    assert found.verdict == "error" and found.at == {"file": str(file), "line": 6, "source": "z = d_y * gama"}
    assert report.printed == "hello\n" and found.printed == ""  # the file is run once, not for each line


@pytest.mark.parametrize(("body", "verdict", "words"), [
    ("raise NotImplementedError('d_xhat: your turn')", "not implemented", "your turn"),
    ("return None", "error", "is a return missing"),
    ("return 'text'", "error", "a str"),
    ("while True: pass", "stopped", "a loop without end"),
    ("return np.ones((300_000, 300_000))", "stopped", "memory"),
    ("import os; os._exit(0)", "stopped", "ended the process"),
    ("raise SystemExit(3)", "error", "SystemExit"),
    ("d_y *= gamma; return d_y", "error", "in place"),
    ("return d_y * np.nan", "wrong", "NaN"),
])
def test_nothing_that_a_line_does_reaches_the_checker(body, verdict, words):
    found = judge(f"def d_xhat(d_y, gamma):\n    {body}", "d_xhat", limits=Limits(1.0, 256))
    assert found.verdict == verdict and words in found.message and found.earned == 0


def test_a_missing_function_is_not_implemented_and_suggests_a_name():
    found = judge("def d_xhatt(d_y, gamma): return 0", "d_xhat")
    assert found.verdict == "not implemented" and "d_xhatt" in found.message


def test_a_file_with_a_syntax_error_and_a_blank_one(tmp_path):
    file = tmp_path / "lines.py"
    file.write_text("def d_xhat(d_y:\n    return")
    report = derivation.check(TASK, str(file))
    assert report.status == "syntax error" and not report and report.earned == 0 and "line 1" in report.message
    file.write_text("")
    assert derivation.check(TASK, str(file)).status == "blank"


def test_a_line_without_power_is_the_authors_mistake():
    def centred(x):
        return mg.named("y", mg.named("xc", x - mg.mean(x, 0, keepdims=True)) * 0.0)
    task = Task("weak", centred, lambda rng, dtype: ((({"x": rng.normal(size=(n, 2))}, {})) for n in (4, 5)), {"d_xc": 1})
    with pytest.raises(ValueError, match="0 up to rounding"):
        derivation.check(task, {"d_xc": lambda d_y: 0 * d_y})


def test_any_composed_function_can_be_checked():
    def layer(x, w):
        z = mg.named("z", x @ w)
        return mg.named("y", mg.softplus(z))
    lines = {"d_z": lambda d_y, z: d_y / (1 + np.exp(-z)), "d_w": lambda d_z, x: x.T @ d_z, "d_x": lambda d_z, w: d_z @ w}
    report = derivation.check(layer, lines, inputs={"x": np.zeros((4, 3)), "w": np.zeros((3, 2))})
    verdicts = {x.line: x.verdict for x in report.lines}
    assert verdicts["d_z"] == verdicts["d_w"] == "right" and verdicts["d_x"] in ("error", "wrong shape")


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"inputs": None}, ValueError, "neither"), ({"inputs": {"x": np.zeros((3, 2))}, "cases": cases}, ValueError, "both"),
    ({"inputs": {"x": np.zeros((3, 2))}, "lines": ["d_nothing"]}, ValueError, "no value called nothing")])
def test_wrong_usage_is_explained(arguments, error, words):
    with pytest.raises(error, match=words):
        derivation.check(lambda x: mg.named("y", x * x), {"d_x": lambda d_y, x: 2 * x * d_y}, **arguments)


def test_a_report_is_a_table_html_and_json():
    report = derivation.check(TASK, {"d_xhat": lambda d_y, gamma: d_y * gamma, "d_gamma": lambda d_y: d_y}, lines=["d_xhat", "d_gamma"], seed=3)
    assert "1 of 2 points" in str(report) and "not reduced" in str(report) and not report
    assert "<table" in report._repr_html_() and "wrong shape" in report._repr_html_()
    data = json.loads(report.json())
    assert data["seed"] == 3 and data["points"] == 2 and data["earned"] == 1 and data["lines"][1]["code"] == "not reduced"
    assert set(data["lines"][0]) == {"line", "verdict", "points", "earned", "code", "message", "at", "error", "bound", "case", "flags", "routes"}


def test_seeds_change_the_probes_and_are_reproducible():
    wrong = {"d_xhat": lambda d_y, gamma: d_y + gamma}
    first, again, other = (derivation.check(TASK, wrong, lines=["d_xhat"], seed=s).lines[0].error for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("homework", sorted(p.parent.name for p in (ROOT / "lectures" / "homework").glob("*/task.py")))
def test_every_homeworks_solution_is_right_and_every_line_has_hints(homework):
    task = derivation.load_task(ROOT / "lectures" / "homework" / homework)
    report = derivation.check(task, str(ROOT / "lectures" / "homework" / homework / "lines.py"), seed=17)
    assert report, str(report)
    assert task.name == homework and task.source and all(len(task.line(name).hints) == 2 for name in task.lines)


def test_there_is_homework_enough():
    tasks = [derivation.load_task(p.parent) for p in (ROOT / "lectures" / "homework").glob("*/task.py")]
    assert len(tasks) >= 10 and sum(len(t.lines) for t in tasks) >= 40


def command(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "minigrad.derivation", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.more
def test_the_command(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("print('noise')\ndef d_beta(d_y):\n    return d_y\n")
    done = command("02_batch_norm", file, "--json", "--line", "d_beta")
    assert done.returncode == 1 and json.loads(done.stdout)["lines"][0]["code"] == "not reduced"
    assert command("02_batch_norm", ROOT / "lectures/homework/02_batch_norm/lines.py").returncode == 0
    assert command("02_batch_norm", "--hint", "d_var").stdout.startswith("1 of 2: ")  # the weak one first, and one at a time
    for wrong, words in ((("02_batchnorm", file), "did you mean '02_batch_norm'"), (("02_batch_norm", "nowhere.py"), "no file"),
                         (("02_batch_norm",), "missing"), (("02_batch_norm", file, "--line", "d_nothing"), "no line")):
        done = command(*wrong)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_what_a_file_prints_itself_is_shown_once_and_no_line_is_taken_for_a_slip(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("print('hello')\ndef d_beta(d_y):\n    print('inside')\n    return d_y.sum(0)\n", "utf-8")
    text = str(derivation.check(derivation.load_task(HOMEWORK / "02_batch_norm"), str(file)))
    assert text.count("hello") == 1 and "inside" in text and "did you mean" not in text
    file.write_bytes(b"\xb6 not a program")
    text = str(derivation.check(derivation.load_task(HOMEWORK / "02_batch_norm"), str(file)))
    assert text.count("UTF-8") == 1 and "None" not in text


def test_a_homework_module_that_misses_a_package_says_so_and_not_that_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "course_of_mine").mkdir()
    (tmp_path / "course_of_mine" / "week1.py").write_text("import package_that_nobody_has\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="package_that_nobody_has"):
        derivation.load_task("course_of_mine.week1")
    for absent in ("course_of_mine.week2", "no_course.week1"):
        with pytest.raises(FileNotFoundError, match="no homework"):
            derivation.load_task(absent)
