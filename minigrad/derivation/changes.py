"""One change inside a term: another operand, one missing or too many, another sum, another ε.

Each `Change` says what a student may have done, and computes what the term would then be, on any trial. The candidates come
from the tape and from the arrays that a line may use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

from ..core.backend import Array, np
from ..core.tensor import Line
from .probe import ELEMENTWISE, Edge, Probe, Term

MOST_TRIALS = 3  # on which a wrong line is explained
NOTHING = np.zeros((0,))  # of a shape that no answer has


class Trial(NamedTuple):
    """A wrong line on one probe: its result, the right one, and the terms of the right one."""

    probe: Probe
    found: Array
    right: Array
    terms: list[Term]
    scale: float  # of rounding: the size of the terms together

    @classmethod
    def of(cls, probe: Probe, target: str, sources: Sequence[str], found: Array) -> Trial:
        """A result beside the adjoint of `target`, cut at the adjoints `sources` that the line uses."""
        terms = probe.terms(target, sources) if target != probe.output else []
        right = probe.adjoints[target]
        scale = max([float(np.abs(t.value).max(initial=0)) for t in terms], default=0.0)
        if not 0 < scale < float("inf"):
            scale = float(np.abs(right).max(initial=0)) or 1.0
        return cls(probe, found, right, terms, scale)

    def off(self, found: Array) -> float:
        """How far a result is off, of the size of the terms; infinite, where it is not finite or has another shape."""
        off = float(np.abs(found.astype("float64") - self.right).max(initial=0)) / self.scale if found.shape == self.right.shape else float("inf")
        return off if np.isfinite(off) else float("inf")


def different(trials: Sequence[Trial]) -> list[Trial]:
    """At most MOST_TRIALS, of different cases as far as there are."""
    chosen: list[Trial] = []
    for t in trials:
        if len(chosen) < MOST_TRIALS and t.probe.where not in [c.probe.where for c in chosen]:
            chosen.append(t)
    return chosen or list(trials[:1])


class Change(NamedTuple):
    """What is different: code, words, and the new value on a trial."""

    code: str
    words: str
    value: Callable[[Trial], Array]


def axes_text(axes: Sequence[int]) -> str:
    """'axis 0' or 'axes (0, 2)'."""
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {tuple(axes)}"


def changes(trials: Sequence[Trial], k: int, names: Sequence[str]) -> Iterator[Change]:
    """Changes of term k; of the whole, if k is -1. The simplest come first."""
    value = partial(_value, k)
    yield from _epsilon(trials, k)
    if k >= 0:
        yield from _operands(trials, k, names)
        yield from _sources(trials, k, names)
    yield from _scaled(trials, names, value)
    yield from _exchanged(trials, names, value)
    if k >= 0:
        yield from _sums(trials, k)
    yield from _reduced(trials, value)


def _value(k: int, t: Trial) -> Array:
    return t.right if k < 0 else t.terms[k].value


def _pool(t: Trial, names: Sequence[str]) -> dict[str, Array]:
    """Arrays that a student could have written: first the line's own arguments."""
    everything = {**t.probe.values, **{f"d_{n}": a for n, a in t.probe.adjoints.items()},
                  **{n: v for n, v in {**t.probe.given, **t.probe.keywords}.items() if isinstance(v, (int, float, np.ndarray))}}
    own = {n: everything[n] for n in names if n in everything}
    return {n: np.asarray(a, "float64") for n, a in {**own, **everything}.items()}


def _slots(edge: Edge) -> list[tuple[int, str]]:
    """Positions of arrays in what a line saved, with their parameter names."""
    plan: Any = edge.line.plan
    return [(i, name) for i, (name, kind, _) in enumerate(plan.slots) if kind in ("array", "out")] if hasattr(plan, "slots") else []


def _named_value(t: Trial, a: Array) -> str | None:
    """What the array is called."""
    for name, value in {**t.probe.values}.items():
        if np.size(value) and np.shape(value) == a.shape and np.array_equal(value, a):
            return name
    for name, value in t.probe.values.items():
        try:
            if np.size(value) and np.array_equal(np.broadcast_to(value, a.shape), a):
                return name
        except ValueError:
            continue
    return None


def _swapped(t: Trial, k: int, at: tuple[int, int, int], new: Callable[[Array], Array]) -> Array:
    """Term k with slot `at` = (path, edge, slot) of what its lines saved replaced."""
    p, e, slot = at
    place = t.terms[k].paths[p][e]
    total: Any = 0.0
    for path in t.terms[k].paths:
        g = t.probe.adjoints[t.terms[k].source]
        for edge in path:
            if edge == place:
                saved = list(edge.line.saved)
                saved[slot] = new(saved[slot])
                g = edge.pull(g, tuple(saved))
            else:
                g = edge.pull(g)
        total = total + g
    return np.asarray(total)


def _operands(trials: Sequence[Trial], k: int, names: Sequence[str]) -> Iterator[Change]:
    """Another array, none, its square or its transpose in the place of an operand on the way."""
    first = trials[0]
    pools = {id(t): _pool(t, names) for t in trials}

    def put(at: tuple[int, int, int], new: Callable[[Array, dict[str, Array]], Array], t: Trial) -> Array:
        return _swapped(t, k, at, lambda old: new(old, pools[id(t)]))

    def exchanged(other: str, old: Array, pool: dict[str, Array]) -> Array:
        return np.broadcast_to(pool[other], old.shape)

    def exchanged_alias(alias: str, other: str, old: Array, pool: dict[str, Array]) -> Array:
        return old / pool[alias] * np.broadcast_to(pool[other], old.shape)
    for p, path in enumerate(first.terms[k].paths):
        for e, edge in enumerate(path):
            for slot, _ in _slots(edge):
                at, old = (p, e, slot), edge.line.saved[slot]
                if not isinstance(old, np.ndarray):
                    continue
                called = _named_value(first, old)
                known = called or next((look for look, a in first.probe.unnamed.items() if a.shape == old.shape and np.array_equal(a, old)),
                                       f"what {edge.line.plan.name.lstrip('_')} multiplies by")
                step = edge.line.plan.name.lstrip("_")
                missing = (f"the derivative of {step}, at {known}, is missing" if step in ELEMENTWISE else
                           f"the condition of {step}, at {known}, is missing: its derivative is 0 on one side"
                           if step in ("maximum", "minimum", "where", "clip") else
                           f"the factor {known} is missing")
                yield Change("missing operand", missing, partial(put, at, lambda old, pool: np.ones_like(old)))
                for other in pools[id(first)]:
                    if other != called:
                        yield Change("wrong operand", f"{other} is used where {known} is needed", partial(put, at, partial(exchanged, other)))
                for alias in _aliases(first, old):  # xc is xhat times a small array: the student may think of either
                    for other in pools[id(first)]:
                        if other not in (called, alias):
                            yield Change("wrong operand", f"{other} is used where {alias} is needed", partial(put, at, partial(exchanged_alias, alias, other)))
                    yield Change("missing operand", f"the factor {alias} is missing",
                                 partial(put, at, partial(lambda alias, old, pool: old / pool[alias], alias)))
                    yield Change("extra operand", f"the factor {alias} is there once too often",
                                 partial(put, at, partial(lambda alias, old, pool: old * pool[alias], alias)))
                yield Change("extra operand", f"the factor {known} is there once too often", partial(put, at, lambda old, pool: old * old))
                if old.ndim >= 2:
                    yield Change("transposed", f"{known} has to be transposed, or must not be", partial(put, at, lambda old, pool: np.swapaxes(old, -1, -2)))


def _aliases(t: Trial, old: Array) -> Iterator[str]:
    """Named values that are `old` times something that does not vary along some axis, as xhat is xc times 1/s."""
    for name, value in t.probe.values.items():
        if np.shape(value) != old.shape or not old.size or not np.all(value) or np.array_equal(value, old):
            continue
        ratio = old / value
        if any(n > 1 and np.allclose(ratio, ratio.mean(axis, keepdims=True), rtol=1e-9, atol=0) for axis, n in enumerate(old.shape)):
            yield name


def _sources(trials: Sequence[Trial], k: int, names: Sequence[str]) -> Iterator[Change]:
    """Another array in the place of the adjoint that the term starts from; the order of matrix products."""
    term = trials[0].terms[k]

    def along(t: Trial, g: Array) -> Array:
        total: Any = 0.0
        for path in t.terms[k].paths:
            total = total + t.probe.along(path, g)
        return np.asarray(total)

    def instead(other: str, t: Trial) -> Array:
        return along(t, np.broadcast_to(_pool(t, names)[other], t.probe.adjoints[term.source].shape))
    for other in _pool(trials[0], names):
        if other != f"d_{term.source}":
            yield Change("wrong operand", f"{other} is used where d_{term.source} is needed", partial(instead, other))
    if trials[0].probe.adjoints[term.source].ndim >= 2:
        yield Change("transposed", f"d_{term.source} has to be transposed, or must not be",
                     lambda t: along(t, np.swapaxes(t.probe.adjoints[term.source], -1, -2)))
    yield Change("missing operand", f"d_{term.source} is not used", lambda t: along(t, np.ones_like(t.probe.adjoints[term.source])))


def _scaled(trials: Sequence[Trial], names: Sequence[str], value: Callable[[Trial], Array]) -> Iterator[Change]:
    """The value times a power of an array that the forward pass has computed."""
    target = trials[0].probe.name_of.get(_end(trials[0])) if trials[0].terms else None
    pools = {id(t): {**_pool(t, names), **{n: a for n, a in t.probe.unnamed.items() if not a.ndim or a.size <= t.right.size}} for t in trials}

    def times(other: str, power: float, t: Trial) -> Array:
        with np.errstate(all="ignore"):
            result = value(t) * pools[id(t)][other] ** power
        return result if result.shape == value(t).shape and np.isfinite(result).all() else NOTHING
    for power in (-1, 1, -2, 2, 0.5, -0.5, -1.5, 1.5, -3, 3):
        for other in pools[id(trials[0])]:
            if other.startswith("d_") and (power != -1 or other == f"d_{target}"):
                continue

            scaled = partial(times, other, power)
            many = "" if abs(power) == 1 else f" to the power {abs(power):g}"
            if power < 0:
                yield Change("missing operand", f"the factor {other}{many} is missing", scaled)
            else:
                yield Change("extra operand", f"the factor {other}{many} is too many", scaled)


def _exchanged(trials: Sequence[Trial], names: Sequence[str], value: Callable[[Trial], Array]) -> Iterator[Change]:
    """The value with one of the line's arguments exchanged for another array, or with two of them left out."""
    pools = {id(t): _pool(t, names) for t in trials}
    own = [n for n in names if n in pools[id(trials[0])]]

    def times(numerator: Sequence[str], denominator: Sequence[str], t: Trial) -> Array:
        result, pool = value(t), pools[id(t)]
        with np.errstate(all="ignore"):
            for n in numerator:
                result = result * pool[n]
            for n in denominator:
                result = result / pool[n]
        return result if result.shape == value(t).shape and np.isfinite(result).all() else NOTHING
    for old in own:
        for other in pools[id(trials[0])]:
            if other != old:
                yield Change("wrong operand", f"{other} is used where {old} is needed", partial(times, [other], [old]))
    for a, b in combinations(own, 2):
        yield Change("missing operand", f"the factors {a} and {b} are missing", partial(times, [], [a, b]))


def _reduced(trials: Sequence[Trial], value: Callable[[Trial], Array]) -> Iterator[Change]:
    """The value summed, or averaged, along axes along which it should vary."""
    def total(axes: tuple[int, ...], t: Trial) -> Array:
        v = value(t)
        return np.broadcast_to(v.sum(axes, keepdims=True), v.shape) if all(v.shape[i] > 1 for i in axes) else NOTHING
    ndim = trials[0].right.ndim
    for axes in (a for count in range(1, ndim + 1) for a in combinations(range(ndim), count)):
        yield Change("over-reduced", f"a sum or mean over {axes_text(axes)} is too many", partial(total, axes))


def _sums(trials: Sequence[Trial], k: int) -> Iterator[Change]:
    """A sum on the way left out, or taken over other axes."""
    def instead(p: int, e: int, axes: tuple[int, ...], t: Trial) -> Array:
        g: Any = t.probe.adjoints[t.terms[k].source]
        path = t.terms[k].paths[p]
        for step in path[:e]:
            g = step.pull(g)
        small = path[e].pull(g)
        end = t.probe.along(path[e + 1:], small)
        if end.shape != g.shape or axes == tuple(i for i, n in enumerate(small.shape) if n == 1 and small.ndim == g.ndim and g.shape[i] != 1):
            return NOTHING
        with np.errstate(all="ignore"):
            factor = end / np.broadcast_to(small, end.shape)
        return np.asarray(t.terms[k].value - end + factor * (g.sum(axes, keepdims=True) if axes else g))
    ndim = trials[0].probe.adjoints[trials[0].terms[k].source].ndim
    for p, path in enumerate(trials[0].terms[k].paths):
        for e, edge in enumerate(path):
            if edge.line.plan.name != "_broadcast_to":
                continue
            yield Change("not reduced", "a sum over the axes along which a value was broadcast is missing", partial(instead, p, e, ()))
            for axes in (a for count in range(1, ndim + 1) for a in combinations(range(ndim), count)):
                yield Change("wrong axis", f"a sum is taken over {axes_text(axes)}, along which the value was not broadcast", partial(instead, p, e, axes))


def _epsilon(trials: Sequence[Trial], k: int) -> Iterator[Change]:
    """The term (or the whole) of the same function with another ε, or with what one of its lines saved from there."""
    keyword = next((n for n, v in trials[0].probe.keywords.items() if n.startswith("eps") and isinstance(v, (int, float, np.ndarray))), None)
    if keyword is None:
        return

    def everywhere(how: str, t: Trial) -> Array:
        terms = _with_epsilon(t, keyword, how)
        return NOTHING if terms is None else np.asarray(sum(x.value for x in terms)) if k < 0 else terms[k].value

    def in_one_place(how: str, at: tuple[int, int, int], t: Trial) -> Array:
        terms = _with_epsilon(t, keyword, how)
        return NOTHING if terms is None else _swapped(t, k, at, lambda old: terms[k].paths[at[0]][at[1]].line.saved[at[2]])
    for how, words in (("none", "ε is missing"), ("outside", "ε is outside of the root"), ("negative", "ε has the wrong sign")):
        yield Change("epsilon misplaced", words, partial(everywhere, how))
        for p, path in enumerate(trials[0].terms[k].paths if k >= 0 else ()):
            for e, edge in enumerate(path):
                for slot, _ in _slots(edge):
                    yield Change("epsilon misplaced", words, partial(in_one_place, how, (p, e, slot)))


def _with_epsilon(t: Trial, keyword: str, how: str) -> list[Term] | None:
    """The terms of the same line where the forward pass has another ε, from the same adjoints."""
    sources = sorted({term.source for term in t.terms})
    target = t.probe.name_of[_end(t)]
    apart = any(term.use for term in t.terms)
    key = (how, target, apart, *sources)
    if key not in t.probe.twins:
        twin = t.probe.with_epsilon(keyword, how)
        terms = None if twin is None else twin.terms(target, sources)
        t.probe.twins[key] = twin.split(terms) if twin is not None and terms is not None and apart else terms
    return t.probe.twins[key]


def _end(t: Trial) -> Line:
    edge = t.terms[0].paths[0][-1]
    return edge.line.parents[edge.position]  # type: ignore[return-value]
