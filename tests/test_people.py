"""Lines with mistakes that people make: all are refused, no other line is blamed, and what is said is right.

tests/people/handed.json holds for each the homework (frozen in tests/people/tasks), the line, the true cause, and a regular expression `says`
that an explanation must match to name this cause. Where today's answer is not right, `not yet` gives the reason; it must then not match.
"""

import json
import re
from pathlib import Path

import pytest

from minigrad import derivation
from minigrad.derivation.misconceptions import MISCONCEPTIONS

PEOPLE = Path(__file__).resolve().parent / "people"
HANDED = json.loads((PEOPLE / "handed.json").read_text("utf-8"))
FAST = [3, 4, 5, 7, 8, 12, 15, 20, 42, 55, 56, 75, 78, 81, 94, 97, 99, 103, 110, 126]  # of every homework one, and of many codes
NOT_YET = [i for i, h in enumerate(HANDED) if "not yet" in h]
RIGHT_AT_LEAST = 0.97  # of all answers


def test_most_answers_are_right():
    right = len(HANDED) - len(NOT_YET)
    print(f"{right} of {len(HANDED)} explanations are right ({right / len(HANDED):.1%}); not yet: {NOT_YET}")
    assert len(HANDED) == 137 and right / len(HANDED) >= RIGHT_AT_LEAST
    assert all(h["says"] and h["cause"] for h in HANDED) and not set(FAST) & set(NOT_YET)


@pytest.mark.parametrize("k", [k if k in FAST else pytest.param(k, marks=pytest.mark.more) for k in range(len(HANDED))])
def test_a_line_is_refused_and_explained(k, tmp_path):
    h = HANDED[k]
    file = tmp_path / "lines.py"
    file.write_text(f"import numpy as np\n\n\n{h['code']}", "utf-8")
    task = derivation.load_task(PEOPLE / "tasks" / h["task"])
    (found,) = derivation.check(task, str(file), lines=[h["line"]]).lines
    assert found.verdict not in ("right", "rounding", "not implemented")
    said = f"{found.code}: {found.text()}"
    assert found.code is None or found.code in MISCONCEPTIONS
    assert "an operand" not in said and "…" not in said.replace("`, …)", "`)").replace("(var + …)", ""), said
    assert bool(re.search(h["says"], said)) == ("not yet" not in h), f"{h['cause']}\n{said}"


@pytest.mark.more
@pytest.mark.parametrize("name", sorted({h["task"] for h in HANDED}))
def test_no_other_line_is_blamed(name, tmp_path):
    """Each line in the file of the solution."""
    folder = PEOPLE / "tasks" / name
    task, solution = derivation.load_task(folder), (folder / "lines.py").read_text("utf-8")
    wrong = {}
    for h in HANDED:
        if h["task"] == name:
            wrong.setdefault(h["line"], h["code"])
    for line, code in wrong.items():
        file = tmp_path / "lines.py"
        file.write_text(f"{solution}\n\n{code}", "utf-8")
        found = {x.line: x.verdict for x in derivation.check(task, str(file)).lines}
        assert found.pop(line) not in ("right", "rounding") and set(found.values()) <= {"right", "rounding"}, (line, found)
