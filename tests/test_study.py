"""The checker's own examination (lectures/tools/study.py): a small part in the fast tier, all mutants and rewrites in the slow one."""

import pytest

from lectures.tools import study


@pytest.mark.parametrize(("part", "seeds"), [pytest.param(9, 26, marks=pytest.mark.more), pytest.param(1, 650, marks=pytest.mark.slow)], ids=["part", "all"])
def test_mutants_are_refused_named_and_explained_and_right_lines_are_not(part, seeds):
    result = study.study(seeds, 2, part)
    assert result["mutants"] >= (300 if part == 1 else 10) and result["rewrites"] >= (100 if part == 1 else 5)
    assert not result["missed"] and not result["other lines accused"] and not result["rejected"] and not result["false alarms"]
    assert result["rate"] >= 0.9, "\n".join(result["failures"])
    if part == 1:  # the figures of the README
        text = (study.HOMEWORK.parents[1] / "README.md").read_text("utf-8")
        assert f"of {result['mutants']:,} wrong versions" in text and f"none of {result['rewrites']} equivalent" in text
        assert f"explains {result['rate']:.0%}".replace("%", " %") in text


@pytest.mark.more
def test_every_operator_makes_mutants():
    assert {v.operator for v in study.mutants()} == set(study.OPERATORS)
