"""Small mistakes in every hand-derived backward, made by machine, and what the suite's own check says to each of them.

A derivation's source is read, and one place of it changed: a term or a factor lost, a sign, a transpose, mean for sum,
n − 1 for n, ε outside its root, swapped operands, a wrong axis ... `EXPLICIT` has mistakes of thought that no single such
change makes. The mutant is compiled in the names of the layer's module, and takes the place of the backward in its op.

Many changes do nothing (equivalent), and many break the code (it raises, or the gradient's shape is wrong): these are
counted and left aside. Equivalent is what gives the same at random probes, which are not the cases of the check.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from mutants import replaced_rule

import layers
import minigrad as mg
from layers.verify.agreement import NO_QUOTIENT, bound, cases_of, derivatives, on_backend, relative_errors, seeded, why_not_held, worst
from minigrad.core.by_hand import ByHand


class LayerMutant(NamedTuple):
    """One mistake: where it is, what it is, and the backward that makes it."""

    layer: str
    derivation: str
    op: ByHand
    mistake: str
    line: str  # the changed line, as the machine writes it
    backward: Any

    def __str__(self) -> str:
        return f"{self.layer}, {self.derivation}: {self.mistake:22} {self.line}"


# Mistakes of thought: (layer, derivation, mistake, a piece of the source, what replaces it).
EXPLICIT = [
    ("batch_norm", "staged", "eval formula", " + d_var * (2.0 / m) * (x - mu) + d_mu / m", ""),
    ("batch_norm", "staged", "variance of the sample", "d_var * (2.0 / m)", "d_var * (2.0 / (m - 1))"),
    ("batch_norm", "staged", "γ forgotten", "d_xhat = g * gamma_", "d_xhat = g * 1.0"),
    ("batch_norm", "one_line", "eval formula", "b=-a * rstd * sum_gx / m, c=-a * sum_g / m", "b=0.0 * a"),
    ("batch_norm", "one_line", "x for x̂", "-a * rstd * sum_gx", "-a * sum_gx"),
    ("batch_norm_eval", "one_line", "train formula",
     "return g * (gamma_ * rstd),",
     "return mg.combine(g, x, 0.0 * gamma_, gamma_ * rstd, 0.0 * gamma_, -gamma_ * mg.mean(g, axes, keepdims=True)),"),
    ("batch_renorm", "one_line", "batch norm's dx", "a = gamma_ * r * rstd", "a = gamma_ * rstd"),
    ("batch_renorm", "one_line", "corrected x̂ in dx", "-a * rstd * sum_gx / m",
     "-a * rstd * (r * sum_gx + d * sum_g) / m"),
    ("layer_norm", "one_line", "γ outside the means", "mg.paired_sums(g, rows, mu, 1, gamma_, rstd)",
     "mg.paired_sums(g, rows, mu, 1, None, rstd)"),
    ("layer_norm", "one_line", "rms norm's formula", "c=-rstd * sum_h / m, ", ""),
    ("rms_norm", "one_line", "layer norm's formula", "b=-rrms * rrms * sum_hx / m",
     "b=-rrms * rrms * sum_hx / m, c=-rrms * mg.mean(gamma_ * g, 1, keepdims=True)"),
    ("rms_norm", "one_line", "γ outside the mean", "mg.paired_sums(g, rows, None, 1, gamma_, rrms)",
     "mg.paired_sums(g, rows, None, 1, None, rrms)"),
    ("group_norm", "one_line", "γ outside the means", "sum_(gamma_ * sum_g, 2", "sum_(sum_g, 2"),
    ("group_norm", "one_line", "instance norm's m", "m = shape[2] * shape[3]", "m = shape[3]"),
    ("instance_norm", "one_line", "batch norm's m", "prod(x.shape[2:])", "x.size // x.shape[1]"),
    ("grn", "one_line", "no sum over channels", " - mean(t * share, 1, keepdims=True)", ""),
    ("grn", "one_line", "the residual forgotten", "a=1.0 + gamma_ * share", "a=gamma_ * share"),
    ("grn", "one_line", "a sum for the mean", "mean(t * share", "sum_(t * share"),
    ("inplace_abn", "form_1", "activation forgotten", ", first=undo", ""),
    ("inplace_abn", "form_1", "output for y", "derivative, z / derivative", "derivative, z"),
    ("inplace_abn", "form_2", "as printed", "d_beta - beta_ / gamma_ * d_gamma", "d_beta + beta_ / gamma_ * d_gamma"),
    ("inplace_abn", "form_2", "slope of ELU", "1.0 + clip(z, max=0.0)", "clip(z, max=0.0)"),
    ("weight_norm", "one_line", "v for u", "-a * rnorm * along", "-a * along"),
    ("centered_weight_norm", "one_line", "weight norm's formula", "-rnorm * sum_g / d", "None"),
    ("weight_standardization", "one_line", "weight norm's formula", "-rstd * sum_g / d", "None"),
    ("spectral_norm", "one_line", "W/σ for u vᵀ", "reshape(mg.outer(u, p / sigma), w.shape)", "w / sigma"),
    ("spectral_norm", "one_line", "v not of length 1", "p / sigma", "p"),
    ("orthonormality_penalty", "one_line", "one of two terms", "4.0 * g", "2.0 * g"),
    ("orthogonal_weight_norm", "one_line", "T of orthonormal rows", "root_lyapunov(gram, h + h.T, lam, d)",
     "0.5 * (h + h.T)"),
    ("orthogonal_weight_norm", "one_line", "F not symmetrized", "h + h.T", "2.0 * h"),
    ("decorrelated_batch_norm", "staged", "only one part of ∂Σ", "k.mT * (d.mT @ d_d) + identity(d) * row(d_lam)",
     "k.mT * (d.mT @ d_d)"),
    ("decorrelated_batch_norm", "staged", "eigenvectors constant", "k.mT * (d.mT @ d_d) + identity(d) * row(d_lam)",
     "identity(d) * row(d_lam)"),
    ("decorrelated_batch_norm", "staged", "K for Kᵀ", "k.mT", "k"),
    ("decorrelated_batch_norm", "simplified", "K for Kᵀ", "one_over_gaps(lam).mT", "one_over_gaps(lam)"),
    ("decorrelated_batch_norm", "simplified", "Σ constant", "(s + s.mT - identity(fc) * fc) @ xtilde", "0.0 * xtilde"),
    ("decorrelated_batch_norm", "stable", "T of white batches", "root_lyapunov_in_basis(sigma, h + h.mT, lam, d)",
     "0.5 * (h + h.mT)"),
    ("decorrelated_batch_norm", "stable", "F not symmetrized", "h + h.mT", "2.0 * h"),
    ("pca_whitening", "one_line", "ZCA's T", "(rows - rows.mT) / gaps(lam)", "0.5 * (f + f.mT) * (identity(f) - 1.0)"),
    ("pca_whitening", "one_line", "eigenvectors constant", "(rows - rows.mT) / gaps(lam) - identity(f) * f", "-identity(f) * f"),
    ("pca_whitening", "one_line", "F for Fᵀ", "g @ xtilde.mT / x.shape[-1]", "xtilde @ g.mT / x.shape[-1]"),
    ("iter_norm", "one_line", "trace a constant", "d_a = d_y / size - d_size * eye", "d_a = d_y / size"),
    ("iter_norm", "one_line", "M a constant",
     "matmul(d_y, step.mT) - 0.5 * matmul(z.mT, d_step)", "matmul(d_y, step.mT)"),
    ("iter_norm", "one_line", "the last step's Y and Z", "zip(path[-3::-2], path[-2::-2], strict=True)",
     "zip(path[-3:-2] * (len(path) // 2), path[-2:-1] * (len(path) // 2))"),
    ("whiten_eval", "one_line", "batch norm's mean", "(projected(swapaxes(blocks(g, projection), -1, -2), g),)",
     "(projected(swapaxes(blocks(g, projection), -1, -2), g - mg.mean(g, 0, keepdims=True)),)"),
    ("whiten_eval", "one_line", "groups as one", "(projected(swapaxes(blocks(g, projection), -1, -2), g),)",
     "(g * projection.reshape(-1)[0],)"),
]


# -- one change at one place of the source ------------------------------------------------------------------------------

TRANSPOSES = {"t", "swapaxes"}
OTHER_REDUCTION = {"sum_": "mean", "mean": "sum"}
COUNTS = {"m", "d", "n"}  # what the layers call a number of elements


def _call(function: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name("mg", ast.Load()), function, ast.Load()), list(args), [])


def _times(number: float, e: ast.expr) -> ast.BinOp:
    return ast.BinOp(ast.Constant(number), ast.Mult(), e)


def _transposed(e: ast.expr) -> ast.expr:
    return _call("swapaxes", e, ast.Constant(-1), ast.Constant(-2))


def _called(e: ast.AST) -> str:
    return ast.unparse(e.func).split(".")[-1] if isinstance(e, ast.Call) else ""


def _counts(e: ast.expr) -> bool:
    return e.id in COUNTS if isinstance(e, ast.Name) else isinstance(e, ast.Subscript) and ".shape" in ast.unparse(e)


def _of_binary(e: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    a, b = e.left, e.right
    match e.op:
        case ast.Add():
            yield "lost term", a
            yield "lost term", b
            yield "sign of a term", ast.BinOp(a, ast.Sub(), b)
        case ast.Sub():
            yield "lost term", a
            yield "lost term", ast.UnaryOp(ast.USub(), b)
            yield "sign of a term", ast.BinOp(a, ast.Add(), b)
        case ast.Mult():
            yield "lost factor", a
            yield "lost factor", b
        case ast.Div():
            yield "lost divisor", a
            yield "times for divided by", ast.BinOp(a, ast.Mult(), b)
            if _counts(b):
                yield "n − 1 for n", ast.BinOp(a, ast.Div(), ast.BinOp(b, ast.Sub(), ast.Constant(1)))
        case ast.FloorDiv():
            yield "n − 1 for n", ast.BinOp(e, ast.Sub(), ast.Constant(1))
        case ast.Pow():
            yield "lost power", a
            if isinstance(a, ast.BinOp) and ast.unparse(a.right) == "eps":
                yield "ε outside the power", ast.BinOp(ast.BinOp(a.left, ast.Pow(), b), ast.Add(), a.right)
        case ast.MatMult():
            yield "swapped operands", ast.BinOp(b, ast.MatMult(), a)
            yield "transposed operand", ast.BinOp(_transposed(a), ast.MatMult(), b)
            yield "transposed operand", ast.BinOp(a, ast.MatMult(), _transposed(b))


def _of_call(e: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    name, args = _called(e), e.args

    def again(changed: list[ast.expr], function: ast.expr = e.func) -> ast.Call:
        return ast.Call(function, changed, e.keywords)

    if name in OTHER_REDUCTION:
        yield f"{OTHER_REDUCTION[name]} for {name.strip('_')}", again(args, _call(OTHER_REDUCTION[name]).func)
    if name in TRANSPOSES:
        yield "lost transpose", args[0]
    if name == "sqrt":
        yield "lost root", args[0]
        if isinstance(args[0], ast.BinOp) and ast.unparse(args[0].right) == "eps":
            yield "ε outside the root", ast.BinOp(again([args[0].left]), ast.Add(), args[0].right)
    if name in ("outer", "matmul", "inner"):
        yield "transposed result", _transposed(e)
    for i, (a, b) in enumerate(pairwise(args)):
        if not isinstance(a, ast.Constant) and not isinstance(b, ast.Constant) and ast.dump(a) != ast.dump(b):
            yield "swapped arguments", again([*args[:i], b, a, *args[i + 2:]])
    if name in ("combine", "paired_sums"):
        for i, a in enumerate(args):
            if i > 1 and not isinstance(a, ast.Constant):
                yield "an argument left out", again([*args[:i], ast.Constant(None), *args[i + 1:]])
        for keyword in e.keywords:
            yield "an argument left out", ast.Call(e.func, args, [k for k in e.keywords if k is not keyword])
    if name == "combine":
        for i in range(3, min(6, len(args))):
            if not isinstance(args[i], ast.Constant):
                yield "lost path", again([*args[:i], _times(0.0, args[i]), *args[i + 1:]])
        if len(args) > 5 and not isinstance(args[5], ast.Constant):
            yield "eval formula", again([*args[:4], _times(0.0, args[4]), ast.Constant(None), *args[6:]])


def _changes(e: ast.AST, parent: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(mistake, what replaces it) for one node of the source."""
    match e:
        case ast.BinOp():
            yield from _of_binary(e)
        case ast.Call():
            yield from _of_call(e)
        case ast.UnaryOp(op=ast.USub()) if not isinstance(e.operand, ast.Constant):
            yield "sign", e.operand
        case ast.Attribute(attr="T" | "mT"):
            yield "lost transpose", e.value
        case ast.IfExp():
            yield "swapped branches", ast.IfExp(e.test, e.orelse, e.body)
        case ast.Compare(ops=[ast.Gt()]):
            yield "wrong side", ast.Compare(e.left, [ast.Lt()], e.comparators)
        case ast.Constant(value=float()):
            yield "factor 2", ast.Constant(2 * e.value)
        case ast.Constant(value=bool() | None):
            return
        case ast.Constant(value=int()):
            negative = isinstance(parent, ast.UnaryOp)
            yield "wrong axis or number", ast.Constant({1: 2, 2: 1}.get(e.value, e.value + 1) if negative else {0: 1, 1: 0}.get(e.value, e.value - 1))
        case ast.Constant(value=str()) if "->" in e.value:
            first, rest = e.value.split(",", 1)
            yield "transposed operand", ast.Constant(f"{first[:-2]}{first[-1]}{first[-2]},{rest}")
        case ast.Tuple(ctx=ast.Store()) if len(e.elts) > 1:
            yield "swapped results", ast.Tuple(e.elts[::-1], ast.Store())
        case ast.Tuple(ctx=ast.Load()) if isinstance(parent, ast.Return):
            for i, element in enumerate(e.elts):
                for mistake, number in (("sign of a result", -1.0), ("result times 2", 2.0), ("lost gradient", 0.0)):
                    yield mistake, ast.Tuple([*e.elts[:i], _times(number, element), *e.elts[i + 1:]], ast.Load())
            for i in range(len(e.elts) - 1):
                yield "swapped gradients", ast.Tuple([*e.elts[:i], e.elts[i + 1], e.elts[i], *e.elts[i + 2:]], ast.Load())
    if isinstance(e, ast.expr) and isinstance(parent, ast.Assign | ast.Return) and e is parent.value and not isinstance(e, ast.Tuple):
        yield "factor 2", _times(2.0, e)
        yield "sign", _times(-1.0, e)
        yield "lost", _times(0.0, e)


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST, ast.stmt]]:
    """(parent, field, index, node, its statement) for all code below `tree` that computes: no annotations, no errors raised."""
    def walk(node: ast.AST, statement: ast.stmt | None) -> Iterator[Any]:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "args", "decorator_list", "func", "ctx", "type_params") and not isinstance(node, ast.Call):
                continue
            for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if not isinstance(child, ast.AST) or field == "func" or isinstance(child, ast.Raise | ast.arguments | ast.operator):
                    continue
                if isinstance(child, ast.If) and any(isinstance(s, ast.Raise) for s in child.body):
                    continue
                if isinstance(child, ast.Expr):  # a docstring, or a check
                    continue
                here = child if isinstance(child, ast.stmt) else statement
                if here is not None:
                    yield node, field, i, child, here
                yield from walk(child, here)
    yield from walk(tree, None)


def _source(f: Any) -> tuple[ast.Module, str]:
    text = textwrap.dedent(inspect.getsource(f))
    return ast.parse(text), text


def _names(f: Any) -> dict[str, Any]:
    """The names that `f` sees, in a separate namespace, so that a mutant changes nobody else's."""
    cells = dict(zip(f.__code__.co_freevars, (c.cell_contents for c in f.__closure__ or ())))
    return {**f.__globals__, **cells, "mg": mg}


def _parts(backward: Any) -> list[Any]:
    """The backward, and the functions of its own module that it calls."""
    found, todo = [], [backward]
    while todo:
        f = todo.pop(0)
        found.append(f)
        for node in ast.walk(_source(f)[0]):
            g = f.__globals__.get(node.id) if isinstance(node, ast.Name) else None
            if inspect.isfunction(g) and g.__module__ == backward.__module__ and not hasattr(g, "primitive") and g not in (*found, *todo):
                todo.append(g)
    return found


def _compiled(backward: Any, part: Any, tree: ast.Module) -> Any:
    """`backward` with `tree` in place of the source of `part`, which is itself or a function that it calls."""
    names = _names(backward)
    for f in _parts(backward):
        exec(compile(ast.fix_missing_locations(tree if f is part else _source(f)[0]), f"<mutant of {part.__name__}>", "exec"), names)
    return names[backward.__name__]


def ops_of(name: str, derivation: str) -> list[ByHand]:
    """The by-hand ops of this package that the derivation puts on the tape."""
    found = []
    for _, arrays, keywords in cases_of(name, derivation):
        y = layers.REGISTRY[name].derived[derivation](*(mg.tensor(a, requires_grad=True) for a in arrays), **on_backend(keywords, "numpy"))
        found += [line.plan.primitive for line in mg.tape(y) if isinstance(getattr(line.plan, "primitive", None), ByHand)]
    return [p for p in dict.fromkeys(found) if p.forward.__module__.startswith("layers.")]


def mutants_of(name: str, derivation: str) -> Iterator[LayerMutant]:
    """Every mutant of one derivation, equivalent and broken ones among them."""
    for op in ops_of(name, derivation):
        backward = op.backward
        parts = _parts(backward)
        for _, _, mistake, old, new in (row for row in EXPLICIT if row[:2] == (name, derivation)):
            holding = [f for f in parts if old in _source(f)[1]]
            assert len(holding) == 1, f"{name}, {derivation}, {mistake!r}: EXPLICIT is out of date, {len(holding)} functions contain {old!r}"
            (part,) = holding
            tree = ast.parse(_source(part)[1].replace(old, new))
            line = next((s for s in tree.body[0].body if new and new in ast.unparse(s)), None)
            yield LayerMutant(name, derivation, op, mistake, ast.unparse(line).splitlines()[0] if line else f"without {old}", _compiled(backward, part, tree))
        for part in parts:
            tree, _ = _source(part)
            seen = {ast.unparse(tree)}
            for parent, field, i, node, statement in list(_places(tree)):
                for mistake, other in _changes(node, parent):
                    siblings = getattr(parent, field)
                    if i is None:
                        setattr(parent, field, other)
                    else:
                        siblings[i] = other
                    try:
                        if ast.unparse(tree) not in seen:
                            seen.add(ast.unparse(tree))
                            yield LayerMutant(name, derivation, op, mistake, ast.unparse(statement).splitlines()[0], _compiled(backward, part, tree))
                    finally:
                        if i is None:
                            setattr(parent, field, node)
                        else:
                            siblings[i] = node


# -- what a mutant does, and what the check says ------------------------------------------------------------------------


NOTHING = 1e-8  # a relative change below this at all probes is rounding, which dx as a small difference magnifies


def probes(name: str, derivation: str) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Inputs that are not those of the check: the cases of other seeds, stirred so that nothing special is left, and as they are."""
    for seed in range(2):
        rng = seeded(name, "probe", seed)
        cases = [(arrays, keywords) for case, arrays, keywords in layers.REGISTRY[name].cases("float64", rng)
                 if NO_QUOTIENT not in case and not why_not_held(name, derivation, case)]
        for arrays, keywords in cases:
            stirred = tuple(a * rng.uniform(0.5, 2, a.shape) + 0.3 * rng.normal(size=a.shape) for a in arrays)
            more = {k: v * rng.uniform(0.5, 2, v.shape) if isinstance(v, np.ndarray) else v + 0.1 if k == "eps" else v for k, v in keywords.items()}
            yield stirred, more
        yield from cases


@cache
def _probes_and_truth(name: str, derivation: str) -> list[Any]:
    form = layers.REGISTRY[name].derived[derivation]
    return [(*probe, derivatives(form, *probe, "numpy", 11)) for probe in probes(name, derivation)]


def effect(mutant: LayerMutant) -> str:
    """"changes" the gradient, is "equivalent", or is "broken": raises, or returns another shape or dtype."""
    form = layers.REGISTRY[mutant.layer].derived[mutant.derivation]
    known = _probes_and_truth(mutant.layer, mutant.derivation)
    with replaced_rule(mutant.op, "backward", mutant.backward), np.errstate(all="ignore"):
        for arrays, keywords, truth in known:
            try:
                found = derivatives(form, arrays, keywords, "numpy", 11)
            except Exception:
                return "broken"
            if not worst(relative_errors(found, truth)) <= NOTHING:
                return "changes"
    return "equivalent"


@cache
def _cases_and_truth(name: str, derivation: str) -> list[Any]:
    composed = layers.REGISTRY[name].composed
    return [(*case, derivatives(composed, *case[1:], "numpy", 1)) for case in cases_of(name, derivation)]


def rejected_by(mutant: LayerMutant) -> str:
    """The first of the layer's cases in which derived and composed disagree, as in test_layers.py; empty if the mutant passes."""
    form = layers.REGISTRY[mutant.layer].derived[mutant.derivation]
    with replaced_rule(mutant.op, "backward", mutant.backward), np.errstate(all="ignore"):
        for case, arrays, keywords, truth in _cases_and_truth(mutant.layer, mutant.derivation):
            try:
                if not worst(relative_errors(derivatives(form, arrays, keywords, "numpy", 1), truth)) <= bound(mutant.layer, 1):
                    return case
            except Exception:
                return case
    return ""


def _gradients_of_the_sum(form: Any, arrays: Any, keywords: Any) -> list[Any]:
    xs = [mg.tensor(a, requires_grad=True) for a in arrays]
    y = form(*xs, **on_backend(keywords, "numpy"))
    return [g.numpy() for g in mg.grad(y, xs, mg.tensor(np.ones(y.shape)))]


@cache
def _gradients_of_the_sum_of(name: str, derivation: str) -> list[Any]:
    composed = layers.REGISTRY[name].composed
    return [(*case[1:], _gradients_of_the_sum(composed, *case[1:])) for case in cases_of(name, derivation)]


def accepted_with_ones(mutant: LayerMutant) -> bool:
    """Does the mutant pass the check that everybody writes first: ``y.sum().backward()`` and `numpy.allclose`, in all cases?"""
    form = layers.REGISTRY[mutant.layer].derived[mutant.derivation]
    with replaced_rule(mutant.op, "backward", mutant.backward), np.errstate(all="ignore"), suppress(Exception):
        return all(np.allclose(f, e) for arrays, keywords, truth in _gradients_of_the_sum_of(mutant.layer, mutant.derivation)
                   for f, e in zip(_gradients_of_the_sum(form, arrays, keywords), truth, strict=True))
    return False


if __name__ == "__main__":
    for mutant in mutants_of(*sys.argv[1:3]):
        what = effect(mutant)
        print(f"{what:10} {(rejected_by(mutant) or 'ACCEPTED') if what == 'changes' else '':24} {mutant}")
