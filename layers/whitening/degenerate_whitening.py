"""What the derivations of decorrelated batch norm make of batches whose eigenvalues are close, equal, or all equal.

    >>> from layers.whitening.degenerate_whitening import degenerate_comparison
    >>> rows = degenerate_comparison(trials=1)
    >>> max(row.error for row in rows if row.method == "stable" and row.dtype == "float64") < 1e-12
    True

The reference knows none of the formulas: it evaluates the layer in extended precision at x + ih for every element of x and
takes the imaginary part ("complex step": no difference, so no cancellation); Σ^(−1/2) comes from Newton-Schulz, run to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import minigrad as mg
from minigrad import backend
from minigrad.check.relative import relative_error

from ..registry import REGISTRY
from .decorrelated_batch_norm import composed_through_eigh

Method = Callable[[Any, Any, float], Any]  # (x (m, d), cotangent, eps) -> dx, of NumPy arrays

CHANNELS, SAMPLES, EPS = 5, 32, 1e-5


class MedianError(NamedTuple):
    """The median relative error of dx over some batches of a kind; NaN counts as larger than any number."""

    batch: str
    dtype: str
    method: str
    error: float


def methods() -> dict[str, Method]:
    """The layer's forms, each as a function from (x, cotangent, eps) to dx."""
    layer = REGISTRY["decorrelated_batch_norm"]
    forms = {"staged": layer.derived["staged"], "simplified": layer.derived["simplified"], "composed through eigh": composed_through_eigh,
             "composed": layer.composed, "stable": layer.derived["stable"]}

    def gradient_of(form: Callable[..., Any]) -> Method:
        def gradient(x: Any, g: Any, eps: float) -> Any:
            v = mg.tensor(x, requires_grad=True, backend="numpy")
            return mg.grad(form(v, eps=eps), [v], mg.tensor(g, backend="numpy"))[0].numpy()  # type: ignore[union-attr]
        return gradient
    return {name: gradient_of(form) for name, form in forms.items()}


def batches(rng: Any) -> dict[str, Any]:
    """Kind -> x (SAMPLES, CHANNELS) in float64, centred, with a covariance of known eigenvalues in random directions."""
    np = backend.get("numpy")
    d, m = CHANNELS, SAMPLES

    def with_eigenvalues(values: Any) -> Any:
        noise = rng.normal(size=(m, d))
        q = np.linalg.qr(noise - noise.mean(0))[0]                     # (m, d), orthonormal columns of mean 0
        turned = np.linalg.qr(rng.normal(size=(d, d)))[0]
        return m ** 0.5 * (q * np.sqrt(values)) @ turned.T
    kinds = {f"gap {gap:g}": with_eigenvalues(np.array([1.0, 1.0 + gap, 2.0, 3.0, 4.0])) for gap in (1e-1, 1e-4, 1e-8, 1e-12)}
    kinds["white up to rounding"] = with_eigenvalues(np.ones(d))
    signs = 1.0 - 2.0 * (rng.permutation(m)[:, None] >> rng.permutation(d)[None] & 1)      # orthogonal columns of ±1
    kinds["exactly white"] = signs
    kinds["exactly equal pairs"] = signs * (1, 1, 2, 2, 3)
    return kinds


def reference(x: Any, g: Any, eps: float) -> Any:
    """dx of ZCA whitening for x, g (m, d), by complex steps in extended precision."""
    np = backend.get("numpy")
    m, d = x.shape
    h, eye = np.longdouble(1e-25), np.eye(d, dtype=np.clongdouble)
    moved = x + 1j * h * np.eye(m * d, dtype=np.clongdouble).reshape(m * d, m, d)          # one moved element in each
    xc = moved - moved.mean(1, keepdims=True)
    a = xc.swapaxes(1, 2) @ xc / m + eps * eye
    size = np.trace(a, axis1=1, axis2=2)[:, None, None]
    y, z = a / size, eye
    for _ in range(60):
        step = 0.5 * (3.0 * eye - z @ y)
        y, z = y @ step, step @ z
    return ((xc @ (z / np.sqrt(size)) * g).sum((1, 2)).imag / h).reshape(m, d)


def degenerate_comparison(*, trials: int = 5, seed: int = 0, more: Mapping[str, Method] | None = None) -> list[MedianError]:
    """Relative errors of dx for every kind of batch, in float64 and float32, of each of our forms, and of `more` methods."""
    np = backend.get("numpy")
    found: dict[tuple[str, str, str], list[float]] = {}
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        for kind, x in batches(rng).items():
            g = rng.normal(size=x.shape)
            for dtype in ("float64", "float32"):
                x_, g_ = x.astype(dtype), g.astype(dtype)
                exact = reference(x_.astype("float64"), g_.astype("float64"), EPS)
                for name, method in {**methods(), **(more or {})}.items():
                    with np.errstate(all="ignore"):
                        error = relative_error(method(x_, g_, EPS), exact)
                    found.setdefault((kind, dtype, name), []).append(error)
    return [MedianError(*key, float(np.sort(errors)[len(errors) // 2])) for key, errors in found.items()]


def as_markdown(rows: list[MedianError]) -> str:
    """One line per kind of batch and dtype, one column per method."""
    names = list(dict.fromkeys(row.method for row in rows))
    lines = ["| batch | dtype | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for batch, dtype in dict.fromkeys((row.batch, row.dtype) for row in rows):
        errors = {row.method: row.error for row in rows if (row.batch, row.dtype) == (batch, dtype)}
        lines.append(f"| {batch} | {dtype} | " + " | ".join(f"{errors[n]:.0e}" if errors[n] == errors[n] else "NaN" for n in names) + " |")
    return "\n".join(lines)
