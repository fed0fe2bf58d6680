"""The relative error that all comparisons use: 0 only where results are equal, NaN where one is NaN."""

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.check.relative import relative_error, worst

ROOT = Path(__file__).resolve().parents[1]
NAN, INF = math.nan, math.inf


def test_it_is_the_length_of_the_difference_over_that_of_the_reference(xp, backend):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4))
    wanted = np.linalg.norm(a - b) / np.linalg.norm(b)
    assert relative_error(a, b) == pytest.approx(wanted, rel=4 * np.finfo(float).eps)
    assert relative_error(xp.array(a), mg.tensor(b, backend=backend)) == relative_error(a, b.tolist()) == relative_error(a, b)
    assert relative_error(a, b, size=0.5) == pytest.approx(np.linalg.norm(a - b) / 0.5, rel=4 * np.finfo(float).eps)


@pytest.mark.parametrize(("found", "reference", "wanted"), [
    (0.0, 0.0, 0.0), (1e-300, 0.0, INF), ([], [], 0.0), ([0.0, 2.0], [0.0, 2.0], 0.0), (True, 1, 0.0), (3, 2, 0.5),
    (NAN, NAN, NAN), (NAN, 0.0, NAN), (0.0, NAN, NAN), ([NAN, 1.0], [1.0, INF], NAN), ([1.0, NAN], [1.0, 1.0], NAN),
    (INF, 1.0, INF), (INF, INF, NAN), (1.0, INF, NAN), (-INF, INF, NAN), ([INF, 1.0], [0.0, 0.0], INF),
    ([1e200, 0], [2e200, 0], 0.5), ([1e-200, 0], [2e-200, 0], 0.5), (1.5e308, -1.5e308, 2.0), (5e-324, 1e-323, 0.5), (1e200, 1.0, 1e200),
    (1e-300, 1.5e308, 1.0)])
def test_zeros_infinities_nan_and_the_ends_of_the_range(found, reference, wanted):
    assert relative_error(found, reference) == pytest.approx(wanted, rel=1e-15, nan_ok=True)


@pytest.mark.parametrize(("found", "size", "wanted"), [(0.0, 0.0, 0.0), (1.0, 0.0, INF), (NAN, 0.0, NAN), (NAN, 2.0, NAN), (1.0, 4.0, 0.25), (1.0, NAN, NAN)])
def test_a_given_size_replaces_the_length_of_the_reference(found, size, wanted):
    assert relative_error(found, 0.0, size) == pytest.approx(wanted, nan_ok=True)


def test_half_and_single_precision_are_compared_in_double_and_more_stays_more():
    one = np.ones(2, "float16")
    assert relative_error(one + one * np.float16(2**-10), one) == pytest.approx(2**-10)
    assert relative_error(np.full(2, 300, "float16"), np.full(2, 299, "float16")) == pytest.approx(1 / 299)  # squares of float16 overflow
    if np.finfo(np.longdouble).eps < np.finfo(float).eps:
        assert relative_error(np.longdouble(1) + np.finfo(np.longdouble).eps, np.longdouble(1)) == np.finfo(np.longdouble).eps


def test_two_shapes_are_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"relative_error: got the shapes \(2,\) and \(2, 1\)"):
        relative_error([1.0, 2.0], [[1.0], [2.0]])


def test_the_worst_error_keeps_a_nan():
    assert worst([]) == 0 and worst(iter([1.0, 3.0, 2.0])) == 3
    assert math.isnan(worst([0.1, NAN, 0.2])) and math.isnan(worst([NAN, INF])) and max(0.1, NAN) == 0.1


@pytest.mark.more
def test_nothing_else_divides_the_length_of_a_difference():
    """norm(a - b) / norm(b), written out, in a file that is not a test."""
    folders = ("minigrad", "layers", "models", "scripts", "lectures", "benchmarks", "experiments")
    found = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
             and re.search(r"norm\([^()]*(\([^()]*\)[^()]*)* - ", ast.unparse(node.left)) and "norm(" in ast.unparse(node.right)}
    assert found <= {"minigrad/check/relative.py"}
