"""A grading that is stopped in any way: what is finished stays, and the same command does the rest; nothing else is left."""

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from grading_course import MORE, TOY, Course

from lectures.grading import grade, gradebook, journal, scratch, stopping, submissions
from minigrad.files import remove_folder

ROOT = Path(__file__).resolve().parents[1]
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and permissions are POSIX")


@pytest.fixture
def course(tmp_path, monkeypatch):
    course = Course(tmp_path, monkeypatch)
    for name in ("ada", "bob", "cyd"):
        course.hand_in(f"{name}/01_toy.py", f"# {name}\n{TOY}")
    return course


def table(course):
    with open(course.table, encoding="utf-8-sig", newline="") as f:
        return {r["student"]: r for r in csv.DictReader(f)}


# -- going on ----------------------------------------------------------------------------------------------------------


def test_a_finished_row_is_not_checked_again(course):
    first = course.grade("--homework", "01_toy", "--seed", "5")
    before, data = list(course.checked), course.table.read_bytes()
    assert course.grade("--homework", "01_toy") == first
    assert course.checked == before and len(before) == 3 and course.table.read_bytes() == data


def test_what_was_handed_in_again_is_graded_again_and_said(course, capsys):
    course.grade("--homework", "01_toy")
    course.hand_in("bob/01_toy.py", TOY.replace("2 * x", "3 * x"))
    rows = course.grade("--homework", "01_toy")
    assert rows["bob", "01_toy"].earned == 2 and len(course.checked) == 4
    assert "bob, 01_toy: handed in again since it was graded; graded again" in capsys.readouterr().out


def test_a_changed_file_beside_the_answer_counts_as_handed_in_again(course):
    course.hand_in("bob/helper.py", "A = 1\n")
    course.grade("--homework", "01_toy")
    course.hand_in("bob/helper.py", "A = 2\n")
    course.grade("--homework", "01_toy")
    assert len(course.checked) == 4


def test_a_changed_homework_is_graded_again_and_said(course, capsys):
    course.grade("--homework", "01_toy")
    (course.base / "homework" / "01_toy" / "task.py").write_text("# other points\n")
    course.grade("--homework", "01_toy")
    assert len(course.checked) == 6 and "bob, 01_toy: the homework changed since it was graded; graded again" in capsys.readouterr().out


def test_another_homework_joins_the_table(course):
    course.hand_in("ada/02_more.py", MORE)
    course.grade("--homework", "01_toy")
    rows = course.grade("--homework", "02_more")
    assert len(rows) == 6 and rows["ada", "02_more"].earned == 3 and rows["bob", "02_more"].status == "missing"
    assert list(rows) == sorted(rows)


def test_a_row_that_was_this_machines_fault_is_tried_again(course, monkeypatch):
    check = course.check

    def once(grader, *arguments):
        if course.checked:
            raise OSError("no room")
        return check(*arguments)

    monkeypatch.setattr(grade.Grader, "_check", once)
    rows = course.grade("--homework", "01_toy", "--seed", "1")
    assert sorted(r.status for r in rows.values()) == ["not graded", "not graded", "ok"] and any("no room" in r.message for r in rows.values())
    monkeypatch.setattr(grade.Grader, "_check", check)
    assert {r.status for r in course.grade("--homework", "01_toy").values()} == {"ok"}
    assert len(course.checked) == 3


@pytest.mark.parametrize("arguments, said", [(["--seed", "6"], "seed was 5 and is now 6"), (["--strict"], "strict was False and is now True"),
                                             (["--seconds", "7"], "seconds was 120.0 and is now 7.0"),
                                             (["--regrade", "--student", "ada", "--seed", "6"], "seed")])
def test_other_options_than_the_journals_are_refused_with_the_fix(course, arguments, said, capsys):
    course.grade("--homework", "01_toy", "--seed", "5")
    data = course.table.read_bytes()
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy", *arguments)
    error = capsys.readouterr().err
    assert said in error and "--regrade" in error and course.table.read_bytes() == data and len(course.checked) == 3


def test_regrade_begins_anew_or_does_only_what_is_named(course):
    course.grade("--seed", "5")
    assert course.grade("--regrade", "--student", "bob", "--homework", "01_toy")["bob", "01_toy"].seed == submissions.seed_of(5, "bob", "01_toy")
    assert [c[1] for c in course.checked[3:]] == ["01_toy.py"]
    rows = course.grade("--regrade", "--seed", "6")
    assert rows["ada", "01_toy"].seed == submissions.seed_of(6, "ada", "01_toy") and len(course.checked) == 7
    assert json.loads((course.base / "grades.jsonl").read_bytes().splitlines()[0])["seed"] == 6


def test_one_student_alone_and_a_name_that_nobody_has(course, capsys):
    assert set(course.grade("--homework", "01_toy", "--student", "bob")) == {("bob", "01_toy")}
    assert set(course.grade("--homework", "01_toy", "--student", "ada")) == {("ada", "01_toy"), ("bob", "01_toy")}
    with pytest.raises(SystemExit):
        course.grade("--student", "dee")
    assert "there is no student dee; there is ada, bob, cyd" in capsys.readouterr().err


def test_a_student_who_is_gone_keeps_the_row_and_is_named(course, capsys):
    course.grade("--homework", "01_toy")
    (course.root / "ada" / "01_toy.py").unlink()
    (course.root / "ada").rmdir()
    assert ("ada", "01_toy") in course.grade("--homework", "01_toy")
    assert "no longer among the submissions: ada" in capsys.readouterr().out


# -- the seed ----------------------------------------------------------------------------------------------------------


def test_seeds_are_random_said_recorded_and_replayed(course, capsys):
    rows = course.grade("--homework", "01_toy")
    header = json.loads((course.base / "grades.jsonl").read_bytes().splitlines()[0])
    seed = header["seed"]
    assert f"seed {seed}; --seed {seed} grades with the same probes again" in capsys.readouterr().out
    assert rows["ada", "01_toy"].seed == submissions.seed_of(seed, "ada", "01_toy")
    data = course.table.read_bytes()
    course.table = course.base / "again.csv"
    course.grade("--homework", "01_toy", "--seed", seed)
    assert course.table.read_bytes() == data
    course.table = course.base / "other.csv"
    assert course.grade("--homework", "01_toy")["ada", "01_toy"].seed != rows["ada", "01_toy"].seed


def test_the_header_lists_the_environment_and_a_changed_one_is_said(course, monkeypatch, capsys):
    import numpy
    course.grade("--homework", "01_toy")
    found = json.loads((course.base / "grades.jsonl").read_bytes().splitlines()[0])["environment"]
    assert found["numpy"] == numpy.__version__ and {"python", "minigrad", "platform"} <= set(found)
    monkeypatch.setattr(journal, "environment", lambda: found | {"numpy": "9.9"})
    course.grade("--homework", "01_toy")
    assert f"two environments: numpy {numpy.__version__} is now 9.9" in capsys.readouterr().out


# -- being stopped -----------------------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_grading_leaves_its_rows_and_goes_on(course, number, capsys):
    course.on_text["# bob"] = lambda: (os.kill(os.getpid(), number), course.sleeper())
    before = {s: signal.getsignal(s) for s in stopping.SIGNALS}
    with pytest.raises(SystemExit) as stopped:
        course.grade("--homework", "01_toy", "--seed", "5")
    assert stopped.value.code == 128 + number and "the same command does the rest" in capsys.readouterr().err
    assert set(table(course)) == {"ada"} and table(course)["ada"]["earned"] == "3"
    assert list(course.tmp.iterdir()) == [] and len(course.sleeping) == 1 and course.sleeping[0].poll() == -signal.SIGKILL
    assert {s: signal.getsignal(s) for s in stopping.SIGNALS} == before
    course.on_text.clear()
    rows = course.grade("--homework", "01_toy")
    assert [r.earned for r in rows.values()] == [3, 3, 3] and len(course.checked) == 4  # ada once, bob twice
    assert rows["bob", "01_toy"].seed == submissions.seed_of(5, "bob", "01_toy")


@pytest.mark.slow
@POSIX
def test_a_killed_grading_goes_on_and_its_temporary_folder_goes_with_the_next(course, tmp_path):
    program = textwrap.dedent(f"""
        import os, signal, sys, tempfile
        sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT)!r}]
        import grading_course
        from pathlib import Path
        from lectures.grading import grade
        course = grading_course.Course.__new__(grading_course.Course)
        course.base, course.checked, course.tmp = Path({str(tmp_path)!r}), [], Path({str(course.tmp)!r})
        tempfile.tempdir = str(course.tmp)
        course.on_text = {{"# cyd": lambda: os.kill(os.getpid(), signal.SIGKILL)}}
        grade.Grader._check = lambda self, *args: course.check(*args)
        grade.main([{str(course.root)!r}, "--csv", {str(course.table)!r}, "--jobs", "1", "--homework", "01_toy"], below=course.base / "homework")
        """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(course.tmp.glob(scratch.PREFIX + "*"))) == 1
    rows = course.grade("--homework", "01_toy")
    assert [r.earned for r in rows.values()] == [3, 3, 3] and len(course.checked) == 1
    assert list(course.tmp.glob(scratch.PREFIX + "*")) == []


@POSIX
def test_two_gradings_into_one_table_are_refused(course, tmp_path, capsys):
    path = journal.Path(tmp_path / "grades.jsonl")
    with journal.opened(path, {"seed": 1}):
        with pytest.raises(SystemExit):
            course.grade("--homework", "01_toy")
    assert "another grading writes" in capsys.readouterr().err and not path.exists()


# -- the journal -------------------------------------------------------------------------------------------------------


def lines_of(course):
    return (course.base / "grades.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("cut", [1, 30])
def test_a_torn_last_line_is_dropped_and_its_row_done_again(course, cut, capsys):
    first = course.grade("--homework", "01_toy", "--seed", "5")
    lines = lines_of(course)
    (course.base / "grades.jsonl").write_bytes(b"".join(lines)[:-cut])
    assert course.grade("--homework", "01_toy") == first
    assert len(course.checked) == 4 and "is torn" in capsys.readouterr().out and lines_of(course) == lines


def test_a_torn_line_leaves_nothing_behind_however_long_it_was(course):
    first = course.grade("--homework", "01_toy", "--seed", "5")
    lines = lines_of(course)
    (course.base / "grades.jsonl").write_bytes(b"".join(lines[:-1]) + b'{"row": "' + b"x" * 100_000)
    assert course.grade("--homework", "01_toy") == first and lines_of(course) == lines


def test_a_torn_header_begins_anew(course):
    course.grade("--homework", "01_toy", "--seed", "5")
    (course.base / "grades.jsonl").write_bytes(lines_of(course)[0][:20])
    assert len(course.grade("--homework", "01_toy", "--seed", "6")) == 3


@pytest.mark.parametrize("damage", [b"{", b"{}", b"[1]", b'{"row": {"student": 1}, "digest": "", "report": null}'])
def test_a_damaged_line_is_named_with_the_fix(course, damage, capsys):
    course.grade("--homework", "01_toy", "--seed", "5")
    lines = lines_of(course)
    (course.base / "grades.jsonl").write_bytes(b"".join([*lines[:2], damage + b"\n", *lines[3:]]))
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy")
    error = capsys.readouterr().err
    assert "line 3" in error and "delete that line" in error
    (course.base / "grades.jsonl").write_bytes(b"".join([*lines[:2], *lines[3:]]))
    assert len(course.grade("--homework", "01_toy")) == 3


@pytest.mark.parametrize("text", ['{"loss": 1}\n', '{"loss": 1}', "[1,\n2]", '{"journey": 1}'])
def test_another_programs_jsonl_is_not_overwritten(text, course, capsys):
    (course.base / "grades.jsonl").write_text(text)
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy")
    assert "is no journal" in capsys.readouterr().err and (course.base / "grades.jsonl").read_text() == text


def test_a_full_disk_ends_the_grading_with_whole_rows(course, monkeypatch, capsys):
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy")
    monkeypatch.setattr(journal.os, "fsync", real)
    assert "No space left on device" in capsys.readouterr().err and len(lines_of(course)) == 2
    assert len(course.grade("--homework", "01_toy")) == 3 and list(course.tmp.iterdir()) == []


def test_a_table_that_cannot_be_written_is_said_and_written_later(course, monkeypatch, capsys):
    monkeypatch.setattr(gradebook, "write_atomically", lambda *_: (_ for _ in ()).throw(PermissionError(13, "in use")))
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy")
    assert "in use" in capsys.readouterr().err
    monkeypatch.undo()
    assert len(lines_of(course)) == 4


def test_the_table_is_written_in_between(course, monkeypatch):
    written, write = [], gradebook.write
    monkeypatch.setattr(grade, "SECONDS_BETWEEN_TABLES", -1)
    monkeypatch.setattr(gradebook, "write", lambda path, rows: (written.append(len(rows)), write(path, rows)))
    course.grade("--homework", "01_toy")
    assert len(written) == 4 and written == sorted(written) and written[-1] == 3


def test_a_journal_that_cannot_be_made_is_said(course, capsys):
    (course.base / "grades.jsonl").mkdir()
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy")
    assert "Nothing was graded" in capsys.readouterr().err


# -- temporary folders -------------------------------------------------------------------------------------------------


def deep(folder, levels):
    """A chain of folders, made without long paths."""
    handle = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)


@POSIX
@pytest.mark.parametrize("levels", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_any_tree_is_removed_and_nothing_behind_its_links(tmp_path, levels):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    with scratch.scratch_folder() as base:
        deep(base, levels)
        (base / "loop").symlink_to(base)
        (base / "out").symlink_to(precious)
        os.mkfifo(base / "pipe")
        (base / "closed" / "inner").mkdir(parents=True)
        (base / "closed" / "inner" / "file").write_text("x")
        (base / "closed" / "inner").chmod(0)
        (base / "closed").chmod(0)
    assert not base.exists() and (precious / "file").read_text() == "x"


@POSIX
def test_what_cannot_be_deleted_stops_no_other(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / "tree" / name).mkdir(parents=True)
    real = os.rmdir
    monkeypatch.setattr(os, "rmdir", lambda name, **more: (_ for _ in ()).throw(OSError("busy")) if name == "b" else real(name, **more))
    assert remove_folder(tmp_path / "tree") is False
    assert [p.name for p in (tmp_path / "tree").iterdir()] == ["b"]


def test_a_running_gradings_temporary_folder_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    with scratch.scratch_folder() as first:
        monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
        with scratch.scratch_folder():
            assert first.exists()


@pytest.mark.parametrize("build", ["25 levels", pytest.param("3000 levels", marks=pytest.mark.slow), "loop", "pipe", "closed", "many"])
@POSIX
def test_a_hostile_folder_costs_its_own_row(course, build, monkeypatch):
    mine = course.root / "mal"
    mine.mkdir()
    if "levels" in build:
        deep(mine, int(build.split()[0]))
    elif build == "loop":
        (mine / "a").symlink_to(mine)
        (mine / "01_toy").symlink_to(mine / "01_toy")
    elif build == "pipe":
        os.mkfifo(mine / "01_toy.py")
    elif build == "closed":
        monkeypatch.setattr(os, "scandir", closed(os.scandir, mine))
    else:
        monkeypatch.setattr("lectures.grading.handed_in.MOST_ENTRIES", 10)
        for i in range(20):
            (mine / f"{i}.txt").touch()
    rows = course.grade("--homework", "01_toy")
    assert rows["mal", "01_toy"].status == {"loop": "link", "closed": "not graded"}.get(build, "not copied")
    assert [rows[name, "01_toy"].earned for name in ("ada", "bob", "cyd")] == [3, 3, 3] and list(course.tmp.iterdir()) == []
    if "levels" in build:
        remove_folder(mine)  # pytest's own removal is recursive


def closed(real, folder):
    """`os.scandir` without permission for one folder; for root, permissions are none."""
    def scandir(path):
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)
    return scandir


def test_a_closed_folder_beside_the_answer_is_passed_over(course, monkeypatch):
    (course.root / "ada" / "private").mkdir()
    monkeypatch.setattr(os, "scandir", closed(os.scandir, course.root / "ada" / "private"))
    assert course.grade("--homework", "01_toy")["ada", "01_toy"].earned == 3


def test_outside_the_main_thread_signals_stay_as_they_are():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def look():
        with stopping.stoppable():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]
