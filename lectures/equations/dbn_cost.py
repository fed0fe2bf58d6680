"""dbn, section 2: how many multiply-adds a convolution and whitening need. Counts are measured: where all factors are 1, a sum of products is their number.

The document has orders of magnitude, O(·), and whitening has steps of two kinds: products of d×d matrices with the batch, and what is done with
d×d matrices alone. Each kind is counted once here: the covariance, and a product of two matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from layers.whitening import cost

from .dbn import DBN, WhiteningProbe
from .ledger import Values, equation

H, W, FH, FW = 4, 3, 3, 5  # of the images and of the filters


def sizes(p: WhiteningProbe) -> tuple[int, int, int]:
    """d, K, m of a layer with two groups: the probe's channels are one of them."""
    return 2 * p.d, p.d, p.m


def ones(*shape: int) -> Any:
    """Factors that are 1."""
    return np.ones(shape)


def of_convolution(p: WhiteningProbe) -> float:
    """The multiply-adds of a convolution that keeps the size; what its windows see beyond the edge counts."""
    d, _, m = sizes(p)
    x = mg.tensor(ones(m, d, H + FH - 1, W + FW - 1))
    return float(mg.sum(mg.conv2d(x, mg.tensor(ones(d, d, FH, FW)))).item())


def of_whitening(p: WhiteningProbe) -> float:
    """Those of the covariances of all groups, and of a product of two K×K matrices for each."""
    d, k, m = sizes(p)
    x, square = ones(d // k, k, m * H * W), ones(d // k, k, k)                            # (G, K, mhw), (G, K, K)
    return float(np.sum(x @ x.swapaxes(1, 2)) + np.sum(square @ square))


@equation(DBN, "section 2, convolution", printed="a convolution costs O(d² mhw FₕF_w)")
def _(p: WhiteningProbe) -> Values:
    d, _, m = sizes(p)
    return Values(of_convolution(p), cost.convolution(d, m=m, h=H, w=W, fh=FH, fw=FW))


@equation(DBN, "section 2, DBN", printed="DBN with groups of K costs O(dK mhw + dK²)",
          note="each kind of step counted once: one product with the batch, one of K×K matrices a group")
def _(p: WhiteningProbe) -> Values:
    d, k, m = sizes(p)
    return Values(of_whitening(p), cost.whitening(d, k, m=m, h=H, w=W))


@equation(DBN, "section 2, overhead", printed="the relative overhead is K/(d FₕF_w) + K²/(d mhw FₕF_w)")
def _(p: WhiteningProbe) -> Values:
    d, k, m = sizes(p)
    return Values(of_whitening(p) / of_convolution(p), cost.relative_overhead(d, k, m=m, h=H, w=W, fh=FH, fw=FW))
