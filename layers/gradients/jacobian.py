"""The Jacobian of batch norm worked out, and how far any layer is from an isometry.

Batch norm maps the m values x of a channel to y = γ x̂ + β. bn-jacobian writes down what that does to a gradient:

    (1)-(3)  ∂y/∂x of a batch (m, d) has m² diagonal blocks D_ij (d, d); channels do not see each other, so that sorted by
             channel it is block diagonal, with one J (m, m) per channel
    (4), (6) J = ρ (I − U/m),  ρ = γ/s,  s = √(var + ε)
    (5)      U = e eᵀ + x̂ x̂ᵀ, e = (1, …, 1): what the mean, and what the variance take away
    (7)      rank U ≤ 2
    (8)      U e = m e, because Σ x̂ = 0;  U x̂ = (Σ x̂²) x̂, and Σ x̂² = m·var/(var + ε).  So e and x̂ are the eigenvectors, and
             λ₁ = m, λ₂ = m·var/(var + ε)
    (9)      J = ρ · diag(0, ε/(var + ε), 1, …, 1) in the basis e, x̂, and m − 2 vectors orthogonal to both
    (10)     U² = mU + (Σ x̂² − m) x̂ x̂ᵀ = mU − (mε/(var + ε)) x̂ x̂ᵀ, without the terms with Σ x̂

The paper argues that U² ≈ mU, and λ₁ ≈ λ₂ ≈ m, for large batches of Gaussian data. No such assumption is needed: Σ x̂ = 0
holds for any data, and Σ x̂² = m at ε = 0. So J is ρ times a projection that forgets exactly two directions, a shift of the
channel and a change of its scale: a quasi-isometry of all others.

Source: bn-jacobian, eqs 1-10; dynamical isometry: Saxe, McClelland and Ganguli [saxe2014].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import minigrad as mg
from minigrad import backend, mean, nn, outer, sqrt
from minigrad.core.errors import describe, error
from minigrad.core.tensor import state

from ..shapes import refuse_constant_channels

# -- batch norm, one channel --------------------------------------------------------------------------------------------


def batch_norm_jacobian(x: Any, *, eps: float, gamma: float = 1.0) -> Any:
    """J (m, m) of one channel x (m,): ∂y_i/∂x_j, symmetric. Eq 6.

    >>> import minigrad as mg, layers
    >>> layers.batch_norm_jacobian(mg.tensor([-1.0, 0.0, 1.0]), eps=0.0)      # nothing but 0, 0 and ρ: m − 2 = 1
    tensor([[ 0.20412, -0.40825,  0.20412],
            [-0.40825,  0.8165 , -0.40825],
            [ 0.20412, -0.40825,  0.20412]], dtype=float32)
    """
    _, rstd = _normalized(x, eps)
    return gamma * rstd * (_eye(x) - batch_norm_u(x, eps=eps) / x.shape[0])


def batch_norm_u(x: Any, *, eps: float) -> Any:
    """U = e eᵀ + x̂ x̂ᵀ (m, m) of one channel x (m,). Eq 5."""
    xhat, _ = _normalized(x, eps)
    return 1.0 + outer(xhat, xhat)


def batch_norm_spectrum(x: Any, *, eps: float, gamma: float = 1.0) -> Any:
    """The m eigenvalues ρ·(0, ε/(var + ε), 1, …, 1) of J, in the order of eq 9: of e, of x̂, and of all the rest.

    Its null vectors are e, always, and x̂ if ε = 0.
    """
    xc = x - mean(x)
    var = mean(xc * xc)
    eye = _eye(x)
    second = eye[1] if x.shape[0] > 1 else 0.0 * eye[0]
    rest = 1.0 - eye[0] - second
    return gamma * _normalized(x, eps)[1] * (rest + second * (eps / (var + eps)))


def _normalized(x: Any, eps: float) -> tuple[Any, Any]:
    """x̂ and 1/s."""
    if x.ndim != 1 or not x.size:
        raise error(ValueError, "batch_norm_jacobian", got=describe(x), needs="the values of one channel, (m,)",
                    fix="pick a channel and flatten it: x[:, c].reshape(-1)")
    xc = x - mean(x)
    var = mean(xc * xc)
    refuse_constant_channels("batch_norm_jacobian", var, eps)
    rstd = 1.0 / sqrt(var + eps)
    return xc * rstd, rstd


def _eye(x: Any) -> Any:
    return backend.namespace(getattr(x, "_data", x)).eye(x.shape[0], dtype=x.dtype)


# -- any layer ----------------------------------------------------------------------------------------------------------


class Isometry(NamedTuple):
    """How far a map with Jacobian J (out × in) at a point is from an isometry. Let σ_k be its n = min(in, out) singular values.

    ratio: √(Σ σ²/out), the typical ‖dx‖/‖dy‖: for dy at random, E‖Jᵀdy‖² = ratio²·E‖dy‖².
    spread: √(n Σσ⁴/(Σσ²)² − 1), the standard deviation of σ² over its mean; 0 for a multiple of an isometry, √(n/k − 1) where
        k singular values are equal and the others are 0.

    Dynamical isometry (Saxe et al. [saxe2014]) asks for σ_k = 1, so ratio 1 (if out ≤ in) and spread 0; bn-jacobian calls it
    quasi-isometry if that holds except for a few directions. Batch norm with ε = 0 has ρ and √(2/(m − 2)) (one channel).
    """

    ratio: float
    spread: float


def isometry(f: Any, x: Any, *, probes: int = 16, seed: int = 0) -> Isometry:
    """Measure how far `f` at `x` is from an isometry, by products with J and Jᵀ only (`mg.vjp`, `mg.jvp`).

    Args:
        f: a function or Module from one Tensor to one, evaluated once. Running statistics stay as they are.
        x: the point; with a batch axis the whole batch is one point.
        probes: with n ≤ probes, unit vectors are used, and the numbers are exact. Else E‖Jᵀv‖² = Σσ² and E‖J Jᵀv‖² = Σσ⁴ are
            means over so many vectors v of random signs (on the smaller side), with a relative error of order 1/√(n · probes).
        seed: of the signs.

    >>> import minigrad as mg, layers
    >>> layers.isometry(lambda x: 3.0 * x, mg.tensor([1.0, 2.0]))
    Isometry(ratio=3.0, spread=0.0)
    """
    inside = _variable(x)
    with _measuring():
        y = f(inside)
        if not y.requires_grad:
            return Isometry(0.0, float("nan"))
        u = _variable(y * 0.0)
        pulled: Any = mg.grad(y, [inside], u, create_graph=True)[0]    # Jᵀu, as a linear function of u

        def transposed(v: Any) -> Any:                                 # Jᵀv
            return mg.grad(y, [inside], v, retain_graph=True)[0]

        def forward(v: Any) -> Any:                                    # J v: the vjp of u -> Jᵀu
            return mg.grad(pulled, [u], v, retain_graph=True)[0]

        first, back, small = (forward, transposed, inside) if inside.size <= y.size else (transposed, forward, y)
        squares, fourths, n = [], [], small.size
        for v in _probes(n, probes, seed):
            jv = first(_like(small, v))
            squares.append(_square(jv))
            fourths.append(_square(back(jv)))
    count = 1 if n <= probes else len(squares)
    s2, s4 = sum(squares) / count, sum(fourths) / count
    return Isometry((s2 / y.size) ** 0.5, max(n * s4 / s2**2 - 1.0, 0.0) ** 0.5 if s2 else float("nan"))


def isometry_by_layer(model: nn.Sequential, x: Any, *, probes: int = 16, seed: int = 0) -> dict[str, Isometry]:
    """`isometry` of each layer of `model`, at the input that reaches it when the model gets `x`."""
    found = {}
    for name, layer in _layers(model):
        found[name] = isometry(layer, x, probes=probes, seed=seed)
        with mg.no_grad(), _measuring():
            x = layer(x)
    return found


def gradient_ratios(model: nn.Sequential, x: Any, loss: Any) -> dict[str, float]:
    """‖∂L/∂input‖/‖∂L/∂output‖ of each layer of `model`, for the actual loss, seen by hooks on the tape.

    Args:
        x: input of the model, floating.
        loss: from the model's output to a scalar Tensor. Only its gradient counts.

    Their product is how much larger the gradient is at the input than at the output: below 1 at every layer, it vanishes
    with depth. Parameters' ``.grad`` and running statistics stay as they are. NaN where no gradient arrives.
    """
    points: list[Any] = [_variable(x)]
    norms: dict[int, float] = {}
    with _measuring():
        for _, layer in _layers(model):
            points.append(layer(points[-1]))
        for i, point in enumerate(points):
            def measure(g: Any, i: int = i) -> None:
                norms[i] = _square(g) ** 0.5
            if point.requires_grad:
                point.register_hook(measure)
        mg.grad(loss(points[-1]), [points[0]], allow_unused=True)
    norm = [norms.get(i, 0.0) for i in range(len(points))]
    return {name: norm[i] / norm[i + 1] if norm[i + 1] else float("nan") for i, (name, _) in enumerate(_layers(model))}


class _measuring:
    """Inside, Modules leave their running statistics alone, as in a gradient check."""

    def __enter__(self) -> None:
        self._before, state.checking = state.checking, True

    def __exit__(self, *_: object) -> None:
        state.checking = self._before


def _layers(model: Any) -> list[tuple[str, Any]]:
    if not isinstance(model, nn.Sequential):
        raise error(TypeError, "layers of a network", got=describe(model), needs="an nn.Sequential",
                    fix="wrap the parts that follow each other: nn.Sequential(*parts)")
    return [(name, layer) for name, layer in model._modules.items() if layer is not None]


def _variable(x: Any) -> Any:
    variable = x.detach().clone()
    variable.requires_grad = True
    return variable


def _probes(n: int, count: int, seed: int) -> Any:
    """All unit vectors of length n if there are at most `count`, else `count` vectors of random signs; on the host."""
    rng = backend.np.random.default_rng(seed)
    yield from backend.np.eye(n) if n <= count else (rng.choice([-1.0, 1.0], n) for _ in range(count))


def _like(t: Any, v: Any) -> Any:
    return mg.tensor(v.reshape(t.shape), dtype=t.dtype, backend=t.backend)


def _square(t: Any) -> float:
    """‖t‖²."""
    return float(mg.sum(mg.astype(t.detach(), "float64") ** 2).item())


__all__ = ["Isometry", "batch_norm_jacobian", "batch_norm_spectrum", "batch_norm_u", "gradient_ratios", "isometry", "isometry_by_layer"]
