"""One table for all tests of the ops: what is called, on which inputs, and which NumPy expression has the same value.

A case calls its op as ``f(m, *inputs)`` with m = minigrad. Where NumPy has the function, the same `f` with m = numpy is
the reference (`SAME`), else a function of the NumPy inputs is given; None only for derivatives of other cases' ops.
Inputs are made by a seeded generator, away from kinks, ties and singularities, so that a difference quotient means
something; what happens *at* those places is tested by name in test_ops.py.

`CASES` has at least one case for every primitive with a rule and for every public op, `CONSTANTS` one for every
primitive without a rule.
"""

import importlib
import math
import pkgutil
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad.core.plan import registry
from minigrad.kernels import pool
from minigrad.ops import linalg, losses, neural, reduce, shape
from minigrad.ops.elementwise import _gate, _zeros, as_floating

for _module in pkgutil.walk_packages(mg.__path__, "minigrad."):
    importlib.import_module(_module.name)  # so that every primitive is registered
PRIMITIVES = dict(registry)  # as it is now: examples in docstrings, when they are run, register their own ops

SAME = "the same function of numpy"


class Case(NamedTuple):
    """One call of one op."""

    op: str  # the primitive's name in the registry, or the public function's where it is composed of several
    name: str  # what is special about this call
    f: Callable[..., Any]  # f(m, *inputs) -> Tensor, or a tuple of Tensors
    inputs: Callable[[np.random.Generator], list[np.ndarray]]  # float64
    reference: Any = SAME
    condition: float = 1.0  # how much more than the inputs' relative error the result's is
    order: int = 2  # how often the rule can be differentiated
    half: bool = True  # does the case make sense in float16?
    tolerance: float | None = None  # of the difference quotients, where they are not as sharp as float64

    @property
    def id(self) -> str:
        return f"{self.op}: {self.name}".replace("-", "−").replace("[", "(").replace("]", ")")

    def arrays(self, dtype: Any = np.float64) -> list[np.ndarray]:
        """The inputs, the same in every run. (In float32 and float16: rounded, so they have a float64 twin.)"""
        return [np.asarray(a, dtype) for a in self.inputs(np.random.default_rng(zlib.crc32(self.id.encode())))]

    def expected(self, arrays: list[np.ndarray]) -> Any:
        """What NumPy says, or None."""
        with np.errstate(all="ignore"):
            return self.f(np, *arrays) if self.reference is SAME else self.reference and self.reference(*arrays)


# -- inputs -------------------------------------------------------------------------------------------------------------


def normal(*shapes):
    return lambda rng: [np.asarray(rng.standard_normal(s)) for s in shapes]


def uniform(low, high, *shapes):
    return lambda rng: [np.asarray(rng.uniform(low, high, s)) for s in shapes]


def away_from_zero(*shapes):
    """Both signs (the first element is positive), 0.25 ≤ |x| ≤ 2."""
    signs = lambda rng, s: np.where(np.arange(np.prod(s, dtype=int)).reshape(s) == 0, 1.0, rng.choice([-1.0, 1.0], s))
    return lambda rng: [np.asarray(rng.uniform(0.25, 2, s) * signs(rng, s)) for s in shapes]


def distinct(*shapes):
    """No two elements of all arrays together are closer than 1/8, none is 0 or near an odd multiple of 1/32."""
    def make(rng):
        sizes = [int(np.prod(s)) for s in shapes]
        values = (rng.permutation(sum(sizes)) - sum(sizes) // 2) / 8 + 1 / 64
        return [v.reshape(s) for v, s in zip(np.split(values, np.cumsum(sizes)[:-1]), shapes, strict=True)]
    return make


def matrices(*shapes):
    """(..., n, n) with singular values from 1 to 2: well conditioned, not symmetric."""
    return lambda rng: [_with_singular_values(rng, s, np.linspace(1, 2, s[-1])) for s in shapes]


def _with_singular_values(rng, shape_, s):
    u, _, vt = np.linalg.svd(rng.standard_normal(shape_))
    return (u * s) @ vt


def positive_definite(*shapes, eigenvalues=None):
    """(..., n, n), symmetric, by default with eigenvalues from 1 to 3."""
    def make(rng):
        result = []
        for s in shapes:
            q = np.linalg.qr(rng.standard_normal(s))[0]
            a = (q * (np.linspace(1, 3, s[-1]) if eigenvalues is None else np.array(eigenvalues))) @ np.swapaxes(q, -1, -2)
            result.append((a + np.swapaxes(a, -1, -2)) / 2)
        return result
    return make


def both(*makers):
    """The inputs of several makers one after the other."""
    return lambda rng: [a for make in makers for a in make(rng)]


def like(x, values):
    """A constant beside `x`: of its library and backend; floating values get its dtype (float32 beside integers)."""
    values = np.asarray(values)
    if values.dtype.kind == "f":
        values = values.astype(x.dtype if x.dtype.kind == "f" else "float32")
    return mg.tensor(values, backend=x.backend) if isinstance(x, mg.Tensor) else values


CASES: list[Case] = []
CONSTANTS: list[Case] = []


def case(op, name, f, inputs, reference=SAME, **more):
    CASES.append(Case(op, name, f, inputs, reference, **more))


def constant(op, name, f, inputs, reference=SAME):
    CONSTANTS.append(Case(op, name, f, inputs, reference))


SHAPES = {"matrix": (3, 4), "0d": (), "size 1": (1, 1), "4 axes": (2, 1, 3, 2)}

# -- broadcasting -------------------------------------------------------------------------------------------------------

for small, large in [((4,), (3, 4)), ((3, 1), (3, 4)), ((), (2, 3)), ((1, 1), (2, 3)), ((2, 1, 3), (5, 2, 4, 3)), ((2, 3), (2, 3))]:
    case("broadcast_to", f"{small} to {large}", lambda m, x, large=large: m.broadcast_to(x, large), normal(small))
    case("sum_to", f"{large} to {small}", lambda m, x, small=small: mg.sum_to(x, small), normal(large),
         lambda x, small=small: x.sum(tuple(range(x.ndim - len(small)))).sum(
             tuple(i for i, n in enumerate(small) if n == 1), keepdims=True).reshape(small))

# -- elementwise --------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _erf(x):
    return np.vectorize(math.erf, otypes=[float])(np.asarray(x, float))


UNARY = [  # name, inputs, reference
    ("negative", normal, SAME), ("square", normal, SAME), ("exp", normal, SAME), ("tanh", normal, SAME),
    ("sin", normal, SAME), ("cos", normal, SAME), ("expm1", normal, SAME), ("abs", away_from_zero, SAME),
    ("log", lambda *s: uniform(0.5, 2, *s), SAME), ("sqrt", lambda *s: uniform(0.5, 2, *s), SAME),
    ("log1p", lambda *s: uniform(-0.5, 2, *s), SAME),
    ("identity", normal, lambda x: x), ("clone", normal, lambda x: x), ("sigmoid", normal, sigmoid),
    ("softplus", normal, lambda x: np.logaddexp(x, np.zeros_like(x))),
    ("relu", away_from_zero, lambda x: np.maximum(x, 0)),
    ("leaky_relu", away_from_zero, lambda x: np.where(x > 0, x, x * x.dtype.type(0.01))),
    ("elu", away_from_zero, lambda x: np.where(x > 0, x, np.expm1(x))),
    ("erf", normal, lambda x: _erf(x).astype(x.dtype)),
    ("gelu", normal, lambda x: (x * 0.5 * (1 + _erf(x / np.sqrt(2)))).astype(x.dtype)),
]
for op, inputs, reference in UNARY:
    for name, s in SHAPES.items():
        case(op, name, lambda m, x, op=op: getattr(m, op)(x), inputs(s), reference)
case("tanh", "gelu by tanh", lambda m, x: m.gelu(x, "tanh"), normal((3, 4)),
     lambda x: (x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))).astype(x.dtype))
case("erf", "small and large", lambda m, x: m.erf(x), uniform(-8, 8, (6, 8)), lambda x: _erf(x).astype(x.dtype))
case("leaky_relu", "slope 0.3", lambda m, x: m.leaky_relu(x, 0.3), away_from_zero((3, 4)),
     lambda x: np.where(x > 0, x, x * x.dtype.type(0.3)))
case("leaky_relu", "slope above 1", lambda m, x: m.leaky_relu(x, 1.5), away_from_zero((3, 4)),
     lambda x: np.where(x > 0, x, x * x.dtype.type(1.5)))
case("elu", "alpha 0.7", lambda m, x: m.elu(x, 0.7), away_from_zero((3, 4)),
     lambda x: np.where(x > 0, x, x.dtype.type(0.7) * np.expm1(x)))

for op, inputs in [("add", normal), ("subtract", normal), ("multiply", normal), ("divide", away_from_zero),
                   ("maximum", distinct), ("minimum", distinct)]:
    f = lambda m, a, b, op=op: getattr(m, op)(a, b)
    case(op, "one shape", f, inputs((3, 4), (3, 4)))
    case(op, "0d", lambda m, a, b, f=f: f(m, a, b) + a * b, inputs((), ()))
    case(op, "matrix and row", f, inputs((3, 4), (4,)))
    case(op, "column and row", f, inputs((3, 1), (1, 4)))
    case(op, "0d and matrix", f, inputs((), (3, 4)))
    case(op, "new axes and size 1", f, inputs((2, 1, 3), (4, 1)))
    case(op, "number on the right", lambda m, a, op=op: getattr(m, op)(a, 0.15625), inputs((3, 4)))
    case(op, "number on the left", lambda m, a, op=op: getattr(m, op)(-0.28125, a), inputs((3, 4)))
    case(op, "constant beside it", lambda m, a, op=op: getattr(m, op)(a, like(a, [0.15625, -0.28125, 0.40625, 0.28125])), inputs((3, 4)))
case("multiply", "with itself", lambda m, a: m.multiply(a, a), normal((3, 4)))
case("divide", "by itself squared", lambda m, a: a / (a * a), away_from_zero((3, 4)))
case("subtract", "through the operators", lambda m, a, b: 2.0 - a - b, normal((3, 4), (4,)))
case("power", "number", lambda m, a: m.power(a, 3), away_from_zero((3, 4)))
case("power", "exponent 0", lambda m, a: m.exp(m.power(a, 0) * a), away_from_zero((3, 4)))
case("power_tensor", "exponents 0 among others", lambda m, a, b: m.power(a, b),
     lambda rng: [rng.uniform(0.5, 2, (2, 3)), np.array([[0.0, 1, 2], [0, -1, 0.5]])])
case("power_tensor", "negative bases, whole exponents", lambda m, a: m.power(a, like(a, [0.0, 1, 2, -1])), away_from_zero((3, 4)))
for exponent in (1, 2, 3, -2):
    case("power_number", f"exponent {exponent}, both signs", lambda m, a, e=exponent: a**e, away_from_zero((3, 4)))
for exponent in (0.5, -1.5, 2.0):
    case("power_number", f"exponent {exponent}", lambda m, a, e=exponent: m.power(a, e), uniform(0.5, 2, (3, 4)))
case("power_number", "0d", lambda m, a: a**3, away_from_zero(()))
case("power_tensor", "one shape", lambda m, a, b: m.power(a, b), uniform(0.5, 2, (3, 4), (3, 4)))
case("power_tensor", "broadcast", lambda m, a, b: m.power(a, b), uniform(0.5, 2, (3, 1), (4,)))
case("power_tensor", "0d", lambda m, a, b: m.power(a, b), uniform(0.5, 2, (), ()))
case("power_tensor", "number to a tensor", lambda m, b: 2.0**b, normal((3, 4)))
case("clip", "both bounds", lambda m, a: m.clip(a, -0.53125, 0.78125), distinct((3, 7)))
case("clip", "lower bound", lambda m, a: m.clip(a, 0.03125, None), distinct((3, 4)))
case("clip", "upper bound", lambda m, a: m.clip(a, None, 0.03125), distinct((4,)))
_MASK = np.arange(12).reshape(3, 4) % 3 == 0
case("where", "one shape", lambda m, a, b: m.where(like(a, _MASK), a, b), normal((3, 4), (3, 4)))
case("where", "row of conditions", lambda m, a, b: m.where(like(a, _MASK[0]), a, b), normal((3, 4), (3, 1)))
case("where", "number if false", lambda m, a: m.where(like(a, _MASK), a, 0.5), normal((3, 4)))
case("where", "number if true", lambda m, a: m.where(like(a, _MASK), -2.0, a), normal((3, 4)))
case("where", "0d and matrix", lambda m, a, b: m.where(like(a, _MASK), a, b), normal((), (3, 4)))
for slope in (0.0, 0.3):
    case("gate", f"slope {slope}", lambda m, g, slope=slope: _gate(g, like(g, np.where(_MASK, 1, -1).astype("float64")), slope=slope),
         normal((3, 4)), lambda g, slope=slope: np.where(_MASK, g, g * g.dtype.type(slope)))
case("where", "condition computed", lambda m, a: m.where(a > 0, a * a, -a), away_from_zero((3, 4)))
_SPECIAL = [[0.5, np.inf, -np.inf, np.nan], [1.5, -2.5, 0.0, np.inf]]
case("nan_to_num", "all kinds", lambda m, x: m.nan_to_num(x + like(x, _SPECIAL), nan=0.5, posinf=2, neginf=-3.0), uniform(1, 2, (2, 4)), order=0)
for name, given in [("finite numbers", {}), ("three numbers to put there", {"nan": 0.5, "posinf": 2.0, "neginf": -3.0})]:
    case("nan_to_num", name, lambda m, x, given=given: m.nan_to_num(x, **given), normal((3, 4)))
case("multiply", "by its round", lambda m, x: m.exp(x) * m.round(x), away_from_zero((3, 4)))
case("multiply", "by its round to decimals", lambda m, x: m.exp(x) * m.round(x, 1), lambda rng: [rng.integers(-20, 20, (3, 4)) / 10 + 0.0234], half=False)
case("multiply", "by its floor", lambda m, x: m.floor(x) * x, lambda rng: [rng.integers(-3, 3, (3, 4)) + 0.375])
case("multiply", "by its ceil", lambda m, x: m.ceil(x) * x, lambda rng: [rng.integers(-3, 3, (3, 4)) + 0.375])
case("astype", "there and back", lambda m, x: x.astype("float32").astype(str(x.dtype)), normal((3, 4)), half=False, order=1, tolerance=1e-2)

# -- reductions ---------------------------------------------------------------------------------------------------------

AXES = [(None, False), (0, False), (-1, False), ((0, 2), False), ((-1, 0), True), (1, True), (None, True), ((0, 1, 2), False)]
for op, inputs, reference in [
    ("sum", normal, SAME), ("mean", normal, SAME), ("max", distinct, SAME), ("min", distinct, SAME),
    ("var", normal, SAME), ("std", normal, SAME),
    ("logsumexp", normal, lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))),
]:
    def f(m, x, op=op, axis=None, keepdims=False):
        return getattr(m, op)(x, axis=axis, keepdims=keepdims)
    for axis, keepdims in AXES:
        given = {"axis": axis, "keepdims": keepdims}
        case(op, f"axis {axis}{', keepdims' * keepdims}", lambda m, x, f=f, given=given: f(m, x, **given), inputs((3, 3, 3) if op == "std" else (2, 3, 4)),
             reference if reference is SAME else lambda x, r=reference, given=given: r(x, **given))
    if op not in ("var", "std"):
        case(op, "0d", f, inputs(()), reference if reference is SAME else lambda x: x)
        case(op, "axis of size 1", lambda m, x, f=f: f(m, x, axis=1), inputs((3, 1, 2)),
             reference if reference is SAME else lambda x: x[:, 0])
    case(op, "transposed input", lambda m, x, f=f: f(m, m.transpose(x), axis=0), inputs((3, 4)),
         reference if reference is SAME else lambda x, r=reference: r(x.T, 0, False))
for op in ("sum", "max", "logsumexp"):
    case(op, "no axes", lambda m, x, op=op: getattr(m, op)(x, axis=()), distinct((2, 3)),
         SAME if op != "logsumexp" else lambda x: x)
for axis, ddof in [(None, 1), (0, 1), ((0, -1), 2)]:
    case("var", f"axis {axis}, ddof {ddof}", lambda m, x, a=axis, d=ddof: m.var(x, axis=a, ddof=d), normal((4, 3, 2)))
    case("std", f"axis {axis}, ddof {ddof}", lambda m, x, a=axis, d=ddof: m.std(x, axis=a, ddof=d), normal((4, 3, 2)))
for axis in (None, 0, -1, 1):
    case("cumsum", f"axis {axis}", lambda m, x, a=axis: m.cumsum(x, axis=a), normal((2, 3, 4)))
case("cumsum", "axis of size 1", lambda m, x: m.cumsum(x, axis=1), normal((3, 1)))


def in_float64(name):
    """np.name, computed in float64, in the dtype of its input."""
    return lambda x, **given: np.asarray(getattr(np, name)(x.astype(np.float64), **given)).astype(x.dtype)


def with_zeros(shape_, *places):
    """Away from zero, but 0 at these places."""
    def make(rng):
        (x,) = away_from_zero(shape_)(rng)
        for at in places:
            x[at] = 0.0
        return [x]
    return make


for axis, keepdims in AXES:
    given = {"axis": axis, "keepdims": keepdims}
    case("prod", f"axis {axis}{', keepdims' * keepdims}", lambda m, x, given=given: m.prod(x, **given), away_from_zero((2, 3, 4)),
         lambda x, given=given: in_float64("prod")(x, **given))
for axis in (None, 0, -1, 1):
    case("cumprod", f"axis {axis}", lambda m, x, a=axis: m.cumprod(x, axis=a), away_from_zero((2, 3, 4)), lambda x, a=axis: in_float64("cumprod")(x, axis=a))
for op in ("prod", "cumprod"):
    of = lambda m, x, op=op: getattr(m, op)(x, axis=-1)
    reference = lambda x, op=op: in_float64(op)(x, axis=-1)
    for n in (1, 2, 3, 4, 5, 7, 8, 9):
        case(op, f"{n} elements", of, away_from_zero((2, n)), reference)
    for name, places in [("one zero", [(0, 2)]), ("a zero first and last", [(0, 0), (1, 4)]), ("two zeros", [(0, 0), (0, 3), (1, 4)]),
                         ("three zeros", [(0, 0), (0, 1), (0, 4)]), ("only zeros", [(0, slice(None))])]:
        case(op, name, of, with_zeros((2, 5), *places), reference)
    case(op, "0d", lambda m, x, op=op: m.exp(getattr(m, op)(x)), away_from_zero(()), lambda x, op=op: np.exp(getattr(np, op)(x)))
    case(op, "transposed input", lambda m, x, op=op: getattr(m, op)(m.transpose(x), axis=0), away_from_zero((3, 4)), lambda x, f=reference: f(x).T)
case("prod", "no axes", lambda m, x: m.prod(x, axis=()), distinct((2, 3)))
case("prod", "of nothing", lambda m, x: m.prod(x, axis=0), normal((0, 3)), order=0)
for axis in (None, 0, -1, 1):
    case("sort", f"axis {axis}", lambda m, x, a=axis: m.sort(x, axis=a), distinct((2, 3, 4)))
case("sort", "of one axis, then weighed", lambda m, x: m.sort(x * x) * like(x, [1.0, -2.0, 3.0]), uniform(0.5, 2, (4, 3)))
for axis in (-1, 0, (0, 2), None):
    def softmax(x, axis=axis):
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)
    case("softmax", f"axis {axis}", lambda m, x, a=axis: m.softmax(x, a), normal((2, 3, 4)), softmax)
    case("log_softmax", f"axis {axis}", lambda m, x, a=axis: m.log_softmax(x, a), normal((2, 3, 4)),
         lambda x, softmax=softmax: np.log(softmax(x)))
case("softmax", "large inputs", lambda m, x: m.softmax(1000 + x), normal((3, 4)), lambda x: softmax(1000 + x, -1), half=False, condition=1e3)
case("logsumexp", "large inputs", lambda m, x: m.logsumexp(1000 + x, 1), normal((3, 4)),
     lambda x: 1000 + np.log(np.exp(x).sum(1)), half=False, condition=1e3)

# -- the patterns of the normalization layers ------------------------------------------------------------------------------


def _statistics(x):
    """The dtype of statistics: of float16 they are float32."""
    return np.promote_types(x.dtype, np.float32)


def _moments(x, axis):
    wide, dtype = x.astype(np.float64), _statistics(x)
    return wide.mean(axis, keepdims=True).astype(dtype), wide.var(axis, keepdims=True).astype(dtype)


def _paired_sums(g, x, mu, axis, w=1.0, r=1.0):
    wide, dtype = [np.asarray(a, np.float64) for a in (g, x, mu, w, r)], _statistics(x)
    h = wide[0] * wide[3]
    return h.sum(axis, keepdims=True).astype(dtype), (h * (wide[1] - wide[2]) * wide[4]).sum(axis, keepdims=True).astype(dtype)


_X, _C = (3, 2, 2, 2), (1, 2, 1, 1)
for axis in ((0, 2, 3), -1, 0, (1, 2, 3)):
    case("moments", f"axis {axis}", lambda m, x, a=axis: m.moments(x, a), normal((3, 2, 2, 3)), lambda x, a=axis: _moments(x, a))
    small = tuple(1 if i in (axis if isinstance(axis, tuple) else (axis % 4,)) else n for i, n in enumerate(_X))
    case("paired_sums", f"axis {axis}", lambda m, g, x, mu, a=axis: m.paired_sums(g, x, mu, a), normal(_X, _X, small),
         lambda g, x, mu, a=axis: _paired_sums(g, x, mu, a), condition=8)
    case("combine", f"small arrays {small}", lambda m, *arrays: m.combine(*arrays), normal(_X, _X, small, small, small, small),
         lambda g, x, mu, a, b, c: a * g + b * (x - mu) + c, condition=8)
case("moments", "mean only", lambda m, x: m.exp(m.moments(x, 0)[0]), normal((3, 4)), lambda x: np.exp(_moments(x, 0)[0]))
case("moments", "variance only", lambda m, x: m.exp(m.moments(x, 0)[1]), normal((3, 4)), lambda x: np.exp(_moments(x, 0)[1]))
case("moments", "mean 1000", lambda m, x: m.moments(x + 1000.0, 0), normal((6, 2)),
     lambda x: (1000 + x.mean(0, keepdims=True), _moments(x + x.dtype.type(1000), 0)[1]), half=False, condition=1e3)
case("paired_sums", "weight for each channel", lambda m, g, x, mu, w: m.paired_sums(g, x, mu, (1, 2, 3), w), normal(_X, _X, (3, 1, 1, 1), _C),
     lambda g, x, mu, w: _paired_sums(g, x, mu, (1, 2, 3), w), condition=8)
case("paired_sums", "scale for each channel", lambda m, g, x, mu, r: m.paired_sums(g, x, mu, (0, 2, 3), r=r), normal(_X, _X, _C, _C),
     lambda g, x, mu, r: _paired_sums(g, x, mu, (0, 2, 3), r=r), condition=8)
case("paired_sums", "weight and scale", lambda m, g, x, mu, w, r: m.paired_sums(g, x, mu, (1, 2, 3), w, r),
     normal(_X, _X, (3, 1, 1, 1), _C, (3, 1, 1, 1)), lambda g, x, mu, w, r: _paired_sums(g, x, mu, (1, 2, 3), w, r), condition=8)
case("paired_sums", "not centred", lambda m, g, x: m.paired_sums(g, x, None, 0), normal((3, 4), (3, 4)), lambda g, x: _paired_sums(g, x, 0, 0), condition=8)
case("paired_sums", "second output only", lambda m, g, x, mu: m.paired_sums(g, x, mu, 0)[1], normal((3, 4), (3, 4), (1, 4)),
     lambda g, x, mu: _paired_sums(g, x, mu, 0)[1], condition=8)
case("combine", "weight for each channel", lambda m, g, x, mu, a, b, c, w: m.combine(g, x, mu, a, b, c, w),
     normal(_X, _X, (3, 1, 1, 1), (3, 1, 1, 1), (3, 1, 1, 1), (3, 1, 1, 1), _C), lambda g, x, mu, a, b, c, w: a * w * g + b * (x - mu) + c, condition=8)
case("combine", "without c", lambda m, g, x, mu, a, b: m.combine(g, x, mu, a, b, None), normal((3, 4), (3, 4), (1, 4), (1, 4), (1, 4)),
     lambda g, x, mu, a, b: a * g + b * (x - mu), condition=8)
case("combine", "one axis", lambda m, *arrays: m.combine(*arrays), normal((5,), (5,), (1,), (1,), (1,), (1,)),
     lambda g, x, mu, a, b, c: a * g + b * (x - mu) + c, condition=8)
case("scale_shift", "with c", lambda m, x, mu, b, c: m.combine(None, x, mu, None, b, c), normal(_X, _C, _C, _C),
     lambda x, mu, b, c: b * (x - mu) + c, condition=8)
case("scale_shift", "weight for each channel", lambda m, x, mu, b, c, w: m.combine(None, x, mu, None, b, c, w),
     normal(_X, (3, 1, 1, 1), (3, 1, 1, 1), _C, _C), lambda x, mu, b, c, w: w * b * (x - mu) + c, condition=8)
case("combine", "not centred", lambda m, g, x, a, b, c: m.combine(g, x, None, a, b, c), normal((3, 4), (3, 4), (1, 4), (1, 4), (1, 4)),
     lambda g, x, a, b, c: a * g + b * x + c, condition=8)
case("scale_shift", "without c", lambda m, x, mu, b: m.combine(None, x, mu, None, b, None), normal((3, 4), (3, 1), (1, 4)),
     lambda x, mu, b: b * (x - mu), condition=8)

# -- shapes -------------------------------------------------------------------------------------------------------------

case("reshape", "(2, 6)", lambda m, x: m.reshape(x, (2, 6)), normal((3, 4)))
case("reshape", "(-1, 2)", lambda m, x: m.reshape(x, (-1, 2)), normal((3, 4)))
case("reshape", "0d to (1, 1)", lambda m, x: m.reshape(x, (1, 1)), normal(()))
case("reshape", "(1,) to 0d", lambda m, x: m.reshape(x, ()), normal((1,)))
case("reshape", "of a transposed array", lambda m, x: m.reshape(m.transpose(x), (2, 6)), normal((3, 4)))
case("reshape", "sizes one by one", lambda m, x: x.reshape(4, 3), normal((3, 4)))
case("flatten", "all", lambda m, x: m.flatten(x), normal((2, 3, 2)), lambda x: x.reshape(-1))
case("flatten", "from axis 1", lambda m, x: m.flatten(x, 1), normal((2, 3, 2)), lambda x: x.reshape(2, 6))
case("expand_dims", "axis 0", lambda m, x: m.expand_dims(x, 0), normal((3, 4)))
case("expand_dims", "axes (1, -1)", lambda m, x: m.expand_dims(x, (1, -1)), normal((3, 4)))
case("squeeze", "all", lambda m, x: m.squeeze(x), normal((1, 3, 1)))
case("squeeze", "axis -1", lambda m, x: m.squeeze(x, -1), normal((1, 3, 1)))
case("squeeze", "axes (0, 2)", lambda m, x: m.squeeze(x, (0, 2)), normal((1, 3, 1)))
case("transpose", "reversed", lambda m, x: m.transpose(x), normal((2, 3, 4)))
case("transpose", "(2, 0, 1)", lambda m, x: m.transpose(x, (2, 0, 1)), normal((2, 3, 4)))
case("transpose", "(-1, 0, -2)", lambda m, x: m.transpose(x, (-1, 0, -2)), normal((2, 3, 4)))
case("transpose", "0d", lambda m, x: m.transpose(x), normal(()))
case("transpose", ".T", lambda m, x: x.T, normal((3, 4)))
case("transpose", ".mT", lambda m, x: x.mT, normal((2, 3, 4)))
case("swapaxes", "0 and -1", lambda m, x: m.swapaxes(x, 0, -1), normal((2, 3, 4)))
case("moveaxis", "0 to -1", lambda m, x: m.moveaxis(x, 0, -1), normal((2, 3, 4)))
case("moveaxis", "-1 to 1", lambda m, x: m.moveaxis(x, -1, 1), normal((2, 3, 4)))
for axis in (None, 0, (0, -1)):
    case("flip", f"axis {axis}", lambda m, x, a=axis: m.flip(x, a), normal((2, 3, 4)))
for shift, axis in [(1, None), (-2, 0), (5, -1), ((1, -1), (0, 2)), (2, (0, 1)), ((1, 2), (1, 1)), (0, 1)]:
    case("roll", f"by {shift}, axis {axis}", lambda m, x, s=shift, a=axis: m.roll(x, s, a), normal((2, 3, 4)))
for reps in (2, (3,), (2, 1), (1, 3, 2), (2, 1, 3, 2), (1, 1), 1, ()):
    case("tile", f"{reps}", lambda m, x, reps=reps: m.tile(x, reps), normal((2, 3)))
case("tile", "0d", lambda m, x: m.tile(x, (2, 3)), normal(()))
case("tile", "no copies", lambda m, x: m.tile(x, (0, 2)), normal((2, 3)), order=0)
for repeats, axis in [(2, None), (3, 0), (2, -1), (1, 1), ([2], 0), ([2, 0, 3], -1), ([1, 2], 0), ([1, 0, 2, 1, 1, 0], None)]:
    case("repeat", f"{repeats}, axis {axis}", lambda m, x, r=repeats, a=axis: m.repeat(x, r, a), normal((2, 3)))
case("repeat", "0d", lambda m, x: m.repeat(x, 3), normal(()))
for op, *shapes in [("vstack", (3,), (3,)), ("vstack", (2, 3), (3,), (1, 3)), ("vstack", (), ()), ("vstack", (2, 3, 2), (1, 3, 2)), ("hstack", (3,), (2,)),
                    ("hstack", (2, 3), (2, 1)), ("hstack", (), (2,)), ("hstack", (2, 3, 2), (2, 1, 2))]:
    case(op, f"shapes {shapes}", lambda m, *xs, op=op: getattr(m, op)(xs), normal(*shapes))
case("concatenate", "axis 0", lambda m, *xs: m.concatenate(xs, 0), normal((2, 3), (1, 3), (4, 3)))
case("concatenate", "axis -1", lambda m, *xs: m.concatenate(xs, -1), normal((3, 2), (3, 1)))
case("concatenate", "one array twice", lambda m, x: m.concatenate([x, x * x], 1), normal((3, 2)))
case("concatenate", "a constant between", lambda m, x, y: m.concatenate([x, like(x, np.ones((3, 2))), y], 1), normal((3, 2), (3, 1)))
case("concatenate", "an empty one among them", lambda m, x, y: m.concatenate([x, y[:0], y], 0), normal((2, 3), (1, 3)))
case("concatenate", "integers among them", lambda m, x: m.concatenate([x, like(x, [[1, 2, 3]]), like(x, [[True, False, True]])]), normal((2, 3)),
     lambda x: np.concatenate([x, [[1, 2, 3], [1, 0, 1]]]).astype(x.dtype))
case("concatenate", "of one", lambda m, x: m.concatenate([x]), normal((2, 3)))
case("stack", "axis 0", lambda m, *xs: m.stack(xs), normal((2, 3), (2, 3), (2, 3)))
case("stack", "axis -1", lambda m, *xs: m.stack(xs, -1), normal((2, 3), (2, 3)))
case("stack", "integers among them", lambda m, x: m.stack([like(x, [1, 2, 3]), x]), normal((3,)), lambda x: np.stack([[1, 2, 3], x]).astype(x.dtype))
case("stack", "of numbers", lambda m, *xs: m.stack(xs), normal((), ()))
case("split", "all outputs", lambda m, x: tuple(m.split(x, 3)), normal((6, 2)))
case("split", "outputs of different use", lambda m, x: (lambda p, q, r: p * q + m.exp(r))(*m.split(x, 3, -1)), normal((2, 6)))
case("split", "middle output unused", lambda m, x: (lambda p, q, r: p * r)(*m.split(x, 3)), normal((6, 2)))
case("split", "first output only", lambda m, x: m.split(x, [1, 4], 1)[0], normal((2, 6)))
case("split", "last output only", lambda m, x: m.split(x, [1, 4], -1)[2], normal((2, 6)))
case("split", "pieces of unequal and zero size", lambda m, x: tuple(m.split(x, [1, 1, 4])), normal((6, 2)))
case("split", "one piece", lambda m, x: tuple(m.split(x, 1)), normal((3, 2)))
case("split", "last index only", lambda m, x: tuple(m.split(x, [-1], 1)), normal((2, 4)))
case("split", "indices beyond the end", lambda m, x: tuple(m.split(x, [2, 9])), normal((3, 2)))
for cuts in ([3, 1], [-1, 2], [2, 2, 1, 3], [0, -9, 9, 1]):
    case("getitem", f"split at {cuts}: pieces that overlap", lambda m, x, cuts=cuts: tuple(p + 0.0 for p in m.split(x, cuts, -1) if p.size), normal((2, 4)))
case("pad", "a number", lambda m, x: m.pad(x, 1), normal((2, 3)))
case("pad", "a pair", lambda m, x: m.pad(x, (1, 2)), normal((2, 3)))
case("pad", "a pair for each axis", lambda m, x: m.pad(x, ((0, 1), (2, 0))), normal((2, 3)))
for mode in ("edge", "reflect", "wrap"):
    for name, widths in [("a pair for each axis", ((0, 2), (1, 0), (3, 3))), ("the largest", (2, 2))]:
        case("concatenate", f"pad by {mode}, {name}", lambda m, x, w=widths, mode=mode: m.pad(x, w, mode=mode), normal((3, 3, 4)))
case("pad", "constant 1.5", lambda m, x: m.pad(x, ((0, 1), (2, 0)), constant_values=1.5), normal((2, 3)))

# -- indexing -----------------------------------------------------------------------------------------------------------

for name, index in [
    ("integer", 1), ("negative integer", -1), ("slice", slice(1, 3)), ("step 2", slice(None, None, 2)),
    ("backwards", slice(None, None, -1)), ("two slices", (slice(1), slice(-2, None))), ("integer and slice", (0, slice(1, 3))),
    ("None", (slice(None), None, 1)), ("ellipsis", (..., 2)), ("all integers", (1, 2, 3)), ("empty slice", slice(2, 2)),
    ("ellipsis between", (0, ..., 1)), ("nothing", ()), ("NumPy integer", np.int64(1)),
]:
    case("getitem", name, lambda m, x, i=index: x[i], normal((2, 3, 4)), order=0 if name == "empty slice" else 2)
for name, index in [
    ("repeats", ([0, 2, 2, 0, 2],)), ("negative", ([-1, 0],)), ("list of lists", ([[0, 1], [1, 1]],)),
    ("pairs", ([0, 1, 1], [3, 0, 0])), ("with a slice behind", ([2, 0, 0], slice(1, 3))),
    ("with a slice before", (slice(None), [0, 0, 3])), ("slice between", ([1, 1], slice(None), [0, 2])),
    ("integer beside", (1, [0, 0, 2])), ("broadcast indices", ([[0], [2]], [1, 1, 3])), ("None beside", (None, [1, 1])),
    ("ellipsis beside", (..., [1, 1])), ("empty list", ([],)),
]:
    arrays = tuple(np.array(i, int) if isinstance(i, list) else i for i in index)
    ndim = 3 if name in ("slice between", "ellipsis beside") else 2
    at = lambda m, x, arrays=arrays: x[tuple(like(x, i) if isinstance(i, np.ndarray) else i for i in arrays)]
    case("gather", name, at, normal((3, 4, 3)[:ndim]), order=0 if name == "empty list" else 2)
case("gather", "list as an index", lambda m, x: x[[0, 2, 2]], normal((3, 4)))
case("gather", "tuple inside the key", lambda m, x: x[((0, 0, 1),)], normal((3, 4)))
case("gather", "tuple beside a slice", lambda m, x: x[1:, (0, 3, 3, 0)], normal((3, 4)))
case("gather", "tuple of tuples", lambda m, x: x[((0, 0), (1, 1)), None], normal((3, 4)))
case("gather", "tuple and list", lambda m, x: x[(2, 2), [1, 1]], normal((3, 4)))
case("gather", "tuple of booleans", lambda m, x: x[((True, False, True),)], normal((3, 4)))
case("gather", "range", lambda m, x: x[range(2, 0, -1)], normal((3, 4)))
case("gather", "0d array and list", lambda m, x: x[like(x, 1), [0, 0, 3]], normal((3, 4)))
case("gather", "boolean mask", lambda m, x: x[like(x, _MASK)], normal((3, 4)))
case("gather", "boolean rows", lambda m, x: x[like(x, [True, False, True])], normal((3, 4)))
case("gather", "boolean beside a slice", lambda m, x: x[1:, like(x, [True, False, True, True])], normal((3, 4)))
case("gather", "mask that takes nothing", lambda m, x: m.concatenate([x[like(x, _MASK & False)], x[0]]), normal((3, 4)))


def _put(x, at, shape_, add=True):
    out = np.zeros(shape_, x.dtype)
    if add:
        np.add.at(out, at, x)
    else:
        out[at] = x
    return out


_ROWS, _TEMPLATE = np.array([0, 2, 2, 1]), (shape._HOLE, slice(1, 3))
case("put", "slice", lambda m, x: shape._put(x, index=(slice(0, 4, 2), 1), shape=(4, 3)), normal((2,)),
     lambda x: _put(x, (slice(0, 4, 2), 1), (4, 3), add=False))
case("put", "0d", lambda m, x: shape._put(x, index=(1, 2), shape=(2, 3)), normal(()), lambda x: _put(x, (1, 2), (2, 3), add=False))
case("scatter_add", "repeats", lambda m, x: shape._scatter_add(x, like(x, _ROWS), template=_TEMPLATE, shape=(3, 4)), normal((4, 2)),
     lambda x: _put(x, (_ROWS, slice(1, 3)), (3, 4)))
for axis in (None, 0, -1):
    case("take", f"axis {axis}, repeats", lambda m, x, a=axis: m.take(x, like(x, [1, 0, 1, -1]), axis=a), normal((3, 4)))
case("take", "one index", lambda m, x: m.take(x, 1, axis=1), normal((3, 4)))
case("take", "2d indices", lambda m, x: m.take(x, like(x, [[0, 1], [1, 1]]), axis=0), normal((3, 4)))
_ALONG = np.array([[0, 2], [1, 1], [3, 0]])
case("take_along_axis", "axis 1, repeats", lambda m, x: m.take_along_axis(x, like(x, _ALONG), 1), normal((3, 4)))
case("take_along_axis", "axis 0", lambda m, x: m.take_along_axis(x, like(x, [[0, 1, 1, 0]]), 0), normal((2, 4)))
case("take_along_axis", "axis -1 of 3", lambda m, x: m.take_along_axis(x, like(x, np.ones((2, 3, 1), int)), -1), normal((2, 3, 4)))
case("put_along_axis", "repeats add", lambda m, x: shape._put_along_axis(x, like(x, _ALONG), axis=1, shape=(3, 4)), normal((3, 2)),
     lambda x: _put(x, (np.arange(3)[:, None], _ALONG), (3, 4)))

# -- linear algebra -----------------------------------------------------------------------------------------------------

for a, b in [((3, 4), (4, 2)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((2, 3, 4), (2, 4, 2)), ((2, 1, 3, 4), (5, 4, 2)),
             ((2, 3, 4), (4, 2)), ((3, 4), (2, 4, 1)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)), ((1, 1), (1, 1))]:
    case("matmul", f"{a} @ {b}", lambda m, x, y: m.matmul(x, y), normal(a, b))
case("matmul", "operands transposed", lambda m, x, y: x.T @ y.T, normal((4, 3), (2, 4)))
case("matmul", "with itself", lambda m, x: x @ x, normal((3, 3)))
case("matmul", "constant on the left", lambda m, x: like(x, np.arange(6.0).reshape(2, 3)) @ x, normal((3, 2)))
for a, b in [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((3, 4), (4, 2)), ((2, 3, 4), (4,)), ((2, 3, 4), (4, 2)), ((4,), (2, 4, 3)),
             ((3, 4), (2, 4, 3)), ((2, 1, 4), (3, 4, 2)), ((), (2, 3)), ((2,), ()), ((), ())]:
    case("dot", f"{a} and {b}", lambda m, x, y: m.dot(x, y), normal(a, b))
case("dot", "a number", lambda m, x: m.dot(1.5, x), normal((2, 3)), lambda x: x.dtype.type(1.5) * x)
case("dot", "the method", lambda m, x, y: x.dot(y), normal((2, 3), (3,)))
for axes, a, b in [(2, (2, 3, 4), (3, 4, 2)), (1, (2, 3), (3, 2)), (0, (2,), (3, 2)), (3, (1, 2, 3), (1, 2, 3)), ((-1, 0), (2, 3), (3, 2)),
                   (([1, 0], [0, 2]), (2, 3, 4), (3, 2, 2)), (([0], [1]), (3, 2), (2, 3)), (([], []), (2,), (3,)), (0, (), ())]:
    case("tensordot", f"axes {axes} of {a} and {b}", lambda m, x, y, axes=axes: m.tensordot(x, y, axes), normal(a, b))
case("tensordot", "by default", lambda m, x, y: m.tensordot(x, y), normal((2, 3), (2, 3, 2)))
for k, s in [(0, (3,)), (1, (2,)), (-2, (3,)), (0, (3, 3)), (1, (3, 4)), (-1, (4, 2)), (0, (1,))]:
    case("diag", f"k {k} of {s}", lambda m, x, k=k: m.diag(x, k), normal(s))
case("outer", "vectors", lambda m, x, y: m.outer(x, y), normal((3,), (4,)))
for spec, *shapes in [("ij,jk->ik", (3, 4), (4, 2)), ("ij,jk", (3, 4), (4, 2)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
                      ("i,j->ij", (3,), (4,)), ("ij,ij->i", (3, 4), (3, 4)), ("ij,ij->", (3, 4), (3, 4)), ("ij,jk,kl->li", (2, 3), (3, 4), (4, 2)),
                      ("...ij,jk->...ik", (2, 1, 3, 4), (4, 2)), ("...i,...i->...", (2, 3), (1, 3)), ("ii,ij->j", (3, 3), (3, 4)),
                      ("ij,k->jk", (3, 4), (2,)), ("bi,bj,bk->ijk", (4, 2), (4, 3), (4, 2)), ("nchw,oc->nohw", (2, 3, 2, 2), (4, 3))]:
    case("contract", spec, lambda m, *xs, spec=spec: m.einsum(spec, *xs), normal(*shapes))
for spec, s in [("ij->ji", (3, 4)), ("ij->j", (3, 4)), ("ii", (3, 3)), ("ii->i", (3, 3)), ("iij->j", (3, 3, 2)), ("ij->", (3, 4)), ("ba", (3, 4))]:
    case("einsum", spec, lambda m, x, spec=spec: m.einsum(spec, x), normal(s))
for offset, a, b in [(0, 0, 1), (1, 0, 1), (-1, 0, 1), (1, -1, -2), (0, 0, 2)]:
    case("diagonal", f"offset {offset}, axes {a}, {b}", lambda m, x, o=offset, a=a, b=b: m.diagonal(x, o, a, b), normal((3, 4, 3)))
    case("trace", f"offset {offset}, axes {a}, {b}", lambda m, x, o=offset, a=a, b=b: m.trace(x, o, a, b), normal((3, 4, 3)))
for offset, s in [(0, (3, 4)), (1, (4, 3)), (-1, (3, 4))]:
    case("put_on_diagonal", f"offset {offset} of {s}",
         lambda m, x, o=offset, s=s: linalg._put_on_diagonal(x, shape=(2, *s), offset=o, axis1=1, axis2=2),
         normal((2, len(np.diagonal(np.empty(s), offset)))),
         lambda x, o=offset, s=s: np.einsum("bk,kij->bij", x, np.array(
             [(np.arange(s[1])[None] - np.arange(s[0])[:, None] == o) & (np.arange(s[0])[:, None] == k - min(o, 0))
              for k in range(x.shape[1])], x.dtype)))
for k in (0, 1, -1):
    case("tril", f"k {k}", lambda m, x, k=k: m.tril(x, k), normal((2, 3, 4)))
    case("triu", f"k {k}", lambda m, x, k=k: m.triu(x, k), normal((2, 4, 3)))
for axis, keepdims in [(None, False), (-1, True), ((0, 2), False)]:
    case("norm", f"axis {axis}{', keepdims' * keepdims}", lambda m, x, a=axis, k=keepdims: m.norm(x, axis=a, keepdims=k), normal((2, 3, 4)),
         lambda x, a=axis, k=keepdims: np.sqrt(np.sum(x * x, axis=a, keepdims=k)))
case("norm", "fro", lambda m, x: m.norm(x, "fro"), normal((3, 4)), lambda x: np.sqrt(np.sum(x * x)))


def by_numpy(name):
    """np.linalg.name, computed in float64, in the dtype of its input."""
    return lambda *xs: getattr(np.linalg, name)(*(x.astype(np.float64) for x in xs)).astype(xs[0].dtype)


case("inv", "matrix", lambda m, a: m.inv(a), matrices((3, 3)), by_numpy("inv"), condition=8)
case("inv", "batch", lambda m, a: m.inv(a), matrices((2, 4, 4)), by_numpy("inv"), condition=8)
case("solve", "matrix", lambda m, a, b: m.solve(a, b), both(matrices((3, 3)), normal((3, 2))), by_numpy("solve"), condition=8)
case("solve", "vector", lambda m, a, b: m.solve(a, b), both(matrices((3, 3)), normal((3,))), by_numpy("solve"), condition=8)
case("solve", "broadcast batch", lambda m, a, b: m.solve(a, b), both(matrices((2, 1, 3, 3)), normal((2, 3, 2))), by_numpy("solve"), condition=8)
case("det", "matrix", lambda m, a: m.det(a), matrices((4, 4)), by_numpy("det"), condition=8)
case("det", "batch", lambda m, a: m.det(a), matrices((2, 3, 3)), by_numpy("det"), condition=8)
case("det", "1 by 1", lambda m, a: m.det(a), matrices((1, 1)), by_numpy("det"))
case("det", "rank 2 of 3", lambda m, a: m.exp(m.det(a)), lambda rng: [_with_singular_values(rng, (3, 3), np.array([2, 1, 0.0]))],
     lambda a: np.exp(by_numpy("det")(a)), condition=8)
case("det", "rank 1 of 3", lambda m, a: m.det(a + 0.0), lambda rng: [_with_singular_values(rng, (3, 3), np.array([2, 0, 0.0]))],
     None, half=False, order=0)
case("cofactor", "matrix", lambda m, a: linalg._cofactor(a), matrices((3, 3)), lambda a: by_numpy("det")(a) * by_numpy("inv")(a).T,
     condition=8, order=1, half=False)
case("cofactor_slope", "along g", lambda m, g: linalg._cofactor_slope(like(g, [[2.0, 1, 0], [0, 1, -1], [1, 0, 3]]), g), normal((3, 3)),
     None, condition=8, half=False)
case("cholesky", "matrix", lambda m, a: m.cholesky(a), positive_definite((3, 3)), by_numpy("cholesky"), condition=8)
case("cholesky", "batch", lambda m, a: m.cholesky(a), positive_definite((2, 4, 4)), by_numpy("cholesky"), condition=8)
case("eigh", "both outputs", lambda m, a: (lambda w, v: (w, v * v))(*m.eigh(a)), positive_definite((3, 3)),
     lambda a: (by_numpy("eigvalsh")(a), np.square(np.linalg.eigh(a.astype(np.float64))[1]).astype(a.dtype)), condition=16)
case("eigh", "vectors only", lambda m, a: m.square(m.eigh(a)[1]), positive_definite((4, 4)),
     lambda a: np.square(np.linalg.eigh(a.astype(np.float64))[1]).astype(a.dtype), condition=16)
case("eigh", "values only", lambda m, a: m.eigh(a)[0], positive_definite((2, 3, 3)), by_numpy("eigvalsh"), condition=16)
case("eigh", "values and vectors together", lambda m, a: (lambda w, v: (v * m.exp(w)) @ v.T)(*m.eigh(a)), positive_definite((3, 3)),
     lambda a: (lambda w, v: ((v * np.exp(w)) @ v.T).astype(a.dtype))(*np.linalg.eigh(a.astype(np.float64))), condition=16)
case("eigvalsh", "matrix", lambda m, a: m.eigvalsh(a), positive_definite((4, 4)), by_numpy("eigvalsh"), condition=16)
case("eigvalsh", "batch", lambda m, a: m.eigvalsh(a), positive_definite((2, 3, 3)), by_numpy("eigvalsh"), condition=16)


def _inv_sqrtm(a):
    w, v = np.linalg.eigh(a.astype(np.float64))
    return ((v / np.sqrt(w)[..., None, :]) @ np.swapaxes(v, -1, -2)).astype(a.dtype)


def _lyapunov(s, c):
    n, (s64, c64) = len(s), (s.astype(np.float64), c.astype(np.float64))
    return np.linalg.solve(np.kron(s64, np.eye(n)) + np.kron(np.eye(n), s64.T), c64.reshape(-1)).reshape(n, n).astype(s.dtype)


case("inv_sqrtm", "matrix", lambda m, a: m.inv_sqrtm(a), positive_definite((4, 4)), _inv_sqrtm, condition=8)
case("inv_sqrtm", "batch", lambda m, a: m.inv_sqrtm(a), positive_definite((2, 3, 3)), _inv_sqrtm, condition=8)
case("inv_sqrtm", "equal eigenvalues", lambda m, a: m.inv_sqrtm(a), positive_definite((3, 3), eigenvalues=[2, 2, 2]), _inv_sqrtm, condition=8)
case("lyapunov", "matrix", lambda m, s, c: m.lyapunov(s, c), both(positive_definite((3, 3)), normal((3, 3))), _lyapunov, condition=8)
case("lyapunov", "batch", lambda m, s, c: m.lyapunov(s, c), both(positive_definite((2, 3, 3)), normal((3, 3))),
     lambda s, c: np.stack([_lyapunov(one, c) for one in s]), condition=8)
case("lyapunov", "equal eigenvalues", lambda m, s, c: m.lyapunov(s, c), both(positive_definite((3, 3), eigenvalues=[2, 2, 1]), normal((3, 3))),
     _lyapunov, condition=8)

# -- convolution and pooling --------------------------------------------------------------------------------------------


def conv2d(x, w, stride=1, padding=0, dilation=1, groups=1):
    """The definition, tap by tap, summed in float64."""
    (sh, sw), (ph, pw), (dh, dw) = (v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation))
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    oh = (padded.shape[2] - dh * (w.shape[2] - 1) - 1) // sh + 1
    ow = (padded.shape[3] - dw * (w.shape[3] - 1) - 1) // sw + 1
    y = np.zeros((len(x), groups, len(w) // groups, oh, ow))
    images, weights = padded.reshape(len(x), groups, -1, *padded.shape[2:]), w.reshape(groups, len(w) // groups, *w.shape[1:])
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            tap = images[..., i * dh:, j * dw:][..., : sh * (oh - 1) + 1: sh, : sw * (ow - 1) + 1: sw]
            y += np.einsum("ngchw,goc->ngohw", tap, weights[..., i, j])
    return y.reshape(len(x), len(w), oh, ow).astype(x.dtype)


CONVOLUTIONS = [  # name, shape of x, shape of w, keywords
    ("3x3", (2, 2, 4, 3), (2, 2, 3, 3), {}),
    ("1x1", (2, 3, 2, 2), (2, 3, 1, 1), {}),
    ("padding 1", (1, 2, 3, 3), (2, 2, 3, 3), {"padding": 1}),
    ("padding above the kernel", (1, 1, 2, 2), (1, 1, 2, 1), {"padding": (3, 2)}),
    ("stride 2 with rows left over", (2, 1, 6, 5), (2, 1, 3, 2), {"stride": 2}),
    ("stride above the kernel", (1, 2, 5, 4), (2, 2, 1, 2), {"stride": (3, 3)}),
    ("everything unequal", (2, 2, 5, 3), (2, 2, 2, 3), {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)}),
    ("stride and dilation with a common factor", (1, 1, 7, 6), (2, 1, 3, 2), {"stride": 2, "dilation": (2, 4)}),
    ("dilation 2", (1, 2, 6, 4), (1, 2, 3, 2), {"dilation": 2}),
    ("2 groups", (1, 4, 3, 3), (4, 2, 2, 2), {"groups": 2, "padding": 1}),
    ("depthwise, stride 2", (1, 3, 4, 4), (3, 1, 3, 2), {"groups": 3, "stride": 2, "padding": 1}),
    ("kernel as large as the image", (2, 2, 2, 3), (3, 2, 2, 3), {}),
]
for name, x, w, given in CONVOLUTIONS:
    case("conv2d", name, lambda m, x, w, given=given: m.conv2d(x, w, **given), normal(x, w), lambda x, w, given=given: conv2d(x, w, **given))
case("conv2d", "bias", lambda m, x, w, b: m.conv2d(x, w, b), normal((2, 2, 3, 3), (3, 2, 2, 2), (3,)),
     lambda x, w, b: conv2d(x, w) + b.reshape(1, 3, 1, 1))
for name, x, w in [("3x3", (1, 2, 4, 3), (2, 2, 3, 3)), ("even kernel, dilation", (1, 1, 4, 5), (2, 1, 2, 4))]:
    d = (1, 1) if name == "3x3" else (3, 1)
    total = [d[a] * (w[a + 2] - 1) for a in (0, 1)]
    case("conv2d", f"padding same, {name}", lambda m, x, w, d=d: m.conv2d(x, w, None, 1, "same", d), normal(x, w),
         lambda x, w, d=d, total=total: conv2d(np.pad(x, ((0, 0), (0, 0), *((t // 2, t - t // 2) for t in total))), w, dilation=d))
case("conv2d", "padding valid, stride 2", lambda m, x, w: m.conv2d(x, w, None, 2, "valid"), normal((1, 1, 5, 4), (1, 1, 2, 2)),
     lambda x, w: conv2d(x, w, 2))
case("conv2d", "transposed operands", lambda m, x, w: m.conv2d(m.transpose(x, (3, 0, 1, 2)), m.swapaxes(w, 2, 3)),
     normal((2, 3, 3, 2), (2, 2, 2, 3)), lambda x, w: conv2d(x.transpose(3, 0, 1, 2), w.swapaxes(2, 3)))
for name, x, w, given in [CONVOLUTIONS[i] for i in (2, 4, 6, 9)]:
    full = {k: v if k == "groups" else v if isinstance(v, tuple) else (v, v)
            for k, v in {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **given}.items()}
    y = conv2d(np.zeros(x), np.zeros(w), **given).shape
    case("conv2d_input", name, lambda m, g, w, x=x, full=full: neural._conv2d_input(g, w, shape=x, **full), normal(y, w),
         lambda g, w, x=x, given=given: _adjoint(lambda e: conv2d(e, w, **given), g, x))
    case("conv2d_weight", name, lambda m, x, g, w=w, full=full: neural._conv2d_weight(x, g, shape=w, **full), normal(x, y),
         lambda x, g, w=w, given=given: _adjoint(lambda e: conv2d(x, e, **given), g, w))


def _adjoint(linear, g, shape_):
    """⟨g, linear(e)⟩ for every unit array e of this shape."""
    units = np.eye(int(np.prod(shape_))).reshape(-1, *shape_)
    return np.array([np.sum(g.astype(np.float64) * linear(e)) for e in units]).reshape(shape_).astype(g.dtype)


def _starts(n, kernel, stride, padding, dilation, ceil_mode):
    """In the padded image; with ceil_mode the first window that ends behind it is one more, if it begins in front of the padding behind."""
    end = dilation * (kernel - 1)
    return [i for i in range(0, n + 2 * padding, stride)
            if i + end < n + 2 * padding or (ceil_mode and i - stride + end < n + 2 * padding - 1 and i < n + padding)]


def _windows(x, kernel, stride, padding, fill, dilation=(1, 1), ceil_mode=False, beyond=np.nan):
    """(N, C, oh, ow, kh·kw): `fill` in the padding, `beyond` behind it."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), constant_values=fill)
    padded = np.pad(padded, ((0, 0), (0, 0), (0, 20), (0, 20)), constant_values=beyond)
    rows, cols = (np.array(_starts(x.shape[a + 2], kernel[a], stride[a], padding[a], dilation[a], ceil_mode))[:, None]
                  + dilation[a] * np.arange(kernel[a]) for a in (0, 1))
    taps = padded[:, :, rows[:, None, :, None], cols[None, :, None, :]]
    return taps.reshape(*taps.shape[:4], -1)


def _average(x, include, divisor=None, **given):
    """Of the elements of each window that count: NaN marks the others."""
    wide = _windows(x.astype(np.float64), **given, fill=0 if include else np.nan)
    return (np.nanmean(wide, -1) if divisor is None else np.nansum(wide, -1) / divisor).astype(x.dtype)


MORE_WINDOWS = [  # name, shape of x, kernel, stride, padding, dilation
    ("rounded up", (1, 2, 5, 6), (2, 3), (2, 2), (0, 0), (1, 1)),
    ("rounded up, padding", (1, 1, 6, 4), (3, 2), (2, 3), (1, 1), (1, 1)),
    ("rounded up, the last window would begin behind the image", (1, 1, 3, 4), (2, 2), (3, 3), (1, 1), (1, 1)),
    ("rounded up, a window larger than the image", (1, 1, 2, 3), (3, 4), (2, 2), (0, 0), (1, 1)),
    ("dilation", (1, 1, 6, 5), (2, 3), (1, 2), (1, 0), (3, 2)),
    ("dilation, rounded up", (1, 2, 6, 7), (2, 2), (3, 2), (1, 1), (2, 3)),
]

POOLINGS = [  # name, shape of x, kernel, stride, padding
    ("2x2", (2, 1, 4, 6), (2, 2), (2, 2), (0, 0)),
    ("overlapping", (1, 2, 4, 5), (3, 3), (1, 1), (0, 0)),
    ("overlapping, stride 2, padding 1", (1, 2, 5, 4), (3, 3), (2, 2), (1, 1)),
    ("unequal, rows left over", (1, 2, 6, 3), (3, 2), (2, 1), (1, 0)),
    ("stride above the kernel", (1, 1, 5, 6), (2, 2), (3, 3), (0, 0)),
    ("1x1", (2, 1, 2, 3), (1, 1), (1, 1), (0, 0)),
    ("padding, and as many windows as would tile the image", (1, 2, 6, 2), (3, 1), (3, 1), (1, 0)),
]
for name, s, kernel, stride, padding in POOLINGS:
    given = {"kernel": kernel, "stride": stride, "padding": padding}
    case("max_pool2d", name, lambda m, x, given=given: m.max_pool2d(x, given["kernel"], given["stride"], given["padding"]), distinct(s),
         lambda x, given=given: _windows(x, **given, fill=-np.inf).max(-1))
    for include in (True, False) if padding != (0, 0) else (True,):
        case("avg_pool2d", f"{name}{', padding not counted' * (not include)}",
             lambda m, x, given=given, include=include: m.avg_pool2d(x, given["kernel"], given["stride"], given["padding"], False, include), normal(s),
             lambda x, given=given, include=include: _average(x, include, **given))
for name, s, kernel, stride, padding, dilation in MORE_WINDOWS:
    given = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": "rounded up" in name}
    case("max_pool2d", name, lambda m, x, g=given, d=dilation: m.max_pool2d(x, g["kernel"], g["stride"], g["padding"], d, g["ceil_mode"]), distinct(s),
         lambda x, given=given, d=dilation: _windows(x, **given, fill=-np.inf, beyond=-np.inf, dilation=d).max(-1))
    if dilation == (1, 1):
        for include, divisor in ((True, None), (False, None), (True, 3)):
            case("avg_pool2d", f"{name}{', padding not counted' * (not include)}{', divisor' * (divisor is not None)}",
                 lambda m, x, g=given, i=include, d=divisor: m.avg_pool2d(x, g["kernel"], g["stride"], g["padding"], g["ceil_mode"], i, d), normal(s),
                 lambda x, given=given, include=include, divisor=divisor: _average(x, include, divisor, **given))
case("max_pool2d", "negative images with padding", lambda m, x: m.max_pool2d(x - 100.0, 2, 1, 1), distinct((1, 1, 3, 3)),
     lambda x: _windows(x - 100, (2, 2), (1, 1), (1, 1), -np.inf).max(-1), half=False, condition=1e3)
for name, s, kernel, stride, padding, dilation in [*[(*p, (1, 1)) for p in [*POOLINGS[1:4], POOLINGS[6]]], *MORE_WINDOWS]:
    given, up = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}, "rounded up" in name
    winners = pool.max_pool2d_forward(np, distinct(s)(np.random.default_rng(1))[0], ceil_mode=up, **given)[1]
    case("unpool", name, lambda m, g, i=winners, s=s, given=given: neural._unpool(g, like(g, i), shape=s, **given), normal(winners.shape),
         lambda g, i=winners, s=s, given=given, up=up: _adjoint(
             lambda e: np.take_along_axis(_windows(e, **given, fill=0, ceil_mode=up), i[..., None].astype(int), -1)[..., 0], g, s))
    case("winners", name, lambda m, x, i=winners, given=given: neural._winners(x, like(x, i), **given), normal(s),
         lambda x, i=winners, given=given, up=up: np.take_along_axis(_windows(x, **given, fill=0, ceil_mode=up), i[..., None].astype(int), -1)[..., 0])
    given = {"kernel": kernel, "stride": stride, "padding": padding}
    for include, divisor in ((True, None), (False, None), (False, 5)) if dilation == (1, 1) else ():
        more = {**given, "count_include_pad": include, "ceil_mode": up, "divisor": divisor}
        case("avg_unpool", f"{name}{', padding not counted' * (not include)}{', divisor' * (divisor is not None)}",
             lambda m, g, s=s, more=more: neural._avg_unpool(g, shape=s, **more), normal(winners.shape),
             lambda g, s=s, given=given, include=include, divisor=divisor, up=up: _adjoint(
                 lambda e: _average(e, include, divisor, ceil_mode=up, **given), g, s))


def _adaptive(x, h, w):
    cut = lambda n, parts: [slice(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]
    rows = [[x[:, :, r, c].astype(np.float64).mean((2, 3)) for c in cut(x.shape[3], w)] for r in cut(x.shape[2], h)]
    return np.moveaxis(np.array(rows), (0, 1), (2, 3)).astype(x.dtype)


def _averaging(size, parts):
    m = np.zeros((parts, size))
    for i in range(parts):
        m[i, i * size // parts: -(-(i + 1) * size // parts)] = 1
    return m / m.sum(1, keepdims=True)


for size, parts in [(5, 3), (6, 2), (3, 5), (4, 1), (1, 2)]:
    case("part_means", f"{parts} of {size}", lambda m, x, p=parts: neural._part_means(x, axis=2, parts=p), normal((1, 2, size, 2)),
         lambda x, s=size, p=parts: np.einsum("ps,ncsw->ncpw", _averaging(s, p), x).astype(x.dtype))
    case("part_means_input", f"{parts} of {size}", lambda m, g, s=size: neural._part_means_input(g, axis=3, size=s), normal((1, 2, 2, parts)),
         lambda g, s=size, p=parts: np.einsum("ps,nchp->nchs", _averaging(s, p), g).astype(g.dtype))
for out in [(1, 1), (2, 3), (3, 2), (5, 4), (None, 3), (3, None)]:
    case("adaptive_avg_pool2d", f"to {out}", lambda m, x, out=out: m.adaptive_avg_pool2d(x, out), normal((1, 2, 4, 6)),
         lambda x, out=out: _adaptive(x, out[0] or 4, out[1] or 6))

# -- losses and the rest ------------------------------------------------------------------------------------------------


def _dropped(x):
    kept = np.random.default_rng(7).random(x.shape, dtype="float32") >= 0.4
    return x * (kept / 0.6).astype(x.dtype)


def _with_seed(x):
    mg.seed(7)
    return mg.dropout(x, 0.4)


case("dropout", "p 0.4", lambda m, x: _with_seed(x), normal((5, 6)), _dropped)
case("dropout", "p 1", lambda m, x: m.exp(m.dropout(x, 1.0) + x), normal((5, 6)), np.exp)
case("dropout", "evaluation", lambda m, x: m.exp(m.dropout(x, 0.4, training=False)), normal((5, 6)), np.exp)
_WORDS = np.array([[0, 3, 3], [1, 0, 3]])
case("embedding", "repeated words", lambda m, w: m.embedding(like(w, _WORDS), w), normal((5, 2)), lambda w: w[_WORDS])
case("embedding", "a padding row that no word names", lambda m, w: m.embedding(like(w, _WORDS), w, -1), normal((5, 2)), lambda w: w[_WORDS])
_LABELS = {(4, 3): np.array([0, 2, 1, 2]), (2, 3, 2): np.array([[0, 2], [1, 1]])}
_SHARES = {s: np.random.default_rng(3).dirichlet(np.ones(3), s[:1] + s[2:]).swapaxes(1, -1) for s in _LABELS}


def _log_softmax(x):
    e = x - x.max(1, keepdims=True)
    return e - np.log(np.exp(e).sum(1, keepdims=True))


def _reduced(losses, how):
    return losses if how == "none" else losses.mean() if how == "mean" else losses.sum()


def _by_labels(x, labels, how, weight=None, ignored=-100, smooth=0.0, logarithms=False):
    """Cross-entropy, or nll for given logarithms, one sample after the other: Σ of the losses over Σ of the labels' weights."""
    log_p = x.astype(np.float64) if logarithms else _log_softmax(x.astype(np.float64))
    weight = np.ones(x.shape[1]) if weight is None else weight
    losses, counts = np.zeros(labels.shape), np.zeros(labels.shape)
    for at in np.ndindex(labels.shape):
        row, label = log_p[(at[0], slice(None), *at[1:])], labels[at]
        if label != ignored:
            losses[at] = -(1 - smooth) * weight[label] * row[label] - smooth / len(row) * (weight * row).sum()
            counts[at] = weight[label]
    return np.asarray(losses if how == "none" else losses.sum() / (counts.sum() if how == "mean" else 1)).astype(x.dtype)


def _by_probabilities(x, shares, how, weight=None, smooth=0.0):
    weight = np.ones(x.shape[1]) if weight is None else weight
    target = ((1 - smooth) * shares + smooth / x.shape[1]) * weight.reshape(-1, *[1] * (x.ndim - 2))
    return np.asarray(_reduced(-(target * _log_softmax(x.astype(np.float64))).sum(1), how)).astype(x.dtype)


_WEIGHT = np.array([0.5, 2.0, 1.25])
_IGNORING = {s: np.where(np.arange(labels.size).reshape(labels.shape) == 1, -100, labels) for s, labels in _LABELS.items()}
for s in _LABELS:
    for how in ("mean", "sum", "none"):
        for name, labels, given in [("", _LABELS[s], {}), (", weights", _LABELS[s], {"weight": _WEIGHT}), (", one ignored", _IGNORING[s], {}),
                                    (", class 2 ignored", _LABELS[s], {"ignored": 2}), (", weights, one ignored", _IGNORING[s], {"weight": _WEIGHT})]:
            arguments = lambda x, given=given: (None if "weight" not in given else like(x, given["weight"]), None, given.get("ignored", -100), None)
            case("nll_loss", f"{s}, {how}{name}", lambda m, x, y=labels, how=how, a=arguments: m.nll_loss(x, like(x, y), *a(x), how), normal(s),
                 lambda x, y=labels, how=how, given=given: _by_labels(x, y, how, logarithms=True, **given))
            for smooth in (0.0, 0.2):
                case("cross_entropy", f"{s}, {how}{name}{', label smoothing' * bool(smooth)}",
                     lambda m, x, y=labels, how=how, a=arguments, smooth=smooth: m.cross_entropy(x, like(x, y), *a(x), how, smooth), normal(s),
                     lambda x, y=labels, how=how, given=given, smooth=smooth: _by_labels(x, y, how, smooth=smooth, **given))
        for smooth, weight in ((0.0, None), (0.3, None), (0.3, _WEIGHT)):
            case("cross_entropy", f"{s}, {how}, probabilities{', label smoothing' * bool(smooth)}{', weights' * (weight is not None)}",
                 lambda m, x, s=s, how=how, smooth=smooth, w=weight: m.cross_entropy(
                     x, like(x, _SHARES[s]), None if w is None else like(x, w), reduction=how, label_smoothing=smooth), normal(s),
                 lambda x, s=s, how=how, smooth=smooth, w=weight: _by_probabilities(x, _SHARES[s], how, w, smooth))
    case("label_cross_entropy", f"labels {s}", lambda m, x, s=s: m.cross_entropy(x, like(x, _LABELS[s]), "none"), normal(s),
         lambda x, s=s: _by_labels(x, _LABELS[s], "none"))
case("cross_entropy", "weights with a gradient", lambda m, x, w: m.cross_entropy(x, like(x, _IGNORING[4, 3]), w), both(normal((4, 3)), uniform(1, 2, (3,))),
     lambda x, w: _by_labels(x, _IGNORING[4, 3], "mean", w.astype(np.float64)))
_HALVES = np.linspace(0, 1, 12).reshape(3, 4)
for how in ("mean", "sum", "none"):
    case("mse_loss", how, lambda m, x, t, how=how: m.mse_loss(x, t, how), normal((3, 4), (3, 4)),
         lambda x, t, how=how: _reduced((x - t) ** 2, how))
    case("mse_loss", f"{how}, weights", lambda m, x, t, w, how=how: m.mse_loss(x, t, None, None, how, w),
         both(normal((3, 4), (3, 4)), uniform(0.5, 2, (3, 4))),
         lambda x, t, w, how=how: np.asarray(_reduced(w * (x - t) ** 2, how) if how != "mean" else np.average((x - t) ** 2, weights=w)).astype(x.dtype))
    case("binary_cross_entropy_with_logits", how,
         lambda m, x, how=how: m.binary_cross_entropy_with_logits(x, like(x, _HALVES), how), normal((3, 4)),
         lambda x, how=how: _reduced(np.logaddexp(0, x) - x * _HALVES, how).astype(x.dtype))
    case("binary_cross_entropy_with_logits", f"{how}, weight and pos_weight",
         lambda m, x, w, p, how=how: m.binary_cross_entropy_with_logits(x, like(x, _HALVES), w, None, None, how, p),
         both(normal((3, 4)), uniform(0.5, 2, (3, 1), (4,))),
         lambda x, w, p, how=how: np.asarray(_reduced(w * (p * _HALVES * np.logaddexp(0, -x) + (1 - _HALVES) * np.logaddexp(0, x)), how)).astype(x.dtype))
case("binary_cross_entropy_with_logits", "probabilities with a gradient", lambda m, x, t: m.binary_cross_entropy_with_logits(x, t, "none"),
     both(normal((3, 4)), uniform(0.1, 0.9, (3, 4))), lambda x, t: np.logaddexp(np.zeros_like(x), x) - x * t)

# -- constants for the derivative ---------------------------------------------------------------------------------------

_RANKS = lambda rng: [rng.integers(-2, 3, (3, 4)).astype(float), rng.integers(-2, 3, (4,)).astype(float)]
for op in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
    constant(op, "broadcast, with ties", lambda m, a, b, op=op: getattr(m, op)(a, b), _RANKS)
    constant(op, "number", lambda m, a, b, op=op: getattr(m, op)(a, 1), _RANKS)
constant("equal", "through operators", lambda m, a, b: (a == b) | (a != 2) & ~(a < b), _RANKS)
constant("bitwise_or", "with an array on the left", lambda m, a, b: (like(a, _MASK).data if m is mg else _MASK) | (a > 0), _RANKS)
constant("bitwise_and", "with an array on the left", lambda m, a, b: (like(a, _MASK).data if m is mg else _MASK) & (a > 0), _RANKS)
for op in ("logical_and", "logical_or"):
    constant(op, "booleans", lambda m, a, b, op=op: getattr(m, op)(a > 0, b < 1), _RANKS)
for op, f in [("bitwise_and", lambda a, b: a & b), ("bitwise_or", lambda a, b: a | b), ("bitwise_xor", lambda a, b: a ^ b), ("invert", lambda a, b: ~a)]:
    constant(op, "of integers", lambda m, a, b, f=f: f(a.astype("int64"), b.astype("int64")), _RANKS)
    constant(op, "of booleans", lambda m, a, b, f=f: f(a > 0, b < 1), _RANKS)
    constant(op, "of integers and a boolean", lambda m, a, b, f=f: f(a.astype("int64"), b > 0), _RANKS)
    constant(op, "of integers and a number", lambda m, a, b, f=f: f(a.astype("int64"), 3), _RANKS)
constant("logical_not", "boolean", lambda m, a, b: m.logical_not(a > b), _RANKS)
constant("zeros", "of anything", lambda m, a, b: _zeros(a), _RANKS, lambda a, b: 0 * a)
constant("sign", "with zeros", lambda m, a, b: m.sign(a), _RANKS)
constant("argmax", "with ties", lambda m, a, b: m.argmax(a), _RANKS)
constant("argmax", "axis -1", lambda m, a, b: m.argmax(a, -1), _RANKS)
constant("argmax", "axis 0", lambda m, a, b: m.argmax(a, axis=0), _RANKS)
constant("argmin", "with ties", lambda m, a, b: m.argmin(a), _RANKS)
constant("argmin", "axis -1", lambda m, a, b: m.argmin(a, -1), _RANKS)
constant("argmin", "axis 0", lambda m, a, b: m.argmin(a, axis=0), _RANKS)
for axis in (-1, 0, None):
    constant("argsort", f"axis {axis}, with ties", lambda m, a, b, axis=axis: m.argsort(a, axis=axis), _RANKS, lambda a, b, axis=axis: np.argsort(
        a, axis=axis, kind="stable"))
for op in ("any", "all"):
    for axis, keepdims in [(None, False), (0, False), (-1, True), ((0, 1), True), ((), False)]:
        constant(op, f"axis {axis}{', keepdims' * keepdims}", lambda m, a, b, op=op, axis=axis, k=keepdims: getattr(m, op)(a, axis=axis, keepdims=k), _RANKS)
    constant(op, "of booleans", lambda m, a, b, op=op: getattr(m, op)(a > b, axis=1), _RANKS)
for op in ("isfinite", "isinf", "isnan"):
    constant(op, "of all kinds", lambda m, a, b, op=op: getattr(m, op)(like(a, _SPECIAL) * 1.5), _RANKS,
             lambda a, b, op=op: getattr(np, op)(np.array(_SPECIAL)))
    constant(op, "of whole numbers", lambda m, a, b, op=op: getattr(m, op)(a), _RANKS)
for op in ("round", "floor", "ceil"):
    constant(op, "halves", lambda m, a, b, op=op: getattr(m, op)(a + 0.5), _RANKS)
    constant(op, "quarters", lambda m, a, b, op=op: getattr(m, op)(b - 0.25), _RANKS)
    constant(op, "whole numbers", lambda m, a, b, op=op: getattr(m, op)(a), _RANKS)
constant("round", "the method, tens", lambda m, a, b: (10 * a).round(-1), _RANKS)
for op, f in [("zeros", lambda m, x: m.zeros((2, 3))), ("ones", lambda m, x: m.ones((2, 3))), ("eye", lambda m, x: m.eye(2, 3, 1)),
              ("full", lambda m, x: m.full((2, 3), 0.25)), ("arange", lambda m, x: m.arange(0.5, 3.0, 0.25)),
              ("linspace", lambda m, x: m.linspace(0.0, 2.0, 7))]:
    constant(op, "float32 by default", lambda m, a, b, f=f: f(m, a), _RANKS, lambda a, b, f=f: f(np, a).astype("float32"))
for op, f in [("zeros_like", lambda m, x: m.zeros_like(x)), ("ones_like", lambda m, x: m.ones_like(x)), ("full_like", lambda m, x: m.full_like(x, 1))]:
    constant(op, "of an array", lambda m, a, b, f=f: f(m, a), _RANKS)


def seeded(draw):
    mg.seed(3)
    return draw()


for op, draw in [("rand", lambda: mg.rand(2, 3)), ("randn", lambda: mg.randn(2, 3)), ("randint", lambda: mg.randint(-2, 5, (2, 3))),
                 ("permutation", lambda: mg.permutation(7))]:
    constant(op, "seeded", lambda m, a, b, draw=draw: seeded(draw), _RANKS, None)
constant("peak", "of rows", lambda m, a, b: reduce._peak(as_floating(a), axis=(1,)), _RANKS, lambda a, b: a.max(1, keepdims=True))
constant("one_hot", "of labels", lambda m, a, b: losses._one_hot(like(a, _ALONG[:, 0]), classes=4), _RANKS,
         lambda a, b: _ALONG[:, :1] == np.arange(4))
constant("astype_constant", "to integers", lambda m, a, b: a.astype("int64"), _RANKS)
constant("astype_constant", "to booleans", lambda m, a, b: a.astype("bool"), _RANKS)
constant("integer_power", "of integers", lambda m, a, b: a.astype("int64") ** 3, _RANKS)
