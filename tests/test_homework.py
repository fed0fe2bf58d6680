"""Homework that is more than a derivation: numbers that are predicted and measured, and a layer of one's own."""

from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from lectures import classroom, design
from minigrad import derivation
from minigrad.check.student_t import student_t
from minigrad.derivation import Line, Task, TaskError

HOMEWORK = classroom.HOMEWORK
EXAMPLE = (HOMEWORK / "11_design_a_layer" / "design.py").read_text("utf-8")

# -- predictions -------------------------------------------------------------------------------------------------------


def double(x):
    return mg.named("y", mg.named("z", x * x) * 2.0)


def sizes(rng, dtype):
    for n in (3, 5, 8):
        yield {"x": rng.normal(size=n).astype(dtype)}, {}


def task(measure=lambda values: 3 * values["x"].size + 2, **given):
    return Task("test", double, sizes, {"cost": Line(points=2)}, given={"n": lambda values: values["x"].size, **given}, measured={"cost": measure})


def judged(line, asked=None):
    return derivation.check(asked or task(), {"cost": line}).lines[0]


def test_a_prediction_that_is_measured_earns_its_points():
    line = judged(lambda n: 3 * n + 2)
    assert (line.verdict, line.earned, line.message) == ("right", 2, "")
    assert judged(lambda n: np.float64(3.0) * n + 2.0).verdict == "right"


@pytest.mark.parametrize("line, says", [
    (lambda n: 2 * n + 2, "predicted 8, measured 11: 1 · n too few"), (lambda n: 5 * n + 2, "measured 11: 2 · n too many"),
    (lambda n: 3 * n, "predicted 9, measured 11"), (lambda n: n * n, "predicted 9, measured 11"), (lambda n: float("nan"), "predicted nan"),
    (lambda n, k: 3 * n + k, "1 · k too few"), (lambda n, k: 2 * n + 2 * k - 2, "1 · n too few")])
def test_a_wrong_prediction_is_told_by_how_much(line, says):
    found = judged(line, task(k=lambda values: 1) if "too few" in says and "k" in line.__code__.co_varnames else task(k=lambda values: 2))
    assert found.verdict == "wrong" and found.code == "miscounted" and says in found.message and found.earned == 0


def test_what_is_no_number_is_refused():
    assert judged(lambda n: np.ones(2)).verdict == "wrong shape"
    assert judged(lambda n: "many").verdict == "error"
    assert "predicts a number" in judged(lambda d_y: 1).message  # there is no adjoint of a count
    with pytest.raises(TaskError, match="a finite number"):
        judged(lambda n: 1, task(lambda values: None))
    with pytest.raises(TaskError, match="a finite number"):
        judged(lambda n: 1, task(lambda values: float("inf")))


@pytest.mark.parametrize("line, said", [("return 2 * x_bytes + channel_bytes", "1 · channel_bytes too few"), ("return x_bytes", "1 · x_bytes too few")])
def test_homework_09_says_which_array_was_forgotten(line, said, tmp_path):
    (tmp_path / "lines.py").write_text(f"def kept_composed(x_bytes, channel_bytes):\n    {line}\n", "utf-8")
    report = derivation.check(derivation.load_task(HOMEWORK / "09_cost"), str(tmp_path / "lines.py"))
    assert said in report.lines[0].message and report.lines[1].verdict == "not implemented"


def test_the_key_of_homework_09_is_the_tape():
    """Another layer, other numbers: nothing is written down."""
    module = derivation.load_task(HOMEWORK / "09_cost").measured["kept_composed"].__globals__
    values = {"x": np.ones((4, 2)), "gamma": np.ones(2), "beta": np.ones(2), "eps": 0.1}
    assert module["kept"](lambda x, gamma, beta, eps: x + beta, values) == 0
    assert module["kept"](lambda x, gamma, beta, eps: mg.exp(x), values) == values["x"].nbytes


# -- a layer of one's own ----------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    """Writes the example with something changed."""
    def write(old="", new=""):
        assert old in EXAMPLE
        (tmp_path / "design.py").write_text(EXAMPLE.replace(old, new), "utf-8")
        return tmp_path / "design.py"
    return write


def test_an_invented_layer_goes_all_the_way(backend, file):
    said = []
    with mg.use(backend):
        assert design.designed(file(), seeds=2, steps=2, say=said.append)
    text = "\n".join(said)
    assert "1. It is for: Mean-only" in text and "means 0.000" in text and "3 of 3 points" in text and "right in both orders" in text
    assert text.count("difference") == 3 and text.count("±") == 2


@pytest.mark.parametrize("old, new, step, says", [
    ("gamma * (d_y - d_y.mean(0))", "gamma * d_y", 3, "missing path"),
    ("return gamma * (g - mg.mean(g, 0, keepdims=True)), mg.sum(g * (x - mu), 0)", "return gamma * g, mg.sum(g * (x - mu), 0)", 4, "derivatives of order 1"),
    ("g * (x - mu)", "g * (x - (mu.detach() if isinstance(mu, mg.Tensor) else mu))", 4, "derivatives of order 2"),
    ("(x - saved[0]) * gamma + beta", "(x - saved[0]) * gamma", 4, "values differ")])
def test_what_is_wrong_with_a_design_is_found_before_it_is_trained(old, new, step, says, file):
    said = []
    assert not design.designed(file(old, new), seeds=2, steps=2, say=said.append)
    assert says in said[step - 1] and said[-1].startswith("5. Not trained")


@pytest.mark.parametrize("old, new, says", [
    (EXAMPLE[:EXAMPLE.index("import minigrad")], "", "what the layer is for"), ("def forward", "def forwards", "has no forward"),
    ("def d_x", "def e_x", "has no d_x"), ("def d_gamma", "def e_gamma", "has no d_gamma"), ("def d_beta", "def e_beta", "has no d_beta"),
    ("gamma * xc + beta)", "xc / 0 * gamma + beta)", "forward gives NaN or infinity"),
    ("def d_x(d_y, gamma):", "def d_x(d_y, gamma)", "design.py, line"),
    ("import minigrad as mg", "import minigrad as mg\nimport not_there", "ModuleNotFoundError"),
    ("def forward(x, gamma, beta, *, eps)", "def forward(x, gamma, beta)", "unexpected keyword argument 'eps'"),
    ("xc = mg.named", "xc = undefined + mg.named", "NameError: name 'undefined'"),
    ("def fast", "def slow", "fast is missing"), ('return mg.named("y", gamma * xc + beta)', "return mg.mean(x)", "the shape ()")])
def test_a_design_with_a_part_missing_is_refused(old, new, says, file, capsys):
    assert design.main([str(file(old, new))]) == 2
    assert says in capsys.readouterr().err


def test_a_missing_file_and_too_few_seeds_are_explained(file, capsys):
    assert design.main(["nowhere.py"]) == 2 and "begin with a copy" in capsys.readouterr().err
    assert design.main([str(file()), "--seeds", "1"]) == 2 and "an interval needs 2 or more" in capsys.readouterr().err


def test_a_design_without_an_op_uses_its_composed_form(file):
    start, end = EXAMPLE.index("def statistics"), len(EXAMPLE)
    assert design.loaded(file(EXAMPLE[start:end], "")).op is None


def test_a_difference_is_only_named_where_the_interval_is_without_zero():
    assert design.SeedDifference("loss", 1.0, 0.5, 0.5, 0.2).verdict == "higher than batch norm's"
    assert design.SeedDifference("loss", 0.5, 1.0, -0.5, 0.2).verdict == "lower than batch norm's"
    assert design.SeedDifference("loss", 1.0, 0.9, 0.1, 0.2).verdict == "these seeds cannot tell"


def test_the_interval_is_students_and_paired(monkeypatch):
    runs = {0: (1.0, 0.5), 1: (2.0, 0.6), 2: (4.0, 0.7)}
    monkeypatch.setattr(design, "trained", lambda layer, seed, steps: runs[seed] if layer else (runs[seed][0] - 1.0 - seed, runs[seed][1]))
    loss, accuracy = design.compared(lambda x: x, 3, 1)  # differences 1, 2, 3: mean 2, deviation 1
    assert loss.mean == pytest.approx(2.0) and loss.half == pytest.approx(4.302652729911275 / 3**0.5) and accuracy.half == 0.0


def test_intervals_cover_the_truth_as_often_as_they_say():
    """95 % of 4,000 simulated experiments, within three standard errors."""
    for seeds in range(2, 11):
        draws = np.random.default_rng(seeds).normal(size=(4000, seeds))
        half = student_t(seeds - 1) * draws.std(1, ddof=1) / seeds**0.5
        assert abs(np.mean(np.abs(draws.mean(1)) <= half) - 0.95) < 3 * (0.95 * 0.05 / 4000) ** 0.5


def test_the_invented_layer_replaces_every_batch_norm_and_computes_what_its_forward_does(rng):
    model = design.network(design.loaded(HOMEWORK / "11_design_a_layer" / "design.py").forward, 0)
    found = [m for m in model.modules() if isinstance(m, design.Invented)]
    assert len(found) == 2 and "BatchNorm" not in repr(model)
    images = rng.normal(size=(3, 16, 2, 2))
    y = found[0].astype("float64")(mg.tensor(images)).numpy()
    assert np.allclose(y, images - images.mean((0, 2, 3), keepdims=True), atol=1e-14)
    assert Path(design.__file__).name == "design.py"
