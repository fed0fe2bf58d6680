"""Everything that the five documents print has a home, the homes are there, and a citation leads somewhere."""

import ast
import json
import re
from pathlib import Path

import pytest

from lectures.equations import DOCUMENTS
from lectures.equations.__main__ import main
from lectures.equations.homes import LECTURES, Homes, LectureStep, belongs, citations, cited, homes, listing, sections, steps, wrong_citations
from lectures.equations.printed import ITEMS, PrintedItem

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = {"dbn_table_a", "dbn_table_b", "dbn_cost", "dbn_pca", "iabn_table_1", "cwn_figure_1", "cwn_proposition_1", "jacobian_batch_size", "deep_plain",
               "bn_benefits"}

# What each document prints, counted by hand: numbers of equations, tables and figures.
NUMBERED = {"dbn": 20, "bn-jacobian": 10, "cwn": 5}
SHOWN = {"dbn": {"table A", "table B"}, "inplace-abn": {"table 1"}, "cwn": {f"figure {k}" for k in range(1, 5)}, "bn-lecture": set(), "bn-jacobian": set()}


def defined(file):
    """Functions and classes of a file."""
    return {node.name for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


# -- nothing is homeless -----------------------------------------------------------------------------------------------


def test_every_numbered_equation_table_and_figure_is_listed():
    for document in DOCUMENTS:
        names = [item.name for item in ITEMS if item.document == document]
        assert len(names) == len(set(names))
        assert [n for n in names if re.fullmatch(r"\(\d+\)", n)] == [f"({k})" for k in range(1, NUMBERED.get(document, 0) + 1)]
        assert {item.name for item in ITEMS if item.document == document and item.kind in ("table", "figure")} == SHOWN[document]


def test_everything_has_a_home():
    assert {f"{h.item.document} {h.item.name}": h.missing for h in homes() if h.missing} == {}


def test_every_numbered_equation_has_a_step_in_a_lecture():
    numbered = [h for h in homes() if h.item.name.startswith("(")]
    assert len(numbered) == sum(NUMBERED.values()) and all(h.steps and h.entries for h in numbered)


def test_every_line_of_the_ledger_belongs_to_one_item():
    for document in DOCUMENTS.values():
        for entry in document.entries:
            names = [item.name for item in ITEMS if belongs(entry, item)]
            assert len(names) == 1 or entry.number == "(1), (2)", (document.short, entry.number, names)


@pytest.mark.parametrize("place", sorted({place for item in ITEMS for place in (*item.code, *item.tests)}))
def test_code_and_tests_are_where_they_are_said_to_be(place):
    file, _, name = place.partition(": ")
    assert name in defined(file)


def test_experiments_are_those_of_the_project_and_each_is_somethings_home():
    named = {name for item in ITEMS for name in item.experiments}
    assert named == EXPERIMENTS  # the eleventh, two_gradients, is about no document
    if missing := [name for name in sorted(named) if not (ROOT / "experiments" / f"{name}.py").is_file()]:
        pytest.skip(f"not written yet: {', '.join(missing)}")


def test_what_has_no_home_is_counted():
    assert {f"{item.document} {item.name}" for item in ITEMS if item.nowhere} == {"dbn GPU utilization", "cwn conjecture"}


# -- citations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(LECTURES.glob("[0-9][0-9]_*.py")), ids=lambda p: p.stem)
def test_a_lecture_cites_what_the_documents_have(path):
    assert wrong_citations(path.name, path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", sorted((LECTURES / "homework").glob("*/task.py")), ids=lambda p: p.parent.name)
def test_a_homework_cites_what_the_documents_have(path):
    assert wrong_citations(path.parent.name, path.read_text("utf-8")) == []


@pytest.mark.parametrize("text, found", [
    ("as in dbn (14).", [("dbn", "(14)")]),
    ("dbn (8)-(10), (14)", [("dbn", "(8)"), ("dbn", "(9)"), ("dbn", "(10)"), ("dbn", "(14)")]),
    ("cwn (4) and (5)", [("cwn", "(4)"), ("cwn", "(5)")]),
    ('bn-lecture "Benefits" and dbn table A', [("bn-lecture", "Benefits"), ("dbn", "table A")]),
    ("cwn figure 1, and figure 2", [("cwn", "figure 1"), ("cwn", "figure 2")]),
    ("dbn does (14) well", []), ("adbn (14)", [])])
def test_citations_are_read(text, found):
    assert list(citations(text)) == found


@pytest.mark.parametrize("text", ["dbn (21)", "inplace-abn figure 2", 'bn-lecture "Benefit"', "cwn table 1", "dbn section 3", "bn-jacobian (0)",
                                  "dbn, eqs 7-13", "cwn's eq 3", "bn-jacobian, equations 1"])
def test_a_citation_that_leads_nowhere_or_is_not_found_is_reported(text):
    assert len(wrong_citations("x.py", f"# as in {text} above")) == 1


@pytest.mark.parametrize("text", ["dbn (20)", "inplace-abn section 2", 'bn-lecture "Benefits"', "cwn proposition 2", "dbn has an equation of its own",
                                  "dbn whitens groups; its equations are long"])
def test_other_text_is_left_alone(text):
    assert wrong_citations("x.py", f"# as in {text} above") == []


def test_a_part_is_cited_with_the_whole():
    assert [item.name for item in cited("bn-lecture", "Benefits")] == [f"Benefits, {k}" for k in range(1, 5)]
    assert cited("dbn", "(1)") == [item for item in ITEMS if (item.document, item.name) == ("dbn", "(1)")]  # and not (10)


LECTURE = """# %% [markdown]
# # 1 · A title
#
# *Sources:* dbn (1).

# %%
# dbn (2): code before the first heading does not count

# %% [markdown]
# ## A section
#
# With dbn
# (3) over two lines.

# %%
x = 1  # dbn (4)
# ## not a heading, dbn (5)
"""


def test_steps_are_the_sections_that_cite(tmp_path):
    (tmp_path / "01_small.py").write_text(LECTURE, "utf-8")
    assert [heading for heading, _ in sections(LECTURE)] == ["", "1 · A title", "A section"]
    assert steps(tmp_path) == {("dbn", f"({k})"): (LectureStep("01_small", "A section"),) for k in (3, 4, 5)}


# -- what is missing is found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item, missing", [
    (PrintedItem("dbn", "(14)", "equation", code=("a",), tests=("b",)), "an entry of the ledger, a step of a lecture"),
    (PrintedItem("dbn", "table A", "table"), "an experiment, or code with a test"),
    (PrintedItem("dbn", "table A", "table", code=("a",)), "an experiment, or code with a test"),
    (PrintedItem("dbn", "table A", "table", experiments=("x",)), ""), (PrintedItem("dbn", "x", "claim", nowhere="a fact"), ""),
    (PrintedItem("dbn", "section 2", "equation", experiments=("x",)), "")])
def test_what_an_item_lacks(item, missing):
    assert Homes(item, (), ()).missing == missing


def test_the_command_lists_everything_and_fails_where_something_has_no_home(monkeypatch, capsys):
    assert main(["--homes"]) == 0
    out = capsys.readouterr().out
    assert all(f"{item.document} {item.name}" in out for item in ITEMS if item.kind != "equation") and "MISSING" not in out
    assert main(["--homes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["document"], row["name"]) for row in rows] == [(h.item.document, h.item.name) for h in homes()] and len(rows) == len(ITEMS)
    monkeypatch.setattr("lectures.equations.homes.ITEMS", (PrintedItem("cwn", "(6)", "equation"),))
    assert main(["--homes", "--document", "cwn"]) == 1
    assert "MISSING" in capsys.readouterr().out


def test_a_listing_joins_items_that_live_together():
    found = [h for h in homes("dbn") if h.item.name in ("(3)", "(4)", "(14)")]
    assert listing(found).splitlines()[0] == "dbn (3), (4): equation"
