"""The report says what is true: agreement where there is, and every kind of disagreement, on every backend."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import layers
import minigrad as mg
from layers.verify import agreement, report
from layers.weights import weight_norm

QUICK = ["--layer", "weight_norm"]


def run(capsys, *arguments):
    """Exit status and printed lines."""
    status = report.main(arguments)
    return status, capsys.readouterr().out.rstrip("\n").split("\n")


def run_json(capsys, *arguments):
    status, lines = run(capsys, *arguments, "--json")
    return status, json.loads("\n".join(lines), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))


@pytest.fixture
def altered(monkeypatch):
    """`altered(name, **fields)` changes an entry of the registry for one test."""
    def change(name, **fields):
        monkeypatch.setitem(layers.REGISTRY, name, replace(layers.REGISTRY[name], **fields))
    return change


def wrong_weight_norm(factor):
    """Weight norm, whose dv is multiplied by `factor`, a function of v."""
    def backward(g, saved, v, gain):
        dv, d_gain = weight_norm.backward(g, saved, v, gain)
        return factor(v) * dv, d_gain
    return mg.by_hand(save=weight_norm.inverse_norm, backward=backward)(weight_norm.one_line.primitive.forward)


# -- what agrees --------------------------------------------------------------------------------------------------------


@pytest.mark.more
def test_a_row_for_each_derivation_none_wider_than_the_page(capsys):
    status, lines = run(capsys, "--layer", "batch_norm", "--layer", "batch_norm_eval", "--order", "1")
    rows = [line.split() for line in lines if line.startswith("batch_norm")]
    assert [row[:2] for row in rows] == [["batch_norm", "staged"], ["batch_norm", "one_line"], ["batch_norm_eval", "one_line"]]
    assert all(row[8] == "agree" for row in rows) and status == 0
    assert max(map(len, lines)) <= report.WIDTH and lines[-1].endswith("all agree")


@pytest.mark.more
def test_a_row_for_each_case(capsys):
    _, lines = run(capsys, *QUICK, "--cases")
    cases = [case for case, *_ in agreement.cases_of("weight_norm")]
    start = lines.index("weight_norm, one_line") + 1
    assert [line[2:40].rstrip() for line in lines[start:start + 2 * len(cases)]] == [case[:38] for case in 2 * cases]
    assert max(map(len, lines)) <= report.WIDTH


@pytest.mark.more
def test_json_has_every_comparison_once_and_no_nan(capsys, monkeypatch):
    monkeypatch.setattr(report, "degenerate", lambda dtypes: [])
    status, found = run_json(capsys, "--layer", "decorrelated_batch_norm", "--derivation", "staged", "--order", "1")
    cases = [case for case, *_ in agreement.cases_of("decorrelated_batch_norm")]
    assert [(f["dtype"], f["case"], f["order"]) for f in found["findings"]] == [(t, case, 1) for t in ("float64", "float32") for case in cases]
    assert status == 0 and found["agree"] is True
    degenerate = [f for f in found["findings"] if f["case"].startswith("degenerate")]
    assert degenerate and all(f["not_held"] and f["agrees"] for f in degenerate)
    assert any(f["error"] is None for f in degenerate)  # NaN
    assert {f["quotient"] for f in found["findings"] if not f["not_held"]} <= {"right", "rounding", "no power", "none"}


@pytest.mark.more
@pytest.mark.parametrize(("dtype", "order"), [("float32", 1), ("float64", 2)])
def test_only_one_dtype_and_order(capsys, dtype, order):
    _, found = run_json(capsys, *QUICK, "--dtype", dtype, "--order", str(order))
    assert {(f["dtype"], f["order"]) for f in found["findings"]} == {(dtype, order)}
    assert [c["dtype"] for c in found["costs"]] == [dtype]
    _, lines = run(capsys, *QUICK, "--dtype", dtype, "--order", str(order))
    cells = next(line for line in lines if line.startswith("weight_norm")).split()[2:5]
    assert [cell == "–" for cell in cells] == [True, dtype == "float32", dtype == "float64"]


@pytest.mark.more
def test_on_every_backend(capsys, backend):
    status, found = run_json(capsys, "--layer", "batch_renorm", "--backend", backend, "--order", "1")
    assert status == 0 and {f["backend"] for f in found["findings"]} == {backend}
    assert {f["quotient"] for f in found["findings"]} >= {"right"}


def test_ratios_are_those_of_the_tape(capsys):
    _, found = run_json(capsys, "--layer", "batch_norm", "--derivation", "one_line", "--dtype", "float32", "--order", "1")
    (costs,) = found["costs"]
    x, _, _ = costs["shapes"]
    assert costs["kept_composed"] > 1.9 * 4 * math.prod(x) and 4 * math.prod(x) <= costs["kept_derived"] < 1.1 * 4 * math.prod(x)
    assert costs["kept_ratio"] == costs["kept_composed"] / costs["kept_derived"]
    assert costs["time_ratio"] == costs["seconds_composed"] / costs["seconds_derived"] > 0


@pytest.mark.parametrize("name", layers.REGISTRY)
def test_the_enlarged_case_fits_the_layer_and_is_of_medium_size(name):
    layer = layers.REGISTRY[name]
    arrays, keywords = report.enlarged(layer, "float32")
    largest = max(a.size for a in arrays)
    assert report.ELEMENTS / 4 <= largest <= report.ELEMENTS and all(a.dtype == np.float32 for a in arrays)
    y = layer.derived[layer.default](*arrays, **keywords)
    assert np.isfinite(y).all()


def test_it_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "layers.report", *QUICK, "--dtype", "float32", "--order", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "weight_norm" in done.stdout


@pytest.mark.parametrize(("arguments", "says"), [
    (["--layer", "bach_norm"], "bach_norm"), ([*QUICK, "--derivation", "two_lines"], "['one_line']"), ([*QUICK, "--backend", "abacus"], "abacus")])
def test_what_is_not_there_is_named(capsys, arguments, says):
    with pytest.raises(SystemExit) as stop:
        report.main(arguments)
    assert stop.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.slow
def test_all_layers_agree(capsys):
    status, lines = run(capsys)
    assert status == 0, "\n".join(lines)
    pairs = {(name, derivation) for name, layer in layers.REGISTRY.items() for derivation in layer.derived}
    assert pairs == {tuple(line.split()[:2]) for line in lines} & pairs
    assert max(map(len, lines)) <= report.WIDTH


# -- what does not ------------------------------------------------------------------------------------------------------


@pytest.mark.more
@pytest.mark.parametrize("factor", [lambda v: -1.0, lambda v: 1.0 + 1e-8, lambda v: float("nan")], ids=["sign", "small", "nan"])
def test_a_wrong_backward_disagrees(capsys, altered, factor):
    altered("weight_norm", derived={"one_line": wrong_weight_norm(factor)})
    status, lines = run(capsys, *QUICK, "--dtype", "float64")
    assert status == 1 and "DISAGREE" in next(line for line in lines if line.startswith("weight_norm"))
    assert any(line.startswith("  ! linear, float64, order 1: error") for line in lines) and "DISAGREE" in lines[-1]


def test_a_backward_that_is_wrong_in_second_order_only_disagrees(capsys, altered):
    def one(v):
        return v.detach() / v if isinstance(v, mg.Tensor) else 1.0  # a factor 1, whose derivative is not 0
    altered("weight_norm", derived={"one_line": wrong_weight_norm(one)})
    _, found = run_json(capsys, *QUICK, "--dtype", "float64")
    assert [f["order"] for f in found["findings"] if not f["agrees"]] == [2] * len(agreement.cases_of("weight_norm"))


def test_a_backward_that_loses_digits_in_float32_disagrees(capsys, altered):
    altered("weight_norm", derived={"one_line": wrong_weight_norm(lambda v: 1.0 + 1e-4 if v.dtype == np.float32 else 1.0)})
    _, found = run_json(capsys, *QUICK, "--order", "1")
    assert {f["dtype"] for f in found["findings"] if not f["agrees"]} == {"float32"}


def test_forms_that_agree_with_each_other_but_not_with_central_differences_disagree(capsys, altered):
    wrong = wrong_weight_norm(lambda v: 2.0)
    altered("weight_norm", composed=wrong, derived={"one_line": wrong})
    status, found = run_json(capsys, *QUICK, "--dtype", "float64", "--order", "1")
    assert status == 1
    assert all(f["error"] == 0 and f["quotient"] == "wrong" and "tape = 2 × truth" in f["reason"] for f in found["findings"])
    _, lines = run(capsys, *QUICK, "--order", "1")
    assert "WRONG" in next(line for line in lines if line.startswith("weight_norm"))


def test_a_backward_that_raises_disagrees_and_is_quoted(capsys, altered):
    def broken(v):
        raise ArithmeticError("on purpose")

    right = layers.REGISTRY["weight_norm"].derived["one_line"]
    calls = []
    def sometimes(v, gain):
        calls.append(v)
        return wrong_weight_norm(broken)(v, gain) if v.shape == (4, 6) and v.ndim == 2 and v.size == 24 else right(v, gain)
    altered("weight_norm", derived={"one_line": sometimes})
    status, lines = run(capsys, *QUICK, "--cases", "--order", "1", "--dtype", "float64")
    assert status == 1 and calls and "ArithmeticError: on purpose" in "\n".join(lines)


def test_constants_for_the_derivative_that_are_frozen_wrongly_disagree(capsys, altered):
    def frozen(arrays, keywords):
        f = layers.REGISTRY["weight_norm"].composed
        return lambda v, gain: 2.0 * f(v, gain)
    altered("weight_norm", frozen=frozen)
    status, lines = run(capsys, *QUICK, "--order", "1", "--dtype", "float64", "--cases")
    assert status == 1 and "the frozen function has another derivative" in " ".join(" ".join(lines).split())


# -- what is not held to its bound --------------------------------------------------------------------------------------


def test_the_row_says_where_a_form_is_not_held_and_why(capsys, monkeypatch):
    monkeypatch.setattr(report, "degenerate", lambda dtypes: [])
    status, lines = run(capsys, "--layer", "decorrelated_batch_norm", "--derivation", "simplified", "--order", "1", "--dtype", "float64")
    at = next(i for i, line in enumerate(lines) if line.startswith("decorrelated_batch_norm simplified"))
    assert status == 0 and "agree*" in lines[at]
    assert lines[at + 1].startswith("  * divides by the gaps between eigenvalues: not held in 4 cases (degenerate: white;")


def test_exceptions_are_still_needed():
    """What is not held to its bound is beyond it: an exception for a form that agrees would hide its next mistake."""
    found = {}
    for name, layer in layers.REGISTRY.items():
        for derivation, dtype, order in product(layer.derived, ("float64", "float32"), (1, 2)):
            for case in layer.cases(dtype, agreement.seeded(name, "cases")):
                if why := agreement.why_not_held(name, derivation, case[0], dtype, order):
                    _, of_bound, _ = report._compared(layer, derivation, case, dtype, order, "numpy")
                    found.setdefault((name, derivation, why), []).append(of_bound <= 1)
    assert len(found) >= 2
    assert [key for key, held in found.items() if all(held)] == []


@pytest.fixture(scope="module")
def without_torch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        return report.degenerate(["float64"])


@pytest.mark.more
def test_where_eigenvalues_meet_the_stable_form_is_held(without_torch):
    assert {row.method for row in without_torch} >= {"staged", "simplified", "stable", report.PYTORCH}
    assert {row.method for row in without_torch if row.bound is not None} == {"stable"}
    assert all(row.agrees for row in without_torch)
    errors = {row.method: row.error for row in without_torch if row.batch == "exactly white" and row.error is not None}
    assert {method for method, error in errors.items() if error < 1e-12} == {"stable", "composed"}
    assert not replace(without_torch[0], bound=1e-9, error=math.nan).agrees


@pytest.mark.more
def test_a_missing_torch_is_said(without_torch):
    assert all((row.error is None) == (row.method == report.PYTORCH) for row in without_torch)
    assert report.degenerate_table(without_torch).endswith("torch is not installed")


@pytest.mark.more
def test_pytorch_is_compared_where_it_is_installed():
    pytest.importorskip("torch")
    errors = {row.batch: row.error for row in report.degenerate(["float64"]) if row.method == report.PYTORCH}
    assert errors["gap 0.1"] < 1e-13 and math.isnan(errors["exactly white"])


@pytest.mark.more
def test_json_has_the_degenerate_section(capsys, monkeypatch, without_torch):
    monkeypatch.setattr(report, "degenerate", lambda dtypes: without_torch)
    only_stable = "--layer", "decorrelated_batch_norm", "--derivation", "stable", "--order", "1", "--dtype", "float32"
    _, found = run_json(capsys, *only_stable)
    assert [(row["batch"], row["method"]) for row in found["degenerate"]] == [(row.batch, row.method) for row in without_torch]
    monkeypatch.setattr(report, "degenerate", lambda dtypes: [replace(row, bound=0.0) for row in without_torch])
    status, lines = run(capsys, *only_stable)
    assert status == 1 and any(line.endswith("DISAGREE") for line in lines)
