"""Grading: whatever is handed in gets a row that says what it is, and harms nobody."""

import contextlib
import csv
import doctest
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from grading_course import wait_for

from lectures.grading import grade, gradebook, handback, handed_in, roster, sandbox, submissions
from lectures.grading.gradebook import GradebookRow
from lectures.tools import release
from minigrad.derivation import stubs

ROOT = Path(__file__).resolve().parents[1]
HOMEWORK = "01_toy"
POSIX = pytest.mark.skipif(os.name == "nt", reason="limits and process groups are POSIX")
TASK = """from minigrad import named
from minigrad.derivation import Task


def cases(rng, dtype):
    yield {"a": rng.normal(size=int(rng.integers(2, 1000))).astype(dtype)}, {}


TASK = Task("01_toy", lambda a: named("y", a * a), cases, {"d_x": 1, "d_y": 2}, given={"x": lambda v: len(v["a"])},
            measured={"d_x": lambda v: 2 * len(v["a"]), "d_y": lambda v: len(v["a"]) + 1})
"""
SOLUTION = "def d_x(x):\n    return 2 * x\n\n\ndef d_y(x):\n    return x + 1\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a homework, its solution, some submissions and a precious file; and its own temporary folder."""
    base = tmp_path_factory.mktemp("grading")
    homework = base / "homework" / HOMEWORK
    homework.mkdir(parents=True)
    (homework / "task.py").write_text(TASK)
    (homework / "lines.py").write_text(SOLUTION)
    (base / "precious.txt").write_text("precious")
    (base / "submissions").mkdir()
    (base / "tmp").mkdir()
    return base


def hand_in(place, student, text, name=f"{HOMEWORK}.py"):
    path = place / "submissions" / student / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def in_d_y(statements, before=""):
    """A submission in which d_y runs these statements, and is right otherwise."""
    body = "\n".join("    " + line for line in statements.splitlines())
    return f"import os, sys\n{before}\n\ndef d_x(x):\n    return 2 * x\n\n\ndef d_y(x):\n{body}\n    return x + 1\n"


# student -> (file, status, points of 3, a part of the message). {base} is the folder of `place`.
HANDED_IN = {
    "right": (SOLUTION, "ok", 3, "all right"),
    "blank": ("", "blank", 0, "no line is written"),
    "stubs": ('def d_x(x):\n    raise NotImplementedError("d_x: your turn")\n', "blank", 0, "no line is written"),
    "syntax error": ("def d_x(x)\n", "syntax error", 0, "line 1"),
    "wrong name": (SOLUTION.replace("d_y", "dy"), "ok", 1, "d_y: not implemented: there is no function d_y"),
    "sign": (SOLUTION.replace("2 *", "-2 *"), "ok", 2, "d_x: wrong"),
    "hard-coded value": (SOLUTION.replace("2 * x", "42"), "ok", 2, "d_x: wrong: predicted 42, measured "),
    "not Unicode": (b"s = '\xff\xfe'\n" + SOLUTION.encode(), "syntax error", 0, "not a text file in UTF-8"),
    "a null byte": (SOLUTION.encode() + b"\0", "syntax error", 0, "null bytes"),
    "network": (in_d_y('import urllib.request\nurllib.request.urlopen("http://example.com:80/x")'), "refused", 1,
                "tried to open http://example.com:80/x at line 10 of 01_toy.py"),
    "socket": (in_d_y('import socket\ns = socket.socket()\ns.connect(("127.0.0.1", {port}))'), "refused", 1,
               "tried to open a network connection to 127.0.0.1:{port} at line 11 of"),
    "look-up": (in_d_y('import socket\nsocket.create_connection(("example.com", 80))'), "refused", 1, "network connection to example.com:80 at line 10"),
    "swallows": (in_d_y('try:\n    open("{base}/new.txt", "w")\nexcept Exception:\n    pass'), "refused", 3, "tried to write {base}/new.txt at line 10"),
    "import time": ('open("{base}/new.txt", "w")\n' + SOLUTION, "refused", 0, "tried to write {base}/new.txt at line 1 of 01_toy.py"),
    "writes inside": (in_d_y('with open("notes.txt", "w") as f:\n    f.write("x")\nos.rename("notes.txt", "more.txt")\nos.remove("more.txt")'), "ok", 3, ""),
    "writes in tmp": (in_d_y('import tempfile\nwith tempfile.TemporaryDirectory() as d:\n    open(d + "/x", "w").close()'), "ok", 3, ""),
    "overwrites": (in_d_y('os.open("{base}/precious.txt", os.O_WRONLY | os.O_TRUNC)'), "refused", 1, "tried to write {base}/precious.txt"),
    "deletes": (in_d_y('os.remove("{base}/precious.txt")'), "refused", 1, "tried to delete {base}/precious.txt at line 9"),
    "deletes all": (in_d_y('import shutil\nshutil.rmtree("{base}")'), "refused", 1, "tried to delete {base} at line 10"),
    "by descriptor": (in_d_y('d = os.open("{base}", os.O_RDONLY)\nos.remove("precious.txt", dir_fd=d)'), "refused", 1, "tried to read {base} at line 9"),
    "renames": (in_d_y('os.rename("{base}/precious.txt", "mine.txt")'), "refused", 1, "tried to rename {base}/precious.txt"),
    "through a link": (in_d_y('os.symlink("{base}/precious.txt", "link")\nopen("link", "a")'), "refused", 1, "tried to write {base}/precious.txt"),
    "hard link": (in_d_y('os.link("{base}/precious.txt", "link")'), "refused", 1, "tried to link {base}/precious.txt"),
    "goes away": (in_d_y('os.chdir("{base}")\nopen("precious.txt", "r+")'), "refused", 1, "tried to write {base}/precious.txt"),
    "copies": (in_d_y('open("{base}/submissions/right/01_toy.py").read()'), "refused", 1, "tried to read {base}/submissions/right/01_toy.py"),
    "looks around": (in_d_y('os.listdir("{base}/submissions")'), "refused", 1, "tried to list the folder {base}/submissions"),
    "reads solutions": (in_d_y('open("{base}/homework/01_toy/lines.py")'), "refused", 1,
                        "tried to read {base}/homework/01_toy/lines.py"),
    "reads the course": (in_d_y('open("{root}/lectures/tools/release.py")'), "refused", 1, "tried to read {root}/lectures/tools/release.py"),
    "imports solutions": (in_d_y('sys.path.insert(0, "{base}/homework/01_toy")\nimport lines'), "ok", 1,
                          "d_y: error: ModuleNotFoundError: No module named 'lines'"),
    "program": (in_d_y('import subprocess\nsubprocess.run(["echo", "hi"])'), "refused", 1, "tried to start the program echo hi at line 10"),
    "shell": (in_d_y('os.system("echo hi")'), "refused", 1, "tried to start the program echo hi at line 9"),
    "ctypes": (in_d_y("import ctypes\nctypes.CDLL(None).getpid()"), "refused", 1, "tried to call a C library by ctypes at line 10"),
    "exits": (in_d_y("sys.exit(0)"), "ok", 1, "d_y: error: SystemExit"),
    "exits hard": (in_d_y("os._exit(0)"), "ok", 1, "d_y: stopped: it ended the process"),
    "asks": (in_d_y("input()"), "ok", 1, "d_y: error: EOFError"),
    "prints a report": (in_d_y('print(\'{{"status": "ok", "earned": 3}}\')\nprint("x" * 100, file=sys.stderr)\nos.write(1, b"[]")'), "ok", 3, "all right"),
    "prints a lot": (in_d_y('for _ in range(300):\n    print("x" * 100_000)'), "ok", 3, "all right"),
    "deletes itself": (in_d_y("if os.path.exists(__file__):\n    os.remove(__file__)"), "ok", 3, "all right"),
    "shadows modules": (in_d_y("import json"), "ok", 3, "all right"),
    "traps signals": (
        in_d_y("import signal\nfor s in range(1, 30):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n    except OSError:\n        pass"), "ok", 3, ""),
}
POSIX_ONLY = {
    "fork": (in_d_y("while True:\n    os.fork()"), "refused", 1, "tried to start a process (fork) at line 10"),
    "kills": (in_d_y("os.kill(os.getppid(), 9)"), "refused", 1, "tried to send a signal to a process at line 9"),
    "pool": (in_d_y("import multiprocessing\np = multiprocessing.Process(target=print)\np.start()"), "refused", 1, "tried to start a process"),
    "spawned pool": (in_d_y('import multiprocessing\np = multiprocessing.get_context("spawn").Process(target=print)\np.start()'), "refused", 1,
                     "tried to start a process (multiprocessing)"),
    "much memory": (in_d_y("x = bytearray(10**11)"), "ok", 1, "d_y: stopped: it asked for more memory"),
    "large file": (in_d_y('with open("large", "wb") as f:\n    for _ in range(20):\n        f.write(bytes(1 << 20))'), "ok", 1, "d_y: error: OSError"),
}
if os.name != "nt":
    HANDED_IN |= POSIX_ONLY
ODD_NAMES = ["=1+1", "-x", "@user", "+49", "two\nlines", "O'Neil, \"Zoë\""]
if sys.platform == "linux":  # elsewhere file systems refuse such names
    ODD_NAMES.append(os.fsdecode(b"Zo\xeb"))
NO_FILE = {"empty folder": "missing", "other homework": "missing", "a link out": "not copied", "a linked folder": "link", "two files": "ambiguous",
           "a folder as file": "not copied", "far too much": "not copied"}


@pytest.fixture(scope="module")
def port():
    """A port on which somebody listens, so that a connection would succeed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def graded(place, port):
    """Everything above handed in and graded once: rows by student, the CSV file's bytes, and what else the place then holds."""
    for student, (text, *_) in HANDED_IN.items():
        if isinstance(text, str) and "{" in text:
            text = text.format(base=place, root=ROOT, port=port)
        hand_in(place, student, text)
    for name in ("sitecustomize.py", "argparse.py"):
        hand_in(place, "shadows modules", "raise SystemExit('the student\\'s own')\n", name)
    for name in ODD_NAMES:
        hand_in(place, name, SOLUTION)
    root = place / "submissions"
    (root / "empty folder").mkdir()
    hand_in(place, "other homework", SOLUTION, "02_other.py")
    (root / "a link out").mkdir()
    (root / "a link out" / f"{HOMEWORK}.py").symlink_to(place / "homework" / HOMEWORK / "lines.py")
    (root / "a linked folder").symlink_to(place / "homework")
    hand_in(place, "two files", SOLUTION)
    hand_in(place, "two files", SOLUTION, f"{HOMEWORK}/lines.py")
    (root / "a folder as file" / f"{HOMEWORK}.py").mkdir(parents=True)
    hand_in(place, "far too much", SOLUTION)
    with open(root / "far too much" / "data.bin", "wb") as f:
        f.truncate(handed_in.MOST_BYTES + 1)
    hand_in(place, "nbgrader", SOLUTION, f"{HOMEWORK}/lines.py")
    hand_in(place, "nbgrader", SOLUTION, f"{HOMEWORK}/task.py")
    hand_in(place, "another name", SOLUTION, f"{HOMEWORK}/my_solution.py")
    (root / "collected.zip").write_bytes(b"")  # not a folder: nobody's
    before = everything(place, but="tmp")
    rows = run(place, "grades.csv")
    assert everything(place, but="tmp") == before
    assert (place / "grades.csv").exists() and (place / "grades.jsonl").exists()
    return {row.student: row for row in rows}


def everything(place, but):
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*")
            if p.is_file() and not p.is_relative_to(place / but) and p.stem != "grades" and p.stat().st_size < 1 << 20}


def run(place, table, *more, jobs=2):
    """`python -m lectures.grade` on the submissions, in this process."""
    with temporary_folder(place):
        return grade.main([str(place / "submissions"), "--csv", str(place / table), "--jobs", str(jobs), "--memory", "1024", "--seconds", "30", "--seed", "0",
                           *more], below=place / "homework")


@contextlib.contextmanager
def temporary_folder(place):
    """Copies of submissions are made in a folder of this test process, so that what is left there, or runs there, is its own."""
    old, tempfile.tempdir = tempfile.tempdir, str(place / "tmp")
    try:
        yield
    finally:
        tempfile.tempdir = old


# -- every kind of submission ------------------------------------------------------------------------------------------


@pytest.mark.more
@pytest.mark.parametrize("student", HANDED_IN)
def test_a_clear_row_for(student, graded, place, port):
    _, status, earned, said = HANDED_IN[student]
    row = graded[student]
    said = said.format(base=place, root=ROOT, port=port) if "{" in said else said
    assert (row.status, row.earned, row.points) == (status, earned, 3), row
    assert said in row.message, row
    assert row.codes == ("d_x: miscounted" if student in ("sign", "hard-coded value") else "")


@pytest.mark.more
@pytest.mark.parametrize("student", NO_FILE)
def test_a_clear_row_without_a_file(student, graded):
    row = graded[student]
    assert (row.status, row.earned, row.points, row.lines) == (NO_FILE[student], 0, 3, "d_x 0/1; d_y 0/2")
    assert row.message


@pytest.mark.more
def test_layouts_are_understood(graded):
    assert graded["nbgrader"].earned == graded["another name"].earned == 3
    assert "collected.zip" not in graded


def test_nothing_was_harmed_and_nothing_is_left_behind(graded, place):
    assert (place / "precious.txt").read_text() == "precious"
    assert not (place / "new.txt").exists()
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.more
def test_grading_again_gives_the_same_bytes_whatever_the_order(graded, place):
    first = (place / "grades.csv").read_bytes()
    run(place, "again.csv", jobs=3)
    assert (place / "again.csv").read_bytes() == first
    (place / "again.csv").unlink()
    (place / "again.jsonl").unlink()


def test_seeds_differ_by_student_and_are_those_of_a_repeated_check(graded, place):
    seeds = {row.seed for row in graded.values()}
    assert len(seeds) == len(graded)
    assert graded["right"].seed == submissions.seed_of(0, "right", HOMEWORK) != submissions.seed_of(1, "right", HOMEWORK)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_csv_file_has_a_row_each_and_no_formula(graded, place):
    with open(place / "grades.csv", encoding="utf-8-sig", newline="") as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == list(GradebookRow._fields)
    assert len(rows) == len(graded)
    assert not [c for row in rows for c in row.values() if c.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {"'=1+1", "'-x", "'@user", "'+49", "two lines", "O'Neil, \"Zoë\""} <= {row["student"] for row in rows}


def test_a_cell_is_one_line_of_unicode_and_not_endless():
    assert gradebook.cell("a\tb\0c\x1b[31m") == "a b c [31m"
    assert gradebook.cell(" =x") == "' =x" and gradebook.cell("a=x") == "a=x"
    assert gradebook.cell("\udcff") == "?"
    assert len(gradebook.cell("x" * 10_000)) == gradebook.LONGEST_CELL
    assert gradebook.cell(-1) == "-1"  # a number is no formula


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(stubs) == (0, 1) and doctest.testmod(gradebook) == (0, 3)
    for module, examples in ((handback, 1), (roster, 1), (submissions, 1)):
        assert doctest.testmod(module) == (0, examples)


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    table = tmp_path / "grades.csv"
    gradebook.write(table, [])
    before = table.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        gradebook.write(table, [GradebookRow("a", "b", "ok", 1, 1, "", "", "", 0)])
    assert table.read_bytes() == before and list(tmp_path.iterdir()) == [table]


def test_the_summary_counts_students_not_lines():
    rows = [GradebookRow("a", "01_toy", "ok", 1, 3, "", "d_x: sign; d_y: sign", "", 0), GradebookRow("b", "01_toy", "ok", 2, 3, "", "d_y: missing path", "", 0),
            GradebookRow("c", "01_toy", "ok", 2, 3, "", "d_y: sign", "", 0), GradebookRow("d", "01_toy", "missing", 0, 3, "", "", "", 0)]
    assert gradebook.summary(rows) == """01_toy: 4 students, on average 1.2 of 3 points
  3 ok, 1 missing
    0-  9 %      1  #
   10- 19 %      0
   20- 29 %      0
   30- 39 %      1  #
   40- 49 %      0
   50- 59 %      0
   60- 69 %      2  ##
   70- 79 %      0
   80- 89 %      0
   90-100 %      0
  to explain again             students  lines
  sign                                2  d_y (2), d_x (1)
  missing path                        1  d_y (1)"""


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judges(place):
    """A judge at work."""
    with temporary_folder(place), sandbox.Judges(sandbox.SandboxLimits(30.0, 1024)) as found:
        yield found


def one(place, text, judges, seconds=30.0):
    """The outcome of a check of this file."""
    judges.limits = sandbox.SandboxLimits(seconds, 1024)
    with temporary_folder(place):
        return judges.check(place / "homework" / HOMEWORK, lambda folder: (folder / "lines.py").write_text(text) and None, "lines.py", 0)


def alive(place):
    """Processes that work below this folder, or did before it was deleted."""
    found = []
    for entry in Path("/proc").iterdir() if os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.readlink(entry / "cwd").startswith(str(place)):
                found.append((entry / "cmdline").read_bytes())
    return found


@pytest.mark.parametrize("statements", ["while True:\n    pass", "import time\ntime.sleep(1000)",
                                        "import time\nos.setsid()\ntime.sleep(1000)",
                                        "import threading\nthreading.Thread(target=threading.Event().wait).start()\nthreading.Event().wait()"])
@POSIX
@pytest.mark.slow
def test_at_the_deadline_everything_is_ended(statements, place, judges):
    outcome = one(place, in_d_y(statements), judges, 1.0)
    assert outcome.report["lines"][1]["verdict"] == "stopped"
    assert "what the whole file may take" in outcome.report["lines"][1]["message"]
    wait_for(lambda: not alive(place))


@pytest.mark.slow
@POSIX
def test_memory_that_grows_slowly_ends_in_an_error_not_in_swap(place, judges):
    outcome = one(place, in_d_y("kept = []\nwhile True:\n    kept.append(bytearray(1 << 20))"), judges)
    assert outcome.report["lines"][1]["message"].startswith("it asked for more memory")


@pytest.mark.slow
@POSIX
def test_a_fork_that_goes_around_the_guard_is_ended_with_the_rest(place, judges):
    """What audit hooks do not see."""
    one(place, in_d_y("import _posixsubprocess, time\nr, w = os.pipe()\n"
                      '_posixsubprocess.fork_exec([b"/bin/sleep", b"1000"], [b"/bin/sleep"], True, (), None, None, -1, -1, -1, -1, -1, -1, r, w, '
                      "False, False, -1, None, None, None, -1, None, True)\n"), judges)
    wait_for(lambda: not alive(place))


@pytest.mark.slow
def test_the_environment_of_a_check_holds_nothing_of_the_instructors(place, monkeypatch):
    monkeypatch.setenv("COURSE_TOKEN", "secret")
    with sandbox.Judges() as judges:
        outcome = one(place, in_d_y("assert 'COURSE_TOKEN' not in os.environ\nassert os.environ['HOME'] == os.environ['TMPDIR'] != '/'"), judges)
    assert outcome.report["earned"] == 3


def test_names_that_are_made_up_each_time_are_not_in_a_report(place, judges):
    outcome = one(place, in_d_y("raise ValueError(os.environ['TMPDIR'] + ' ' + __file__)"), judges)
    assert outcome.report["lines"][1]["message"] == "ValueError: (temporary) lines.py"


# -- judges --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", ["closed", "killed", "orphaned"])
def test_the_end_of_a_judge_is_that_of_its_workers(how, place):
    """Also while a line runs that would never end: where judges are closed, one is killed, or the grader is."""
    program = (f"import sys, tempfile; tempfile.tempdir = {str(place / 'tmp')!r}; from pathlib import Path; from lectures.grading import sandbox; "
               "judges = sandbox.Judges(); threads = __import__('threading'); "
               f"ask = lambda: judges.check(Path({str(place / 'homework' / HOMEWORK)!r}), "
               f"lambda f: (f / 'lines.py').write_text({in_d_y('import time; time.sleep(1000)')!r}), 'lines.py', 0); "
               "threads.Thread(target=ask, daemon=True).start(); input(); "
               + {"closed": "judges.close()", "killed": "judges._all[0].process.kill()", "orphaned": "__import__('os').kill(__import__('os').getpid(), 9)"}[how]
               + "; input()")
    grader = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE)
    try:
        wait_for(lambda: len(alive(place)) >= 1)
        grader.stdin.write(b"\n")
        grader.stdin.flush()
        wait_for(lambda: not alive(place))
    finally:
        grader.kill()
        grader.wait()


@pytest.mark.slow
@pytest.mark.parametrize("program, said", [
    ("import os; os._exit(3)", "the judge ended with status 3 before it answered"), ("print('hello')", "before it answered"),
    ("import os; os.kill(os.getpid(), 9)", "the judge was ended by SIGKILL before it answered"), ("print('{\"id\": 7, \"report\": {}}')", "before it answered"),
    ("print('[]')", "before it answered"), ("input(); input()", "the judge was ended after 0.2 s before it answered")])
@POSIX
def test_a_judge_without_an_answer_costs_one_row(program, said, place, monkeypatch):
    monkeypatch.setattr(sandbox, "GRACE", 0.0)
    with sandbox.Judges() as judges:
        with monkeypatch.context() as patched:
            patched.setattr(sandbox._Judge, "COMMAND", [sys.executable, "-c", program])
            outcome = one(place, SOLUTION, judges, 0.2 if "input" in program else 30.0)
        assert outcome.report is None and said in outcome.failure and outcome.timed_out == ("input" in program)
        assert one(place, SOLUTION, judges).report["earned"] == 3


@pytest.mark.slow
def test_a_sandbox_that_is_not_there_is_an_error_before_anybody_is_judged(place, tmp_path, monkeypatch, capsys):
    hand_in(place, "right", SOLUTION)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit):
        grade.main([str(place / "submissions"), "--csv", str(tmp_path / "g.csv"), "--sandbox", "bwrap"], below=place / "homework")
    assert "install the package bubblewrap" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_judge_that_cannot_judge_any_more_is_nobodys_zero(place, tmp_path, monkeypatch, capsys):
    hand_in(place, "right", SOLUTION)
    monkeypatch.setattr(grade.Grader, "judge", lambda *_: (_ for _ in ()).throw(sandbox.CannotJudge("no worker starts any more")))
    with pytest.raises(SystemExit):
        grade.main([str(place / "submissions"), "--csv", str(tmp_path / "g.csv")], below=place / "homework")
    assert "no worker starts any more" in capsys.readouterr().err and not (tmp_path / "g.csv").exists()


# -- answers that are none ---------------------------------------------------------------------------------------------

BLANK = {"task": "01_toy", "seed": 5, "status": "blank", "message": "", "points": 3, "earned": 0,
         "lines": [{"line": "d_x", "verdict": "not implemented", "points": 3, "earned": 0, "code": None, "message": ""}]}


def outcome_of(report):
    return sandbox.SandboxOutcome(report, failure="", timed_out=False, refused=[], sandbox="none", seconds=0.1)


def reported(**changes):
    line = {"line": "d_x", "verdict": "right", "points": 3, "earned": 3, "code": None, "message": ""} | changes.pop("first", {})
    return BLANK | {"status": "ok", "earned": 3, "lines": [line]} | changes


@pytest.mark.parametrize("report", [reported(seed=6), reported(task="other"), reported(lines=[]), reported(first={"earned": 100}),
                                    reported(first={"points": 100}), reported(first={"earned": -1}), reported(first={"line": "d_z"}),
                                    {"status": "ok"}, reported(lines=None), reported(lines=["d_x"]), {}])
def test_a_report_that_does_not_fit_earns_nothing(report):
    row = gradebook.row("a", "01_toy", 5, outcome_of(report), BLANK)
    assert (row.status, row.earned) == ("no report", 0)


def test_a_report_on_a_file_that_did_not_load_needs_no_lines():
    row = gradebook.row("a", "01_toy", 5, outcome_of(reported(lines=[], status="syntax error", message="line 3: invalid syntax")), BLANK)
    assert (row.status, row.earned, row.points, row.lines, row.message) == ("syntax error", 0, 3, "d_x 0/3", "line 3: invalid syntax")


# -- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, said", [
    (["nowhere", "--csv", "g.csv"], "nowhere is not a folder"), ([".", "--csv", "no/such/g.csv"], "does not exist"), (["."], "--csv"),
    ([".", "--csv", "g.csv", "--homework", "99_none"], "there is no homework 99_none; there is 01_toy"), ([".", "--csv", "g.csv", "--jobs", "0"], "--jobs"),
    ([".", "--csv", "g.csv"], "holds no folder of a student")])
def test_wrong_usage_is_explained(arguments, said, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        grade.main(arguments, below=place / "homework")
    assert stopped.value.code == 2 and said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_checker_that_does_not_work_is_not_taken_out_on_students(place, tmp_path, capsys):
    (tmp_path / "homework" / HOMEWORK).mkdir(parents=True)
    (tmp_path / "homework" / HOMEWORK / "task.py").write_text("raise RuntimeError('out of order')")
    with pytest.raises(SystemExit):
        grade.main([str(place / "submissions"), "--csv", str(tmp_path / "g.csv")], below=tmp_path / "homework")
    assert "the checker cannot judge an empty file: RuntimeError: out of order" in capsys.readouterr().err


# -- the real thing ----------------------------------------------------------------------------------------------------

MODEL = ROOT / "lectures" / "homework" / "02_batch_norm"


@pytest.mark.more
def test_release_collect_and_grade_with_the_real_checker(tmp_path):
    tree = release.release(tmp_path / "release")
    stubs = (tree / "lectures/homework/02_batch_norm/lines.py").read_text("utf-8")
    solution = (MODEL / "lines.py").read_text("utf-8")
    for student, text in {"blank": stubs, "network": "import urllib.request\nurllib.request.urlopen('http://example.com/')\n" + solution,
                          "right": solution, "syntax": solution + "\ndef"}.items():
        (tmp_path / "submitted" / student / "02_batch_norm").mkdir(parents=True)
        (tmp_path / "submitted" / student / "02_batch_norm" / "lines.py").write_text(text, encoding="utf-8")
    rows = {r.student: r for r in grade.main([str(tmp_path / "submitted"), "--csv", str(tmp_path / "grades.csv"), "--homework", "02_batch_norm"])}
    assert rows["right"].earned == rows["right"].points > 0 and rows["right"].message == "all right"
    assert {name: r.status for name, r in rows.items()} == {"blank": "blank", "network": "refused", "right": "ok", "syntax": "syntax error"}
    assert sum(r.earned for r in rows.values()) == rows["right"].points
    assert "tried to open http://example.com/ at line 2 of lines.py" in rows["network"].message
