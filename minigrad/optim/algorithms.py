"""The update formulas: in place on raw arrays, with two scratch arrays and no other temporaries.

Each runs on blocks (gb, pb, ...) of the gradient, the parameter and its buffers, see `Optimizer._blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..core.backend import Array
from ..kernels.cuda import training as cuda
from .optimizer import BLOCK, Optimizer


def _descent(xp: Any, group: dict[str, Any], p: Array, g: Array, out: Array) -> Array:
    """g (maximize: −g) + weight_decay·p, in `out` where that is not g itself."""
    if group["weight_decay"]:
        xp.multiply(p, group["weight_decay"], out=out)
        return (xp.subtract if group["maximize"] else xp.add)(out, g, out=out)
    return xp.negative(g, out=out) if group["maximize"] else g


def _average(xp: Any, mean: Array, new: Array, weight: float, out: Array) -> None:
    """mean += weight·(new − mean)."""
    xp.multiply(xp.subtract(new, mean, out=out), weight, out=out)
    xp.add(mean, out, out=mean)


def _average_square(xp: Any, mean: Array, new: Array, beta: float, out: Array) -> None:
    """mean = beta·mean + (1 − beta)·new²."""
    xp.multiply(mean, beta, out=mean)
    xp.multiply(xp.multiply(new, new, out=out), 1 - beta, out=out)
    xp.add(mean, out, out=mean)


def _buffers(xp: Any, state: dict[str, Any], p: Array, names: Sequence[str]) -> list[Array]:
    """The buffers of these names, zeros at first."""
    for name in names:
        if name not in state:
            state[name] = xp.zeros(p.shape, dtype=p.dtype)
    return [state[name] for name in names]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

        d = g + weight_decay·p
        v = momentum·v + (1 − dampening)·d      (the first time v = d)
        p = p − lr·v                            (nesterov: d + momentum·v; without momentum: d)

    Args:
        params: Tensors, or groups (see `Optimizer`).
        lr, momentum, dampening, weight_decay, nesterov: as above.
        maximize: climb: −g in place of g.
        others: see `Optimizer`.
    """

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False, **others: Any) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov, maximize=maximize), **others)

    def _update_together(self, xp: Any, group: dict[str, Any], todo: Sequence[tuple[dict[str, Any], Array, Array]]) -> bool:
        names = ["momentum_buffer"] if group["momentum"] else []
        initial = [bool(names) and "momentum_buffer" not in state for state, _, _ in todo]
        if len({*initial}) != 1 or not cuda.updatable(xp, todo):
            return False
        arrays = [(p, g, *(state[n] if n in state else xp.empty(p.shape, dtype=p.dtype) for n in names)) for state, p, g in todo]
        cuda.update(xp, "sgd", arrays, float(group["lr"]), float(group["momentum"]), 1.0 - group["dampening"], float(group["weight_decay"]),
                    -1.0 if group["maximize"] else 1.0, bool(group["nesterov"]), initial[0])
        for (state, _, _), (_, _, *buffers) in zip(todo, arrays):
            state.update(zip(names, buffers))
        return True

    def _update(self, xp: Any, group: dict[str, Any], state: dict[str, Any], p: Array, g: Array) -> None:
        lr, momentum, dampening = float(group["lr"]), group["momentum"], group["dampening"]
        if p.size <= 4 * BLOCK and not (momentum or group["weight_decay"] or group["maximize"]):  # nothing to keep between the passes
            xp.subtract(p, xp.multiply(g, lr), out=p)
            return
        first = "momentum_buffer" not in state
        names = ["momentum_buffer"] if momentum else []
        for gb, pb, *buffers, one, two in self._blocks(xp, g, p, *_buffers(xp, state, p, names)):
            d = _descent(xp, group, pb, gb, out=one)
            for v in buffers:
                xp.multiply(v, momentum, out=v)
                xp.add(v, xp.multiply(d, 1 - dampening, out=two) if dampening and not first else d, out=v)
                d = xp.add(d, xp.multiply(v, momentum, out=two), out=two) if group["nesterov"] else v
            xp.subtract(pb, xp.multiply(d, lr, out=two), out=pb)


class Adam(Optimizer):
    """Adam. Source: Kingma & Ba [kingma2015]; amsgrad: Reddi et al. [reddi2018].

        d = g + weight_decay·p
        m = β₁·m + (1 − β₁)·d,   v = β₂·v + (1 − β₂)·d²
        p = p − lr·(m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)      (amsgrad: the largest v so far)

    Args:
        params: Tensors, or groups (see `Optimizer`).
        lr, betas, eps, weight_decay, amsgrad: as above.
        maximize: climb: −g in place of g.
        others: see `Optimizer`.
    """

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False, **others: Any) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize), **others)

    def _update_together(self, xp: Any, group: dict[str, Any], todo: Sequence[tuple[dict[str, Any], Array, Array]]) -> bool:
        times = {state.get("step", 0) + 1 for state, _, _ in todo}
        if group["amsgrad"] or len(times) != 1 or not cuda.updatable(xp, todo):
            return False
        lr, (beta1, beta2), t, decay = float(group["lr"]), group["betas"], times.pop(), float(group["weight_decay"])
        arrays = [(p, g, *_buffers(xp, state, p, ["exp_avg", "exp_avg_sq"])) for state, p, g in todo]
        cuda.update(xp, "adam", arrays, 1.0 - beta1, float(beta2), 1.0 - beta2, float(group["eps"]), 0.0 if self._decoupled else decay,
                    1.0 - lr * decay if self._decoupled else 1.0, -1.0 if group["maximize"] else 1.0, math.sqrt(1 - beta2**t), lr / (1 - beta1**t))
        for state, _, _ in todo:
            state["step"] = t
        return True

    def _update(self, xp: Any, group: dict[str, Any], state: dict[str, Any], p: Array, g: Array) -> None:
        state["step"] = t = state.get("step", 0) + 1
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        root, rate = math.sqrt(1 - beta2**t), lr / (1 - beta1**t)
        shrink = 1 - lr * group["weight_decay"]
        if self._decoupled:
            group = {**group, "weight_decay": 0}
        names = ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])]
        for gb, pb, m, v, *largest, one, two in self._blocks(xp, g, p, *_buffers(xp, state, p, names)):
            if self._decoupled:
                xp.multiply(pb, shrink, out=pb)
            d = _descent(xp, group, pb, gb, out=one)
            _average(xp, m, d, 1 - beta1, out=two)
            _average_square(xp, v, d, beta2, out=two)
            for w in largest:
                v = xp.maximum(w, v, out=w)
            xp.add(xp.divide(xp.sqrt(v, out=two), root, out=two), group["eps"], out=two)
            xp.multiply(xp.divide(m, two, out=two), rate, out=two)
            xp.subtract(pb, two, out=pb)


class AdamW(Adam):
    """Adam with decoupled weight decay: first p = (1 − lr·weight_decay)·p, then Adam's step with d = g.

    Source: Loshchilov & Hutter [loshchilov2019]. Arguments as `Adam`.
    """

    _decoupled = True

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, **others: Any) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, **others)


class RMSprop(Optimizer):
    """RMSprop. Source: Tieleman & Hinton [tieleman2012].

        d = g + weight_decay·p
        v = alpha·v + (1 − alpha)·d²;   centered: a = alpha·a + (1 − alpha)·d, and v − a² in place of v below
        b = momentum·b + d / (√v + eps)
        p = p − lr·b

    Args:
        params: Tensors, or groups (see `Optimizer`).
        lr, alpha, eps, weight_decay, momentum, centered: as above.
        maximize: climb: −g in place of g.
        others: see `Optimizer`.
    """

    def __init__(self, params: Any, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
                 momentum: float = 0, centered: bool = False, *, maximize: bool = False, **others: Any) -> None:
        super().__init__(params, dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                                      centered=centered, maximize=maximize), **others)

    def _update(self, xp: Any, group: dict[str, Any], state: dict[str, Any], p: Array, g: Array) -> None:
        state["step"] = state.get("step", 0) + 1  # not needed here; PyTorch's state has it
        lr, alpha, momentum, centered = float(group["lr"]), group["alpha"], group["momentum"], group["centered"]
        names = ["square_avg", *(["grad_avg"] if centered else []), *(["momentum_buffer"] if momentum else [])]
        for gb, pb, v, *more, one, two in self._blocks(xp, g, p, *_buffers(xp, state, p, names)):
            d = _descent(xp, group, pb, gb, out=one)
            _average_square(xp, v, d, alpha, out=two)
            if centered:
                _average(xp, more[0], d, 1 - alpha, out=two)
                v = xp.subtract(v, xp.multiply(more[0], more[0], out=two), out=two)
            d = xp.divide(d, xp.add(xp.sqrt(v, out=two), group["eps"], out=two), out=two)
            if momentum:
                d = xp.add(xp.multiply(more[-1], momentum, out=more[-1]), d, out=more[-1])
            xp.subtract(pb, xp.multiply(d, lr, out=two), out=pb)


__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]
