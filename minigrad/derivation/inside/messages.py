"""Messages between a judge and a worker: a line of JSON, and the raw bytes of the arrays in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

MOST_ANSWER = 128 << 20  # bytes of one order's answer
MOST_HEAD = 1 << 20      # bytes of a message without its arrays, from a worker

Send = Callable[[dict[str, Any], bytes], None]


def packed(arrays: Sequence[Any]) -> tuple[list[dict[str, Any]], bytes]:
    """What arrays look like, and their bytes one after another."""
    arrays = [np.asarray(a) for a in arrays]
    return [{"dtype": a.dtype.str, "shape": list(a.shape)} for a in arrays], b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)


def unpacked(heads: Sequence[Mapping[str, Any]], body: bytes) -> list[Any]:
    """The arrays of a message, writable.

    Raises:
        ValueError, TypeError, KeyError: the message does not fit its bytes.
    """
    found, start = [], 0
    for head in heads:
        dtype, shape = np.dtype(head["dtype"]), tuple(head["shape"])
        count = int(np.prod(shape, dtype="int64"))
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError("no array of numbers")
        found.append(np.frombuffer(body, dtype, count, start).reshape(shape).copy())
        start += count * dtype.itemsize
    return found


def written(fd: int, head: Mapping[str, Any], body: bytes = b"") -> None:
    """Write a message."""
    data = json.dumps({**head, "bytes": len(body)}).encode() + b"\n" + body
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


class Reader:
    """Messages from a descriptor. What is not a message is left out.

    Args:
        fd: the descriptor.
        bounded: whether the other side is a student's: a message of more than `MOST_ANSWER` is the end of all.
    """

    def __init__(self, fd: int, bounded: bool = False) -> None:
        self.fd, self.data, self.bounded = fd, bytearray(), bounded

    def parsed(self) -> tuple[dict[str, Any], bytes] | None:
        """The next message, if all of it is there."""
        while (end := self.data.find(b"\n")) >= 0:
            try:
                if self.bounded and end > MOST_HEAD:
                    raise ValueError
                head = json.loads(bytes(self.data[:end]))
                size = int(head.get("bytes", 0))
                if not isinstance(head, dict) or size < 0:
                    raise ValueError
            except (ValueError, TypeError, AttributeError, RecursionError):
                del self.data[:end + 1]
                continue
            if len(self.data) < end + 1 + size:
                return None
            body = bytes(self.data[end + 1:end + 1 + size])
            del self.data[:end + 1 + size]
            return head, body
        return None

    def read(self) -> tuple[dict[str, Any], bytes] | None:
        """The next message; None at the end."""
        while (found := self.parsed()) is None:
            if self.bounded and len(self.data) > MOST_ANSWER:
                return None
            part = os.read(self.fd, 1 << 20)
            if not part:
                return None
            self.data += part
        return found
