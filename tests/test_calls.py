"""The shorter ways of calling an op are the general way, line by line: results, tape lines, what they keep, errors.

Every registered primitive is called as a case of tests/op_cases.py calls it, and then with other kinds of arguments.
"""

import contextlib
import inspect
from itertools import islice

import numpy as np
import pytest
from op_cases import CASES, CONSTANTS, PRIMITIVES

import minigrad as mg
from helpers import to_host
from minigrad.core import backend as seam
from minigrad.core import calls, storage
from minigrad.core.by_hand import ByHand
from minigrad.core.calls import general_way, shortest_way
from minigrad.core.state import unwatch, watch

OPS = sorted(name for name, p in PRIMITIVES.items() if not isinstance(p, ByHand))  # those by hand have the general way only


# -- calls to begin with: what each primitive is given in its cases ----------------------------------------------------


@pytest.fixture(scope="module")
def given():
    """Primitive's name -> (raw NumPy arguments, keywords) of calls in the cases, no two with the same kinds of arguments."""
    found = {}

    def spy(p, args, meta, call=calls.call):
        key = [(type(a).__name__, getattr(a, "ndim", None)) for a in args], sorted(meta)
        seen = found.setdefault(p.name, {})
        if len(seen) < 2:
            raw = [a._data if isinstance(a, mg.Tensor) else a for a in args]
            seen.setdefault(str(key), ([a.copy() if seam.is_array(a) else a for a in raw], meta))  # nobody watches a copy for writes
        return call(p, args, meta)

    watcher = lambda *_: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "call", spy)
        watch(watcher)  # then all calls with Tensors take the general way
        try:
            for case in (c for c in [*CASES, *CONSTANTS] if len(found.get(c.op, ())) < 2):
                case.f(mg, *[mg.tensor(a, requires_grad=a.dtype.kind == "f") for a in case.arrays()])
        finally:
            unwatch(watcher)
    return {name: list(seen.values()) for name, seen in found.items()}


# -- other arguments of the same call ----------------------------------------------------------------------------------


def floating(value):
    return getattr(value, "dtype", np.dtype(int)).kind == "f"


def variants(args, meta, names, backend):
    """(what is special, arguments, keywords), made anew for each call."""
    def here(a):
        return seam.from_numpy(np.array(a), backend) if isinstance(a, np.ndarray) else a

    def leaf(a, grad=True):
        return mg.tensor(here(a), requires_grad=grad and floating(a)) if isinstance(a, np.ndarray) else a

    def raw(a):
        return here(a)

    def constant(a):
        return leaf(a, False)

    def scalar(a):
        return a.ravel()[0] if isinstance(a, np.ndarray) and a.size else a

    def number(a):
        return scalar(a).item() if isinstance(a, np.ndarray) and a.size else a

    def of(change):
        return lambda a: change(a) if isinstance(a, np.ndarray) else a

    yield "all on the tape", [leaf(a) for a in args], meta
    yield "results on the tape", [mg.identity(leaf(a)) if floating(a) else leaf(a) for a in args], meta
    yield "constants", [constant(a) for a in args], meta
    yield "raw", [raw(a) for a in args], meta
    yield "scalars", [scalar(a) for a in args], meta
    yield "0-d", [of(lambda a: raw(a.ravel()[0]))(a) if getattr(a, "size", 0) else a for a in args], meta
    yield "0-d on the tape", [of(lambda a: leaf(np.asarray(a.ravel()[0])))(a) if getattr(a, "size", 0) else a for a in args], meta
    for k in range(min(len(args), 2)):
        for what, other in {"constants": constant, "arrays": raw, "numbers": number, "scalars": scalar}.items():
            yield f"{k} on the tape beside {what}", [leaf(a) if i == k else other(a) for i, a in enumerate(args)], meta
        yield f"{k} raw beside numbers", [raw(a) if i == k else number(a) for i, a in enumerate(args)], meta
        yield f"{k} in float32", [leaf(a.astype("float32") if i == k and floating(a) else a) for i, a in enumerate(args)], meta
        yield f"{k} raw in float32", [raw(a.astype("float32") if i == k and floating(a) else a) for i, a in enumerate(args)], meta
        yield f"{k} integer", [leaf(a.astype("int64") if i == k and floating(a) else a) for i, a in enumerate(args)], meta
        yield f"{k} raw and complex", [raw(a.astype("complex128") if i == k and floating(a) else a) for i, a in enumerate(args)], meta
        if backend == "numpy":
            yield f"{k} raw text", [raw(a.astype("U")) if i == k and isinstance(a, np.ndarray) else raw(a) for i, a in enumerate(args)], meta
        yield f"{k} a list", [[1.0, 2.0] if i == k else leaf(a) for i, a in enumerate(args)], meta
        yield f"{k} is None", [None if i == k else leaf(a) for i, a in enumerate(args)], meta
        yield f"{k} is True", [True if i == k else leaf(a) for i, a in enumerate(args)], meta
        yield f"{k} larger", [leaf(np.ones((2, *a.shape, 3), a.dtype)) if i == k and isinstance(a, np.ndarray) else leaf(a) for i, a in enumerate(args)], meta
        yield f"{k} larger, raw", [raw(np.ones((2, *a.shape, 3), a.dtype)) if i == k and isinstance(a, np.ndarray) else raw(a)
                                   for i, a in enumerate(args)], meta
        if backend == "fake":
            yield f"{k} elsewhere", [mg.tensor(a) if i == k and isinstance(a, np.ndarray) else leaf(a) for i, a in enumerate(args)], meta
    for kind in ("bool", "int64", "float16", ">f4"):
        yield f"raw {kind}", [of(lambda a, kind=kind: raw(a.astype(kind)))(a) for a in args], meta
        yield f"constants {kind}", [of(lambda a, kind=kind: constant(a.astype(kind)))(a) for a in args], meta
    yield "a memmap's kind", [a.view(np.recarray) if isinstance(a, np.ndarray) and backend == "numpy" else raw(a) for a in args], meta
    yield "masked", [np.ma.masked_array(a) if isinstance(a, np.ndarray) else a for a in args], meta
    yield "one too few", [leaf(a) for a in args[:-1]], meta
    yield "one too many", [*map(leaf, args), 1.0], meta
    yield "one raw too many", [*map(raw, args), 1.0], meta
    yield "nothing", [], meta
    yield "by name", [], {**meta, **{name: leaf(a) for name, a in zip(names, args, strict=False)}}
    yield "the last by name", [leaf(a) for a in args[:-1]], {**meta, **({names[-1]: leaf(args[-1])} if len(names) == len(args) and args else {})}
    for make, what in ((leaf, "on the tape"), (raw, "raw")):
        yield f"an unknown keyword, {what}", [make(a) for a in args], {**meta, "nonsense": 1}
        yield f"inplace, {what}", [make(a) for a in args], {**meta, "inplace": True}
        for k in meta:
            yield f"without {k}, {what}", [make(a) for a in args], {n: v for n, v in meta.items() if n != k}
            yield f"{k} is text, {what}", [make(a) for a in args], {**meta, k: "text"}


# -- what came of it ---------------------------------------------------------------------------------------------------


def outcome(function, args, meta):
    """Everything that a call does, in words and numbers that can be compared."""
    mine = [a._data if isinstance(a, mg.Tensor) else a for a in [*args, *meta.values()]]
    lines = [a._line for a in args if isinstance(a, mg.Tensor)]

    def whose(array):
        same = [i for i, a in enumerate(mine) if a is array]
        return same or [i for i, a in enumerate(mine) if type(a) is type(array) is np.ndarray and np.shares_memory(a, array)]

    def told(value):
        if isinstance(value, mg.Tensor):
            line = value._line
            return ["Tensor", told(value._data), None if line is None else told_line(line)]
        if isinstance(value, (tuple, list)):
            return [type(value).__name__, *map(told, value)]
        if seam.is_array(value) or isinstance(value, np.generic):
            bits = value.tolist() if value.dtype.kind == "O" else to_host(value).tobytes()
            return [type(value).__name__, value.shape, value.dtype.str, bits, whose(value), getattr(getattr(value, "flags", None), "writeable", None)]
        return repr(value)

    def told_line(line):
        if line.plan.is_output:
            return [line.op, line.shape, line.dtype, told_line(line.parents[0])]
        parents = [None if p is None else lines.index(p) if p in lines else [p.op, p.shape] for p in line.parents]
        return [line.op, line.plan, parents, line.shape, line.dtype, line.name, *map(told, line.saved)] if not line.is_leaf else [lines.index(line)]

    try:
        with np.errstate(all="ignore"):
            return told(function(*args, **meta))
    except Exception as e:
        return [type(e).__name__, str(e)]


@contextlib.contextmanager
def watched():
    seen = []
    watcher = lambda p, given, result: seen.append(p.name)
    watch(watcher)
    try:
        yield
    finally:
        unwatch(watcher)
    assert seen


@contextlib.contextmanager
def exposed():
    """Somebody holds an array that a Tensor has handed out, so that ops look at what they are given."""
    x = mg.tensor([1.0], backend="numpy")
    held = x.data
    assert storage._checksums
    yield
    del held


MODES = {"": contextlib.nullcontext, "under no_grad": mg.no_grad, "watched": watched, "with an array handed out": exposed}


def compare(op, args, meta, backend, mode, few=False):
    p = PRIMITIVES[op]
    short, general = shortest_way(p), general_way(p)
    pairs = zip(variants(args, meta, p.inputs, backend), variants(args, meta, p.inputs, backend), strict=True)
    with MODES[mode](), np.errstate(all="ignore"):
        assert bool(storage._checksums) == (mode == "with an array handed out")
        for (what, *one), (_, *two) in islice(pairs, 10 if few else None):
            assert outcome(short, *one) == outcome(general, *two), f"{op}: {what} {mode}"


@pytest.mark.parametrize("op", [pytest.param(op, marks=[pytest.mark.more] * (i % 3 > 0)) for i, op in enumerate(OPS)])
def test_shorter_ways_are_the_general_way(op, backend, given):
    args, meta = given[op][0]
    compare(op, args, meta, backend, "", few=backend != "numpy")
    for mode in MODES:
        compare(op, args, meta, backend, mode, few=True)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_shorter_ways_are_the_general_way_in_every_mode(op, backend, given):
    for args, meta in given[op]:
        for mode in MODES:
            compare(op, args, meta, backend, mode)


def test_shorter_ways_are_taken(backend, monkeypatch):
    def refuse(p, args, meta):
        raise AssertionError(f"{p.name} took the general way")

    x, raw = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([[3.0], [4.0]])._data
    monkeypatch.setattr(calls, "call", refuse)
    for y in (mg.tanh(x), x * x, x * 2.0, 2 * x, mg.sum(x), mg.reshape(x, (2, 1))):
        assert y.requires_grad
    for y in (mg.exp(raw), mg.add(raw, 1.0), mg.multiply(raw, raw), mg.sum(raw), mg.combine(None, raw, None, None, raw, None), mg.concatenate([raw, raw])):
        assert not isinstance(y, mg.Tensor)
    with pytest.raises(AssertionError, match="general way"), mg.no_grad():
        mg.tanh(x)


@pytest.mark.parametrize("op", [mg.exp, lambda x: mg.multiply(x, x), lambda x: x * 2.0])
def test_an_array_that_was_handed_out_is_looked_at_before_it_is_kept(op):
    x = mg.tensor([1.0, 2.0], requires_grad=True, backend="numpy")
    held = x.data
    held[0] = 0.5
    op(x).backward(mg.tensor([1.0, 3.0], backend="numpy"))  # refused, if the write were noticed only now


# -- what help() shows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(mg.ops.__all__))
def test_signatures_name_what_is_passed(name):
    parameters = inspect.signature(getattr(mg, name)).parameters.values()
    assert parameters
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters) or name == "elementwise"  # which takes a rule for each input
    assert {p.name for p in parameters if p.kind is p.VAR_POSITIONAL} <= {"shape", "axes", "operands"}


def test_signatures_are_the_forward_s():
    @mg.primitive(a=lambda g, k: g * k)
    def scaled(xp, a, b, *, k, unused=1):
        return a * k

    @mg.by_hand(save=lambda x: (x,), backward=lambda g, saved: (g, None))
    def moved(xp, x, gamma, *, saved, eps=0.5):
        return x + eps

    assert str(inspect.signature(scaled)) == "(a, b, *, k, unused=1)"
    assert str(inspect.signature(moved)) == "(x, gamma, *, eps=0.5)"  # `saved` is given by the engine


def test_inputs_may_be_passed_by_name(backend):
    x, y = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([3.0, 5.0])
    for found, expected in ((mg.exp(a=x), mg.exp(x)), (mg.subtract(a=x, b=y), x - y), (mg.subtract(x, b=y), x - y),
                            (mg.where(x > 1, b=y, a=x), mg.where(x > 1, x, y))):
        assert found._line.op == expected._line.op
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    with pytest.raises(TypeError, match="'a'"):
        mg.subtract(x, y, a=x)


def test_every_primitive_was_called(given):
    assert set(OPS) <= set(given)
