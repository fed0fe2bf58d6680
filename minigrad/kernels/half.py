"""float16 stores numbers; what is computed from them is computed in float32.

A float16 ends at 65504 and has 11 binary digits: the square of 256 is infinite in it, that of 1/8192 is 0, and a sum of ones
stops at 2048. So whatever is more than one step of arithmetic (a normalization with its statistics, any op made with
`by_hand`, an optimizer's step) takes its float16 inputs as float32, and rounds once, when the result is stored.

All functions here take arrays as well as Tensors, whose ``astype`` is a line of the tape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

Array = Any


def is_half(a: Any) -> bool:
    """Is `a` a Tensor or an array in float16?"""
    return getattr(getattr(a, "dtype", None), "char", "") == "e"


def widened(a: Any) -> Any:
    """`a` in float32 if it is in float16, else `a` itself: an array, a Tensor, or anything else."""
    return a.astype(np.float32) if is_half(a) else a


def widened_all(values: dict[str, Any]) -> dict[str, Any]:
    """The same for the values of a dictionary."""
    return {k: widened(v) for k, v in values.items()}


def stored(a: Any) -> Any:
    """What was computed in float32, in float16. But a single number, such as a loss, stays float32: 65504 is not much for one."""
    return tuple(map(stored, a)) if type(a) is tuple else a.astype(np.float16) if a.ndim else a


def in_float32(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, of arrays or Tensors, whose first input says how the result is stored.

    If that is float16, every float16 among inputs and keywords becomes float32 first (others may be float32 already), and the
    result float16 in the end, by visible lines of the tape. So gradients are computed in float32, and come in each input's
    own dtype. Where the first input is of another dtype, this is `f`.

    >>> import minigrad as mg
    >>> length = in_float32(lambda x: mg.sqrt(mg.sum(x * x, 0, keepdims=True)))
    >>> length(mg.tensor([300.0, 400.0], dtype="float16"))
    tensor([500.], dtype=float16)
    """
    @wraps(f)
    def apply(*inputs: Any, **keywords: Any) -> Any:
        if not is_half(inputs[0] if inputs else next(iter(keywords.values()), None)):
            return f(*inputs, **keywords)
        return stored(f(*map(widened, inputs), **widened_all(keywords)))
    return apply


def of_one_dtype(given: Sequence[Any]) -> Sequence[Any]:
    """Those of an op's inputs that must have one dtype: beside a float16 first one, others may be float32 parameters and statistics."""
    return [a for a in given if getattr(a, "dtype", None) != np.float32] if is_half(given[0]) else given


# -- ops with a backward by hand: the tape keeps the float16 inputs, and they become float32 only while a function runs -------


class OfHalf(tuple[Any, ...]):
    """What `save` returned for float16 inputs, in float32; `half` says which inputs want a float16 gradient."""

    half: tuple[bool, ...]


def forward(f: Callable[..., tuple[Any, Any]], xp: Any, arrays: Sequence[Any], meta: dict[str, Any]) -> tuple[Any, OfHalf]:
    """Output and statistics of ``f(xp, arrays, meta, arrays)``, an op's forward. (No input is overwritten: its buffer is too small.)"""
    wide = [widened(a) for a in arrays]
    out, cache = f(xp, wide, widened_all(meta), wide)
    return stored(out), of_half(cache, [is_half(a) for a in arrays])


def of_half(cache: Any, half: Sequence[bool]) -> OfHalf:
    """The cache of float16 inputs."""
    found = OfHalf(cache)
    found.half = tuple(half)
    return found


def backward(f: Callable[..., Any], g: Any, saved: OfHalf, *kept: Any, **keywords: Any) -> Any:
    """``f(g, saved, *kept, **keywords)`` of float32, each gradient in its input's dtype."""
    found = f(tuple(map(widened, g)) if type(g) is tuple else widened(g), saved, *map(widened, kept), **widened_all(keywords))
    if type(found) is not tuple or len(found) != len(saved.half):
        return found  # the engine says what is wrong with it
    return tuple([d.astype(np.float16) if half and d is not None else d for d, half in zip(found, saved.half)])
