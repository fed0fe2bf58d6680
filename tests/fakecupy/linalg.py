"""cupy.linalg on NumPy arrays, with CuPy's manners instead of NumPy's.

From cupy/linalg/*.py of 14.2:
- Results are plain tuples: no `.eigenvalues`, `.Q`, `.logabsdet` as NumPy 2 gives.
- A singular, indefinite or NaN matrix raises nothing: cuSOLVER's status stays unread on the device (the `linalg`
  setting of cupyx.seterr defaults to "ignore"), so there is no sync either, and the numbers are "invalid results".
  Here, for the failing matrix of a batch alone, they are finite garbage wherever no arithmetic makes them NaN or Inf, so
  that whoever relies on NaN, on an order or on a sign is found out. It is random, with the matrix as the seed: all results
  of eigh and svd of a matrix that is not finite, and of `inv` of a singular one of a batch (whose memory CuPy does not
  initialize); in cholesky what stands from the pivot without a root on. `solve`, and `inv` of one matrix, divide by the
  zero pivot: Inf and NaN, beside the numbers that were found before. slogdet alone tests the status, on the device, and
  gives (0, -inf) as NumPy does.
- Batches: eigh (Jacobi), inv, solve, cholesky, det, slogdet, qr and svd take (..., M, M). `solve` does not broadcast
  them.
- float16 is refused by all except eigh; here by all.
"""

import zlib

import numpy as np


def _require_square(a):
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"a stack of square matrices is needed, got shape {a.shape}")


def _where_numpy_fails(function, a, *others):
    """`function` of `a`, and which matrices of it are not finite or make NumPy raise LinAlgError: booleans of the batch's
    shape. There the results are garbage."""
    bad = np.zeros(a.shape[:-2], bool)
    for at in np.ndindex(bad.shape):
        bad[at] = not np.isfinite(a[at]).all() or _raises(function, a[at])
    found = function(np.where(bad[..., None, None], np.eye(*a.shape[-2:], dtype=a.dtype), a), *others)
    for result in found if isinstance(found, tuple) else (found,):
        for at in np.argwhere(bad):
            result[tuple(at)] = garbage(a[tuple(at)], result.shape[bad.ndim:])
    return found, bad


def garbage(a, shape):
    """Finite numbers, always the same for the same matrix."""
    return np.random.default_rng(zlib.crc32(a.tobytes())).normal(0, 3, shape)


def _raises(function, matrix):
    try:
        function(matrix, *([np.ones(len(matrix), matrix.dtype)] if function is np.linalg.solve else []))
    except np.linalg.LinAlgError:
        return True
    return False


def cholesky(a):
    """The lower factor; of an indefinite matrix what is there when the factorization stops."""
    _require_square(a)
    factors, bad = _where_numpy_fails(np.linalg.cholesky, a)
    for at in np.ndindex(bad.shape):
        if bad[at]:
            factors[at] = _half_done(a[at])
    return factors


def _half_done(a):
    """The columns up to the first pivot without a root; garbage from there on, below the diagonal and on it."""
    factor = np.tril(a)
    for j in range(len(a)):
        factor[j, j] -= factor[j, :j] @ factor[j, :j]
        if not factor[j, j] > 0:
            break
        factor[j, j] **= 0.5
        factor[j + 1:, j] = (factor[j + 1:, j] - factor[j + 1:, :j] @ factor[j, :j]) / factor[j, j]
    factor[:, j:] = np.tril(np.abs(garbage(a, a.shape)))[:, j:]
    return np.where(np.isfinite(factor), factor, 1)


def eigh(a, UPLO="L"):
    """Ascending eigenvalues and eigenvectors."""
    _require_square(a)
    if UPLO not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return _where_numpy_fails(lambda matrices: tuple(np.linalg.eigh(matrices, UPLO)), a)[0]


def eigvalsh(a, UPLO="L"):
    """Ascending eigenvalues."""
    return eigh(a, UPLO)[0]


def inv(a):
    """The inverse."""
    _require_square(a)
    inverses, bad = _where_numpy_fails(np.linalg.inv, a)
    return _eliminated(a, np.eye(len(a), dtype=a.dtype)) if a.ndim == 2 and bad else inverses


def qr(a, mode="reduced"):
    """(Q, R), or R alone for mode "r"."""
    result = np.linalg.qr(a, mode)
    return tuple(result) if isinstance(result, tuple) else result


def slogdet(a):
    """(sign, log |det|)."""
    return tuple(np.linalg.slogdet(a))


def solve(a, b):
    """Solution of a x = b; the batch shapes must be equal, except that a vector b serves every matrix."""
    _require_square(a)
    if b.ndim == 0:
        raise ValueError("b must have at least one dimension")
    if b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:
        raise ValueError(f"a must have (..., M, M) shape and b must have (..., M, K); CuPy does not broadcast "
                         f"{a.shape} with {b.shape}")
    solutions, bad = _where_numpy_fails(np.linalg.solve, a, b)
    for at in np.ndindex(bad.shape):
        if bad[at]:
            solutions[at] = _eliminated(a[at], b if b.ndim == 1 else b[at])
    return solutions


def _eliminated(a, b):
    """The solution by Gaussian elimination with row pivots, which divides by what it finds."""
    columns = len(a)
    work = np.concatenate([a, b.reshape(columns, -1)], axis=1)
    with np.errstate(all="ignore"):
        for j in range(columns):
            pivot = j + int(np.argmax(np.abs(work[j:, j])))
            work[[j, pivot]] = work[[pivot, j]]
            if work[j, j] != 0:
                work[j + 1:] -= work[j + 1:, j:j + 1] / work[j, j] * work[j]
        for j in reversed(range(columns)):
            work[j, columns:] /= work[j, j]
            work[:j, columns:] -= work[:j, j:j + 1] * work[j, columns:]
    return work[:, columns:].reshape(b.shape)


def svd(a, full_matrices=True, compute_uv=True):
    """(U, S, Vh), or S alone."""
    def decompose(matrices):
        result = np.linalg.svd(matrices, full_matrices, compute_uv)
        return tuple(result) if compute_uv else result
    return _where_numpy_fails(decompose, a)[0]


FUNCTIONS = {function.__name__: function for function in (cholesky, eigh, eigvalsh, inv, qr, slogdet, solve, svd)}
