"""The students' tree: no solution in it, every stub with its message, and nothing put in place that was not verified."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from lectures.tools import release
from lectures.tools.release import NotReleased

ROOT = Path(__file__).resolve().parents[1]
CHECKER = (sys.executable, str(Path(__file__).with_name("standin_checker.py")))

LINES = '''"""Derive two lines."""


def d_x(x):
    """The first line."""
    ### BEGIN SOLUTION
    # twice, since x is used twice
    twice = x + x
    return twice
    ### END SOLUTION


def d_y(x):
    """The second line."""
    ### BEGIN SOLUTION
    return x + len("y")
    ### END SOLUTION
'''
STUBS = '''"""Derive two lines."""


def d_x(x):
    """The first line."""
    raise NotImplementedError("d_x: your turn")


def d_y(x):
    """The second line."""
    raise NotImplementedError("d_y: your turn")
'''
LECTURE = '''# %% [markdown]
# # A lecture

# %% nbgrader={"grade": false, "grade_id": "one", "locked": false, "schema_version": 3, "solution": true}
### BEGIN SOLUTION
answer = max(6, 7) * 7
### END SOLUTION

# %%
print("the end")
'''


def code_cell(source, **more):
    return {"cell_type": "code", "execution_count": 3, "id": "0", "metadata": {}, "outputs": [{"name": "stdout", "output_type": "stream", "text": ["42\n"]}],
            "source": source.splitlines(keepends=True), **more}


NBGRADER = {"nbgrader": {"grade": False, "grade_id": "one", "locked": False, "schema_version": 3, "solution": True}}
NOTEBOOK = {"cells": [code_cell("def d_z(x):\n    ### BEGIN SOLUTION\n    return x * len('zz')\n    ### END SOLUTION", metadata=NBGRADER),
                      {"cell_type": "markdown", "id": "1", "metadata": {}, "source": ["the π end"]}],
            "metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def source(tmp_path):
    """A small source tree: a library, a lecture in both forms, and a homework that the stand-in checker knows."""
    root = tmp_path / "source"
    texts = {"minigrad/__init__.py": '"""A library."""\n', "setup.cfg": "[metadata]\n", "docs/students.md": "# Homework\n", "README.md": "for instructors\n",
             "lectures/__init__.py": "", "lectures/grade.py": "SECRET = 1\n", "lectures/tools/build.py": "SECRET = 1\n",
             "lectures/grading/guard.py": "SECRET = 1\n", "lectures/01_tape.py": LECTURE,
             "lectures/01_tape.ipynb": json.dumps(NOTEBOOK), "lectures/paths.svg": "<svg/>\n", "lectures/__pycache__/x.pyc": "x",
             "lectures/homework/01_toy/task.py": 'LINES = {"d_x": (lambda x: 2 * x, 1), "d_y": (lambda x: x + 1, 2)}\n',
             "lectures/homework/01_toy/lines.py": LINES}
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return root


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8", newline="")


def make(source, dest="out"):
    return release.release(source.parent / dest, root=source, checker=CHECKER)


def everything(tree):
    return {p.relative_to(tree).as_posix(): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


# -- the stripper ------------------------------------------------------------------------------------------------------


def test_a_stub_stands_where_the_solution_was_and_nothing_else_changes():
    text, gone = release.strip(LINES, "lines.py")
    assert text == STUBS
    assert [s.where for s in gone] == ["lines.py:7", "lines.py:8", "lines.py:9", "lines.py:16"]


def test_a_solution_outside_a_function_gets_a_stub_without_a_name():
    text, _ = release.strip("def before():\n    pass\n\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n", "f.py")
    assert text == 'def before():\n    pass\n\nraise NotImplementedError("your turn")\n'


def test_the_name_is_that_of_the_enclosing_function_not_of_the_last_one():
    text, _ = release.strip("def d_x(x):\n    def helper(y):\n        return y\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\n", "f.py")
    assert '    raise NotImplementedError("d_x: your turn")' in text


@pytest.mark.parametrize("text, line", [
    ("x\n### BEGIN SOLUTION\ny\n", "f.py:2"), ("x\n### END SOLUTION\n", "f.py:2"),
    ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION\n", "f.py:2"),
    ("## BEGIN SOLUTION\ny\n### END SOLUTION\n", "f.py:1"), ("### begin solution\n", "f.py:1"), ("x = 1  ### BEGIN SOLUTION\n", "f.py:1")])
def test_a_marker_without_its_partner_is_an_error_with_its_line(text, line):
    with pytest.raises(NotReleased, match=line):
        release.strip(text, "f.py")


def test_a_notebook_keeps_its_metadata_and_loses_solutions_and_outputs():
    text, gone = release.strip_notebook(json.dumps(NOTEBOOK), "n.ipynb")
    cells = json.loads(text)["cells"]
    assert "".join(cells[0]["source"]) == 'def d_z(x):\n    raise NotImplementedError("d_z: your turn")'
    assert cells[0]["metadata"] == NBGRADER and cells[0]["outputs"] == [] and cells[0]["execution_count"] is None
    assert cells[1] == NOTEBOOK["cells"][1] and "π" in text
    assert [s.where for s in gone] == ["n.ipynb:cell 1:3"]


# -- the tree ----------------------------------------------------------------------------------------------------------


def test_the_tree_holds_the_course_without_solutions_and_without_the_instructors_tools(source):
    tree = make(source)
    found = everything(tree)
    assert set(found) == {"minigrad/__init__.py", "setup.cfg", "README.md", "CONTENTS.sha256", "lectures/__init__.py", "lectures/01_tape.py",
                          "lectures/01_tape.ipynb", "lectures/paths.svg", "lectures/homework/01_toy/task.py", "lectures/homework/01_toy/lines.py"}
    assert found["README.md"] == b"# Homework\n"
    assert found["lectures/homework/01_toy/lines.py"].decode() == STUBS
    assert b"nbgrader={" in found["lectures/01_tape.py"] and b'raise NotImplementedError("your turn")' in found["lectures/01_tape.py"]
    assert found["lectures/homework/01_toy/task.py"] == (source / "lectures/homework/01_toy/task.py").read_bytes()
    for line in found["CONTENTS.sha256"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(found.pop(name)).hexdigest() == digest
    assert set(found) == {"CONTENTS.sha256"}


def test_two_runs_give_the_same_bytes_and_replace_the_earlier_release(source):
    first = everything(make(source))
    (source.parent / "out" / "stale.txt").write_text("from last year")
    assert everything(make(source)) == first == everything(make(source, "other"))
    assert sorted(p.name for p in source.parent.iterdir()) == ["other", "out", "source"]  # nothing temporary is left


WRONG = {
    "an unbalanced marker": ("lectures/01_tape.py", "### END SOLUTION\n", "", "lectures/01_tape.py:5: "),
    "a solution left in a lecture": ("lectures/01_tape.py", 'print("the end")', 'answer   = max( 6,7 )*7', "lectures/01_tape.py:10: shows a line"),
    "a solution left in a notebook": ("lectures/01_tape.ipynb", "the \\u03c0 end", "answer = max(6, 7) * 7", "lectures/01_tape.ipynb:cell 2: shows"),
    "a comment of a solution left in a figure": ("lectures/paths.svg", "<svg/>", "<svg># twice, since x is used twice</svg>", "lectures/paths.svg:1: shows"),
    "a wrong solution": ("lectures/homework/01_toy/lines.py", "twice = x + x", "twice = x + 5 * x", "lines.py:4: the solution of d_x is wrong"),
    "a solution that does not run": ("lectures/homework/01_toy/lines.py", "return twice", "return(", "homework/01_toy/lines.py:9: '(' was never closed"),
    "a stub that does not say its message": (
        "lectures/homework/01_toy/lines.py", '    """The second line."""\n', '    return 0\n', "lines.py:13: d_y must raise"),
    "a line that nobody wrote": ("lectures/homework/01_toy/lines.py", "def d_y(x)", "def d_why(x)", "lines.py:1: the solution of d_y is not implemented"),
    "a stub that is no Python": (
        "lectures/homework/01_toy/lines.py", "    ### BEGIN SOLUTION\n    return x + len", "    ### BEGIN SOLUTION\n  return x + len", None),
    "a checker that breaks": ("lectures/homework/01_toy/task.py", "LINES", "LANES", "01_toy/lines.py:1: the checker gave no report but: KeyError"),
}


@pytest.mark.more
@pytest.mark.parametrize("what", WRONG)
def test_nothing_is_written_and_file_and_line_are_named_with(what, source):
    before = everything(make(source))
    name, old, new, said = WRONG[what]
    edit(source / name, old, new)
    with pytest.raises(NotReleased) as caught:
        make(source)
    assert said is None or said in str(caught.value), str(caught.value)
    assert everything(source.parent / "out") == before
    with pytest.raises(NotReleased):
        make(source, "other")
    assert sorted(p.name for p in source.parent.iterdir()) == ["out", "source"]


def test_a_line_of_the_library_is_public_and_may_be_part_of_a_solution(source):
    edit(source / "minigrad/__init__.py", '"""A library."""\n', '"""A library."""\n\n\ndef f(x):\n    return x + len("y")\n')
    edit(source / "lectures/01_tape.py", 'print("the end")', 'print("""return x + len("y")""")')
    assert make(source).is_dir()


def test_folders_that_are_no_release_are_never_replaced(source):
    precious = source.parent / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x")
    for dest in (precious, source, source / "lectures", source.parent):
        with pytest.raises(NotReleased):
            release.release(dest, root=source, checker=CHECKER)
    assert (precious / "thesis.txt").read_text() == "x"
    empty = source.parent / "empty"
    empty.mkdir()
    assert (release.release(empty, root=source, checker=CHECKER) / "README.md").is_file()
