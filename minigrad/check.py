"""Gradient checks with power: the tape's derivatives against difference quotients that know their own error.

    report = mg.gradcheck(f, [x, w], order=2)      # report: truthy if everything is right; print(report): a table

**The probe.** A random cotangent v turns f into φ(x) = Σ v·f(x), whose gradient is the vjp Jᵀv. A constant v would be blind:
Σ (x − mean x) = 0 whatever the backward does. Order 2 is the same check once more, for the map G(x, v) = Jᵀv that the tape
computes and a second random cotangent w: its derivatives are those of φ's Hessian (with respect to x) and Jw (with respect
to v). The tape's side comes from ``create_graph=True``, the quotients from the plain first-order backward.

**The quotient.** With Δₖ = φ(x + khd) − φ(x − khd) and Sₖ = φ(x + khd) − 2φ(x) + φ(x − khd), along a direction d,

    D₆ = (45Δ₁ − 9Δ₂ + Δ₃) / 60h       error h⁶φ⁽⁷⁾/140      (the 4th-order D₄ = (8Δ₁ − Δ₂) / 12h: h⁴φ⁽⁵⁾/30)
    |D₆ − D₄| = |5Δ₁ − 4Δ₂ + Δ₃| / 60h    and    |S₃ − 6S₂ + 15S₁| / 6h     (fifth and sixth differences)

The last two vanish for polynomials of degree 4 and 5, so they measure what is *not* the derivative: truncation, rounding
(as the noise estimates of Moré and Wild) and kinks. At a kink of jump J, φ = J|t|/2, the second one is exactly J/2, the
distance from D₆ to either one-sided derivative, and no h makes it smaller. First h ≈ ε^(1/5) in units of the input's own
spread, which balances D₄'s truncation against rounding ε/h; where the estimate is too large, other h are tried.
Small inputs are probed one element at a time, large ones along a few random directions (all elements take part) and at
some elements.

**The verdicts**, with relative errors ‖tape − quotient‖ / ‖quotient‖ for each input:

    right      error ≤ tolerance, and the quotient resolves at least 1e-3
    wrong      error > bound = tolerance + 4·(the quotient's own error): the tape is wrong, whatever rounding did
    rounding   neither: at this point (a kink, cancellation) the quotient or the dtype cannot tell
    no power   the true gradient is zero or drowned in rounding noise, so a backward that returns zeros would pass too

At order 2 an exactly zero derivative is "right", if the tape agrees: the first-order gradient, which order 1 has checked,
does not move at all (f is linear in that input).

Sources: Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids", Math. Comp. 51 (1988), table 1;
Moré and Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011); Press et al., Numerical Recipes, 5.7.
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
BASE = {1: 1e-7, 2: 1e-5}  # relative tolerance by order, before the dtype has its say
SAFETY = 4.0  # the quotient's error estimates may be short by this factor
SHAKEN = 16.0  # rounding errors of the tape's gradient, in units of its change when the inputs move by one ulp
COARSE = 1e-3  # a coarser comparison decides nothing
RUNGS = (1.0, 2.0**-5, 2.0**-10, 2.0**5, 2.0**-20)  # steps to try, in units of ε^(1/5)


@dataclass(frozen=True)
class Row:
    """One input at one order. `index` is its place among the inputs, None for a cotangent of the second order."""

    name: str
    index: int | None
    order: int
    shape: tuple[int, ...]
    error: float
    bound: float
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """What `gradcheck` found: `rows` for programs, ``print(report)`` for people. Truthy if every row is "right"."""

    rows: tuple[Row, ...]
    note: str = ""

    def __bool__(self) -> bool:
        return all(row.verdict == "right" for row in self.rows)

    def __str__(self) -> str:
        cells = [("input", "shape", "order", "error", "bound", "verdict", "")]
        cells += [(r.name, str(r.shape), str(r.order), f"{r.error:.1e}", f"{r.bound:.1e}", r.verdict, r.reason)
                  for r in self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in cells]
        return "\n".join([f"gradcheck: {'right' if self else 'NOT right'}{self.note and f' ({self.note})'}", *lines])

    __repr__ = __str__


class _Function:
    """f as a map from its floating inputs to its floating outputs, everything else held constant."""

    def __init__(self, f: Callable[..., Any], inputs: list[Any]) -> None:
        self.f, self.inputs = f, inputs
        self.at = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and backend.is_float(x.dtype)]
        if not self.at:
            raise error(TypeError, "gradcheck", got=f"the inputs {', '.join(map(describe, inputs)) or '()'}",
                        needs="at least one floating Tensor: nothing else has a gradient", fix="mg.tensor(values)")
        self.device = inputs[self.at[0]].backend

    def outputs(self, xs: Sequence[Tensor]) -> list[Tensor]:
        given = list(self.inputs)
        for i, x in zip(self.at, xs, strict=True):
            given[i] = x
        with _recording(True):
            y = self.f(*given)
        ys = list(y) if isinstance(y, (tuple, list)) else [y]
        if not all(isinstance(t, Tensor) for t in ys):
            raise error(TypeError, "gradcheck", got=f"f returned {', '.join(map(describe, ys))}", needs="a Tensor or a tuple",
                        fix="compute f with minigrad's ops on its arguments")
        if not any(backend.is_float(t.dtype) for t in ys):
            raise error(TypeError, "gradcheck", got=f"f returned {', '.join(map(describe, ys)) or 'nothing'}",
                        needs="a floating output", fix="integers and booleans have no derivative")
        return [t for t in ys if backend.is_float(t.dtype)]

    def pull(self, xs: Sequence[Tensor], vs: Sequence[Tensor], create_graph: bool = False) -> list[Tensor | None]:
        """Jᵀv, one for each floating input (None where f does not use it)."""
        return _pulled(self.outputs(xs), xs, vs, create_graph)

    def pull_twice(self, xs: Sequence[Tensor], vs: Sequence[Tensor], ws: Sequence[Tensor]) -> list[Tensor | None]:
        """The vjp, at w, of (x, v) ↦ Jᵀv."""
        first = self.pull(xs, vs, create_graph=True)
        used = [(g, w) for g, w in zip(first, ws, strict=True) if g is not None]
        return _pulled([g for g, _ in used], [*xs, *vs], [w for _, w in used], False)

    def leaf(self, values: Any, dtype: Any) -> Tensor:
        leaf = Tensor(backend.from_numpy(np.asarray(values).astype(dtype), self.device))
        leaf.requires_grad = True
        return leaf


def _pulled(ys: Sequence[Tensor], xs: Sequence[Tensor], vs: Sequence[Tensor], create_graph: bool) -> list[Tensor | None]:
    used = [(y, v) for y, v in zip(ys, vs, strict=True) if y.requires_grad]
    if not used:
        return [None] * len(xs)
    return list(grad([y for y, _ in used], xs, [v for _, v in used], create_graph=create_graph, allow_unused=True))


def _host(t: Tensor) -> Any:
    return backend.to_numpy(t._data).astype(np.float64)


def _flat(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> Vector:
    """All values as one host vector, zeros for None: what is summed on the host adds no rounding of the dtype."""
    return np.concatenate([np.zeros(t.size) if y is None else _host(y).ravel() for y, t in zip(tensors, like, strict=True)])


def _spread(x: Any) -> float:
    """The unit of length of an input, a power of two so that steps add without rounding."""
    size = float(np.sqrt(np.mean(x * x))) if x.size else 0.0
    unit = max(float(np.std(x)), size / 1024 if x.size > 1 else size)
    return float(2.0 ** np.round(np.log2(unit))) if 0 < unit < np.inf else 1.0


@dataclass
class _Quotients:
    """D₆ along each direction, its error, and the part of the error that is noise (grows as 1/h)."""

    along: list[int | Vector]  # an element's number, or a direction
    value: Vector
    error: Vector
    noise: Vector
    unused: bool = False  # nothing moved at all

    def project(self, gradient: Any) -> Vector:
        flat = gradient.ravel()
        return np.array([flat[d] if isinstance(d, int) else flat @ d for d in self.along])


def _directions(size: int, limit: int, rng: Any) -> list[int | Vector]:
    if size <= limit:
        return list(range(size))
    elements: list[int | Vector] = sorted(int(i) for i in rng.choice(size, max(1, limit // 4), replace=False))
    return elements + [np.rint(16 * rng.standard_normal(size)) / 16 for _ in range(8)]  # sixteenths: x + h·d is exact


def _measure(value: Callable[[Any], Vector], x: Any, v: Vector, along: list[int | Vector], eps: float, target: float) -> _Quotients:
    """Quotients of Σ v·value at `x` along each direction, in units of the input's spread.

    `value` gets the moved input and returns f's outputs as one vector. Differences are taken output by output before they
    are summed, so that what did not move adds no rounding. Along random directions a kink somewhere is likely for large
    inputs; of these the better resolved half is kept (chosen by their error estimate alone).
    """
    unit, base, centre = _spread(x), 2.0 ** round(np.log2(eps) / 5), value(x)
    count = len(along)
    best, errors, noise = np.zeros(count), np.full(count, np.inf), np.full(count, np.inf)
    steps = np.ones(count)

    def quotient(d: int | Vector, h: float) -> tuple[float, float]:
        direction = np.zeros(x.size) if isinstance(d, int) else d
        if isinstance(d, int):
            direction[d] = 1.0
        move = (h * unit) * direction.reshape(x.shape)
        plus, minus = [[value(x + sign * k * move) for k in (1, 2, 3)] for sign in (1, -1)]
        odd = [p - m for p, m in zip(plus, minus, strict=True)]
        even = [(p - centre) + (m - centre) for p, m in zip(plus, minus, strict=True)]
        moved = np.logical_or.reduce([a != 0 for a in odd + even])
        residues = (v * (5 * odd[0] - 4 * odd[1] + odd[2]) * (8 / 60), v * (even[2] - 6 * even[1] + 15 * even[0]) / 6)
        parts = [float(n) for r in residues for n in (np.sum(r), np.linalg.norm(r))]  # aligned (truncation), random (rounding)
        parts.append(eps * float(np.linalg.norm((v * centre)[moved])))
        return float(v @ (45 * odd[0] - 9 * odd[1] + odd[2])) / (60 * h), float(np.linalg.norm(parts)) / h

    for rung in RUNGS:
        h = base * rung
        enough = target * np.linalg.norm(best[np.isfinite(errors)]) / (10 * SAFETY * max(1, count) ** 0.5)
        for p in np.flatnonzero(~(errors <= enough)):
            try:
                q, e = quotient(along[p], h)
            except (ValueError, ArithmeticError):  # outside f's domain, for example no longer positive definite
                continue
            if np.isfinite(q) and np.isfinite(e):
                noise[p] = min(noise[p], e * h)
                if e < 0.5 * errors[p]:
                    best[p], errors[p], steps[p] = q, e, h
    random = [p for p, d in enumerate(along) if not isinstance(d, int)]
    dropped = set(sorted(random, key=lambda p: errors[p])[len(random) // 2:])
    kept = [p for p in range(count) if p not in dropped]
    unused = not best.any() and not errors.any()
    return _Quotients([along[p] for p in kept], best[kept], errors[kept], (noise / steps)[kept], unused)


def _judge(q: _Quotients, tape: Any, shaken: float, shape: tuple[int, ...], scale: float, order: int, eps: float,
           tolerance: float | None) -> tuple[float, float, str, str]:
    """(error, bound, verdict, reason) from quotients, the tape's gradient and its sensitivity to one ulp.

    `scale` is ‖v·f‖; all gradients are in units of the input's spread.
    """
    resolved = np.isfinite(q.error)
    a = np.where(resolved, q.project(tape), 0.0)
    where = [f"at {tuple(map(int, np.unravel_index(d, shape)))}: " if isinstance(d, int) else "along a random direction: " for d in q.along]
    if not np.isfinite(a).all():
        p = int(np.flatnonzero(~np.isfinite(a))[0])
        return np.inf, np.inf, "wrong", f"{where[p]}the tape's gradient is {a[p]}, the quotient {q.value[p]:.6g}"
    size, off = float(np.linalg.norm(q.value)), float(np.linalg.norm(a - q.value))
    unsure, rounding = SAFETY * float(np.linalg.norm(q.error)), SHAKEN * (shaken + eps * size)
    allowed = max(BASE[order] * size, rounding) if tolerance is None else tolerance * size
    limit = max(allowed, rounding) + unsure + (1e3 * eps * scale if size == 0 else 0.0)
    by_size = lambda e: e / size if size else 0.0 if e <= limit else np.inf
    numbers = by_size(off), limit / size if size else 0.0
    if off > limit:
        p = int(np.argmax(np.abs(a - q.value) - SAFETY * q.error))
        factor = float(a @ q.value) / size**2 if size else 0.0
        whole = f"tape = {factor:.6g} × quotient; " if np.linalg.norm(a - factor * q.value) <= 1e-2 * off and a.any() else ""
        return *numbers, "wrong", f"{whole}{where[p]}tape {a[p]:.6g}, quotient {q.value[p]:.6g}"
    if not resolved.any():
        return *numbers, "no power", "f is not finite around the point"
    if q.unused:
        if order == 2:
            return *numbers, "right", "exactly zero"
        return *numbers, "no power", "the true gradient is exactly zero here: f does not depend on this input"
    if size <= 10 * np.linalg.norm(q.noise):
        return *numbers, "no power", "the true gradient is lost in rounding: a backward that returns zeros would pass"
    if off <= allowed and limit <= max(COARSE, 128 * eps, tolerance or 0.0) * size:
        return *numbers, "right", ""
    if rounding > unsure:
        return *numbers, "rounding", f"{where[int(np.argmax(np.abs(a - q.value)))]}the tape's own rounding error may be {rounding / size:.1e}"
    p = int(np.argmax(q.error))
    return *numbers, "rounding", f"{where[p]}the quotient is sure to {SAFETY * q.error[p]:.1e} only: a kink near this point, or cancellation"


def gradcheck(f: Callable[..., Any], inputs: Sequence[Any] | Tensor, order: int = 1, seed: int = 0, *, tolerance: float | None = None,
              max_elements: int = 64) -> Report:
    """Compare the tape's derivatives of `f` with difference quotients, for all floating inputs, and say what is known.

    `f` is called many times on fresh variables with the values of `inputs`: their ``.grad`` and hooks are untouched, and
    Modules leave their running statistics alone meanwhile. `f` must be deterministic (checked by calling it twice): reseed
    inside `f`, or pass dropout masks as inputs.

    float32 and float16: the quotient is taken of `f` at the same point in float64 (in the inputs' dtype, with less power,
    if `f` refuses float64: the report says so). The tolerance is then 16·(ε + the relative change of the tape's gradient
    when inputs and cotangent move by one unit in the last place), which is its conditioning and its rounding noise at once.

    Args:
        f: takes `inputs`, returns a Tensor or a tuple of Tensors; integer outputs are ignored.
        inputs: floating Tensors (all are checked, whether or not they require grad); anything else is a constant.
        order: 1, or 2 for both orders; the second has rows for the derivative with respect to the cotangent too.
        seed: of cotangents and directions.
        tolerance: relative; default 1e-7 (order 1) and 1e-5 (order 2), or what the dtype and the conditioning allow.
        max_elements: inputs with more are probed along random directions and at a quarter as many elements.

    Returns:
        A `Report`. It is falsy not only for "wrong": "rounding" and "no power" mean that nothing was shown at this point;
        choose another point, or leave out inputs that `f` ignores. An empty input is "right": there is nothing to check.

    Raises:
        TypeError, ValueError: misuse only (no floating input, `f` returns no floating Tensor, order 3).

    >>> import minigrad as mg
    >>> x, w = mg.tensor([0.3, -1.2, 0.8], dtype="float64"), mg.tensor([2.0, 0.5, 1.0], dtype="float64")
    >>> bool(mg.gradcheck(lambda x, w: mg.tanh(x * w), [x, w], order=2))
    True
    >>> @mg.primitive(a=lambda g, out: g * (1.0 - out))      # the square is missing
    ... def wrong_tanh(xp, a): return xp.tanh(a)
    >>> [(row.name, row.verdict) for row in mg.gradcheck(lambda x, w: wrong_tanh(x) * w, [x, w]).rows]
    [('x', 'wrong'), ('w', 'right')]
    """
    if order not in (1, 2):
        raise error(ValueError, "gradcheck", got=f"order={order!r}", needs="1 or 2", fix="order 2 checks both orders")
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for x in given:
        if backend.is_array(x) and x.dtype.kind == "f":
            raise error(TypeError, "gradcheck", got=describe(x), needs="Tensors", fix="wrap it: mg.tensor(values)")
    before, state.checking = state.checking, True
    try:
        with np.errstate(all="ignore"):
            return _check(_Function(f, given), order, np.random.default_rng(seed), tolerance, max_elements)
    finally:
        state.checking = before


def _check(fn: _Function, order: int, rng: Any, tolerance: float | None, max_elements: int) -> Report:
    xs = []
    for i in fn.at:  # the very arrays of the caller, with their strides
        xs.append(Tensor(fn.inputs[i]._data))
        xs[-1].requires_grad = True
    names, note = _names(fn), ""
    ys, again = fn.outputs(xs), fn.outputs(xs)
    eps = max(float(np.finfo(t.dtype).eps) for t in [*xs, *ys])
    y, repeated = _flat(ys, ys), _flat(again, again)
    vs = [fn.leaf(rng.standard_normal(t.shape), t.dtype) for t in ys]
    ws = [fn.leaf(_spread(_host(x)) * rng.standard_normal(x.shape), x.dtype) for x in xs]
    del again
    why = ""
    if not np.isfinite(y).all():
        why = "f is not finite at this point"
    elif y.shape != repeated.shape or np.linalg.norm(y - repeated) > 1e3 * eps * np.linalg.norm(y):
        why = "not deterministic: two calls of f gave different values"
    if why:
        return Report(tuple(Row(n, i, 1, x.shape, np.nan, np.nan, "no power", why) for n, i, x in zip(names, fn.at, xs)))

    # the same point in float64, where quotients are sharp
    fine_xs, fine_ys = xs, ys
    if eps > np.finfo(np.float64).eps:
        try:
            fine_xs = [fn.leaf(_host(x), np.float64) for x in xs]
            fine_ys = fn.outputs(fine_xs)
        except Exception as e:  # whatever a function says that was not made for float64
            fine_xs, note = xs, f"quotients in the inputs' dtype, f refuses float64: {str(e).splitlines()[0]}"
    fine_vs = [fn.leaf(_host(v), t.dtype) for v, t in zip(vs, fine_ys, strict=True)]
    fine_eps = max(float(np.finfo(t.dtype).eps) for t in [*fine_xs, *fine_ys])

    def rows(order: int, checked: list[Tensor], names: list[str], fine: list[Tensor], value: Callable[[list[Tensor]], Vector],
             weights: Vector, tape: Callable[[list[Tensor]], list[Tensor | None]], variables: list[Tensor]) -> list[Row]:
        def row(k: int, *numbers: Any) -> Row:
            return Row(names[k], fn.at[k] if k < len(xs) else None, order, checked[k].shape, *numbers)

        try:
            gradients = tape(variables)
            nudged = [tape([fn.leaf(_host(t) * (1 + eps * rng.standard_normal(t.shape)), t.dtype) for t in variables]) for _ in range(2)]
        except Exception as e:  # a rule that raises is a wrong rule
            return [row(k, np.inf, np.nan, "wrong", f"backward raised {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
                    for k in range(len(checked))]
        scale, result = float(np.linalg.norm(weights * value(fine))), []
        for k, (t, g) in enumerate(zip(checked, gradients, strict=True)):
            if g is not None and (g.shape, g.dtype, g.backend) != (t.shape, t.dtype, t.backend):
                result.append(row(k, np.inf, np.nan, "wrong", f"the gradient is {describe(g)}, the input {describe(t)}"))
            elif not t.size:
                result.append(row(k, 0.0, 0.0, "right", "empty"))
            else:
                point, unit = _host(t), _spread(_host(t))
                along = _directions(t.size, max_elements, rng)
                moved = lambda x, k=k: value([*fine[:k], fn.leaf(x, fine[k].dtype), *fine[k + 1:]])
                q = _measure(moved, point, weights, along, fine_eps, tolerance or BASE[order])
                flat = [unit * _flat([s], [t]) for s in (g, *(other[k] for other in nudged))]
                shaken = max(float(np.linalg.norm(q.project(s - flat[0]))) for s in flat[1:])
                result.append(row(k, *_judge(q, flat[0], shaken, t.shape, scale, order, eps, tolerance)))
        return result

    n, m = len(xs), len(vs)
    found = rows(1, xs, names, fine_xs, lambda ts: _flat(fn.outputs(ts), fine_ys), _flat(vs, ys),
                 lambda ts: fn.pull(ts[:n], ts[n:]), [*xs, *vs])
    if order == 2:
        cotangents = ["v"] if m == 1 else [f"v[{j}]" for j in range(m)]
        second = rows(2, [*xs, *vs], names + cotangents, [*fine_xs, *fine_vs],
                      lambda ts: _flat(fn.pull(ts[:n], ts[n:]), fine_xs), _flat(ws, xs),
                      lambda ts: fn.pull_twice(ts[:n], ts[n:n + m], ts[n + m:]), [*xs, *vs, *ws])
        found += _same_first_order(fn, xs, vs, found, second)
    return Report(tuple(found), note)


def _same_first_order(fn: _Function, xs: list[Tensor], vs: list[Tensor], first: list[Row], second: list[Row]) -> list[Row]:
    """`second`, with "wrong" where create_graph=True changes the first-order gradient by more than rounding."""
    if any(row.reason.startswith("backward raised") for row in [*first, *second]):
        return second
    plain, taped = fn.pull(xs, vs), fn.pull(xs, vs, create_graph=True)
    for k, (x, a, b) in enumerate(zip(xs, plain, taped, strict=True)):
        a, b = _flat([a], [x]), _flat([b], [x])
        off, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(a))
        if first[k].verdict in ("right", "wrong") and not off <= max(BASE[1], first[k].bound) * size:
            reason = f"create_graph=True gives another first-order gradient (off by {off / size if size else np.inf:.1e})"
            second[k] = Row(second[k].name, second[k].index, 2, x.shape, off / size if size else np.inf, first[k].bound, "wrong", reason)
    return second


def _names(fn: _Function) -> list[str]:
    """What f calls its inputs, if it says so."""
    try:
        parameters = [p.name for p in inspect.signature(fn.f).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        parameters = []
    return [parameters[i] if i < len(parameters) else f"input {i}" for i in fn.at]
