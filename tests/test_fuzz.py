"""A fixed number of cases of each fuzzer; `make fuzz SECONDS=1200` goes on from there."""

import pytest
from fuzz import norms
from fuzz.runner import Failure, fuzzer, kind, run, shortened, statements_of, tried

import layers
import minigrad as mg

# cases, and what must have happened in at least this share of them: a fuzzer that refuses or skips everything finds nothing
CASES = {
    "tapes": (400, {"right": 0.7}),
    "writes": (800, {"right": 0.25, "refused by backward": 0.1}),
    "ops": (4000, {"layout": 0.1, "float16": 0.1, "float32": 0.1, "integers": 0.05, "special": 0.05, "empty": 0.05}),
    "norms": (1500, {"agree": 0.15, "single": 0.15, "half": 0.1, "keywords": 0.02}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_case_fails(name):
    number, shares = CASES[name]
    counts, failures = run(name, 0, iter(range(number)))
    assert not failures, "\n".join(map(str, failures))
    assert sum(counts.values()) == number
    for what, share in shares.items():
        assert counts[what] >= share * number, f"too few cases with power: {dict(counts)}"


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_the_same_every_time(name):
    assert statements_of(name, 3, 5) == statements_of(name, 3, 5) != statements_of(name, 3, 6)


@pytest.mark.parametrize("layer", layers.REGISTRY)
def test_the_fuzzer_knows_the_arguments_of_every_layer(layer):
    assert norms._agree(layer, 2) in ("agree", "divides by gaps", "one element")


WRONG = ["x0 = leaf('x0', 1, (3,))", "x1 = leaf('x1', 2, (3,))", "v0 = mg.tanh(x1)", "v1 = x0 * 1.0", "v2 = mg.sin(v1)", "loss = 0.0",
         "loss = loss + weigh(v0, 5)", "loss = loss + weigh(v2, 6)"]


def test_a_wrong_rule_is_found_and_the_case_is_shortened(monkeypatch):
    """sin with the derivative of a wrong sign."""
    @mg.elementwise(a=lambda g, a: g * -mg.cos(a))
    def sin(xp, a):
        return xp.sin(a)

    monkeypatch.setattr(mg, "sin", sin)
    happened, error = tried(fuzzer("tapes").check, WRONG)
    assert happened is None and kind(error) == "AssertionError: first order"
    assert shortened("tapes", WRONG) == [WRONG[i] for i in (0, 3, 4, 5, 7)]


def test_a_write_that_is_not_seen_is_found():
    """The buffer behind a leaf, changed where no guard looks."""
    hidden = "w0._data[1] += 1.0"
    happened, error = tried(fuzzer("writes").check, ["w0 = leaf('w0', 1, (4,))", "v0 = w0 * w0 * w0", hidden, "loss = weigh(v0, 5)"])
    assert happened is None and "silently wrong" in error


def test_a_failure_prints_a_script_and_how_to_replay_it():
    text = str(Failure("tapes", 7, 12, ["x0 = leaf('x0', 1, (3,))"], "AssertionError: wrong"))
    assert "python -m tests.fuzz --only tapes --seed 7 --case 12" in text
    scope: dict = {}
    exec(compile(text.replace("tests.fuzz import", "fuzz import").rpartition("tapes.check(")[0], "failure", "exec"), scope)
    assert scope["tapes"].check
