"""Why a line is wrong: the student's array as the right one with a single change.

The right answer is a sum of terms, one for each path through the composed form. The simplest change that turns this sum into
the student's array, on all probes at once, is the diagnosis. Changes are tried from simple to complicated:

    coefficients     a term missing, with the wrong sign, counted twice, summed where it is averaged
    the whole        another adjoint, a value of the forward pass, a transposed right answer
    inside a term    another operand, an operand missing or too many, transposed, a sum over other axes, ε elsewhere
    several of them  terms with wrong coefficients
    one level deeper uses of a value on the same way, one by one

Nothing here knows a particular layer: the candidates come from the tape.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from math import prod
from typing import Any, NamedTuple

from ..core.backend import Array, np
from .changes import NOTHING, Change, Trial, axes_text, changes
from .probe import Term
from .report import Route

CLOSE = 1e-8  # relative: far above rounding in float64, far below any change that means something
SECONDS = 0.5  # of processor time, for what may have happened inside of terms
SAME = 1e-5  # relative: a change or a factor that makes less than this difference is no explanation
NEARLY = 1e-4  # relative: what is off by less, and cannot be explained, is an approximation
NICE = (-1.0, 2.0, 0.5, -2.0, -0.5, 3.0, 1 / 3, 4.0, 0.25, 1.5, 2 / 3)


class Diagnosis(NamedTuple):
    """A misconception's code, what to tell the student, and the routes that this names."""

    code: str
    message: str
    routes: tuple[Route, ...] = ()


def same(a: Array, b: Array, scale: float) -> bool:
    """Equal up to rounding."""
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= CLOSE * scale))


# -- words --------------------------------------------------------------------------------------------------------------


def routes(terms: Iterable[Term], target: str, kind: str) -> tuple[Route, ...]:
    """The routes of terms, each once: what `route` says, as data."""
    return tuple(dict.fromkeys(Route((target, *term.through), kind) for term in terms))


def kind_of(code: str) -> str:
    """What a route is that a message with this code names: missing, or there and wrong."""
    return "missing" if code == "missing path" else "wrong"


def route(term: Term, target: str) -> str:
    """'the path through var', or 'the direct path' if nothing is named in between."""
    middle = [n for n in term.through if n != term.source]
    use = f" ({term.use} there)" if term.use else ""
    if not middle:
        return f"the path from {target} straight to {term.source}{use}"
    return f"the path from {target} through {', '.join(middle)} to {term.source}{use}"


# -- coefficients that follow a law ---------------------------------------------------------------------------------------


def sizes(trial: Trial) -> dict[str, float]:
    """Numbers that a mean could divide by: products of axis lengths of all inputs, and what the task gives."""
    found: dict[str, float] = {}
    for name, value in {**trial.probe.keywords, **trial.probe.given}.items():
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 1:
            found[str(name)] = float(value)
    shapes = {name: a.shape for name, a in trial.probe.values.items() if getattr(a, "ndim", 0)}
    for name, shape in shapes.items():
        for count in range(1, len(shape) + 1):
            for axes in combinations(range(len(shape)), count):
                n = prod(shape[i] for i in axes)
                if n > 1:
                    found.setdefault(f"the number of elements of {name} along {axes_text(axes)}", float(n))
    return found


def law(coefficients: Sequence[float], trials: Sequence[Trial]) -> tuple[str, str] | None:
    """(code, words) for factors, one per trial, which are one number or one function of one size; else None."""
    def all_near(values: Sequence[float], wanted: Sequence[float]) -> bool:
        return all(abs(v - w) <= 1e-6 * max(1.0, abs(w)) for v, w in zip(values, wanted, strict=True))
    first = coefficients[0]
    if all_near(coefficients, [first] * len(trials)):
        if abs(first) < 1e-6:
            return "missing path", "is missing"
        if abs(first - 1) < SAME:
            return None  # no explanation
        if abs(first + 1) < 1e-6:
            return "sign", "has the wrong sign"
        if abs(first - 2) < 1e-6:
            return "counted twice", "is counted twice"
        return "factor", f"is {_number(first)} times what it should be{_as_keyword(first, trials)}"
    tables = [sizes(t) for t in trials]
    everywhere = {name: [t[name] for t in tables] for name in tables[0] if all(name in t for t in tables)}
    varying = {name: n for name, n in everywhere.items() if len(set(n)) > 1}
    for name, n in varying.items():
        for sign, remark in ((1.0, ""), (-1.0, ", and its sign is wrong")):
            for wanted, code, words in (
                    (n, "sum for mean", f"is {name} times too large: a sum where a mean (or a division by {name}) is needed"),
                    ([1 / k for k in n], "mean for sum", f"is divided by {name}: a mean where a sum is needed"),
                    ([k / (k - 1) for k in n], "n - 1 for n", f"divides by {name} − 1 where {name} is needed"),
                    ([(k - 1) / k for k in n], "n for n - 1", f"divides by {name} where {name} − 1 is needed"),
                    ([k**2 for k in n], "sum for mean", f"is {name}² times too large: twice a sum where a mean is needed"),
                    ([1 / k**2 for k in n], "mean for sum", f"is divided by {name}²")):
                if all_near(coefficients, [sign * w for w in wanted]):
                    return code, words + remark
    # Up to a factor. Where two sizes have one product in all cases, a times n is b over k: then only a simple factor tells which it is.
    sign = float(np.sign(first))
    if not sign or any(np.sign(c) != sign for c in coefficients):
        return None
    remark = ", and its sign is wrong" if sign < 0 else ""
    loose: list[tuple[float, str, str]] = []
    for name, n in varying.items():
        for code, between, power in (("sum for mean", "·", -1), ("mean for sum", "/", 1)):
            factor = abs(first) * n[0]**power
            if all_near([abs(c) * k**power / factor for c, k in zip(coefficients, n, strict=True)], [1.0] * len(n)):
                loose.append((factor, code, f"is {_number(sign * factor)}{between}{name} times what it should be{remark}"))
    simple = [found for found in loose if any(abs(found[0] - x) < 1e-6 for x in NICE)] or loose
    return simple[0][1:] if simple and len({code for _, code, _ in simple}) == 1 else None


def _as_keyword(c: float, trials: Sequence[Trial]) -> str:
    """'(that is 1 / reg here)', where a factor is a keyword or its reciprocal."""
    for name, v in trials[0].probe.keywords.items():
        if name.startswith("eps") or not isinstance(v, (int, float)) or isinstance(v, bool) or v in (0, 1):
            continue  # an identity that holds for one ε explains nothing
        if all(t.probe.keywords.get(name) == v for t in trials):
            for power, said in ((1, name), (-1, f"1 / {name}"), (2, f"{name}²"), (-2, f"1 / {name}²"), (0.5, f"√{name}"), (-0.5, f"1 / √{name}")):
                if v > 0 and abs(abs(c) - float(v) ** power) < 1e-9:
                    missing = f": is {name} missing?" if power < 0 else f": is it there once too often, or is a division by {name} missing?"
                    return f", which is {said} here{missing}"
    return ""


def _number(x: float) -> str:
    """As a fraction, where it is one."""
    for d in (*range(1, 13), round(1 / x)):
        if 0 < d < 10_000 and round(x * d) and abs(x * d - round(x * d)) < 1e-6:
            return f"{round(x * d)}/{d}" if d > 1 else f"{round(x)}"
    return f"{x:.6g}"


def coefficient(found: Array, term: Array, scale: float) -> float | None:
    """c with found = c·term, or None."""
    size = float(np.vdot(term, term))
    if size <= (CLOSE * scale) ** 2:
        return None
    c = float(np.vdot(term, found)) / size
    return c if same(found, c * term, scale * max(1.0, abs(c))) else None


# -- the search -----------------------------------------------------------------------------------------------------------


def diagnose(target: str, trials: Sequence[Trial], names: Sequence[str], thorough: bool = True) -> Diagnosis | None:
    """The simplest explanation of all trials, if there is one.

    Args:
        names: the arguments of the line.
        thorough: look inside the terms, too. That takes longer, and an edit of the line says it better.
    """
    quick = (_constant_statistics, _coefficients, _whole)
    with np.errstate(all="ignore"):  # what did not happen may overflow
        for search in (*quick, _inside_terms, _pairs) if thorough else quick:
            found = search(target, trials, names)
            if found is not None:
                return found
        if any(len(term.paths) > 1 for term in trials[0].terms):  # one level deeper
            apart = [t._replace(terms=t.probe.split(t.terms)) for t in trials]
            for search in (_coefficients, _inside_terms) if thorough else (_coefficients,):
                found = search(target, apart, names)
                if found is not None:
                    return found
    return None


def wrong_shape(target: str, trial: Trial) -> Diagnosis:
    """Which sum is missing or too many, where the shapes differ."""
    found, right = trial.found, trial.right
    say = f"it returned the shape {found.shape}; d_{target} has the shape of {target}, {right.shape}"
    if found.ndim >= right.ndim and found.size > right.size:
        lead = found.ndim - right.ndim
        axes = (*range(lead), *(i + lead for i, n in enumerate(right.shape) if n == 1 and found.shape[i + lead] != 1))
        if axes and found.sum(axes, keepdims=True).size == right.size:
            total, mean = (f(axes).reshape(right.shape) for f in (found.sum, found.mean))
            if same(total, right, trial.scale) or same(mean, right, trial.scale):
                which = "sum" if same(total, right, trial.scale) else "mean"
                return Diagnosis("not reduced", f"{say}. The {which} over {axes_text(axes)} is missing: {target} was broadcast along it, "
                                 "so its adjoint adds up")
            return Diagnosis("not reduced", f"{say}. A value that is broadcast along {axes_text(axes)} has an adjoint that is summed along it")
    if found.size == right.size:
        if same(found.reshape(right.shape), right, trial.scale):
            return Diagnosis("wrong shape", f"{say}. The numbers are right: keepdims=True or a reshape is missing")
        if found.ndim == right.ndim == 2 and found.shape == right.shape[::-1]:
            right_way = "; transposed it is right" if same(found.T, right, trial.scale) else ""
            return Diagnosis("transposed", f"{say}. That is the transposed shape{right_way}")
        return Diagnosis("wrong shape", say)
    for shape in {np.shape(value) for value in trial.probe.values.values()}:
        without = [(tuple(1 if i == axis else n for i, n in enumerate(shape)), shape[:axis] + shape[axis + 1:]) for axis in range(len(shape))]
        for axis, both in enumerate(without):
            if len(shape) > 1 and found.shape in both and any(right.shape in others for other, others in enumerate(without) if other != axis):
                return Diagnosis("wrong axis", f"{say}. It was summed along axis {axis}, which is another axis")
    if found.size < right.size:
        axes = tuple(i for i, n in enumerate(right.shape) if i >= right.ndim - found.ndim and found.shape[i - right.ndim + found.ndim] != n)
        every = tuple(range(right.ndim - found.ndim)) + axes if found.ndim <= right.ndim else axes
        where = f" over {axes_text(every)}" if every else ""
        return Diagnosis("over-reduced", f"{say}. One sum or mean{where} is too many")
    return Diagnosis("wrong shape", say)


def _whole(target: str, trials: Sequence[Trial], names: Sequence[str]) -> Diagnosis | None:
    """The result as a whole is something else that has a name."""
    def everywhere(what: Callable[[Trial], Any]) -> bool:
        return all(np.shape(what(t)) == t.found.shape and same(t.found, np.asarray(what(t)), t.scale) for t in trials)
    for name in trials[0].probe.adjoints:
        if name != target and everywhere(partial(lambda name, t: t.probe.adjoints[name], name)):
            return Diagnosis("other derivative", f"this is d_{name}, the derivative with respect to {name}; the line asks for d_{target}")
    for name in trials[0].probe.values:
        if everywhere(partial(lambda name, t: t.probe.values[name], name)):
            return Diagnosis("other derivative", f"this is the value {name} of the forward pass, not a derivative")
    for source in {term.source for term in trials[0].terms}:
        if source == target or trials[0].probe.lines[source].shape != trials[0].right.shape:
            continue
        factors = []
        for t in trials[:2]:
            d = t.probe.diagonal(target, source)
            if d is None or np.shape(t.found) != d.shape or np.abs(d * t.probe.adjoints[source] - t.right).max(initial=0) <= SAME * t.scale:
                break  # nothing but a diagonal is there
            factors.append(coefficient(t.found, d * t.probe.adjoints[source], t.scale))
        if factors and len(factors) == len(trials[:2]) and all(c is not None and abs(abs(c) - 1) < 1e-6 and c == c for c in factors):
            wrong_sign = ", and the sign is wrong" if all((c or 0) < 0 for c in factors) else ""
            return Diagnosis("diagonal only", f"only the diagonal of the Jacobian is used: each element of {source} is differentiated by its own "
                             f"element of {target}, but other elements of {source} depend on it, too{wrong_sign}")
    for look in trials[0].probe.unnamed_adjoints:
        if look in trials[0].probe.after(target) and everywhere(partial(lambda look, t: t.probe.unnamed_adjoints.get(look, NOTHING), look)):
            return Diagnosis("other derivative", f"this is the derivative with respect to {look}; the line asks for d_{target}: "
                             "one step of the chain rule is missing")
    if all(t.right.ndim >= 2 and t.right.shape[-1] == t.right.shape[-2] for t in trials) and everywhere(lambda t: np.swapaxes(t.right, -1, -2)):
        return Diagnosis("transposed", f"this is d_{target} transposed")
    if all(t.right.ndim >= 2 and t.right.shape[-1] == t.right.shape[-2] and same(t.right, np.swapaxes(t.right, -1, -2), t.scale) for t in trials):
        if all(same((t.found + np.swapaxes(t.found, -1, -2)) / 2, t.right, t.scale) for t in trials):
            return Diagnosis("transposed", f"its symmetric part is right, but d_{target} is symmetric: take the mean of it and its transpose")
    return None


def _constant_statistics(target: str, trials: Sequence[Trial], names: Sequence[str]) -> Diagnosis | None:
    """Two or more paths through reduced values are missing, and all others are right: the formula of inference."""
    def is_statistic(t: Trial, term: Term) -> bool:
        shape = t.right.shape
        return any(np.size(t.probe.values[n]) < prod(shape) for n in term.through[:-1] if n in t.probe.values)
    if any(sum(is_statistic(t, term) for term in t.terms) < 2 for t in trials):
        return None
    for t in trials:
        kept = [term.value for term in t.terms if not is_statistic(t, term)]
        if not kept or not same(t.found, sum(kept), t.scale):
            return None
    missing = [term for term in trials[0].terms if is_statistic(trials[0], term)]
    sizes = {n: np.size(v) for n, v in trials[0].probe.values.items()}
    small = {n for term in missing for n in term.through[:-1] if sizes.get(n, trials[0].right.size) < trials[0].right.size}
    shared = [n for n in missing[0].through[:-1] if n in small and all(n in term.through[:-1] for term in missing)]
    if shared:
        return Diagnosis("missing path", f"every path from {target} through {shared[0]} is missing", routes(missing, target, "missing"))
    return Diagnosis("eval formula", f"every path through {', '.join(sorted(small))} is missing: they are treated as constants, as at inference, "
                     f"but here they depend on {target}", routes(missing, target, "missing"))


def _fit(trials: Sequence[Trial], rest: Callable[[Trial], Array], part: Callable[[Trial], Array]) -> list[float] | None:
    """c of each trial with found = rest + c·part, or None."""
    found = []
    for t in trials:
        c = coefficient(t.found - rest(t), part(t), t.scale)
        if c is None:
            return None
        found.append(c)
    return found


def _rest(k: int, t: Trial) -> Array:
    """All terms but the k-th; nothing, if k is -1."""
    return 0.0 * t.right if k < 0 else t.right - t.terms[k].value


def _whole_or_term(k: int, t: Trial) -> Array:
    return t.right if k < 0 else t.terms[k].value


def _coefficients(target: str, trials: Sequence[Trial], names: Sequence[str]) -> Diagnosis | None:
    """One factor for the whole, or for one term; then for two terms."""
    terms = trials[0].terms
    if any(len(t.terms) != len(terms) for t in trials):
        return None
    whole = _fit(trials, partial(_rest, -1), lambda t: t.right)
    if whole is not None and (named := law(whole, trials)):
        if named[0] == "missing path":
            return Diagnosis("missing path", f"it returns zeros, but every path from {target} counts", routes(terms, target, "missing"))
        return Diagnosis(named[0], f"the whole line {named[1]}")
    for k, term in enumerate(terms):
        part = _fit(trials, partial(_rest, k), partial(lambda k, t: t.terms[k].value, k))
        if part is not None and (named := law(part, trials)):
            return Diagnosis(named[0], f"{route(term, target)} {named[1]}", routes([term], target, kind_of(named[0])))
    return None


def _pairs(target: str, trials: Sequence[Trial], names: Sequence[str], only: str = "") -> Diagnosis | None:
    """Several terms with wrong coefficients, by least squares, if the terms are independent enough to tell; all of the code `only`, if there is one."""
    terms = trials[0].terms
    if len(terms) < 2 or any(len(t.terms) != len(terms) for t in trials):
        return None
    solutions = []
    for t in trials:
        columns = np.stack([term.value.ravel() / t.scale for term in t.terms], 1)
        live = np.abs(columns).max(0) > CLOSE
        c = np.ones(len(terms))
        c[live] = np.linalg.lstsq(columns[:, live], t.found.ravel() / t.scale, rcond=1e-10)[0]
        if not same(sum(k * term.value for k, term in zip(c, t.terms, strict=True)), t.found, 10 * t.scale):
            return None
        solutions.append(c)
    wrong = []
    for k, term in enumerate(terms):
        factors = [float(s[k]) for s in solutions]
        if all(abs(x - 1) < 1e-6 for x in factors):
            continue
        named = law(factors, trials)
        if named is None or (only and named[0] != only):
            return None
        wrong.append((named, term))
    if not wrong:
        return None
    named_routes = [r for named, term in wrong for r in routes([term], target, kind_of(named[0]))]
    return Diagnosis(wrong[0][0][0], "; and ".join(f"{route(term, target)} {named[1]}" for named, term in wrong), tuple(dict.fromkeys(named_routes)))


def _inside_terms(target: str, trials: Sequence[Trial], names: Sequence[str]) -> Diagnosis | None:
    """One term with one operand, one reduction or one ε changed, up to a factor that follows a law."""
    terms = trials[0].terms
    if any(len(t.terms) != len(terms) for t in trials):
        return None
    candidates: list[tuple[Change, list[float], int]] = []
    deadline = time.process_time() + SECONDS
    for k in [*range(len(terms)), -1]:
        for change in changes(trials, k, names):
            if time.process_time() > deadline:
                break
            try:
                c = _fit(trials, partial(_rest, k), change.value)
            except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError, np.linalg.LinAlgError, AttributeError):
                continue
            if c is None:
                continue
            if all(np.abs(x * change.value(t) - _whole_or_term(k, t)).max() <= SAME * t.scale for x, t in zip(c, trials, strict=True)):
                continue  # with this factor it changes nothing, so it explains nothing
            if all(abs(x - 1) < 1e-6 for x in c):
                where, at = _where(terms, k, target)
                return Diagnosis(change.code, where + change.words, at)
            candidates.append((change, c, k))
    if candidates and (missing := _pairs(target, trials, names, only="missing path")):
        return missing  # simpler than a change with a factor: the rest of a path may cancel another one
    for change, c, k in candidates:
        named = law(c, trials)
        if named is not None:
            where, at = _where(terms, k, target)
            return Diagnosis(change.code, f"{where}{change.words}, and it {named[1]}", at)
    return None


def _where(terms: Sequence[Term], k: int, target: str) -> tuple[str, tuple[Route, ...]]:
    """'in the path through var, ' and its route, where there are several terms to tell apart."""
    if k < 0 or len(terms) < 2:
        return "", ()
    return f"in {route(terms[k], target)}, ", routes([terms[k]], target, "wrong")


def not_exact(trials: Sequence[Trial]) -> Diagnosis:
    """It is nearly the derivative: no term is wrong, and yet it is not the formula that was asked for."""
    off = max(float(np.abs(t.found - t.right).max()) / t.scale for t in trials)
    return Diagnosis("not exact", f"it is right to {off:.0e} of the size of its terms, and not to rounding (1e-10): a difference quotient, "
                     "a number with too few digits, or a difference of large numbers")


def unexplained(trials: Sequence[Trial]) -> Diagnosis:
    """Where the result differs, if nothing explains it."""
    odd = next((t for t in trials if not np.isfinite(t.found).all()), None)
    if odd is not None:
        return Diagnosis("not finite", f"it returned {'NaN' if np.isnan(odd.found).any() else 'Inf'}: a division by 0, or a root of something negative")
    t = max(trials, key=lambda t: float(np.abs(t.found - t.right).max()) / t.scale)
    difference = np.abs(t.found - t.right)
    if difference.max() <= NEARLY * t.scale:
        return not_exact(trials)
    worst = np.unravel_index(int(difference.argmax()), difference.shape) if difference.ndim else ()
    wrong = difference > CLOSE * t.scale
    share = float(wrong.mean())
    where = "everywhere" if share == 1 else f"in {share:.0%} of the elements"
    for axis in range(difference.ndim):
        along = wrong.any(axis=tuple(i for i in range(difference.ndim) if i != axis))
        if 0 < along.sum() < along.size:
            where += f", only at index {', '.join(map(str, np.flatnonzero(along)[:6]))} of axis {axis}"
            break
    at = f" at {tuple(int(i) for i in worst)}: {float(t.found[worst]):.6g} instead of {float(t.right[worst]):.6g}" if difference.size else ""
    return Diagnosis("unexplained", f"it differs {where}; most{at}. No single mistake that is known here explains it")


def summary(codes: Mapping[str, int]) -> str:
    """Codes with their counts, the most frequent first."""
    return ", ".join(f"{code} ({n})" for code, n in sorted(codes.items(), key=lambda item: -item[1]))
