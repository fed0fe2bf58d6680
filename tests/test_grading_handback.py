"""What goes back: flags, pages that hold nothing but escaped text, the class in one page, and Gradescope's results.json."""

import csv
import html.parser
import json

import pytest
from grading_course import MORE, TOY, Course

from lectures.grading import gradebook, handback
from lectures.grading.gradebook import GradebookRow
from lectures.grading.journal import Finished

EVIL = "<script>alert('1')</script>&\"'"


@pytest.fixture
def course(tmp_path, monkeypatch):
    course = Course(tmp_path, monkeypatch)
    course.hand_in("ada/01_toy.py", TOY)
    course.hand_in("bob/01_toy.py", TOY + "# flag\n")
    course.hand_in("cyd/01_toy.py", TOY.replace("return x + 1", "return x  # </code></td><script>"))
    course.hand_in("cyd/02_more.py", MORE)
    return course


class TagReader(html.parser.HTMLParser):
    """Tags, attributes and text of a page; every tag must be closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def safe(path):
    page = TagReader(path.read_text(encoding="utf-8"))
    assert set(page.tags) <= set("html head meta title style body h1 h2 p table tr th td b br small code pre a".split())
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "http-equiv", "content", "name", "class", "style", "href"}
    assert not [value for name, value in page.attributes if name == "href" and (":" in value or "/" in value)]
    return "".join(page.words)


# -- flags -------------------------------------------------------------------------------------------------------------


def test_flags_are_a_column_and_counted_and_cost_nothing_without_strict(course, capsys):
    rows = course.grade("--homework", "01_toy")
    assert rows["bob", "01_toy"].earned == 3 and rows["bob", "01_toy"].flags == "d_x: numerical derivative; d_y: numerical derivative"
    assert rows["ada", "01_toy"].flags == "" and rows["ada", "01_toy"].sandbox == "test"
    said = capsys.readouterr().out
    assert "flagged                      students  lines\n  numerical derivative                1  d_x (1), d_y (1)" in said
    with open(course.table, encoding="utf-8-sig", newline="") as f:
        table = list(csv.DictReader(f))
    assert [(r["flags"] != "", r["sandbox"]) for r in table] == [(False, "test"), (True, "test"), (False, "test")]


def test_a_flagged_line_earns_nothing_under_strict_everywhere(course):
    row = course.grade("--homework", "01_toy", "--strict", "--html", course.base / "pages")["bob", "01_toy"]
    assert (row.earned, row.lines, row.flags) == (0, "d_x 0/1; d_y 0/2", "d_x: numerical derivative; d_y: numerical derivative")
    assert "0 of 3 points" in safe(course.base / "pages" / "bob.html")
    course.grade("--homework", "01_toy", "--strict", "--student", "bob", "--gradescope", course.base / "r.json")
    assert json.loads((course.base / "r.json").read_text())["score"] == 0


@pytest.mark.parametrize("flags", ["text", [1], {"a": 1}])
def test_flags_that_are_no_texts_are_no_report(flags):
    line = {"line": "d_x", "verdict": "right", "points": 3, "earned": 3, "code": None, "message": "", "flags": flags}
    report = {"task": "t", "seed": 1, "status": "ok", "message": "", "lines": [line]}
    assert gradebook.fits(report, report, 1) is False
    assert gradebook.fits(report | {"lines": [line | {"flags": ["a; b"]}]}, report, 1)


# -- the summary -------------------------------------------------------------------------------------------------------


def test_the_histogram_counts_everybody_once_and_fits_a_terminal():
    row = GradebookRow("a", "h", "ok", 0, 12, "", "", "", 0)
    rows = [row._replace(earned=e) for e in (0, 1, 2, 3, 6, 11, 12, *[9] * 200)]
    bars = gradebook.histogram(rows)
    assert sum(int(bar.split("%")[1].split()[0]) for bar in bars) == len(rows) and max(map(len, bars)) < 70
    assert [int(bar.split("%")[1].split()[0]) for bar in bars] == [2, 1, 1, 0, 0, 1, 0, 200, 0, 2]
    assert bars[7].endswith("#" * 40) and bars[0].endswith("  #")
    assert gradebook.histogram([row._replace(points=0)])[9].split()[-2:] == ["1", "#"]


# -- pages -------------------------------------------------------------------------------------------------------------


def test_a_page_per_student_and_one_of_the_class(course):
    course.grade("--html", course.base / "pages")
    pages = {p.name for p in (course.base / "pages").iterdir()}
    assert pages == {"ada.html", "bob.html", "cyd.html", "index.html"}
    mine = safe(course.base / "pages" / "cyd.html")
    assert "4 of 6 points" in mine and "2: return x  # </code></td><script>" in mine
    assert "ada" not in mine and "bob" not in mine
    everybody = safe(course.base / "pages" / "index.html")
    assert "to explain again" in everybody and "For instructors only" in everybody and " 90-100 %      2  ##" in everybody


def test_pages_of_a_finished_grading_need_no_check_and_leave_other_files(course):
    course.grade("--homework", "01_toy")
    (course.base / "pages").mkdir()
    (course.base / "pages" / "notes.txt").write_text("mine")
    checked = len(course.checked)
    course.grade("--homework", "01_toy", "--html", course.base / "pages")
    assert len(course.checked) == checked and (course.base / "pages" / "notes.txt").read_text() == "mine" and len(list((course.base / "pages").iterdir())) == 5


def evil(student=EVIL):
    row = GradebookRow(student, EVIL, EVIL, 1, 3, EVIL, f"d_x: {EVIL}", EVIL, 7, f"d_x: {EVIL}", EVIL, EVIL)
    line = {"line": EVIL, "verdict": EVIL, "points": 3, "earned": 1, "code": EVIL, "message": EVIL + "\x1b[31m\u202e", "flags": [EVIL],
            "at": {"line": EVIL, "source": EVIL}}
    return Finished(row, "", {"lines": [line]})


def test_everything_is_escaped(tmp_path):
    handback.write_pages(tmp_path, [evil()])
    for path in tmp_path.iterdir():
        words = safe(path)
        assert EVIL in words and "\x1b" not in words and "\u202e" not in words
        assert "<script" not in path.read_text("utf-8")


@pytest.mark.parametrize("names", [["ada", "Ada", "ADA"], ["a/b", "a b", "a-b"], ["index", "Index"], ["..", ".", "/", "\udcff", ""], ["é", "è"],
                                   ["x" * 100, "x" * 101]])
def test_no_two_students_share_a_page_and_no_name_leaves_the_folder(names, tmp_path):
    pages = [handback.page_name(name).casefold() for name in names]
    assert len({*pages, "index.html"}) == len(names) + 1
    handback.write_pages(tmp_path / "pages", [evil(name) for name in names])
    assert len(list((tmp_path / "pages").iterdir())) == len(names) + 1 and len(list(tmp_path.iterdir())) == 1


# -- Gradescope --------------------------------------------------------------------------------------------------------


def test_results_json_has_a_test_per_line(course):
    course.grade("--homework", "01_toy", "--layout", "single", "--gradescope", course.base / "results.json", root=course.root / "cyd")
    found = json.loads((course.base / "results.json").read_text())
    assert set(found) <= {"score", "execution_time", "output", "output_format", "visibility", "stdout_visibility", "extra_data", "tests", "leaderboard"}
    assert found["score"] == 1 and [t["score"] for t in found["tests"]] == [1, 0] and [t["max_score"] for t in found["tests"]] == [1, 2]
    assert [t["status"] for t in found["tests"]] == ["passed", "failed"] and found["tests"][1]["output"] == "wrong (sign): no"
    assert [t["name"] for t in found["tests"]] == ["d_x", "d_y"]


def test_what_was_not_checked_is_one_failed_test(course):
    course.grade("--student", "ada", "--gradescope", course.base / "results.json")
    found = json.loads((course.base / "results.json").read_text())
    assert found["score"] == 3 and found["tests"][-1]["name"] == "02_more: missing" and found["tests"][-1]["status"] == "failed"
    assert found["tests"][-1]["max_score"] == 3 and "neither 02_more.py" in found["tests"][-1]["output"]


def test_results_json_is_of_one_student(course, capsys):
    with pytest.raises(SystemExit):
        course.grade("--gradescope", course.base / "results.json")
    assert "--layout single" in capsys.readouterr().err and not (course.base / "results.json").exists()
