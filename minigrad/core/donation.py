"""Buffer donation: an op may write its output into the buffer of an input that nobody needs any more.

Batch norm's input, say, is the result of a convolution, which keeps its own *input* for the backward. Once normalized,
nobody will look at it again, and a new array for the output is one array too many. An op made with
``@by_hand(overwrites="x")`` may take such a buffer. "Nobody" is not a guess. CPython counts who holds an array
(`ownership`), so the op writes in place only if x is the result of a taped op, owns its memory, and its array has a single holder: the
Tensor x.
A tape line that keeps the array is a second holder, and so is a view (through its ``.base``), a `record`, a Tensor made by
``detach``, and anybody who asked for ``x.data`` and still has it. Otherwise the op writes into a new array, with the same
values. (Not seen on CuPy: what `as_strided` makes, which does not hold the array there.)

What cannot be known is whether the *Tensor* will be used again. So it is marked: the donor becomes a `Taken`, every use
of whose values raises and names the op. Ordinary Tensors pay nothing for that check, because the class is the mark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import ownership, storage
from .backend import Array, Namespace
from .errors import TapeError, error
from .tensor import Tensor, state


class Taken(Tensor):
    """A Tensor without values: an op has overwritten its buffer. Its line, gradient, shape and dtype remain."""

    __slots__ = ()
    _line: Any

    @property
    def _data(self) -> Array:
        op = self._by[0]
        raise error(TapeError, op, got=f"a later use of its input (the result of {self._line.op}, shape {self.shape}), whose buffer it overwrote",
                    needs="an input that is not used again: that is how it works in place",
                    fix=f"use it before, or give {op} a view, which it leaves alone: minigrad.identity(x)")

    _by = property(lambda self: self._line.noted("taken by"))  # the op, and the backend's name
    shape = property(lambda self: self._line.shape)
    dtype = property(lambda self: self._line.dtype)
    backend = property(lambda self: self._by[1])

    def __repr__(self) -> str:
        return f"tensor(overwritten by {self._by[0]}, shape={self.shape}, dtype={self.dtype}, op={self._line.op})"


def _take(donor: Any, op: str) -> Array:
    array = donor._data
    donor._line.note("taken by", (op, donor.backend))
    donor._data = None
    donor.__class__ = Taken
    return array


_TENSOR_AND_CALL = 2  # holders of an input that nobody else needs: the Tensor, and the list of arrays of the op that is being called


def _free(donor: Any) -> bool:
    if not isinstance(donor, Tensor) or donor.is_leaf or not state.recording:
        return False
    if id(donor._data) in storage._checksums or ownership.others([donor._data]) != _TENSOR_AND_CALL:  # watched for writes, or shared
        return False
    flags = donor._data.flags
    return bool(flags.owndata and flags.c_contiguous and getattr(flags, "writeable", True))


def offer(xp: Namespace, donor: Any, op: str) -> Callable[[], Array]:
    """The function `into` that a forward calls for the array to write its output into.

    It returns the array of the input `donor` itself, where that is free (from then on the Tensor is `Taken`), or a new one
    of the same shape and dtype. Call it after all checks: an op that refuses its inputs should leave them intact.
    """
    return (lambda: _take(donor, op)) if _free(donor) else lambda: xp.empty(donor.shape, dtype=donor.dtype)
