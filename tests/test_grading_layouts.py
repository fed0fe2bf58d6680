"""Courses as they are: each platform's naming is read, whoever's file it is; and whatever is in a zip, a notebook or a list of names."""

import io
import json
import os
import re
import stat
import struct
import sys
import zipfile
from pathlib import Path

import pytest
from grading_course import MORE, TOY, Course

from lectures.grading import command, handed_in, layouts, metadata, notebooks, roster, sandbox, submissions
from lectures.grading.gradebook import GradebookRow

WRONG = TOY.replace("2 * x", "3 * x")


@pytest.fixture
def course(tmp_path, monkeypatch):
    return Course(tmp_path, monkeypatch)


def zipped(files, **more):
    """A zip's bytes; a name may be a ZipInfo."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as book:
        for name, text in files.items():
            book.writestr(name, text, **more)
    return out.getvalue()


def notebook(*cells):
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
        {"cell_type": "markdown", "source": ["# def d_x"]}, *({"cell_type": "code", "source": c.splitlines(keepends=True), "outputs": []} for c in cells)]})


def earned(rows, homework="01_toy"):
    return {student: row.earned for (student, name), row in rows.items() if name == homework}


# -- the platforms -----------------------------------------------------------------------------------------------------

EXPORT = """---
submission_1001:
  :submitters:
  - :name: Ada Lovelace
    :sid: '1815'
    :email: ada@example.org
  :created_at: 2026-03-01 12:00:00.123456000 Z
  :score: 3.0
  :results:
    output: |
      :submitters:
      - :name: Joker
        :sid: '666'
  :history:
  - :id: 7
    :created_at: 2026-02-01 12:00:00.123456000 Z
submission_1002:
  :submitters:
  - :name: "Zo\\u00eb O'Neil"
    :sid: '1900'
    :email: zoe@example.org
  - :name: 'Bob ''B'' Ray'
    :sid: '1901'
    :email: bob@example.org
  :created_at: 2026-03-01 13:00:00.123456000 Z
"submission_1003":
  :submitters:
  - :name: Cyd
    :sid: ~
    :email: cyd@example.org
  :created_at: 2026-03-02 12:00:00.123456000 Z
submission_1004:
  :submitters:
  - :name: Cyd
    :sid: ~
    :email: cyd@example.org
  :created_at: 2026-03-03 12:00:00.123456000 Z
"""
PLATFORMS = {  # layout -> files; the row's name -> points of 3
    "moodle": ({"Ada Lovelace_123456_assignsubmission_file_/01_toy.py": TOY, "Bob_B Ray_123457_assignsubmission_file_/lines.py": WRONG,
                "Bob_B Ray_123457_assignsubmission_onlinetext_/onlinetext.html": "<p>", "Cyd_123458_assignsubmission_onlinetext_/onlinetext.html": "<p>",
                "Dee_123459_assignsubmission_file/my answer.py": TOY, "Eve_1_assignsubmission_file_/a.py": TOY, "Eve_2_assignsubmission_file_/a.py": WRONG},
               {"Ada Lovelace": 3, "Bob_B Ray": 2, "Cyd": 0, "Dee": 3, "Eve (1)": 3, "Eve (2)": 2}),
    "moodle flat": ({"Ada Lovelace_123456_assignsubmission_file_01_toy.py": TOY, "Bob_B Ray_123457_assignsubmission_file_lines.py": WRONG,
                     "Bob_B Ray_123457_assignsubmission_file_helper.py": "A = 1\n", "Participant 9_9_assignsubmission_file_toy.ipynb": notebook(TOY)},
                    {"Ada Lovelace": 3, "Bob_B Ray": 2, "Participant 9": 3}),
    "canvas": ({"lovelaceada_101_9001_01_toy.py": TOY, "raybob_LATE_102_9002_lines.py": WRONG, "raybob_LATE_102_9005_lines-1.py": TOY,
                "cyd_103_text.html": "<p>", "deedee_104_9010_01_toy.py": TOY, "deedee_104_9009_01_toy-1.py": WRONG, "anon_ab12c_9003_toy.py": TOY,
                "LATE_anon_xy9_9004_toy.py": TOY},
               {"lovelaceada": 3, "raybob": 3, "cyd": 0, "deedee": 3, "anon_ab12c": 3, "anon_xy9": 3}),
    "gradescope": ({"submission_metadata.yml": EXPORT, "submission_1001/01_toy.py": TOY, "submission_1002/lines.py": WRONG, "submission_1003/lines.py": WRONG,
                    "submission_1004/lines.py": TOY, "submission_9999/lines.py": TOY},
                   {"Ada Lovelace": 3, "Zoë O'Neil": 2, "Bob 'B' Ray": 2, "Cyd": 3}),
    "classroom": ({"01-toy-ada/.git/HEAD": "", "01-toy-ada/01_toy.py": TOY, "01-toy-ada-x/.git/HEAD": "", "01-toy-ada-x/lines.py": WRONG,
                   "01-toy-ada-y/.git/HEAD": "", "01-toy-ada-y/README.md": "", "01-toy-ada-z/.git/HEAD": "", "01-toy-ada-z/lectures/01_toy.py": WRONG,
                   "01-toy-ada-z/lectures/homework/01_toy/lines.py": TOY, "01-toy-ada-z/lectures/homework/02_more/lines.py": MORE},
                  {"ada": 3, "ada-x": 2, "ada-y": 0, "ada-z": 3}),
    "nbgrader": ({"source/01_toy/lines.ipynb": "", "submitted/ada/01_toy/lines.ipynb": notebook(TOY), "submitted/ada/01_toy/timestamp.txt": "2026-03-01",
                  "submitted/bob/01_toy/lines.py": WRONG, "submitted/bob/01_toy/task.py": "", "submitted/cyd/02_more/lines.py": MORE},
                 {"ada": 3, "bob": 2, "cyd": 0}),
    "otter": ({"ada.ipynb": notebook(TOY), "bob.zip": zipped({"my toy.ipynb": notebook(WRONG), ".otter": "{}"}), "cyd.py": TOY, "dee.zip": b"no zip",
               "eve.py": WRONG, "eve (1).py": TOY},
              {"ada": 3, "bob": 2, "cyd": 3, "dee": 0, "eve": 3}),
    "zips in folders": ({"ada/homework.zip": zipped({"01_toy/lines.py": TOY, "__MACOSX/01_toy/._lines.py": "x"}), "bob/01_toy.zip": zipped({"lines.py": WRONG}),
                         "cyd/01_toy.py": TOY, "cyd/broken.zip": b"x"},
                        {"ada": 3, "bob": 2, "cyd": 3}),
}


def collect(course, name):
    root = course.root if name != "classroom" else course.base / "01-toy-submissions"
    course.root = root
    for path, content in PLATFORMS[name][0].items():
        course.hand_in(path, content)


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_platforms_naming_is_read(name, course, capsys):
    collect(course, name)
    rows = course.grade("--homework", "01_toy")
    assert earned(rows) == PLATFORMS[name][1]
    said = capsys.readouterr().out
    expected = {"moodle flat": "moodle", "nbgrader": "folders", "zips in folders": "folders"}.get(name, name)
    assert f"layout {expected}: {len(rows)} students" in said
    assert name != "gradescope" or "nobody's: submission_9999" in said
    assert all(r.message for r in rows.values())


@pytest.mark.parametrize("name", ["moodle", "canvas", "gradescope", "otter", "zips in folders"])
def test_a_platforms_zip_is_read_as_it_came(name, course):
    """The same rows from the download as from the folder; for some with one folder around everything, for some without."""
    around = "assignment_7_export/" if name in ("gradescope", "zips in folders") else ""
    archive = course.base / "download.zip"
    archive.write_bytes(zipped({around + path: content for path, content in PLATFORMS[name][0].items()}))
    assert earned(course.grade("--homework", "01_toy", root=archive)) == PLATFORMS[name][1]
    assert list(course.tmp.iterdir()) == []


def test_late_marks_and_copies_are_said(course):
    collect(course, "canvas")
    rows = course.grade("--homework", "01_toy")
    assert {s: r.late for (s, _), r in rows.items()} == {"lovelaceada": "", "raybob": "late", "cyd": "", "deedee": "", "anon_ab12c": "", "anon_xy9": "late"}
    assert "of 2 copies lines-1.py counts" in rows["raybob", "01_toy"].message


def test_the_latest_of_two_submissions_by_one_student_counts(course):
    collect(course, "gradescope")
    row = course.grade("--homework", "01_toy")["Cyd", "01_toy"]
    assert row.earned == 3 and "the latest of several submissions" in row.message


def test_a_layout_can_be_forced_and_a_wrong_one_is_refused(course, capsys):
    course.hand_in("ada_1_assignsubmission_file_/01_toy.py")
    assert list(earned(course.grade("--homework", "01_toy", "--layout", "folders"))) == ["ada_1_assignsubmission_file_"]
    with pytest.raises(SystemExit):
        course.grade("--layout", "gradescope")
    assert "is not the layout gradescope" in capsys.readouterr().err


def test_one_assignments_files_are_not_taken_for_all_homeworks(course):
    collect(course, "moodle")
    course.hand_in("Ada Lovelace_123456_assignsubmission_file_/02_more.py", MORE)
    rows = course.grade()
    assert rows["Ada Lovelace", "01_toy"].earned == rows["Ada Lovelace", "02_more"].earned == 3
    assert rows["Dee", "01_toy"].status == "missing" and "grade with --homework NAME" in rows["Dee", "01_toy"].message
    course.table = course.base / "one.csv"
    course.hand_in("Fay_7_assignsubmission_file_/02_more.py", MORE)
    row = course.grade("--homework", "01_toy")["Fay", "01_toy"]
    assert (row.status, row.earned) == ("missing", 0) and "only files of other homeworks: 02_more.py" in row.message


def test_classroom_repositories_without_the_commands_folder(course):
    for student in ("ada", "adam"):
        course.hand_in(f"week-one-{student}/.git/HEAD", "")
        course.hand_in(f"week-one-{student}/lines.py")
    assert earned(course.grade("--homework", "01_toy")) == {"ada": 3, "adam": 3}


# -- which file --------------------------------------------------------------------------------------------------------

FOUND = {  # files -> the one that counts, or a status
    ("01_toy.py",): "01_toy.py", ("01_toy.py", "01_toy (1).py"): "01_toy (1).py", ("01-Toy.py",): "01-Toy.py", ("01_toy - Copy.py",): "01_toy - Copy.py",
    ("01_toy/lines.py", "01_toy/01_toy.py"): "lines.py", ("01_toy/lines (2).py", "01_toy/lines (10).py"): "lines (10).py",
    ("01_toy/01_toy.py", "01_toy/x.py"): "01_toy.py", ("01_toy/x.py", "01_toy/task.py"): "x.py", ("01_toy/x.py", "01_toy/y.py"): "ambiguous",
    ("01_toy.py", "01_toy/lines.py"): "ambiguous", ("01_toy.py", "01_toy.ipynb"): "01_toy.py", ("01_toy.ipynb",): "01_toy.ipynb",
    ("01_toy/.lines.py",): "missing", ("01_toy/data.txt",): "missing", (): "missing", ("lines.py",): "missing", ("02_more.py",): "missing",
    ("a/b/01_toy/lines.py",): "lines.py", ("a/01_toy.py", "b/01_toy.py"): "ambiguous", ("a/01_toy.py", "b/c/01_toy/lines.py"): "lines.py",
    ("01_toy (1)/lines.py", "01_toy/lines.py"): "lines.py",
}


def handed(names, content=b""):
    files = handed_in.HandedIn()
    for name in names:
        files._add(name, lambda name=name: content or name.encode(), len(content))
    return files


@pytest.mark.parametrize("names", FOUND, ids="+".join)
def test_the_file_that_counts(names):
    found = submissions.find("ada", "01_toy", handed(names), others=["02_more"])
    assert (found.file or found.status) == FOUND[names]
    assert found.file or found.problem


def test_the_latest_copy_of_a_folder_counts():
    found = submissions.find("ada", "01_toy", handed(("01_toy (1)/lines.py", "01_toy/lines.py")))
    assert found.files.files["lines.py"]() == b"01_toy (1)/lines.py"


@pytest.mark.parametrize("names, file", [(("lines.py", "x.py"), "lines.py"), (("x.py",), "x.py"), (("x.py", "02_more.py"), "x.py"), (("x.py", "y.py"), None),
                                         (("x.py", "x (1).py"), "x (1).py"), (("sub/lines.py",), "lines.py")])
def test_the_file_that_counts_where_all_are_for_one_homework(names, file):
    assert submissions.find("ada", "01_toy", handed(names), others=["02_more"], alone=True).file == file


def test_the_only_file_with_a_derivation_is_the_answer():
    files = handed(("utils.py", "notes.py"))
    files._add("mine.py", lambda: b"def d_x(x):\n", 1)
    assert submissions.find("ada", "01_toy", files, alone=True).file == "mine.py"


# -- zips --------------------------------------------------------------------------------------------------------------


def link(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def lying():
    """A zip whose directory says that a member is small."""
    data = bytearray(zipped({"01_toy.py": b"# x\n" * 100_000}))
    at = data.rfind(b"PK\x01\x02")
    data[at + 24:at + 28] = struct.pack("<I", 100)
    return bytes(data)


def encrypted():
    data = bytearray(zipped({"01_toy.py": TOY}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + place] |= 1
    return bytes(data)


HOSTILE = {
    "absolute": (lambda: zipped({"/01_toy.py": TOY}), "leave its folder"), "parent": (lambda: zipped({"../01_toy.py": TOY}), "leave its folder"),
    "parent inside": (lambda: zipped({"a/../../01_toy.py": TOY}), "leave its folder"), "drive": (lambda: zipped({"C:/01_toy.py": TOY}), "leave its folder"),
    "backslash": (lambda: zipped({"..\\01_toy.py": TOY}), "leave its folder"), "link": (lambda: zipped({link("01_toy.py"): "/etc/passwd"}), "no plain file"),
    "long name": (lambda: zipped({"x" * 300 + "/01_toy.py": TOY}), "leave its folder"),
    "nested": (lambda: zipped({"a.zip": b"", "01_toy.py": TOY}), "another archive"),
    "bomb": (lambda: zipped({"01_toy.py": TOY, "zeros": bytes(20 << 20)}), "times its size"),
    "many": (lambda: zipped({f"{i}.py": "" for i in range(2001)}), "2000 files"),
    "large": (lambda: zipped({"x": os.urandom(1000) * 34_000}), "32 MB"), "deep": (lambda: zipped({"a/" * 30 + "01_toy.py": TOY}), "levels deep"),
    "lying": (lying, "damaged"), "encrypted": (encrypted, "encrypted"), "not one": (lambda: b"PK\x03\x04", "cannot be read as a zip"),
    "cut": (lambda: zipped({"01_toy.py": TOY})[:-30], "cannot be read as a zip"),
    "damaged": (lambda: zipped({"01_toy.py": TOY}).replace(b"PK\x03\x04", b"PK\x03\x05", 1), "damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_zip_costs_its_own_row_and_writes_nothing_elsewhere(kind, course):
    make, said = HOSTILE[kind]
    course.hand_in("mal/hw.zip", make())
    course.hand_in("ada/01_toy.py")
    before = {p for p in course.base.rglob("*") if p.is_file()}
    rows = course.grade("--homework", "01_toy")
    assert earned(rows) == {"ada": 3, "mal": 0}
    assert rows["mal", "01_toy"].status == "not copied" and said in rows["mal", "01_toy"].message, rows["mal", "01_toy"].message
    assert {p for p in course.base.rglob("*") if p.is_file()} - before == {course.table, course.table.with_suffix(".jsonl")}


def test_a_name_that_is_a_file_and_a_folder_costs_its_own_row(course):
    course.hand_in("mal/hw.zip", zipped({"01_toy/lines.py": TOY, "01_toy/a": "", "01_toy/a/b": ""}))
    assert course.grade("--homework", "01_toy")["mal", "01_toy"].status == "not graded"


@pytest.mark.parametrize("kind", ["parent", "link", "encrypted", "not one"])
def test_a_hostile_platforms_zip_is_refused(kind, course, capsys):
    archive = course.base / "download.zip"
    archive.write_bytes(HOSTILE[kind][0]())
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy", root=archive)
    assert HOSTILE[kind][1] in capsys.readouterr().err and list(course.tmp.iterdir()) == [] and not course.table.exists()


# -- notebooks ---------------------------------------------------------------------------------------------------------


def test_a_notebooks_code_is_graded_and_what_is_not_python_is_said(course):
    course.hand_in("ada/01_toy.ipynb", notebook("%matplotlib inline\nimport math", "!pip install x\nfiles = !ls", "%%bash\nrm -rf /", "%%time\n" + TOY, "d_x?"))
    row = course.grade("--homework", "01_toy")["ada", "01_toy"]
    assert row.earned == 3 and course.checked[0][1] == "01_toy.py"
    assert "from the notebook 01_toy.ipynb, without 6 lines for IPython (%matplotlib inline; !pip install x; files = !ls and 3 more)" in row.message


def test_a_cell_that_is_python_is_kept_as_it_is():
    text, dropped = notebooks.python_of(notebook('x = (7\n% 4)\ns = """\n%magic\n!no\n"""', "if x:\n    %time y = 1\nelse:\n    y = 2").encode())
    space: dict = {}
    exec(text, space)
    assert (space["x"], space["s"], dropped) == (3, "\n%magic\n!no\n", ["%time y = 1"])


def test_the_third_format_is_read():
    old = {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1\n", "y = 2"]}]}]}
    assert "x = 1\ny = 2" in notebooks.python_of(json.dumps(old).encode())[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cells": 1}', b'{"cells": [1]}', b'{"cells": [{"cell_type": "code"}]}', b"\xff\xfe",
                                     b"[" * 100_000, b'{"cells": [{"cell_type": "code", "source": [1]}]}', b'{"worksheets": [{}]}'])
def test_what_is_no_notebook_costs_its_own_row(content, course):
    course.hand_in("mal/01_toy.ipynb", content)
    course.hand_in("ada/01_toy.py")
    rows = course.grade("--homework", "01_toy")
    assert rows["mal", "01_toy"].status == "not copied" and "cannot be read as a notebook" in rows["mal", "01_toy"].message
    assert rows["ada", "01_toy"].earned == 3


# -- the roster --------------------------------------------------------------------------------------------------------

ROSTERS = {
    "canvas": "Student,ID,SIS User ID\nLovelace, Ada,101,s1\n".replace("Lovelace, Ada", '"Lovelace, Ada"') + '"Ray, Bob",102,s2\n"Absent, Ann",109,s9\n',
    "moodle": "First name;Last name;Email address\nAda;Lovelace;ada@example.org\nBob_B;Ray;bob@example.org\nAnn;Absent;ann@example.org\n",
    "gradescope": "Name,SID,Email\nAda Lovelace,1815,ada@example.org\nsomebody,1901,x@example.org\nAnn,9,ann@example.org\n",
    "classroom": "identifier,github_username\nlovelace,ada\nray,ada-x\nabsent,ann\n",
    "zips in folders": "ada\nbob\nann\n",
}


@pytest.mark.parametrize("name, students, unknown", [
    ("canvas", {"Lovelace, Ada": 3, "Ray, Bob": 3, "Absent, Ann": 0}, 4), ("moodle", {"ada@example.org": 3, "bob@example.org": 2, "ann@example.org": 0}, 4),
    ("gradescope", {"Ada Lovelace": 3, "somebody": 2, "Ann": 0}, 2), ("classroom", {"lovelace": 3, "ray": 2, "absent": 0}, 2),
    ("zips in folders", {"ada": 3, "bob": 2, "ann": 0}, 1)])
def test_everybody_on_the_roster_has_a_row_and_the_others_are_named(name, students, unknown, course, capsys):
    collect(course, name)
    (course.base / "roster.csv").write_text(ROSTERS[name], encoding="utf-8-sig")
    rows = course.grade("--homework", "01_toy", "--roster", course.base / "roster.csv")
    assert {s: e for s, e in earned(rows).items() if s in students} == students and len(rows) == len(students) + unknown
    absent = list(students)[2]
    assert rows[absent, "01_toy"].status == "missing" and "not on the roster: " in capsys.readouterr().out


def test_a_name_that_two_students_share_matches_nobody():
    people = [layouts.Person("Ada Lovelace", ids=("7",)), layouts.Person("Ada Lovelace (8)", ids=("8",))]
    listed = [roster.Listed("a1", frozenset({"a1", "adalovelace", "7"})), roster.Listed("a2", frozenset({"a2", "adalovelace"}))]
    found, unknown = roster.matched(people, listed)
    assert [(p.student, p.ids) for p in found] == [("Ada Lovelace (8)", ("8",)), ("a1", ("7",)), ("a2", ())] and unknown == ["Ada Lovelace (8)"]


def test_a_stranger_does_not_take_the_row_of_somebody_on_the_roster():
    found, unknown = roster.matched([layouts.Person("a1"), layouts.Person("A1")], [roster.Listed("a1", frozenset({"a1"}))])
    assert sorted(p.student for p in found) == ["A1", "a1"] and unknown == ["A1"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_very_name_comes_first_and_of_two_other_spellings_neither_counts(order):
    listed = [roster.Listed("bob", frozenset({"bob", "bobbobson"}))]
    for spelling in ("Bob", "b.o.b", "Bob_Bobson"):
        found, unknown = roster.matched([layouts.Person(spelling, late="thief"), layouts.Person("bob")][::order], listed)
        assert [p.late for p in found if p.student == "bob"] == [""] and unknown == [spelling]
    found, unknown = roster.matched([layouts.Person("b-o-b", late="thief"), layouts.Person("Bob", late="honest")][::order], listed)
    assert [p.late for p in found if p.student == "bob"] == [""] and sorted(unknown) == ["Bob", "b-o-b"]


@pytest.mark.parametrize("text, said", [("", "lists nobody"), ("student\n", "lists nobody"), ("student\nada\nada\n", "lists ada more than once"),
                                        ("\udcff\n", "save it as CSV in UTF-8")])
def test_a_roster_that_is_none_is_refused(text, said, course, capsys):
    course.hand_in("ada/01_toy.py")
    (course.base / "roster.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SystemExit):
        course.grade("--roster", course.base / "roster.csv")
    assert said in capsys.readouterr().err


# -- Gradescope's metadata ---------------------------------------------------------------------------------------------


def test_the_metadata_say_whose_and_when_and_students_texts_in_it_change_nothing():
    found = metadata.gradescope_metadata(EXPORT)
    assert found["submission_1001"] == ("2026-03-01 12:00:00.123456000 Z", [("Ada Lovelace", "1815", "ada@example.org")])
    assert [name for name, *_ in found["submission_1002"][1]] == ["Zoë O'Neil", "Bob 'B' Ray"] and len(found) == 4
    assert metadata.gradescope_metadata("") == {} == metadata.gradescope_metadata("- a\n- b\n")


def test_what_else_yaml_allows_is_read():
    """Names that go on in the next line, anchors for a text that stands twice, Ruby's objects, submitters that are none."""
    found = metadata.gradescope_metadata("""submission_1:
  :submitters:
  - :name: &1 Ada
      Lovelace
    :sid: null
  - nobody
  :created_at: &2 2026-03-01 12:00:00 Z
  :results: !ruby/hash:ActiveSupport::HashWithIndifferentAccess {output: !!python/object/apply:os.system [ls]}
"submission_2": {":submitters": [{":name": *1, ":email": ada@example.org}], ":created_at": *2}
submission_3: ~
other: 7
""")
    assert found == {"submission_1": ("2026-03-01 12:00:00 Z", [("Ada Lovelace", "", "")]),
                     "submission_2": ("2026-03-01 12:00:00 Z", [("Ada Lovelace", "", "ada@example.org")]), "submission_3": ("", [])}


@pytest.mark.parametrize("text", ["\x00: [\n  - ::\n", "a: [", "a: *b", "a: " + "[" * 100_000])
def test_metadata_that_are_no_yaml_are_said(text, course, capsys):
    course.hand_in("submission_metadata.yml", text)
    course.hand_in("submission_1/lines.py", TOY)
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy")
    assert "submission_metadata.yml cannot be read" in (said := capsys.readouterr().err) and "--layout folders" in said
    assert list(course.grade("--homework", "01_toy", "--layout", "folders")) == [("submission_1", "01_toy")]


def test_without_pyyaml_the_fix_is_said(monkeypatch, course, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    course.hand_in("submission_metadata.yml", EXPORT)
    with pytest.raises(SystemExit):
        course.grade("--homework", "01_toy")
    assert "pip install pyyaml" in capsys.readouterr().err


# -- the documents -----------------------------------------------------------------------------------------------------


def test_the_document_names_every_layout_column_option_and_bound():
    text = (Path(__file__).resolve().parents[1] / "docs" / "instructors.md").read_text(encoding="utf-8")
    head = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for cell in head for name in re.findall(r"`(\w+)`", cell)}
    assert named == {*layouts.READERS, *GradebookRow._fields}
    for option in command.parser("", jobs=1, limits=sandbox.SandboxLimits())._option_string_actions:
        assert option in ("-h", "--help") or option in text, option
    assert f"more than {handed_in.MOST_FILES} files or {handed_in.MOST_BYTES >> 20} MB" in text and f"deeper than {handed_in.MOST_LEVELS} levels" in text
    assert f"more than {handed_in.MOST_RATIO} times its size" in text
