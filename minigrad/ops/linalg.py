"""Linear algebra: products of matrices, and functions of a matrix, each beside its derivative.

- Matrices are on the last two axes; all axes before them are a batch. Batches broadcast by visible `broadcast_to` lines.
- ``g`` is the cotangent, ``_t`` transposes, ``_sym`` is (A + Aᵀ)/2.
- `cholesky`, `eigh`, `eigvalsh`, `inv_sqrtm` and `lyapunov` (its S) are functions of the *symmetric part* of their
  matrix: a symmetric one is used as it is, and the gradient is symmetric.
- What needs eigenvalues or singular values is computed in float64, the other matrix functions in at least float32; the
  result has the input's dtype again (visible `astype` lines). Integers become float32.
- A matrix that LAPACK refuses (singular, not positive definite) raises LinAlgError on NumPy. CuPy gives NaN or Inf, because
  finding out would wait for the GPU. A matrix with an infinity or NaN in it raises or gives NaN; what the libraries
  themselves make of it may be finite garbage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from operator import index as as_integer
from typing import Any

from ..core import backend
from ..core.backend import Array, Namespace
from ..core.errors import describe, error, integer
from ..core.primitive import primitive
from ..core.tensor import Value
from ..kernels import matmul as kernel
from ..kernels.half import is_half, widened
from .broadcasting import broadcast_to, namespace_of
from .elementwise import abs as absolute
from .elementwise import as_floating, astype, multiply, where
from .reduce import _norm
from .reduce import sum as sum_of
from .shape import Axis, _reshape, _transpose, expand_dims, normalize_axis, one_axis, reshape, squeeze

# -- products -----------------------------------------------------------------------------------------------------------


def _t(a: Value) -> Value:
    n = a.ndim
    return _transpose(a, axes=(1, 0) if n == 2 else (*range(n - 2), n - 1, n - 2))


@primitive(a=lambda g, b: _matmul(g, _t(b)), b=lambda g, a: _matmul(_t(a), g))
def _matmul(xp: Namespace, a: Array, b: Array) -> Array:
    """(*batch, m, k) @ (*batch, k, n) -> (*batch, m, n), with equal batches."""
    try:
        if a.dtype is b.dtype and a.dtype != backend.float16:
            return kernel.matmul(xp, a, b)
        return _multiplied(partial(kernel.matmul, xp), a, b)
    except ValueError:
        raise _misfit(a, b) from None


def _multiplied(product: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    """product(a, b), where an integer operand follows the float, and float16 is multiplied and added in float32."""
    if a.dtype == b.dtype != backend.float16:
        return product(a, b)
    floats = [x.dtype for x in (a, b) if x.dtype.kind == "f"]
    if not floats or floats[0] != floats[-1]:  # integers, or raw arrays of two float dtypes
        return product(a, b)
    work = backend.float32 if floats[0] == backend.float16 else floats[0]
    return product(a.astype(work, copy=False), b.astype(work, copy=False)).astype(floats[0], copy=False)


def matmul(a: Value, b: Value) -> Value:
    """Matrix product a @ b, with NumPy's meaning for vectors and batches.

    Args:
        a: (..., m, k), or a vector (k,), which is taken as a row.
        b: (..., k, n), or a vector (k,), which is taken as a column.

    Returns:
        (..., m, n), without the axis that a vector does not have. Batch axes broadcast. (..., m, k) @ (k, n) is one
        product of two matrices, whatever the batch.

    Raises:
        ValueError: the inner sizes differ, the batches do not broadcast, or an operand is a number.
    """
    m, n = getattr(a, "ndim", 0), getattr(b, "ndim", 0)
    if m == 2 and n == 2:
        return _matmul(a, b)
    if m == 0 or n == 0:
        raise error(ValueError, "matmul", got=f"{describe(a)} and {describe(b)}", needs="at least one axis each", fix="use * to multiply by a number")
    k, inner = a.shape[-1], b.shape[0 if n == 1 else -2]
    if k != inner:
        raise _misfit(a, b)
    x = expand_dims(a, 0) if m == 1 else a
    y = expand_dims(b, 1) if n == 1 else b
    if y.ndim == 2:
        rows = x.shape[:-1]
        out = _matmul(x, y) if x.ndim == 2 else reshape(_matmul(reshape(x, (prod(rows), k)), y), (*rows, y.shape[-1]))
    else:
        out = _matmul(*_one_batch("matmul", x, y))
    if m == 1 or n == 1:
        out = squeeze(out, (-2,) * (m == 1) + (-1,) * (n == 1))
    return out


def _misfit(a: Value, b: Value) -> Exception:
    k, inner = a.shape[-1], b.shape[0 if b.ndim == 1 else -2]
    return error(ValueError, "matmul", got=f"the shapes {tuple(a.shape)} @ {tuple(b.shape)}, with inner sizes {k} and {inner}",
                 needs="equal inner sizes: (..., m, k) @ (..., k, n)",
                 fix="transpose one operand (swapaxes(b, -1, -2)), or check which axis holds the features")


def _one_batch(op: str, a: Value, b: Value) -> tuple[Value, Value]:
    """Both with the same axes before the last two."""
    mine, other = tuple(a.shape[:-2]), tuple(b.shape[:-2])
    if mine == other:
        return a, b
    try:
        batch = backend.broadcast_shapes(mine, other)
    except ValueError:
        raise error(ValueError, op, got=f"the shapes {tuple(a.shape)} and {tuple(b.shape)}, with the batches {mine} and {other}",
                    needs="batches that broadcast: equal or 1 on each axis, counted from the right", fix="reshape or expand_dims one of them") from None
    return (a if mine == batch else broadcast_to(a, (*batch, *a.shape[-2:]))), (b if other == batch else broadcast_to(b, (*batch, *b.shape[-2:])))


def outer(a: Value, b: Value) -> Value:
    """(m,), (n,) -> (m, n): each element of `a` times each of `b`. Both are flattened first, as in NumPy."""
    return _matmul(reshape(a, (a.size, 1)), reshape(b, (1, b.size)))


def dot(a: Value, b: Value) -> Value:
    """NumPy's dot: the sum of products of two vectors, else a @ b; for `b` with more axes over the last of `a` and the last but one of `b`.

    A number, or an array without axes, multiplies.
    """
    m, n = getattr(a, "ndim", 0), getattr(b, "ndim", 0)
    if not m or not n:
        return multiply(a, b)
    return matmul(a, b) if n <= 2 else tensordot(a, b, (-1, -2))


def tensordot(a: Value, b: Value, axes: int | Sequence[Any] = 2) -> Value:
    """Sums of products over pairs of axes, as one product of two matrices.

    Args:
        axes: how many, the last of `a` with the first of `b` in their order; or two axes, or two lists of axes: those of
            `a`, and their partners in `b`.

    Returns:
        The other axes of `a`, then those of `b`.
    """
    left, right = _partners(a, b, axes)
    rows, columns = ([i for i in range(x.ndim) if i not in gone] for x, gone in ((a, left), (b, right)))
    shape, inner = (*(a.shape[i] for i in rows), *(b.shape[i] for i in columns)), prod(a.shape[i] for i in left)
    x = _reshape(_transpose(a, axes=(*rows, *left)), shape=(prod(a.shape[i] for i in rows), inner))
    y = _reshape(_transpose(b, axes=(*right, *columns)), shape=(inner, prod(b.shape[i] for i in columns)))
    return _reshape(_matmul(x, y), shape=shape)


def _partners(a: Value, b: Value, axes: Any) -> tuple[list[int], list[int]]:
    """The axes of `a` over which `tensordot` sums, and those of `b`."""
    if isinstance(axes, (tuple, list)) and len(axes) == 2:
        left, right = ([one_axis("tensordot", i, x) for i in (w if isinstance(w, (tuple, list)) else (w,))] for w, x in zip(axes, (a, b), strict=True))
    else:
        n = integer("tensordot", "axes", axes, 0, fix="how many axes, or two lists of axes: tensordot(a, b, ([0, 1], [1, 0]))")
        left, right = ([*range(max(a.ndim - n, 0), a.ndim)], [*range(n)]) if n <= min(a.ndim, b.ndim) else ([], [0])
    sizes = [tuple(x.shape[i] for i in found) for x, found in ((a, left), (b, right))]
    if sizes[0] != sizes[1] or len({*left}) < len(left) or len({*right}) < len(right):
        raise error(ValueError, "tensordot", got=f"axes={axes!r} for the shapes {tuple(a.shape)} and {tuple(b.shape)}",
                    needs="as many axes of each, in pairs of equal size", fix="tensordot(a, b, ([0, 1], [1, 0])) names the axes of a, then their partners in b")
    return left, right


# -- parts of a matrix, and its size ------------------------------------------------------------------------------------


@primitive(a=lambda g, a_shape, offset, axis1, axis2: _put_on_diagonal(g, shape=a_shape, offset=offset, axis1=axis1, axis2=axis2))
def _diagonal(xp: Namespace, a: Array, *, offset: int, axis1: int, axis2: int) -> Array:
    return xp.diagonal(a, offset, axis1, axis2)


@primitive(a=lambda g, offset, axis1, axis2: _diagonal(g, offset=offset, axis1=axis1, axis2=axis2))
def _put_on_diagonal(xp: Namespace, a: Array, *, shape: tuple[int, ...], offset: int, axis1: int, axis2: int) -> Array:
    """Zeros of `shape`, except the diagonal, which is `a`'s last axis."""
    rows, columns, batch = shape[axis1], shape[axis2], a.shape[:-1]
    flat = xp.zeros((*batch, rows * columns), dtype=a.dtype)
    start = offset if offset >= 0 else -offset * columns
    flat[..., start:start + a.shape[-1] * (columns + 1):columns + 1] = a
    return xp.moveaxis(flat.reshape((*batch, rows, columns)), (-2, -1), (axis1, axis2))


def diagonal(a: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """The elements (i, i + offset) of axes `axis1` and `axis2`, as a new last axis. (Batches: axis1=-2, axis2=-1.)"""
    normalize_axis("diagonal", (axis1, axis2), a)
    return _diagonal(a, offset=offset, axis1=axis1 % a.ndim, axis2=axis2 % a.ndim)


def diag(a: Value, k: int = 0) -> Value:
    """(n,) -> the square matrix with `a` on its k-th diagonal and zeros elsewhere; (m, n) -> its k-th diagonal."""
    if getattr(a, "ndim", None) not in (1, 2):
        raise error(ValueError, "diag", got=describe(a), needs="a vector or a matrix", fix="diagonal(x, 0, -2, -1) for the diagonals of a batch of matrices")
    k = as_integer(k)
    if a.ndim == 2:
        return diagonal(a, k)
    n = a.size + (k if k >= 0 else -k)
    return _put_on_diagonal(a, shape=(n, n), offset=k, axis1=0, axis2=1)


def trace(a: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """Sum of the diagonal (see `diagonal`)."""
    return sum_of(diagonal(a, offset, axis1, axis2), -1)


@primitive(a=lambda g, k: _tril(g, k=k))
def _tril(xp: Namespace, a: Array, *, k: int) -> Array:
    return xp.tril(a, k)


@primitive(a=lambda g, k: _triu(g, k=k))
def _triu(xp: Namespace, a: Array, *, k: int) -> Array:
    return xp.triu(a, k)


def tril(a: Value, k: int = 0) -> Value:
    """The matrices (..., m, n) with zeros above the k-th diagonal."""
    return _tril(_matrix("tril", a), k=k)


def triu(a: Value, k: int = 0) -> Value:
    """The matrices (..., m, n) with zeros below the k-th diagonal."""
    return _triu(_matrix("triu", a), k=k)


def norm(a: Value, ord: int | str | None = None, axis: Axis = None, keepdims: bool = False) -> Value:
    """√(Σ a²) over `axis`: the 2-norm of vectors, the Frobenius norm of matrices; axis=None takes all elements.

    The derivative is a/‖a‖, and 0 at a = 0 (in second order too, where the true one is infinite).

    Raises:
        ValueError: `ord` is not None, "fro" (two axes) or 2 (one axis: of a matrix it means the largest singular value).
    """
    axes = normalize_axis("norm", axis, a)
    if ord is not None and (ord, len(axes)) not in ((2, 1), ("fro", 2)):
        raise error(ValueError, "norm", got=f"ord={ord!r} over {len(axes)} axes", needs="None, 2 over one axis or 'fro' over two",
                    fix="leave ord out for the root of the sum of squares; for the spectral norm of a: sqrt(eigvalsh(swapaxes(a, -1, -2) @ a)[..., -1])")
    out = _norm(as_floating(widened(a)), axis=axes)
    out = out if keepdims else squeeze(out, axes)
    return astype(out, a.dtype) if is_half(a) else out


# -- functions of a matrix ----------------------------------------------------------------------------------------------


def _matrix(op: str, a: Value, square: bool = False) -> Value:
    """`a`, if it has at least two axes (the last two of equal size)."""
    if getattr(a, "ndim", 0) < 2 or (square and a.shape[-1] != a.shape[-2]):
        raise error(ValueError, op, got=describe(a), needs=f"{'square ' * square}matrices on the last two axes",
                    fix="check the shape; reshape or expand_dims a vector first")
    return a


def _computed_in(low: Any, f: Callable[..., Any], *arrays: Value) -> Value:
    """f(*arrays) in at least the dtype `low`, and back in the arrays' own."""
    floats = {a.dtype for a in arrays if a.dtype.kind == "f"}
    if len(floats) > 1:  # the op will refuse, and say why
        return f(*arrays)
    own = floats.pop() if floats else backend.default_dtype
    work = own if own.itemsize > low.itemsize else low
    out = f(*(a if a.dtype == work else astype(a, work) for a in arrays))
    return tuple(astype(o, own) for o in out) if isinstance(out, tuple) else out if own == work else astype(out, own)


def _lapack(xp: Namespace, op: str, routine: Callable[..., Any], *arrays: Array) -> Value:
    """routine(*arrays), with the usual cause and cure in LinAlgError's text; NaN for a matrix (of arrays[0]) that is not finite."""
    try:
        return _marked(routine(*arrays), arrays[0])
    except xp.linalg.LinAlgError as e:
        raise error(xp.linalg.LinAlgError, op, got=f"{describe(arrays[0])}: {e}", needs="an invertible (for cholesky: positive definite) finite matrix",
                    fix="add a small multiple of the identity: a + 1e-5 * minigrad.eye(n, dtype=a.dtype, backend=a.backend); "
                        "and look for NaN in it") from None


def _marked(found: Any, a: Array) -> Value:
    """`found`, an array or a tuple of them, and NaN for the matrices of `a` with an infinity or NaN in them."""
    if isinstance(found, tuple):
        return tuple(_marked(f, a) for f in found)
    zero = (0.0 * a).sum(axis=(-2, -1))  # (*batch,): 0, or NaN, for 0·∞ and 0·NaN are NaN
    return found + zero.reshape(zero.shape + (1,) * (found.ndim - zero.ndim)) if zero.ndim else found + zero


def _sym(a: Value) -> Value:
    return 0.5 * (a + _t(a))


def _row(w: Value) -> Value:
    return expand_dims(w, -2)  # (..., n) -> (..., 1, n): a factor for each column


def _column(w: Value) -> Value:
    return expand_dims(w, -1)


@primitive(a=lambda g, out: -(_t(out) @ g @ _t(out)))
def _inv(xp: Namespace, a: Array) -> Array:
    if xp is backend.np:
        return _lapack(xp, "inv", xp.linalg.inv, a)
    identities = xp.zeros_like(a) + xp.eye(a.shape[-1], dtype=a.dtype)
    found = _lapack(xp, "inv", xp.linalg.solve, a, identities)  # CuPy's inv of a batch leaves garbage in the place of a singular one
    return _marked(found, found)  # rows that come before the division by a zero pivot are finite


def inv(a: Value) -> Value:
    """A⁻¹ of (..., n, n). To apply it, `solve` is faster and more accurate. From d(A⁻¹) = −A⁻¹ dA A⁻¹."""
    return _computed_in(backend.float32, _inv, _matrix("inv", a, square=True))


@primitive(a=lambda g, a, out: -(_solve(_t(a), g) @ _t(out)), b=lambda g, a: _solve(_t(a), g))
def _solve(xp: Namespace, a: Array, b: Array) -> Array:
    return _lapack(xp, "solve", xp.linalg.solve, a, b)


def solve(a: Value, b: Value) -> Value:
    """X with A X = B. From A dX = dB − dA X.

    Args:
        a: (..., n, n), not singular.
        b: (n,), one right-hand side, or (..., n, k). As in NumPy 2, only a `b` with one axis is a vector.
    """
    _matrix("solve", a, square=True)
    x = expand_dims(b, -1) if getattr(b, "ndim", 0) == 1 else _matrix("solve", b)
    if x.shape[-2] != a.shape[-1]:
        raise error(ValueError, "solve", got=f"the shapes {tuple(a.shape)} and {tuple(b.shape)}",
                    needs="b of shape (n,) or (..., n, k) for a of shape (..., n, n)",
                    fix="expand_dims a batch of vectors: solve(a, expand_dims(b, -1))")
    out = _computed_in(backend.float32, _solve, *_one_batch("solve", a, x))
    return squeeze(out, -1) if b.ndim == 1 else out


@primitive(a=lambda g, a: _column(_column(g)) * _cofactor(a))
def _det(xp: Namespace, a: Array) -> Array:
    return _lapack(xp, "det", lambda a: xp.asarray(xp.linalg.det(a)), a)


@primitive(a=lambda g, a: _cofactor_slope(a, g))
def _cofactor(xp: Namespace, a: Array) -> Array:
    """∂ det A/∂A = det(A)·A⁻ᵀ = ± U diag(∏_{j≠i} s_j) Vᵀ for A = U diag(s) Vᵀ: no division, so a singular A is fine."""
    u, s, vt, sign = _svd(xp, a)
    others = xp.where(xp.eye(s.shape[-1], dtype=bool), 1.0, s[..., None, :]).prod(axis=-1)
    return sign * ((u * others[..., None, :]) @ vt)


def _third(g: Value) -> Value:
    raise error(NotImplementedError, "det", got="a third derivative", needs="at most two", fix="for a positive definite a use exp(sum(log(eigvalsh(a))))")


@primitive(a=_third, g=lambda h, a: _cofactor_slope(a, h))  # a second derivative is symmetric
def _cofactor_slope(xp: Namespace, a: Array, g: Array) -> Array:
    """Derivative of `_cofactor` along `g`: ± U (diag(Σ_j p_ij H_jj) − p∘Hᵀ) Vᵀ with H = Uᵀ g V, p_ij = ∏_{l≠i,j} s_l."""
    u, s, vt, sign = _svd(xp, a)
    eye = xp.eye(s.shape[-1], dtype=bool)
    p = xp.where(eye[:, None, :] | eye[None, :, :], 1.0, s[..., None, None, :]).prod(axis=-1) * ~eye
    h = u.swapaxes(-1, -2) @ g @ vt.swapaxes(-1, -2)
    inside = eye * (p @ xp.diagonal(h, 0, -2, -1)[..., :, None]) - p * h.swapaxes(-1, -2)
    return sign * (u @ inside @ vt)


def _svd(xp: Namespace, a: Array) -> tuple[Array, Array, Array, Array]:
    u, s, vt = _lapack(xp, "det", xp.linalg.svd, a)
    return u, s, vt, xp.linalg.det(u @ vt)[..., None, None]


def det(a: Value) -> Value:
    """Determinant of (..., n, n) -> (...). The derivative, the matrix of cofactors, is right for singular matrices too,
    and so is the second (which needs n³ numbers of memory)."""
    return _computed_in(backend.float64, _det, _matrix("det", a, square=True))


def _cholesky_rule(g: Value, out: Any) -> Value:
    p = _t(out) @ g
    half, inverse = 0.5 * (_tril(p, k=0) + _tril(p, k=-1)), _inv(out)  # Φ: the lower triangle with half of its diagonal
    return _sym(_t(inverse) @ half @ inverse)


@primitive(a=_cholesky_rule)
def _cholesky(xp: Namespace, a: Array) -> Array:
    a = _sym(a)
    factor = _lapack(xp, "cholesky", xp.linalg.cholesky, a)
    if xp is backend.np:
        return factor
    # cuSOLVER stops at a pivot that has no root, and says nothing about what then stands in its row and behind it. A number > 0 there would make
    # L Lᵀ larger on the diagonal than A: by its square and by how far the pivot is below 0. Rounding: Higham [higham2002], theorem 10.3, doubled.
    diagonal, products = xp.diagonal(a, 0, -2, -1), (factor * factor).sum(axis=-1)
    close = abs(products - diagonal) <= 2 * (a.shape[-1] + 2) * float(xp.finfo(a.dtype).eps) * diagonal
    done = (close & (xp.diagonal(factor, 0, -2, -1) > 0)).all(axis=-1)
    return xp.where(done[..., None, None], factor, float("nan"))


def cholesky(a: Value) -> Value:
    """The lower triangular L with L Lᵀ = A, for A (..., n, n) positive definite (its symmetric part is used).

    dA = sym(L⁻ᵀ Φ(Lᵀ G) L⁻¹), where Φ takes the lower triangle with half of the diagonal.
    Source: Murray [murray2016], eq. 10.
    """
    return _computed_in(backend.float32, _cholesky, _matrix("cholesky", a, square=True))


def _eigh_rule(g: Value, out: Any) -> Value:
    (gw, gv), (w, v) = g, out
    gap = _row(w) - _column(w)  # λ_j − λ_i at (i, j)
    equal = absolute(gap) <= 2.0**-49 * _column(sum_of(absolute(w), -1, keepdims=True))  # up to eigh's own rounding errors
    gap = where(namespace_of(w).eye(w.shape[-1], dtype=bool), float("inf"), where(equal, float("nan"), gap))
    return _sym((v * _row(gw) + v @ ((_t(v) @ gv) / gap)) @ _t(v))


@primitive(a=_eigh_rule)
def _eigh(xp: Namespace, a: Array) -> tuple[Array, Array]:
    w, v = _lapack(xp, "eigh", xp.linalg.eigh, _sym(a))
    return w, v


def eigh(a: Value) -> tuple[Value, Value]:
    """Eigenvalues w (..., n), ascending, and orthonormal eigenvectors v (..., n, n), in columns, of A's symmetric part.

    dA = sym(V [diag(g_w) + (Vᵀ G_v) / (λ_j − λ_i)] Vᵀ), the quotient for i ≠ j only. Eigenvectors have no derivative
    where eigenvalues are equal: then the gradient is NaN, even where the loss as a whole is smooth, and inaccurate
    where they are close. For eigenvalues alone use `eigvalsh`, for A^(−1/2) `inv_sqrtm`. The signs of v are arbitrary.
    """
    out: tuple[Any, Any] = _computed_in(backend.float64, _eigh, _matrix("eigh", a, square=True))
    return out


def _eigvalsh_rule(g: Value, a: Value) -> Value:
    _, v = _eigh(a)
    return (v * _row(g)) @ _t(v)


@primitive(a=_eigvalsh_rule)
def _eigvalsh(xp: Namespace, a: Array) -> Array:
    return _lapack(xp, "eigvalsh", xp.linalg.eigvalsh, _sym(a))


def eigvalsh(a: Value) -> Value:
    """Eigenvalues (..., n), ascending, of the symmetric part of A. dA = V diag(g) Vᵀ.

    At equal eigenvalues the gradient is right for losses that treat them alike, such as Σ f(λ); the second derivative
    goes through the eigenvectors and is NaN there (see `eigh`).
    """
    return _computed_in(backend.float64, _eigvalsh, _matrix("eigvalsh", a, square=True))


def _lyapunov_rule(g: Value, s: Any, out: Any) -> Value:
    d = _lyapunov(s, g)  # S dX + dX S = −(dS X + X dS), and the solve is its own adjoint: ⟨G, dX⟩ = −⟨D, dS X + X dS⟩
    return -_sym(d @ _t(out) + _t(out) @ d)


@primitive(s=_lyapunov_rule, c=lambda g, s: _lyapunov(s, g))
def _lyapunov(xp: Namespace, s: Array, c: Array) -> Array:
    w, v = _lapack(xp, "lyapunov", xp.linalg.eigh, _sym(s))
    vt = v.swapaxes(-1, -2)
    return v @ ((vt @ c @ v) / (w[..., :, None] + w[..., None, :])) @ vt


def lyapunov(s: Any, c: Value) -> Value:
    """X with S X + X S = C, for S (..., n, n) positive definite (its symmetric part is used) and any C (..., n, n).

    X = V [(Vᵀ C V) / (λ_i + λ_j)] Vᵀ with the eigenvalues of S. The rule solves another Lyapunov equation, without any
    eigenvalue gaps: it is smooth in every order. With D = lyapunov(S, G): dC = D and dS = −sym(D Xᵀ + Xᵀ D).
    """
    _matrix("lyapunov", s, square=True)
    if _matrix("lyapunov", c, square=True).shape[-1] != s.shape[-1]:
        raise error(ValueError, "lyapunov", got=f"the shapes {tuple(s.shape)} and {tuple(c.shape)}", needs="two square matrices of one size",
                    fix="check which is which: lyapunov(s, c)")
    return _computed_in(backend.float64, _lyapunov, *_one_batch("lyapunov", s, c))


@primitive(a=lambda g, a, out: -_lyapunov(_sym(a) @ out, out @ _sym(g) @ out))
def _inv_sqrtm(xp: Namespace, a: Array) -> Array:
    w, v = _lapack(xp, "inv_sqrtm", xp.linalg.eigh, _sym(a))
    return (v / xp.sqrt(w)[..., None, :]) @ v.swapaxes(-1, -2)


def inv_sqrtm(a: Value) -> Value:
    """W = A^(−1/2), symmetric, for A (..., n, n) positive definite (its symmetric part is used); else NaN or Inf.

    From W A W = I: dA = −lyapunov(A^(1/2), W sym(G) W), with A^(1/2) = A W. There are no eigenvalue gaps in it, so it
    is right at equal eigenvalues, in every order, where a detour over `eigh` gives NaN.
    """
    return _computed_in(backend.float64, _inv_sqrtm, _matrix("inv_sqrtm", a, square=True))


__all__ = ["cholesky", "det", "diag", "diagonal", "dot", "eigh", "eigvalsh", "inv", "inv_sqrtm", "lyapunov", "matmul", "norm", "outer", "solve",
           "tensordot", "trace", "tril", "triu"]
