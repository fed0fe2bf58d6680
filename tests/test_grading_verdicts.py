"""Grading with the real checker: what is right gets its points, whatever its encoding, dtype, imports and prints; statuses are those of the docs."""

import csv
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from lectures.grading import grade, gradebook, submissions
from minigrad.derivation import report

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "lectures" / "homework" / "02_batch_norm"
SOLUTION = (MODEL / "lines.py").read_text("utf-8")
HEAD, TAIL = SOLUTION.split("\n\n\n", 1)
WIDE = ("\n\nimport functools\n\n\ndef _wide(f):\n    return functools.wraps(f)(lambda **given: np.asarray(f(**given), 'float64'))\n\n\n"
        "globals().update({n: _wide(f) for n, f in list(globals().items()) if n.startswith('d_')})\n")


def in_d_beta(statement):
    return SOLUTION.replace("    return np.sum(d_y, axis=0)", f"    {statement}\n    return np.sum(d_y, axis=0)", 1)


RIGHT = {
    "plain": SOLUTION, "wide": SOLUTION + WIDE, "bom": b"\xef\xbb\xbf" + SOLUTION.encode(),
    "latin": "# coding: latin-1\n# Zoë\n".encode("latin-1") + SOLUTION.encode(),
    "prints": in_d_beta("print('x' * 20_000_000)"), "prints at the top": "print('x' * 20_000_000)\n" + SOLUTION,
    "self-check": SOLUTION + "\n\nfrom minigrad.derivation import check, load_task\n\nprint(check(load_task('02_batch_norm'), __file__))\n",
    "asserted": SOLUTION + "\n\nimport sys\n\nimport minigrad as mg\n\n"
                           "assert mg.derivation.check(mg.derivation.load_task('02_batch_norm'), __file__)\nsys.exit(0)\n",
    "command": SOLUTION + "\n\nfrom minigrad.derivation.__main__ import main\n\nassert main(['02_batch_norm', __file__]) == 0\n",
    "defaults": SOLUTION.replace("eps):", "eps=1e-5):"),
    "slow": "import time\nwith open('log.txt', 'a') as f:\n    f.write('run ')\nassert open('log.txt').read() == 'run '\ntime.sleep(1)\n" + SOLUTION,
}
WRONG = {  # text, status, points less than all, part of the message
    "nan": (in_d_beta("return np.full(d_y.shape[1], np.nan, d_y.dtype)"), "ok", 1, "d_beta: wrong"),
    "nan in float32": (in_d_beta("if d_y.dtype == np.float32: return d_y.sum(0) * np.nan"), "ok", 1, "in float32 it returns NaN"),
    "escapes": (in_d_beta("raise ValueError('\\x1b[31m\\x9b2J red')"), "ok", 1, "ValueError: \\x1b[31m\\x9b2J red"),
    "formula": (in_d_beta("raise ValueError(';=1+1')"), "ok", 1, ";=1+1"),
    "import": ("import none_such_module\n" + SOLUTION, "ok", 0, "all right"),
    "import used": ("import none_such_module\n" + in_d_beta("return none_such_module.sum(d_y)"), "ok", 1,
                    "d_beta: error: none_such_module.sum() is not there when a line is judged"),
    "raises": ("1 / 0\n" + SOLUTION, "import error", 10**6, "ZeroDivisionError: division by zero (line 1"),
    "ends": ("import os\nos._exit(0)\n" + SOLUTION, "stopped", 10**6, "ended the process"),
    "blank": ("", "blank", 10**6, "no line is written"),
    "syntax": (SOLUTION + "\n\ndef", "syntax error", 10**6, "line "),
    "forks": (in_d_beta("__import__('os').fork()"), "refused", 1, "start a process (fork)"),
    "in a thread": (in_d_beta("import os, threading; t = threading.Thread(target=os.fork); t.start(); t.join()"), "refused", 0, "start a process (fork)"),
    "limits": (in_d_beta("import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99))"), "refused", 1, "change its limits"),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    base = tmp_path_factory.mktemp("verdicts")
    for student, text in {**RIGHT, **{k: v[0] for k, v in WRONG.items()}}.items():
        file = base / "submitted" / student / "02_batch_norm.py"
        file.parent.mkdir(parents=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    rows = grade.main([str(base / "submitted"), "--csv", str(base / "grades.csv"), "--homework", "02_batch_norm", "--jobs", "2", "--seed", "0"])
    with open(base / "grades.csv", encoding="utf-8-sig", newline="") as f:
        return {r.student: r for r in rows}, {r["student"]: r for r in csv.DictReader(f)}, (base / "grades.csv").read_bytes()


@pytest.mark.more
@pytest.mark.parametrize("student", RIGHT)
def test_what_is_right_gets_all_points_and_no_accusation(student, graded):
    row = graded[0][student]
    assert row.status == "ok" and row.earned == row.points == 12, row
    assert row.message.startswith("all right") and not row.codes
    assert (row.message == "all right") == (student != "wide") and (student != "wide" or "float64 for float32" in row.message)


@pytest.mark.more
@pytest.mark.parametrize("student", WRONG)
def test_what_is_wrong_is_said_as_it_is(student, graded):
    _, status, less, words = WRONG[student]
    row = graded[0][student]
    assert row.status == status and row.earned == max(0, row.points - less), row
    assert words in row.message, row


@pytest.mark.more
def test_the_table_holds_no_control_characters_and_no_formulas(graded):
    _, table, data = graded
    assert all(c.isprintable() or c in "\r\n\ufeff" for c in data.decode("utf-8"))
    assert table["formula"]["message"].endswith(";'=1+1 (line 9)") or ";'=1+1" in table["formula"]["message"]
    for row in table.values():
        for c in row.values():
            assert not re.search(r"(^|;)\s*[=+\-@]", c), c


@pytest.mark.parametrize(("text", "cell"), [("=1", "'=1"), (" +1", "' +1"), ("x; @y", "x; '@y"), ("a;-b;=c", "a;'-b;'=c"), ("right; d_x 1/1", "right; d_x 1/1"),
                                            ("x - 1 = y", "x - 1 = y"), ("\x1b;\x00=1", " ; '=1"), ("\u200b=1", "' =1"), ("＝1;＠x", "'＝1;'＠x")])
def test_cells_are_no_formulas(text, cell):
    assert gradebook.cell(text) == cell


# -- statuses ----------------------------------------------------------------------------------------------------------


def test_the_docs_list_the_statuses_that_code_makes():
    row = next(line for line in (ROOT / "docs" / "instructors.md").read_text("utf-8").splitlines() if line.startswith("| `status`"))
    listed = set(re.findall(r"`([a-z ]+)`", row.split("|", 2)[2]))
    assert listed == {*report.STATUSES, *gradebook.STATUSES} - {"not checked"}  # which only a file that checks itself sees


def test_each_status_stands_in_a_row_of_some_test(graded):
    from test_grading import HANDED_IN, NO_FILE
    made = {row.status for row in graded[0].values()} | {status for _, status, *_ in HANDED_IN.values()} | {*NO_FILE.values()}
    assert made | {"no report", "not graded"} == {*report.STATUSES, *gradebook.STATUSES} - {"not checked"}  # those two: below, and in test_grading.py


def test_a_task_that_fails_is_not_the_students_fault(tmp_path, capsys):
    bad = np.random.default_rng(submissions.seed_of(0, "ada", "11_odd")).random()
    folder = tmp_path / "homework" / "11_odd"
    folder.mkdir(parents=True)
    (folder / "task.py").write_text(textwrap.dedent(f"""
        import numpy as np
        import minigrad as mg
        from minigrad.derivation import Task


        def cases(rng, dtype):
            sign = -1.0 if rng.random() == {bad!r} else 1.0
            yield {{"x": sign * rng.uniform(1.0, 2.0, 5)}}, {{}}


        TASK = Task("11_odd", lambda x: mg.named("y", mg.sqrt(x)), cases, {{"d_x": 2}})
        """))
    for student in ("ada", "bob"):
        (tmp_path / "in" / student).mkdir(parents=True)
        (tmp_path / "in" / student / "11_odd.py").write_text("def d_x(d_y, y):\n    return d_y / y / 2\n")
    ada, bob = grade.main([str(tmp_path / "in"), "--csv", str(tmp_path / "g.csv"), "--seed", "0"], below=tmp_path / "homework")
    assert (ada.status, ada.earned, ada.points) == ("not graded", 0, 2) and "derivative d_x is NaN" in ada.message
    assert (bob.status, bob.earned) == ("ok", 2)
    (folder / "task.py").write_text((folder / "task.py").read_text().replace("-1.0 if", "-1.0 if True or"))
    with pytest.raises(SystemExit):
        grade.main([str(tmp_path / "in"), "--csv", str(tmp_path / "g.csv"), "--seed", "0"], below=tmp_path / "homework")
    assert "derivative d_x is NaN" in capsys.readouterr().err
