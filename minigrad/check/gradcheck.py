"""Gradient checks with power: the tape's derivatives against difference quotients that know their own error.

    report = mg.gradcheck(f, [x, w], order=2)      # truthy if everything is right; print(report) shows a table

**The probe.** A random cotangent v turns f into φ(x) = Σ v·f(x), whose gradient is the vjp Jᵀv. A constant v would be
blind: Σ (x − mean x) is 0 whatever the backward does. Order 2 is the same check once more, of the map (x, v) ↦ Jᵀv with
a second random cotangent w: ∂/∂x is a product with φ's Hessian, ∂/∂v is Jw. The tape's side uses ``create_graph=True``,
the quotients the plain first-order backward.

**The quotient.** Let Δₖ = φ(x + khd) − φ(x − khd) and Sₖ = φ(x + khd) − 2φ(x) + φ(x − khd) along a direction d. Then

    D₆ = (45Δ₁ − 9Δ₂ + Δ₃) / 60h     has the error h⁶φ⁽⁷⁾/140;  D₄ = (8Δ₁ − Δ₂) / 12h  has h⁴φ⁽⁵⁾/30;
    |D₆ − D₄| = |5Δ₁ − 4Δ₂ + Δ₃| / 60h   and   |S₃ − 6S₂ + 15S₁| / 6h   are fifth and sixth differences.

The last two vanish for polynomials of degree 4 and 5, so they measure what is *not* derivative: truncation, rounding
noise (as Moré and Wild do) and kinks. At a kink φ = J|t|/2 the second is J/2, the distance from D₆ to either one-sided
derivative, for every h. The first h is ε^(1/5) of the input's spread, which balances D₄'s truncation with the rounding
ε/h; where the estimate is too large other h are tried. Small inputs are probed element by element, large ones along
random directions (all elements take part) and at some elements.

**The verdicts**, with errors ‖tape − quotient‖ / ‖quotient‖ for each input:

    right      error ≤ tolerance, and the comparison is sure to 1e-3
    wrong      error > bound = tolerance + 4·(the quotient's own error): whatever rounding did, the tape is wrong
    rounding   neither: at this point (a kink, cancellation) the quotient or the dtype cannot tell
    no power   the true gradient is zero or lost in rounding noise: a backward that returns zeros would pass too

At order 2 an exactly zero derivative is "right": the first-order gradient, which order 1 has checked, does not move at
all with that input, because f is (piecewise) linear in it.

Sources: Fornberg [fornberg1988], table 1, for the quotients; Moré and Wild [more2011] for the noise; Press et al. [press2007], 5.7.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..core import backend
from ..core.backend import np
from ..core.engine import _recording, grad
from ..core.errors import describe, error
from ..core.tensor import Tensor, state

Vector = Any  # a flat float64 NumPy array
Tensors = list[Tensor]
Gradients = Sequence[Tensor | None]
Verdict = tuple[float, float, str, str]  # error, bound, verdict, reason

BASE = {1: 1e-7, 2: 1e-5}  # relative tolerance of each order, where dtype and conditioning allow it
SAFETY = 4.0  # how much the quotient's error may exceed its estimate
SHAKEN = 16.0  # rounding error of the tape's gradient, in units of its change when all inputs move by one ulp
COARSE = 1e-3  # a coarser comparison shows nothing
RUNGS = (1.0, 2.0**-5, 2.0**-10, 2.0**5, 2.0**-20)  # steps to try, in units of ε^(1/5)


@dataclass(frozen=True)
class GradcheckRow:
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
class GradcheckReport:
    """What `gradcheck` found: `rows` for programs, ``print(report)`` for people. Truthy if every row is "right"."""

    rows: tuple[GradcheckRow, ...]
    note: str = ""

    def __bool__(self) -> bool:
        return all(row.verdict == "right" for row in self.rows)

    def __repr__(self) -> str:
        table = [("input", "shape", "order", "error", "bound", "verdict")]
        for r in self.rows:
            table.append((r.name, str(r.shape), str(r.order), f"{r.error:.1e}", f"{r.bound:.1e}", r.verdict))
        widths = [max(map(len, column)) for column in zip(*table)]
        head = f"gradcheck: {'right' if self else 'NOT right'}{self.note and f' ({self.note})'}"
        reasons = ["", *(r.reason for r in self.rows)]
        lines = ["  ".join([*map(str.ljust, cells, widths), why]).rstrip() for cells, why in zip(table, reasons)]
        return "\n".join([head, *lines])


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
            parameters = list(inspect.signature(f).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.names = [names[i] if i < len(names) else f"input {i}" for i in self.at]

    def outputs(self, xs: Tensors) -> Tensors:
        given = list(self.inputs)
        for i, x in zip(self.at, xs):
            given[i] = x
        with _recording(True):
            y = self.f(*given)
        ys = list(y) if isinstance(y, (tuple, list)) else [y]
        floating = [t for t in ys if isinstance(t, Tensor) and backend.is_float(t.dtype)]
        if not floating or not all(isinstance(t, Tensor) for t in ys):
            raise error(TypeError, "gradcheck", got=f"an f that returns {', '.join(map(describe, ys)) or '()'}",
                        needs="a floating Tensor, or a tuple of Tensors", fix="compute with minigrad's ops")
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
    used = [(y, v) for y, v in zip(ys, vs) if y is not None and y.requires_grad]
    if not used:
        return [None] * len(xs)
    return grad([y for y, _ in used], xs, [v for _, v in used], create_graph=create_graph, allow_unused=True)


def _host(t: Tensor) -> Any:
    return backend.to_numpy(t._data).astype(np.float64)


def _flat(tensors: Gradients, like: Tensors) -> Vector:
    """All values as one float64 vector, zeros for None. Sums over it add no rounding of the Tensors' dtype."""
    return np.concatenate([np.zeros(t.size) if y is None else _host(y).ravel() for y, t in zip(tensors, like)])


def _spread(x: Any) -> float:
    """The unit of length of an input: a power of two, so that adding multiples of it is exact."""
    size = float(np.sqrt(np.mean(x * x))) if x.size else 0.0
    unit = max(float(np.std(x)), size / 1024) if x.size > 1 else size
    return float(2.0 ** np.round(np.log2(unit))) if 0 < unit < np.inf else 1.0


@dataclass
class _Quotients:
    """D₆ along each direction, in units of the input's spread, and what is known about its error."""

    along: list[int | Vector]  # an element's number, or a direction
    value: Vector
    error: Vector
    noise: Vector  # in φ itself: at most this
    h: Vector

    def project(self, gradient: Vector) -> Vector:
        return np.array([gradient[d] if isinstance(d, int) else gradient @ d for d in self.along])


def _directions(size: int, limit: int, rng: Any) -> list[int | Vector]:
    if size <= limit:
        return list(range(size))
    elements: list[int | Vector] = sorted(int(i) for i in rng.choice(size, max(1, limit // 4), replace=False))
    return elements + [np.rint(16 * rng.standard_normal(size)) / 16 for _ in range(8)]  # sixteenths: x + hd is exact


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
    parts = [part for r in residues for part in (np.sum(r), np.linalg.norm(r))]
    parts.append(eps * np.linalg.norm((v * centre)[moved]))
    return float(v @ (45 * odd[0] - 9 * odd[1] + odd[2])) / (60 * h), float(np.linalg.norm(parts)) / h


def _measure(value: Callable[[Any], Vector], x: Any, v: Vector, along: list[int | Vector], eps: float,
             target: float) -> _Quotients:
    """Quotients of Σ v·value at `x` along each direction, with the best of several h for each."""
    centre, unit, count, first = value(x), _spread(x), len(along), 2.0 ** round(np.log2(eps) / 5)
    best, steps, errors, noise = np.zeros(count), np.ones(count), np.full(count, np.inf), np.full(count, np.inf)
    moved = np.zeros((count, v.size), bool)
    for rung in (*RUNGS, None):  # None: in units of the element's own size
        typical = float(np.linalg.norm(best)) / count**0.5
        for p in np.flatnonzero(~(errors <= target * typical / (10 * SAFETY))):
            d = along[p]
            direction = np.eye(1, x.size, d) if isinstance(d, int) else d
            reach = float(np.abs(x.ravel()[direction.ravel() != 0]).max(initial=0.0)) / unit
            h = first * (rung or (reach if isinstance(d, int) else 0.0))
            if h < 64 * eps * reach or h == 0:
                continue  # x + hd would be rounded
            step = h * unit * direction.reshape(x.shape)
            try:
                values = [value(x + k * step) if k else centre for k in range(-3, 4)]
            except (ValueError, ArithmeticError):  # outside f's domain, for example no longer positive definite
                continue
            q, e = _quotient(values, h, v, eps, moved[p])
            if np.isfinite(q) and np.isfinite(e):
                noise[p] = min(noise[p], e * h)
                if e < 0.5 * errors[p]:
                    best[p], errors[p], steps[p] = q, e, h
    # somewhere in a large input a random direction may well meet a kink: the better resolved half of them is enough
    random = sorted((p for p, d in enumerate(along) if not isinstance(d, int)), key=lambda p: errors[p])
    kept = [p for p in range(count) if p not in random[len(random) // 2:]]
    return _Quotients([along[p] for p in kept], best[kept], errors[kept], noise[kept], steps[kept])


@dataclass
class _Judge:
    """What decides on all gradients of one input at one order."""

    q: _Quotients
    shape: tuple[int, ...]
    order: int
    tolerance: float | None
    eps: float  # of the dtype that is checked
    fine_eps: float  # of the dtype of the quotients
    shaken: float  # how far the tape's gradient moves when everything moves by one ulp
    drift: float  # how far it is from the same rules' gradient in float64
    scale: float  # size of φ's terms and of the input in them

    def at(self, p: Any) -> str:
        d = self.q.along[int(p)]
        return f"at {tuple(map(int, np.unravel_index(d, self.shape)))}" if isinstance(d, int) else "in a random direction"

    def __call__(self, tape: Vector) -> Verdict:
        q, ulps = self.q, 1e3 * self.eps * self.scale
        resolved = np.isfinite(q.error)
        a = np.where(resolved, tape, 0.0)
        gap = np.abs(a - q.value)
        size, off = float(np.linalg.norm(q.value)), float(np.linalg.norm(gap))
        unsure = SAFETY * float(np.linalg.norm(q.error))
        rounding = SHAKEN * (self.shaken + self.eps * size)
        allowed = max(BASE[self.order] * size, rounding) if self.tolerance is None else self.tolerance * size
        lost = rounding + min(2 * self.drift, ulps)  # rules that are right in float64 may lose digits, up to a point
        # unlike the estimate, what one ulp of intermediate values does to a quotient cannot be small by luck
        grain = SAFETY * self.fine_eps * self.scale * float(np.linalg.norm(1 / q.h))
        limit = max(allowed, lost) + unsure + grain + (0.0 if size else ulps)
        coarse = max(COARSE, 128 * self.eps, self.tolerance or 0.0) * size
        error, bound = (off / size, limit / size) if size else (0.0 if off <= limit else np.inf, 0.0)
        error = np.inf if np.isnan(error) else error
        if not off <= limit:
            p = np.argmax(np.where(np.isfinite(gap), gap - SAFETY * q.error, np.inf))
            factor = float(a @ q.value) / size**2 if size else 0.0
            multiple = a.any() and np.linalg.norm(a - factor * q.value) <= 1e-2 * off
            where = f"{self.at(p)}: tape {a[p]:.6g}, quotient {q.value[p]:.6g}"
            return error, bound, "wrong", f"tape = {factor:.6g} × truth; {where}" if multiple else where
        if not resolved.all():
            verdict = "rounding" if resolved.any() else "no power"
            return error, bound, verdict, f"{self.at(np.argmin(resolved))}: f is not finite around this point"
        if size == 0 and self.order == 2 and off <= ulps and unsure <= BASE[2] * self.scale:
            return error, bound, "right", "exactly zero: the gradient does not move with it"
        if size == 0 and unsure == 0:
            return error, bound, "no power", "exactly zero: f does not move with it, so a backward of zeros would pass"
        jump = q.noise.max() > self.fine_eps**0.5 * self.scale  # too much for rounding
        if size <= 10 * np.linalg.norm(q.noise / q.h) and not jump:
            return error, bound, "no power", "the true gradient is lost in rounding, so a backward of zeros would pass"
        if off <= min(allowed, coarse) and unsure <= coarse:
            return error, bound, "right", ""
        if lost > unsure:
            where = self.at(np.argmax(gap))
            return error, bound, "rounding", f"{where}: rounding in the tape's gradient may reach {lost / size:.1e}"
        where = self.at(np.argmax(q.error))
        return error, bound, "rounding", f"{where}: the quotient is only sure to {unsure / size:.1e}: a kink, or cancellation"


def gradcheck(f: Callable[..., Any], inputs: Sequence[Any] | Tensor, order: int = 1, seed: int = 0, *,
              tolerance: float | None = None, max_elements: int = 64) -> GradcheckReport:
    """Compare the tape's derivatives of `f` with difference quotients, for all floating inputs, and say what is known.

    `f` is called many times, on fresh variables with the values of `inputs`: their ``.grad`` and hooks are untouched,
    and Modules leave their running statistics alone meanwhile. `f` must be deterministic (it is called twice to see):
    reseed inside `f`, or make a dropout mask an input.

    float32 and float16: quotients are those of `f` at the same point in float64 (or in the inputs' dtype, with less power,
    where `f` refuses float64: the report says so). The tolerance is then 16·(ε + the change of the tape's gradient when
    inputs and cotangent move by one unit in the last place), which holds its conditioning and its rounding noise. What
    is worse, but only in this dtype and not in float64, is "rounding", not "wrong".

    Args:
        f: takes `inputs`, returns a Tensor or a tuple of Tensors; its integer outputs are ignored.
        inputs: floating Tensors (all are checked, whether or not they require grad); anything else is a constant.
        order: 1, or 2 for both orders; the second also has a row for the derivative with respect to each cotangent.
        seed: of the cotangents and directions.
        tolerance: relative; default 1e-7 (order 1) and 1e-5 (order 2), or what the dtype and the conditioning allow.
        max_elements: larger inputs are probed along random directions, and at a quarter as many elements.

    Returns:
        A `GradcheckReport`. It is falsy not only for "wrong": "rounding" and "no power" say that nothing was shown. Choose
        another point then, or make an input that `f` ignores a constant. An empty input is "right": there is nothing to
        check.

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
    # a stream of its own: default_rng(seed) may have made the inputs, and v = x is blind to a normalizer's backward
    rng = np.random.default_rng([seed, ord("v")])
    before, state.checking = state.checking, True
    try:
        with np.errstate(all="ignore"):
            return _check(fn, order, rng, tolerance, max_elements)
    finally:
        state.checking = before


def _check(fn: _Function, order: int, rng: Any, tolerance: float | None, max_elements: int) -> GradcheckReport:
    xs = [Tensor(fn.inputs[i]._data) for i in fn.at]  # the very arrays of the caller, with their strides
    for x in xs:
        x.requires_grad = True
    ys, note, why = fn.outputs(xs), "", ""
    eps = _eps([*xs, *ys])
    y, again = _flat(ys, ys), _flat(*[fn.outputs(xs)] * 2)
    if not np.isfinite(y).all():
        why = "f is not finite at this point"
    elif y.shape != again.shape or np.linalg.norm(y - again) > 1e3 * eps * np.linalg.norm(y):
        why = "not deterministic: two calls of f gave different values"
    if why:
        return GradcheckReport(tuple(GradcheckRow(name, i, 1, x.shape, np.nan, np.nan, "no power", why)
                            for name, i, x in zip(fn.names, fn.at, xs)))

    vs = [fn.leaf(rng.standard_normal(t.shape), t.dtype) for t in ys]
    ws = [fn.leaf(_spread(_host(x)) * rng.standard_normal(x.shape), x.dtype) for x in xs]  # x's own units: terms alike
    fine_xs, fine_ys = xs, ys  # the same point in float64, where quotients are sharp
    if eps > np.finfo(np.float64).eps:
        try:
            lifted = [fn.leaf(_host(x), np.float64) for x in xs]
            fine_xs, fine_ys = lifted, fn.outputs(lifted)
        except Exception as e:  # whatever a function says that was not made for float64
            note = f"quotients in the inputs' dtype, because f refuses float64: {_headline(e)}"
    like = [*fine_xs, *fine_ys, *fine_xs]
    own = [*xs, *vs, *ws]
    fine = [fn.leaf(_host(t), model.dtype) for t, model in zip(own, like)]
    n, m = len(xs), len(vs)
    names = [*fn.names, *(["v"] if m == 1 else [f"v[{j}]" for j in range(m)])]

    def rows(order: int, count: int, value: Callable[[Tensors], Vector], weights: Vector,
             tape: Callable[[Tensors], Gradients], graph: Gradients) -> list[GradcheckRow]:
        """Check the first `count` variables of ``value(variables)``, whose vjp at `weights` is ``tape(variables)``."""

        def shifted() -> Gradients:
            return tape([fn.leaf(_host(t) * (1 + eps * rng.standard_normal(t.shape)), t.dtype) for t in own])

        def result(k: int) -> Verdict:
            t, g = own[k], gradients[k]
            if g is not None and (g.shape, g.dtype, g.backend) != (t.shape, t.dtype, t.backend):
                return np.inf, np.nan, "wrong", f"the gradient is {describe(g)}, the input {describe(t)}"
            if not t.size:
                return 0.0, 0.0, "right", "empty"
            unit = _spread(_host(t))
            q = _measure(lambda x: value([*fine[:k], fn.leaf(x, fine[k].dtype), *fine[k + 1:]]), _host(t), weights,
                         _directions(t.size, max_elements, rng), _eps(like), tolerance or BASE[order])
            flat, exact, *others = (q.project(unit * _flat([gs[k]], [t])) for gs in (gradients, in_float64, *moved))
            judge = _Judge(q, t.shape, order, tolerance, eps, _eps(like), drift=float(np.linalg.norm(exact - flat)),
                           shaken=max(float(np.linalg.norm(other - flat)) for other in others),
                           scale=size + unit * float(np.linalg.norm(weights)))
            verdict = judge(flat)
            if graph and verdict[2] != "wrong":
                *numbers, second, reason = judge(q.project(unit * _flat([graph[k]], [t])))
                if second == "wrong":
                    return numbers[0], numbers[1], second, f"under create_graph=True: {reason}"
            return verdict

        broken = ""
        try:
            gradients, in_float64, moved = tape(own), tape(fine), [shifted(), shifted()]
            size = float(np.linalg.norm(weights * value(fine)))
        except Exception as e:  # a rule that raises is a wrong rule
            broken = f"backward raised {_headline(e)}"
        return [GradcheckRow(names[k], fn.at[k] if k < n else None, order, own[k].shape,
                    *((np.inf, np.nan, "wrong", broken) if broken else result(k))) for k in range(count)]

    graph: Gradients = []
    if order == 2:
        try:
            graph = fn.pull(xs, vs, create_graph=True)
        except Exception:  # the rows of order 2 will say it
            pass
    found = rows(1, n, lambda ts: _flat(fn.outputs(ts[:n]), ys), _flat(vs, ys),
                 lambda ts: fn.pull(ts[:n], ts[n:n + m]), graph)
    if order == 2:
        found += rows(2, n + m, lambda ts: _flat(fn.pull(ts[:n], ts[n:n + m]), xs), _flat(ws, xs),
                      lambda ts: fn.pull_twice(ts[:n], ts[n:n + m], ts[n + m:]), [])
    return GradcheckReport(tuple(found), note)


def _eps(tensors: Tensors) -> float:
    return max(float(np.finfo(t.dtype).eps) for t in tensors)


def _headline(e: Exception) -> str:
    return f"{type(e).__name__}: {str(e).partition(chr(10))[0]}"
