"""dbn, section 2: what whitening adds to a 3×3 convolution of the same input, by the formula, by counting, and by the clock.

The formula, K/(9d) + K²/(9d·mhw), is an order of magnitude: it counts one product with the batch, forward. What lies between it and the
clock is measured here, each alone, at the same input:

    counted        multiply-adds of all products, 7dK mhw + dK² forward and backward, over the convolution's: `layers.whitening.cost`
    products       the time of these products, in float64 as the layer has them, and in float32
    layout         the time of the layer's way into matrices and back, with nothing done to them
    arithmetic     the time of what goes through the batch element by element: means, differences, scales
    decompositions the time of the eigendecompositions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import layers
import minigrad as mg
from layers.whitening import cost
from layers.whitening.channel_groups import matrices, measured, stacks, transformed
from layers.whitening.square_roots import eigenbasis
from minigrad.core.backend import Array
from minigrad.kernels.threads import share

from .registry import Row, Runs, experiment
from .statistics import below, exact, median_ratio, near
from .timing import interleaved

ARMS = ("clock",)
PARTS = ("layout", "arithmetic", "products", "decompositions")


@experiment("dbn_cost", document="dbn, section 2",
            claim="DBN's relative overhead is K/(dFₕF_w) + K²/(d mhw FₕF_w), negligible for K = 16; full DBN takes 71 ms, a 3×3 convolution 32 ms",
            arms=ARMS, timing=True, seconds=(3, 30),
            quick={"seeds": 1, "turns": 2, "batch": 8, "channels": 16, "size": 16, "groups": (4, 16), "parts_of": 4, "threads": 2},
            default={"seeds": 2, "turns": 12, "batch": 64, "channels": 64, "size": 32, "groups": (4, 8, 16, 32, 64), "parts_of": 16, "threads": 2},
            full={"seeds": 4, "turns": 30, "batch": 64, "channels": 64, "size": 32, "groups": (1, 2, 4, 8, 16, 32, 64), "parts_of": 16, "threads": 2})
def dbn_cost(arm: str, seed: int, turns: int, batch: int, channels: int, size: int, groups: list[int], parts_of: int, threads: int) -> dict[str, Any]:
    """Seconds of each turn, forward and backward: of the convolution, of DBN by group size, and of the parts of one of them."""
    rng = np.random.default_rng(seed)
    x = mg.tensor(rng.normal(size=(batch, channels, size, size)).astype("float32"), requires_grad=True)
    g = mg.tensor(rng.normal(size=x.shape).astype("float32"))
    w = mg.tensor(rng.normal(size=(channels, channels, 3, 3)).astype("float32"), requires_grad=True)
    whiten = layers.REGISTRY["decorrelated_batch_norm"].form("derived")
    things: dict[str, Callable[[], Any]] = {"convolution": lambda: mg.grad(mg.conv2d(x, w, padding=1), [x, w], g)}
    for k in groups:
        things[f"K = {k}"] = lambda k=k: mg.grad(whiten(x, eps=1e-5, group_size=k), [x], g)
    things |= parts(x.numpy(), g.numpy(), parts_of)
    return interleaved(things, turns)


def parts(x: Array, g: Array, k: int) -> dict[str, Callable[[], Any]]:
    """What the layer does in the order in which it does it, a kind of step at a time."""
    cut = stacks("dbn_cost", x, k)

    def of(dtype: str) -> Callable[[], None]:
        xs = [matrices(x, s).astype(dtype) for s in cut]
        ws = [a[..., :a.shape[-2]].copy() for a in xs]                                   # (G, d, d): any

        def products(start: int, stop: int) -> None:
            for a, m in zip(xs[start:stop], ws[start:stop], strict=True):
                a @ a.mT, m @ m, m @ a                                                   # forward: Σ, W, W x
                m @ a, m @ a, a @ a.mT, m @ a, m @ a                                     # backward: Dᵀx, Dᵀg, H, T x̃, D ·
        return lambda: share(products, len(cut), 1)  # type: ignore[return-value]
    both = [(matrices(x, s), matrices(g, s), np.ones((*s.shape, 1))) for s in cut]

    def arithmetic(start: int, stop: int) -> None:
        for a, b, r in both[start:stop]:
            mu = a.mean(-1, keepdims=True)
            a - mu, a - mu                                                               # of Σ; of the output
            xc, centred = (a - mu) / r, b - b.mean(-1, keepdims=True)                    # backward
            (centred - xc) / r
    sigmas = [m @ m.mT / m.shape[-1] for m in (matrices(x, s) for s in cut)]

    def layout() -> None:
        measured("dbn_cost", lambda x: (), k, x)
        transformed("dbn_cost", lambda x: x, k, x)
        transformed("dbn_cost", lambda g, x: g, k, g, x)
    return {"layout": layout, "arithmetic": lambda: share(arithmetic, len(cut), 1), "products": of("float64"), "products, float32": of("float32"),
            "decompositions": lambda: [eigenbasis(s, eps=1e-5) for s in sigmas]}


def geometry(runs: Runs) -> dict[str, int]:
    """m, h, w of the formulas."""
    return {"m": runs.sizes["batch"], "h": runs.sizes["size"], "w": runs.sizes["size"]}


def clock(runs: Runs, name: str) -> list[float]:
    """Seconds of all turns."""
    return runs.pooled("clock", name)


@dbn_cost.table
def rows(runs: Runs) -> Iterator[Row]:
    """All times are forward and backward, over those of the convolution in the same turn. The document's 71 and 32 ms are of a GPU and of cuDNN."""
    d, groups, k = runs.sizes["channels"], runs.sizes["groups"], runs.sizes["parts_of"]
    if groups[-1] == d:
        yield Row("full DBN / 3×3 convolution", 71 / 32, median_ratio(clock(runs, f"K = {d}"), clock(runs, "convolution")), near(71 / 32, factor=1.25),
                  headline=True)
    for size in groups:
        formula = cost.relative_overhead(d, size, **geometry(runs))
        yield Row(f"relative overhead, K = {size}", formula, median_ratio(clock(runs, f"K = {size}"), clock(runs, "convolution")), near(formula, factor=1.5),
                  headline=size == 16)
    yield Row(f"is it negligible (below 0.1) for K = {k}?", None, median_ratio(clock(runs, f"K = {k}"), clock(runs, "convolution")), below(0.1))
    formula, counted = (f(d, k, **geometry(runs)) for f in (cost.relative_overhead, cost.counted_overhead))
    yield Row(f"multiply-adds of our code, K = {k}, over the convolution's", formula, exact(counted, "counted"), near(formula, factor=1.5),
              note=f"{counted / formula:.2f} of the formula's: 7 products with the batch where the convolution has 3")
    for name in (*PARTS, "products, float32"):
        yield Row(f"{name}, K = {k}, over the convolution", None, median_ratio(clock(runs, name), clock(runs, "convolution")))
    together = [sum(turn) for turn in zip(*(clock(runs, name) for name in PARTS), strict=True)]
    yield Row(f"these parts together, of DBN with K = {k}", None, median_ratio(together, clock(runs, f"K = {k}")),
              note="alone, parts may be faster or slower than among the others: caches")
    slower = [t / counted for t in clock(runs, "products")]
    yield Row(f"time for a multiply-add, products of K = {k} in float64 / convolution in float32", None, median_ratio(slower, clock(runs, "convolution")))


@dbn_cost.figure
def draw(fig: Any, runs: Runs) -> None:
    """Overhead against K by formula, count and clock; where the time of one K goes."""
    fig.set_size_inches(11, 3.8)
    left, right = fig.subplots(1, 2, width_ratios=[3, 2])
    d, groups, k = runs.sizes["channels"], runs.sizes["groups"], runs.sizes["parts_of"]
    left.plot(groups, [cost.relative_overhead(d, size, **geometry(runs)) for size in groups], "C1D-", label="document's formula")
    left.plot(groups, [cost.counted_overhead(d, size, **geometry(runs)) for size in groups], "C2s--", label="multiply-adds, counted")
    found = [median_ratio(clock(runs, f"K = {size}"), clock(runs, "convolution")) for size in groups]
    ends = [[f.estimate - (f.low or f.estimate) for f in found], [f.high - f.estimate if np.isfinite(f.high) else 0 for f in found]]
    left.errorbar(groups, [f.estimate for f in found], yerr=ends, fmt="C0o-", capsize=3, label="our clock")
    if groups[-1] == d:
        left.plot([d], [71 / 32], "C3*", ms=12, label="document's clock: 71/32")
    left.set(xscale="log", yscale="log", xlabel="channels in a group, K", title="DBN's overhead over a 3×3 convolution")
    left.set_xticks(groups, [str(g) for g in groups])
    left.set_xticks([], minor=True)
    left.legend(fontsize=8)
    base, at = clock(runs, "convolution"), 0.0
    for name, color in zip(PARTS, ("C3", "C4", "C5", "0.2"), strict=True):
        value = median_ratio(clock(runs, name), base).estimate
        right.barh([0], [value], left=[at], color=color, label=name)
        at += value
    right.barh([1], [median_ratio(clock(runs, f"K = {k}"), base).estimate], color="C0", label="the layer")
    right.barh([2], [cost.counted_overhead(d, k, **geometry(runs))], color="C2", label="counted")
    right.barh([3], [cost.relative_overhead(d, k, **geometry(runs))], color="C1", label="formula")
    right.set_yticks([0, 1, 2, 3], ["parts, alone", "the layer", "counted", "formula"])
    right.set(title=f"K = {k}: time over the convolution's", ylim=(-0.6, 5.2))
    right.legend(fontsize=7, ncols=2, loc="upper right")
