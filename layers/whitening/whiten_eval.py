"""Whitening at inference: each sample is centred and projected with a fixed mean and a fixed matrix.

    x (N, C) or (N, C, *spatial)    y like x    mean (C,)    projection (C, C), or (G, d, d) for G groups of d = C/G channels

y = P (x − mean) for the vector of channels at every sample; (G, d, d) is the block-diagonal P, without its zeros. Mean and
projection are constants, in x's dtype: mode never hides in an op. They may come from averaged statistics of decorrelated
batch norm or of IterNorm (see `whitening_modules`), or from anywhere else.

Source: dbn, eqs 5 and 6 with μ and D U held fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import minigrad as mg
from minigrad import einsum, expand_dims, named, reshape, swapaxes
from minigrad.core.errors import describe, error

from ..registry import Case, register
from ..shapes import one_dtype, per_channel


def composed(x: Any, *, mean: Any, projection: Any) -> Any:
    """P (x − mean) as a graph of primitives."""
    _, (mu,) = per_channel("whiten_eval", x, mean=mean)
    xc = named("xc", x - mu)                                           # like x
    return named("y", projected(blocks(x, projection), xc))            # like x


def blocks(x: Any, projection: Any) -> Any:
    """The projection as (G, d, d).

    Raises:
        ValueError: it does not fit the channels of x.
        TypeError: it has another dtype.
    """
    (projection,) = one_dtype("whiten_eval", x, projection=projection)
    p = expand_dims(projection, 0) if projection.ndim == 2 else projection
    if p.ndim != 3 or p.shape[1] != p.shape[2] or p.shape[0] * p.shape[1] != x.shape[1]:
        raise error(ValueError, "whiten_eval", got=f"projection: {describe(projection)} for {x.shape[1]} channels",
                    needs="shape (C, C), or (G, d, d) with G·d = C",
                    fix="channels are axis 1 (NCHW); a last group that is smaller needs the full (C, C)")
    return p


def projected(p: Any, x: Any) -> Any:
    """P_g x for the vector of channels of each group at each sample."""
    parts = reshape(x, (x.shape[0], p.shape[0], p.shape[1], prod(x.shape[2:])))      # (N, G, d, spatial)
    return reshape(einsum("gij,ngjs->ngis", p, parts), x.shape)


# y is linear in x with P fixed, so dx = Pᵀ g: nothing is subtracted, because nothing depends on the batch.


def no_statistics() -> tuple[Any, ...]:
    """Nothing about the batch enters."""
    return ()


def whiten_eval(xp: Any, x: Any, *, mean: Any, projection: Any) -> Any:
    """P (x − mean)."""
    _, (mu,) = per_channel("whiten_eval", x, mean=mean)
    return projected(blocks(x, projection), x - mu)


def backward(g: Any, saved: Any, *, projection: Any) -> tuple[Any]:
    """dx = Pᵀ g. Of x nothing is kept."""
    return (projected(swapaxes(blocks(g, projection), -1, -2), g),)


one_line = mg.by_hand(save=no_statistics, backward=backward)(whiten_eval)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Full and block-diagonal projections that are not symmetric."""
    def case(name: str, shape: tuple[int, ...], projection: tuple[int, ...]) -> Case:
        x, mean, p = (rng.normal(size=s).astype(dtype) for s in (shape, shape[1], projection))
        return name, (x,), {"mean": mean, "projection": p}

    yield case("features", (6, 4), (4, 4))
    yield case("images", (3, 4, 3, 2), (4, 4))
    yield case("groups", (2, 6, 3, 3), (2, 3, 3))
    yield case("one sample", (1, 3), (3, 3))


register("whiten_eval", composed=composed, derived={"one_line": one_line}, cases=cases, source="dbn, eqs 5 and 6 with fixed statistics")
