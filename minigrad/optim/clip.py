"""Limits for gradients, between backward and step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..core import backend
from ..core.backend import Array
from ..core.errors import BackendError, NonFiniteError, describe, error
from ..core.storage import record_write
from ..core.tensor import Tensor, tensor
from ..kernels.half import is_half, widened


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients by one factor, so that their norm, taken together, is at most `max_norm`.

    factor = min(1, max_norm / (norm + 1e-6)). It is computed on the device, in float64, so that gradients of 1e25 have a norm;
    a norm of Inf or NaN makes the gradients 0 or NaN, as in PyTorch.

    Args:
        norm_type: p of the p-norm; math.inf for the largest absolute value.
        error_if_nonfinite: raise if the norm is Inf or NaN; waits for a device.

    Returns:
        The norm before scaling, a 0-d Tensor.

    Raises:
        NonFiniteError: see `error_if_nonfinite`; the gradients are then unchanged.
    """
    if not max_norm >= 0 or not norm_type > 0:
        raise error(ValueError, "clip_grad_norm_", got=f"max_norm={max_norm!r} and norm_type={norm_type!r}",
                    needs="max_norm of at least 0 and a positive norm_type", fix="max_norm=1.0, norm_type=2.0")
    holders = _with_gradients("clip_grad_norm_", parameters)
    if not holders:
        return tensor(0.0)
    gradients = [p._grad._data for p in holders]  # type: ignore[union-attr]
    xp = backend.namespace(gradients[0])
    parts = [_power_sum(xp, g, norm_type) for g in gradients if g.size]
    norm: Any = xp.zeros((), dtype="float64")
    for part in parts:
        norm = xp.maximum(norm, part) if norm_type == math.inf else norm + part
    norm = norm if norm_type == math.inf else xp.sqrt(norm) if norm_type == 2 else norm ** (1 / norm_type)
    if error_if_nonfinite and not bool(xp.isfinite(norm)):
        raise error(NonFiniteError, "clip_grad_norm_", got=f"gradients of norm {float(norm)}", needs="a finite norm",
                    fix="run the step inside minigrad.debug() to see where it begins")
    factor = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for p, g in zip(holders, gradients):
        _change(p, "clip_grad_norm_", lambda out, g=g: _scaled(xp, g, factor, out))
    return Tensor(xp.asarray(norm).astype(widened(gradients[0]).dtype))


def _power_sum(xp: Any, g: Array, norm_type: float) -> Any:
    """Σ|g|ᵖ, 0-d and float64, in which squares of float32 do not overflow; the maximum for p = ∞."""
    if norm_type == math.inf:
        return xp.absolute(g).max().astype("float64")
    g = g.astype("float64")
    return xp.vdot(g, g) if norm_type == 2 else (xp.absolute(g) ** norm_type).sum()


def _scaled(xp: Any, g: Array, factor: Array, out: Array | None) -> Array:
    """factor·g, in `out` unless that is None. (Below 6e-5, where gradients of norm 20000 are scaled to 1, float16 has few digits.)"""
    if not is_half(g):
        return xp.multiply(g, factor.astype(g.dtype), out=out)
    product = (widened(g) * factor).astype(g.dtype)
    if out is not None:
        out[...] = product
    return product


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of every gradient to [−clip_value, clip_value]."""
    if not clip_value >= 0:
        raise error(ValueError, "clip_grad_value_", got=f"clip_value={clip_value!r}", needs="a number of at least 0",
                    fix="clip_value=1.0")
    for p in _with_gradients("clip_grad_value_", parameters):
        g = p._grad._data  # type: ignore[union-attr]
        xp = backend.namespace(g)
        _change(p, "clip_grad_value_", lambda out, g=g, xp=xp: xp.clip(g, -clip_value, clip_value, out=out))


def _with_gradients(op: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The Tensors that have a gradient, all on one backend."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in given:
        if not isinstance(p, Tensor):
            raise error(TypeError, op, got=describe(p), needs="Tensors", fix="pass model.parameters()")
    holders = [p for p in given if p._grad is not None]
    names = sorted({p._grad.backend for p in holders})  # type: ignore[union-attr]
    if len(names) > 1:
        raise error(BackendError, op, got=f"gradients on the backends {' and '.join(names)}", needs="one backend",
                    fix="move the model with model.to(...)")
    return holders


def _change(p: Tensor, writer: str, compute: Any) -> None:
    """Replace the gradient of `p` by ``compute(out)``: in place, unless it is on the tape (create_graph)."""
    gradient = p._grad
    assert gradient is not None
    if gradient._line is not None:
        p._grad = Tensor(backend.namespace(gradient._data).asarray(compute(None)))
    else:
        compute(gradient._data)
        record_write(gradient._data, writer)


__all__ = ["clip_grad_norm_", "clip_grad_value_"]
