"""Mistakes that people made in public (benchmarks/results/people.md): wrong lines are refused, right ones accepted, and no answer is a riddle."""

import json
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import derivation
from minigrad.derivation.misconceptions import MISCONCEPTIONS

PEOPLE = Path(__file__).resolve().parent / "people"
PUBLIC = json.loads((PEOPLE / "public.json").read_text("utf-8"))
FAST = range(0, len(PUBLIC), 60)


def array(v):
    """A list is a shape; a mapping holds values that are used as they are."""
    return np.array(v["values"], dtype=v.get("dtype", "int64")) if isinstance(v, dict) else np.zeros(v)


def checked(entry, which, folder):
    file = folder / f"{which}.py"
    file.write_text(f"import numpy as np\n\n\n{entry[which]}\n", "utf-8")
    names = {}
    exec(compile(file.read_text("utf-8"), str(file), "exec"), names)  # the file makes the text of the function known
    where = {}
    if entry["task"]:
        task = derivation.load_task(PEOPLE / "tasks" / entry["task"])
    else:
        space = {"mg": mg, "np": np}
        exec(entry["forward"], space)
        task = space["forward"]
        where = {"inputs": {k: array(v) for k, v in entry["inputs"].items()}, "keywords": entry["keywords"]}
    return derivation.check(task, {entry["line"]: names[entry["line"]]}, lines=[entry["line"]], **where).lines[0]


@pytest.mark.parametrize("k", [k if k in FAST else pytest.param(k, marks=pytest.mark.more) for k in range(len(PUBLIC))])
def test_what_was_wrong_is_refused_and_what_is_right_is_not(k, tmp_path):
    entry = PUBLIC[k]
    found = checked(entry, "code", tmp_path)
    assert found.verdict not in ("right", "rounding", "not implemented"), found
    assert found.code is None or found.code in MISCONCEPTIONS
    assert "an operand" not in found.message
    assert checked(entry, "right", tmp_path).verdict in ("right", "rounding")


def test_the_table_is_what_was_judged():
    table = (PEOPLE.parents[1] / "benchmarks/results/people.md").read_text("utf-8")
    for name, row in (("first", "| 130 | {right} (63 %) | {partly} | {misleading} | {unexplained} |"),
                      ("second", "| 110 | **{right} (65 %)** | {partly} (15 %) | {misleading} (3 %) | {unexplained} (18 %) |")):
        counts = {j: sum(e["set"] == name and e["judged"] == j for e in PUBLIC) for j in ("right", "partly", "misleading", "unexplained")}
        assert row.format(**counts) in table
    assert all(e["seen"] and e["cause"] for e in PUBLIC)


def test_the_documents_give_these_numbers():
    """What the README and the table say in words: the handed lines, the unseen ones, and how many public lines are of this course's homework."""
    table, readme = ((PEOPLE.parents[1] / p).read_text("utf-8") for p in ("benchmarks/results/people.md", "README.md"))
    handed = json.loads((PEOPLE / "handed.json").read_text("utf-8"))
    unseen = [e["judged"] for e in PUBLIC if e["set"] == "second"]
    right, partly, misleading = (f"{100 * unseen.count(j) / len(unseen):.0f} %" for j in ("right", "partly", "misleading"))
    assert f"of {len(handed)} handed wrong lines of this course it explains {sum('not yet' not in h for h in handed)} rightly" in " ".join(readme.split())
    assert f"unseen while it was built, {right} rightly, {partly} partly and {misleading} misleadingly" in " ".join(readme.split())
    assert f"only {sum(bool(e['task']) for e in PUBLIC)} are on this course's homework" in " ".join(table.split())
