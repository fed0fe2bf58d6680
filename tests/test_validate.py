"""What can be wrong with a homework, and what its author is then told: which task, what is wrong, and how to mend it."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import derivation
from minigrad.derivation import LineSpec, Task, TaskError, random_sizes
from minigrad.derivation.__main__ import main
from minigrad.derivation.examine import examine
from minigrad.derivation.validate import validate

HOMEWORK = Path(__file__).resolve().parents[1] / "lectures" / "homework"


def forward(x, w):
    z = mg.named("z", x @ w)
    return mg.named("y", mg.tanh(z))


def cases(rng, dtype):
    for m, k, n in random_sizes(rng, (4, 9), (2, 6), (2, 6)):
        yield {"x": rng.normal(size=(m, k)).astype(dtype), "w": rng.normal(size=(k, n)).astype(dtype)}, {}


LINES = {"d_z": 1, "d_w": 2, "d_x_one_line": LineSpec(target="x", points=3, adjoints=("y",))}
HINTS = {name: ["weak", "strong"] for name in LINES}
SOLUTION = '''import numpy as np


def d_z(d_y, y):
    """(m, n)"""
    ### BEGIN SOLUTION
    return d_y * (1 - y * y)
    ### END SOLUTION


def d_w(d_z, x):
    """(k, n)"""
    ### BEGIN SOLUTION
    return x.T @ d_z
    ### END SOLUTION


def d_x_one_line(d_y, y, w):
    """(m, k)"""
    ### BEGIN SOLUTION
    return (d_y * (1 - y * y)) @ w.T
    ### END SOLUTION
'''


def task(**changes):
    return Task(**{"name": "12_mine", "forward": forward, "cases": cases, "lines": LINES, "hints": HINTS, "source": "a book", **changes})


def line(**changes):
    return {"lines": {**LINES, "d_x_one_line": LineSpec(**{"target": "x", "points": 3, "adjoints": ("y",), **changes})}}


def points(n):
    return {"lines": {**LINES, "d_z": n}}


def nothing(values):
    raise AssertionError("never called")


AT_ONCE = {  # what is wrong: the changed parts, what the message says, and part of the fix; told as soon as the task is loaded
    "no name": ({"name": " "}, "the name ' '", "12_my_layer"),
    "a forward that was called": ({"forward": 3.0}, "forward that is a float: 3.0", "pass the function itself"),
    "cases that were called": ({"cases": iter(())}, "cases that is a tuple_iterator", "pass the function itself"),
    "no lines": ({"lines": {}}, "lines that are empty", 'lines={"d_x": 2}'),
    "lines as a list": ({"lines": ["d_z"]}, "lines that are a list", 'lines={"d_x": 2}'),
    "fractional points": (points(1.5), "1.5 points for d_z", "double all others"),
    "negative points": (points(-1), "-1 points for d_z", "take the line out"),
    "no points": (points(0), "0 points for d_z", "take the line out"),
    "true as points": (points(True), "True points for d_z", "1 or more"),
    "points in a LineSpec": (line(points=0.5), "0.5 points for d_x_one_line", "double all others"),
    "points as text": (points("2"), "the line d_z with the text '2'", 'LineSpec(points=2)'),
    "a line without d_": ({"lines": {**LINES, "w_gradient": 1}}, "the line w_gradient, whose name", "call it d_w_gradient"),
    "a line that is no name": ({"lines": {**LINES, "d_x one": 1}}, "the line 'd_x one'", "d_x_one"),
    "a target with d_": (line(target="d_x"), "the target 'd_x' of d_x_one_line", "target='x'"),
    "adjoints as text": (line(adjoints="y"), "adjoints='y' of d_x_one_line", "('y',), with the comma"),
    "adjoints with d_": (line(adjoints=("d_y",)), "'d_y' among the adjoints", "write 'y'"),
    "hints for no line": ({"hints": {**HINTS, "d_ww": ["weak"]}}, "hints for 'd_ww', which is no line; did you mean 'd_w'?", "correct the name"),
    "hints as text": ({"hints": {**HINTS, "d_w": "weak"}}, "hints for d_w that are the text 'weak'", '["weak", "strong"]'),
    "hints of a LineSpec as text": (line(hints="weak"), "hints for d_x_one_line that are the text 'weak'", '["weak", "strong"]'),
    "hints that are no mapping": ({"hints": ["weak"]}, "hints that is a list", 'hints={"name": ...}'),
    "given that is a number": ({"given": {"m": 7}}, "given['m'] that is an int: 7", "lambda values"),
    "given called like a derivative": ({"given": {"d_q": nothing}}, "given['d_q']", "given by the tape"),
    "a measurement of no line": ({"measured": {"cost": nothing}}, "a measurement of 'cost', which is no line", "give the line points"),
    "a measurement that is a number": ({"lines": {**LINES, "cost": 1}, "measured": {"cost": 3}}, "measured['cost'] that is an int: 3", "lambda values")}


@pytest.mark.parametrize("mistake", AT_ONCE)
def test_a_mistake_in_the_parts_of_a_task_is_named_at_once(mistake):
    changes, got, fix = AT_ONCE[mistake]
    bad = task(**changes)
    with pytest.raises(TaskError) as caught:
        validate(bad)
    said = str(caught.value)
    assert said.startswith(f"task {bad.name}: got ") and got in said.splitlines()[0] and "\n  needs: " in said and fix in said.split("\n  fix:   ")[1], said
    with pytest.raises(TaskError, match=re.escape(got)):
        derivation.check(bad, {"d_z": lambda d_y, y: d_y})
    assert examine(bad)[0] == said


def with_cases(change):
    """The same cases with something done to each."""
    return {"cases": lambda rng, dtype: (change(arrays, keywords, rng, dtype) for arrays, keywords in cases(rng, dtype))}


def fixed(rng, dtype):
    for m, k, n in ((5, 3, 4), (7, 2, 3), (4, 6, 2)):
        yield {"x": rng.normal(size=(m, k)), "w": rng.normal(size=(k, n))}, {}


def of_sizes(*sizes):
    def drawn(rng, dtype):
        for m, k, n in sizes:
            yield {"x": rng.normal(size=(m, k)).astype(dtype), "w": rng.normal(size=(k, n)).astype(dtype)}, {}
    return {"cases": drawn}


def raises(*_, **__):
    raise ValueError("oh")


def unnamed(x, w):
    return mg.tanh(x @ w)


def twice(x, w):
    z = mg.named("z", mg.named("z", x @ w) * 2.0)
    return mg.named("y", mg.tanh(z))


def as_input(x, w):
    z = mg.named("z", x @ w)
    return mg.named("w", mg.tanh(z))


def root(x, w):
    z = mg.named("z", x @ w)
    return mg.named("y", mg.sqrt(z))


def orthogonal(x, w):
    z = mg.named("z", x @ w)
    return mg.named("y", z - mg.mean(z, 0, keepdims=True) + 0.0 * mg.named("q", mg.mean(z, 0)))


WHEN_RUN = {
    "given that raises": ({"given": {"m": lambda values: values["X"]}}, "given['m'] that raises KeyError: 'X'", "values has: x, w, z, y"),
    "float64 for float32": ({"cases": fixed}, "x in float64 where cases(rng, 'float32') was called", "x.astype(dtype)"),
    "no cases": ({"cases": lambda rng, dtype: iter(())}, "cases that yield nothing", 'yield {"x": array}'),
    "cases that return None": ({"cases": lambda rng, dtype: None}, "cases that yield nothing", 'yield {"x": array}'),
    "cases that raise": ({"cases": raises}, "cases that raises ValueError: oh", "cases(numpy.random.default_rng(0)"),
    "one case": ({"cases": lambda rng, dtype: list(cases(rng, dtype))[:1]}, "1 case", "random_sizes"),
    "the same shapes": (of_sizes(*[(5, 3, 4)] * 3), "the same shapes in every case, x (5, 3), w (3, 4)", "random_sizes"),
    "the same number of elements": (of_sizes((8, 3, 2), (6, 4, 2), (4, 6, 3)), "x has 24, 24 and 24 elements", "random_sizes"),
    "shapes that do not depend on the seed": (of_sizes((5, 3, 4), (7, 2, 3), (4, 6, 2)), "the same shapes for every seed, x (5, 3)", "random_sizes"),
    "numbers that do not depend on the seed": ({"cases": lambda rng, dtype: cases(np.random.default_rng(0), dtype)}, "the same for every seed", "rng.normal"),
    "no pair": (with_cases(lambda a, k, rng, dtype: a), "a case that is a dict", 'yield {"x": array}, {}'),
    "a pair of other things": (with_cases(lambda a, k, rng, dtype: (list(a.values()), k)), "a tuple of list, dict", 'yield {"x": array}, {}'),
    "lists for arrays": (with_cases(lambda a, k, rng, dtype: ({n: v.tolist() for n, v in a.items()}, k)), "x that is a list", "numpy.asarray(x, dtype)"),
    "infinite inputs": (with_cases(lambda a, k, rng, dtype: ({**a, "w": a["w"] * np.inf}, k)), "w with NaN or infinity", "draw others"),
    "a keyword that forward has not": (with_cases(lambda a, k, rng, dtype: (a, {"eps": 0.1})), "forward of (x, w; eps) that raises TypeError", "by position"),
    "an array that forward has not": (
        with_cases(lambda a, k, rng, dtype: ({**a, "b": a["w"]}, k)), "forward of (x, w, b; ) that raises TypeError", "by position"),
    "a forward that raises": ({"forward": raises}, "that raises ValueError: oh", "by position"),
    "a forward that returns nothing": ({"forward": lambda x, w: None}, "a forward that returns None", "minigrad's ops"),
    "a forward that returns two": ({"forward": lambda x, w: (x, w)}, "a forward that returns a tuple", "minigrad's ops"),
    "a forward that names nothing": ({"forward": unnamed}, "a forward that names nothing", 'mg.named("y", ...)'),
    "a name given twice": ({"forward": twice}, "two values called z", "call one of them otherwise"),
    "a value called like an input": ({"forward": as_input}, "two values called w", "call one of them otherwise"),
    "given that hides a value": ({"given": {"z": lambda values: 1}}, "given['z'], which hides the value z", "call it otherwise"),
    "given that hides an input": ({"given": {"x": lambda values: 1}}, "given['x'], which hides the value x", "call it otherwise"),
    "a target that is no value": (line(target="X"), "the line d_x_one_line, but no value called X", "mg.named('X', ...)"),
    "a line for no value": ({"lines": {**LINES, "d_zz": 1}}, "the line d_zz, but no value called zz; did you mean 'z'?", "mg.named('zz', ...)"),
    "an adjoint that is no value": (line(adjoints=("Y",)), "the adjoint 'Y' for d_x_one_line, but no value called that", "correct the name"),
    "an adjoint that comes later": (
        {"lines": {**LINES, "d_z": LineSpec(adjoints=("y", "x"))}}, "z is computed from x, not the other way round", "leave it out"),
    "the adjoint that is asked for": ({"lines": {**LINES, "d_z": LineSpec(adjoints=("z", "y"))}}, "which is what the line is to compute", "leave it out"),
    "adjoints that do not help": (line(adjoints=("w",)), "none of which is computed from x", "give one of these"),
    "no adjoints": (line(adjoints=()), "none of which is computed from x", "give one of these"),
    "a derivative that is NaN": ({"forward": root}, "a forward whose derivative d_z is NaN", "roots"),
    "a derivative that is 0": ({"forward": orthogonal, "lines": {"d_q": 1}, "hints": {}}, "d_q that is 0 up to rounding in every case", "leave this line out"),
    "a line for integers": (
        {**with_cases(lambda a, k, rng, dtype: ({**a, "labels": np.arange(3)}, k)), "forward": lambda x, w, labels: forward(x, w),
         "lines": {**LINES, "d_labels": 1}},
        "the line d_labels, but labels holds int64", "leave this line out"),
    "a measurement that is no number": (
        {"lines": {**LINES, "cost": 1}, "measured": {"cost": lambda values: None}}, "a measurement of cost that is None", "return an int")}


@pytest.mark.parametrize("mistake", WHEN_RUN)
def test_a_mistake_that_shows_when_a_task_runs_is_named_by_its_examination(mistake):
    changes, got, fix = WHEN_RUN[mistake]
    said = examine(task(**changes))
    assert len(said) >= 1 and said[0].startswith("task 12_mine: got "), said
    assert got in said[0].splitlines()[0] and "\n  needs: " in said[0] and fix in said[0].split("\n  fix:   ")[1], said[0]


IN_THE_FILE = {
    "no file": (None, None, "no lines.py beside its task.py", "docs/homework.md"),
    "lower-case markers": (
        "### BEGIN SOLUTION\n    return x.T", "### begin solution\n    return x.T", "the marker '### begin solution' in line 13", "capital letters"),
    "two hash signs": ("### END SOLUTION\n\n\ndef d_x", "## END SOLUTION\n\n\ndef d_x", "the marker '## END SOLUTION' in line 15", "three #"),
    "a marker behind code": ("    return x.T", "    return x.T  ### BEGIN SOLUTION\n    # ", "line 14", "three #"),
    "a solution that does not end": ("    ### END SOLUTION\n\n\ndef d_x", "\n\ndef d_x", "inside the solution begun in line 13", "before a solution"),
    "the last solution does not end": ("w.T\n    ### END SOLUTION", "w.T", "### BEGIN SOLUTION in line 20 of lines.py without its end", "after the solution"),
    "an end without a beginning": (
        "    ### BEGIN SOLUTION\n    return x.T", "    return x.T", "### END SOLUTION in line 14 of lines.py without its beginning", "before a solution"),
    "no markers": (
        "    ### BEGIN SOLUTION\n    return x.T @ d_z\n    ### END SOLUTION", "    return x.T @ d_z", "d_w in lines.py without markers",
        "students get the solution"),
    "a line that is missing": ("def d_w(", "def d_W(", "no function d_w in lines.py; did you mean 'd_W'?", "take the line out"),
    "a function that is no line": (
        "def d_w(d_z, x):", "def d_q(d_y):\n    return d_y\n\n\ndef d_w(d_z, x):", "the function d_q in lines.py, which is no line", "give it points"),
    "a function defined twice": ("def d_w(d_z, x):", "def d_z(d_y, x):\n    return d_y\n\n\ndef d_w(d_z, x):", "2 functions called d_z", "delete the others"),
    "a wrong solution": ("x.T @ d_z", "2 * x.T @ d_z", "whose d_w is wrong", "or the forward pass"),
    "an argument that there is not": ("d_w(d_z, x)", "d_w(d_z, X)", "there is nothing called 'X'", "or the forward pass"),
    "a file that is no Python": ("def d_w(d_z, x):", "def d_w(d_z, x)", "a lines.py that Python cannot read", "correct it")}


@pytest.mark.parametrize("mistake", IN_THE_FILE)
def test_a_mistake_in_the_instructors_file_is_named(mistake, tmp_path):
    old, new, got, fix = IN_THE_FILE[mistake]
    if old is not None:
        assert SOLUTION.count(old) == 1
        (tmp_path / "lines.py").write_text(SOLUTION.replace(old, new), "utf-8")
    said = [s for s in examine(task(), tmp_path / "lines.py") if got in s.splitlines()[0]]
    assert said and said[0].startswith("task 12_mine: got ") and fix in said[0].split("\n  fix:   ")[-1], examine(task(), tmp_path / "lines.py")


def test_at_least_24_mistakes_are_tried():
    assert len(AT_ONCE) + len(WHEN_RUN) + len(IN_THE_FILE) >= 70


def test_a_task_without_a_mistake_passes(tmp_path):
    (tmp_path / "lines.py").write_text(SOLUTION, "utf-8")
    assert examine(task(), tmp_path / "lines.py") == []


@pytest.mark.parametrize("homework", [pytest.param(name, marks=() if name in ("01_own_op", "03_inplace_abn", "09_cost") else pytest.mark.more)
                                      for name in sorted(p.parent.name for p in HOMEWORK.glob("*/task.py"))])
def test_the_courses_homework_passes(homework):
    assert examine(derivation.load_task(HOMEWORK / homework), HOMEWORK / homework / "lines.py") == []


def test_given_that_raises_is_the_tasks_fault_and_never_a_students():
    bad = task(given={"m": raises})
    with pytest.raises(TaskError, match=r"given\['m'\] that raises ValueError: oh"):
        derivation.check(bad, {"d_z": lambda d_y, y: d_y * (1 - y * y)})


TEXT = '''
import minigrad as mg
from minigrad.derivation import Task, random_sizes

def forward(x):
    return mg.named("y", mg.tanh(x))

def cases(rng, dtype):
    for m, n in random_sizes(rng, (4, 9), (2, 6)):
        yield {{"x": rng.normal(size=(m, n)).astype(dtype)}}, {{}}

TASK = Task("12_mine", forward, cases, {{"d_x": {points}}})
'''


def test_the_command_examines_a_homework(tmp_path, capsys):
    folder = tmp_path / "12_mine"
    folder.mkdir()
    (folder / "task.py").write_text(TEXT.format(points=2), "utf-8")
    (folder / "lines.py").write_text(textwrap.dedent("""
        def d_x(d_y, y):
            ### BEGIN SOLUTION
            return d_y * (1 - y * y)
            ### END SOLUTION
        """), "utf-8")
    assert main([str(folder), "--validate"]) == 0
    assert capsys.readouterr().out == "12_mine: 1 line, 2 points. Nothing is wrong with it.\n"
    (folder / "lines.py").write_text((folder / "lines.py").read_text("utf-8").replace("### END", "### end"), "utf-8")
    assert main([str(folder), "--validate"]) == 1
    assert "the marker '### end SOLUTION'" in capsys.readouterr().out
    (folder / "task.py").write_text(TEXT.format(points=0.5), "utf-8")
    for arguments in (["--validate"], [str(folder / "lines.py")], ["--hint", "d_x"]):
        assert main([str(folder), *arguments]) == 2
        assert "task 12_mine: got 0.5 points for d_x" in capsys.readouterr().err
    folder.rename(tmp_path / "13_other")
    (tmp_path / "13_other" / "task.py").write_text(TEXT.format(points=2), "utf-8")
    assert main([str(tmp_path / "13_other"), "--validate"]) == 1
    assert "a task called 12_mine in the folder 13_other" in capsys.readouterr().out


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [((5, 12), (2, 7)), ((2, 6), (4, 9)), ((9, 14), (2, 4)), ((4, 9), (2, 6), (2, 6)), ((3, 9),)])
def test_random_sizes_hide_no_mistake(ranges):
    seen = set()
    for seed in range(50):
        found = list(random_sizes(np.random.default_rng(seed), *ranges))
        assert len(found) == 3 and found == list(random_sizes(np.random.default_rng(seed), *ranges))
        assert all(low <= n <= high for sizes in found for n, (low, high) in zip(sizes, ranges, strict=True))
        assert all(len({*sizes}) == len(sizes) for sizes in found)
        assert all(len({*axis}) == 3 for axis in zip(*found, strict=True)) and len({int(np.prod(sizes)) for sizes in found}) == 3
        seen.add(tuple(found))
    assert len(seen) > 30


@pytest.mark.parametrize("ranges", [((5, 6), (2, 7)), ((0, 5),), ((3, 5), (3, 5), (3, 5), (3, 5))])
def test_impossible_sizes_are_refused(ranges):
    with pytest.raises(ValueError, match="random_sizes: got the ranges"):
        list(random_sizes(np.random.default_rng(0), *ranges))


@pytest.mark.parametrize("homework", sorted(p.parent.name for p in HOMEWORK.glob("*/task.py")))
def test_a_table_of_answers_made_with_one_seed_fits_no_other(homework):
    cases = derivation.load_task(HOMEWORK / homework).cases
    shapes = {tuple(tuple(a.shape for a in arrays.values()) for arrays, _ in cases(np.random.default_rng(seed), "float64")) for seed in range(20)}
    assert len(shapes) >= 10 and all(len({*found}) >= 3 for found in shapes)


def test_the_homework_that_the_docs_write_is_a_homework(tmp_path):
    page = (HOMEWORK.parents[1] / "docs" / "homework.md").read_text("utf-8")
    task_text, lines_text = (re.search(rf"^## {name}\n.*?```python\n(.*?)```", page, re.MULTILINE | re.DOTALL)[1] for name in (r"task\.py", r"lines\.py"))
    folder = tmp_path / "12_my_layer"
    folder.mkdir()
    (folder / "task.py").write_text(task_text, "utf-8")
    (folder / "lines.py").write_text(lines_text, "utf-8")
    assert examine(derivation.load_task(folder), folder / "lines.py") == []
