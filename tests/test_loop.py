"""The loop of deriving: the stub, hints one at a time, colours where there is a terminal, and a check at every save."""

import io
import os
import re
from pathlib import Path

import pytest
from test_verdicts import TASK, in_a_file

from minigrad import derivation
from minigrad.derivation import loop, stubs
from minigrad.derivation.__main__ import main
from minigrad.derivation.report import LineReport, Report

ROOT = Path(__file__).resolve().parents[1]
HOMEWORK = ROOT / "lectures/homework/07_rms_norm"
RIGHT = "import numpy as np\n\n\ndef d_z(d_loss, z):\n    return 2 * d_loss * z\n\n\ndef d_xhat(d_y, gamma):\n    return d_y * gamma\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


# -- the stub ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in (ROOT / "lectures/homework").glob("*/lines.py")))
def test_a_stub_has_every_line_and_no_solution(folder):
    solution = (ROOT / "lectures/homework" / folder / "lines.py").read_text("utf-8")
    found = stubs.strip(solution, folder)[0]
    compile(found, folder, "exec")
    assert "SOLUTION" not in found and found.count("your turn") == solution.count(stubs.BEGIN)
    for block in re.findall(rf"{stubs.BEGIN}\n(.*?)\n\s*{stubs.END}", solution, re.DOTALL):
        assert block.strip() not in found


def test_the_first_minute(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(HOMEWORK), "--start", "mine.py"]) == 0
    assert "lines to derive" in capsys.readouterr().out
    assert main([str(HOMEWORK), "mine.py"]) == 1
    out = capsys.readouterr().out
    assert "0 of 7 points  (blank: no line is written yet)" in out and "\x1b" not in out
    assert main([str(HOMEWORK), "--start", "mine.py"]) == 2
    assert "which is there already" in capsys.readouterr().err and "your turn" in Path("mine.py").read_text()
    with pytest.raises(SystemExit):
        main([str(HOMEWORK)])
    assert "--start FILE.py makes one" in capsys.readouterr().err


def test_hints_come_one_at_a_time(capsys):
    task = derivation.load_task(HOMEWORK)
    line = next(n for n in task.lines if len(task.line(n).hints) > 1)
    weak, strong = task.line(line).hints[:2]
    assert main([str(HOMEWORK), "--hint", line]) == 0
    out = capsys.readouterr().out
    assert weak in out and strong not in out and f"--hint {line} 2" in out
    assert main([str(HOMEWORK), "--hint", line, "2"]) == 0 and strong in capsys.readouterr().out
    for wrong, said in ((["--hint", line, "9"], "step 9"), (["--hint", "d_nothing"], "no line 'd_nothing'"), (["--hint", line, "0"], "step 0")):
        assert main([str(HOMEWORK), *wrong]) == 2 and said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(HOMEWORK), "--hint", line, "two"])


# -- what is shown -------------------------------------------------------------------------------------------------------------


def test_colours_are_for_terminals(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    report = Report("toy", None, 0, [LineReport("d_x", "right", 1), LineReport("d_y", "wrong", 1, "sign", "wrong, right?")])
    plain, bright = loop.shown(report, io.StringIO()), loop.shown(report, Terminal())
    assert plain == str(report) and re.sub(r"\x1b\[[0-9;]*m", "", bright) == plain
    assert bright.count("\x1b[0m") == 2 and "\x1b[1;32mright" in bright and "\x1b[1;31mwrong" in bright
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
        assert loop.shown(report, Terminal()) == plain
        monkeypatch.setenv(name, "" if name == "NO_COLOR" else "xterm")


def test_a_line_in_work_is_shown_and_taken_away(tmp_path):
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        found = in_a_file(tmp_path, RIGHT, lines=["d_z", "d_xhat"], working=loop.Working(stream))
        assert found
    assert pipe.getvalue() == "" and "d_z …" in terminal.getvalue() and "d_xhat …" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r") and terminal.getvalue().rsplit("\r", 2)[1].strip() == ""


def test_what_to_do_next():
    def said(*verdicts, status="ok"):
        return loop.advice(TASK, Report("toy", None, 0, [LineReport(n, v, 1) for n, v in zip(TASK.lines, verdicts, strict=False)], status))
    assert said("right", "rounding") == "all lines are right"
    assert said("right", "not implemented", "wrong") == "next: d_gamma (1 of 3 lines are right)"
    assert said("right", "not implemented") == "next: d_y (1 of 2 lines are right)"
    assert said("error", status="syntax error") == "next: make the file run"


# -- watching --------------------------------------------------------------------------------------------------------------------


def test_a_file_is_checked_at_every_save(tmp_path):
    """A transcript: blank, wrong, a syntax error, gone for a moment, right."""
    file = tmp_path / "mine.py"
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "task.py").write_text("from dataclasses import replace\nfrom test_verdicts import TASK as T\n"
                                               "TASK = replace(T, lines={'d_z': 1, 'd_xhat': 1})\n")
    versions = [RIGHT.replace("return", "raise NotImplementedError #"), RIGHT.replace("2 *", "3 *"), RIGHT + "def", None, RIGHT]
    out, count = [], 0

    def look():
        nonlocal count
        if count == len(versions):
            raise KeyboardInterrupt
        if versions[count] is None:
            file.unlink()
        else:
            file.write_text(versions[count])
            os.utime(file, ns=(10**9 * count, 10**9 * count))
        count += 1
    with pytest.raises(KeyboardInterrupt):
        loop.watch({file: str(tmp_path / "task")}, lambda task, f: derivation.check(task, f), out=out.append, look=look)
    said = [text for text in out if "points" in text]
    assert [re.search(r"(\d) of 2 points", text)[1] for text in said] == ["0", "1", "0", "2"]
    assert "blank" in said[0] and "next: d_z (0 of 2" in said[0] and "d_z     wrong" in said[1] and "next: d_z (1 of 2" in said[1]
    assert "syntax error" in said[2] and "make the file run" in said[2] and "all lines are right" in said[3]


def test_several_homeworks_show_how_far_each_is(tmp_path):
    files = {}
    for name, text in (("a", RIGHT), ("b", RIGHT.replace("2 *", "3 *"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "task.py").write_text("from dataclasses import replace\nfrom test_verdicts import TASK as T\n"
                                                 f"TASK = replace(T, name={name!r}, lines={{'d_z': 1, 'd_xhat': 2}})\n")
        files[tmp_path / f"{name}.py"] = str(tmp_path / name)
        (tmp_path / f"{name}.py").write_text(text)
    out = []

    def look():
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        loop.watch(files, lambda task, f: derivation.check(task, f), out=out.append, look=look)
    assert out[-1] == "a 3/3  b 2/3"


def test_the_command_refuses_pairs_that_are_none(capsys):
    for arguments, said in (([str(HOMEWORK), "a.py", "07_layer_norm", "--watch"], "takes pairs"), ([str(HOMEWORK), "a.py", "b.py"], "one file at a time")):
        with pytest.raises(SystemExit):
            main(arguments)
        assert said in capsys.readouterr().err
