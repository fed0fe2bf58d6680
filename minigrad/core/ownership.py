"""Who else holds an array: the one place where CPython's reference counts mean something.

Three decisions rest on the answer: an op may overwrite its input's buffer (`donation`), a gradient becomes a ``.grad`` without a
copy (`engine`), and a buffer that was handed out is no longer watched for writes (`storage`). All ask in the same way: the
array lies in a list that the asker made, and the question is how many holders there are besides that list.

What a count says differs between interpreters: some borrow what a function call passes, and count one less. So nothing here
rests on a number from a manual. The count of an array that only the list holds is measured when this module is imported, in the
same way as later. If one more holder does not count as exactly one more, counts mean nothing here, and everything is copied.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

UNKNOWN = 1 << 30  # more holders than anything has: nobody takes over what may belong to others

_references: Callable[[Any], int] | None = getattr(sys, "getrefcount", None)


def _count(box: list[Any]) -> int:
    return _references(box[0]) if _references is not None else 0


def _calibrated() -> int | None:
    """The count of what one list holds and nobody else; None where counts cannot be trusted."""
    counts = []
    for more in range(3):
        box = [bytearray(8)]
        others = [box[0] for _ in range(more)]
        counts.append(_count(box))
        others.clear()
    one = counts[0]
    return one if counts == [one, one + 1, one + 2] else None


_one = _calibrated()


def others(box: list[Any]) -> int:
    """How many hold the object in the one-element list `box`, besides that list.

    Make the list in the call, or empty the variable that the object came from: a variable is a holder too.

    >>> held = bytearray(8)
    >>> others([held]), others([bytearray(8)])
    (1, 0)
    """
    return UNKNOWN if _one is None else _count(box) - _one
