"""The students' tree: no solution in it, every stub with its message, and nothing put in place that was not verified."""

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lectures.tools import listed, readable, release
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


UNLISTED = {"docs/students.md", "README.md", "lectures/grade.py", "lectures/tools/build.py", "lectures/grading/guard.py", "lectures/__pycache__/x.pyc"}


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
    (root / listed.LIST).write_text("\n".join(sorted({*texts} - UNLISTED)), encoding="utf-8")
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


# -- the list ----------------------------------------------------------------------------------------------------------

STRAYS = {
    "lectures/grades.csv": "not in the list", "lectures/homework/01_toy/grades.xlsx": "not in the list", "lectures/exam/exam.md": "not in the list",
    "lectures/homework/99_exam/task.py": "not in the list", "lectures/homework/01_toy/alternative.py": "not in the list",
    "lectures/homework/01_toy/lines.py~": "an editor's backup", "lectures/homework/01_toy/lines.py.bak": "a backup",
    "lectures/homework/01_toy/.lines.py.swp": "an editor's swap file", "lectures/homework/01_toy/#lines.py#": "an editor's lock or autosave",
    "lectures/homework/01_toy/.#lines.py": "an editor's lock or autosave", "lectures/01_tape.py.orig": "what a merge has left",
    "lectures/homework/01_toy/lines.py.rej": "what a patch has left", "lectures/.ipynb_checkpoints/01_tape-checkpoint.ipynb": "a notebook server's copy",
    "lectures/Untitled.ipynb": "a notebook that is not in the list", "minigrad/.DS_Store": "a cache", "lectures/.mypy_cache/a.json": "a cache",
    "lectures/__pycache__/lines.py": "a cache", "minigrad/solution.py": "not in the list", "lectures/homework/01_toy/lines.pyc": "byte code out of its place"}


FOLDERS = (*release.LIBRARY, release.COURSE)


def plant(source):
    for name in STRAYS:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ada,12", encoding="utf-8")


def test_every_stray_file_is_named_and_nothing_is_released(source):
    assert not listed.problems(source, FOLDERS, release.INSTRUCTORS)
    plant(source)
    (source / "lectures/homework/02_linked").symlink_to(source.parent)
    with pytest.raises(NotReleased) as caught:
        make(source)
    *said, what_to_do = str(caught.value).splitlines()
    assert sorted(said) == sorted([*(f"{name}: {what}" for name, what in STRAYS.items()), "lectures/homework/02_linked: not in the list"])
    assert "git add" in what_to_do and "release --list" in what_to_do
    assert not (source.parent / "out").exists()


def test_the_list_must_name_what_is_there_and_no_more(source):
    text = (source / listed.LIST).read_text("utf-8")
    for name, said in (("minigrad/gone.py", "in the list, but not in the tree"), ("lectures/grade.py", "not of the released folders"),
                       ("docs/students.md", "not of the released folders"), ("../secret.py", "no path inside of this tree")):
        (source / listed.LIST).write_text(f"{text}\n{name}", "utf-8")
        with pytest.raises(NotReleased, match=said):
            make(source)
    (source / listed.LIST).write_text(text, "utf-8")
    (source / "setup.cfg").unlink()
    (source / "setup.cfg").symlink_to(source / "README.md")
    with pytest.raises(NotReleased, match=r"setup\.cfg: a link, not a file"):
        make(source)
    (source / listed.LIST).unlink()
    with pytest.raises(NotReleased, match="there is no list"):
        make(source)


def test_where_there_is_git_list_and_git_must_agree(source):
    def git(*arguments):
        subprocess.run(["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True)

    def problems():
        return listed.problems(source, FOLDERS, release.INSTRUCTORS)

    git("init", "-q")
    (source / ".gitignore").write_text("__pycache__/\n", "utf-8")
    git("add", ".")
    assert not problems()
    (source / "lectures/exam.py").write_text("", "utf-8")
    git("add", "lectures/exam.py")
    assert problems()[0] == "lectures/exam.py: tracked by git, but not in the list"
    assert listed.write_list(source, FOLDERS, release.INSTRUCTORS) == (["lectures/exam.py"], []) and not problems()
    git("rm", "-q", "--cached", "lectures/exam.py")
    assert problems()[0].startswith("lectures/exam.py: in the list, but not tracked by git")
    assert listed.write_list(source, FOLDERS, release.INSTRUCTORS) == ([], ["lectures/exam.py"])
    assert problems()[0] == "lectures/exam.py: not in the list"


def test_without_git_there_is_no_list_to_write(source):
    with pytest.raises(ValueError, match="no git checkout"):
        listed.write_list(source, release.LIBRARY, ())


def test_the_list_of_this_tree_is_complete():
    """After a file was added or removed: python -m lectures.release --list."""
    known = listed.tracked(ROOT, (*release.LIBRARY, release.COURSE))
    assert known is None or listed.listed(ROOT) == sorted(name for name in known if not name.startswith(release.INSTRUCTORS))


# -- solutions in other names ------------------------------------------------------------------------------------------


def expression(text):
    return ast.parse(text, mode="eval").body


SAME = [
    ("np.sum(d_y * xhat, axis=0) / m", "(hat * g).sum(1, keepdims=True) / len_x"), ("a * b - c", "-c + b * a"), ("a * b / c * 2.0", "2 * (b / c) * a"),
    ("-a * b", "a * -b"), ("a * b / c", "inverse * y * x"), ("x.T @ d", "A.mT @ B"), ("gain[:, None] * (a - b)", "(u - v) * w"), ("mg.mean(a * a, 0)",
                                                                                                                                  "(z * z).mean(axis=1)"),
    ("np.where(z > 0, g, s * g)", "mg.where(Y > 0, GY, GY * SLOPE)"), ("a - b + c", "c - (b - a)"), ("mg.expand_dims(s, 1) * x + y", "y0 + x0 * s0"),
    ("r * (g - np.mean(g, axis=0) - h * np.mean(g * h, axis=0))", "(u - w * (w * u).mean(1, keepdims=True) - u.mean(1, keepdims=True)) * k")]
OTHER = [
    ("np.sum(a * b, axis=0) / m", "np.sum(a * a, axis=0) / m"), ("a * b - c", "c - a * b"), ("a @ b", "a * b"),
    ("2 * a * b", "3 * a * b"),
    ("np.sum(a * b) * c", "np.mean(a * b) * c"), ("a.T @ b", "a @ b.T"), ("a**2 * b", "a**3 * b"), ("a * b + c * d", "a * b + c * a"),
    ("g - np.mean(g) - h * np.mean(g * h)", "g - np.mean(g) - h * np.mean(g * g)"), ("np.where(z > 0, g, s)", "np.where(z < 0, g, s)")]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_an_expression_in_other_names_axes_and_order_is_the_same(one, other):
    assert readable.fingerprint(expression(one)) == readable.fingerprint(expression(other))


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another_expression_is_another(one, other):
    assert readable.fingerprint(expression(one)) != readable.fingerprint(expression(other))


HIDDEN = {
    "in a program": ("lectures/01_tape.py", 'print("the end")', "def f(g, h, n):\n    return 1 + (h * g).sum(0) / n\n", "lectures/01_tape.py:9: "),
    "in a comment of a program": ("lectures/01_tape.py", "# # A lecture", "# # A lecture\n#\n#     derivative = (h * g).sum(0) / n", "lectures/01_tape.py:4: "),
    "in a notebook": ("lectures/01_tape.ipynb", "def d_z(x):", "total = (h * g).sum(0) / n\\ndef d_z(x):", "lectures/01_tape.ipynb:cell 1: "),
    "in Markdown": ("docs/students.md", "# Homework", "# Homework\n\n```python\nf = (h * g).sum(0) / n\n```", "README.md:3: "),
    "between backticks": ("docs/students.md", "# Homework", "# Homework\n\nTake `(h * g).sum(0) / n`, please.", "README.md:3: "),
    "in a hint": ("lectures/homework/01_toy/task.py", "LINES", "HINT = 'A quotient: (h * g).sum(0) / n.'\nLINES", "01_toy/task.py:1: ")}


@pytest.mark.parametrize("where", HIDDEN)
def test_a_solution_in_other_names_is_found(where, source):
    edit(source / "lectures/homework/01_toy/lines.py", '    return x + len("y")\n',
         '    if x is None:\n        return sum(x * y, axis=0) / m\n    return x + len("y")\n')
    name, old, new, said = HIDDEN[where]
    edit(source / name, old, new)
    (found,) = release.leaks(source, source.parent / "tree", release.make(source, source.parent / "tree"))
    assert said in found and "is the solution in lectures/homework/01_toy/lines.py:17" in found, found


@pytest.mark.more
def test_no_solution_of_this_course_can_be_read_in_it(tmp_path):
    gone = release.make(ROOT, tmp_path)
    assert len(readable.solutions(ROOT, gone)) > 50
    assert release.leaks(ROOT, tmp_path, gone) == []
