"""The agreement check of test_layers.py has power: it rejects every small mistake in every hand-derived backward.

`make test-slow PYTEST_ARGS="-k layer_mutants -s"` prints all mutants and the case that rejects each.
"""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from layer_mutants import EXPLICIT, accepted_with_ones, effect, mutants_of, ops_of, rejected_by

import layers
from layers.batch import batch_norm
from layers.verify.agreement import seeded

PAIRS = [(name, derivation) for name, layer in layers.REGISTRY.items() for derivation in layer.derived]
ENOUGH = 8


def real_mutants(name, derivation):
    """The mutants that change the gradient, in random order."""
    mutants = list(mutants_of(name, derivation))
    return (mutants[i] for i in seeded(name, derivation).permutation(len(mutants)) if effect(mutants[i]) == "changes")


@pytest.mark.more
@pytest.mark.parametrize(("name", "derivation"), PAIRS)
def test_some_mistakes_are_rejected(name, derivation):
    mutants = list(islice(real_mutants(name, derivation), ENOUGH))
    assert len(mutants) == ENOUGH, "too few mutants: the backward has no line to make a mistake in, or the machine does not know its words"
    survivors = [str(mutant) for mutant in mutants if not rejected_by(mutant)]
    assert not survivors


@pytest.mark.parametrize(("name", "derivation"), PAIRS)
def test_the_right_backward_passes_the_same_check(name, derivation):
    for op in ops_of(name, derivation):
        mutant = next(iter(mutants_of(name, derivation)))._replace(op=op, backward=op.backward)
        assert effect(mutant) == "equivalent"
        assert not rejected_by(mutant)


@pytest.mark.more
def test_a_cotangent_of_ones_is_blind_where_a_mean_is_subtracted(capsys):
    """y.sum().backward() passes for batch norm's dx without its factor γ/s, with a wrong sign, or twice as large ..."""
    pairs = ("batch_norm", "staged"), ("batch_norm", "one_line"), ("decorrelated_batch_norm", "stable")
    mutants = [mutant for pair in pairs for mutant in islice(real_mutants(*pair), 40)]
    passed = sum(map(accepted_with_ones, mutants))
    with capsys.disabled():
        print(f"\na cotangent of ones would accept {passed} of {len(mutants)} wrong backwards", end=" ")
    assert passed > len(mutants) / 3


@pytest.mark.slow
def test_every_mistake_is_rejected(capsys):
    lines, score, few = [], Counter(), []
    for name, derivation in PAIRS:
        real = 0
        for mutant in mutants_of(name, derivation):
            what = effect(mutant)
            score[what] += 1
            if what == "changes":
                real += 1
                case = rejected_by(mutant)
                score["rejected"] += bool(case)
                score["blind"] += accepted_with_ones(mutant)
                lines.append(f"  {'rejected by ' + repr(case) if case else 'ACCEPTED':48} {mutant}")
        if real < ENOUGH:
            few.append((name, derivation, real))
    print(*lines, sep="\n")
    with capsys.disabled():
        print(f"\n{score['rejected']} of {score['changes']} mutants of {len(PAIRS)} derivations rejected; {score['equivalent']} equivalent, "
              f"{score['broken']} raise or have another shape; a cotangent of ones would accept {score['blind']}", end=" ")
    assert not few
    assert not [line for line in lines if "ACCEPTED" in line]
    assert score["blind"] > score["changes"] / 4


def test_explicit_mistakes_change_the_gradient():
    """A mistake of thought that changes nothing is no mistake: it would have to be taken off the list."""
    for pair in dict.fromkeys(row[:2] for row in EXPLICIT):
        for mutant in islice(mutants_of(*pair), sum(row[:2] == pair for row in EXPLICIT)):
            assert effect(mutant) == "changes", str(mutant)


def test_mutants_leave_the_layers_as_they_were():
    before = {op: op.backward for pair in PAIRS for op in ops_of(*pair)}
    names = dict(vars(batch_norm)), dict(vars(np))
    for mutant in islice(mutants_of("batch_norm", "staged"), 10):
        effect(mutant), rejected_by(mutant), accepted_with_ones(mutant)
    assert before == {op: op.backward for op in before}
    assert names == (vars(batch_norm), vars(np))
