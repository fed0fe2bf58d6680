"""The equation ledger: nothing is missing from it, its verdicts are the expected ones, and it would notice if they were not."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from lectures.equations import DOCUMENTS, measure
from lectures.equations.__main__ import main, table
from lectures.equations.ledger import EXACT, WRONG, Document, DocumentProbe, Values, differences, distance, equation, text

ROOT = Path(__file__).resolve().parents[1]

# Every displayed equation that a gradient rests on, document by document; one entry per line where the lines can differ.
EQUATIONS = {
    "dbn": ["(1)", "(2)", "(3)", "(4)", "(5)", "(6)", "(7) left side", "(8)", "(9)", "(10)", "(11)", "(12)", "(13)", "(8)-(13) in turn", "(14)",
            "(15) line 1", "(15) line 2", "(16)", "(17) line 1", "(17) line 2", "(18) left side", *(f"(18) line {k}" for k in range(1, 9)),
            "below (18)", "(19) middle", "(19) right", *(f"(20) line {k}" for k in range(1, 5)),
            *(f"section 2, {z}" for z in ("convolution", "DBN", "overhead"))],
    "bn-lecture": ["Two Simplifications, 1", "Another detail", *(f"Forward Pass, {z}" for z in ("μ", "σ²", "x̂", "y")),
                   "∂l/∂γ; Summary 1", "∂l/∂β; Summary 2", "∂l/∂x̂; Summary 3", "∂l/∂σ², line 1", "∂l/∂σ², line 2; Summary 4",
                   "∂l/∂μ, line 1", "∂l/∂μ, line 2; Summary 5", "∂l/∂x, line 1", "∂l/∂x, line 2; Summary 6"],
    "bn-jacobian": ["(1), (2)", *(f"({k})" for k in range(3, 10)), *(f"(10) line {k}" for k in range(1, 4)),
                    *(f"below (10), {z}" for z in ("U²", "λ²", "λ", "1 − λ/m"))],
    "inplace-abn": [*(f"row 1, ∂y/∂{z}" for z in ("γ", "β", "x̂")), *(f"row 2, ∂L/∂{z}" for z in ("γ", "β", "x̂")),
                    "row 3, ∂x̂/∂σ², middle", "row 3, ∂x̂/∂σ², right", "row 3, ∂x̂/∂μ", *(f"row 4, {w}" for w in ("left", "middle", "right")),
                    *(f"row 5, {w}" for w in ("left", "middle", "right")), *(f"row 6, ∂{z}/∂x" for z in ("σ²", "μ", "x̂")),
                    "row 7, left", "row 7, right", *(f"form II, ∂L/∂γ, {k}" for k in ("1st", "2nd", "3rd", "4th")),
                    *(f"form II, ∂L/∂x, line {k}" for k in range(1, 4))],
    "cwn": ["(1) left", "(1) right", *(f"(2) line {k}" for k in range(1, 7)), "(2) line 7, left", "(2) line 7, right", "sentence before (3)", "(3)",
            "below (3), v̂", "below (3), w", "(4) line 1", "(4) line 2", "(4) line 3, left", "(4) line 3, right",
            "(5) line 1", "(5) line 2", "(5) line 3, left", "(5) line 3, right"],
}

NOT_RIGHT = {
    "misprint": {("dbn", "(7) left side"), ("dbn", "(15) line 1"), ("dbn", "(17) line 1"), ("dbn", "(18) left side"), ("dbn", "(18) line 4"),
                 ("inplace-abn", "form II, ∂L/∂x, line 3"), ("cwn", "(2) line 3"), ("cwn", "(2) line 4")},
    "approximation": {("bn-jacobian", f"below (10), {z}") for z in ("U²", "λ²", "λ", "1 − λ/m")},
    "text": {("cwn", "sentence before (3)")},
}


@pytest.fixture(scope="module")
def results():
    """(document, equation) -> Result."""
    return {(d.short, e.number): measure(e) for d in DOCUMENTS.values() for e in d.entries}


# -- the ledger is complete and right ----------------------------------------------------------------------------------


@pytest.mark.parametrize("document", EQUATIONS)
def test_every_equation_of_the_document_is_in_the_ledger_once(document):
    assert [e.number for e in DOCUMENTS[document].entries] == EQUATIONS[document]


def test_every_document_is_in_the_ledger():
    assert set(DOCUMENTS) == set(EQUATIONS)


def test_every_measured_verdict_is_the_expected_one(results):
    assert {key: (r.verdict, r.reason) for key, r in results.items() if not r.as_expected} == {}


@pytest.mark.parametrize("verdict", NOT_RIGHT)
def test_exactly_these_are_not_right(results, verdict):
    assert {key for key, r in results.items() if r.verdict == verdict} == NOT_RIGHT[verdict]
    assert {r.verdict for r in results.values()} == {"right", *NOT_RIGHT}


def test_errors_leave_no_doubt(results):
    for key, r in results.items():
        if r.verdict == "right":
            assert r.error <= EXACT, key
        elif r.verdict != "text":
            assert r.error >= WRONG and r.corrected <= EXACT, key


def test_tape_and_central_differences_agree_at_every_probe(results):
    for document in DOCUMENTS.values():
        assert document.disagreement() < 1e-9  # truncation h⁶ f⁽⁷⁾/140 with h = 2⁻⁸ and scales of 0.5 and more


def test_conditions_are_measured_on_both_sides(results):
    assert "equal eigenvalues" in results["dbn", "(14)"].entry.not_for
    assert results["dbn", "(14)"].regimes["equal eigenvalues"] == (math.inf, math.inf)
    assert results["dbn", "(14)"].regimes["Λ without ε"][0] > 1e-2
    assert results["inplace-abn", "form II, ∂L/∂x, line 3"].regimes["β = 0"][1] <= EXACT
    assert results["bn-jacobian", "below (10), U²"].regimes["ε = 0"][1] <= EXACT


def test_cotangents_and_batches_differ_and_no_cotangent_is_constant():
    for document in DOCUMENTS.values():
        for regime in document.regimes:
            probes = document.probes(regime)
            assert len(probes) >= 2
            if document.short != "bn-jacobian":  # which measures whole Jacobians
                assert all(np.ptp(p.cotangent) > 0.1 for p in probes)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_table_shows_every_entry_and_its_numbers(results):
    for document in DOCUMENTS.values():
        printed = table(document, [results[document.short, e.number] for e in document.entries])
        for e in document.entries:
            assert e.number in printed and e.printed in printed and e.corrected in printed and e.note in printed


def test_the_command_prints_one_document_and_succeeds(capsys):
    assert main(["--document", "dbn"]) == 0
    out = capsys.readouterr().out
    assert "Decorrelated Batch Normalization" in out and "Centered" not in out and "(!)" not in out


def test_json_is_strict_and_complete(capsys):
    assert main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [f["equation"] for f in found] == [number for numbers in EQUATIONS.values() for number in numbers]
    row = next(f for f in found if f["equation"] == "(18) line 4")
    assert row["verdict"] == "misprint" and row["error"] > WRONG and row["corrected_error"] < EXACT
    assert next(f for f in found if f["equation"] == "(11)")["errors"]["equal eigenvalues"] == ["not finite", "not finite"]


def test_the_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "lectures.equations", "--document", "cwn"], cwd=ROOT, capture_output=True, encoding="utf-8",
                          env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "sentence before (3)" in done.stdout


# -- and it has power: on a document of one equation, y = x³ at two probes ----------------------------------------------


class Cube(DocumentProbe):
    def __init__(self, seed, power=3):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.x, self.cotangent, self.power = rng.uniform(1, 2, 4), rng.normal(size=4), power

    def forward(self, **given):
        return given.get("x", self.x) ** self.power


def judged(values, **options):
    document = Document("test", "A test", "", {"cubes": lambda: [Cube(1), Cube(2)], "squares": lambda: [Cube(3, power=2)]}, ("cubes",))
    return measure(equation(document, "(1)", printed=options.pop("printed", "dx = 3x² dy"), **options)(values))


def right(p):
    return 3 * p.x**2 * p.cotangent


def test_a_right_equation_needs_its_condition():
    assert judged(lambda p: Values(p.gradient("x"), right(p)), not_for=("squares",)).verdict == "right"
    assert "fails for ['squares']" in judged(lambda p: Values(p.gradient("x"), right(p))).reason


def test_a_condition_that_is_not_needed_is_found():
    assert judged(lambda p: Values(p.gradient("x"), p.gradient("x")), not_for=("squares",)).verdict == "unclear"


@pytest.mark.parametrize("factor, verdict", [(-1, "misprint"), (1.01, "misprint"), (1 + 1e-6, "unclear"), (np.nan, "unclear"), (np.inf, "unclear")])
def test_a_wrong_equation_is_not_right(factor, verdict):
    result = judged(lambda p: Values(p.gradient("x"), factor * right(p), corrected=right(p)))
    assert result.verdict == verdict and not result.as_expected


def test_a_misprint_must_fail_at_every_probe():
    assert judged(lambda p: Values(p.gradient("x"), right(p) * (1 if p.x[0] == Cube(1).x[0] else 2), corrected=right(p))).verdict == "unclear"


def test_a_wrong_correction_is_found():
    result = judged(lambda p: Values(p.gradient("x"), -right(p), corrected=right(p) * (1 + 1e-9)), verdict="misprint")
    assert result.verdict == "unclear" and "no corrected form is exact" in result.reason


def test_an_approximation_is_printed_as_one():
    assert judged(lambda p: Values(p.gradient("x"), 2 * right(p), corrected=right(p)), printed="dx ≈ 6x² dy").verdict == "approximation"


def test_a_truth_of_zero_has_no_power():
    assert "no power" in judged(lambda p: Values(0 * p.x, 0 * p.x)).reason
    assert judged(lambda p: Values(0 * p.x, 0 * p.x, size=1.0)).verdict == "right"


def test_a_tape_that_differences_do_not_confirm_is_found():
    wrong = mg.primitive(a=lambda g, a: g * a)(lambda xp, a: a * a)  # half of the derivative
    result = judged(lambda p: Values(p.slope(wrong, p.x), np.diag(p.x)))
    assert result.verdict == "unclear" and "central differences" in result.reason


def test_a_wrong_symbol_in_a_sentence_is_text():
    document = Document("test", "A test", "", {}, ())
    assert measure(text(document, "(0)", printed="x", corrected="v", note="")).verdict == "text"


def test_an_unexpected_verdict_is_marked_and_fails_the_command(monkeypatch, capsys):
    document = Document("test", "A test", "", {"cubes": lambda: [Cube(1)]}, ("cubes",))
    equation(document, "(1)", printed="dx = −3x² dy", corrected="dx = 3x² dy")(lambda p: Values(p.gradient("x"), -right(p), corrected=right(p)))
    monkeypatch.setitem(DOCUMENTS, "test", document)
    assert main(["--document", "test"]) == 1
    assert "misprint (!)" in capsys.readouterr().out


def test_an_equation_does_not_broadcast():
    with pytest.raises(ValueError, match="shapes"):
        distance(np.ones((3, 1)), np.ones(3))


def test_differences_have_six_digits_to_spare():
    x = np.array([[0.3, 1.1], [0.7, -0.4]])
    slopes = differences(lambda x: np.sin(x) @ np.ones(2), x)  # (2,) + (2, 2)
    truth = np.einsum("ia,ij->ija", np.eye(2), np.cos(x)).transpose(2, 0, 1)
    assert distance(slopes, truth) < 1e-12  # rounding ε/h with h = 2⁻⁸
