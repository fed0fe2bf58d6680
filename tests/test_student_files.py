"""A student's file: read as Python reads it, run once, unable to spoil anything, shown without harm; and what becomes of it has a name."""

import json
import os
import sys
import time
import warnings

import pytest
from test_verdicts import TASK, accepted, in_a_file

from minigrad import derivation
from minigrad.derivation import Limits, child, report

# -- files -------------------------------------------------------------------------------------------------------------

LINES = "import numpy as np\n\n\ndef d_z(d_loss, z):\n    return 2 * d_loss * z\n\n\ndef d_xhat(d_y, gamma):\n    return d_y * gamma\n"
BOTH = {"lines": ["d_z", "d_xhat"]}


@pytest.mark.more
@pytest.mark.parametrize("data", [
    b"\xef\xbb\xbf" + LINES.encode(), b"\xef\xbb\xbf# coding: utf-8\n" + LINES.encode(), "# coding: latin-1\n# Zoë\n".encode("latin-1") + LINES.encode(),
    "#!/usr/bin/python\n# -*- coding: cp1252 -*-\nname = 'Zoë €'\nassert len(name) == 5\n".encode("cp1252") + LINES.encode(),
    LINES.replace("\n", "\r\n").encode(), LINES.replace("\n", "\r").encode(), LINES.replace("\n", "\r\n").encode() + b"# no end of line",
    b"from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass A:\n    x: int\n\n\n" + LINES.encode()])
def test_files_are_read_as_python_reads_them(data, tmp_path):
    found = in_a_file(tmp_path, data, **BOTH)
    assert found and found.status == "ok", str(found)
    found = in_a_file(tmp_path, data.replace(b"2 *", b"3 *"), **BOTH)
    assert found.lines[0].verdict == "wrong" and found.lines[1].verdict == "right"


@pytest.mark.parametrize("data", [b"# Zo\xeb\n" + LINES.encode(), b"# coding: none-such\n" + LINES.encode(),
                                  b"\xef\xbb\xbf# coding: latin-1\n" + LINES.encode(),
                                  LINES.encode("utf-16"), LINES.encode() + b"\0", b"-" * 100_000 + b"1\n", b"(" * 1000 + LINES.encode()])
def test_what_python_cannot_read_is_a_syntax_error(data, tmp_path):
    found = in_a_file(tmp_path, data, **BOTH)
    assert found.status == "syntax error" and found.earned == 0 and found.message and not found.lines[0].code


@pytest.mark.parametrize("statement", ["print('x' * 10**6)", "print('x\\n' * 10**6)",
                                       "import os; os.write(1, b'y' * 10**6)", "import os; os.write(2, b'y' * 10**6)"])
def test_a_million_characters_break_nothing(statement, tmp_path):
    in_line = LINES.replace("    return d_y", f"    {statement}\n    return d_y")
    found = in_a_file(tmp_path, in_line, **BOTH)
    assert found and 0 < len(found.lines[1].printed) <= 4001 and len(str(found)) < 4000
    at_top = in_a_file(tmp_path, f"{statement}\n{LINES}", **BOTH)
    assert at_top and 0 < len(at_top.printed) <= 4001 and not at_top.lines[0].printed and len(str(at_top)) < 4000


def test_a_message_of_a_million_characters_is_cut(tmp_path):
    found = in_a_file(tmp_path, LINES.replace("return d_y", "raise ValueError('x' * 10**6)\n    return d_y"), **BOTH)
    assert found.lines[1].verdict == "error" and len(str(found)) < 5000


def test_a_file_is_run_once_and_its_imports_take_no_lines_time(tmp_path):
    slow = f"import time\nwith open({str(tmp_path / 'log')!r}, 'a') as f:\n    f.write('run ')\ntime.sleep(1.5)\n"
    found = in_a_file(tmp_path, slow + LINES, limits=Limits(seconds=1.0), **BOTH)
    assert found and (tmp_path / "log").read_text() == "run ", str(found)
    wrong = in_a_file(tmp_path, slow + LINES.replace("* gamma", "+ gamma"), limits=Limits(seconds=1.0), **BOTH)  # the search for an edit as well
    assert wrong.lines[1].verdict == "wrong" and (tmp_path / "log").read_text() == "run run "


def test_loading_has_a_limit_of_its_own(tmp_path):
    start = time.monotonic()
    found = in_a_file(tmp_path, "while True:\n    pass\n" + LINES, limits=Limits(10.0, 1024, loading=1.0), **BOTH)
    assert time.monotonic() - start < 8 and found.status == "stopped" and "1 seconds" in found.message and found.earned == 0


SPOILS = """import os
import numpy as np
state = []


def shout():
    for fd in range(3, 20):  # whatever is open: what it writes is noise
        try:
            os.write(fd, b"[]" + bytes([10, 10]) + b"noise" + bytes([10]))
        except OSError:
            pass


def d_z(d_loss, z):
    {}
    return 2 * d_loss * z


def d_xhat(d_y, gamma):
    assert not state
    return d_y * gamma
"""
WRITES = "shout()"


@pytest.mark.more
@pytest.mark.parametrize("statement", ["state.append(1)", "np.multiply = None", "os.kill(os.getppid(), 9)", "os._exit(1)", "while True: pass",
                                       "raise SystemExit", "os.closerange(3, 64)", WRITES])
def test_no_line_can_spoil_another(statement, tmp_path):
    found = in_a_file(tmp_path, SPOILS.format(statement), limits=Limits(seconds=1.0), **BOTH)
    assert found.lines[1].verdict == "right", str(found)
    assert statement != WRITES or found.lines[0].verdict == "right"


@pytest.mark.more
@pytest.mark.parametrize("end", [
    "check(load_task('toy'), __file__)", "print(check(load_task('toy'), __file__))", "assert check(load_task('toy'), __file__)",
    "report = check(load_task('nowhere'), __file__)\nprint(report.earned, report.points, report)\nassert report.earned == report.points",
    "import sys\nsys.exit(0 if check(load_task('toy'), __file__) else 1)", "raise SystemExit",
    "from minigrad.derivation import available\nfrom minigrad.derivation.__main__ import main\nassert main(['02_batch_norm', __file__]) == 0",
    "import minigrad as mg\nassert mg.derivation.check(lambda x: x, [d_z], inputs={'x': [1.0]})",
    "if __name__ == '__main__':\n    1 / 0"])
def test_a_file_that_checks_itself_is_harmless(end, tmp_path):
    text = "from minigrad.derivation import check, load_task\n" + LINES
    for place in (text + "\n\n" + end + "\n", text.replace("    return d_y", "    " + end.replace("\n", "\n    ") + "\n    return d_y")):
        if "exit" in end.lower() and place.endswith("gamma\n"):
            continue  # a line that ends the program returns nothing
        found = in_a_file(tmp_path, place, **BOTH)
        assert found and found.status == "ok" and found.earned == found.points, str(found)
    assert not derivation.task.is_judged()


def test_a_notebooks_line_may_check_too_and_the_checker_is_itself_again():
    def d_xhat(d_y, gamma):
        assert derivation.check(TASK, {}) and derivation.available() == []
        return d_y * gamma
    assert accepted(derivation.check(TASK, [d_xhat], lines=["d_xhat"]).lines[0])
    assert derivation.available() and not derivation.check(TASK, {"d_xhat": lambda d_y: d_y}, lines=["d_xhat"])


# -- what is shown -----------------------------------------------------------------------------------------------------

CODES = "\x1b[2J\x1b[31m\x9b31m\x07\x08\u202e\u2028\x7f"


@pytest.mark.more
@pytest.mark.parametrize("place", ["print", "raise", "at the top", "not implemented", "comment", "class", "name", "syntax"])
def test_no_escape_code_reaches_the_terminal(place, tmp_path, capsys):
    code = CODES if place in ("comment", "class", "syntax") else CODES + "\r\0"
    literal = ascii(code)
    text = {"print": LINES.replace("    return d_y", f"    print('begin' + {literal} + 'end')\n    return d_y"),
            "raise": LINES.replace("return d_y", f"raise ValueError({literal})\n    return d_y"),
            "at the top": f"print({literal})\nraise ImportError({literal})\n" + LINES,
            "not implemented": LINES.replace("return d_y", f"raise NotImplementedError({literal})\n    return d_y"),
            "comment": LINES.replace("d_y * gamma", f"d_y * gama  # {code}"),
            "class": LINES.replace("return d_y", f"return type({literal}, (), {{}})()\n    return d_y"),
            "name": LINES.replace("def d_xhat", "def other") + f"\n\nglobals()['d_xhat' + {literal}] = other\n",
            "syntax": LINES + f"x = = '{code}'\n"}[place]
    file = tmp_path / "lines.py"
    file.write_bytes(text.encode())
    from minigrad.derivation.__main__ import main
    found = derivation.check(TASK, str(file), **BOTH)
    task = tmp_path / "mine" / "task.py"
    task.parent.mkdir()
    task.write_text("from test_verdicts import TASK\n")
    for arguments in ([], ["--json"]):
        main([str(task), str(file), "--line", "d_z", "--line", "d_xhat", *arguments])
    out, err = capsys.readouterr()
    for shown in (str(found), found._repr_html_(), found.json(), out, err):
        assert all(c.isprintable() or c == "\n" for c in shown), [c for c in shown if not c.isprintable()][:5]
    assert json.loads(found.json())["earned"] == found.earned


def test_text_is_shown_escaped_and_cut():
    assert report.shown("a\x1b[0m\u202eb\n") == "a\\x1b[0m\\u202eb\\n" and report.shown("é ε → \t", keep="\t") == "é ε → \t"
    assert report.shown("\udcff") == "\\udcff" and report.shown("x" * 3000) == "x" * 2000 + "…"


# -- statuses ----------------------------------------------------------------------------------------------------------

MADE = {"ok": LINES, "blank": "def d_z():\n    raise NotImplementedError\n", "syntax error": "def", "import error": "import numpy.none_such\n" + LINES,
        "stopped": "import os\nos._exit(0)\n" + LINES}


@pytest.mark.parametrize("status", MADE)
def test_every_status_of_a_file_is_made(status, tmp_path):
    found = in_a_file(tmp_path, MADE[status], **BOTH)
    assert found.status == status and bool(found) == (status == "ok")
    assert [x.line for x in found.lines] == BOTH["lines"] and (status == "ok") == (found.earned > 0)
    assert status == "ok" or (found.message and found.message in str(found))


def test_an_import_error_says_which_and_where(tmp_path):
    found = in_a_file(tmp_path, MADE["import error"], **BOTH)
    assert "ModuleNotFoundError: No module named 'numpy.none_such' (line 1: import numpy.none_such)" in found.message
    assert found.lines[0].verdict == "error" and found.lines[0].at["line"] == 1
    assert in_a_file(tmp_path, LINES + "\nassert False, 'my own test'\n", **BOTH).status == "import error"


def test_a_task_that_cannot_be_judged_by_is_said_to_be(tmp_path, capsys):
    from minigrad.derivation.__main__ import main
    (tmp_path / "task.py").write_text("import minigrad as mg\nfrom minigrad.derivation import Task\n"
                                      "TASK = Task('odd', lambda x: mg.named('y', mg.sqrt(x)), "
                                      "lambda rng, dtype: iter([({'x': rng.normal(size=9)}, {})]), {'d_x': 1})\n")
    (tmp_path / "lines.py").write_text("def d_x(d_y, y): return d_y / y / 2\n")
    assert main([str(tmp_path / "task.py"), str(tmp_path / "lines.py"), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "not graded" and answer["task"] == "odd" and "derivative d_x is NaN" in answer["message"]
    assert main([str(tmp_path / "task.py"), str(tmp_path / "lines.py")]) == 2 and "derivative d_x is NaN" in capsys.readouterr().err


def test_all_statuses_are_made_by_some_test_above():
    assert {*MADE, "not graded", "not checked"} == set(report.STATUSES)


@pytest.mark.parametrize("status", [s if s == "ok" else pytest.param(s, marks=pytest.mark.more) for s in MADE])
def test_without_fork_the_same_verdicts(status, tmp_path, monkeypatch):
    for way in ("a worker for each line", "this process"):
        if way == "this process":
            monkeypatch.setattr(derivation.runner, "can_start", lambda: False)
            monkeypatch.setattr(derivation.runner, "CAN_FORK", False)
        options = BOTH if way == "this process" else {**BOTH, "fork": False}
        if (way, status) != ("this process", "stopped"):
            found = in_a_file(tmp_path, "print('hello')\n" + MADE[status], **options)
            assert found.status == status and bool(found) == (status == "ok") and not derivation.task.is_judged(), str(found)
        before = set(sys.modules)
        absent = in_a_file(tmp_path, "import nothing_like_this\n" + LINES.replace("* gamma", "* nothing_like_this.gamma"), **options)
        assert absent.status == "ok" and absent.lines[0] and "nothing_like_this.gamma is not there when a line is judged" in absent.lines[1].message
        assert "nothing_like_this" not in sys.modules and before <= set(sys.modules)
        wrong = in_a_file(tmp_path, LINES.replace("* gamma", "+ gamma"), **options).lines[1]
        assert wrong.verdict == "wrong" and wrong.message, str(wrong)


@pytest.mark.skipif(not child.CAN_FORK, reason="needs os.fork")
def test_a_fork_beside_other_threads_warns_nobody(monkeypatch):
    """Python 3.12 and newer warn; here the fork itself does, with their words, on every Python."""
    fork = os.fork

    def warning():
        warnings.warn("This process (pid=1) is multi-threaded, use of fork() may lead to deadlocks in the child.", DeprecationWarning, stacklevel=2)
        return fork()
    monkeypatch.setattr(os, "fork", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = child.in_child(lambda send: send({"kind": "said", "bytes": 5}, b"hello"), Limits(seconds=60.0))
    assert answer.messages[0] == ({"kind": "said", "bytes": 5}, b"hello") and answer.ended is None
