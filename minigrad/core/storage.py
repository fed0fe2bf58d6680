"""Who wrote into which buffer, and when: the tape's clock is the version.

Every tape line carries the tick at which it was recorded. A library write (optimizer step, load, ``x[...] = v``) stamps
the buffer with a new tick. A line whose kept array was stamped *after* the line was recorded would differentiate at the
wrong place, so backward refuses and names the writer. A step without writes between forward and backward costs one
comparison per line.

Writes that bypass the library through ``x.data`` of a leaf (``x.data[0] = 5``) leave no stamp. Handing out a NumPy buffer
therefore marks it *exposed*, and from then on its checksum is compared whenever an op uses it and before a backward. That ends
as soon as nobody but its Tensor holds the buffer (see `ownership`): a look at the weights between two steps costs nothing
later. CuPy buffers are not watched this way: raw CuPy writes go undetected.
"""

from __future__ import annotations

import itertools
import weakref
import zlib
from typing import Any

from . import backend
from .backend import Array

_clock = itertools.count(1)
tick = _clock.__next__

last_write = 0  # tick of the latest write to any buffer
_writes: dict[int, tuple[int, str]] = {}  # id of the owning array -> (tick, writer)
_checksums: dict[int, int | None] = {}  # id of an exposed owner -> checksum at the last look; None: whatever is found then is a write
_alive: dict[int, Any] = {}  # id -> weak reference, which removes both entries when the buffer goes


def _watch(owner: Array) -> int:
    key = id(owner)
    if key not in _alive:
        def forget(_: Any, key: int = key) -> None:
            for table in (_writes, _checksums, _alive):
                table.pop(key, None)
        _alive[key] = weakref.ref(owner, forget)
    return key


def record_write(array: Array, writer: str) -> None:
    """Stamp the buffer behind `array`: `writer` has changed it now."""
    global last_write
    owner = backend.owner(array)
    key = _watch(owner)
    last_write = tick()
    _writes[key] = (last_write, writer)
    if _checksums.get(key) is not None:
        _checksums[key] = _checksum(owner)


def written_since(array: Array, index: int) -> str | None:
    """Name of the writer that changed `array` after tick `index`, or None."""
    stamp = _writes.get(id(backend.owner(array)))
    return stamp[1] if stamp is not None and stamp[0] > index else None


def expose(array: Array, idle: bool = False) -> None:
    """The caller is about to hand out a writable NumPy buffer. `idle`: only its Tensor holds it, and no tape line."""
    if backend.NAMESPACES.get(type(array)) is backend.np:
        owner = backend.owner(array)
        key = _watch(owner)
        if idle and owner is array:
            _checksums[key] = None  # no line can be harmed by what happens before the next look
        elif key in _checksums:
            _look(key, owner)
        else:
            _checksums[key] = _checksum(owner)


def look(array: Array, idle: bool = False) -> None:
    """Compare an exposed buffer with its last checksum; a difference is stamped as a raw write.

    `idle`: only its Tensor holds it. Then nobody can write any more, and it is no longer watched.
    """
    if _checksums:
        owner = backend.owner(array)
        key = id(owner)
        if key in _checksums:
            _look(key, owner, last=idle and owner is array)


def look_everywhere() -> None:
    """Look at every exposed buffer (before a backward)."""
    for key in _checksums.copy():  # another thread may free a buffer at any moment, and its entries go with it
        alive = _alive.get(key)
        owner = None if alive is None else alive()
        if owner is not None:
            _look(key, owner)


def _look(key: int, owner: Array, last: bool = False) -> None:
    global last_write
    before = _checksums.get(key)
    now = None if before is None and last else _checksum(owner)
    if before is None or now != before:
        last_write = tick()
        _writes[key] = (last_write, "a raw write through .data")
    if last:
        _checksums.pop(key, None)
    else:
        _checksums[key] = now


def _checksum(owner: Array) -> int:
    flat = owner if owner.flags.c_contiguous else owner.T if owner.flags.f_contiguous else backend.np.ascontiguousarray(owner)
    return zlib.crc32(flat.view(backend.np.uint8).data if flat.ndim else flat.tobytes()) if flat.size else 0
