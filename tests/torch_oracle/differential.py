"""One sample of one op in both libraries: value, gradients and second derivatives, each at random cotangents.

A sample is a tree (input, args, keywords) with PyTorch tensors in it. Both libraries get the same numbers in the same memory
layout. How far they may be apart follows from the dtype and the sample:

    float64     64 ε of the result + 4 ε of the largest + 64 × what one rounding of the inputs changes in PyTorch's result
    float32     the same around PyTorch's float64 result of the same (rounded) inputs, + 16 × PyTorch's own float32 error

The last terms count up to 10⁻⁶ (float32: 10⁻³) of the largest result only: a sample that sits on an edge, where a rounding
decides between two branches, must not excuse a wrong branch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db

import minigrad as mg

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
EXCUSE = {"float64": 1e-6, "float32": 1e-3}
NAMES = {torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.int64: "int64", torch.int32: "int32",
         torch.int16: "int16", torch.int8: "int8", torch.uint8: "uint8", torch.bool: "bool"}


class Without(Exception):
    """Minigrad has no counterpart for this sample; says why. Such a sample is skipped and counted."""


class Results(NamedTuple):
    """What one library makes of a sample. None: no influence, which is the same as zeros."""

    values: list[Any]
    first: list[Any]
    second: list[Any]

    def named(self) -> Iterator[tuple[str, Any]]:
        for what, found in zip(("value", "gradient", "second derivative"), self, strict=True):
            yield from ((f"{what} {i}", r) for i, r in enumerate(found))


def full_name(info: Any) -> str:
    """Name of an op in PyTorch's table, with its variant."""
    return info.name + (f"/{info.variant_test_name}" if info.variant_test_name else "")


TABLE = {full_name(info): info for info in op_db}


def samples_of(name: str, dtype: str) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """All samples that PyTorch's tests make for this op: (input, args, keywords), the same in every run."""
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002 - PyTorch's generators draw from it
    info = TABLE[name]
    found = []
    for make in (info.reference_inputs, info.sample_inputs):
        try:
            found = [(s.input, tuple(s.args), dict(s.kwargs)) for s in make("cpu", getattr(torch, dtype), requires_grad=info.supports_autograd)]
            break
        except (RuntimeError, ValueError):  # the reference inputs of a few ops cannot be made with gradients
            continue
    return found


def outside(sample: Any) -> str | None:
    """Why this sample has no meaning in minigrad; None if it has."""
    kinds = {t.dtype for t in tensors_in([sample[0], *sample[1], *sample[2].values()], torch.Tensor)}
    if kinds - NAMES.keys():
        return "complex numbers and bfloat16"
    return None if kinds else "no tensor at all"


def mapped(tree: Any, f: Callable[[torch.Tensor], Any]) -> Any:
    """The tree with each tensor replaced."""
    if isinstance(tree, torch.Tensor):
        return f(tree)
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(v, f) for v in tree)
    if isinstance(tree, dict):
        return {k: mapped(v, f) for k, v in tree.items()}
    return tree


def dtypes_named(tree: Any) -> Any:
    """The tree with PyTorch's dtypes replaced by their names."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(dtypes_named(v) for v in tree)
    if isinstance(tree, dict):
        return {k: dtypes_named(v) for k, v in tree.items()}
    return NAMES.get(tree, tree) if isinstance(tree, torch.dtype) else tree


def widened(tree: Any) -> Any:
    """The sample in float64: the same numbers, and float64 where float32 is asked for."""
    tree = mapped(tree, lambda t: t.detach().to(torch.float64).requires_grad_(t.requires_grad) if t.dtype == torch.float32 else t)
    return _with_dtype(tree)


def _with_dtype(tree: Any) -> Any:
    if isinstance(tree, (list, tuple)):
        return type(tree)(_with_dtype(v) for v in tree)
    if isinstance(tree, dict):
        return {k: _with_dtype(v) for k, v in tree.items()}
    return torch.float64 if tree is torch.float32 else tree


def moved(tree: Any, eps: float, rng: np.random.Generator) -> Any:
    """The sample with one rounding of each floating number."""
    return mapped(tree, lambda t: (t.detach() * (1 + eps * torch.tensor(rng.uniform(-1, 1, t.shape)))).to(t.dtype).requires_grad_(t.requires_grad)
                  if t.is_floating_point() else t)


# -- running --------------------------------------------------------------------------------------------------------------


def tensors_in(y: Any, kind: type) -> list[Any]:
    """The tensors of a result, in order."""
    if isinstance(y, kind):
        return [y]
    return [t for part in y for t in tensors_in(part, kind)] if isinstance(y, (list, tuple)) else []


def cotangent(seed: int, name: str, i: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers that are exact in float32."""
    rng = np.random.default_rng([seed, *name.encode(), i])
    return np.asarray(rng.standard_normal(shape).astype("float32"))


def same_layout(t: torch.Tensor) -> np.ndarray:
    """A NumPy array of the values of `t`, with its own memory, laid out in the same strides where there are no gaps."""
    return t.detach().clone(memory_format=torch.preserve_format).numpy()


class Ours:
    """minigrad's side."""

    kind = mg.Tensor

    @staticmethod
    def tensor(t: torch.Tensor) -> Any:
        return mg.from_array(same_layout(t), requires_grad=t.requires_grad and t.is_floating_point(), copy=False)

    @staticmethod
    def made(a: np.ndarray, dtype: Any, requires_grad: bool) -> Any:
        return mg.tensor(a, requires_grad, dtype)

    @staticmethod
    def is_floating(y: Any) -> bool:
        return y.dtype.kind == "f"

    @staticmethod
    def grad(ys: Any, xs: Any, gs: Any, create_graph: bool) -> Any:
        return mg.grad(ys, xs, gs, create_graph=create_graph, allow_unused=True)

    @staticmethod
    def array(t: Any) -> np.ndarray:
        return t.numpy()


class Theirs:
    """PyTorch's side."""

    kind = torch.Tensor

    @staticmethod
    def tensor(t: torch.Tensor) -> Any:
        return t.detach().clone(memory_format=torch.preserve_format).requires_grad_(t.requires_grad)

    @staticmethod
    def made(a: np.ndarray, dtype: Any, requires_grad: bool) -> Any:
        return torch.tensor(a, dtype=dtype, requires_grad=requires_grad)

    @staticmethod
    def is_floating(y: Any) -> bool:
        return y.is_floating_point()

    @staticmethod
    def grad(ys: Any, xs: Any, gs: Any, create_graph: bool) -> Any:
        return torch.autograd.grad(ys, xs, gs, create_graph=create_graph, allow_unused=True)

    @staticmethod
    def array(t: Any) -> np.ndarray:
        return t.detach().resolve_conj().resolve_neg().numpy()


def run(side: Any, f: Callable[..., Any], sample: Any, seed: int, order: int) -> Results:
    """Value of f(input, *args, **keywords); gradients in all inputs that require them; derivatives of ⟨gradients, w⟩ in them and the cotangents."""
    inputs: list[Any] = []

    def made(t: torch.Tensor) -> Any:
        mine = side.tensor(t)
        if t.requires_grad:
            inputs.append(mine)
        return mine

    x, args, keywords = mapped(sample, made)
    if side is Ours:
        args, keywords = dtypes_named(args), dtypes_named(keywords)
    ys = tensors_in(f(x, *args, **keywords), side.kind)
    values = [side.array(y) for y in ys]
    moving = [(i, y) for i, y in enumerate(ys) if side.is_floating(y) and y.requires_grad] if inputs and order else []
    if not moving:
        return Results(values, [None] * len(inputs) * bool(order), [None] * (len(inputs) + len(ys)) * (order == 2))
    gs = {i: side.made(cotangent(seed, "g", i, tuple(y.shape)), y.dtype, order == 2) for i, y in moving}
    first = side.grad([y for _, y in moving], inputs, [gs[i] for i, _ in moving], order == 2)
    found = [None if d is None else side.array(d) for d in first]
    if order < 2:
        return Results(values, found, [])
    twice = [(d, side.made(cotangent(seed, "w", i, tuple(d.shape)), d.dtype, False)) for i, d in enumerate(first) if d is not None and d.requires_grad]
    second = [None] * (len(inputs) + len(ys))
    if twice:
        pulled = side.grad([d for d, _ in twice], [*inputs, *gs.values()], [w for _, w in twice], False)
        for place, d in zip([*range(len(inputs)), *(len(inputs) + i for i in gs)], pulled, strict=True):
            second[place] = None if d is None else side.array(d)
    return Results(values, found, second)


# -- judging --------------------------------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """Where two results are not the same."""

    what: str
    ours: Any
    theirs: Any
    places: Any  # boolean array, or None where shapes or dtypes differ
    text: str


def differences(ours: Results, theirs: Results, dtype: str, exact: Results | None, sensitivity: Callable[[], list[Results]]) -> list[Difference]:
    """What is not within its bound. `exact`: PyTorch's float64 results, for float32."""
    found: list[Difference] = []
    pairs = list(zip(ours.named(), theirs.named(), (exact or theirs).named(), strict=True)) if _same_counts(ours, theirs) else None
    if pairs is None:
        return [Difference("number of results", None, None, None, f"{[len(r) for r in ours]} against {[len(r) for r in theirs]}")]
    largest = max((_size(e) for _, (_, t), (_, e) in pairs if t is not None and e is not None), default=0.0)
    noise: list[dict[str, Any]] = []
    for (what, o), (_, t), (_, e) in pairs:
        o, t, e = (_zeros(a, o, t, e) for a in (o, t, e))
        if o is None:
            continue
        o, t, e = np.asarray(o), np.asarray(t), np.asarray(e)
        if o.shape != t.shape or o.dtype != t.dtype:
            found.append(Difference(what, o, t, None, f"{o.dtype}{o.shape} against {t.dtype}{t.shape}"))
            continue
        if o.dtype.kind != "f":
            wrong = np.asarray(o != t)
            if wrong.any():
                found.append(Difference(what, o, t, wrong, _text(o, t, wrong)))
            continue
        wrong = _not_finite_alike(o, t, e)
        with np.errstate(all="ignore"):
            error = np.where(np.isfinite(o) & np.isfinite(e), np.abs(o.astype("float64") - e.astype("float64")), 0.0)
        eps = EPS.get(str(o.dtype), 2.0**-10)
        allowed = 64 * eps * _size(e) + 4 * eps * largest
        if (error > allowed).any():
            if not noise:
                noise = [dict(r.named()) for r in sensitivity()]
            moves = [np.abs(n[what] - e.astype("float64")) for n in noise if n.get(what) is not None and n[what].shape == e.shape]
            excuse = 64 * max((float(np.max(m[np.isfinite(m)], initial=0.0)) for m in moves), default=0.0)
            if exact is not None:
                with np.errstate(all="ignore"):
                    own = np.abs(t.astype("float64") - e)
                excuse += 16 * float(np.max(own[np.isfinite(own)], initial=0.0))
            allowed += min(excuse, EXCUSE.get(dtype, 1e-3) * largest)
            wrong = wrong | (error > allowed)
        if wrong.any():
            found.append(Difference(what, o, t, wrong, _text(o, t, wrong) + f" (allowed {allowed:.1e})"))
    return found


def _same_counts(a: Results, b: Results) -> bool:
    return [len(r) for r in a] == [len(r) for r in b]


def _zeros(a: Any, *others: Any) -> Any:
    """`a`, or zeros of the others' shape where it is None."""
    return a if a is not None else next((np.zeros_like(b) for b in others if b is not None), None)


def _size(a: Any) -> float:
    return 0.0 if a is None or a.dtype.kind not in "f" else float(np.max(np.abs(a[np.isfinite(a)]).astype("float64"), initial=0.0))


def _not_finite_alike(o: Any, t: Any, e: Any) -> Any:
    """Where ours or theirs is NaN or infinite, and the other is not the same. Finite where only PyTorch's float32 overflows is no fault."""
    with np.errstate(all="ignore"):
        rounded = e.astype(o.dtype)
    alike = lambda other: (np.isnan(o) & np.isnan(other)) | (o == other)
    special = ~np.isfinite(o) | ~np.isfinite(t)
    return special & ~alike(t) & ~alike(rounded) & ~(np.isfinite(o) & np.isfinite(rounded))


def _text(o: Any, t: Any, wrong: Any) -> str:
    at = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(wrong)))
    o, t = np.atleast_1d(o), np.atleast_1d(t)
    return f"{int(wrong.sum())} of {wrong.size} elements, first at {list(at)}: {o[at]!r} against {t[at]!r}"


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], sample: Any, dtype: str, seed: int) -> tuple[int, list[Difference]]:
    """(highest order compared, differences).

    Raises:
        Without: PyTorch cannot run the sample, or minigrad refuses it with an error that says why.
    """
    why = outside(sample)
    if why is not None:
        raise Without(why)
    order, reference = 2, None
    while reference is None:
        try:
            reference = run(Theirs, theirs, sample, seed, order)
        except (RuntimeError, NotImplementedError, IndexError, ValueError, TypeError) as e:
            why, order = str(e).splitlines()[0][:90], order - 1
            if order < 0:
                raise Without(f"PyTorch raises: {why}") from None
    if not reference.values:
        raise Without("PyTorch gives no tensor")
    mine = run(Ours, ours, sample, seed, order)
    wide = widened(sample)
    exact = run(Theirs, theirs, wide, seed, order) if dtype == "float32" else None

    def sensitivity() -> list[Results]:
        rng = np.random.default_rng(seed)
        return [run(Theirs, theirs, moved(wide, EPS.get(dtype, 0.0), rng), seed, order) for _ in range(3)]

    return order, differences(mine, reference, dtype, exact, sensitivity)


def shown(sample: Any) -> str:
    """A sample in one line: dtypes and shapes, * where a gradient is asked for."""
    if isinstance(sample, torch.Tensor):
        return f"{NAMES.get(sample.dtype, sample.dtype)}{list(sample.shape)}{'*' * sample.requires_grad}{'' if sample.is_contiguous() else ' strided'}"
    if isinstance(sample, (list, tuple)):
        return f"({', '.join(map(shown, sample))})"
    if isinstance(sample, dict):
        return ", ".join(f"{k}={shown(v)}" for k, v in sample.items())
    return repr(sample)


def describe(sample: Any) -> str:
    """The call, so that it can be written down."""
    x, args, keywords = sample
    return ", ".join(s for s in (shown(x), *map(shown, args), shown(keywords)) if s)
