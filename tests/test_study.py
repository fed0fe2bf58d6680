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


def test_the_study_of_one_homework_looks_at_no_other(capsys):
    assert {v.homework for v in (*study.mutants(["04_orthonormality"]), *study.rewrites(["04_orthonormality"]))} == {"04_orthonormality"}
    result = study.study(4, 1, homework=("04_orthonormality",), seconds=0.0)  # no time at all
    assert result["untried"] == (len(study.mutants(["04_orthonormality"])), len(study.rewrites(["04_orthonormality"]))) and result["seeds"] == 0
    with pytest.raises(SystemExit):
        study.main(["--homework", "04_orthonormal"])
    assert "there are: 01_own_op, 02_batch_norm" in capsys.readouterr().err


@pytest.mark.more
def test_the_study_of_one_homework_is_a_study():
    result = study.study(2, 1, part=6, homework=("04_orthonormality",), seconds=600.0)
    assert result["untried"] == (0, 0) and result["seeds"] == 2 and result["lines"] == 3 and result["mutants"] >= 3 and result["rewrites"] >= 2
    assert not result["missed"] and not result["rejected"] and not result["false alarms"]
