"""cupy.linalg on NumPy arrays, with CuPy's manners instead of NumPy's.

From cupy/linalg/*.py of 14.2:
- Results are plain tuples: no `.eigenvalues`, `.Q`, `.logabsdet` as NumPy 2 gives.
- A singular, indefinite or NaN matrix raises nothing: cuSOLVER's status stays unread on the device (the `linalg`
  setting of cupyx.seterr defaults to "ignore"), so there is no sync either, and the numbers are "invalid results".
  Here they are NaN, for the failing matrix of a batch alone. slogdet alone tests the status, on the device, and gives
  (0, -inf) as NumPy does.
- Batches: eigh (Jacobi), inv, solve, cholesky, det, slogdet, qr and svd take (..., M, M). `solve` does not broadcast
  them.
- float16 is refused by all but eigh; here by all.
"""

import numpy as np


def _require_square(a):
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"a stack of square matrices is needed, got shape {a.shape}")


def _nan_where_numpy_fails(function, a, *others):
    """`function(a, *others)`; matrices on which NumPy raises LinAlgError give NaN."""
    try:
        return function(a, *others)
    except np.linalg.LinAlgError:
        if a.size == 0:
            raise
    bad = np.reshape([_raises(function, matrix) for matrix in a.reshape(-1, *a.shape[-2:])], a.shape[:-2])
    harmless = np.where(bad[..., None, None], np.eye(*a.shape[-2:], dtype=a.dtype), a)
    results = function(harmless, *others)
    for result in results if isinstance(results, tuple) else (results,):
        result[bad] = np.nan
    return results


def _raises(function, matrix):
    try:
        function(matrix, *([np.ones(len(matrix), matrix.dtype)] if function is np.linalg.solve else []))
    except np.linalg.LinAlgError:
        return True
    return False


def cholesky(a):
    """The lower factor; of an indefinite matrix NaN (cuSOLVER leaves a half-done factor)."""
    _require_square(a)
    return _nan_where_numpy_fails(np.linalg.cholesky, a)


def eigh(a, UPLO="L"):
    """Ascending eigenvalues and eigenvectors."""
    _require_square(a)
    if UPLO not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return _nan_where_numpy_fails(lambda matrices: tuple(np.linalg.eigh(matrices, UPLO)), a)


def eigvalsh(a, UPLO="L"):
    """Ascending eigenvalues."""
    return eigh(a, UPLO)[0]


def inv(a):
    """The inverse; of a singular matrix NaN."""
    _require_square(a)
    return _nan_where_numpy_fails(np.linalg.inv, a)


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
    return _nan_where_numpy_fails(np.linalg.solve, a, b)


def svd(a, full_matrices=True, compute_uv=True):
    """(U, S, Vh), or S alone."""
    def decompose(matrices):
        result = np.linalg.svd(matrices, full_matrices, compute_uv)
        return tuple(result) if compute_uv else result
    return _nan_where_numpy_fails(decompose, a)


FUNCTIONS = {function.__name__: function for function in (cholesky, eigh, eigvalsh, inv, qr, slogdet, solve, svd)}
