"""einsum: first the diagonals and sums of each operand, then `_contract` for two operands at a time.

So each tape line keeps exactly what its rule needs, and the derivative of a contraction is a contraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from string import ascii_letters
from typing import Any

from ..core.backend import Array, Namespace
from ..core.errors import describe, error
from ..core.primitive import primitive
from ..core.tensor import Value
from ..kernels import matmul as kernel
from .linalg import _multiplied, diagonal
from .reduce import sum as sum_of
from .shape import squeeze, transpose


def _terms(spec: str) -> list[str]:
    return spec.replace("->", ",").split(",")


def _turned(spec: str, *order: int) -> str:
    terms = _terms(spec)
    return "{},{}->{}".format(*(terms[i] for i in order))


@primitive(a=lambda g, b, spec: _contract(g, b, spec=_turned(spec, 2, 1, 0)), b=lambda g, a, spec: _contract(a, g, spec=_turned(spec, 0, 2, 1)))
def _contract(xp: Namespace, a: Array, b: Array, *, spec: str) -> Array:
    """einsum of two operands where each letter occurs in at least two of the three terms, once in each.

    That makes the derivatives contractions of the same kind. It is one (batched) matrix product where possible.
    """
    left, right, wanted = _terms(spec)
    m, n = [c for c in left if c not in right], [c for c in right if c not in left]
    k, batch = [c for c in left if c not in wanted], [c for c in left if c in right and c in wanted]
    if not k or (batch and not m and not n):  # nothing to sum, or one short sum for each element
        return _multiplied(partial(xp.einsum, spec), a, b)
    size = {**dict(zip(left, a.shape, strict=True)), **dict(zip(right, b.shape, strict=True))}
    shape, rows, inner, columns = [size[c] for c in batch], *(prod(size[c] for c in group) for group in (m, k, n))
    a = a.transpose([left.index(c) for c in batch + m + k]).reshape((*shape, rows, inner))
    b = b.transpose([right.index(c) for c in batch + k + n]).reshape((*shape, inner, columns))
    out = _multiplied(partial(kernel.matmul, xp), a, b).reshape([size[c] for c in batch + m + n])
    return out.transpose([(batch + m + n).index(c) for c in wanted])


def einsum(spec: str, *operands: Value) -> Value:
    """Sums of products by letters: ``einsum("ij,jk->ik", a, b)`` is a @ b.

    Args:
        spec: a term of letters for each operand, and, after "->", those of the result, in its order. Without "->" the
            result has the letters that occur once, in alphabetical order. A letter twice in one term takes the
            diagonal; "..." stands for any further axes, which broadcast.
        operands: one for each term. They are contracted from the left to the right, two at a time.

    Raises:
        ValueError: the spec does not fit the operands, or a letter stands for two sizes.

    >>> import minigrad as mg
    >>> a = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> mg.einsum("ii", a), mg.einsum("ij->j", a), mg.einsum("ij,ij->i", a, a)
    (tensor(5., dtype=float32), tensor([4., 6.], dtype=float32), tensor([ 5., 25.], dtype=float32))
    """
    terms, wanted, size = _parsed(spec, operands)
    done, letters = _diagonals(operands[0], terms[0], size)
    for i, operand in enumerate(operands[1:], 1):
        other, mine = _diagonals(operand, terms[i], size)
        later = {*wanted}.union(*terms[i + 1:])
        done, letters = _summed(done, letters, later.union(mine))
        other, mine = _summed(other, mine, later.union(letters))
        both = letters + "".join(c for c in mine if c not in letters)
        result = wanted if i == len(operands) - 1 else "".join(c for c in both if c in later)
        done, letters = _contract(done, other, spec=f"{letters},{mine}->{result}"), result
    done, letters = _summed(done, letters, {*wanted})
    return done if letters == wanted else transpose(done, tuple(letters.index(c) for c in wanted))


def _parsed(spec: Any, operands: Sequence[Any]) -> tuple[list[str], str, dict[str, int]]:
    """The operands' terms and the result's, with letters in the place of "...", and the size behind each letter."""
    def fail(got: str, needs: str, fix: str = "compare the spec with the operands' shapes") -> Exception:
        return error(ValueError, f"einsum({spec!r})", got=f"{got} (shapes {', '.join(str(tuple(x.shape)) for x in operands)})", needs=needs, fix=fix)

    if not isinstance(spec, str) or not all(hasattr(x, "ndim") for x in operands):
        raise error(TypeError, "einsum", got=", ".join(map(describe, (spec, *operands))), needs="a string, then arrays", fix="einsum('ij,jk->ik', a, b)")
    text, arrow, result = spec.replace(" ", "").partition("->")
    terms = text.split(",")
    if len(terms) != len(operands):
        raise fail(f"{len(terms)} terms for {len(operands)} operands", "a term for each operand")
    used = {c for c in text + result if c.isalpha()}
    if any(c not in ascii_letters for term in (*terms, result) for c in term.replace("...", "", 1)):
        raise fail("something else than letters", "letters, one '...' per term, ',' and '->'", "check for typing errors")
    extra = [x.ndim - len(t.replace("...", "")) for x, t in zip(operands, terms, strict=True)]
    for x, t, n in zip(operands, terms, extra, strict=True):
        if n < 0 or (n > 0 and "..." not in t):
            raise fail(f"the term {t!r} for {x.ndim} axes", "a letter for each axis, or '...'")
    spare = [c for c in ascii_letters if c not in used]
    ellipsis = "".join(spare[: max([n for n, t in zip(extra, terms, strict=True) if "..." in t], default=0)])
    terms = [t.replace("...", ellipsis[len(ellipsis) - n:]) for t, n in zip(terms, extra, strict=True)]
    once = "".join(sorted(c for c in used if "".join(terms).count(c) == 1))
    wanted = result.replace("...", ellipsis) if arrow else ellipsis + once
    if len({*wanted}) != len(wanted) or not {*wanted} <= {*"".join(terms)}:
        raise fail(f"the result {wanted!r}", "letters of the operands, each once")
    size: dict[str, int] = {}
    for x, t in zip(operands, terms, strict=True):
        for c, n in zip(t, x.shape, strict=True):
            if size.setdefault(c, n) != n:
                if c not in ellipsis or 1 not in (size[c], n):
                    raise fail(f"the sizes {size[c]} and {n} for {'an axis of ...' if c in ellipsis else repr(c)}", "one size for each letter")
                size[c] = n if size[c] == 1 else size[c]
    return terms, wanted, size


def _diagonals(a: Value, term: str, size: dict[str, int]) -> tuple[Any, str]:
    """`a` with each letter once; axes of size 1 that "..." broadcasts are dropped."""
    short = tuple(i for i, c in enumerate(term) if a.shape[i] != size[c])
    if short:
        a, term = squeeze(a, short), "".join(c for i, c in enumerate(term) if i not in short)
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            i = term.index(c)
            j = term.index(c, i + 1)
            a, term = diagonal(a, 0, i, j), term[:i] + term[i + 1:j] + term[j + 1:] + c
    return a, term


def _summed(a: Value, term: str, needed: set[str]) -> tuple[Any, str]:
    gone = tuple(i for i, c in enumerate(term) if c not in needed)
    return (sum_of(a, gone), "".join(c for c in term if c in needed)) if gone else (a, term)


__all__ = ["einsum"]
