"""InPlace-ABN: batch norm and an invertible activation as one op that keeps its output, and nothing else of x's size.

    x (N, C) or (N, C, *spatial)    gamma, beta (C,)    z like x        m = N · spatial elements per channel

Batch norm and a leaky ReLU keep two large arrays for their backward, x and z. The output z alone is enough, if one can go
back from it: z → y = φ⁻¹(z) → x̂ = (y − β)/γ. And since x itself is no longer needed, z may be written into its buffer.

To go back, γ must not be 0: in all forms γ stands for copysign(max(|γ|, 10⁻³), γ), and where this holds γ back, ∂L/∂γ = 0.
The way back costs digits: z is rounded, so x̂ comes back with an error of about u·(|β|/|γ| + |x̂|), u = 6·10⁻⁸ in float32, and
where ELU is almost −1, of u/((1 + z)|γ|). ∂L/∂γ has it in full, ∂L/∂x only through the small term ∂L/∂γ x̂/m.

Source: inplace-abn, section 2 (forms I and II; the sign in the last line of II is a misprint, see there).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import minigrad as mg
from minigrad import abs, clip, log1p, mean, named, relu, sqrt, where
from minigrad.core.errors import error
from minigrad.kernels import normalize
from minigrad.ops.broadcasting import namespace_of

from ..registry import Case, register
from ..shapes import exact_mean, one_dtype, per_channel, refuse_constant_channels

SMALLEST = 1e-3  # |γ| below this counts as this


@mg.elementwise(gamma=lambda g, gamma: where(abs(gamma) < SMALLEST, 0.0, g))
def away_from_zero(xp: Any, gamma: Any) -> Any:
    """copysign(max(|γ|, 10⁻³), γ): where it holds γ back, its derivative is 0 (of the two at the kink itself, 1)."""
    return xp.copysign(xp.maximum(xp.absolute(gamma), SMALLEST), gamma)


def refuse_activation(activation: str, slope: float) -> None:
    """Only activations that can be inverted."""
    if activation not in ("identity", "leaky_relu", "elu"):
        raise error(ValueError, "inplace_abn", got=f"activation={activation!r}", needs="'leaky_relu', 'elu' or 'identity': one that can be inverted",
                    fix="leaky_relu stands in for relu")
    if activation == "leaky_relu" and not slope > 0:
        raise error(ValueError, "inplace_abn", got=f"slope={slope}", needs="slope > 0: with 0 (ReLU) there is no way back from the output",
                    fix="slope=0.01")


# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(x: Any, gamma: Any, beta: Any, *, eps: float, activation: str = "leaky_relu", slope: float = 0.01) -> Any:
    """Batch norm, then the activation, as a graph of primitives; the tape derives the backward."""
    refuse_activation(activation, slope)
    axes, (gamma, beta) = per_channel("inplace_abn", x, gamma=away_from_zero(*one_dtype("inplace_abn", x, gamma=gamma)), beta=beta)
    mu = named("mu", exact_mean(x, axes=axes))                         # (1, C, 1, 1)
    xc = named("xc", x - mu)                                           # like x
    var = named("var", mean(xc * xc, axes, keepdims=True))             # (1, C, 1, 1)
    refuse_constant_channels("inplace_abn", var, eps)
    rstd = named("rstd", 1.0 / sqrt(var + eps))                        # (1, C, 1, 1)
    xhat = named("xhat", xc * rstd)                                    # like x
    y = named("y", xhat * gamma + beta)                                # like x
    return named("z", activated(y, activation, slope))                 # like x


def activated(y: Any, activation: str, slope: float) -> Any:
    """φ(y)."""
    return mg.leaky_relu(y, slope) if activation == "leaky_relu" else mg.elu(y) if activation == "elu" else y


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# The activation is undone first. All three are increasing and keep the sign, so z tells which branch y took:
#
#     leaky ReLU   y = z  or  z/a          ∂L/∂y = g  or  a·g             by the sign of z
#     ELU          y = z  or  log(1 + z)   ∂L/∂y = g  or  (1 + z)·g       because φ' = eʸ = 1 + z for y < 0
#
# (In float32 an ELU of y < −17 is −1 and log(1 + z) is −∞: z is taken to be at least −1 + eps.) From there on it is batch
# norm's backward, with x̂ recovered from y. Form I does that, and then applies the known line
#
#     ∂L/∂γ = Σ ∂L/∂y x̂      ∂L/∂β = Σ ∂L/∂y      ∂L/∂x = (∂L/∂y − (1/m) ∂L/∂γ x̂ − (1/m) ∂L/∂β) γ/s       s = √(var + ε)
#
# Form II puts x̂ = (y − β)/γ into it and multiplies out, so that x̂ never appears:
#
#     ∂L/∂γ = (1/γ) [Σ ∂L/∂y y − β ∂L/∂β]
#     ∂L/∂x = [∂L/∂y − (1/(γm)) ∂L/∂γ y − (1/m) (∂L/∂β − (β/γ) ∂L/∂γ)] γ/s
#
# The document's last line has + (β/γ) ∂L/∂γ, which is right only for β = 0: multiplied out, −(1/m) ∂L/∂γ (y − β)/γ gives
# +(1/m) (β/γ) ∂L/∂γ, and here it is in a bracket with −1/m before it. Both forms cost the same here. Form I subtracts β
# before it sums, and so loses fewer digits where β is large against γ.


def undo_of(out: Any, activation: str, slope: float) -> Any:
    """The function that takes (∂L/∂z, z) to (∂L/∂y, y)."""
    lowest = float(namespace_of(out).finfo(out.dtype).eps) - 1.0

    def undo(g: Any, z: Any) -> tuple[Any, Any]:
        if activation == "identity":
            return g, z
        if activation == "leaky_relu":  # `where` would say it, too, and take twice as long
            positive = mg.astype(z > 0, z.dtype)
            derivative = positive + slope * (1.0 - positive)                          # 1 or a, exactly
            return g * derivative, z / derivative
        return g * (1.0 + clip(z, max=0.0)), relu(z) + log1p(clip(z, lowest, 0.0))
    return undo


def statistics(x: Any) -> tuple[Any, Any]:
    """Mean and (biased) variance of each channel: all that is cached."""
    return mg.moments(x, (0, *range(2, x.ndim)))


def inplace_abn(xp: Any, x: Any, gamma: Any, beta: Any, *, eps: float, activation: str = "leaky_relu", slope: float = 0.01, saved: Any, into: Any) -> Any:
    """φ((γ/s)·(x − μ) + β) in one pass, written over x if nobody else needs it."""
    refuse_activation(activation, slope)
    _, (gamma, beta) = per_channel("inplace_abn", x, gamma=away_from_zero(*one_dtype("inplace_abn", x, gamma=gamma)), beta=beta)
    mu, var = saved
    refuse_constant_channels("inplace_abn", var, eps)
    phi = partial(activate, xp, activation, slope)
    return normalize.combine(xp, None, x, normalize.Coefficients(gamma / sqrt(var + eps), mu, beta), then=phi, out=into())


def activate(xp: Any, activation: str, slope: float, y: Any) -> None:
    """y ← φ(y)."""
    if activation == "leaky_relu":
        (xp.maximum if slope <= 1 else xp.minimum)(y, y * slope, out=y)
    elif activation == "elu":
        xp.add(xp.maximum(y, 0), xp.expm1(xp.minimum(y, 0)), out=y)


def rebuilt(saved: Any, out: Any, gamma: Any, beta: Any, *, eps: float, activation: str, slope: float) -> Any:
    """x = μ + s·x̂: second derivatives see x through the statistics, too."""
    _, (gamma, beta) = per_channel("inplace_abn", out, gamma=away_from_zero(*one_dtype("inplace_abn", out, gamma=gamma)), beta=beta)
    mu, var = saved
    _, y = undo_of(out, activation, slope)(out, out)
    return mu + sqrt(var + eps) * ((y - beta) / gamma)


def form_1_backward(g: Any, saved: Any, out: Any, gamma: Any, beta: Any, *, eps: float, activation: str, slope: float) -> tuple[Any, Any, Any]:
    """Form I: x̂ = (y − β)/γ, then batch norm's ∂L/∂x."""
    axes, (gamma_, beta_) = per_channel("inplace_abn", out, gamma=away_from_zero(*one_dtype("inplace_abn", out, gamma=gamma)), beta=beta)
    m, undo = out.size // out.shape[1], undo_of(out, activation, slope)
    rstd = 1.0 / sqrt(saved[1] + eps)                                                 # (1, C, 1, 1), as all below
    a = gamma_ * rstd
    d_beta, d_gamma = mg.paired_sums(g, out, beta_, axes, r=1.0 / gamma_, first=undo)  # Σ ∂L/∂y,  Σ ∂L/∂y (y − β)/γ
    dx = mg.combine(g, out, beta_, a=a, b=-rstd * d_gamma / m, c=-a * d_beta / m, first=undo)  # a ∂L/∂y + b (y − β) + c
    return dx, held_back(d_gamma, gamma), mg.reshape(d_beta, (-1,))


def form_2_backward(g: Any, saved: Any, out: Any, gamma: Any, beta: Any, *, eps: float, activation: str, slope: float) -> tuple[Any, Any, Any]:
    """Form II: the same, multiplied out, in terms of y."""
    axes, (gamma_, beta_) = per_channel("inplace_abn", out, gamma=away_from_zero(*one_dtype("inplace_abn", out, gamma=gamma)), beta=beta)
    m, undo = out.size // out.shape[1], undo_of(out, activation, slope)
    rstd = 1.0 / sqrt(saved[1] + eps)
    a = gamma_ * rstd
    d_beta, sum_y = mg.paired_sums(g, out, None, axes, first=undo)                    # Σ ∂L/∂y,  Σ ∂L/∂y y
    d_gamma = (sum_y - beta_ * d_beta) / gamma_
    dx = mg.combine(g, out, None, a=a, b=-rstd * d_gamma / m, c=-a * (d_beta - beta_ / gamma_ * d_gamma) / m, first=undo)
    return dx, held_back(d_gamma, gamma), mg.reshape(d_beta, (-1,))


def held_back(d_gamma: Any, gamma: Any) -> Any:
    """∂L/∂γ through `away_from_zero`."""
    return where(abs(gamma) < SMALLEST, 0.0, mg.reshape(d_gamma, (-1,)))


form_1, form_2 = (mg.by_hand(save=statistics, backward=f, rebuild={"x": rebuilt}, overwrites="x")(inplace_abn) for f in (form_1_backward, form_2_backward))


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Shapes, activations, and what makes going back hard: γ at 0, β large against γ, saturated ELUs."""
    def case(name: str, *shape: int, eps: float = 1e-5, **keywords: Any) -> Case:
        c = shape[1]
        arrays = (rng.normal(0.3, 1.5, shape).astype(dtype), rng.normal(1, 0.3, c).astype(dtype), rng.normal(0, 0.5, c).astype(dtype))
        return name, arrays, {"eps": eps, **keywords}

    yield case("images", 4, 3, 5, 6)
    yield case("features", 8, 5, slope=0.2)
    yield case("elu", 4, 3, 4, 4, activation="elu")
    yield case("identity", 5, 3, 3, 3, activation="identity")
    yield case("slope above 1", 6, 3, 2, 2, slope=1.7)
    yield case("eps = 0", 6, 4, 3, 3, eps=0.0, slope=0.1)
    yield case("n = 3", 3, 2, eps=0.1)
    for activation in ("leaky_relu", "elu"):
        name, (x, gamma, beta), kw = case(f"gamma 0, small and negative, {activation}", 5, 5, 3, 3, activation=activation)
        gamma[:4] = 0, -1.3, 0.02, -1e-4
        yield name, (x, gamma, beta), kw
    name, (x, gamma, beta), kw = case("constant channel", 5, 3, 2, 2)
    x[:, 1] = 0.7
    yield name, (x, gamma, beta), kw


register("inplace_abn", composed=composed, derived={"form_1": form_1, "form_2": form_2}, default="form_1", cases=cases,
         source="inplace-abn, section 2: gradients of InPlace-ABN I and II (the last line of II with its sign corrected)")
