"""The operators ``& | ^ ~``: bit by bit on integers, which on booleans is "and", "or", "either or", "not". Constants for the derivative."""

from __future__ import annotations

from typing import Any

from ..core.backend import Array, Namespace
from ..core.errors import describe, error
from ..core.plan import Primitive
from ..core.primitive import primitive
from .broadcasting import align

_INSTEAD = {"bitwise_and": "logical_and(a, b)", "bitwise_or": "logical_or(a, b)", "bitwise_xor": "not_equal(a != 0, b != 0)", "invert": "logical_not(a)"}


def _align_bits(p: Primitive, given: list[Any]) -> list[Any]:
    """As `align`, but floats have no bits that an op could use."""
    for a in given:
        if isinstance(a, float) or getattr(getattr(a, "dtype", None), "kind", "") == "f":
            raise error(TypeError, p.name, got=describe(a), needs="integers (bit by bit) or booleans",
                        fix=f"minigrad.{_INSTEAD[p.name]} asks what is not 0; for bits: astype('int64') first")
    return align(p, given)


@primitive(_align_bits)
def _bitwise_and(xp: Namespace, a: Array, b: Array) -> Array:
    return xp.bitwise_and(a, b)


@primitive(_align_bits)
def _bitwise_or(xp: Namespace, a: Array, b: Array) -> Array:
    return xp.bitwise_or(a, b)


@primitive(_align_bits)
def _bitwise_xor(xp: Namespace, a: Array, b: Array) -> Array:
    return xp.bitwise_xor(a, b)


@primitive(_align_bits)
def _invert(xp: Namespace, a: Array) -> Array:
    return xp.invert(a)
