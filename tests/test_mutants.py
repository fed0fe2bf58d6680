"""The checks have power: a small mistake in any derivative rule is noticed by the cases of its op.

`make test PYTEST_ARGS="-k mutants -s"` prints the mistakes with the case that noticed each.
"""

import re

import numpy as np
import pytest
from mutants import MUTANTS, replaced_rule
from op_cases import CASES, PRIMITIVES
from test_ops import is_right, judged, tensors

import minigrad as mg

OF_OP = {op: [case for case in CASES if case.op == op] for op in PRIMITIVES}


def noticed_by(mutant):
    """(case, order, the check's words) of the first case that calls the rule wrong, or None."""
    primitive = PRIMITIVES[mutant.op]
    with replaced_rule(primitive, mutant.input, mutant.rule):
        for order in (1, 2):
            for case in OF_OP[mutant.op]:
                if order <= max(case.order, 1):
                    for row in judged(case, "numpy", order).rows:
                        if row.verdict == "wrong":
                            raised = re.search(r"backward raised (\w+)", row.reason)
                            assert not raised or raised[1] in ("TapeError", "ValueError"), f"{mutant} is broken, not mistaken: {row.reason}"
                            return case, order, row.reason
    return None


@pytest.mark.more
def test_every_mutant_is_rejected(capsys):
    survivors, lines = [], []
    for mutant in MUTANTS:
        found = noticed_by(mutant)
        text = f"{mutant.op}, {mutant.input}: {mutant.mistake}"
        if found is None:
            survivors.append(text)
        else:
            lines.append(f"  {text:50} order {found[1]}, case {found[0].name!r}: {found[2]}")
    print(*lines, sep="\n")
    with capsys.disabled():
        print(f"\n{len(MUTANTS) - len(survivors)} of {len(MUTANTS)} mutants rejected", end=" ")
    assert not survivors


@pytest.mark.more
@pytest.mark.parametrize("op", dict.fromkeys(mutant.op for mutant in MUTANTS))
def test_the_right_rules_pass_the_same_check(op):
    for case in OF_OP[op]:
        report = judged(case, "numpy", 1)
        assert is_right(case, report) or not case.order, f"{case.id}\n{report}"


def test_every_rule_has_a_mutant():
    rules = {(op, name) for op, p in PRIMITIVES.items() for name in (["backward"] if p.joint else p.rules)} - {("cofactor_slope", "a")}  # it only raises
    assert rules == {(mutant.op, mutant.input) for mutant in MUTANTS}


SEVENS = lambda g: g * 0.0 + 7.0


@pytest.mark.parametrize("f, op, name, rule", [
    (mg.exp, "exp", "a", SEVENS), (lambda x: x * x, "multiply", "a", SEVENS), (lambda x: x * 3.0, "multiply", "a", SEVENS),
    (lambda x: mg.clip(x, 0, 1), "clip", "a", SEVENS), (lambda x: mg.softmax(x, 0), "softmax", "a", SEVENS),
    (lambda x: mg.concatenate([x, x]), "concatenate", "arrays", lambda g: (SEVENS(g[:3]), SEVENS(g[3:]))),
], ids=["fast path of one input", "fast path of two", "fast path beside a number", "keywords", "kept output", "any number of inputs"])
def test_a_replaced_rule_is_used_at_once_and_the_right_one_returns_even_after_an_exception(f, op, name, rule):
    (x,) = tensors([np.array([0.5, 2.0, 3.0])], "numpy")

    def gradient():
        y = f(x)
        (g,) = mg.grad(y, [x], mg.tensor(np.linspace(1, 2, y.size)))
        return g.numpy()

    class Stop(Exception):
        pass

    right, before = gradient(), PRIMITIVES[op].rules[name]
    with pytest.raises(Stop), replaced_rule(PRIMITIVES[op], name, rule):
        assert not np.isclose(gradient(), right).any()
        raise Stop
    assert PRIMITIVES[op].rules[name] is before
    np.testing.assert_array_equal(gradient(), right)
