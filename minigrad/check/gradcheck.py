"""Gradient checks with power: the tape's derivatives against difference quotients that know their own error.

    report = mg.gradcheck(f, [x, w], order=2)      # truthy if everything is right; print(report) shows a table

**The probe.** A random cotangent v turns f into φ(x) = Σ v·f(x), whose gradient is the vjp Jᵀv. A constant v would be
blind: Σ (x − mean x) is 0 whatever the backward does. Order 2 is the same check once more, of the map (x, v) ↦ Jᵀv with
a second random cotangent w: ∂/∂x is a product with φ's Hessian, ∂/∂v is Jw. The tape's side uses ``create_graph=True``,
the quotients the plain first-order backward.

**The verdict** on each input, "right", "wrong", "rounding" or "no power", is explained in verdict.py, and how the quotients know
their own error in quotients.py.
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
from .quotients import Vector, directions, measure, spread
from .verdict import BASE, Judge, Verdict

Tensors = list[Tensor]
Gradients = Sequence[Tensor | None]


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


@dataclass
class _Point:
    """Where f is checked: its inputs, the cotangents of its outputs, and those of its gradients (for second order)."""

    fn: _Function
    own: Tensors  # xs, vs, ws: n inputs, m cotangents, n more
    fine: Tensors  # the same in float64, where quotients are sharp
    xs: Tensors
    ys: Tensors
    eps: float  # of the dtype that is checked
    fine_eps: float  # of the dtype of the quotients
    note: str

    @classmethod
    def drawn(cls, fn: _Function, xs: Tensors, ys: Tensors, rng: Any) -> _Point:
        """The point `xs`, with random cotangents."""
        vs = [fn.leaf(rng.standard_normal(t.shape), t.dtype) for t in ys]
        ws = [fn.leaf(spread(_host(x)) * rng.standard_normal(x.shape), x.dtype) for x in xs]  # x's own units: terms alike
        eps, note, fine_xs, fine_ys = _eps([*xs, *ys]), "", xs, ys
        if eps > np.finfo(np.float64).eps:
            try:
                lifted = [fn.leaf(_host(x), np.float64) for x in xs]
                fine_xs, fine_ys = lifted, fn.outputs(lifted)
            except Exception as e:  # whatever a function says that was not made for float64
                note = f"quotients in the inputs' dtype, because f refuses float64: {_headline(e)}"
        own, like = [*xs, *vs, *ws], [*fine_xs, *fine_ys, *fine_xs]
        return cls(fn, own, [fn.leaf(_host(t), model.dtype) for t, model in zip(own, like)], xs, ys, eps, _eps(like), note)

    @property
    def names(self) -> list[str]:
        m = len(self.ys)
        return [*self.fn.names, *(["v"] if m == 1 else [f"v[{j}]" for j in range(m)])]

    def shaken(self, rng: Any) -> Tensors:
        """The point with every element moved by about one ulp."""
        return [self.fn.leaf(_host(t) * (1 + self.eps * rng.standard_normal(t.shape)), t.dtype) for t in self.own]


@dataclass
class _Order:
    """The check of one order: of the first `count` variables of ``value(variables)``, whose vjp at `weights` is ``tape(variables)``."""

    number: int
    count: int
    value: Callable[[Tensors], Vector]
    weights: Vector
    tape: Callable[[Tensors], Gradients]
    graph: Gradients = ()  # what the tape gives under create_graph=True, if that is to be the same


@dataclass
class _Taped:
    """The tape's gradients at one point."""

    own: Gradients
    fine: Gradients
    shaken: list[Gradients]
    size: float  # of the terms of Σ weights·value


def _check(fn: _Function, order: int, rng: Any, tolerance: float | None, max_elements: int) -> GradcheckReport:
    xs = [Tensor(fn.inputs[i]._data) for i in fn.at]  # the very arrays of the caller, with their strides
    for x in xs:
        x.requires_grad = True
    ys = fn.outputs(xs)
    why = _why_not(fn, xs, ys)
    if why:
        return GradcheckReport(tuple(GradcheckRow(name, i, 1, x.shape, np.nan, np.nan, "no power", why)
                            for name, i, x in zip(fn.names, fn.at, xs)))
    point = _Point.drawn(fn, xs, ys, rng)
    n, m = len(xs), len(ys)
    vs, ws = point.own[n:n + m], point.own[n + m:]
    graph: Gradients = ()
    if order == 2:
        try:
            graph = fn.pull(xs, vs, create_graph=True)
        except Exception:  # the rows of order 2 will say it
            pass
    orders = [_Order(1, n, lambda ts: _flat(fn.outputs(ts[:n]), ys), _flat(vs, ys), lambda ts: fn.pull(ts[:n], ts[n:n + m]), graph)]
    if order == 2:
        orders.append(_Order(2, n + m, lambda ts: _flat(fn.pull(ts[:n], ts[n:n + m]), xs), _flat(ws, xs),
                             lambda ts: fn.pull_twice(ts[:n], ts[n:n + m], ts[n + m:])))
    return GradcheckReport(tuple(row for each in orders for row in _rows(point, each, rng, tolerance, max_elements)), point.note)


def _why_not(fn: _Function, xs: Tensors, ys: Tensors) -> str:
    """Why f cannot be checked at this point, if so."""
    y, again = _flat(ys, ys), _flat(*[fn.outputs(xs)] * 2)
    if not np.isfinite(y).all():
        return "f is not finite at this point"
    if y.shape != again.shape or np.linalg.norm(y - again) > 1e3 * _eps([*xs, *ys]) * np.linalg.norm(y):
        return "not deterministic: two calls of f gave different values"
    return ""


def _rows(point: _Point, order: _Order, rng: Any, tolerance: float | None, max_elements: int) -> list[GradcheckRow]:
    broken = ""
    try:
        taped = _Taped(order.tape(point.own), order.tape(point.fine), [order.tape(point.shaken(rng)), order.tape(point.shaken(rng))],
                       float(np.linalg.norm(order.weights * order.value(point.fine))))
    except Exception as e:  # a rule that raises is a wrong rule
        broken = f"backward raised {_headline(e)}"
    at = [*point.fn.at, *[None] * len(point.ys)]
    return [GradcheckRow(point.names[k], at[k], order.number, point.own[k].shape,
                *((np.inf, np.nan, "wrong", broken) if broken else _verdict(point, order, taped, k, rng, tolerance, max_elements)))
            for k in range(order.count)]


def _verdict(point: _Point, order: _Order, taped: _Taped, k: int, rng: Any, tolerance: float | None, max_elements: int) -> Verdict:
    """That on the gradient of variable number `k`."""
    t, g, fine = point.own[k], taped.own[k], point.fine
    if g is not None and (g.shape, g.dtype, g.backend) != (t.shape, t.dtype, t.backend):
        return np.inf, np.nan, "wrong", f"the gradient is {describe(g)}, the input {describe(t)}"
    if not t.size:
        return 0.0, 0.0, "right", "empty"
    unit = spread(_host(t))
    q = measure(lambda x: order.value([*fine[:k], point.fn.leaf(x, fine[k].dtype), *fine[k + 1:]]), _host(t), order.weights,
                directions(t.size, max_elements, rng), point.fine_eps, tolerance or BASE[order.number])
    flat, exact, *moved = (q.project(unit * _flat([gs[k]], [t])) for gs in (taped.own, taped.fine, *taped.shaken))
    judge = Judge(q, t.shape, order.number, tolerance, point.eps, point.fine_eps, drift=float(np.linalg.norm(exact - flat)),
                  shaken=max(float(np.linalg.norm(other - flat)) for other in moved),
                  scale=taped.size + unit * float(np.linalg.norm(order.weights)))
    verdict = judge(flat)
    if order.graph and verdict[2] != "wrong":
        error, bound, second, reason = judge(q.project(unit * _flat([order.graph[k]], [t])))
        if second == "wrong":
            return error, bound, second, f"under create_graph=True: {reason}"
    return verdict


def _eps(tensors: Tensors) -> float:
    return max(float(np.finfo(t.dtype).eps) for t in tensors)


def _headline(e: Exception) -> str:
    return f"{type(e).__name__}: {str(e).partition(chr(10))[0]}"
