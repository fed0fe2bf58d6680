"""Do the forms of a layer agree, and how closely must they? One answer for the tests, for the mutants and for report.py.

    derivatives(form, arrays, keywords, backend, seed)     value, gradients and second derivatives at random cotangents
    relative_errors(found, expected), bound(name, order)   in float64: derived against composed
    float32_errors(layer, derivation, case)                in float32: derived against float64, errors with their bounds
    half_errors(layer, form, case)                         any form of float16 x against float64, in units of the bound
    differences(layer, form, case)                         any form against central differences

Nothing here looks into a layer: everything is read from its entry in `REGISTRY`. Arrays are compared on the host.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import minigrad as mg
from minigrad.check.relative import relative_error, worst
from minigrad.core.backend import np

from ..registry import REGISTRY, Case, Form, Layer

Results = list[Any]  # float NumPy arrays; None where nothing depends on an input

WHITENING = {"decorrelated_batch_norm", "iter_norm", "pca_whitening", "orthogonal_weight_norm"}
NO_QUOTIENT = "mean 1e4"  # a case where the difference quotient, not the layer, loses its digits


def bound(name: str, order: int) -> float:
    """How far derived and composed may differ in float64: rounding of well-conditioned steps, of matrix functions, of two passes."""
    return 1e-9 if order == 2 or name in WHITENING else 1e-11


def seeded(*words: Any) -> Any:
    """A random generator for these words alone, the same in every run."""
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def why_not_held(name: str, derivation: str | None, case: str, dtype: Any = "float64", order: int = 1) -> str:
    """Why this derivation is not held to its bound in this case; empty if it is. There are no other exceptions."""
    if name == "decorrelated_batch_norm" and derivation in ("staged", "simplified") and "degenerate" in case:
        return "divides by the gaps between eigenvalues"
    if name == "inplace_abn" and derivation == "form_2" and "small" in case and order == 2 and dtype == "float32":
        return "β ≫ γ: form II subtracts after it has summed, and 1/γ² of the lost digits are in ∂²/∂γ²"
    return ""


def cases_of(name: str, derivation: str | None = None, dtype: Any = "float64", order: int = 1) -> list[Case]:
    """The cases of a layer in which this derivation is held to its bound; without a derivation all of them."""
    return [case for case in REGISTRY[name].cases(dtype, seeded(name, "cases")) if not why_not_held(name, derivation, case[0], dtype, order)]


def on_backend(keywords: dict[str, Any], backend: str, dtype: Any = None) -> dict[str, Any]:
    """Array keywords as constants on the backend."""
    return {k: mg.tensor(v if dtype is None else v.astype(dtype), backend=backend) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}


def derivatives(form: Form, arrays: Sequence[Any], keywords: dict[str, Any], backend: str, seed: int, order: int = 1, dtype: Any = None) -> Results:
    """Value, gradients and, for order 2, gradients of the gradients, all with random cotangents, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    xs = [mg.tensor(a if dtype is None else a.astype(dtype), requires_grad=True, backend=backend) for a in arrays]
    y = form(*xs, **on_backend(keywords, backend, dtype))
    v = mg.tensor(rng.normal(size=y.shape).astype(y.dtype), requires_grad=order == 2, backend=backend)
    first = mg.grad(y, xs, v, create_graph=order == 2)
    results = [y, *first]
    if order == 2:
        cotangents = [mg.tensor(rng.normal(size=g.shape).astype(g.dtype), backend=backend) for g in first if g is not None]
        pairs = [(g, u) for g, u in zip(first, cotangents, strict=True) if g is not None and g.requires_grad]
        results += mg.grad([g for g, _ in pairs], [*xs, v], [u for _, u in pairs], allow_unused=True)
    return [None if r is None else r.numpy() for r in results]


def relative_errors(found: Results, expected: Results) -> list[float]:
    """‖f − e‖/‖e‖ of each pair, a small ‖e‖ counted as 10⁻³ of the largest; None is zero; infinite for another shape or dtype."""
    scale = max(float(np.linalg.norm(e)) for e in expected if e is not None)
    errors = []
    for f, e in zip(found, expected, strict=True):
        f, e = (np.zeros_like(o) if a is None and o is not None else a for a, o in ((f, e), (e, f)))
        if f is None or not (f.size or e.size):
            errors.append(0.0)
        elif f.shape != e.shape or f.dtype != e.dtype:
            errors.append(float("inf"))
        else:
            errors.append(relative_error(f, e, max(float(np.linalg.norm(e)), 1e-3 * scale)))
    return errors


def float32_errors(layer: Layer, derivation: str, case: Case, backend: str = "numpy", order: int = 1) -> list[tuple[float, float]]:
    """(|float32 − float64|, its bound), relative as in `relative_errors`, for each result of the derivation.

    The bound is 64 × the effect of perturbing every input by one unit of rounding + 64 units of the result + 8 × the error
    of the composed form in float32 + 4 units of the largest result. The first two say that the result is the exact one for
    inputs that are wrong in their last bits. The others allow for cancellation inside the layer (with n = 2, dx is the small
    difference of large terms), where no form can do better.
    """
    name, arrays, keywords = case
    eps = float(np.finfo("float32").eps)

    def run(form: Form, values: Sequence[Any], dtype: str) -> Results:
        results = derivatives(form, values, keywords, backend, 3, order, dtype)
        return [np.zeros(()) if r is None else r.astype("float64") if r.dtype == dtype else np.full(r.shape, np.nan) for r in results]

    exact, single, taped = run(layer.composed, arrays, "float64"), run(layer.derived[derivation], arrays, "float32"), run(layer.composed, arrays, "float32")
    moved = []
    for trial in range(4):
        rng = seeded(layer.name, name, trial)
        moved.append(run(layer.composed, [a.astype("float64") * (1 + eps * rng.uniform(-1, 1, a.shape)) for a in arrays], "float64"))
    largest = max(float(np.linalg.norm(e)) for e in exact)
    found = []
    for i, (s, e) in enumerate(zip(single, exact, strict=True)):
        sensitivity = max(float(np.linalg.norm(m[i] - e)) for m in moved)
        allowed = 64 * sensitivity + 64 * eps * float(np.linalg.norm(e)) + 8 * float(np.linalg.norm(taped[i] - e)) + 4 * eps * largest
        size = max(float(np.linalg.norm(e)), 1e-3 * largest) or 1.0
        found.append((float(np.linalg.norm(s - e)) / size, allowed / size))
    return found


def half_errors(layer: Layer, form: str, case: Case, backend: str = "numpy") -> list[float]:
    """The value and the gradients for a float16 x, against float64 at the same rounded inputs: of each the worst element's error, in units of its bound.

    Parameters may be float16 or float32. The cotangent is rounded to the output's dtype first, as the inputs are. The bound of an
    element e is u|e| + 2⁻²⁵, with u = 2⁻¹¹, for storing it as float16, and u times the root mean square of the result for everything
    before it: that is 8192 roundings of float32. Where a result is much smaller than the terms it is made of, 4 times the effect
    of one float32 rounding of every input, and 4 such roundings of the largest result, are added; and for an op that keeps
    its output in the place of its input, 4 times the effect of having that output in float16. Beyond 65504 float16 is infinite.
    """
    name, arrays, keywords = case
    u, single = 2.0 ** -11, float(np.finfo("float32").eps)

    def run(f: Form, values: Sequence[Any], dtype: Any = "float64", v: Any = None, stored: bool = False) -> tuple[Results, Any]:
        xs = [mg.tensor(a if dtype is None else a.astype(dtype), requires_grad=True, backend=backend) for a in values]
        y = f(*xs, **on_backend(keywords, backend, dtype))
        if v is None:  # a penalty can be large: then a cotangent that is small enough
            v = (seeded(layer.name, name, form).normal(size=y.shape) / (1 if y.ndim else 1 + abs(y.item()))).astype(y.dtype)
        if stored:
            y._data[...] = y._data.astype("float16")
        gradients = mg.grad(y, xs, mg.tensor(v.astype(y.dtype), backend=backend))
        return [r.numpy() for r in (y, *gradients)], v

    found, v = run(layer.form(form), arrays, None)
    exact, _ = run(layer.composed, arrays, v=v)
    rng = seeded(layer.name, name)
    moved, _ = run(layer.composed, [a.astype("float64") * (1 + single * rng.uniform(-1, 1, a.shape)) for a in arrays], v=v)
    keeps_output = getattr(getattr(layer.form(form), "primitive", None), "rebuild", {})
    kept, _ = run(layer.form(form), arrays, v=v, stored=True) if keeps_output else (exact, v)
    largest = max(float(np.sqrt(np.mean(np.square(e)))) for e in exact)
    ratios = []
    for i, (f, e) in enumerate(zip(found, exact, strict=True)):
        wanted = arrays[i - 1].dtype if i else arrays[0].dtype if f.ndim else np.dtype("float32")
        extra = 4 * np.abs(moved[i] - e).max() + 4 * single * largest + 4 * np.abs(kept[i] - e).max()
        bounds = u * np.abs(e) + 2.0 ** -25 + u * np.sqrt(np.mean(np.square(e))) + extra
        right = (f == np.sign(e) * np.inf) & (np.abs(e) + bounds >= 65520) & (wanted == "float16")  # too large for float16: infinite
        errors = np.where(right, 0, np.abs(np.where(right, 0, f).astype("float64") - e) / bounds)
        ratios.append(float(np.max(errors)) if f.shape == e.shape and f.dtype == wanted else float("inf"))
    return ratios


def differences(layer: Layer, form: str, case: Case, backend: str = "numpy", order: int = 1) -> Any:
    """The report of `gradcheck` on this form, constants for the derivative frozen; None where quotients have no digits.

    Raises:
        ArithmeticError: the frozen function, of which quotients are taken, has another derivative than the form itself.
    """
    name, arrays, keywords = case
    variants: dict[Any, tuple[Form, dict[str, Any]]] = {}

    def at(dtype: Any) -> tuple[Form, dict[str, Any]]:
        """The function whose quotients are taken, and its keywords: in float64, too, where the layer runs in float32."""
        if dtype not in variants:
            constants = on_backend(keywords, backend, dtype)
            raw = {k: v._data if isinstance(v, mg.Tensor) else v for k, v in constants.items()}
            values = tuple(mg.tensor(a.astype(dtype), backend=backend)._data for a in arrays)
            variants[dtype] = layer.frozen(values, raw) if layer.frozen else layer.form(form), constants
        return variants[dtype]

    if layer.frozen:
        frozen, constants = at(np.dtype("float64"))
        found = derivatives(layer.form(form), arrays, keywords, backend, 4, order, "float64")
        error = worst(relative_errors(found, derivatives(lambda *xs, **_: frozen(*xs, **constants), arrays, {}, backend, 4, order, "float64")))
        if not error <= 1e-11:
            raise ArithmeticError(f"{layer.name}, {form}, case {name!r}: the frozen function has another derivative, off by {error:.1e}")
    if NO_QUOTIENT in name:
        return None

    def f(*xs: Any) -> Any:
        function, constants = at(xs[0].dtype)
        return function(*xs, **constants)
    return mg.gradcheck(f, [mg.tensor(a, backend=backend) for a in arrays], order=order)
