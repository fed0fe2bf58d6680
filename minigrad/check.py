"""Gradient checks with power: the tape's derivatives against difference quotients that know their own error.

    report = mg.gradcheck(f, [x, w], order=2)      # truthy if everything is right; print(report) shows a table

**The probe.** A random cotangent v turns f into φ(x) = Σ v·f(x), whose gradient is the vjp Jᵀv. A constant v would be
blind: Σ (x − mean x) is 0 whatever the backward does. Order 2 is the same check once more, of the map (x, v) ↦ Jᵀv with
a second random cotangent w: ∂/∂x is a product with φ's Hessian, ∂/∂v is Jw. The tape's side uses ``create_graph=True``,
the quotients the plain first-order backward.

**The quotient.** Let Δₖ = φ(x + khd) − φ(x − khd) and Sₖ = φ(x + khd) − 2φ(x) + φ(x − khd) along a direction d. Then

    D₆ = (45Δ₁ − 9Δ₂ + Δ₃) / 60h        has the error h⁶φ⁽⁷⁾/140; D₄ = (8Δ₁ − Δ₂) / 12h has h⁴φ⁽⁵⁾/30;
    |D₆ − D₄| = |5Δ₁ − 4Δ₂ + Δ₃| / 60h   and   |S₃ − 6S₂ + 15S₁| / 6h     are fifth and sixth differences.

The last two vanish for polynomials of degree 4 and 5, so they measure what is *not* derivative: truncation, rounding
noise (as Moré and Wild do) and kinks. At a kink φ = J|t|/2 the second is J/2, the distance from D₆ to either one-sided
derivative, for every h. The first h is ε^(1/5) of the input's spread, which balances D₄'s truncation with the rounding
ε/h; where the estimate is too large other h are tried. Small inputs are probed element by element, large ones along
random directions (all elements take part) and at some elements.

**The verdicts**, with errors ‖tape − quotient‖ / ‖quotient‖ for each input:

    right      error ≤ tolerance, and the comparison resolves at least 1e-3
    wrong      error > bound = tolerance + 4·(the quotient's own error): whatever rounding did, the tape is wrong
    rounding   neither: at this point (a kink, cancellation) the quotient or the dtype cannot tell
    no power   the true gradient is zero or lost in rounding noise: a backward that returns zeros would pass too

At order 2 an exactly zero derivative is "right": the first-order gradient, which order 1 has checked, does not move at
all with that input, because f is (piecewise) linear in it.

Sources: Fornberg, Generation of finite difference formulas on arbitrarily spaced grids, Math. Comp. 51 (1988), table 1;
Moré and Wild, Estimating computational noise, SIAM J. Sci. Comput. 33 (2011); Press et al., Numerical Recipes, sec. 5.7.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import backend
from .backend import np
from .engine import _recording, grad
from .errors import describe, error
from .tensor import Tensor, state

Vector = Any  # a flat float64 NumPy array
Tensors = list[Tensor]
Gradients = list[Tensor | None]

BASE = {1: 1e-7, 2: 1e-5}  # relative tolerance of each order, where the dtype and the conditioning allow it
SAFETY = 4.0  # how much the quotient's error may exceed its estimate
SHAKEN = 16.0  # rounding error of the tape's gradient, in units of its change when all inputs move by one ulp
COARSE = 1e-3  # a coarser comparison shows nothing
RUNGS = (1.0, 2.0**-5, 2.0**-10, 2.0**5, 2.0**-20)  # steps to try, in units of ε^(1/5)


@dataclass(frozen=True)
class Row:
    """One input at one order. `index` is its place among the inputs, None for a cotangent (second order)."""

    name: str
    index: int | None
    order: int
    shape: tuple[int, ...]
    error: float
    bound: float
    verdict: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What `gradcheck` found: `rows` for programs, ``print(report)`` for people. Truthy if every row is "right"."""

    rows: tuple[Row, ...]
    note: str = ""

    def __bool__(self) -> bool:
        return all(row.verdict == "right" for row in self.rows)

    def __repr__(self) -> str:
        table = [("input", "shape", "order", "error", "bound", "verdict")]
        table += [(r.name, str(r.shape), str(r.order), f"{r.error:.1e}", f"{r.bound:.1e}", r.verdict) for r in self.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, cells, widths)) for cells in table]
        lines = [f"{line}  {reason}".rstrip() for line, reason in zip(lines, ["", *(r.reason for r in self.rows)], strict=True)]
        return "\n".join([f"gradcheck: {'right' if self else 'NOT right'}{self.note and f' ({self.note})'}", *lines])


class _Function:
    """f as a map from its floating inputs to its floating outputs, everything else held constant."""

    def __init__(self, f: Callable[..., Any], inputs: list[Any]) -> None:
        self.f, self.inputs = f, inputs
        self.at = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and backend.is_float(x.dtype)]
        if not self.at or any(backend.is_array(x) for x in inputs):
            raise error(TypeError, "gradcheck", got=f"the inputs {', '.join(map(describe, inputs)) or '()'}",
                        needs="Tensors, at least one of them floating", fix="wrap arrays: minigrad.tensor(values)")
        self.device = inputs[self.at[0]].backend
        try:
            names = [p.name for p in inspect.signature(f).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        except (TypeError, ValueError):
            names = []
        self.names = [names[i] if i < len(names) else f"input {i}" for i in self.at]

    def outputs(self, xs: Tensors) -> Tensors:
        given = list(self.inputs)
        for i, x in zip(self.at, xs, strict=True):
            given[i] = x
        with _recording(True):
            y = self.f(*given)
        ys = list(y) if isinstance(y, (tuple, list)) else [y]
        floating = [t for t in ys if isinstance(t, Tensor) and backend.is_float(t.dtype)]
        if not floating or not all(isinstance(t, Tensor) for t in ys):
            raise error(TypeError, "gradcheck", got=f"f returning {', '.join(map(describe, ys)) or '()'}",
                        needs="a floating Tensor, or a tuple of Tensors", fix="compute with minigrad's ops on the arguments of f")
        return floating

    def pull(self, xs: Tensors, vs: Tensors, create_graph: bool = False) -> Gradients:
        """Jᵀv, one for each floating input (None where f does not use it)."""
        return _pulled(self.outputs(xs), xs, vs, create_graph)

    def pull_twice(self, xs: Tensors, vs: Tensors, ws: Tensors) -> Gradients:
        """The vjp at w of the map (x, v) ↦ Jᵀv."""
        return _pulled(self.pull(xs, vs, create_graph=True), [*xs, *vs], ws, False)

    def leaf(self, values: Any, dtype: Any) -> Tensor:
        leaf = Tensor(backend.from_numpy(np.asarray(values).astype(dtype), self.device))
        leaf.requires_grad = True
        return leaf


def _pulled(ys: Gradients, xs: Tensors, vs: Tensors, create_graph: bool) -> Gradients:
    used = [(y, v) for y, v in zip(ys, vs, strict=True) if y is not None and y.requires_grad]
    if not used:
        return [None] * len(xs)
    return list(grad([y for y, _ in used], xs, [v for _, v in used], create_graph=create_graph, allow_unused=True))


def _host(t: Tensor) -> Any:
    return backend.to_numpy(t._data).astype(np.float64)


def _flat(tensors: Sequence[Tensor | None], like: Tensors) -> Vector:
    """All values as one float64 vector, zeros for None. Sums over it add no rounding of the Tensors' dtype."""
    return np.concatenate([np.zeros(t.size) if y is None else _host(y).ravel() for y, t in zip(tensors, like, strict=True)])


def _spread(x: Any) -> float:
    """The unit of length of an input: a power of two, so that adding multiples of it is exact."""
    size = float(np.sqrt(np.mean(x * x))) if x.size else 0.0
    unit = size if x.size == 1 else max(float(np.std(x)) if x.size else 0.0, size / 1024)
    return float(2.0 ** np.round(np.log2(unit))) if 0 < unit < np.inf else 1.0


@dataclass
class _Quotients:
    """D₆ along each direction, in units of the input's spread, and what is known about its error."""

    along: list[int | Vector]  # an element's number, or a direction
    value: Vector
    error: Vector
    noise: Vector  # the part of the error that grows as 1/h
    level: float  # that noise in φ itself

    def project(self, gradient: Vector) -> Vector:
        return np.array([gradient[d] if isinstance(d, int) else gradient @ d for d in self.along])


def _directions(size: int, limit: int, rng: Any) -> list[int | Vector]:
    if size <= limit:
        return list(range(size))
    elements: list[int | Vector] = sorted(int(i) for i in rng.choice(size, max(1, limit // 4), replace=False))
    return elements + [np.rint(16 * rng.standard_normal(size)) / 16 for _ in range(8)]  # sixteenths: x + h·d is exact


def _quotient(values: list[Vector], h: float, v: Vector, eps: float, moved: Vector) -> tuple[float, float]:
    """D₆ and its error from f at x − 3hd, …, x + 3hd; notes in `moved` which outputs move.

    Differences are taken output by output before they are summed, so that what does not move adds no rounding.
    """
    m3, m2, m1, centre, p1, p2, p3 = values
    odd = p1 - m1, p2 - m2, p3 - m3
    even = p1 - centre + (m1 - centre), p2 - centre + (m2 - centre), p3 - centre + (m3 - centre)
    moved |= np.logical_or.reduce([part != 0 for part in odd + even])
    # 8·|D₆ − D₄|: enough for a kink anywhere between the points, where the sixth difference may vanish
    residues = v * (5 * odd[0] - 4 * odd[1] + odd[2]) * (8 / 60), v * (even[2] - 6 * even[1] + 15 * even[0]) / 6
    # |Σ r| sees truncation, whose terms may add up; ‖r‖ sees rounding, whose terms are independent
    parts = [part for r in residues for part in (np.sum(r), np.linalg.norm(r))] + [eps * np.linalg.norm((v * centre)[moved])]
    return float(v @ (45 * odd[0] - 9 * odd[1] + odd[2])) / (60 * h), float(np.linalg.norm(parts)) / h


def _measure(value: Callable[[Any], Vector], x: Any, v: Vector, along: list[int | Vector], eps: float, target: float) -> _Quotients:
    """Quotients of Σ v·value at `x` along each direction, with the best of several h for each."""
    centre, unit, count, first = value(x), _spread(x), len(along), 2.0 ** round(np.log2(eps) / 5)
    best, errors, level, steps = np.zeros(count), np.full(count, np.inf), np.full(count, np.inf), np.ones(count)
    moved = np.zeros((count, v.size), bool)
    for rung in (*RUNGS, None):  # None: in units of the element's own size
        typical = float(np.linalg.norm(best)) / count**0.5
        for p in np.flatnonzero(~(errors <= target * typical / (10 * SAFETY))):
            d = along[p]
            direction = np.eye(1, x.size, d)[0] if isinstance(d, int) else d
            reach = float(np.abs(x.flat[d] if isinstance(d, int) else x).max()) / unit
            h = first * (rung or (reach if isinstance(d, int) else 0.0))
            if h < 64 * eps * reach or h == 0:
                continue  # x + h·d would be rounded
            step = (h * unit) * direction.reshape(x.shape)
            try:
                q, e = _quotient([centre if k == 0 else value(x + k * step) for k in range(-3, 4)], h, v, eps, moved[p])
            except (ValueError, ArithmeticError):  # outside f's domain, for example no longer positive definite
                continue
            if np.isfinite(q) and np.isfinite(e):
                level[p] = min(level[p], e * h)
                # relative to its own size as well: a pole inside a large step looks like a small quotient
                if not np.isfinite(errors[p]) or e * (abs(best[p]) + typical) < 0.5 * errors[p] * (abs(q) + typical):
                    best[p], errors[p], steps[p] = q, e, h
    # somewhere in a large input a random direction may well meet a kink: the better resolved half of them is enough
    random = sorted((p for p, d in enumerate(along) if not isinstance(d, int)), key=lambda p: errors[p])
    kept = [p for p in range(count) if p not in random[len(random) // 2:]]
    return _Quotients([along[p] for p in kept], best[kept], errors[kept], (level / steps)[kept], float(level[kept].max()))


def _judge(q: _Quotients, tape: Vector, shaken: float, t: Tensor, order: int, eps: float, fine_eps: float, scale: float,
           tolerance: float | None) -> tuple[float, float, str, str]:
    """(error, bound, verdict, reason). `shaken` is how far one ulp moves the tape's gradient, `scale` the size of φ's terms."""
    resolved = np.isfinite(q.error)
    a = np.where(resolved, q.project(tape), 0.0)
    gap = np.abs(a - q.value)
    size, off = float(np.linalg.norm(q.value)), float(np.linalg.norm(gap))
    unsure, rounding = SAFETY * float(np.linalg.norm(q.error)), SHAKEN * (shaken + eps * size)
    allowed = max(BASE[order] * size, rounding) if tolerance is None else tolerance * size
    limit = max(allowed, rounding) + unsure + (0.0 if size else 1e3 * eps * scale)
    numbers = (off / size, limit / size) if size else (0.0 if off <= limit else np.inf, 0.0)

    def at(p: Any) -> str:
        d = q.along[int(p)]
        return f"at {tuple(map(int, np.unravel_index(d, t.shape)))}: " if isinstance(d, int) else "along a random direction: "

    if not off <= limit:
        p = np.argmax(np.where(np.isfinite(gap), gap - SAFETY * q.error, np.inf))
        factor = float(a @ q.value) / size**2 if size else 0.0
        multiple = a.any() and np.linalg.norm(a - factor * q.value) <= 1e-2 * off
        where = f"{at(p)}tape {a[p]:.6g}, quotient {q.value[p]:.6g}"
        return *numbers, "wrong", f"tape = {factor:.6g} × truth; {where}" if multiple else where
    if not resolved.all():
        verdict = "rounding" if resolved.any() else "no power"
        return *numbers, verdict, f"{at(np.argmin(resolved))}f is not finite around this point"
    if size == 0 and order == 2 and off <= 1e3 * eps * scale and unsure <= BASE[2] * scale:
        return *numbers, "right", "exactly zero: the gradient does not move with it"
    if size == 0 and unsure == 0:
        return *numbers, "no power", "exactly zero: f does not move with it, a backward that returns zeros would pass"
    if size <= 10 * np.linalg.norm(q.noise) and q.level <= fine_eps**0.5 * scale:  # a larger level is a jump, not noise
        return *numbers, "no power", "the true gradient is lost in rounding, a backward that returns zeros would pass"
    if off <= allowed and limit <= max(COARSE, 128 * eps, tolerance or 0.0) * size:
        return *numbers, "right", ""
    if rounding > unsure:
        return *numbers, "rounding", f"{at(np.argmax(gap))}rounding in the tape's own gradient may reach {rounding / size:.1e}"
    return *numbers, "rounding", f"{at(np.argmax(q.error))}the quotient is no surer than {unsure / size:.1e}: a kink nearby, or cancellation"


def gradcheck(f: Callable[..., Any], inputs: Sequence[Any] | Tensor, order: int = 1, seed: int = 0, *, tolerance: float | None = None,
              max_elements: int = 64) -> Report:
    """Compare the tape's derivatives of `f` with difference quotients, for all floating inputs, and say what is known.

    `f` is called many times, on fresh variables with the values of `inputs`: their ``.grad`` and hooks are untouched, and
    Modules leave their running statistics alone meanwhile. `f` must be deterministic (it is called twice to see): reseed
    inside `f`, or make a dropout mask an input.

    float32 and float16: quotients are those of `f` at the same point in float64 (or in the inputs' dtype, with less power,
    where `f` refuses float64: the report says so). The tolerance is then 16·(ε + the change of the tape's gradient when
    inputs and cotangent move by one unit in the last place), which holds its conditioning and its rounding noise.

    Args:
        f: takes `inputs`, returns a Tensor or a tuple of Tensors; its integer outputs are ignored.
        inputs: floating Tensors (all are checked, whether or not they require grad); anything else is a constant.
        order: 1, or 2 for both orders; the second also has a row for the derivative with respect to each cotangent.
        seed: of the cotangents and directions.
        tolerance: relative; default 1e-7 (order 1) and 1e-5 (order 2), or what the dtype and the conditioning allow.
        max_elements: larger inputs are probed along random directions, and at a quarter as many elements.

    Returns:
        A `Report`. It is falsy not only for "wrong": "rounding" and "no power" say that nothing was shown. Choose another
        point then, or make an input that `f` ignores a constant. An empty input is "right": there is nothing to check.

    Raises:
        TypeError, ValueError: misuse only: no floating input, no floating output, an order other than 1 and 2.

    >>> import minigrad as mg
    >>> x, w = mg.tensor([0.3, -1.2, 0.8], dtype="float64"), mg.tensor([2.0, 0.5, 1.0], dtype="float64")
    >>> bool(mg.gradcheck(lambda x, w: mg.tanh(x * w), [x, w], order=2))
    True
    >>> @mg.primitive(a=lambda g, out: g * (1.0 - out))      # a square is missing
    ... def wrong_tanh(xp, a): return xp.tanh(a)
    >>> [(row.name, row.verdict) for row in mg.gradcheck(lambda x, w: wrong_tanh(x) * w, [x, w]).rows]
    [('x', 'wrong'), ('w', 'right')]
    """
    if order not in (1, 2):
        raise error(ValueError, "gradcheck", got=f"order={order!r}", needs="1 or 2", fix="order=2 checks both orders")
    fn = _Function(f, [inputs] if isinstance(inputs, Tensor) else list(inputs))
    before, state.checking = state.checking, True
    try:
        with np.errstate(all="ignore"):
            # a stream of its own: default_rng(seed) may have made the inputs, and v = x is blind to a normalizer's backward
            return _check(fn, order, np.random.default_rng([seed, ord("v")]), tolerance, max_elements)
    finally:
        state.checking = before


def _check(fn: _Function, order: int, rng: Any, tolerance: float | None, max_elements: int) -> Report:
    xs = [Tensor(fn.inputs[i]._data) for i in fn.at]  # the very arrays of the caller, with their strides
    for x in xs:
        x.requires_grad = True
    ys, note, why = fn.outputs(xs), "", ""
    eps = max(float(np.finfo(t.dtype).eps) for t in [*xs, *ys])
    y, again = _flat(ys, ys), _flat(*[fn.outputs(xs)] * 2)
    if not np.isfinite(y).all():
        why = "f is not finite at this point"
    elif y.shape != again.shape or np.linalg.norm(y - again) > 1e3 * eps * np.linalg.norm(y):
        why = "not deterministic: two calls of f gave different values"
    if why:
        return Report(tuple(Row(*who, 1, x.shape, np.nan, np.nan, "no power", why) for *who, x in zip(fn.names, fn.at, xs)))
    vs = [fn.leaf(rng.standard_normal(t.shape), t.dtype) for t in ys]
    ws = [fn.leaf(_spread(_host(x)) * rng.standard_normal(x.shape), x.dtype) for x in xs]

    fine_xs, fine_ys = xs, ys  # the same point in float64, where quotients are sharp
    if eps > np.finfo(np.float64).eps:
        try:
            lifted = [fn.leaf(_host(x), np.float64) for x in xs]
            fine_xs, fine_ys = lifted, fn.outputs(lifted)
        except Exception as e:  # whatever a function says that was not made for float64
            note = f"quotients in the inputs' dtype, because f refuses float64: {str(e).splitlines()[0]}"
    fine_vs = [fn.leaf(_host(v), t.dtype) for v, t in zip(vs, fine_ys, strict=True)]
    fine_eps = max(float(np.finfo(t.dtype).eps) for t in [*fine_xs, *fine_ys])
    n, m = len(xs), len(vs)
    names = [*fn.names, *(["v"] if m == 1 else [f"v[{j}]" for j in range(m)])]

    def rows(order: int, checked: Tensors, fine: Tensors, value: Callable[[Tensors], Vector], weights: Vector,
             tape: Callable[[Tensors], Gradients], variables: Tensors, graph: Gradients) -> list[Row]:
        try:
            gradients = tape(variables)
            shifted = [tape([fn.leaf(_host(t) * (1 + eps * rng.standard_normal(t.shape)), t.dtype) for t in variables]) for _ in range(2)]
            broken = ""
        except Exception as e:  # a rule that raises is a wrong rule
            broken = f"backward raised {type(e).__name__}: {str(e).partition(chr(10))[0]}"
        found, size = [], 0.0 if broken else float(np.linalg.norm(weights * value(fine)))
        for k, t in enumerate(checked):
            g = None if broken else gradients[k]
            if broken:
                result = np.inf, np.nan, "wrong", broken
            elif g is not None and (g.shape, g.dtype, g.backend) != (t.shape, t.dtype, t.backend):
                result = np.inf, np.nan, "wrong", f"the gradient is {describe(g)}, the input {describe(t)}"
            elif not t.size:
                result = 0.0, 0.0, "right", "empty"
            else:
                unit = _spread(_host(t))
                q = _measure(lambda x, k=k: value([*fine[:k], fn.leaf(x, fine[k].dtype), *fine[k + 1:]]), _host(t), weights,
                             _directions(t.size, max_elements, rng), fine_eps, tolerance or BASE[order])
                mine, *others = (unit * _flat([gs[k]], [t]) for gs in (gradients, *shifted))
                shaken = max(float(np.linalg.norm(q.project(other - mine))) for other in others)
                scale = size + unit * float(np.linalg.norm(weights))
                result = _judge(q, mine, shaken, t, order, eps, fine_eps, scale, tolerance)
                if graph and result[2] != "wrong":
                    second = _judge(q, unit * _flat([graph[k]], [t]), shaken, t, order, eps, fine_eps, scale, tolerance)
                    if second[2] == "wrong":
                        result = *second[:3], f"under create_graph=True: {second[3]}"
            found.append(Row(names[k], fn.at[k] if k < n else None, order, t.shape, *result))
        return found

    graph: Gradients = []
    if order == 2:
        try:
            graph = fn.pull(xs, vs, create_graph=True)
        except Exception:  # the rows of order 2 will say it
            pass
    found = rows(1, xs, fine_xs, lambda ts: _flat(fn.outputs(ts), fine_ys), _flat(vs, ys), lambda ts: fn.pull(ts[:n], ts[n:]), [*xs, *vs], graph)
    if order == 2:
        found += rows(2, [*xs, *vs], [*fine_xs, *fine_vs], lambda ts: _flat(fn.pull(ts[:n], ts[n:]), fine_xs), _flat(ws, xs),
                      lambda ts: fn.pull_twice(ts[:n], ts[n:n + m], ts[n + m:]), [*xs, *vs, *ws], [])
    return Report(tuple(found), note)
