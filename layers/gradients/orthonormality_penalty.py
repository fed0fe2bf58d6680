"""Orthonormality penalty: how far filters are from orthonormal, to be added to the loss with a small factor.

    w (out, in, *kernel)    result (), a number        as a matrix W (out, d), d = in · kernel

‖W Wᵀ − I‖² if there are at most as many rows as columns, else ‖Wᵀ W − I‖² of the columns. Both are Σ (s² − 1)² over singular
values s; the larger Gram matrix would only add |out − d|, the 1 that each missing singular value costs, to the value and
nothing to the gradient.

Source: the orthonormality that bn-jacobian's paper (Xie, Xiong and Pu [xie2017]) combines with modulation; its
supplement does not print it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minigrad as mg
from minigrad import backend, named, reshape
from minigrad import sum as sum_

from ..registry import Case, register
from ..weights.filters import per_filter

# -- composed: the forward pass, line by line ---------------------------------------------------------------------------


def composed(w: Any) -> Any:
    """‖W Wᵀ − I‖² or ‖Wᵀ W − I‖² as a graph of primitives; the tape derives the backward."""
    per_filter("orthonormality_penalty", w)
    matrix = reshape(w, (w.shape[0], -1))                              # (out, d)
    wide = matrix.shape[0] <= matrix.shape[1]
    gram = named("gram", matrix @ matrix.T if wide else matrix.T @ matrix)     # (n, n), n = min(out, d)
    excess = named("excess", gram - identity(gram))                    # (n, n)
    return named("penalty", sum_(excess * excess))                     # ()


def identity(gram: Any) -> Any:
    """I, of the size and dtype of a Gram matrix."""
    return backend.namespace(getattr(gram, "_data", gram)).eye(gram.shape[0], dtype=gram.dtype)


# -- derived by hand ----------------------------------------------------------------------------------------------------
#
# With E = W Wᵀ − I, dE = dW Wᵀ + W dWᵀ and the loss changes by 2⟨E, dE⟩. E is symmetric, so both terms are equal:
#
#     dW = 4 E W  (or 4 W E on the other side)  =  4 U (s³ − s) Vᵀ
#
# Each singular value is driven to 1 on its own, but at 0 the gradient is 0: a penalty alone never leaves a lost rank.


def excess_gram(w: Any) -> tuple[Any]:
    """E = W Wᵀ − I or Wᵀ W − I, on the smaller side: the cache."""
    per_filter("orthonormality_penalty", w)
    matrix = reshape(w, (w.shape[0], -1))
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return (gram - identity(gram),)


def orthonormality_penalty(xp: Any, w: Any, *, saved: Any) -> Any:
    """Σ E²."""
    (excess,) = saved
    return sum_(excess * excess)


def backward(g: Any, saved: Any, w: Any) -> tuple[Any]:
    """dW = 4g·E W, or 4g·W E."""
    (excess,) = saved
    matrix = reshape(w, (w.shape[0], -1))
    product = excess @ matrix if matrix.shape[0] <= matrix.shape[1] else matrix @ excess
    return (reshape((4.0 * g) * product, w.shape),)


one_line = mg.by_hand(save=excess_gram, backward=backward)(orthonormality_penalty)


def cases(dtype: Any, rng: Any) -> Iterator[Case]:
    """Both sides, and weights with lost ranks."""
    def case(name: str, *shape: int, scale: float = 0.5) -> Case:
        return name, ((scale * rng.normal(size=shape)).astype(dtype),), {}

    yield case("linear", 4, 6)
    yield case("convolution", 3, 2, 3, 3)
    yield case("more rows than columns", 7, 3)
    yield case("square", 4, 4)
    yield case("one filter", 1, 5)
    yield case("one column", 5, 1)
    yield case("small weights", 4, 6, scale=1e-3)
    name, (w,), kw = case("rank deficient", 4, 6)
    w[1], w[2] = -w[0], 0
    yield name, (w,), kw


register("orthonormality_penalty", composed=composed, derived={"one_line": one_line}, cases=cases,
         source="Xie, Xiong and Pu [xie2017], whose supplement is bn-jacobian")
