"""What whitening costs: dbn's formulas, and the multiply-adds of our own code.

    x (m, d, h, w)    filters (d, d, fh, fw) that keep the size    groups of k channels, k a divisor of d    counts are multiply-adds

    >>> convolution(64, m=64, h=32, w=32), whitening(64, 16, m=64, h=32, w=32)
    (2415919104, 67125248)
    >>> round(relative_overhead(64, 16, m=64, h=32, w=32), 4), round(counted_overhead(64, 16, m=64, h=32, w=32), 4)
    (0.0278, 0.0648)

The document's three are orders of magnitude: each kind of step stands there once, of the forward pass. Our `stable` form multiplies by
d×d matrices twice forward (Σ, W x) and five times backward (Dᵀx, Dᵀg, H, T x̃, D ·), and a convolution three times in all, so their
quotient is 7/3 of the document's where eigendecompositions do not count. `experiments/dbn_cost.py` holds all this against the clock.

Source: dbn (supplement of "Decorrelated Batch Normalization"), section 2.
"""

from __future__ import annotations


def convolution(d: int, *, m: int, h: int, w: int, fh: int = 3, fw: int = 3) -> int:
    """d² m h w fh fw: of d filters for a batch of m images, forward, as if the windows at the edge were whole."""
    return d * d * m * h * w * fh * fw


def whitening(d: int, k: int, *, m: int, h: int, w: int) -> int:
    """d k m h w + d k²: covariances, and a decomposition for each of d/k groups, each without its factor."""
    return d * k * m * h * w + d * k * k


def relative_overhead(d: int, k: int, *, m: int, h: int, w: int, fh: int = 3, fw: int = 3) -> float:
    """k/(d fh fw) + k²/(d m h w fh fw): `whitening` over `convolution`."""
    return k / (d * fh * fw) + k * k / (d * m * h * w * fh * fw)


def products(d: int, k: int, *, m: int, h: int, w: int) -> int:
    """7 d k m h w + d k²: of all products of matrices in `decorrelated_batch_norm`'s stable form, forward and backward, in first order."""
    return 7 * d * k * m * h * w + d * k * k


def counted_overhead(d: int, k: int, *, m: int, h: int, w: int, fh: int = 3, fw: int = 3) -> float:
    """`products` over the convolution's, forward and backward: its output, ∂L/∂x and ∂L/∂w, `convolution` each."""
    return products(d, k, m=m, h=h, w=w) / (3 * convolution(d, m=m, h=h, w=w, fh=fh, fw=fw))
