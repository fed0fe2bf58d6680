"""The shortest edit that makes a line right: each kind names what stands in the line and what belongs there; nothing is explained by a coincidence."""

import ast
import inspect
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import derivation
from minigrad.derivation import edits as search
from minigrad.derivation import explain
from minigrad.derivation.edit import Scope
from minigrad.derivation.edits import EditCase, Edits
from minigrad.derivation.explain import said
from minigrad.derivation.expression import Evaluated, expression, text
from minigrad.derivation.misconceptions import MISCONCEPTIONS
from minigrad.derivation.proposals import edits as proposed

CASES = ((7, 3, 0.1), (5, 4, 0.17))  # m, C, eps


def given(m, c, eps):
    rng = np.random.default_rng(m)
    x, d_y, gamma, beta = rng.normal(0.7, 1.3, (m, c)), rng.normal(size=(m, c)), rng.uniform(0.5, 2.0, c), rng.normal(size=c)
    mu, var = x.mean(0), x.var(0)
    rstd, w, g = 1 / np.sqrt(var + eps), rng.normal(size=(c, c)), rng.normal(size=(c, c))
    return {"x": x, "d_y": d_y, "gamma": gamma, "beta": beta, "mu": mu, "var": var, "rstd": rstd, "xhat": (x - mu) * rstd, "w": w, "g": g,
            "eps": eps, "m": m, "c": c, "at": np.arange(m) % 2, "rows": rng.uniform(0.5, 2.0, m), "norm": np.linalg.norm(w, axis=1, keepdims=True)}


def edited(line, right, cases=CASES, others=()):
    """The edits of a line, which is an expression or the functions of a file of which the last is it. `right`: what it should be."""
    if "def " not in line:
        own = [n for n in given(*CASES[0]) if re.search(rf"\b{n}\b", line)]
        line = f"def f({', '.join(own)}):\n    return {line}\n"
    module = ast.parse("import numpy as np\n" + line)
    function = module.body[-1]
    own = [a.arg for a in function.args.args]
    root = expression(module, function.name, own)
    found = []
    for case in cases:
        values = given(*case)
        wanted = np.asarray(eval(right, {"np": np}, dict(values)), "float64")
        found.append(EditCase(Evaluated(root, values), wanted, float(np.abs(wanted).max())))
    scope = Scope(own, list(others), frozenset({"m", "c"}), np.shape(found[0].right))
    with np.errstate(all="ignore"):
        return Edits(found[0], found[1:], scope)


KINDS = [  # code, the line, what is right, what is said of it
    ("sign", "d_y * rstd + xhat", "d_y * rstd - xhat", "`d_y * rstd + xhat` should be `d_y * rstd - xhat`"),
    ("sign", "-(d_y * rstd)", "d_y * rstd", "the minus of `-(d_y * rstd)` is too many"),
    ("sign", "d_y - x", "x - d_y", "`d_y - x` should be `x - d_y`"),
    ("factor", "3 * d_y * x", "4 * d_y * x", "the number 3 should be 4"),
    ("factor", "d_y * x * x", "2 * d_y * x * x", "`d_y * x` is half of what it should be"),
    ("wrong power", "d_y * rstd ** 2", "d_y * rstd ** 3", "`rstd ** 2` should be `rstd ** 3`"),
    ("wrong power", "d_y / gamma ** 2 - x * beta / gamma ** 2", "d_y / gamma - x * beta / gamma", "`gamma ** 2` should be `gamma`, in all 2 places"),
    ("mean for sum", "d_y + x / (gamma * m)", "d_y + x / gamma", "the factor `m` is too many in `gamma * m`"),
    ("missing operand", "d_y / gamma + x * beta", "d_y / gamma + x * beta / gamma", "the division by `gamma` is missing: `x * beta`"),
    ("wrong power", "d_y * (var + eps)", "d_y * np.sqrt(var + eps)", "a square root is missing: `var + eps` should be `np.sqrt(var + eps)`"),
    ("wrong power", "d_y * np.sqrt(var)", "d_y * var", "the square root is too many: `np.sqrt(var)` should be `var`"),
    ("hard-coded", "d_y.sum(0) / 7", "d_y.sum(0) / m", "the number 7 stands where `m` belongs: it fits one example only"),
    ("epsilon misplaced", "d_y * (np.sqrt(var) + eps)", "d_y * np.sqrt(var + eps)",
     "`np.sqrt(var) + eps` has ε outside of the root: it should be `np.sqrt(var + eps)`"),
    ("epsilon misplaced", "d_y / np.sqrt(var)", "d_y / np.sqrt(var + eps)", "`eps` is missing: `var` should be `var + eps`"),
    ("precedence", "d_y * rstd ** 3/2", "d_y * rstd ** 1.5", "`rstd ** 3/2` divides the power by 2, not the exponent: ** comes before /"),
    ("precedence", "d_y - x / m", "(d_y - x) / m", "`d_y - x / m` divides the last term only: it should be `(d_y - x) / m`"),
    ("precedence", "x / gamma - beta", "(x - beta) / gamma", "`x / gamma - beta` divides the first term only: it should be `(x - beta) / gamma`"),
    ("precedence", "(d_y - x) * rstd", "d_y - x * rstd", "`(d_y - x) * rstd`: the brackets hold too much. It should be `d_y - x * rstd`"),
    ("sum for mean", "d_y - np.sum(d_y, axis=0)", "d_y - d_y.mean(0)", "`np.sum(d_y, axis=0)` takes the sum where the mean belongs"),
    ("mean for sum", "np.mean(d_y * x, axis=0)", "(d_y * x).sum(0)", "`np.mean(d_y * x, axis=0)` takes the mean where the sum belongs"),
    ("n - 1 for n", "x / np.sqrt(x.var(0, ddof=1) + eps)", "x / np.sqrt(var + eps)", "`x.var(0, ddof=1)` divides by n - 1: ddof should be 0"),
    ("n - 1 for n", "d_y.sum(0) / (m - 1)", "d_y.sum(0) / m", "`m - 1` should be `m`"),
    ("wrong count", "d_y.sum(0) / len(w)", "d_y.sum(0) / m", "`len(w)` is another number than `m`, which belongs there"),
    ("not reduced", "d_y * x", "(d_y * x).sum(0)", "the sum over axis 0 is missing: `d_y * x` should be `np.sum(d_y * x, axis=0)`"),
    ("over-reduced", "d_y * x.sum(1, keepdims=True)", "d_y * x", "the sum over axis 1 is too many in `x.sum(1, keepdims=True)`"),
    ("wrong axis", "d_y - np.mean(d_y, axis=1, keepdims=True)", "d_y - d_y.mean(0, keepdims=True)", "takes the mean over axis 1; it should be over axis 0"),
    ("wrong axis", "(x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps)", "xhat", "all statistics are taken over axis 1"),
    ("keepdims", "np.sum(d_y * x, axis=1)", "np.sum(d_y * x, axis=1, keepdims=True)",
     "`np.sum(d_y * x, axis=1)` loses the axis that it reduces: keepdims=True is missing"),
    ("keepdims", "np.sum(d_y, axis=0, keepdims=True)", "d_y.sum(0)", "keeps the axis that it reduces; without keepdims it is right"),
    ("does not commute", "d_y.sum(0) * x.sum(0)", "(d_y * x).sum(0)", "multiplies two sums; the sum of the products belongs there: `np.sum(d_y * x, axis=0)`"),
    ("does not commute", "np.mean(d_y * x * x, axis=0) + 0 * x", "x * (d_y * x).mean(0)", "the factor `x` belongs in front of the mean, not inside"),
    ("does not commute", "rows[:, None] * (d_y - np.mean(d_y, axis=0))", "rows[:, None] * d_y - (rows[:, None] * d_y).mean(0)",
     "stands in front of the bracket"),
    ("wrong operand", "np.sum(d_y * x, axis=0) * gamma", "(d_y * xhat).sum(0) * gamma", "`x` stands where `xhat` belongs"),
    ("wrong operand", "d_y - x * np.mean(d_y * x, axis=0)", "d_y - xhat * (d_y * xhat).mean(0)", "`x` stands where `xhat` belongs, in all 2 places"),
    ("missing operand", "np.sum(d_y, axis=0) * gamma", "(d_y * xhat).sum(0) * gamma", "the factor `xhat` is missing: `d_y` should be `d_y * xhat`"),
    ("extra operand", "d_y * gamma * rstd", "d_y * gamma", "the factor `rstd` is too many in `d_y * gamma * rstd`"),
    ("mean for sum", "d_y * gamma / m", "d_y * gamma", "`d_y * gamma / m` is divided by `m`, which is too many"),
    ("inverted", "d_y / gamma", "d_y * gamma", "`d_y / gamma` divides by `gamma` where it should multiply by it"),
    ("inverted", "d_y * gamma", "d_y / gamma", "`d_y * gamma` multiplies by `gamma` where it should divide by it"),
    ("swapped", "d_y * gamma - x * beta", "d_y * beta - x * gamma", "have changed places"),
    ("missing one", "d_y * xhat ** 2", "d_y * (1 - xhat ** 2)", "a 1 is missing: `xhat ** 2` should be `1 - xhat ** 2`"),
    ("repeated index", "def f(d_y, at):\n    g = np.zeros_like(d_y)\n    g[at] += d_y\n    return g",
     "np.array([d_y[::2].sum(0), d_y[1::2].sum(0), *np.zeros((m - 2, c))])", "counts an index that comes twice only once"),
    ("wrong value", "d_y / np.sqrt(x.var(0, ddof=1) + 0.5)", "d_y * rstd", "and is not the same"),
    ("wrong function", "d_y * np.abs(x)", "d_y * x", "abs is too many in `np.abs(x)`"),
    ("wrong condition", "np.where(x > gamma, d_y, 0.1 * d_y)", "np.where(x > 0, d_y, 0.1 * d_y)", "the condition `x > gamma` should compare with 0: `x > 0`"),
    ("wrong condition", "d_y * (x < 0)", "d_y * (x > 0)", "the condition `x < 0` is the wrong way round"),
    ("branches swapped", "np.where(x > 0, 0.1 * d_y, d_y)", "np.where(x > 0, d_y, 0.1 * d_y)", "`d_y` belongs where the condition holds"),
    ("transposed", "w @ g", "w.T @ g", "`w` should be transposed"),
    ("transposed", "w.T @ g", "g.T @ w", "`w.T @ g` should be transposed"),
    ("transposed", "w @ g + g @ w.T", "w @ g + w @ g.T", "should be transposed"),
    ("product", "w * g", "w @ g", "`w * g` multiplies element by element; it should be the matrix product `w @ g`"),
    ("diagonal", "-np.sum(w @ g.T)", "-np.trace(w @ g.T)", "only the diagonal belongs there: np.trace"),
    ("diagonal", "d_y.T @ x", "np.sum(d_y * x, axis=0)", "of `d_y.T @ x` only the diagonal belongs there"),
    ("diagonal", "w @ (gamma + g) @ w.T", "w @ (np.diag(gamma) + g) @ w.T", "`gamma` belongs on a diagonal: `np.diag(gamma)`"),
    ("wrong shape", "rows * 2", "2 * rows[:, None]", "`rows` needs an axis: `rows[:, None]`"),
    ("missing path", "d_y + x", "d_y + x - mu", "`mu` is not subtracted"),
    ("extra path", "d_y * rstd - mu", "d_y * rstd", "the term `mu` is too many in `d_y * rstd - mu`")]


@pytest.mark.parametrize("code, line, right, words", KINDS)
def test_each_kind_is_found_and_names_what_stands_there(code, line, right, words):
    others = [n for n in ("xhat", "eps", "m", "mu", "rstd") if n in right]
    found = edited(line, right, others=others).single()
    assert found and found[0].code == code and words in found[0].words, [(e.code, e.words, e.cost) for e in found[:4]]
    assert code in MISCONCEPTIONS


def plain(code):
    """Code without what only reads better."""
    return re.sub(r"[\s()]", "", code)


@pytest.mark.parametrize("line", [line if k % 5 == 0 else pytest.param(line, marks=pytest.mark.more)
                                  for k, line in enumerate(sorted({line for _, line, _, _ in KINDS}))])
def test_what_an_edit_says_stands_in_the_line_does(line):
    whole = edited(line, "d_y", CASES[:1])
    written = plain(ast.unparse(ast.parse(line)))
    for e in whole.proposed:
        assert "an operand" not in e.words and e.code in MISCONCEPTIONS
        for node in e.at:
            said_of = text(node)
            assert plain(said_of) in written or (node.op == "use" and node.options["name"] in written), (e.words, said_of)
        first = re.search(r"^`([^`]*)`|`([^`]*)` (?:stands|should|takes|divides|multiplies|needs|is the)", e.words)
        if first and e.code not in ("epsilon misplaced", "missing path"):
            assert plain(first[1] or first[2]) in written, e.words


def test_a_mistake_in_a_helper_is_named_there():
    line = "def project(v):\n    return v - np.mean(v, axis=1, keepdims=True)\ndef f(d_y, gamma):\n    return project(d_y * gamma)"
    found = edited(line, "d_y * gamma - (d_y * gamma).mean(0)").single()
    assert found[0].code == "wrong axis" and said(found[:1], 10, "f").endswith("(line 13, in the helper project)")
    assert said(edited("d_y / gamma", "d_y * gamma").single()[:1], 10, "f").endswith("by it (line 13)")


def test_two_mistakes_are_both_named():
    line = "def f(d_y, xhat, gamma, rstd):\n    along = np.mean(d_y * xhat, axis=1, keepdims=True)\n"
    line += "    return gamma / rstd * (d_y - d_y.mean(0) - xhat * along)"
    whole = edited(line, "gamma * rstd * (d_y - d_y.mean(0) - xhat * (d_y * xhat).mean(0))")
    assert whole.single() == []
    both = whole.pair()
    assert {e.code for e in both} == {"wrong axis", "inverted"}
    words = said(both, 0, "f")
    assert "(line 3)" in words and "(line 4)" in words and "; and " in words


def test_an_identity_of_one_epsilon_explains_nothing():
    once = edited("0.2 * d_y", "eps * d_y", CASES[:1], others=["eps"])
    assert {"factor", "hard-coded"} <= {e.code for e in once.single()}  # with ε = 0.1 the number 0.2 could be twice what it should be
    both = edited("0.2 * d_y", "eps * d_y", others=["eps"]).single()
    assert {e.code for e in both} == {"hard-coded"} and "`eps`" in both[0].words


def test_an_identity_of_one_size_explains_nothing():
    assert any(e.words == "the number 6 should be 7" for e in edited("d_y.sum(0) / 6", "d_y.sum(0) / m", CASES[:1], others=["m"]).single())
    found = edited("d_y.sum(0) / 6", "d_y.sum(0) / m", others=["m"]).single()
    assert {e.code for e in found} == {"hard-coded"}


def test_what_vanishes_is_no_explanation():
    """Anything that makes the mean of the normalized values, which is 0, a factor leaves a term out and says no more than that."""
    found = edited("d_y * rstd + x * gamma", "d_y * rstd", others=["xhat"]).single()
    assert found and {e.code for e in found} <= {"extra path"}


def test_a_right_line_is_not_searched(monkeypatch):
    def never(*_):
        raise AssertionError("searched")
    monkeypatch.setattr(explain, "Edits", never)
    monkeypatch.setattr(explain, "Search", never)

    def d_w(d_y, x):
        return d_y * x
    found = derivation.check(lambda x, w: mg.named("y", x * w), [d_w], inputs={"x": np.ones(3), "w": np.ones(3)}).lines[0]
    assert found.verdict == "right" and found.code is None and found.message == ""


@pytest.mark.parametrize("terms", [5, 40])
def test_work_is_bounded_by_counts(terms, monkeypatch):
    count = 0
    changed = Evaluated.changed

    def counted(self, edits):
        nonlocal count
        count += 1
        return changed(self, edits)
    monkeypatch.setattr(Evaluated, "changed", counted)
    for name, most in (("MOST_PROPOSED", 600), ("MOST_PROPOSALS", 300), ("MOST_PAIRS", 200)):
        monkeypatch.setattr(search, name, most)
    whole = edited(" + ".join(["d_y * x", *["xhat * gamma"] * terms]), "rstd ** 3 * d_y + np.tanh(x)")
    assert len(whole.proposed) == 600 and count <= 300 and whole.single() == [] and whole.pair() == []
    assert count <= 300 + 200 + 100 and "time" not in inspect.getsource(search).split()


def test_large_values_are_computed_less_often():
    line = "np.sum(np.ones((400, 400)), axis=0)[:3] * d_y.sum(0)"
    whole = edited(line, "d_y.sum(0)", CASES[:1])
    assert whole.most < 300 and len(whole.computed) <= whole.most


def test_proposals_do_not_depend_on_the_order_of_names():
    first = edited("d_y * gamma + x", "d_y * gamma - x", others=["mu", "var"])
    again = edited("d_y * gamma + x", "d_y * gamma - x", others=["mu", "var"])
    assert [e.words for e in first.proposed] == [e.words for e in again.proposed]
    assert len(list(proposed(first.first.line, Scope(["d_y", "gamma", "x"], [], frozenset(), (7, 3))))) < len(first.proposed)
