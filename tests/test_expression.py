"""Lines as graphs: they compute what NumPy computes, they refuse what is large or not known, and nothing of a student's is executed."""

import ast
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from minigrad import derivation
from minigrad.derivation import operations
from minigrad.derivation.expression import Evaluated, expression, text, walk
from minigrad.derivation.fixtures import fixture
from minigrad.derivation.inside.worker import ArgumentError
from minigrad.derivation.operations import FUNCTIONS, MOST_ELEMENTS, Unknown, applied
from minigrad.derivation.probe import Probe

ROOT = Path(__file__).resolve().parents[1]
HANDED = json.loads((ROOT / "tests/people/handed.json").read_text("utf-8"))
SEEDED = np.random.default_rng(7)
A, B, V, S = SEEDED.uniform(0.5, 2.0, (3, 4)), SEEDED.normal(size=(3, 4)), SEEDED.normal(size=4), SEEDED.uniform(0.5, 2.0, (3, 3)) + 3 * np.eye(3)
GIVEN = {"a": A, "b": B, "v": V, "s": S, "n": 3, "eps": 0.1}


def graph(code, names=tuple(GIVEN)):
    """The graph of the function `f`, or of a single expression."""
    source = code if "def " in code else f"def f({', '.join(names)}):\n    return {code}\n"
    return expression(ast.parse(source), "f", names)


def computed(code, given=GIVEN):
    root = graph(code, tuple(given))
    assert root is not None, code
    return Evaluated(root, given).value(root)


LINES = {  # op -> lines in which it is used
    **{op: f"a {op} b" for op in ("+", "-", "*", "/", "<", ">", "<=", ">=", "==", "!=")}, "**": "a ** b", "%": "b % a", "//": "b // a",
    "&": "(a > 1) & (b > 0)", "|": "(a > 1) | (b > 0)", "where": "np.where(b > 0, a, 0.0)", "clip": "np.clip(b, -0.5, 0.5)",
    "heaviside": "np.heaviside(b, 0.5)", **{op: f"np.{op}(a, b)" for op in ("hypot", "maximum", "minimum", "fmax", "fmin")},
    **{op: f"np.{op}(a)" for op in ("sqrt", "exp", "log", "abs", "absolute", "fabs", "sign", "tanh", "square", "reciprocal", "sin", "cos", "log1p", "expm1",
    "cbrt",
                                    "isfinite", "isnan")},
    "neg": "-a", "~": "~(b > 0)",
    **{op: f"np.{op}(b, axis=1, keepdims=True)" for op in ("sum", "mean", "var", "std", "max", "min", "prod", "any", "all")},
    "norm": "np.linalg.norm(b, axis=1, keepdims=True)", "trace": "np.trace(s)", "cumsum": "np.cumsum(b, axis=0)",
    "@": "a @ b.T", "dot": "np.dot(a, v)", "outer": "np.outer(v, v)", "vdot": "np.vdot(a, b)", "inner": "np.inner(a, b)", "kron": "np.kron(s, v)",
    "einsum": "np.einsum('ij,kj->ik', a, b)", "arange": "np.arange(n) * 2", "eye": "np.eye(n)", "zeros": "np.zeros((n, 2))", "ones": "np.ones(a.shape)",
    "zeros_like": "np.zeros_like(a)", "ones_like": "np.ones_like(a)", "full_like": "np.full_like(a, 2.5)", "float": "float(n)", "copy": "np.array(a)",
    "int": "int(2.7) * a",
    "T": "a.T", "mT": "a.mT", "transpose": "np.transpose(a, (1, 0))", "swapaxes": "np.swapaxes(a, 0, 1)", "diag": "np.diag(v)", "diagonal": "np.diagonal(s)",
    "reshape": "a.reshape(4, -1)", "ravel": "a.ravel()", "expand_dims": "np.expand_dims(v, 0)", "squeeze": "np.squeeze(a[:1], axis=0)",
    "broadcast_to": "np.broadcast_to(v, (2, 4))", "atleast_2d": "np.atleast_2d(v)", "tril": "np.tril(s, -1)", "triu": "np.triu(s)",
    "index": "a[:, None, 1:]", "take": "a[np.arange(n), np.arange(n)]", "shape": "np.ones(a.shape[1])", "size": "a.size * v", "len": "a / len(a)",
    "ndim": "a * a.ndim",
    "item": "a * b.shape[1]", "tuple": "np.ones((n, 2))", "inv": "np.linalg.inv(s)", "solve": "np.linalg.solve(s, a)",
    "multi_dot": "np.linalg.multi_dot([a, b.T, s])",
    "put": "def f(a, b, v, s, n, eps):\n    c = a.copy()\n    c[b > 0] = eps\n    c[0, 1] += 2\n    return c\n"}
ONLY_IN_EDITS = {"rsqrt", "recip0", "add.at"}  # no line is read as these


def test_each_function_has_a_line():
    assert set(LINES) == set(FUNCTIONS) - ONLY_IN_EDITS


@pytest.mark.parametrize("op", LINES)
def test_a_graph_computes_what_numpy_computes(op):
    code = LINES[op] if "def " in LINES[op] else f"def f({', '.join(GIVEN)}):\n    return {LINES[op]}\n"
    space = {"np": np}
    exec(code, space)
    found, right = computed(code), space["f"](**GIVEN)
    assert any(n.op == op for n in walk(graph(code)))
    assert np.shape(found) == np.shape(right)
    np.testing.assert_allclose(np.asarray(found, "float64"), np.asarray(right, "float64"), rtol=1e-13, atol=0)


def test_what_only_edits_use():
    np.testing.assert_allclose(applied("rsqrt", [A], {}), A**-0.5, rtol=1e-14)
    np.testing.assert_allclose(applied("recip0", [np.array([0.0, 2.0])], {}), [0.0, 0.5])
    np.testing.assert_allclose(applied("add.at", [np.zeros(3), 1.0, np.array([0, 0, 2])], {}), [2.0, 0.0, 1.0])


@pytest.mark.parametrize("line", ["sum(b)", "sum(b * a) / len(a)", "max(v)", "max(n, 2) * a", "min(n, 2) * a", "abs(b)", "pow(a, 2)", "a.sum(0)",
                                  "a.mean(axis=-1)",
                                  "a.T.dot(b)", "np.add(a, b)", "np.matmul(a, b.T)", "np.power(a, 2)", "np.sum(b, axis=(0, 1))", "b.var(axis=0, ddof=1)",
                                  "np.array([1.0, 2.0, 3.0])[:, None] * a",
                                  "a[np.array([0, 2])]"])
def test_other_ways_to_write_it(line):
    np.testing.assert_allclose(computed(line), eval(line, {"np": np}, dict(GIVEN)), rtol=1e-13)


def test_names_helpers_defaults_and_constants():
    code = """
SLOPE = 0.25
def centred(x, axis=0):
    '''Without its mean.'''
    return x - x.mean(axis, keepdims=True)
def f(a, b, v, s, n, eps):
    c, d = centred(a), centred(x=b, axis=1)
    c += d * SLOPE
    rows, columns = c.shape
    e: float = c / rows
    return e
"""
    space = {"np": np}
    exec(code, space)
    np.testing.assert_allclose(computed(code), space["f"](**GIVEN), rtol=1e-13)


# -- lines of people, and solutions -------------------------------------------------------------------------------------------


def agrees(task, probe, name, code):
    """Whether a line has a graph; its value is then what executing it gives. None where it cannot be executed on these arguments."""
    module = ast.parse(code)
    wanted = [a.arg for a in next(n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == name).args.args]
    try:
        given = {n: fixture(probe, task.line(name), n) for n in wanted}
    except ArgumentError:
        return None
    space = {"np": np}
    exec(code, space)
    with np.errstate(all="ignore"):
        try:
            right = space[name](**given)
        except (TypeError, ValueError):
            return None
        root = expression(module, name, wanted, {n: v for n, v in given.items() if callable(v)})
        if root is None:
            return False
        line = Evaluated(root, given)
    assert np.shape(line.value(root)) == np.shape(right), code
    scale = float(np.abs(right).max(initial=0))
    np.testing.assert_allclose(np.asarray(line.value(root), "float64"), right, rtol=1e-10, atol=1e-12 * scale, err_msg=code)
    return True


def probes(folder):
    task = derivation.load_task(folder)
    probe = Probe(task, next(iter(task.cases(np.random.default_rng(1), "float64"))), np.random.default_rng(2))
    return task, probe


def test_lines_of_people_give_the_same_through_their_graphs():
    known, found = {}, []
    for h in HANDED:
        if h["task"] not in known:
            known[h["task"]] = probes(ROOT / "tests/people/tasks" / h["task"])
        task, probe = known[h["task"]]
        found.append(agrees(task, probe, h["line"], h["code"]))
    assert found.count(True) >= 130 and found.count(False) == 0, (found.count(True), found.count(False), found.count(None))


@pytest.mark.parametrize("folder", sorted((ROOT / "lectures/homework").glob("*/lines.py")), ids=lambda p: p.parent.name)
def test_solutions_give_the_same_through_their_graphs(folder):
    task, probe = probes(folder.parent)
    found = {name: agrees(task, probe, name, folder.read_text("utf-8")) for name in task.lines if name not in task.measured}
    assert None not in found.values() and [n for n, v in found.items() if v is False] == WITHOUT.get(folder.parent.name, []), found


WITHOUT: dict[str, list[str]] = {}  # lines with loops or conditions


# -- what has no graph --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [
    "for i in range(3): a = a + 1\n    return a", "while True: pass", "if n > 2:\n        return a\n    return b", "return a if n else b", "return unknown",
    "return np.unknown(a)", "return [x for x in a]", "return sum(x for x in a)", "return (lambda x: x)(a)", "return a.__class__", "return a.tobytes()",
    "return np.sum.__globals__", "return np.linalg", "return __import__('os').system('touch {}')", "return eval('a')", "return exec('import os')",
    "return open('{}', 'w')",
    "return np.load('{}')", "return np.save('{}', a)", "return a.tofile('{}')", "return getattr(np, 'sum')(a)", "return np.vectorize(print)(a)",
    "import os\n    return a",
    "global a\n    return a", "print(a)\n    return a", "return f(a, b, v, s, n, eps)", "return np.sum(*[a])", "return np.sum(**{'a': a})", "return 'text'",
    "return 1j * a",
    "return (c := a)", "return a[b'x']", "try:\n        return a\n    finally:\n        pass", "with open('{}', 'w'):\n        return a", "assert False",
    "del a\n    return b",
    "return " + "-" * 500 + "a", "return " + " + ".join(["a"] * 500), "return 1" + "0" * 400 + " * a"])
def test_what_is_not_known_has_no_graph_and_is_not_executed(body, tmp_path):
    file = tmp_path / "written"
    assert graph(f"def f(a, b, v, s, n, eps):\n    {body.replace('{}', str(file))}\n") is None
    assert not file.exists()


@pytest.mark.parametrize("code", [
    "def g(x):\n    return g(x) + g(x)\ndef f(a):\n    return g(a)", "C = C + 1\ndef f(a):\n    return a * C", "C = D\nD = C\ndef f(a):\n    return a * C",
    "def f(a, *rest):\n    return g(a)", "def g(x, y):\n    return x\ndef f(a):\n    return g(a)", "def f(a):\n    pass", "def other(a):\n    return a",
    "\n".join(["def g0(x):\n    return x + x", *(f"def g{k}(x):\n    return g{k - 1}(x) + g{k - 1}(x)" for k in range(1, 11)),
    "def f(a):\n    return g10(a)"])])
def test_recursion_ends(code):
    assert graph(code + "\n", ("a",)) is None


@pytest.mark.parametrize("line", [
    "np.zeros(10**9)", "np.zeros((1000, 1000))", "np.eye(10**6)", "np.eye(10**4)", "np.ones(-1)", "np.arange(10**9)", "np.diag(np.arange(1000))",
    "np.tril(np.ones(5000))",
    "np.zeros(1000)[:, None] + np.zeros(1000)", "np.outer(np.ones(1000), np.ones(1000))", "np.ones((1000, 1)) @ np.ones((1, 1000))",
    "np.kron(np.ones(1000), np.ones(1000))",
    "np.broadcast_to(1.0, (1000, 1000))", "np.where(np.ones(1000)[:, None] > 0, np.ones(1000), 0)", "np.einsum('i,j->ij', np.ones(1000), np.ones(1000))",
    "np.linalg.multi_dot([np.ones((9999, 1)), np.ones((1, 9999)), np.ones((9999, 1))])", "np.zeros(1000)[np.arange(1000)[:, None] * 0 + np.arange(1000)]",
    "s[np.arange(1000)[:, None] % 3, np.arange(1000) % 3]", "np.inf * np.zeros(int(np.inf))", "a.reshape(99)", "a @ a", "a + np.ones(7)", "a[99]", "a[0.5]",
    "np.sum(a, axis=5)",
    "np.linalg.inv(np.zeros((3, 3)))"])
def test_what_is_large_or_impossible_has_no_value(line):
    tracemalloc.start()
    try:
        with np.errstate(all="ignore"), pytest.raises(Unknown):
            computed(line)
        assert tracemalloc.get_traced_memory()[1] < 100e6  # it is refused before it is made
    finally:
        tracemalloc.stop()


def test_a_tower_of_powers_is_a_float():
    with np.errstate(all="ignore"):
        assert computed("9 ** 9 ** 9") == np.inf


def test_tuples_do_not_grow_without_end():
    doubled = "".join(f"    t{k} = (t{k - 1}, t{k - 1})\n" for k in range(1, 40))
    with pytest.raises(Unknown):
        computed(f"def f(a, b, v, s, n, eps):\n    t0 = (a, b)\n{doubled}    return np.sum(t39)\n")


def test_every_result_is_bounded(monkeypatch):
    monkeypatch.setitem(operations.FUNCTIONS, "copy", lambda a: np.zeros(MOST_ELEMENTS + 1))
    with pytest.raises(Unknown):
        applied("copy", [A], {})
    monkeypatch.setitem(operations.FUNCTIONS, "copy", lambda a: np.array(["text"]))
    with pytest.raises(Unknown):
        applied("copy", [A], {})


# -- changed graphs -----------------------------------------------------------------------------------------------------------


def test_a_changed_graph_computes_only_what_differs():
    root = graph("np.sum(a * b, axis=0) / n")
    line = Evaluated(root, GIVEN)
    product = next(n for n in walk(root) if n.op == "*")
    swapped = type(product)("-", product.inputs)
    np.testing.assert_allclose(line.changed({id(product): swapped}), np.sum(A - B, axis=0) / 3)
    around = type(product)("*", [product, product])  # the new one may hold the old one
    np.testing.assert_allclose(line.changed({id(product): around}), np.sum((A * B) ** 2, axis=0) / 3)
    np.testing.assert_allclose(line.value(root), np.sum(A * B, axis=0) / 3)


@pytest.mark.parametrize("line", ["a + b * v", "(a + b) * v", "-a ** 2", "(-a) ** 2", "a - (b - v)", "a / (b * v)", "a / b * v", "np.sum(a, axis=0)", "a.T",
                                  "(a + b).T",
                                  "-(a + b)", "np.where(b > 0, a, v)", "2.0 * a ** -1.5"])
def test_new_nodes_are_written_as_numpy_reads_them(line):
    root = graph(line)

    def bare(node):  # the same, as if an edit had made it
        return node if node.op in ("name", "index") else type(node)(node.op, [bare(n) for n in node.inputs], node.options)
    np.testing.assert_allclose(eval(text(bare(root)), {"np": np}, dict(GIVEN)), eval(line, {"np": np}, dict(GIVEN)), rtol=1e-14)
