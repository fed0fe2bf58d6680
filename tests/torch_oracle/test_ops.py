"""Every sample of PyTorch's operator tests, for every op of minigrad that has a counterpart."""

import inspect

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make torch-oracle installs it")
pytest.importorskip("expecttest", reason="expecttest is not installed, which PyTorch's tests import: make torch-oracle installs it")

import numpy as np

import minigrad as mg

from .agreements import AGREEMENTS, PLACES, refused, unexplained
from .counterparts import NO_COUNTERPART, ROWS
from .differential import TABLE, compare, describe, samples_of
from .floors import FLOORS

pytestmark = [pytest.mark.torch_oracle, pytest.mark.filterwarnings("ignore")]
OPS = {name for name, op in vars(mg.ops).items() if inspect.isfunction(op) and op.__module__.startswith("minigrad.ops.")}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ROWS)
def test_every_sample_agrees_in_both_orders(name, dtype, tally):
    row, failures = ROWS[name], {}
    for i, sample in enumerate(samples_of(name, dtype)):
        try:
            with np.errstate(all="ignore"):
                order, found = compare(row.ours, row.theirs or TABLE[name].op, sample, dtype, i)
        except Exception as e:
            refused(e, tally, failures, describe(sample))
            continue
        left, used = unexplained(name, sample, found)
        for why in used:
            tally[f"agreed: {why}"] += 1
        if left:
            failures.setdefault(left[0].what, f"sample {i}: {describe(sample)}\n    " + "\n    ".join(f"{d.what}: {d.text}" for d in left))
        tally["different" if left else f"order {order}"] += 1
    compared = sum(n for what, n in tally.items() if what.startswith("order"))
    assert not failures, f"{tally['different']} samples of {name} differ, {len(failures)} kinds:\n" + "\n".join(failures.values())
    assert compared >= FLOORS[name], f"only {compared} samples of {name} were compared: {dict(tally)}"


def test_every_op_of_minigrad_is_compared_or_has_no_counterpart():
    compared = {op for name, row in ROWS.items() for op in row.ops}
    assert not OPS - compared - NO_COUNTERPART.keys(), "rows are missing in counterparts.py"
    assert not compared & NO_COUNTERPART.keys()


def test_every_row_is_an_op_of_pytorchs_table_and_every_agreement_is_used():
    assert not ROWS.keys() - TABLE.keys()
    assert {row.agreement for row in ROWS.values()} - {None} == AGREEMENTS.keys()
    assert all(place.why for place in PLACES)


def test_every_floor_is_positive():
    assert FLOORS.keys() == ROWS.keys() and min(FLOORS.values()) > 0
