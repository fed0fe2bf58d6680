"""Channels as matrices: how the whitening layers cut x into groups, and put it together again.

    x (N, C) or (N, C, *spatial)    a group of d channels is a matrix (d, m) in float64, m = N · spatial samples in columns

Equal groups are stacked as (G, d, m), so that one batched product or `eigh` does them all; a last, smaller group is a
separate stack. A layer's mathematics sees only such stacks, and is written once for (d, m) and (G, d, m). Raw NumPy arrays (a
forward, or a first-order backward) come in smaller stacks instead, which stay in the cache and are shared between threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

from minigrad import Tensor, astype, backend, concatenate, eigvalsh, reshape, transpose
from minigrad.core.errors import describe, error, integer
from minigrad.kernels.threads import share
from minigrad.ops.elementwise import require_floating

_STACK_BYTES = 1 << 20  # of one float64 stack: what a backward needs of them at a time stays in the second-level cache


class Stack(NamedTuple):
    """Channels start:stop, as groups of d."""

    start: int
    stop: int
    d: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(d,) for one group, else (G, d)."""
        groups = (self.stop - self.start) // self.d
        return (self.d,) if groups == 1 else (groups, self.d)


def stacks(layer: str, x: Any, group_size: int | None) -> list[Stack]:
    """How the channels of x are cut: equal groups of `group_size` (None: all channels), the last one perhaps smaller.

    Raises:
        ValueError: x has fewer than two axes, or group_size < 1.
        TypeError: x is not floating.
    """
    if x.dtype.kind != "f":
        require_floating(layer, x=x)
    if x.ndim < 2 or not x.shape[1]:
        raise error(ValueError, layer, got=describe(x), needs="x of shape (N, C) or (N, C, *spatial), with at least one channel",
                    fix="reshape x; the batch axis comes first")
    if group_size is not None:
        group_size = integer(layer, "group_size", group_size, 1, fix="None whitens all channels together")
    c = x.shape[1]
    d = min(group_size or c, c)
    even, step = c - c % d, c
    if not isinstance(x, Tensor) and backend.name_of(x) == "numpy":
        step = d * max(1, _STACK_BYTES // (8 * d * max(1, x.size // c)))
    cuts = [Stack(i, min(i + step, even), d) for i in range(0, even, step)]
    return [*cuts, Stack(even, c, c - even)] if even < c else cuts


def matrices(x: Any, s: Stack) -> Any:
    """Channels of x (N, C, *spatial) as (d, m) or (G, d, m), in float64."""
    n, c, spatial = x.shape[0], x.shape[1], prod(x.shape[2:])
    part = x if s.stop - s.start == c else x[:, s.start:s.stop]
    axes = (*range(1, 1 + len(s.shape)), 0, 1 + len(s.shape))
    return astype(reshape(transpose(reshape(part, (n, *s.shape, spatial)), axes), (*s.shape, n * spatial)), "float64")


def images(a: Any, s: Stack, x: Any) -> Any:
    """The inverse of `matrices`: (d, m) or (G, d, m) back to channels (N, channels, *spatial) in x's dtype."""
    n, spatial = x.shape[0], x.shape[2:]
    k = len(s.shape)
    parts = transpose(reshape(astype(a, x.dtype), (*s.shape, n, prod(spatial))), (k, *range(k), k + 1))
    return reshape(parts, (n, s.stop - s.start, *spatial))


def transformed(layer: str, f: Callable[..., Any], group_size: int | None, *xs: Any, saved: Sequence[Any] = ()) -> Any:
    """The images whose matrices are ``f(*matrices of xs, *statistics)`` for each stack, with its statistics from `saved`."""
    x = xs[0]
    cut = stacks(layer, x, group_size)
    k = len(saved) // len(cut)

    def part(i: int) -> Any:
        return images(f(*(matrices(a, cut[i]) for a in xs), *saved[i * k:(i + 1) * k]), cut[i], x)
    if isinstance(x, Tensor):
        parts = [part(i) for i in range(len(cut))]
        return parts[0] if len(parts) == 1 else concatenate(parts, 1)
    out = backend.namespace(x).empty(x.shape, x.dtype)

    def several(start: int, stop: int) -> None:
        for i in range(start, stop):
            out[:, cut[i].start:cut[i].stop] = part(i)
    _shared(x, several, len(cut))
    return out


def measured(layer: str, f: Callable[[Any], tuple[Any, ...]], group_size: int | None, x: Any) -> tuple[Any, ...]:
    """The statistics ``f(matrices)`` of all stacks, one after the other in one tuple: what `transformed` takes as `saved`."""
    cut = stacks(layer, x, group_size)

    def several(start: int, stop: int) -> list[Any]:
        return [statistic for s in cut[start:stop] for statistic in f(matrices(x, s))]
    if isinstance(x, Tensor):  # the tape is written by one thread
        return tuple(several(0, len(cut)))
    return tuple(statistic for part in _shared(x, several, len(cut)) for statistic in part)


def _shared(x: Any, work: Callable[[int, int], Any], count: int) -> list[Any]:
    """On the host stacks are shared between threads; a device has streams for that, and CuPy's current one belongs to this thread."""
    return share(work, count, 1) if backend.name_of(x) == "numpy" else [work(0, count)]


def identity(sigma: Any) -> Any:
    """The d×d identity, for (d, d) or (G, d, d)."""
    return backend.namespace(getattr(sigma, "_data", sigma)).eye(sigma.shape[-1], dtype="float64")


def nonsingular(layer: str, sigma: Any, eps: float) -> Any:
    """Σ itself. With ε = 0 a singular one is an error on the host, and NaN on a GPU, where looking would wait.

    It is singular for m ≤ d samples of d channels, a constant channel, or a channel that is a combination of others.
    """
    if eps < 0:
        raise error(ValueError, layer, got=f"eps={eps}", needs="eps of at least 0", fix="1e-5 is the usual value")
    if eps > 0:
        return sigma
    raw = getattr(sigma, "_data", sigma)
    values, xp = eigvalsh(raw), backend.namespace(raw)
    singular = values[..., :1] <= 1e-15 * raw.shape[-1] * values[..., -1:]
    if backend.name_of(raw) != "numpy":
        return sigma + xp.where(singular, float("nan"), 0.0)[..., None]
    if singular.any():
        raise error(ValueError, layer, got=f"eps=0 and a singular covariance of {raw.shape[-1]} channels",
                    needs="more samples than channels in a group, none of them constant or a combination of others, or eps > 0",
                    fix="use eps=1e-5, a larger batch or a smaller group_size")
    return sigma
